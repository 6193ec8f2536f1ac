//! The trace field (RFC 5321 section 4.4, RFC 3848).
//!
//! **Promises.** Whatever the peer called itself, the field is well-formed: what it said is reduced to the characters of
//! names and address literals. Folded under 78 characters wherever a word is not longer than that.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::model::{Mailbox, MessageId};

/// What the Received field says (RFC 5321 section 4.4).
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// What the client called itself in EHLO, or nothing for HTTP.
    pub helo: Option<&'a str>,
    /// Where it came from.
    pub peer: IpAddr,
    /// Our host name.
    pub by: &'a str,
    /// `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA`, `UTF8SMTPSA` … (RFC 3848, RFC 6531), or `HTTP`.
    pub protocol: &'a str,
    /// TLS version and suite, if any.
    pub tls: Option<&'a str>,
    /// The message's id.
    pub id: MessageId,
    /// The only recipient; `None` where there are several, so that none learns of another.
    pub only_recipient: Option<&'a Mailbox>,
    /// Now.
    pub time: Timestamp,
    /// More Received fields than this are a loop.
    pub hops_max: usize,
}

impl Trace<'_> {
    /// Appends the Received field; `date` is the time of the trace as RFC 5322 writes it.
    pub(super) fn write(&self, date: &str, out: &mut Vec<u8>) {
        let literal = match self.peer.to_canonical() {
            IpAddr::V4(ip) => format!("[{ip}]"),
            IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        };
        let mut field = Folding { out, column: 0 };
        field.word("Received:");
        match self.helo.map(host_characters).filter(|h| !h.is_empty() && *h != literal) {
            Some(helo) => {
                field.clause("from", &helo);
                field.word(&format!("({literal})"));
            }
            None => field.clause("from", &literal),
        }
        field.clause("by", &host_characters(self.by));
        field.clause("with", &host_characters(self.protocol));
        if let Some(tls) = self.tls {
            let comment: String = tls.chars().filter(|c| matches!(c, ' '..='~') && !"()\\".contains(*c)).collect();
            field.word(&format!("({comment})"));
        }
        // A UTF-8 address here would make the whole mail need SMTPUTF8 (RFC 6531 section 3.7.3); it is left out.
        match self.only_recipient.filter(|r| !r.needs_smtputf8()) {
            Some(recipient) => {
                field.clause("id", &self.id.to_string());
                field.clause("for", &format!("<{recipient}>;"));
            }
            None => field.clause("id", &format!("{};", self.id)),
        }
        field.word(date);
        field.out.extend_from_slice(b"\r\n");
    }
}

/// Words with a space or a fold between them.
struct Folding<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
}

impl Folding<'_> {
    fn word(&mut self, word: &str) {
        if self.column > 0 {
            let fits = self.column + 1 + word.len() <= LINE_BYTES;
            self.out.extend_from_slice(if fits { b" " } else { b"\r\n\t" });
            self.column = if fits { self.column + 1 } else { 1 };
        }
        self.out.extend_from_slice(word.as_bytes());
        self.column += word.len();
    }

    /// A keyword and its word, on one line if they fit on one.
    fn clause(&mut self, keyword: &str, word: &str) {
        if keyword.len() + 1 + word.len() < LINE_BYTES {
            self.word(&format!("{keyword} {word}"));
        } else {
            self.word(keyword);
            self.word(word);
        }
    }
}

/// RFC 5322 section 2.1.1.
const LINE_BYTES: usize = 78;

/// A peer's longest name that we repeat (RFC 5321 section 4.5.3.1.2).
const NAME_BYTES_MAX: usize = 255;

/// The text without what no name or address literal holds.
fn host_characters(text: &str) -> Cow<'_, str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if text.len() <= NAME_BYTES_MAX && text.chars().all(fine) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(NAME_BYTES_MAX).map(|c| if fine(c) { c } else { '?' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trace<'a>(helo: Option<&'a str>, only_recipient: Option<&'a Mailbox>) -> Trace<'a> {
        Trace {
            helo,
            peer: "192.0.2.7".parse().unwrap(),
            by: "relay.example.com",
            protocol: "ESMTPSA",
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
            id: MessageId::from_bytes([7; 16]),
            only_recipient,
            time: Timestamp(1_795_415_040_000_000),
            hops_max: 30,
        }
    }

    fn written(trace: &Trace<'_>) -> String {
        let mut out = Vec::new();
        trace.write(&trace.time.rfc5322(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_who_where_how_and_when() {
        let to = Mailbox::parse("someone@example.net").unwrap();
        assert_eq!(
            written(&trace(Some("shop.example"), Some(&to))),
            "Received: from shop.example ([192.0.2.7]) by relay.example.com with ESMTPSA\r\n\
             \t(TLSv1.3 TLS_AES_256_GCM_SHA384) id 070w3ge1r70w3ge1r70w3ge1r7\r\n\
             \tfor <someone@example.net>; Mon, 23 Nov 2026 06:24:00 +0000\r\n"
        );
    }

    #[test]
    fn by_http_there_is_no_name_and_for_several_no_recipient() {
        let mut http = trace(None, None);
        http.peer = "2001:db8::1".parse().unwrap();
        http.protocol = "HTTP";
        http.tls = None;
        let id = MessageId::from_bytes([7; 16]);
        assert_eq!(
            written(&http),
            format!(
                "Received: from [IPv6:2001:db8::1] by relay.example.com with HTTP\r\n\tid {id}; Mon, 23 Nov 2026 06:24:00 +0000\r\n"
            )
        );
        let wide = Mailbox::parse("张三@example.com").unwrap();
        assert!(written(&trace(None, Some(&wide))).contains(&format!("id {id};")));
        assert!(written(&trace(None, Some(&wide))).is_ascii());
    }

    proptest! {
        #[test]
        fn no_peer_can_break_it(helo in any::<String>(), long in 0usize..600) {
            for helo in [helo.as_str(), &"x".repeat(long), "a) by evil (\r\nX: y", "a\0b"] {
                let text = written(&trace(Some(helo), None));
                prop_assert_eq!(super::super::header::fields(text.as_bytes()).count(), 1);
                prop_assert_eq!(text.matches('(').count(), text.matches(')').count());
                prop_assert!(text.bytes().all(|b| matches!(b, b'\r' | b'\n' | b'\t' | b' '..=b'~')));
                for line in text.split("\r\n") {
                    prop_assert!(line.len() <= 78 || !line.trim_start().contains(' '), "{}", line);
                }
            }
        }
    }
}
