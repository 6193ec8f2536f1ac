//! Policies over real sockets: a name server and a policy host on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use crate::dns;
use crate::dns::zone::{Zone, ZoneServer};

const HOST: &str = "mta-sts.x.example";

fn policy(mode: &str, max_age: u64) -> String {
    format!("version: STSv1\nmode: {mode}\nmx: *.mx.example\nmax_age: {max_age}\n")
}

fn served(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A policy host that gives one answer to everybody; an empty one is silence.
struct PolicyHost {
    address: SocketAddr,
    certificate: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    heard: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl PolicyHost {
    async fn start(name: &str, answer: &str) -> Self {
        let own = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let server = crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer.to_owned())), Arc::new(AtomicUsize::new(0)));
        let heard = Arc::new(Mutex::new(String::new()));
        let (answers, count, hearing) = (answer.clone(), asked.clone(), heard.clone());
        let task = tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(server));
            let mut silent = Vec::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                *hearing.lock() = String::from_utf8(request).unwrap();
                let answer = answers.lock().clone();
                if answer.is_empty() {
                    silent.push(stream);
                    continue;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, certificate, answer, asked, heard, task }
    }

    fn answers(&self, answer: &str) {
        *self.answer.lock() = answer.to_owned();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct World {
    names: ZoneServer,
    host: PolicyHost,
    sts: Arc<MtaSts>,
    options: Options,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

fn zone(id: &str) -> Zone {
    let zone = Zone::new().a(HOST, [127, 0, 0, 1]);
    if id.is_empty() { zone } else { zone.txt("_mta-sts.x.example", &format!("v=STSv1; id={id};")) }
}

async fn world(id: &str, host: PolicyHost) -> World {
    let names = ZoneServer::start(zone(id)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let own = MtaStsOptions {
        port: host.address.port(),
        authorities: Authorities::Pem(host.certificate.clone().into_bytes().into()),
        policy_bytes_max: 1024,
        file: Some(dir.path().join("mta-sts.json")),
        ..MtaStsOptions::default()
    };
    let allow_private = vec!["127.0.0.0/8".parse().unwrap()];
    let options = Options { mta_sts: Some(own), allow_private, ..Options::default() };
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000_000)));
    let metrics = Arc::new(Metrics::new());
    let sts = started(&options, &names, &clock, &metrics);
    World { names, host, sts, options, clock, metrics, dir }
}

/// As after a start: only the file is known.
fn started(options: &Options, names: &ZoneServer, clock: &Arc<ManualClock>, metrics: &Arc<Metrics>) -> Arc<MtaSts> {
    let nameservers = vec![names.address()];
    // Nothing is kept, so that a test may change its zone.
    let lookups = dns::Options { nameservers, cache_answers: 0, attempts: 1, ..dns::Options::default() };
    let resolver = Resolver::new(&lookups, SystemClock::shared()).unwrap();
    Arc::new(MtaSts::new(options, resolver, clock.clone(), metrics.clone()))
}

impl World {
    /// The name of what holds for mail to x.example.
    async fn holds(&self) -> &'static str {
        let domain = Domain::parse("X.example").unwrap();
        self.sts.published(&self.options, &domain).await.map_or("nothing", |published| published.name)
    }

    fn fetches(&self, result: &str) -> u64 {
        self.metrics.mta_sts_fetches.with_label_values(&[result]).get()
    }

    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_followed() {
    for (mode, name) in [("enforce", "mta-sts enforce"), ("testing", "mta-sts testing"), ("none", "mta-sts none")] {
        let world = world("1", PolicyHost::start(HOST, &served(&policy(mode, 86_400))).await).await;
        // Also where many ask at the same time.
        let (a, b, c) = tokio::join!(world.holds(), world.holds(), world.holds());
        assert_eq!([a, b, c, world.holds().await], [name; 4]);
        assert_eq!((world.host.asked(), world.fetches("ok")), (1, 1));
        assert!(world.sts.flights.lock().is_empty());
        let heard = world.host.heard.lock().clone();
        let port = world.host.address.port();
        assert!(heard.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{heard}");
        assert!(heard.to_lowercase().contains(&format!("\r\nhost: {HOST}:{port}\r\n")), "{heard}");
    }
}

#[tokio::test]
async fn enforcing_names_the_hosts_and_testing_does_not() {
    let of = async |mode: &str| {
        let world = world("1", PolicyHost::start(HOST, &served(&policy(mode, 86_400))).await).await;
        world.sts.published(&world.options, &Domain::parse("x.example").unwrap()).await.unwrap()
    };
    let enforce = of("enforce").await;
    assert_eq!((enforce.level, enforce.hosts[0].as_str()), (TlsLevel::Verified, "*.mx.example"));
    let testing = of("testing").await;
    assert_eq!((testing.level, testing.hosts.len()), (TlsLevel::Opportunistic, 0));
}

#[tokio::test]
async fn what_a_policy_host_does_wrong_is_no_policy() {
    let good = policy("enforce", 86_400);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{good}\r\n0\r\n\r\n",
        good.len()
    );
    let to_the_end = format!("HTTP/1.1 200 OK\r\nContent-Type: TEXT/plain\r\nConnection: close\r\n\r\n{good}");
    let cases = [
        ("chunked", chunked, "ok"),
        ("until it closes", to_the_end, "ok"),
        ("not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), "http"),
        ("elsewhere", format!("HTTP/1.1 301 Moved\r\nLocation: https://{HOST}/x\r\nContent-Length: 0\r\n\r\n"), "http"),
        ("a page", served(&good).replace("text/plain", "text/html"), "http"),
        ("of no type", served(&good).replace("Content-Type: text/plain; charset=utf-8\r\n", ""), "http"),
        ("no policy", served("hello\n"), "policy"),
        ("too long", served(&format!("{good}x: {}\n", "x".repeat(1024))), "policy"),
        ("cut", served(&good).replace("mode", "mo").replacen("Content-Length: ", "Content-Length: 9", 1), "http"),
        ("no HTTP", "220 mail ready\r\n".to_owned(), "http"),
        ("long fields", format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000)), "http"),
        ("nothing", String::new(), "timeout"),
    ];
    for (case, answer, result) in cases {
        let mut world = world("1", PolicyHost::start(HOST, &answer).await).await;
        if result == "timeout" {
            world.options.mta_sts.as_mut().unwrap().timeout = Duration::from_millis(300);
        }
        let expected = if result == "ok" { "mta-sts enforce" } else { "nothing" };
        assert_eq!(world.holds().await, expected, "{case}");
        // And for a while it is not asked again, whatever it announces.
        world.names.serve(if result == "ok" { zone("1") } else { zone("3") });
        assert_eq!(world.holds().await, expected, "{case}");
        assert_eq!((world.host.asked(), world.fetches(result)), (1, 1), "{case}");
        if result != "ok" {
            world.host.answers(&served(&good));
            world.pass(FAILURE_KEPT).await;
            world.options.mta_sts.as_mut().unwrap().timeout = Duration::from_secs(20);
            // Another id does not help, nor does anybody wait a second time for a host that has failed.
            world.names.serve(zone("2"));
            assert_eq!(world.holds().await, "nothing", "{case}");
            while world.fetches("ok") == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(world.holds().await, "mta-sts enforce", "{case}");
        }
    }
}

#[tokio::test]
async fn a_policy_host_that_proves_nothing_is_not_believed() {
    let good = served(&policy("enforce", 86_400));
    let other_name = world("1", PolicyHost::start("mta-sts.other.example", &good).await).await;
    assert_eq!((other_name.holds().await, other_name.fetches("tls")), ("nothing", 1));

    let mut other_authority = world("1", PolicyHost::start(HOST, &good).await).await;
    let stranger = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap().cert.pem();
    other_authority.options.mta_sts.as_mut().unwrap().authorities = Authorities::Pem(stranger.into_bytes().into());
    assert_eq!((other_authority.holds().await, other_authority.fetches("tls")), ("nothing", 1));

    let mut private = world("1", PolicyHost::start(HOST, &good).await).await;
    private.options.allow_private.clear();
    assert_eq!((private.holds().await, private.fetches("connect"), private.host.asked()), ("nothing", 1, 0));

    let unannounced = world("", PolicyHost::start(HOST, &good).await).await;
    assert_eq!((unannounced.holds().await, unannounced.host.asked()), ("nothing", 0));

    let mut off = world("1", PolicyHost::start(HOST, &good).await).await;
    off.options.mta_sts = None;
    assert_eq!((off.holds().await, off.host.asked(), off.names.questions()), ("nothing", 0, 0));
}

#[tokio::test]
async fn what_is_known_holds_through_failures_until_its_time_is_over() {
    let world = world("1", PolicyHost::start(HOST, &served(&policy("enforce", 86_400))).await).await;
    assert_eq!(world.holds().await, "mta-sts enforce");
    // The record goes, then DNS fails, then there is a new id whose policy cannot be had.
    world.host.answers("HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n");
    for zone in [zone(""), zone("").servfail("_mta-sts.x.example"), zone("2")] {
        world.names.serve(zone);
        assert_eq!(world.holds().await, "mta-sts enforce");
    }
    assert_eq!((world.host.asked(), world.fetches("http")), (2, 1));
    world.pass(Duration::from_secs(86_400)).await;
    assert_eq!(world.holds().await, "nothing");
}

#[tokio::test]
async fn a_new_id_brings_the_new_policy_with_the_next_mail() {
    let world = world("1", PolicyHost::start(HOST, &served(&policy("enforce", 86_400))).await).await;
    assert_eq!(world.holds().await, "mta-sts enforce");
    world.host.answers(&served(&policy("none", 86_400)));
    assert_eq!(world.holds().await, "mta-sts enforce");
    world.names.serve(zone("2"));
    assert_eq!(world.holds().await, "mta-sts none");
    assert_eq!(world.host.asked(), 2);
}

#[tokio::test]
async fn an_old_policy_is_fetched_again_before_it_ends() {
    let world = world("1", PolicyHost::start(HOST, &served(&policy("enforce", 600_000))).await).await;
    assert_eq!(world.holds().await, "mta-sts enforce");
    world.sts.refresh(&world.options).await;
    assert_eq!(world.host.asked(), 1, "it is young");
    world.pass(Duration::from_secs(24 * 3600)).await;
    world.sts.refresh(&world.options).await;
    assert_eq!(world.host.asked(), 2);
    // By a mail as well, which does not wait for it.
    world.host.answers(&served(&policy("testing", 600_000)));
    world.pass(Duration::from_secs(24 * 3600)).await;
    assert_eq!(world.holds().await, "mta-sts enforce");
    while world.fetches("ok") < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.holds().await, "mta-sts testing");
    // Failures leave it as it is.
    world.host.answers("HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n");
    world.pass(Duration::from_secs(24 * 3600)).await;
    world.sts.refresh(&world.options).await;
    assert_eq!((world.fetches("http"), world.holds().await), (1, "mta-sts testing"));
}

#[tokio::test]
async fn a_policy_survives_a_restart() {
    let mut world = world("1", PolicyHost::start(HOST, &served(&policy("enforce", 86_400))).await).await;
    assert_eq!(world.holds().await, "mta-sts enforce");
    let file = world.dir.path().join("mta-sts.json");
    while !file.exists() {
        tokio::task::yield_now().await;
    }
    world.names.serve(zone(""));
    world.sts = started(&world.options, &world.names, &world.clock, &world.metrics);
    assert_eq!(world.holds().await, "mta-sts enforce");
    assert_eq!(world.host.asked(), 1);
    assert_eq!(world.clock.now(), Timestamp::from_seconds(1_000_000));
}
