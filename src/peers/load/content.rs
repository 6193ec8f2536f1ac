//! What is sent: mails and texts that differ only in their sequence number, so that a sink can account for each.
//!
//! **Promises.** The sequence number stands in Message-ID, Subject and the recipient (mail) or in the number, the text and
//! `client_ref` (SMS), always in ten digits. A mail is as long as asked for, to the byte or one less; the body is made once
//! and shared; only some 300 bytes of header are written per message. No line starts with a dot, so nothing needs stuffing.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Options;
use crate::clock::Timestamp;

/// Characters of a body line, CRLF not counted.
const LINE: usize = 76;

/// Makes one message after the other.
#[derive(Clone, Debug)]
pub(super) struct Content {
    options: Arc<Options>,
    /// Tells this run's messages from another's.
    run: Arc<str>,
    date: Arc<str>,
    /// Lines of text, CRLF at the end; the end of it makes every body.
    text: Arc<[u8]>,
}

impl Content {
    pub(super) fn new(options: Arc<Options>, run: Arc<str>, now: Timestamp) -> Self {
        let text = lines(options.message_bytes);
        Self { options, run, date: now.rfc5322().into(), text }
    }

    /// The mail's recipients, each `rSEQUENCE[-n]@domain`; domains take turns.
    pub(super) fn mail_recipients(&self, sequence: u64) -> impl Iterator<Item = String> + '_ {
        let domains = &self.options.recipient_domains;
        (0..self.options.recipients_per_message).map(move |n| {
            let domain = &domains[((sequence as usize).wrapping_add(n)) % domains.len()];
            if n == 0 { format!("r{sequence:010}@{domain}") } else { format!("r{sequence:010}-{n}@{domain}") }
        })
    }

    /// Writes the mail's header section and empty line into `header` and returns the body that goes with it.
    pub(super) fn mail(&self, sequence: u64, header: &mut String) -> &[u8] {
        let sender = &self.options.sender;
        let to = self.mail_recipients(sequence).next().unwrap_or_default();
        header.clear();
        let _ = write!(
            header,
            "From: <{sender}>\r\nTo: <{to}>\r\nSubject: load {run} {sequence:010}\r\nMessage-ID: <{sequence:010}.{run}@{domain}>\r\n\
             Date: {date}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n",
            run = self.run,
            domain = sender.domain(),
            date = self.date,
        );
        if let Some(class) = self.options.class {
            let _ = write!(header, "X-Postrider-Class: {class}\r\n");
        }
        header.push_str("\r\n");
        self.body(self.options.message_bytes.saturating_sub(header.len()))
    }

    /// The body of `POST /v1/sms`: a text of as many characters as asked for, at least the 25 that tell it apart.
    pub(super) fn text_json(&self, sequence: u64, json: &mut String) {
        json.clear();
        let _ = write!(json, r#"{{{}"to":"{}"#, self.class_json(), self.options.number_prefix);
        let width = usize::from(self.options.number_digits.min(15));
        if width > 0 {
            let _ = write!(json, "{:0width$}", sequence % 10u64.pow(width as u32));
        }
        let words = json.len() + r#"","text":""#.len();
        let _ = write!(json, r#"","text":"load {run} {sequence:010} "#, run = self.run);
        let filler = self.options.message_bytes.saturating_sub(json.len() - words);
        let _ = write!(
            json,
            r#"{filler}","client_ref":"{run}-{sequence:010}"}}"#,
            filler = self.printable(filler),
            run = self.run
        );
    }

    /// The body of `POST /v1/email`.
    pub(super) fn mail_json(&self, sequence: u64, json: &mut String) {
        let sender = &self.options.sender;
        json.clear();
        let _ = write!(json, r#"{{{}"from":"{sender}","to":["#, self.class_json());
        for (i, recipient) in self.mail_recipients(sequence).enumerate() {
            let _ = write!(json, r#"{}"{recipient}""#, if i == 0 { "" } else { "," });
        }
        let _ = write!(
            json,
            r#"],"subject":"load {run} {sequence:010}","text":"{text}"}}"#,
            run = self.run,
            text = self.printable(self.options.message_bytes),
        );
    }

    /// The class as the first member of a JSON object, if one is asked for.
    fn class_json(&self) -> String {
        self.options.class.map(|class| format!(r#""class":"{class}","#)).unwrap_or_default()
    }

    /// The last `bytes` of the text, or one less where they would begin between CR and LF.
    fn body(&self, bytes: usize) -> &[u8] {
        let body = &self.text[self.text.len() - bytes.min(self.text.len())..];
        body.strip_prefix(b"\n").unwrap_or(body)
    }

    /// The first `bytes` of the text, for a JSON string.
    fn printable(&self, bytes: usize) -> Printable<'_> {
        Printable { text: &self.text, bytes }
    }
}

/// Text for a JSON string, as many characters as bytes: CRLF becomes a space and an escaped line feed.
struct Printable<'a> {
    text: &'a [u8],
    bytes: usize,
}

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.text[..self.bytes.min(self.text.len())].split_inclusive(|&b| b == b'\n') {
            let (words, end) = match line {
                [words @ .., b'\r', b'\n'] => (words, " \\n"),
                [words @ .., b'\r'] => (words, " "),
                words => (words, ""),
            };
            f.write_str(std::str::from_utf8(words).map_err(|_| std::fmt::Error)?)?;
            f.write_str(end)?;
        }
        Ok(())
    }
}

/// At least `bytes` of lines of letters, digits and spaces, the same in every run.
fn lines(bytes: usize) -> Arc<[u8]> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 ";
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    let mut text = Vec::with_capacity(bytes + LINE + 2);
    while text.len() < bytes {
        text.extend((0..LINE - 1).map(|_| LETTERS[random.usize(..LETTERS.len())]));
        // A line that ends in a space invites somebody on the way to strip it.
        text.extend_from_slice(b"x\r\n");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    fn content(bytes: usize) -> Content {
        let options = Options { message_bytes: bytes, ..Options::default() };
        Content::new(Arc::new(options), "run7".into(), Timestamp::from_seconds(0))
    }

    #[test]
    fn a_mail_has_the_size_asked_for_and_no_bare_line_ends() {
        for bytes in 400..900 {
            let content = content(bytes);
            let mut header = String::new();
            let body = content.mail(42, &mut header);
            let mail = [header.as_bytes(), body].concat();
            assert!(mail.len() == bytes || mail.len() == bytes - 1, "{} for {bytes}", mail.len());
            let mail = String::from_utf8(mail).unwrap();
            assert!(!mail.replace("\r\n", "").contains(['\r', '\n']));
            assert!(mail.ends_with("\r\n"));
            assert!(mail.lines().all(|l| !l.starts_with('.') && l.len() <= 78 + 20));
            assert!(mail.contains("Message-ID: <0000000042.run7@"));
        }
    }

    #[test]
    fn a_mail_smaller_than_its_header_is_only_header() {
        let content = content(1);
        let mut header = String::new();
        assert!(content.mail(1, &mut header).len() <= 1);
        assert!(header.ends_with("\r\n\r\n"));
    }

    #[test]
    fn json_bodies_parse_and_are_as_long_as_asked_for() {
        for bytes in [0, 40, 77, 78, 79, 4_096] {
            let content = content(bytes);
            let mut json = String::new();
            content.text_json(7, &mut json);
            let text: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(text["to"], "+8613800000007");
            assert_eq!(text["client_ref"], "run7-0000000007");
            assert_eq!(text["text"].as_str().unwrap().len(), bytes.max("load run7 0000000007 ".len()));
            content.mail_json(7, &mut json);
            let mail: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(mail["to"][0], "r0000000007@sink.example");
            assert_eq!(mail["text"].as_str().unwrap().len(), bytes);
        }
    }

    #[test]
    fn a_class_stands_in_the_header_or_the_object() {
        let options = Options { class: Some(Class::Otp), message_bytes: 500, ..Options::default() };
        let content = Content::new(Arc::new(options), "run7".into(), Timestamp::from_seconds(0));
        let (mut header, mut json) = (String::new(), String::new());
        let body = content.mail(1, &mut header).len();
        assert!(header.ends_with("\r\nX-Postrider-Class: otp\r\n\r\n"), "{header}");
        assert!((499..=500).contains(&(header.len() + body)));
        for write in [Content::mail_json, Content::text_json] {
            write(&content, 1, &mut json);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["class"], "otp");
        }
    }

    #[test]
    fn a_whole_number_is_used_as_it_is() {
        let options = Options { number_prefix: "+8613800138000".to_owned(), number_digits: 0, ..Options::default() };
        let mut json = String::new();
        Content::new(Arc::new(options), "run7".into(), Timestamp::from_seconds(0)).text_json(7, &mut json);
        assert!(json.starts_with(r#"{"to":"+8613800138000","text":"#), "{json}");
    }
}
