//! The author's domains: the From field (RFC 5322 section 3.6.2, RFC 6854 groups), read strictly.
//!
//! **Promises.** Every domain that some receiver might take for the author's is found, or the field is refused. So a client
//! that may send only as its own domains cannot show another: an address in front of an angle address counts too, and
//! specials inside an encoded word are refused, because programs differ on what they mean.
//!
//! Linear, without recursion; comments may nest.

use std::fmt;

use super::header::{Field, fields};
use crate::model::Domain;

/// Most mailboxes a From field may name.
const MAILBOXES_MAX: usize = 64;

/// Why the author cannot be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromFault {
    /// RFC 5322 section 3.6 wants exactly one From field.
    Missing,
    /// More than one.
    Repeated,
    /// It names no mailbox.
    Empty,
    /// More than 64 mailboxes.
    TooMany,
    /// It does not follow the grammar.
    Malformed(&'static str),
}

impl fmt::Display for FromFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no From field: exactly one is required (RFC 5322 section 3.6)"),
            Self::Repeated => {
                f.write_str("there is more than one From field: exactly one is allowed (RFC 5322 section 3.6)")
            }
            Self::Empty => f.write_str("the From field names no mailbox"),
            Self::TooMany => write!(f, "the From field names more than {MAILBOXES_MAX} mailboxes"),
            Self::Malformed(why) => write!(f, "the From field cannot be understood: {why}"),
        }
    }
}

impl std::error::Error for FromFault {}

/// The domains of the From field's mailboxes in a header section, each once, in order.
///
/// # Errors
/// [`FromFault`].
pub fn from_domains(header_section: &[u8]) -> Result<Vec<Domain>, FromFault> {
    let mut from = None;
    for field in fields(header_section).filter(|f| f.is("From")) {
        if from.replace(field).is_some() {
            return Err(FromFault::Repeated);
        }
    }
    domains_of(&from.ok_or(FromFault::Missing)?)
}

/// The domains of one From field.
pub(super) fn domains_of(field: &Field<'_>) -> Result<Vec<Domain>, FromFault> {
    let value = field.value();
    let mut scanner = Scanner { rest: &value, domains: Vec::new(), mailboxes: 0, group: false };
    while scanner.address()? {}
    if scanner.domains.is_empty() { Err(FromFault::Empty) } else { Ok(scanner.domains) }
}

struct Scanner<'a> {
    rest: &'a [u8],
    domains: Vec<Domain>,
    mailboxes: usize,
    group: bool,
}

/// What ends a run of words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    At,
    Open,
    Comma,
    Colon,
    Semicolon,
}

/// A run of words, as far as it matters: could it be a local part?
#[derive(Default)]
struct Words {
    any: bool,
    /// Two words without a dot between them: a phrase.
    phrase: bool,
}

impl Scanner<'_> {
    /// Reads up to and including the next separator; false at the end.
    fn address(&mut self) -> Result<bool, FromFault> {
        let words = self.words()?;
        match self.stop()? {
            Stop::At => {
                if !words.any || words.phrase {
                    return Err(FromFault::Malformed(
                        "an @ without a local part, or a phrase outside quotes before it",
                    ));
                }
                self.domain()?;
                return self.after_mailbox(true);
            }
            Stop::Open => {
                self.angle_address()?;
                return self.after_mailbox(false);
            }
            Stop::Colon if words.any && !self.group => self.group = true,
            Stop::Colon => return Err(FromFault::Malformed("a colon that begins no group")),
            _ if words.any => return Err(FromFault::Malformed("a name without an address")),
            Stop::Semicolon => self.end_group()?,
            Stop::Comma => {}
            Stop::End => return self.end(),
        }
        Ok(true)
    }

    /// What may follow an address: a separator; or, after a bare one that was meant as a display name, an angle address.
    fn after_mailbox(&mut self, bare: bool) -> Result<bool, FromFault> {
        const MALFORMED: FromFault = FromFault::Malformed("text after an address");
        if self.words()?.any {
            return Err(MALFORMED);
        }
        match self.stop()? {
            Stop::Comma => Ok(true),
            Stop::Semicolon => self.end_group().map(|()| true),
            Stop::End => self.end(),
            Stop::Open if bare => {
                self.angle_address()?;
                self.after_mailbox(false)
            }
            Stop::Open | Stop::At | Stop::Colon => Err(MALFORMED),
        }
    }

    fn end_group(&mut self) -> Result<(), FromFault> {
        if std::mem::take(&mut self.group) {
            Ok(())
        } else {
            Err(FromFault::Malformed("a semicolon that ends no group"))
        }
    }

    fn end(&self) -> Result<bool, FromFault> {
        if self.group { Err(FromFault::Malformed("a group without an end")) } else { Ok(false) }
    }

    /// `local@domain>`, with an obsolete route before it (RFC 5322 section 4.4).
    fn angle_address(&mut self) -> Result<(), FromFault> {
        const MALFORMED: FromFault = FromFault::Malformed("no address between the angle brackets");
        let mut words = self.words()?;
        if !words.any && self.rest.first() == Some(&b'@') {
            let colon = memchr::memchr2(b':', b'>', self.rest).filter(|at| self.rest[*at] == b':').ok_or(MALFORMED)?;
            self.rest = &self.rest[colon + 1..];
            words = self.words()?;
        }
        if !words.any || words.phrase || self.stop()? != Stop::At {
            return Err(MALFORMED);
        }
        self.domain()?;
        self.white()?;
        self.rest = self.rest.strip_prefix(b">").ok_or(MALFORMED)?;
        Ok(())
    }

    /// The domain after an `@`.
    fn domain(&mut self) -> Result<(), FromFault> {
        const MALFORMED: FromFault = FromFault::Malformed("a bad domain after an @");
        self.mailboxes += 1;
        if self.mailboxes > MAILBOXES_MAX {
            return Err(FromFault::TooMany);
        }
        let mut name = Vec::new();
        loop {
            self.white()?;
            let bytes = match self.rest.first() {
                Some(b'[') if name.is_empty() => memchr::memchr(b']', self.rest).ok_or(MALFORMED)? + 1,
                Some(b'.') if !name.is_empty() && name.last() != Some(&b'.') => 1,
                Some(b) if is_atext(*b) && matches!(name.last(), None | Some(b'.')) => {
                    self.rest.iter().take_while(|b| is_atext(**b)).count()
                }
                _ => break,
            };
            let (part, rest) = self.rest.split_at(bytes);
            name.extend_from_slice(part);
            self.rest = rest;
        }
        let domain = std::str::from_utf8(&name).ok().and_then(|n| Domain::parse(n).ok()).ok_or(MALFORMED)?;
        if !self.domains.contains(&domain) {
            self.domains.push(domain);
        }
        Ok(())
    }

    /// Skips atoms, dots, quoted strings, comments and white space.
    fn words(&mut self) -> Result<Words, FromFault> {
        let mut words = Words::default();
        let mut dot = true;
        loop {
            self.white()?;
            let bytes = match self.rest.first() {
                Some(b'.') => 1,
                Some(b'"') => quoted_bytes(self.rest).ok_or(FromFault::Malformed("a quoted string without an end"))?,
                Some(b) if is_atext(*b) => self.rest.iter().take_while(|b| is_atext(**b)).count(),
                _ => return Ok(words),
            };
            let is_dot = self.rest[0] == b'.';
            words.phrase |= !is_dot && !dot;
            words.any = true;
            dot = is_dot;
            self.rest = &self.rest[bytes..];
        }
    }

    fn stop(&mut self) -> Result<Stop, FromFault> {
        let Some((first, rest)) = self.rest.split_first() else { return Ok(Stop::End) };
        self.rest = rest;
        Ok(match first {
            b'@' => Stop::At,
            b'<' => Stop::Open,
            b',' => Stop::Comma,
            b':' => Stop::Colon,
            b';' => Stop::Semicolon,
            _ => return Err(FromFault::Malformed("a character that must stand in quotes")),
        })
    }

    /// Skips white space and comments.
    fn white(&mut self) -> Result<(), FromFault> {
        let mut depth = 0usize;
        let mut bytes = self.rest.iter().enumerate();
        loop {
            let Some((at, b)) = bytes.next() else {
                self.rest = &[];
                return if depth == 0 { Ok(()) } else { Err(FromFault::Malformed("a comment without an end")) };
            };
            match b {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => {
                    bytes.next();
                }
                b' ' | b'\t' => {}
                _ if depth > 0 => {}
                _ => {
                    self.rest = &self.rest[at..];
                    return Ok(());
                }
            }
        }
    }
}

/// Bytes of the quoted string at the start, quotes included.
fn quoted_bytes(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// RFC 5322 section 3.2.3, with the octets above 127 of RFC 6532.
fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b) || !b.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains(value: &str) -> Result<String, FromFault> {
        let header = format!("From: {value}\r\n\r\n");
        from_domains(header.as_bytes()).map(|d| d.iter().map(Domain::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn mailboxes_of_every_form_are_found() {
        for (value, found) in [
            ("a@example.com", "example.com"),
            ("<a@EXAMPLE.com>", "example.com"),
            ("Joe Q. Public <john.q.public@example.com>", "example.com"),
            ("\"a, <b@evil.example>\" <a@example.com>", "example.com"),
            ("a@example.com (a, <b@evil.example> (nested \\) ))", "example.com"),
            ("(c) a (c) . b (c) @ (c) example (c) . com (c)", "example.com"),
            ("\"odd @ local\"@example.com", "example.com"),
            ("=?utf-8?B?5byg5LiJ?= <a@example.com>", "example.com"),
            ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?Q?_aus?= <a@example.com>", "example.com"),
            ("张三 <a@例子.公司>", "例子.公司"),
            ("a@one.example, B <b@two.example>,, c@one.example", "one.example two.example"),
            ("Team: a@one.example, B <b@two.example>;, c@three.example", "one.example two.example three.example"),
            ("<@relay.example,@b.example:a@example.com>", "example.com"),
            ("a@[192.0.2.1]", "[192.0.2.1]"),
            ("shop@brand.example <a@example.com>", "brand.example example.com"),
        ] {
            assert_eq!(domains(value).as_deref(), Ok(found), "{value}");
        }
    }

    #[test]
    fn what_programs_could_read_differently_is_refused() {
        for value in [
            "Joe",
            "Joe <>",
            "Joe <a>",
            "Joe <a@example.com",
            "Joe <a@example.com> x",
            "Joe <a@example.com> <b@example.org>",
            "Joe b a@example.com",
            "a@example.com b@example.org",
            "a@b@example.com",
            "a@exa mple.com",
            "a@-bad-.example",
            "=?utf-8?Q?a,b?= <a@example.com>",
            "=?utf-8?Q?<b@evil.example>?= <a@example.com>",
            "\"open <a@example.com>",
            "(open <a@example.com>",
            "Team: a@example.com",
            "a@example.com;",
            ": a@example.com;",
            "A: B: a@example.com;;",
            "Joe) <a@example.com>",
            "\\Joe <a@example.com>",
        ] {
            assert!(matches!(domains(value), Err(FromFault::Malformed(_))), "{value}: {:?}", domains(value));
        }
        assert_eq!(domains(""), Err(FromFault::Empty));
        assert_eq!(domains("undisclosed:;"), Err(FromFault::Empty));
        assert_eq!(domains(&"a@b.example,".repeat(65)), Err(FromFault::TooMany));
        assert_eq!(from_domains(b"To: a@b\r\n\r\nFrom: a@b\r\n"), Err(FromFault::Missing));
        assert_eq!(from_domains(b"From: a@b\r\nfrom : c@d\r\n\r\n"), Err(FromFault::Repeated));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = from_domains(&[b"From: ", bytes.as_slice()].concat());
        }

        #[test]
        fn never_panics_on_near_addresses(value in "[a-c@.<>(),:;\"\\\\\\[\\] \t]{0,24}") {
            let _ = domains(&value);
        }

        #[test]
        fn the_address_between_brackets_is_always_found(name in "[a-z .\"(),:;<@\\\\]{0,12}", tail in "[ (),;a]{0,4}") {
            // Whatever stands around it, either the field is refused or the domain is among those found.
            if let Ok(found) = domains(&format!("{name}<a@target.example>{tail}")) {
                prop_assert!(found.contains("target.example") || name.contains(['"', '(', '\\']), "{} in {}", found, name);
            }
        }
    }
}
