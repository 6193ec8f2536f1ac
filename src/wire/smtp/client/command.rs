//! Commands as bytes (RFC 5321 section 4.1, RFC 1870, 3030, 3461, 6152, 6531, 8689).
//!
//! **Promises.** Each call appends exactly one line. Addresses are well-formed by their type; whatever else came from a
//! client (ENVID, ORCPT) is left out unless it is printable ASCII without spaces. An extension's parameter is written only
//! to a peer that offers the extension.

use std::io::Write;

use super::Capabilities;
use crate::model::{BodyKind, Mailbox, Notify, OriginalRecipient, Ret, ReversePath};

/// MAIL and its parameters.
#[derive(Clone, Copy, Debug)]
pub struct MailCommand<'a> {
    /// Who gets notifications.
    pub reverse_path: &'a ReversePath,
    /// Bytes of the message as it will be sent, dots not stuffed.
    pub size: u64,
    /// The content's kind.
    pub body: BodyKind,
    /// The mail needs SMTPUTF8; asked for only of a peer that offers it.
    pub smtputf8: bool,
    /// REQUIRETLS; said only to a peer that offers it.
    pub require_tls: bool,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, xtext-encoded.
    pub envid: Option<&'a str>,
}

/// RCPT and its parameters.
#[derive(Clone, Copy, Debug)]
pub struct RcptCommand<'a> {
    /// Where it goes.
    pub forward_path: &'a Mailbox,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub original: Option<&'a OriginalRecipient>,
}

/// Appends EHLO.
pub fn ehlo(hostname: &str, out: &mut Vec<u8>) {
    line(out, format_args!("EHLO {}", argument(hostname)));
}

/// Appends HELO.
pub fn helo(hostname: &str, out: &mut Vec<u8>) {
    line(out, format_args!("HELO {}", argument(hostname)));
}

/// Appends MAIL with the parameters the peer understands.
pub fn mail(command: &MailCommand<'_>, peer: &Capabilities, out: &mut Vec<u8>) {
    let utf8 = command.smtputf8 && peer.smtputf8;
    out.extend_from_slice(b"MAIL FROM:<");
    if let ReversePath::Mailbox(mailbox) = command.reverse_path {
        path(mailbox, utf8, out);
    }
    out.push(b'>');
    if peer.size {
        // A Vec takes every write; the result is there for other writers.
        let _ = write!(out, " SIZE={}", command.size);
    }
    if peer.eight_bit_mime && command.body == BodyKind::EightBit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    if utf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if command.require_tls && peer.require_tls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    if peer.dsn {
        match command.ret {
            Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = command.envid.filter(|e| is_word(e)) {
            out.extend_from_slice(b" ENVID=");
            out.extend_from_slice(envid.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends RCPT with the parameters the peer understands. `utf8` says that MAIL carried SMTPUTF8.
pub fn rcpt(command: &RcptCommand<'_>, utf8: bool, peer: &Capabilities, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RCPT TO:<");
    path(command.forward_path, utf8 && peer.smtputf8, out);
    out.push(b'>');
    if peer.dsn {
        if let Some(notify) = command.notify {
            out.extend_from_slice(b" NOTIFY=");
            out.extend_from_slice(notify_words(notify).as_bytes());
        }
        if let Some(original) = command.original.filter(|o| is_word(&o.kind) && is_word(&o.xtext)) {
            let _ = write!(out, " ORCPT={};{}", original.kind, original.xtext);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends DATA.
pub fn data(out: &mut Vec<u8>) {
    out.extend_from_slice(b"DATA\r\n");
}

/// Appends BDAT for a message that is one chunk.
pub fn bdat_last(bytes: u64, out: &mut Vec<u8>) {
    line(out, format_args!("BDAT {bytes} LAST"));
}

/// Appends STARTTLS.
pub fn starttls(out: &mut Vec<u8>) {
    out.extend_from_slice(b"STARTTLS\r\n");
}

/// Appends RSET.
pub fn rset(out: &mut Vec<u8>) {
    out.extend_from_slice(b"RSET\r\n");
}

/// Appends QUIT.
pub fn quit(out: &mut Vec<u8>) {
    out.extend_from_slice(b"QUIT\r\n");
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = write!(out, "{text}\r\n");
}

/// A peer without SMTPUTF8 is given the domain in A-labels; a local part beyond ASCII never gets here without it.
fn path(mailbox: &Mailbox, utf8: bool, out: &mut Vec<u8>) {
    match mailbox.domain().to_ascii() {
        Ok(domain) if !utf8 => {
            let _ = write!(out, "{}@{domain}", mailbox.local());
        }
        _ => {
            let _ = write!(out, "{mailbox}");
        }
    }
}

fn notify_words(notify: Notify) -> String {
    let words: Vec<_> = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")]
        .into_iter()
        .filter_map(|(wanted, word)| wanted.then_some(word))
        .collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}

/// Printable ASCII without spaces: all that xtext and atoms are made of.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Our own name, from the configuration; a bad one must not break the line.
fn argument(hostname: &str) -> &str {
    if is_word(hostname) { hostname } else { "localhost" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Capabilities {
        Capabilities {
            size: true,
            size_max: None,
            pipelining: true,
            eight_bit_mime: true,
            starttls: true,
            smtputf8: true,
            chunking: true,
            dsn: true,
            require_tls: true,
            enhanced_status_codes: true,
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn mail_says_only_what_the_peer_understands() {
        let from = ReversePath::Mailbox(Mailbox::parse("Lin@Shop.example").unwrap());
        let mut command = MailCommand {
            reverse_path: &from,
            size: 1234,
            body: BodyKind::EightBit,
            smtputf8: true,
            require_tls: true,
            ret: Some(Ret::Headers),
            envid: Some("a+20b"),
        };
        assert_eq!(
            text(|o| mail(&command, &everything(), o)),
            "MAIL FROM:<Lin@shop.example> SIZE=1234 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+20b\r\n"
        );
        assert_eq!(text(|o| mail(&command, &Capabilities::default(), o)), "MAIL FROM:<Lin@shop.example>\r\n");
        command.envid = Some("a\r\nRCPT TO:<x@y>");
        command.reverse_path = &ReversePath::Null;
        command.body = BodyKind::SevenBit;
        (command.smtputf8, command.require_tls) = (false, false);
        assert_eq!(text(|o| mail(&command, &everything(), o)), "MAIL FROM:<> SIZE=1234 RET=HDRS\r\n");
    }

    #[test]
    fn rcpt_carries_dsn_parameters_only_where_offered() {
        let to = Mailbox::parse("a@b.example").unwrap();
        let original = OriginalRecipient { kind: "rfc822".into(), xtext: "x+40y".into() };
        let notify = |success, failure, delay| Some(Notify { success, failure, delay });
        let command = RcptCommand { forward_path: &to, notify: notify(true, true, false), original: Some(&original) };
        assert_eq!(
            text(|o| rcpt(&command, false, &everything(), o)),
            "RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+40y\r\n"
        );
        assert_eq!(text(|o| rcpt(&command, false, &Capabilities::default(), o)), "RCPT TO:<a@b.example>\r\n");
        let command = RcptCommand { forward_path: &to, notify: Some(Notify::NEVER), original: None };
        assert_eq!(text(|o| rcpt(&command, false, &everything(), o)), "RCPT TO:<a@b.example> NOTIFY=NEVER\r\n");
    }

    #[test]
    fn domains_go_out_in_a_labels_unless_smtputf8_is_spoken() {
        let to = Mailbox::parse("a@例子.公司").unwrap();
        let command = RcptCommand { forward_path: &to, notify: None, original: None };
        let a_labels = "RCPT TO:<a@xn--fsqu00a.xn--55qx5d>\r\n";
        assert_eq!(text(|o| rcpt(&command, false, &everything(), o)), a_labels);
        assert_eq!(text(|o| rcpt(&command, true, &Capabilities::default(), o)), a_labels);
        assert_eq!(text(|o| rcpt(&command, true, &everything(), o)), "RCPT TO:<a@例子.公司>\r\n");
    }

    #[test]
    fn a_bad_host_name_cannot_break_the_line() {
        assert_eq!(text(|o| ehlo("relay.example", o)), "EHLO relay.example\r\n");
        assert_eq!(text(|o| ehlo("a\r\nQUIT", o)), "EHLO localhost\r\n");
        assert_eq!(text(|o| helo("", o)), "HELO localhost\r\n");
        assert_eq!(text(|o| bdat_last(42, o)), "BDAT 42 LAST\r\n");
    }
}
