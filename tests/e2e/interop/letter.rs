//! The mails that go through every server, and what must still be true of them when they have arrived.

use std::collections::BTreeSet;

use crate::support::peer::{Mail, MailSink};
use crate::support::relay::SENDER_DOMAIN;
use crate::support::smtp::{Client, stuffed};
use crate::support::{PATIENCE, split_mail};

/// Recipients of the mail to many.
pub(super) const MANY: usize = 150;
/// Bytes of the large mail's body.
pub(super) const LARGE: usize = 16 << 20;

/// Bodies that a careless server changes; the last two are eight-bit.
const BODIES: [(&str, &[u8]); 7] = [
    ("plain", b"Hello,\r\n\r\nyour parcel is on its way.\r\n"),
    ("dots", b".\r\n..\r\n.hidden\r\n...\r\n"),
    ("blank", b"Hello\r\n\r\n\r\n\r\n"),
    ("spaces", b"a  b\t c \t\r\n \r\n\t\r\nend \r\n"),
    ("line", &[b'x'; 998]),
    ("utf-8", "您的验证码是 123456\r\n".as_bytes()),
    ("latin-1", b"caf\xe9 \xff\xfe\r\n"),
];

/// What the sender of the letter `noted` says of it in MAIL, and of its recipient, to whom the domain belongs, in RCPT.
const NOTED_MAIL: &str = "RET=HDRS ENVID=order+2B77";
const NOTED_RCPT: &str = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first+2Bone@";

/// A mail and its envelope.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) name: String,
    from: String,
    to: Vec<String>,
    /// Parameters of MAIL and of RCPT, each with a space in front.
    parameters: [String; 2],
    content: Vec<u8>,
}

impl Letter {
    fn new(name: &str, domain: &str, body: &[u8]) -> Self {
        let (from, to) = (format!("hello@{SENDER_DOMAIN}"), format!("lin@{domain}"));
        let content = content(name, domain, &format!("Shop <{from}>"), body);
        let mail = if content.is_ascii() { "" } else { " BODY=8BITMIME" };
        let name = format!("{name} {domain}");
        Self { name, from, to: vec![to], parameters: [mail.to_owned(), String::new()], content }
    }

    /// The small ones with nothing but ASCII in their addresses.
    pub(super) fn small(domain: &str) -> Vec<Self> {
        BODIES.iter().map(|(name, body)| Self::new(name, domain, body)).collect()
    }

    /// Seven bits, or eight.
    pub(super) fn plain(domain: &str, eight_bit: bool) -> Self {
        let (name, body) = if eight_bit { BODIES[5] } else { BODIES[0] };
        Self::new(name, domain, body)
    }

    /// Needs SMTPUTF8 for both its addresses and for its header section.
    pub(super) fn international(domain: &str) -> Self {
        let from = format!("zoë@{SENDER_DOMAIN}");
        let name = "international";
        let content = content(name, domain, &format!("Zoë <{from}>"), "您好\r\n".as_bytes());
        let parameters = [" BODY=8BITMIME SMTPUTF8".to_owned(), String::new()];
        Self { name: format!("{name} {domain}"), from, to: vec![format!("用户@{domain}")], parameters, content }
    }

    /// Its sender wants to know that it arrived.
    pub(super) fn noted(domain: &str) -> Self {
        let parameters = [format!(" {NOTED_MAIL}"), format!(" {NOTED_RCPT}{domain}")];
        Self { parameters, ..Self::new("noted", domain, b"Not for notifications.\r\n") }
    }

    /// To so many that several transactions are needed.
    pub(super) fn to_many(domain: &str) -> Self {
        let to = (0..MANY).map(|n| format!("n{n}@{domain}")).collect();
        Self { to, ..Self::new("many", domain, BODIES[0].1) }
    }

    /// With a body of some size.
    pub(super) fn of_size(name: &str, domain: &str, bytes: usize) -> Self {
        let line = format!(".{}\r\n", "x".repeat(75));
        Self::new(name, domain, line.repeat(bytes / line.len()).as_bytes())
    }

    /// Hands it to a server on that port of 127.0.0.1 that must take it.
    pub(super) fn submit(&self, port: u16) {
        let mut client = Client::greeted(&format!("127.0.0.1:{port}")).unwrap();
        let [mail, rcpt] = &self.parameters;
        let commands = [format!("MAIL FROM:<{}>{mail}", self.from)]
            .into_iter()
            .chain(self.to.iter().map(|to| format!("RCPT TO:<{to}>{rcpt}")))
            .chain(["DATA".to_owned()]);
        for command in commands {
            let reply = client.say(&command).unwrap();
            assert!(reply.starts_with(['2', '3']), "{}: {command}: {reply}", self.name);
        }
        client.send(&stuffed(&self.content)).unwrap();
        client.send(b".\r\n").unwrap();
        let reply = client.reply().unwrap();
        assert!(reply.starts_with("250"), "{}: {reply}", self.name);
    }

    /// Waits until all of its recipients have it at the sink, and looks that it is the mail that was sent: byte for byte, but
    /// for trace fields and our signatures in front. The fields in front of one copy.
    pub(super) fn arrived(&self, sink: &MailSink) -> String {
        let wanted: BTreeSet<&str> = self.to.iter().map(String::as_str).collect();
        sink.0.wait(&format!("{} at the sink", self.name), PATIENCE, |said| {
            let copies = said.iter().filter(|mail| mail["subject"] == self.name.as_str());
            let got: BTreeSet<&str> =
                copies.flat_map(|mail| mail["to"].as_array().unwrap()).filter_map(|to| to.as_str()).collect();
            (got == wanted).then_some(())
        });
        let copies: Vec<Mail> =
            sink.mails().into_iter().filter(|m| m.field("Subject").as_deref() == Some(&self.name)).collect();
        let given: usize = copies.iter().map(|mail| mail.to.len()).sum();
        assert_eq!(given, wanted.len(), "{}: nobody gets it twice", self.name);
        copies.iter().map(|copy| self.in_front(copy)).next_back().unwrap()
    }

    fn in_front(&self, copy: &Mail) -> String {
        let ((sent_header, sent), (header, got)) = (split_mail(&self.content), split_mail(&copy.data));
        assert_eq!(copy.from, self.from, "{}", self.name);
        // Not by assert_eq: nobody wants to read 16 MiB.
        assert!(got == sent, "{}: the body is another: {} bytes, {} were sent", self.name, got.len(), sent.len());
        let header = String::from_utf8_lossy(header);
        let Some(front) = header.strip_suffix(&*String::from_utf8_lossy(sent_header)) else {
            panic!("{}: the fields are others:\n{header}", self.name)
        };
        let names =
            front.lines().filter(|line| !line.starts_with([' ', '\t'])).map(|line| line.split(':').next().unwrap());
        for name in names {
            assert!(["Received", "DKIM-Signature"].contains(&name), "{}: {name} was added:\n{front}", self.name);
        }
        front.to_owned()
    }

    /// Waits for the notification that the letter `noted` to this domain was passed on, and looks that it says what the
    /// parameters asked for, as far as its writer ever does.
    pub(super) fn noted_arrived(domain: &str, sink: &MailSink, by: Notifier) {
        let about = format!("final-recipient: rfc822;lin@{domain}");
        let (to, what) = (format!("hello@{SENDER_DOMAIN}"), format!("the notification for {domain}"));
        let text = notification(sink, &what, &to, |text| text.contains(&about));
        let (envelope, original, action) = match by {
            Notifier::Exact => ("order+77", "first+one", "relayed"),
            Notifier::Exim => ("order+2b77", "first+2bone", "delivered"),
            Notifier::OpenSmtpd => ("", "", "relayed"),
        };
        let mut wanted = vec![format!("action: {action}")];
        if !envelope.is_empty() {
            wanted.push(format!("original-envelope-id: {envelope}"));
            wanted.push(format!("original-recipient: rfc822;{original}@{domain}"));
        }
        for line in wanted {
            assert!(text.contains(&line), "{line:?} is missing:\n{text}");
        }
        assert!(!text.contains("not for notifications"), "RET=HDRS is not obeyed:\n{text}");
    }

    /// Waits until its sender gets it back with that status.
    pub(super) fn comes_back(&self, sink: &MailSink, status: &str) {
        let subject = format!("\r\nsubject: {}\r\n", self.name);
        let text = notification(sink, &format!("{} comes back", self.name), &self.from, |text| text.contains(&subject));
        assert!(text.contains("action: failed") && text.contains(&format!("status: {status}")), "{text}");
    }

    /// What must have been said on the wire for the letter `noted` to keep its parameters.
    pub(super) fn noted_parameters(domain: &str) -> Vec<String> {
        let all = format!("{NOTED_MAIL} {NOTED_RCPT}{domain}");
        all.split(' ').map(|parameter| format!(" {parameter}")).collect()
    }
}

/// Who writes a notification, as far as they differ.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notifier {
    /// postrider and Postfix: ENVID and ORCPT come back decoded (RFC 3461 section 6.3).
    Exact,
    /// Repeats both, in xtext as they came, and calls what it passed on delivered.
    Exim,
    /// Repeats neither.
    OpenSmtpd,
}

/// Waits for such a mail from nobody to `to`; its text in lower case, with no space after semicolons.
fn notification(sink: &MailSink, what: &str, to: &str, wanted: impl Fn(&str) -> bool) -> String {
    let text = |mail: &Mail| String::from_utf8_lossy(&mail.data).replace("; ", ";").to_lowercase();
    text(&sink.wait_for(what, PATIENCE, |mail| mail.from == "<>" && mail.to == [to] && wanted(&text(mail))))
}

fn content(name: &str, domain: &str, from: &str, body: &[u8]) -> Vec<u8> {
    let header = format!(
        "From: {from}\r\nTo: <lin@{domain}>\r\nSubject: {name} {domain}\r\nDate: Thu, 26 Nov 2026 10:00:00 +0800\r\n\
         Message-ID: <{name}.{domain}@{SENDER_DOMAIN}>\r\nX-Folded: a\r\n\tb  c \r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    );
    let end: &[u8] = if body.ends_with(b"\r\n") { b"" } else { b"\r\n" };
    [header.as_bytes(), body, end].concat()
}
