//! Readers of single values: text into addresses, networks, domains, prefixes, names, hashes. Quantities are next door.
//!
//! **Promises.** Each refuses with what is wrong and what would be right. Those for secrets never repeat the value.
//! None panics, whatever the text.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use ipnet::IpNet;
use toml::de::DeValue;

use super::mistake::{Fault, shortened, unknown};
use super::reader::article;
use crate::model::{Class, Domain, Money, MoneyError, Secret, SenderId};

/// Any text.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Fault> {
    as_text(value, "text in quotes").map(str::to_owned)
}

/// An amount of money: `"0.035"`.
pub(super) fn money(value: &DeValue<'_>) -> Result<Money, Fault> {
    let text = as_text(value, &MoneyError.to_string())?;
    text.parse().map_err(|e: MoneyError| Fault::new(format!("\"{}\" is no amount", shortened(text)), e.to_string()))
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false", "write true or false, without quotes"))
}

/// A whole number within a range.
pub(super) fn whole(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, Fault> {
    move |value| {
        let right = format!("expected a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.as_integer() else { return Err(wrong_type(value, "a whole number", &right)) };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Fault::new(format!("{} is out of range", shortened(integer.as_str())), right)),
        }
    }
}

/// The same, as the machine counts.
pub(super) fn count(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<usize, Fault> {
    let read = whole(range);
    move |value| read(value).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let text = as_text(value, &format!("one of {}", names.join(", ")))?;
        let found = words.iter().find(|(name, _)| *name == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| unknown("value", text, &names))
    }
}

/// A class of traffic.
pub(super) fn class(value: &DeValue<'_>) -> Result<Class, Fault> {
    const CLASSES: &[(&str, Class)] =
        &[("otp", Class::Otp), ("transactional", Class::Transactional), ("marketing", Class::Marketing)];
    word(CLASSES)(value)
}

/// `"0.0.0.0:587"`, `"[::]:587"`.
pub(super) fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    const RIGHT: &str = r#"an IP address with a port, such as "0.0.0.0:587" or "[::]:587""#;
    let text = as_text(value, RIGHT)?;
    text.parse().map_err(|_| Fault::new(format!("bad address \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// `"127.0.0.1"` or `"127.0.0.1:5353"`; the port is 53 if it is not said.
pub(super) fn nameserver(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    const RIGHT: &str = r#"an IP address with or without a port, such as "192.0.2.53" or "127.0.0.1:5353""#;
    let text = as_text(value, RIGHT)?;
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    text.parse::<SocketAddr>()
        .or(bare)
        .map_err(|_| Fault::new(format!("bad address \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// `"smpp.example.com:2775"`, `"192.0.2.1:2775"`, `"[2001:db8::1]:2775"`.
pub(super) fn host_and_port(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    const RIGHT: &str = r#"a host and a port, such as "mail.example.com:25", "192.0.2.1:25" or "[2001:db8::1]:25""#;
    let text = as_text(value, RIGHT)?;
    if crate::route::is_next_hop(text) {
        return Ok(text.into());
    }
    Err(Fault::new(format!("bad address \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// `"10.1.0.0/16"`, `"192.0.2.7"`.
pub(super) fn network(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    const RIGHT: &str = r#"a network such as "10.1.0.0/16" or "2001:db8::/32", or one address"#;
    let text = as_text(value, RIGHT)?;
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| Fault::new(format!("bad network \"{}\"", shortened(text)), format!("expected {RIGHT}")))?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Fault::new(format!("\"{text}\" has bits set behind its prefix"), format!("did you mean \"{}\"?", net.trunc())))
}

/// A domain name.
pub(super) fn domain(value: &DeValue<'_>) -> Result<Domain, Fault> {
    const RIGHT: &str = r#"a domain such as "example.com""#;
    let text = as_text(value, RIGHT)?;
    Domain::parse(text)
        .ok()
        .filter(|d| !d.is_literal())
        .ok_or_else(|| Fault::new(format!("bad domain \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// A domain name, or `"*"` for all: what a client may send as.
pub(super) fn sender_domain(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = r#"a domain such as "example.com" (it includes those below it), or "*" for all"#;
    let text = as_text(value, RIGHT)?;
    if text == "*" {
        return Ok(text.to_owned());
    }
    if let Some(parent) = text.strip_prefix("*.").filter(|p| Domain::parse(p).is_ok()) {
        return Err(Fault::new(
            format!("\"{}\" is not needed", shortened(text)),
            format!("write \"{parent}\", it includes the domains below it"),
        ));
    }
    match Domain::parse(text).ok().filter(|d| !d.is_literal()) {
        Some(domain) => Ok(domain.as_str().to_owned()),
        None => Err(Fault::new(format!("bad domain \"{}\"", shortened(text)), format!("expected {RIGHT}"))),
    }
}

/// A domain name, `"*.example.com"` for those below it, or `"*"` for all: what a route serves.
pub(super) fn domain_pattern(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = r#"a domain such as "example.com", "*.example.com" for those below it, or "*" for all"#;
    let text = as_text(value, RIGHT)?;
    let name = text.strip_prefix("*.").unwrap_or(text);
    if text == "*" || Domain::parse(name).is_ok_and(|d| !d.is_literal()) {
        return Ok(text.to_lowercase());
    }
    Err(Fault::new(format!("bad domain \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// `"+86138"`, or `"+"` for all numbers.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = r#"the first digits of international numbers, such as "+86" or "+86138""#;
    let text = as_text(value, RIGHT)?;
    let digits = text.strip_prefix('+');
    if digits.is_some_and(|d| d.len() <= 15 && !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("bad number prefix \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// The sender that a text shows.
pub(super) fn sender_id(value: &DeValue<'_>) -> Result<SenderId, Fault> {
    const RIGHT: &str = r#"an international number such as "+8613800138000", a short code such as "10690001", or a name of at most 11 characters"#;
    let text = as_text(value, RIGHT)?;
    SenderId::parse(text)
        .map_err(|_| Fault::new(format!("bad sender \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// The name of a client or a carrier: it becomes part of file names, metric labels and log lines.
pub(super) fn name(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    const RIGHT: &str = "1 to 64 letters, digits, dots, hyphens, underscores or at signs";
    let text = as_text(value, RIGHT)?;
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        && !text.starts_with('.');
    if good {
        return Ok(text.into());
    }
    Err(Fault::new(format!("bad name \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// Text of at most so many octets of printable ASCII, as SMPP's C-octet strings want it.
pub(super) fn ascii(octets_max: usize) -> impl Fn(&DeValue<'_>) -> Result<String, Fault> {
    move |value| {
        let right = format!("expected at most {octets_max} printable ASCII characters");
        let text = as_text(value, &right)?;
        if text.len() <= octets_max && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Ok(text.to_owned());
        }
        Err(Fault::new(format!("\"{}\" does not fit", shortened(text)), right))
    }
}

/// A secret as it stands. Never repeated in a fault.
pub(super) fn secret(value: &DeValue<'_>) -> Result<Secret, Fault> {
    as_text(value, "text in quotes").map(Secret::new)
}

/// `"sha256:"` and 64 hexadecimal digits. Never repeated in a fault: a key pasted in clear is a secret.
pub(super) fn api_key(value: &DeValue<'_>) -> Result<[u8; 32], Fault> {
    const RIGHT: &str = r#"expected "sha256:" and 64 hexadecimal digits: printf %s KEY | sha256sum"#;
    let text = as_text(value, "text in quotes")?;
    let parse = || {
        let hex = text.strip_prefix("sha256:")?;
        let mut hash = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(hash)
    };
    parse().ok_or_else(|| Fault::new("not the SHA-256 of a key", RIGHT))
}

/// Checks a password hash: a PHC string of the argon2 family. Never repeated in a fault.
pub(super) fn check_password_hash(hash: &Secret) -> Result<(), Fault> {
    const RIGHT: &str = "expected a hash made by: postrider hash-password";
    let parsed = PasswordHash::new(hash.expose()).map_err(|_| Fault::new("not a password hash", RIGHT))?;
    if !matches!(parsed.algorithm.as_str(), "argon2id" | "argon2i" | "argon2d") {
        return Err(Fault::new("not an argon2 password hash", RIGHT));
    }
    if parsed.salt.is_none() || parsed.hash.is_none() || argon2::Params::try_from(&parsed).is_err() {
        return Err(Fault::new("an incomplete password hash", RIGHT));
    }
    Ok(())
}

pub(super) fn as_text<'v>(value: &'v DeValue<'_>, right: &str) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| wrong_type(value, "a string", &format!("expected {right}")))
}

fn wrong_type(value: &DeValue<'_>, wanted: &str, right: &str) -> Fault {
    let found = value.type_str();
    Fault::new(format!("expected {wanted}, found {} {found}", article(found)), right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    fn quoted(text: &str) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(text))
    }

    #[test]
    fn addresses_and_networks() {
        for good in ["mail.example.com:25", "192.0.2.1:25", "[2001:db8::1]:25", "localhost:2526"] {
            assert!(host_and_port(&quoted(good)).is_ok(), "{good}");
        }
        for bad in ["mail.example.com", ":25", "a:0", "a:65536", "2001:db8::1:25", "a b:25", "[192.0.2.1]:25", ""] {
            assert!(host_and_port(&quoted(bad)).is_err(), "{bad}");
        }
        assert_eq!(network(&quoted("192.0.2.7")).unwrap().to_string(), "192.0.2.7/32");
        let fault = network(&quoted("10.1.2.3/16")).unwrap_err();
        assert_eq!(fault.right, r#"did you mean "10.1.0.0/16"?"#);
        assert_eq!(nameserver(&quoted("192.0.2.53")).unwrap().port(), 53);
        assert_eq!(nameserver(&quoted("127.0.0.1:5353")).unwrap().port(), 5353);
    }

    #[test]
    fn domains_prefixes_and_names() {
        assert_eq!(domain_pattern(&quoted("*.Example.net")).unwrap(), "*.example.net");
        for bad in ["*example.net", "*.", "a.*.b", "", "**", "[192.0.2.1]"] {
            assert!(domain_pattern(&quoted(bad)).is_err(), "{bad}");
        }
        assert!(sender_domain(&quoted("*.example.net")).unwrap_err().right.contains("\"example.net\""));
        for good in ["+", "+86", "+86138"] {
            assert!(prefix(&quoted(good)).is_ok(), "{good}");
        }
        for bad in ["86", "", "+0", "+86x", "+1234567890123456"] {
            assert!(prefix(&quoted(bad)).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a/b", "..", "a\nb"] {
            assert!(name(&quoted(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_never_repeated() {
        for bad in ["hunter2", "sha256:hunter2", "$argon2id$hunter2", "$scrypt$hunter2$c2FsdHNhbHQ"] {
            let faults = [api_key(&quoted(bad)).unwrap_err(), check_password_hash(&Secret::new(bad)).unwrap_err()];
            for fault in faults {
                assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
            }
        }
        assert_eq!(api_key(&quoted(&format!("sha256:{}", "ab".repeat(32)))), Ok([0xab; 32]));
        assert!(api_key(&quoted(&format!("sha256:{}", "é".repeat(32)))).is_err());
        let good = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$iUr0/y4tJvPOFfd6fhwl20W04gQ56ZYXcroZnK3bAB4";
        assert_eq!(check_password_hash(&Secret::new(good)), Ok(()));
        assert!(check_password_hash(&Secret::new("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC{0,30}|[0-9+*./:smhdKMiB\\[\\]-]{0,30}") {
            let value = quoted(&text);
            let _ = (socket_address(&value), nameserver(&value));
            let _ = (host_and_port(&value), network(&value), domain(&value), sender_domain(&value));
            let _ = (domain_pattern(&value), prefix(&value), sender_id(&value), name(&value), ascii(8)(&value));
            let _ = (api_key(&value), check_password_hash(&Secret::new(&*text)));
        }
    }
}
