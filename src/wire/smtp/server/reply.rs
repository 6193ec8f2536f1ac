//! Replies: how they are written, and one function from each peer fault to its reply.
//!
//! **Promises.** Every reply carries an enhanced status code (RFC 2034) except those that must not: the greeting, the
//! replies to EHLO and HELO, and 3yz. A reply's text is printable US-ASCII on one line, whatever went into it, so nothing
//! a peer sent can come back as a second reply. Outside this module only negative replies can be made; the positive one to
//! end-of-data needs a [`Responsibility`](crate::model::Responsibility).

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::command::CommandFault;
use super::data::MessageFault;
use crate::model::{AddressError, EnhancedStatus};

/// A 4yz or 5yz reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NegativeReply {
    code: u16,
    status: EnhancedStatus,
    text: Cow<'static, str>,
}

impl NegativeReply {
    /// `code` 4yz or 5yz, `status` as (subject, detail); the class is the code's. A code outside 400–599 becomes 451: no
    /// negative reply can turn into a yes.
    pub fn new(code: u16, (subject, detail): (u16, u16), text: impl Into<Cow<'static, str>>) -> Self {
        let code = if (400..600).contains(&code) { code } else { 451 };
        let class = if code < 500 { 4 } else { 5 };
        Self { code, status: EnhancedStatus::new(class, subject, detail), text: text.into() }
    }

    /// The reply code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code.
    pub fn status(&self) -> EnhancedStatus {
        self.status
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True for 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        line(out, self.code, ' ', Some(self.status), &self.text);
    }
}

/// Writes a 2yz reply with an enhanced status code.
pub(super) fn positive(out: &mut BytesMut, code: u16, (subject, detail): (u16, u16), text: &str) {
    line(out, code, ' ', Some(EnhancedStatus::new(2, subject, detail)), text);
}

/// Writes a reply without an enhanced status code: greeting, EHLO, 3yz.
pub(super) fn plain(out: &mut BytesMut, code: u16, text: &str) {
    line(out, code, ' ', None, text);
}

/// Writes a line of a multi-line reply that is not its last.
pub(super) fn continued(out: &mut BytesMut, code: u16, text: &str) {
    line(out, code, '-', None, text);
}

fn line(out: &mut BytesMut, code: u16, separator: char, status: Option<EnhancedStatus>, text: &str) {
    // Writing to BytesMut fails only when memory does.
    let _ = write!(out, "{code}{separator}");
    if let Some(status) = status {
        let _ = write!(out, "{status} ");
    }
    // RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets. Codes, separators and CRLF leave some 490.
    for c in text.chars().take(REPLY_TEXT_MAX) {
        // RFC 6531 section 3.7.4.2: no UTF-8 unless the client asked for it, and never a control character.
        out.put_u8(if matches!(c, ' '..='~') { c as u8 } else { b'?' });
    }
    out.put_slice(b"\r\n");
}

const REPLY_TEXT_MAX: usize = 480;

/// The reply to a command that cannot be understood: one variant, one reply.
pub(super) fn to_command_fault(fault: &CommandFault) -> NegativeReply {
    let reply = |code, status, text: &'static str| NegativeReply::new(code, status, text);
    match fault {
        CommandFault::LineTooLong => reply(500, (5, 2), "Command line too long"),
        CommandFault::BareLf => reply(500, (5, 2), "Bare LF: command lines end with CRLF"),
        CommandFault::BareCr => reply(500, (5, 2), "Bare CR in command line"),
        CommandFault::Nul => reply(500, (5, 2), "NUL in command line"),
        CommandFault::NotUtf8 => reply(500, (5, 2), "Command line is neither US-ASCII nor UTF-8"),
        CommandFault::Unknown => reply(500, (5, 1), "Unknown command"),
        CommandFault::NotImplemented => reply(502, (5, 1), "Command not implemented"),
        CommandFault::Argument(expected) => NegativeReply::new(501, (5, 4), format!("Expected: {expected}")),
        CommandFault::UnknownParameter(name) => {
            NegativeReply::new(555, (5, 4), format!("Parameter {name} not recognised or not implemented"))
        }
        CommandFault::BadParameter(name) => {
            NegativeReply::new(501, (5, 4), format!("Bad or repeated parameter {name}"))
        }
        CommandFault::ReversePath(e) => to_address_fault((1, 7), *e),
        CommandFault::ForwardPath(e) => to_address_fault((1, 3), *e),
        CommandFault::Mechanism => reply(504, (5, 4), "Authentication mechanism not supported; PLAIN and LOGIN are"),
    }
}

fn to_address_fault(status: (u16, u16), error: AddressError) -> NegativeReply {
    NegativeReply::new(501, status, error.to_string())
}

/// The reply to a message that was read to its end and cannot be taken.
pub(super) fn to_message_fault(fault: &MessageFault) -> NegativeReply {
    match fault {
        MessageFault::Content(_) | MessageFault::LongLine { .. } => NegativeReply::new(554, (6, 0), fault.to_string()),
        MessageFault::TooLarge { .. } => NegativeReply::new(552, (3, 4), fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(reply: &NegativeReply) -> String {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_negative_reply_has_the_class_of_its_code() {
        assert_eq!(written(&NegativeReply::new(550, (7, 1), "No")), "550 5.7.1 No\r\n");
        assert_eq!(written(&NegativeReply::new(452, (3, 1), "Full")), "452 4.3.1 Full\r\n");
        assert_eq!(NegativeReply::new(250, (0, 0), "never a yes").code(), 451);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_second_reply(text in "\\PC{0,40}|[\r\n\0 -~]{0,600}") {
            let line = written(&NegativeReply::new(550, (7, 1), text));
            prop_assert!(line.ends_with("\r\n") && line.len() <= 512);
            prop_assert!(line[..line.len() - 2].bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
    }
}
