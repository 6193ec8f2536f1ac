//! Independent programs as child processes that say on standard output, a JSON object a line, what they were sent.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{SOON, script, test_peers};

/// The Python that `tests/run` has furnished.
pub fn python() -> Command {
    let python = test_peers().join("venv/bin/python");
    assert!(python.exists(), "{} is missing: tests/run installs it", python.display());
    Command::new(python)
}

/// Node.js with the packages that `tests/run` has furnished, `package` among them.
pub fn node(package: &str) -> Command {
    let modules = test_peers().join("node/node_modules");
    assert!(modules.join(package).exists(), "{} holds no {package}: tests/run installs it", modules.display());
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    command
}

/// Runs a command to its end; its standard output, if it succeeded.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e} (tests/run installs what tests need)"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a command with `input` on its standard input; its standard output, if it succeeded.
pub fn filter(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A program that listens, reports and can be steered; ended when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    steering: Option<ChildStdin>,
    said: Arc<(Mutex<Vec<Value>>, Condvar)>,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Peer {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e} (tests/run installs what tests need)"));
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = said.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
                heard.0.lock().unwrap().push(value);
                heard.1.notify_all();
            }
        });
        let mut peer = Self { steering: child.stdin.take(), child, said, port: 0 };
        let port = peer.wait("listening", SOON, |said| said.iter().find_map(listening));
        peer.port = port;
        peer
    }

    /// Waits until what was said so far gives an answer.
    pub fn wait<T>(&self, what: &str, within: Duration, mut ask: impl FnMut(&[Value]) -> Option<T>) -> T {
        let (said, changed) = &*self.said;
        let mut answer = None;
        let (guard, _) = changed
            .wait_timeout_while(said.lock().unwrap(), within, |said| {
                answer = ask(said);
                answer.is_none()
            })
            .unwrap();
        answer.unwrap_or_else(|| panic!("not within {within:?}: {what}; {} lines were said", guard.len()))
    }

    /// Everything said so far that `pick` picks.
    pub fn said<T>(&self, pick: impl FnMut(&Value) -> Option<T>) -> Vec<T> {
        self.said.0.lock().unwrap().iter().filter_map(pick).collect()
    }

    /// Everything said after the first `skip` lines.
    pub fn said_since(&self, skip: usize) -> Vec<Value> {
        self.said.0.lock().unwrap()[skip..].to_vec()
    }

    /// Changes its behaviour; returns once it has.
    pub fn steer(&mut self, how: &Value) {
        let done = |said: &[Value]| said.iter().filter(|v| v["steered"] == true).count();
        let before = done(&self.said.0.lock().unwrap());
        writeln!(self.steering.as_mut().unwrap(), "{how}").unwrap();
        self.wait("steered", SOON, |said| (done(said) > before).then_some(()));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port that a peer says it listens on: a number, or our own sink's `{"smtp": ADDRESS, "smpp": ADDRESS}`.
fn listening(said: &Value) -> Option<u16> {
    let said = &said["listening"];
    let number = || u16::try_from(said.as_u64()?).ok();
    let address = said["smtp"].as_str().or(said["smpp"].as_str());
    number().or_else(|| super::relay::port(address?).parse().ok())
}

/// A mail as the sink got it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The address it came from, and the name in EHLO.
    pub peer: [String; 2],
    pub from: String,
    pub to: Vec<String>,
    pub data: Vec<u8>,
    /// It came inside TLS.
    pub tls: bool,
    /// The parameters of MAIL.
    pub options: Vec<String>,
}

impl Mail {
    fn read(value: &Value) -> Option<Self> {
        let data = STANDARD.decode(value["data"].as_str()?).unwrap();
        let words = |key: &str| Some(value[key].as_array()?.iter().map(|t| t.as_str().unwrap().to_owned()).collect());
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let tls = value["tls"] == true;
        let (to, options) = (words("to")?, words("mail_options")?);
        Some(Self { peer: [text("peer"), text("hello")], from: text("from"), to, data, tls, options })
    }

    /// A header field's first line, without its name.
    pub fn field(&self, name: &str) -> Option<String> {
        let (header, _) = super::split_mail(&self.data);
        let header = String::from_utf8_lossy(header).into_owned();
        header.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// An aiosmtpd sink.
#[derive(Debug)]
pub struct MailSink(pub Peer);

impl MailSink {
    /// Starts one; port 0 is any.
    pub fn start(port: u16) -> Self {
        let mut command = python();
        command.arg(script("sink.py")).arg(port.to_string());
        Self(Peer::start(command))
    }

    /// One that offers STARTTLS, with a certificate and its key in files.
    pub fn start_tls(port: u16, certificate: &Path, key: &Path) -> Self {
        let mut command = python();
        command.arg(script("sink.py")).arg(port.to_string()).arg(certificate).arg(key);
        Self(Peer::start(command))
    }

    /// All mails so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.0.said(Mail::read)
    }

    /// Waits for the first mail that `wanted` wants.
    pub fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Mail) -> bool) -> Mail {
        self.0.wait(what, within, |said| said.iter().filter_map(Mail::read).find(|m| wanted(m)))
    }

    /// Waits for the mail with that Subject.
    pub fn subject(&self, subject: &str) -> Mail {
        self.wait_for(&format!("mail {subject:?}"), SOON, |m| m.field("Subject").as_deref() == Some(subject))
    }
}

/// An SMPP carrier: npm's `smpp`.
#[derive(Debug)]
pub struct Carrier(pub Peer);

impl Carrier {
    /// Starts one on any port.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts one on that port.
    pub fn start_on(port: u16) -> Self {
        let mut command = node("smpp");
        command.arg(script("smpp_server.js")).arg(port.to_string());
        Self(Peer::start(command))
    }

    /// Starts one on any port that takes TLS only, with a certificate and its key.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let mut command = node("smpp");
        command.arg(script("smpp_server.js")).arg("0").args([certificate, key]);
        Self(Peer::start(command))
    }

    /// The parts it has answered so far, also those it refused.
    pub fn parts(&self) -> Vec<Part> {
        self.0.said(Part::read)
    }

    /// Waits until it has taken that many parts.
    pub fn wait_for_taken(&self, count: usize, within: Duration) -> Vec<Part> {
        self.0.wait(&format!("{count} parts at the carrier"), within, |said| {
            let taken: Vec<_> = said.iter().filter_map(Part::read).filter(|p| p.status == 0).collect();
            (taken.len() >= count).then_some(taken)
        })
    }
}

/// Kannel's `drive_smpp`, a message centre that knows transmitters and receivers only.
#[derive(Debug)]
pub struct KannelCentre(pub Peer);

impl KannelCentre {
    /// Starts one that brings so many messages of its own to whoever receives.
    pub fn start(messages: u64) -> Self {
        let program = super::test_peers().join("kannel-extras/usr/lib/kannel/test/drive_smpp");
        let mut command = python();
        command.arg(script("drive_smpp.py")).arg(program).arg(messages.to_string());
        Self(Peer::start(command))
    }

    /// Waits until its counts of what was submitted to it, and of answers to its own messages, are as wanted.
    pub fn wait_for(&self, within: Duration, wanted: impl Fn(u64, u64) -> bool) {
        let counted = |v: &Value| Some((v["submitted"].as_u64()?, v["answered"].as_u64()?));
        self.0.wait("Kannel's counts", within, |said| {
            said.iter().filter_map(counted).next_back().filter(|(submitted, answered)| wanted(*submitted, *answered))
        });
    }
}

/// A CMPP 2.0 gateway that reads with `pycmpp`.
#[derive(Debug)]
pub struct Gateway(pub Peer);

impl Gateway {
    /// Starts one on any port, for the SP_Id 900001 and the secret 888888.
    pub fn start() -> Self {
        let mut command = python();
        command.arg(script("cmpp_gateway.py")).args(["0", "900001", "888888"]);
        Self(Peer::start(command))
    }
}

/// A vendor's HTTP endpoint, which judges requests by the vendor's own code.
#[derive(Debug)]
pub struct Vendor(pub Peer);

impl Vendor {
    /// Starts one of that name for an account of this key and secret.
    pub fn start(name: &str, key: &str, secret: &str) -> Self {
        let python = test_peers().join("vendors/bin/python");
        assert!(python.exists(), "{} is missing: tests/run installs it", python.display());
        let mut command = Command::new(python);
        command.arg(script("http_vendor.py")).args([name, key, secret]);
        Self(Peer::start(command))
    }

    /// Waits until that many requests have come: what each says, and whether it is right.
    pub fn wait_for_requests(&self, count: usize) -> Vec<Value> {
        self.0.wait(&format!("{count} requests at the vendor"), SOON, |said| {
            let requests: Vec<_> = said.iter().filter(|v| !v["request"].is_null()).cloned().collect();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Brings something to the relay; the answer's status and body.
    pub fn post(&mut self, order: &Value) -> (u64, String) {
        let answers = |said: &[Value]| said.iter().filter(|v| !v["posted"].is_null()).cloned().collect::<Vec<_>>();
        let before = answers(&self.0.said_since(0)).len();
        writeln!(self.0.steering.as_mut().unwrap(), "{order}").unwrap();
        let answer = self.0.wait("the relay's answer", SOON, |said| answers(said).get(before).cloned());
        (answer["posted"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
    }
}

/// The binary's own carrier, which speaks what its client speaks.
#[derive(Debug)]
pub struct OwnCarrier(pub Peer);

impl OwnCarrier {
    /// Starts one on that port (0: any), for the system id 900001 and the password 888888, with more arguments to
    /// `postrider sink`.
    pub fn start_on(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        let address = format!("127.0.0.1:{port}");
        command.args(["sink", "--only", "smpp", "--smpp", &address, "--show", "--json", "--every", "20ms"]);
        command.args(["--system-id", "900001"]).args(arguments).env("POSTRIDER_PASSWORD", "888888");
        command.env("POSTRIDER_SGIP_PASSWORD", "sesame");
        Self(Peer::start(command))
    }

    /// Waits until that many whole texts have come: what each says, and in how many parts.
    pub fn wait_for_texts(&self, count: usize, within: Duration) -> Vec<Value> {
        self.0.wait(&format!("{count} texts at the carrier"), within, |said| {
            let texts: Vec<_> = said.iter().filter(|v| v["arrived"] == "sms").cloned().collect();
            (texts.len() >= count).then_some(texts)
        })
    }

    /// Waits until its count of that name is as wanted.
    pub fn wait_for_count(&self, name: &str, within: Duration, wanted: impl Fn(u64) -> bool) {
        let counted = |v: &Value| v["counts"]["smpp"][name].as_u64();
        self.0.wait(name, within, |said| said.iter().filter_map(counted).next_back().filter(|n| wanted(*n)));
    }
}

/// A service provider by CMPP 2.0: PyPI's `pycmpp`.
#[derive(Debug)]
pub struct CmppSp(pub Peer);

impl CmppSp {
    /// Logs in; wants no reports.
    pub fn start(port: u16, sp_id: &str, secret: &str) -> Self {
        Self::start_with(port, sp_id, secret, false)
    }

    /// Logs in, and wants reports or not.
    pub fn start_with(port: u16, sp_id: &str, secret: &str, reports: bool) -> Self {
        let mut command = python();
        let wanted = if reports { "1" } else { "0" };
        command.arg(script("cmpp_sp.py")).arg(port.to_string()).args([sp_id, secret, wanted]);
        Self(Peer::start(command))
    }

    /// Gives it an order, whatever comes of it.
    pub fn order(&mut self, order: &Value) {
        writeln!(self.0.steering.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Has it submit a text.
    pub fn submit(&mut self, text: &str, to: &str) {
        self.order(&serde_json::json!({"submit": text, "to": [to]}));
    }

    /// How its submissions were answered so far.
    pub fn answers(&self) -> Vec<Value> {
        self.0.said(|v| v.get("answer").is_some().then(|| v.clone()))
    }

    /// Waits until so many are answered.
    pub fn wait_for_answers(&self, count: usize, within: Duration) -> Vec<Value> {
        self.0.wait(&format!("{count} answers"), within, |said| {
            let answers: Vec<_> = said.iter().filter(|v| v.get("answer").is_some()).cloned().collect();
            (answers.len() >= count).then_some(answers)
        })
    }
}

/// An SMPP client: PyPI's `smpplib`.
#[derive(Debug)]
pub struct SmppClient(pub Peer);

impl SmppClient {
    fn start(port: u16, name: &str, password: &str, mode: &str, authority: Option<&Path>) -> Self {
        let mut command = python();
        command.arg(script("smpp_client.py")).arg(port.to_string()).args([name, password, mode]).args(authority);
        Self(Peer::start(command))
    }

    /// Binds as a `transmitter`, `receiver` or `transceiver`.
    pub fn bind(port: u16, name: &str, password: &str, mode: &str) -> Self {
        let client = Self::start(port, name, password, mode, None);
        let refused = client.0.said(|v| v["bind"].as_u64());
        assert!(refused.is_empty(), "{name} may not bind: {refused:?}");
        client
    }

    /// Binds as a transceiver over TLS, to whoever shows this certificate.
    pub fn bind_tls(port: u16, name: &str, password: &str, certificate: &Path) -> Self {
        Self::start(port, name, password, "transceiver", Some(certificate))
    }

    /// The status by which a bind is refused.
    pub fn refused(port: u16, name: &str, password: &str, mode: &str) -> u64 {
        let client = Self::start(port, name, password, mode, None);
        client.0.said(|v| v["bind"].as_u64()).pop().expect("a refusal")
    }

    /// Gives it an order, whatever comes of it.
    pub fn order(&mut self, order: &Value) {
        writeln!(self.0.steering.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Changes its behaviour; returns once it has.
    pub fn steer(&mut self, how: &Value) {
        self.0.steer(how);
    }

    /// Submits; the status of the answer and the id in it.
    pub fn submit(&mut self, fields: Value) -> (u64, String) {
        self.submit_all([fields]).remove(0)
    }

    /// Submits all without waiting; the answers, in the order of the submissions.
    pub fn submit_all(&mut self, all: impl IntoIterator<Item = Value>) -> Vec<(u64, String)> {
        let answers = |said: &[Value]| -> Vec<Value> {
            said.iter().map(|v| v["answer"].clone()).filter(|a| !a.is_null()).collect()
        };
        let before = answers(&self.0.said_since(0)).len();
        let mut count = before;
        for fields in all {
            self.order(&serde_json::json!({ "submit": fields }));
            count += 1;
        }
        let mut answered = self.0.wait("submissions are answered", SOON, |said| {
            Some(answers(said)).filter(|answers| answers.len() >= count)
        });
        answered.sort_by_key(|answer| answer["n"].as_u64());
        let read = |answer: &Value| (answer["status"].as_u64().unwrap(), answer["id"].as_str().unwrap().to_owned());
        answered[before..].iter().map(read).collect()
    }

    /// Waits until so much has been brought.
    pub fn wait_for_deliveries(&self, count: usize, within: Duration) -> Vec<Value> {
        self.0.wait(&format!("{count} deliveries"), within, |said| {
            let brought: Vec<_> = said.iter().map(|v| v["delivery"].clone()).filter(|d| !d.is_null()).collect();
            (brought.len() >= count).then_some(brought)
        })
    }
}

/// An SMPP application: npm's `smpp`.
#[derive(Debug)]
pub struct SmppEsme(pub Peer);

impl SmppEsme {
    /// Binds as a transceiver that speaks this `interface_version`.
    pub fn bind(port: u16, name: &str, password: &str, interface_version: u8) -> Self {
        let mut command = node("smpp");
        command.arg(script("smpp_esme.js")).arg(port.to_string()).args([name, password]);
        command.arg(interface_version.to_string());
        Self(Peer::start(command))
    }

    /// Says a request; its answer.
    pub fn say(&mut self, command: &str, fields: &Value) -> Value {
        let answers = |said: &[Value]| said.iter().filter(|v| v.get("answer").is_some()).count();
        let before = answers(&self.0.said_since(0));
        let request = serde_json::json!({"say": command, "fields": fields});
        writeln!(self.0.steering.as_mut().unwrap(), "{request}").unwrap();
        let latest = |said: &[Value]| said.iter().rev().find_map(|v| v.get("answer").cloned());
        self.0.wait(command, SOON, |said| latest(said).filter(|_| answers(said) > before))
    }
}

/// A part as the carrier got it.
#[derive(Clone, Debug)]
pub struct Part {
    pub to: String,
    pub data_coding: u64,
    pub esm_class: u64,
    /// The user data header in hex, as the `smpp` package reports it.
    pub udh: String,
    pub text: String,
    /// Optional parameters that the package does not know: what they hold, in hex, by tag.
    pub tlvs: Value,
    /// Reference, total and number of a segment.
    pub sar: [Option<u64>; 3],
    /// What was answered: 0 or an error.
    pub status: u64,
    /// When, in milliseconds of the carrier's own clock.
    pub at_ms: f64,
}

impl Part {
    fn read(value: &Value) -> Option<Self> {
        (value["pdu"] == "submit_sm").then(|| Self {
            to: value["to"].as_str().unwrap().to_owned(),
            data_coding: value["data_coding"].as_u64().unwrap(),
            esm_class: value["esm_class"].as_u64().unwrap(),
            udh: value["udh"].as_str().unwrap().to_owned(),
            text: value["text"].as_str().unwrap_or_default().to_owned(),
            tlvs: value["tlvs"].clone(),
            sar: [0, 1, 2].map(|place| value["sar"][place].as_u64()),
            status: value["status"].as_u64().unwrap(),
            at_ms: value["at_ms"].as_f64().unwrap(),
        })
    }
}

/// One signature of a mail, judged with all others removed.
#[derive(Clone, Debug, serde::Deserialize)]
#[allow(dead_code, reason = "what is not asserted on is shown when a test fails")]
pub struct Judgement {
    pub selector: String,
    pub algorithm: String,
    pub domain: String,
    pub dkimpy: bool,
    pub opendkim: bool,
    pub opendkim_says: String,
    /// Mail::DKIM's word; none where it does not know the algorithm.
    pub mail_dkim: Option<bool>,
}

impl Judgement {
    /// All who know the algorithm say that the signature is right; RSA is known to all.
    pub fn is_right(&self) -> bool {
        let by_perl = if self.algorithm == "rsa-sha256" { self.mail_dkim == Some(true) } else { true };
        self.dkimpy && self.opendkim && by_perl
    }

    /// All who know the algorithm say that it is wrong.
    pub fn is_wrong(&self) -> bool {
        !self.dkimpy && !self.opendkim && self.mail_dkim != Some(true)
    }
}

/// Judges every DKIM signature of a mail alone, by dkimpy, opendkim and Mail::DKIM. `zone` maps names to TXT strings.
pub fn judge_dkim(dir: &Path, zone: &Value, mail: &[u8]) -> Vec<Judgement> {
    judge_all(dir, zone, &[mail]).remove(0)
}

/// The same for many mails.
pub fn judge_all(dir: &Path, zone: &Value, mails: &[&[u8]]) -> Vec<Vec<Judgement>> {
    let zone_file = dir.join("judge-zone.json");
    std::fs::write(&zone_file, zone.to_string()).unwrap();
    let mut judge = python();
    judge.arg(script("dkim_judge.py")).arg(zone_file);
    for (n, mail) in mails.iter().enumerate() {
        let file = dir.join(format!("judge-{n}.eml"));
        std::fs::write(&file, mail).unwrap();
        judge.arg(file);
    }
    let verdicts = output_of(&mut judge);
    serde_json::from_str(&verdicts).unwrap_or_else(|e| panic!("{verdicts:?}: {e}"))
}
