//! Where a domain wants its reports: the TXT record of `_smtp._tls.<domain>` (RFC 8460 section 3). Pure.
//!
//! **Promises.** Whatever the bytes, the answer is a value or nothing, and never a panic. A record that is not well-formed is
//! none; fields that nobody knows are passed over, and so are URIs of other schemes. What is given back names a host by its
//! name, never by its address.

use std::fmt;

use crate::model::{Domain, Mailbox};

/// Destinations that are taken of one record.
const DESTINATIONS_MAX: usize = 4;
/// Longest name of a field (section 3, `tlsrpt-ext-name`).
const NAME_BYTES_MAX: usize = 32;
/// Longest path with its query that is asked for.
const TARGET_BYTES_MAX: usize = 2048;

/// Where a report is to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// By mail.
    Mailto(Mailbox),
    /// By POST.
    Https(HttpsUrl),
}

/// An `https` URI, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpsUrl {
    /// A name in A-labels.
    pub(super) host: Domain,
    pub(super) port: u16,
    /// Path and query; begins with a slash.
    pub(super) target: String,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailto(mailbox) => write!(f, "mailto:{mailbox}"),
            Self::Https(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            443 => write!(f, "https://{}{}", self.host, self.target),
            port => write!(f, "https://{}:{port}{}", self.host, self.target),
        }
    }
}

/// What the TXT records of `_smtp._tls.<domain>` ask for, in their order; `None` unless exactly one of them is a record of
/// this kind and well-formed. Empty if it names no destination that is known here.
pub(super) fn destinations<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<Vec<Destination>> {
    let mut versioned = records.into_iter().filter_map(fields);
    let only = versioned.next()?;
    if versioned.next().is_some() {
        return None;
    }
    let mut rua = None;
    // A delimiter may stand at the end.
    let only = only.trim_end_matches([' ', '\t']);
    for field in only.strip_suffix(';').unwrap_or(only).split(';') {
        let (name, value) = field.trim_matches([' ', '\t']).split_once('=')?;
        if !is_name(name) || value.is_empty() {
            return None;
        }
        if name == "rua" {
            // Named twice, nobody knows which is meant.
            if rua.replace(value).is_some() {
                return None;
            }
        } else if !value.bytes().all(|b| matches!(b, 0x21..=0x7e)) {
            return None;
        }
    }
    let uris = rua?.split(',').map(|uri| uri.trim_matches([' ', '\t']));
    Some(uris.filter_map(destination).take(DESTINATIONS_MAX).collect())
}

/// What follows the version, if that is ours.
fn fields(record: &str) -> Option<&str> {
    record.strip_prefix("v=TLSRPTv1")?.trim_start_matches([' ', '\t']).strip_prefix(';')
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// A URI of the two schemes that there are.
fn destination(uri: &str) -> Option<Destination> {
    // RFC 3986 section 2; an exclamation mark must be encoded here (RFC 8460 section 3).
    let good = |b: u8| matches!(b, 0x21..=0x7e) && !b"!\"<>\\^`{|}".contains(&b);
    if !uri.bytes().all(good) {
        return None;
    }
    let (scheme, rest) = uri.split_once(':')?;
    match scheme.to_ascii_lowercase().as_str() {
        "mailto" => mailbox(rest).map(Destination::Mailto),
        "https" => url(rest.strip_prefix("//")?).map(Destination::Https),
        _ => None,
    }
}

/// The address of a `mailto` URI (RFC 6068); header fields that it asks for are not set.
fn mailbox(rest: &str) -> Option<Mailbox> {
    let address = percent_decoded(rest.split(['?', '#']).next()?)?;
    let mailbox = Mailbox::parse(&address).ok()?;
    (address.is_ascii() && !mailbox.domain().is_literal()).then_some(mailbox)
}

fn url(rest: &str) -> Option<HttpsUrl> {
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (host, port) = match authority.split_once(':') {
        // "host:" has the scheme's own port (RFC 3986 section 3.2.3).
        Some((host, "")) => (host, 443),
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port.parse().ok()?),
        Some(_) => return None,
        None => (authority, 443),
    };
    let host = Domain::parse(host).ok().filter(|host| !host.is_literal() && host.as_str().is_ascii())?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    (port > 0 && target.len() < TARGET_BYTES_MAX).then(|| HttpsUrl { host, port, target: format!("{slash}{target}") })
}

/// `None` for what is not encoded as it should be, or no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(records: &[&str]) -> Option<Vec<String>> {
        destinations(records.iter().copied()).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn one_record_names_destinations() {
        let long = format!("https://r.example/{}", "x".repeat(TARGET_BYTES_MAX));
        for (record, expected) in [
            ("v=TLSRPTv1;rua=mailto:reports@example.com", &["mailto:reports@example.com"][..]),
            ("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", &["https://reporting.example.com/v1/tlsrpt"]),
            (
                "v=TLSRPTv1 ;\trua=mailto:a@x.example , https://R.example:8443?d=1 ; ",
                &["mailto:a@x.example", "https://r.example:8443/?d=1"],
            ),
            ("v=TLSRPTv1; later=1; rua=MAILTO:a%2Bb@x.example?subject=x;", &["mailto:a+b@x.example"]),
            ("v=TLSRPTv1; rua=HTTPS://r.example:#top", &["https://r.example/"]),
            ("v=TLSRPTv1; rua=mailto:a%2cb@x.example,mailto:c@x.example", &["mailto:c@x.example"]),
            ("v=TLSRPTv1; rua=http://r.example/,ftp:x", &[]),
            ("v=TLSRPTv1; rua=https://u@r.example/,https://[::1]/,https:///x,https://r.example:0/", &[]),
            ("v=TLSRPTv1; rua=mailto:a@[192.0.2.1],mailto:a,mailto:%C3%A4@x.example,mailto:a!b@x.example", &[]),
            ("v=TLSRPTv1; rua=mailto:a%@x.example,mailto:a%+1@x.example,mailto:a%0d%0aBcc:b@x.example", &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(shown(&[record]), Some(expected), "{record}");
        }
        assert_eq!(shown(&[&format!("v=TLSRPTv1; rua={long}")]), Some(vec![]));
        let many = format!("v=TLSRPTv1; rua={}", ["mailto:a@x.example"; 9].join(","));
        assert_eq!(shown(&[&many]).map(|all| all.len()), Some(DESTINATIONS_MAX));
    }

    #[test]
    fn what_is_not_one_well_formed_record_is_none() {
        const GOOD: &str = "v=TLSRPTv1; rua=mailto:a@x.example";
        assert!(shown(&["v=spf1 -all", GOOD, "v=TLSRPTv2; x=1"]).is_some());
        for records in [
            &[][..],
            &[GOOD, GOOD],
            &[GOOD, "v=TLSRPTv1; x"],
            &["v=TLSRPTv1"],
            &["v=TLSRPTv1;"],
            &["v=TLSRPTv1; later=1"],
            &["v=TLSRPTv1; rua="],
            &["v=TLSRPTv1; rua=mailto:a@x.example; rua=mailto:b@x.example"],
            &["v=TLSRPTv1; rua=mailto:a@x.example; word"],
            &["v=TLSRPTv1; rua=mailto:a@x.example; =1"],
            &["v=TLSRPTv1; rua=mailto:a@x.example; -x=1"],
            &["v=TLSRPTv1; rua=mailto:a@x.example; x=a b"],
            &["v=TLSRPTv1; rua=mailto:a@x.example;; x=1"],
            &["v=tlsrptv1; rua=mailto:a@x.example"],
            &["v=TLSRPTv1x; rua=mailto:a@x.example"],
            &[" v=TLSRPTv1; rua=mailto:a@x.example"],
            &["rua=mailto:a@x.example; v=TLSRPTv1"],
        ] {
            assert_eq!(shown(records), None, "{records:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_what_is_read_reads_again(
            text in "\\PC{0,60}|v=TLSRPTv1; ?rua=(mailto:|https://|x:)[a-z0-9.:@/?%#!,;= -]{0,40}",
        ) {
            for destination in destinations([text.as_str()]).into_iter().flatten() {
                let shown = destination.to_string();
                prop_assert!(shown.is_ascii() && !shown.contains(char::is_control), "{}", shown);
                // A mailbox is shown decoded.
                if let Destination::Https(_) = destination {
                    let record = format!("v=TLSRPTv1; rua={shown}");
                    prop_assert_eq!(destinations([record.as_str()]), Some(vec![destination]));
                }
            }
        }

        #[test]
        fn white_space_and_unknown_fields_change_nothing(spaces in "[ \t]{0,3}", name in "[a-z0-9][a-z0-9_.-]{0,31}", end: bool) {
            prop_assume!(name != "rua");
            let end = if end { ";" } else { "" };
            let record = format!("v=TLSRPTv1{spaces};{spaces}{name}=x{spaces};{spaces}rua=mailto:a@x.example{spaces}{end}{spaces}");
            prop_assert_eq!(shown(&[&record]), Some(vec!["mailto:a@x.example".to_owned()]));
        }
    }
}
