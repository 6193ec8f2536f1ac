//! Over real sockets: a provider that lets in fewer connections than a start is made with. The relay finds that out, sends
//! over fewer, loses nothing, and says by which row.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::relay::{Relay, SENDER_DOMAIN, Settings, id_in};
use crate::support::smtp::Client;
use crate::support::{PATIENCE, SOON, account, eventually};

/// Connections that the provider lets in from one address …
const LETS_IN: usize = 3;
/// … but from this one.
const WIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// How long it takes over a mail.
const TAKES: Duration = Duration::from_millis(60);
const MAILS: usize = 400;

const TABLE: &str = r#"
[[provider]]
name = "any"
connections = 10

[[provider]]
name = "narrow"
mx = ["narrow.example"]
connections = 8
messages_per_connection = 25
messages = "500/s"
new_connections = "600/m"

[[reply]]
id = "narrow-connections"
provider = "narrow"
codes = [421]
text = ["too many connections"]
class = "limit"
blames = "source"
action = "retry"
connections = 1
for = "1h"
"#;

/// What the provider has seen.
#[derive(Default)]
struct Seen {
    /// Connections from each address: now, and at most at a time.
    open: Mutex<BTreeMap<IpAddr, (usize, usize)>>,
    refused: AtomicUsize,
    /// How often each recipient's mail was taken.
    arrived: Mutex<BTreeMap<String, usize>>,
    /// Mails over each connection that has ended.
    carried: Mutex<Vec<usize>>,
}

/// Starts the provider; its port, and what it sees.
fn provider() -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<Seen>::default();
    let here = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = here.clone();
            thread::spawn(move || {
                let Ok(from) = stream.peer_addr().map(|from| from.ip()) else { return };
                let before = {
                    let mut open = seen.open.lock().unwrap();
                    let (now, most) = open.entry(from).or_default();
                    (*now, *most) = (*now + 1, (*now + 1).max(*most));
                    *now - 1
                };
                // Whoever hangs up in the middle has ended too.
                let _ = if before < LETS_IN || from == WIDE { serve(&stream, &seen) } else { refuse(&stream, &seen) };
                seen.open.lock().unwrap().get_mut(&from).unwrap().0 -= 1;
            });
        }
    });
    (port, seen)
}

fn refuse(mut stream: &TcpStream, seen: &Seen) -> std::io::Result<()> {
    seen.refused.fetch_add(1, Ordering::SeqCst);
    stream.write_all(b"421 4.7.0 too many connections from your address\r\n")
}

fn serve(mut stream: &TcpStream, seen: &Seen) -> std::io::Result<()> {
    stream.write_all(b"220 narrow\r\n")?;
    let (mut to, mut carried) = (Vec::new(), 0);
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        let answer = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                to.push(address.to_owned());
                "250 2.1.5 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                thread::park_timeout(TAKES);
                carried += 1;
                let mut arrived = seen.arrived.lock().unwrap();
                to.drain(..).for_each(|address| *arrived.entry(address).or_default() += 1);
                "250 2.0.0 taken"
            }
            "QUIT" => break,
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    seen.carried.lock().unwrap().push(carried);
    stream.write_all(b"221 bye\r\n")
}

/// A relay whose mail for two domains goes to that provider: hosts of other names, one site.
fn relay_to(port: u16, extra: &str) -> Relay {
    let settings = Settings { smtp_port: port, extra: extra.to_owned(), ..Settings::default() };
    let mut relay = Relay::prepare(&settings);
    std::fs::write(relay.dir().join("providers.toml"), TABLE).unwrap();
    let configuration = std::fs::read_to_string(relay.config()).unwrap();
    let with_table = configuration.replacen("[delivery]\n", "[delivery]\nproviders = \"providers.toml\"\n", 1);
    std::fs::write(relay.config(), with_table).unwrap();
    relay.dns.mx("one.example", 10, "mx1.narrow.example").a("mx1.narrow.example", Ipv4Addr::LOCALHOST);
    relay.dns.mx("two.example", 10, "mx2.narrow.example").a("mx2.narrow.example", Ipv4Addr::LOCALHOST);
    relay.launch();
    relay
}

/// Submits all mails; the id of the last.
fn submit_all(relay: &Relay) -> String {
    let from = format!("hello@{SENDER_DOMAIN}");
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    let mut last = String::new();
    for n in 0..MAILS {
        let domain = if n % 20 == 0 { "two.example" } else { "one.example" };
        let mail = format!("From: <{from}>\r\nSubject: {n}\r\n\r\nHello\r\n");
        let reply = client.mail(&from, &[&format!("n{n}@{domain}")], mail.as_bytes()).unwrap();
        last = id_in(&reply);
    }
    last
}

fn all_have_arrived_once(seen: &Seen) {
    eventually("all have arrived", PATIENCE, || (seen.arrived.lock().unwrap().len() == MAILS).then_some(()));
    let arrived = seen.arrived.lock().unwrap();
    assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
}

#[test]
fn a_provider_that_lets_in_fewer_is_sent_less_and_gets_everything() {
    let (port, seen) = provider();
    let relay = relay_to(port, "");
    let last = submit_all(&relay);
    let names_the_row = |text: &serde_json::Value| {
        text.as_str().is_some_and(|text| text.contains("narrow-connections (limit)") && text.contains("narrow"))
    };
    let waiting = relay.explained(&last, SOON, |m| names_the_row(&m["recipients"][0]["limit"]));
    let recipient = &waiting["recipients"][0];
    assert_eq!(recipient["site"], "provider narrow", "{waiting}");
    account(&format!("explain: {}", recipient["limit"].as_str().unwrap()));
    let queue = relay.command(&["queue", "--json"]);
    let queue: serde_json::Value = serde_json::from_slice(&queue.stdout).unwrap();
    let lanes = queue["lanes"].as_array().unwrap();
    assert!(lanes.iter().all(|l| l["site"] == "provider narrow") && !lanes.is_empty(), "{queue}");

    all_have_arrived_once(&seen);
    let refused = seen.refused.load(Ordering::SeqCst);
    let carried = seen.carried.lock().unwrap().iter().copied().max().unwrap_or_default();
    account(&format!("{refused} connections were refused; at most {carried} mails over one"));
    assert!(refused > 0 && refused < MAILS / 4, "{refused}");
    assert!(carried <= 25, "{carried}");
    let eased = relay.metric(r#"postrider_pace_steps_total{provider="narrow",step="eased"}"#);
    assert!(eased.is_some_and(|steps| steps > 0), "{eased:?}");
    let limit = relay.metric(r#"postrider_provider_connections_limit{provider="narrow"}"#);
    assert!(limit.is_some_and(|limit| limit < 8), "{limit:?}");
}

#[test]
fn each_source_has_a_pace_of_its_own() {
    let (port, seen) = provider();
    let source = |name: &str, address: &str| {
        format!("\n[[source]]\nname = \"{name}\"\naddresses = [\"{address}\"]\nhostname = \"{name}.example\"\n")
    };
    let pool = "\n[[pool]]\nname = \"all\"\nsources = [\"narrow\", \"wide\"]\n";
    let extra = format!("{}{}{pool}", source("narrow", "127.0.0.2"), source("wide", &WIDE.to_string()));
    let relay = relay_to(port, &extra);
    let last = submit_all(&relay);
    let of_both = |limit: &serde_json::Value| {
        let limit = limit.as_str().unwrap_or_default();
        let (_, of_narrow) = limit.split_once("from narrow ")?;
        let of_narrow = of_narrow.split("; from wide ").next()?;
        (limit.contains("from 2 sources") && of_narrow.contains("narrow-connections")).then(|| limit.to_owned())
    };
    let waiting = relay.explained(&last, SOON, |m| of_both(&m["recipients"][0]["limit"]).is_some());
    account(&format!("explain: {}", of_both(&waiting["recipients"][0]["limit"]).unwrap()));
    all_have_arrived_once(&seen);
    let most = |address: Ipv4Addr| seen.open.lock().unwrap().get(&IpAddr::from(address)).map_or(0, |(_, most)| *most);
    let (narrow, wide) = (most(Ipv4Addr::new(127, 0, 0, 2)), most(WIDE));
    let refused = seen.refused.load(Ordering::SeqCst);
    account(&format!("at most {narrow} connections from one, {wide} from the other; {refused} were refused"));
    // The site takes more than one source may have, and the one that is let in goes on alone.
    assert!(wide > LETS_IN && refused > 0 && refused < MAILS / 4, "{narrow} {wide} {refused}");
}
