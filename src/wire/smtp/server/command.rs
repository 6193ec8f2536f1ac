//! The commands: one line in, one [`Command`] or one [`CommandFault`] out.
//!
//! **Promises.** A line ends with CRLF and holds no other CR, LF or NUL (RFC 5321 section 2.3.8); what follows is US-ASCII
//! or UTF-8. Verbs and keywords are taken in any case, addresses as they are written. Never panics on any bytes.
//!
//! **Does not know** in which order commands may come: that is `state`'s.

use super::parameters;
use crate::model::{AddressError, BodyKind, Mailbox, Recipient, Ret, ReversePath};
use std::sync::Arc;

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// EHLO, with what the client calls itself.
    Ehlo(&'a str),
    /// HELO, likewise.
    Helo(&'a str),
    /// MAIL.
    Mail(MailCommand),
    /// RCPT.
    Rcpt(RcptCommand),
    /// DATA.
    Data,
    /// BDAT (RFC 3030).
    Bdat(Chunk),
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// QUIT.
    Quit,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// Which mechanism.
        mechanism: Mechanism,
        /// The initial response, still base64.
        initial: Option<&'a str>,
    },
}

/// MAIL: the sender's side of the envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailCommand {
    /// Where notifications go.
    pub reverse_path: ReversePath,
    /// SIZE (RFC 1870): what the client says the message has.
    pub size: Option<u64>,
    /// BODY (RFC 6152); what the content really is shows when it is here.
    pub body: BodyKind,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689 section 2).
    pub require_tls: bool,
    /// RET (RFC 3461 section 4.3).
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 section 4.4), still xtext.
    pub envid: Option<Arc<str>>,
}

/// RCPT: one recipient with its DSN parameters. Its address is a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RcptCommand {
    /// The forward-path.
    pub mailbox: Mailbox,
    /// The recipient as the envelope keeps it.
    pub recipient: Recipient,
}

/// The announcement of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Octets that follow the command.
    pub bytes: u64,
    /// It is the message's last.
    pub last: bool,
}

/// The SASL mechanisms we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: no standard, and what many applications send.
    Login,
}

/// Why a line is no command: one variant per peer fault; `reply` has the reply to each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandFault {
    /// Longer than [`COMMAND_LINE_BYTES_MAX`](crate::limits::COMMAND_LINE_BYTES_MAX).
    LineTooLong,
    /// Ended by LF alone.
    BareLf,
    /// A CR inside.
    BareCr,
    /// A NUL inside.
    Nul,
    /// Neither US-ASCII nor UTF-8.
    NotUtf8,
    /// No such command.
    Unknown,
    /// An SMTP command that we do not offer.
    NotImplemented,
    /// The argument does not follow the grammar; what would.
    Argument(&'static str),
    /// A MAIL or RCPT parameter of no extension we announce.
    UnknownParameter(String),
    /// A parameter with a bad value, or given twice.
    BadParameter(&'static str),
    /// The address in MAIL is none.
    ReversePath(AddressError),
    /// The address in RCPT is none.
    ForwardPath(AddressError),
    /// AUTH with a mechanism that is neither PLAIN nor LOGIN.
    Mechanism,
}

/// Checks the ends and the octets of a line, LF included, and returns it without its CRLF.
///
/// # Errors
/// The line's own faults: [`CommandFault::BareLf`], `BareCr`, `Nul`, `NotUtf8`.
pub fn line_text(line: &[u8]) -> Result<&str, CommandFault> {
    let text = line.strip_suffix(b"\r\n").ok_or(CommandFault::BareLf)?;
    match memchr::memchr3(b'\r', b'\n', 0, text).map(|at| text[at]) {
        None => std::str::from_utf8(text).map_err(|_| CommandFault::NotUtf8),
        Some(b'\r') => Err(CommandFault::BareCr),
        Some(0) => Err(CommandFault::Nul),
        Some(_) => Err(CommandFault::BareLf),
    }
}

impl<'a> Command<'a> {
    /// Parses one line, LF included.
    ///
    /// # Errors
    /// [`CommandFault`].
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandFault> {
        let text = line_text(line)?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let argument = rest.trim_matches(' ');
        let mut upper = [0; 8];
        let upper = match upper.get_mut(..verb.len()) {
            Some(upper) => {
                upper.copy_from_slice(verb.as_bytes());
                upper.make_ascii_uppercase();
                &*upper
            }
            None => return Err(CommandFault::Unknown),
        };
        match upper {
            b"EHLO" => hello(argument).map(Self::Ehlo),
            b"HELO" => hello(argument).map(Self::Helo),
            b"MAIL" => mail(argument).map(Self::Mail),
            b"RCPT" => rcpt(argument).map(Self::Rcpt),
            b"DATA" => bare(argument, Self::Data),
            b"BDAT" => chunk(argument).map(Self::Bdat),
            b"RSET" => bare(argument, Self::Rset),
            b"NOOP" => Ok(Self::Noop),
            b"VRFY" if argument.is_empty() => Err(CommandFault::Argument("VRFY user")),
            b"VRFY" => Ok(Self::Vrfy),
            b"QUIT" => bare(argument, Self::Quit),
            b"STARTTLS" => bare(argument, Self::StartTls),
            b"AUTH" => auth(argument),
            b"EXPN" | b"HELP" | b"TURN" | b"ETRN" | b"SEND" | b"SOML" | b"SAML" => Err(CommandFault::NotImplemented),
            _ => Err(CommandFault::Unknown),
        }
    }
}

fn bare<'a>(argument: &str, command: Command<'a>) -> Result<Command<'a>, CommandFault> {
    if argument.is_empty() { Ok(command) } else { Err(CommandFault::Argument("the command without an argument")) }
}

/// A host name or address literal. It goes into the Received field, so nothing that could break out of it is taken;
/// beyond that no name is refused (RFC 5321 section 4.1.4), for many an application sends none that would resolve.
fn hello(argument: &str) -> Result<&str, CommandFault> {
    let clean = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c) || (!c.is_ascii() && c.is_alphanumeric());
    if argument.is_empty() || argument.len() > 255 || !argument.chars().all(clean) {
        return Err(CommandFault::Argument("EHLO or HELO with a host name or an address literal"));
    }
    Ok(argument)
}

const MAIL_SYNTAX: CommandFault = CommandFault::Argument("MAIL FROM:<address> [parameters]");
const RCPT_SYNTAX: CommandFault = CommandFault::Argument("RCPT TO:<address> [parameters]");

fn mail(argument: &str) -> Result<MailCommand, CommandFault> {
    let (path, rest) = path(argument, "FROM:").ok_or(MAIL_SYNTAX)?;
    let reverse_path = match path {
        "" => ReversePath::Null,
        path => ReversePath::Mailbox(Mailbox::parse(without_source_route(path)).map_err(CommandFault::ReversePath)?),
    };
    parameters::mail(reverse_path, rest)
}

fn rcpt(argument: &str) -> Result<RcptCommand, CommandFault> {
    let (path, rest) = path(argument, "TO:").ok_or(RCPT_SYNTAX)?;
    let mailbox = Mailbox::parse(without_source_route(path)).map_err(CommandFault::ForwardPath)?;
    parameters::rcpt(mailbox, rest)
}

/// Takes `FROM:<path>` apart: the path between the brackets and the parameters behind it. A space behind the colon is let
/// pass, for it is common and cannot be misread.
fn path<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = (argument.get(..keyword.len())?, argument.get(keyword.len()..)?);
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let inside = tail.trim_start_matches(' ').strip_prefix('<')?;
    let end = closing_bracket(inside)?;
    let rest = &inside[end + 1..];
    (rest.is_empty() || rest.starts_with(' ')).then_some((&inside[..end], rest))
}

/// The `>` that ends a path; one inside a quoted local part does not.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Drops `@a,@b:` (RFC 5321 section 4.1.1.3: accept, and ignore).
fn without_source_route(path: &str) -> &str {
    if path.starts_with('@') { path.split_once(':').map_or(path, |(_, mailbox)| mailbox) } else { path }
}

fn chunk(argument: &str) -> Result<Chunk, CommandFault> {
    const SYNTAX: CommandFault = CommandFault::Argument("BDAT octets [LAST]");
    let (size, rest) = argument.split_once(' ').unwrap_or((argument, ""));
    let last = match rest.trim_start_matches(' ') {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(SYNTAX),
    };
    Ok(Chunk { bytes: parameters::number(size).ok_or(SYNTAX)?, last })
}

fn auth(argument: &str) -> Result<Command<'_>, CommandFault> {
    let (name, rest) = argument.split_once(' ').unwrap_or((argument, ""));
    let mechanism = match name {
        "" => return Err(CommandFault::Argument("AUTH mechanism [initial-response]")),
        name if name.eq_ignore_ascii_case("PLAIN") => Mechanism::Plain,
        name if name.eq_ignore_ascii_case("LOGIN") => Mechanism::Login,
        _ => return Err(CommandFault::Mechanism),
    };
    let initial = rest.trim_start_matches(' ');
    Ok(Command::Auth { mechanism, initial: (!initial.is_empty()).then_some(initial) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Notify, OriginalRecipient};
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command<'_>, CommandFault> {
        Command::parse(line.as_bytes())
    }

    fn parse_mail(rest: &str) -> Result<MailCommand, CommandFault> {
        match Command::parse(format!("MAIL FROM:{rest}\r\n").as_bytes())? {
            Command::Mail(m) => Ok(m),
            other => panic!("{other:?}"),
        }
    }

    fn parse_rcpt(rest: &str) -> Result<RcptCommand, CommandFault> {
        match Command::parse(format!("RCPT TO:{rest}\r\n").as_bytes())? {
            Command::Rcpt(r) => Ok(r),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_crlf_ends_a_command() {
        assert_eq!(parse("NOOP\r\n"), Ok(Command::Noop));
        assert_eq!(parse("NOOP\n"), Err(CommandFault::BareLf));
        assert_eq!(parse("NOOP\rQUIT\r\n"), Err(CommandFault::BareCr));
        assert_eq!(parse("NOOP\r\r\n"), Err(CommandFault::BareCr));
        assert_eq!(parse("NO\0OP\r\n"), Err(CommandFault::Nul));
        assert_eq!(Command::parse(b"NOOP \xff\r\n"), Err(CommandFault::NotUtf8));
    }

    #[test]
    fn verbs_are_taken_in_any_case() {
        assert_eq!(parse("ehlo client.example\r\n"), Ok(Command::Ehlo("client.example")));
        assert_eq!(parse("HELO [192.0.2.1]\r\n"), Ok(Command::Helo("[192.0.2.1]")));
        assert_eq!(parse("StartTls\r\n"), Ok(Command::StartTls));
        assert_eq!(parse("DATA \r\n"), Ok(Command::Data), "a space at the end is common");
        assert_eq!(parse("BDAT 10 last\r\n"), Ok(Command::Bdat(Chunk { bytes: 10, last: true })));
        assert_eq!(
            parse("auth plain AGE=\r\n"),
            Ok(Command::Auth { mechanism: Mechanism::Plain, initial: Some("AGE=") })
        );
        assert_eq!(parse("AUTH LOGIN\r\n"), Ok(Command::Auth { mechanism: Mechanism::Login, initial: None }));
    }

    #[test]
    fn bad_commands_are_named() {
        for (line, fault) in [
            ("\r\n", CommandFault::Unknown),
            ("GET / HTTP/1.1\r\n", CommandFault::Unknown),
            ("STARTTLSX\r\n", CommandFault::Unknown),
            ("HELP\r\n", CommandFault::NotImplemented),
            ("AUTH CRAM-MD5\r\n", CommandFault::Mechanism),
            ("AUTH GSSAPI\r\n", CommandFault::Mechanism),
        ] {
            assert_eq!(parse(line), Err(fault), "{line:?}");
        }
        for line in
            ["EHLO\r\n", "EHLO a b\r\n", "EHLO a(b)\r\n", "DATA now\r\n", "BDAT\r\n", "BDAT -1\r\n", "BDAT 5 FIRST\r\n"]
        {
            assert!(matches!(parse(line), Err(CommandFault::Argument(_))), "{line:?}");
        }
        assert!(matches!(parse("BDAT 99999999999999999999\r\n"), Err(CommandFault::Argument(_))));
    }

    #[test]
    fn paths_are_taken_apart() {
        let reverse = |rest: &str| parse_mail(rest).map(|m| m.reverse_path.to_string());
        assert_eq!(reverse("<a@b.example>"), Ok("a@b.example".to_owned()));
        assert_eq!(reverse(" <a@b.example>"), Ok("a@b.example".to_owned()));
        assert_eq!(reverse("<>"), Ok(String::new()));
        assert_eq!(reverse("<\"a> b\"@c.example> SIZE=1"), Ok("\"a> b\"@c.example".to_owned()));
        assert_eq!(reverse("<@x.example,@y.example:a@b.example>"), Ok("a@b.example".to_owned()));
        for bad in ["a@b.example", "<a@b.example", "<a@b.example>SIZE=1", "", "<\"a@b.example>"] {
            assert_eq!(reverse(bad), Err(MAIL_SYNTAX), "{bad:?}");
        }
        assert_eq!(reverse("<a>"), Err(CommandFault::ReversePath(AddressError::NoAt)));
        assert_eq!(reverse("<a@b@>"), Err(CommandFault::ReversePath(AddressError::BadLocalPart)));
        assert!(matches!(parse_rcpt("<>"), Err(CommandFault::ForwardPath(_))));
        assert!(matches!(parse("MAIL TO:<a@b>\r\n"), Err(CommandFault::Argument(_))));
    }

    #[test]
    fn mail_parameters_are_checked() {
        let m = parse_mail("<a@b> SIZE=12 body=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ+3D1 AUTH=<>").unwrap();
        assert_eq!((m.size, m.body, m.smtputf8, m.ret), (Some(12), BodyKind::EightBit, true, Some(Ret::Headers)));
        assert_eq!(m.envid.as_deref(), Some("QQ+3D1"));
        for (bad, fault) in [
            ("SIZE=", CommandFault::BadParameter("SIZE")),
            ("SIZE", CommandFault::BadParameter("SIZE")),
            ("SIZE=+1", CommandFault::BadParameter("SIZE")),
            ("SIZE=1 SIZE=1", CommandFault::BadParameter("SIZE")),
            ("BODY=BINARYMIME", CommandFault::BadParameter("BODY")),
            ("SMTPUTF8=1", CommandFault::BadParameter("SMTPUTF8")),
            ("RET=ALL", CommandFault::BadParameter("RET")),
            ("ENVID=a+b", CommandFault::BadParameter("ENVID")),
            ("ENVID=a+2b", CommandFault::BadParameter("ENVID")),
            ("ENVID=a=b", CommandFault::BadParameter("ENVID")),
            ("ENVID=", CommandFault::BadParameter("ENVID")),
            ("AUTH=<", CommandFault::BadParameter("AUTH")),
            ("NOTIFY=NEVER", CommandFault::UnknownParameter("NOTIFY".to_owned())),
            ("X=1", CommandFault::UnknownParameter("X".to_owned())),
        ] {
            assert_eq!(parse_mail(&format!("<a@b> {bad}")), Err(fault), "{bad}");
        }
        assert!(parse_mail(&format!("<a@b> ENVID={}", "a".repeat(101))).is_err());
    }

    #[test]
    fn rcpt_parameters_are_checked() {
        let r = parse_rcpt("<a@b> NOTIFY=success,DELAY ORCPT=rfc822;Bob+40Example.com").unwrap().recipient;
        assert_eq!(r.notify, Some(Notify { success: true, failure: false, delay: true }));
        let original = OriginalRecipient { kind: "rfc822".into(), xtext: "Bob+40Example.com".into() };
        assert_eq!(r.original, Some(original));
        assert_eq!(parse_rcpt("<a@b> NOTIFY=NEVER").unwrap().recipient.notify, Some(Notify::NEVER));
        assert!(parse_rcpt("<a@b> ORCPT=utf-8;用户@例子.公司").is_ok());
        for bad in [
            "NOTIFY=",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=DELAY,DELAY",
            "NOTIFY=X",
            "ORCPT=rfc822",
            "ORCPT=;a",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+4",
            "ORCPT=rfc822;用",
            "ORCPT=a(b;c",
        ] {
            assert!(matches!(parse_rcpt(&format!("<a@b> {bad}")), Err(CommandFault::BadParameter(_))), "{bad}");
        }
        assert!(matches!(parse_rcpt("<a@b> SIZE=1"), Err(CommandFault::UnknownParameter(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn no_line_makes_the_parser_panic(head in "(MAIL FROM:|RCPT TO:|AUTH |BDAT |EHLO )?", tail in "[<>@\"\\\\ =+;,a-zA-Z0-9.:\u{e9}\u{4f60}]{0,60}") {
            if let Ok(Command::Mail(m)) = parse(&format!("{head}{tail}\r\n")) {
                let again = parse_mail(&format!("<{}>", m.reverse_path)).map(|m| m.reverse_path);
                prop_assert_eq!(again, Ok(m.reverse_path));
            }
        }
    }
}
