//! Mailboxes (RFC 5321 section 4.1.2, RFC 6531) and telephone numbers (E.164).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest local part, in octets (RFC 5321 section 4.5.3.1.1).
const LOCAL_PART_BYTES_MAX: usize = 64;
/// Longest domain, in octets (RFC 5321 section 4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;

/// A domain name, folded to lower case; A-labels or U-labels as they were given, or an address literal in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses a domain or an address literal such as `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    ///
    /// # Errors
    /// [`AddressError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // Folded first: some letters need more octets in lower case, and what is kept must parse again.
        let text = &*text.to_lowercase();
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::DomainTooLong);
        }
        if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let literal = match inside.get(..5) {
                Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inside[5..].parse::<std::net::Ipv6Addr>().is_ok(),
                _ => inside.parse::<std::net::Ipv4Addr>().is_ok(),
            };
            return if literal { Ok(Self(text.into())) } else { Err(AddressError::BadDomain) };
        }
        let well_formed = !text.is_empty()
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || is_wide(c))
            });
        if !well_formed {
            return Err(AddressError::BadDomain);
        }
        Ok(Self(text.into()))
    }

    /// The name as text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in A-labels, as DNS wants it; address literals stay as they are.
    ///
    /// # Errors
    /// [`AddressError::BadDomain`] for U-labels that IDNA2008 (UTS 46) has no mapping for.
    pub fn to_ascii(&self) -> Result<Domain, AddressError> {
        if self.0.is_ascii() {
            return Ok(self.clone());
        }
        let ascii = idna::domain_to_ascii_strict(&self.0).map_err(|_| AddressError::BadDomain)?;
        Ok(Self(ascii.into()))
    }

    /// True for an address literal.
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// True if this domain is `parent` or lies below it.
    pub fn is_within(&self, parent: &str) -> bool {
        let own = self.as_str();
        own.len() == parent.len() && own.eq_ignore_ascii_case(parent)
            || own.len() > parent.len()
                && own.as_bytes()[own.len() - parent.len() - 1] == b'.'
                && own.is_char_boundary(own.len() - parent.len())
                && own[own.len() - parent.len()..].eq_ignore_ascii_case(parent)
    }
}

/// An addr-spec: what stands between the angle brackets of MAIL and RCPT.
///
/// The local part is kept exactly as given, quotes and case included (RFC 5321 section 2.4); the domain is folded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    local: Arc<str>,
    domain: Domain,
}

impl Mailbox {
    /// Parses `local@domain` by RFC 5321's Mailbox grammar; UTF-8 is allowed where RFC 6531 allows it.
    ///
    /// # Errors
    /// [`AddressError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::NoAt)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > LOCAL_PART_BYTES_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        let well_formed = match local.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').is_some_and(is_quoted_content),
            None => !local.is_empty() && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext)),
        };
        if !well_formed {
            return Err(AddressError::BadLocalPart);
        }
        Ok(Self { local: local.into(), domain: Domain::parse(domain)? })
    }

    /// The part before the `@`, quotes included.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// True if either part needs SMTPUTF8 (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii() || !self.domain.as_str().is_ascii()
    }
}

/// The argument of MAIL FROM.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReversePath {
    /// `<>`: a notification that must not be answered with another one.
    Null,
    /// Where notifications go.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, if there is one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(m) => Some(m),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(m) => m.fmt(f),
        }
    }
}

/// An E.164 number: `+`, then 7 to 15 digits, the first not zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(Arc<str>);

impl Number {
    /// Parses an international number. Spaces, hyphens and parentheses, as people write them, are dropped; the `+` is
    /// required, so that no national number is taken for an international one.
    ///
    /// # Errors
    /// [`AddressError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let digits = text.trim().strip_prefix('+').ok_or(AddressError::NumberWithoutPlus)?;
        let mut number = String::with_capacity(16);
        number.push('+');
        for c in digits.chars() {
            match c {
                '0'..='9' if number.len() <= 15 => number.push(c),
                ' ' | '-' | '(' | ')' => {}
                _ => return Err(AddressError::BadNumber),
            }
        }
        if number.len() < 8 || number.as_bytes()[1] == b'0' {
            return Err(AddressError::BadNumber);
        }
        Ok(Self(number.into()))
    }

    /// With the leading `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number whose digits these are.
    pub fn of_digits(digits: u64) -> Option<Self> {
        Self::parse(&format!("+{digits}")).ok()
    }

    /// Characters of the longest of these beginnings, each with its `+`; `None` if the number begins with none of them.
    pub fn longest_beginning(&self, beginnings: &[String]) -> Option<usize> {
        longest_beginning(&self.0, beginnings)
    }

    /// Without the leading `+`.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }
}

/// Characters of the longest of these beginnings; `None` if `digits`, with their `+`, begin with none of them.
pub fn longest_beginning(digits: &str, beginnings: &[String]) -> Option<usize> {
    beginnings.iter().filter(|b| digits.starts_with(b.as_str())).map(String::len).max()
}

/// Where a message goes: the one place where the two channels' addresses meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// A mailbox.
    Mailbox(Mailbox),
    /// A telephone number.
    Number(Number),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(m) => m.fmt(f),
            Self::Number(n) => n.fmt(f),
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// No `@`.
    NoAt,
    /// More than 64 octets before the `@`.
    LocalPartTooLong,
    /// The part before the `@` is neither a dot-string nor a quoted string.
    BadLocalPart,
    /// More than 255 octets after the `@`.
    DomainTooLong,
    /// Not a domain name and not an address literal.
    BadDomain,
    /// No leading `+`.
    NumberWithoutPlus,
    /// Not 7 to 15 digits, or a leading zero.
    BadNumber,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAt => "not a mailbox: expected local-part@domain",
            Self::LocalPartTooLong => "local part longer than 64 octets",
            Self::BadLocalPart => "bad local part: expected a dot-string or a quoted string",
            Self::DomainTooLong => "domain longer than 255 octets",
            Self::BadDomain => {
                "bad domain: expected a name such as example.com or an address literal such as [192.0.2.1]"
            }
            Self::NumberWithoutPlus => "not an international number: expected a leading +, as in +8613800138000",
            Self::BadNumber => "bad number: expected + and 7 to 15 digits, as in +8613800138000",
        })
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Number {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// RFC 6531's UTF8-non-ascii, without control characters and without white space, neither of which any mailbox needs.
fn is_wide(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

/// RFC 5322 section 3.2.3 atext, with RFC 6531's extension.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_wide(c)
}

/// RFC 5321 QcontentSMTP: printable, with `"` and `\` only behind a backslash.
fn is_quoted_content(inside: &str) -> bool {
    let mut escaped = false;
    for c in inside.chars() {
        match c {
            _ if escaped => {
                if !(' '..='~').contains(&c) {
                    return false;
                }
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return false,
            ' '..='~' => {}
            c if is_wide(c) => {}
            _ => return false,
        }
    }
    !escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mailboxes_follow_rfc_5321() {
        for good in [
            "a@b",
            "user.name+tag@example.com",
            "\"odd \\\" one\"@example.com",
            "\"a@b\"@example.com",
            "postmaster@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
            "用户@例子.公司",
            "_dmarc@_x.example.com",
        ] {
            let parsed = Mailbox::parse(good);
            assert!(parsed.is_ok(), "{good}: {parsed:?}");
        }
        for (bad, why) in [
            ("", AddressError::NoAt),
            ("a", AddressError::NoAt),
            ("@b", AddressError::BadLocalPart),
            ("a..b@c", AddressError::BadLocalPart),
            (".a@c", AddressError::BadLocalPart),
            ("a b@c", AddressError::BadLocalPart),
            ("\"a@c", AddressError::BadLocalPart),
            ("\"a\\\"@c", AddressError::BadLocalPart),
            ("a\r\n@c", AddressError::BadLocalPart),
            ("a@", AddressError::BadDomain),
            ("a@b..c", AddressError::BadDomain),
            ("a@-b.c", AddressError::BadDomain),
            ("a@b c", AddressError::BadDomain),
            ("a@[300.1.1.1]", AddressError::BadDomain),
            ("a@b\n", AddressError::BadDomain),
        ] {
            assert_eq!(Mailbox::parse(bad), Err(why), "{bad:?}");
        }
        assert_eq!(Mailbox::parse(&format!("{}@c", "a".repeat(65))), Err(AddressError::LocalPartTooLong));
        assert_eq!(Mailbox::parse(&format!("a@{}", "b.".repeat(130))), Err(AddressError::DomainTooLong));
    }

    #[test]
    fn domains_fold_and_nest() {
        let d = Domain::parse("Shop.Example.COM").unwrap();
        assert_eq!(d.as_str(), "shop.example.com");
        assert!(d.is_within("example.com"));
        assert!(d.is_within("shop.example.com"));
        assert!(!d.is_within("op.example.com"));
        assert!(!Domain::parse("com").unwrap().is_within("example.com"));
        assert_eq!(Domain::parse("例子.公司").unwrap().to_ascii().unwrap().as_str(), "xn--fsqu00a.xn--55qx5d");
    }

    #[test]
    fn a_domain_that_grows_in_lower_case_is_measured_as_it_is_kept() {
        // U+0130 has two octets, its lower case three: 62 octets become 93, more than a label may have.
        let grows = format!("{}.example", "\u{130}".repeat(31));
        assert_eq!(Domain::parse(&grows), Err(AddressError::BadDomain));
        let fits = Domain::parse(&format!("{}.example", "\u{130}".repeat(20))).unwrap();
        assert_eq!(Domain::parse(fits.as_str()), Ok(fits));
    }

    #[test]
    fn numbers_are_international() {
        assert_eq!(Number::parse("+86 138-0013-8000").unwrap().as_str(), "+8613800138000");
        assert_eq!(Number::parse("+8613800138000").unwrap().digits(), "8613800138000");
        for (bad, why) in [
            ("13800138000", AddressError::NumberWithoutPlus),
            ("", AddressError::NumberWithoutPlus),
            ("+", AddressError::BadNumber),
            ("+12345", AddressError::BadNumber),
            ("+0123456789", AddressError::BadNumber),
            ("+1234567890123456", AddressError::BadNumber),
            ("+86x", AddressError::BadNumber),
        ] {
            assert_eq!(Number::parse(bad), Err(why), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_a_parser_panic_or_smuggle(text in "\\PC{0,40}|a@\u{130}{0,70}\\.x|[ -~\r\n\0@.\"\\\\]{0,40}") {
            for shown in [Mailbox::parse(&text).map(|m| m.to_string()), Domain::parse(&text).map(|d| d.to_string())].into_iter().flatten() {
                prop_assert!(!shown.contains(['\r', '\n', '\0']));
            }
            if let Ok(m) = Mailbox::parse(&text) {
                prop_assert_eq!(Mailbox::parse(&m.to_string()), Ok(m));
            }
            let _ = Number::parse(&text);
        }
    }
}
