//! The relay under test: the real binary, its configuration in a directory of its own, ports of its own.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::dns::Dns;
use super::http::{self, Answer};
use super::keys::{self, DkimKey};
use super::smtp::Client;
use super::{PATIENCE, SOON, eventually};

/// The client that all tests submit as.
pub const USER: &str = "shop";
pub const PASSWORD: &str = "correct horse";
pub const API_KEY: &str = "test-key-1";
/// The domain it may send as.
pub const SENDER_DOMAIN: &str = "shop.example.com";
/// The domain whose mail goes to the sink, by MX in the test's zone.
pub const SINK_DOMAIN: &str = "sink.example.net";

/// Where the relay listens.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Listeners {
    /// In the order of the configuration: STARTTLS with AUTH, implicit TLS with AUTH, plain for trusted peers.
    pub smtp: Vec<String>,
    pub http: String,
    pub smpp: Vec<String>,
    pub cmpp: Vec<String>,
    pub admin: String,
    /// Where gateways of SGIP come to.
    pub sgip: Vec<String>,
    /// Where carriers come to by HTTP.
    pub callbacks: Vec<String>,
}

/// The id in a positive reply to the end of a mail's data.
pub fn id_in(reply: &str) -> String {
    assert!(reply.starts_with("250"), "{reply}");
    let id = reply.split(' ').find(|w| w.parse::<postrider::model::MessageId>().is_ok());
    id.expect("an id in the reply").to_owned()
}

/// What a test wants the relay to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `retry` of every class.
    pub retry: &'static str,
    /// `expire` of every class.
    pub expire: &'static str,
    /// Where mail exchangers listen.
    pub smtp_port: u16,
    /// The SMPP carrier's port, if the test has one.
    pub carrier_port: Option<u16>,
    /// More of `[queue.otp]`.
    pub otp: &'static str,
    /// Where the queue lies, if not beside the configuration.
    pub data_dir: Option<PathBuf>,
    /// More configuration, at the end.
    pub extra: String,
}

impl Default for Settings {
    fn default() -> Self {
        let (smtp_port, carrier_port, data_dir) = (1, None, None);
        Self { retry: r#"["200ms"]"#, expire: "1h", otp: "", smtp_port, carrier_port, data_dir, extra: String::new() }
    }
}

/// The relay; killed when dropped.
#[derive(Debug)]
pub struct Relay {
    dir: tempfile::TempDir,
    process: Option<Child>,
    /// Where the queue lies.
    pub data_dir: PathBuf,
    /// Where it listens since the last start.
    pub listeners: Listeners,
    /// The zone it looks names up in.
    pub dns: Dns,
    /// TXT records of its DKIM keys, by owner name.
    pub dkim_zone: Value,
}

impl Relay {
    /// Writes the configuration and starts it.
    pub fn start(settings: &Settings) -> Self {
        let mut relay = Self::prepare(settings);
        relay.launch();
        relay
    }

    /// Writes the configuration only.
    pub fn prepare(settings: &Settings) -> Self {
        let dir = tempfile::Builder::new().prefix("postrider-e2e-").tempdir().unwrap();
        let dns = Dns::start();
        dns.mx(SINK_DOMAIN, 10, "mx.sink.example.net").a("mx.sink.example.net", Ipv4Addr::LOCALHOST);
        let (rsa, ed25519) = (DkimKey::rsa(), DkimKey::ed25519());
        let (certificate, private_key) = keys::certificate("relay.test.example");
        for (name, content) in [
            ("relay.crt", &certificate),
            ("relay.key", &private_key),
            ("rsa.pem", &rsa.private_pem),
            ("ed25519.pem", &ed25519.private_pem),
        ] {
            write_private(&dir.path().join(name), content);
        }
        let dkim_zone = json!({
            format!("rsa1._domainkey.{SENDER_DOMAIN}"): rsa.record,
            format!("ed1._domainkey.{SENDER_DOMAIN}"): ed25519.record,
        });
        write_private(&dir.path().join("postrider.toml"), &configuration(settings, &dns));
        let data_dir = settings.data_dir.clone().unwrap_or_else(|| dir.path().join("data"));
        Self { dir, process: None, data_dir, listeners: Listeners::default(), dns, dkim_zone }
    }

    /// The directory that holds everything.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir().join("postrider.toml")
    }

    /// Starts the process and waits until it is ready.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// The same with more arguments to `serve`.
    pub fn launch_with(&mut self, arguments: &[&str]) {
        let binary = Command::new(env!("CARGO_BIN_EXE_postrider"));
        if let Err(status) = self.launch_as(binary, arguments) {
            panic!("the relay ended with {status}:\n{}", self.log());
        }
    }

    /// The same by another command that takes the binary's arguments; its status if it ends before it is ready.
    pub fn launch_as(&mut self, command: Command, arguments: &[&str]) -> Result<(), ExitStatus> {
        let announced = self.data_dir.join("listeners.json");
        // A killed relay leaves this behind; only the new one's word counts.
        let _ = std::fs::remove_file(&announced);
        self.process = Some(self.serve_as(command, arguments));
        let listeners = eventually("the relay is ready", PATIENCE, || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                return Some(Err(status));
            }
            serde_json::from_slice(&std::fs::read(&announced).ok()?).ok().map(Ok)
        });
        self.listeners = listeners.inspect_err(|_| self.process = None)?;
        Ok(())
    }

    /// Starts `postrider serve` on this configuration.
    pub fn serve(&self) -> Child {
        self.serve_as(Command::new(env!("CARGO_BIN_EXE_postrider")), &[])
    }

    fn serve_as(&self, mut command: Command, arguments: &[&str]) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        command
            .args(["serve", "--config"])
            .arg(self.config())
            .args(arguments)
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// SIGKILL: as if the power went, for the process.
    pub fn kill_9(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The process that was started last.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut().unwrap().try_wait().unwrap()?;
        self.process = None;
        Some(status)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.process.as_ref().unwrap()), signal).unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut process = self.process.take().unwrap();
        eventually("the relay stops", within, || process.try_wait().unwrap())
    }

    /// Submits content, from `hello@` the sender's domain, as a trusted peer; the id in the reply.
    pub fn submit(&self, to: &[&str], content: &str) -> String {
        let mut client = Client::greeted(&self.listeners.smtp[2]).unwrap();
        let reply = client.mail(&format!("hello@{SENDER_DOMAIN}"), to, content.as_bytes()).unwrap();
        id_in(&reply)
    }

    /// Submits a short mail with that subject; its id.
    pub fn submit_hello(&self, subject: &str, to: &[&str]) -> String {
        self.submit(to, &format!("From: <hello@{SENDER_DOMAIN}>\r\nSubject: {subject}\r\n\r\nHello\r\n"))
    }

    /// The events of a kind so far.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.data_dir.join("events/events.jsonl")).unwrap_or_default();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|event| event["event"] == kind).collect()
    }

    /// Waits for an event of a kind that is as wanted.
    pub fn event(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the event {kind}"), SOON, || self.events(kind).into_iter().find(&wanted))
    }

    /// The value of a metric, if there is one of that name and labels.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let answer = http::request(&self.listeners.admin, "GET", "/metrics", &[], b"");
        let text = String::from_utf8(answer.body).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Runs another command of the binary on this configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postrider"))
            .args(&arguments[..1])
            .arg("--config")
            .arg(self.config())
            .args(&arguments[1..])
            .output()
            .unwrap()
    }

    /// `postrider explain --json`: the messages that match.
    pub fn explain(&self, id_or_address: &str) -> Vec<Value> {
        let output = self.command(&["explain", "--json", id_or_address]);
        let text = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str(&text) {
            Ok(Value::Array(messages)) => messages,
            Ok(message @ Value::Object(_)) => vec![message],
            _ => Vec::new(),
        }
    }

    /// Waits until `explain` says what is wanted of the first match.
    pub fn explained(&self, id: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = format!("explain {id} as wanted");
        eventually(&deadline, within, || {
            last = self.explain(id).into_iter().next().unwrap_or_default();
            wanted(&last).then(|| last.clone())
        })
    }

    /// An API call as the client.
    pub fn api(&self, method: &str, path: &str, fields: &[&str], body: &str) -> Answer {
        let key = format!("Authorization: Bearer {API_KEY}");
        let mut all = vec![key.as_str(), "Content-Type: application/json"];
        all.extend(fields);
        http::request(&self.listeners.http, method, path, &all, body.as_bytes())
    }

    /// Has the client send this text, and says under which id it was taken.
    pub fn post_text(&self, to: &str, text: &str) -> String {
        self.post_sms(&json!({"to": to, "text": text}))
    }

    /// Has the client send what these fields say, and says under which id it was taken.
    pub fn post_sms(&self, message: &Value) -> String {
        let answer = self.api("POST", "/v1/sms", &[], &message.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// `GET /v1/messages/{id}`.
    pub fn message(&self, id: &str) -> Value {
        let answer = self.api("GET", &format!("/v1/messages/{id}"), &[], "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until a message has that public state.
    pub fn reaches(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}; log:\n{}", self.log()), SOON, || {
            Some(self.message(id)).filter(|m| m["status"] == status)
        })
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("relay.log")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the relay's log:\n{}", self.log());
        }
    }
}

/// A section for a carrier that speaks SMPP at `port` and knows us as `postrider sink` does, with these keys as well.
pub fn smpp_carrier(name: &str, port: u16, more: &str) -> String {
    format!(
        r#"
[[carrier]]
name = "{name}"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
rate = "1000/s"
{more}
"#
    )
}

/// The port of `127.0.0.1:port`.
pub fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

fn configuration(settings: &Settings, dns: &Dns) -> String {
    let Settings { retry, expire, otp, smtp_port, carrier_port, data_dir, extra } = settings;
    let data_dir = data_dir.as_deref().unwrap_or(Path::new("data")).display();
    let (password, api_key) = (keys::password_hash(PASSWORD), keys::api_key_hash(API_KEY));
    let mut text = format!(
        r#"
[server]
hostname = "relay.test.example"
data_dir = "{data_dir}"

[[listener]]
address = "127.0.0.1:0"
tls = "starttls"
auth = "required"

[[listener]]
address = "127.0.0.1:0"
tls = "implicit"
auth = "required"

[[listener]]
address = "127.0.0.1:0"
tls = "none"
auth = "none"
trusted = ["127.0.0.0/8"]
trusted_client = "{USER}"

[http]
address = "127.0.0.1:0"
tls = false

[admin]
address = "127.0.0.1:0"

[tls]
certificate = "relay.crt"
private_key = "relay.key"

[[client]]
name = "{USER}"
password = "{password}"
api_keys = ["{api_key}"]
channels = ["email", "sms"]
senders = ["{SENDER_DOMAIN}"]
countries = ["+86"]

[[dkim]]
domain = "{SENDER_DOMAIN}"
selector = "rsa1"
private_key = "rsa.pem"

[[dkim]]
domain = "{SENDER_DOMAIN}"
selector = "ed1"
private_key = "ed25519.pem"

[dns]
nameservers = ["{nameserver}"]

# Tests run by night as well, and send one number much.
[[sms_cap]]
prefixes = ["+86"]
limits = ["1000000/m"]
[[sending_hours]]
prefixes = ["+86"]
hours = "00:00-24:00 +08:00"

[queue]
retry = {retry}
expire = "{expire}"
[queue.otp]
retry = {retry}
{otp}

[delivery]
smtp_port = {smtp_port}
allow_private = ["127.0.0.0/8"]
# The sinks take all that comes.
messages_per_site = "100000/s"
"#,
        nameserver = dns.address,
    );
    if let Some(port) = carrier_port {
        let _ = write!(
            text,
            r#"
[[carrier]]
name = "carrier-1"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "postrider"
password = "secret"
window = 16
rate = "1000/s"

[[sms_route]]
prefixes = ["+"]
carriers = ["carrier-1"]
"#
        );
    }
    text.push_str(extra);
    text
}

fn write_private(path: &Path, content: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
}
