//! Readers of quantities: durations, sizes and rates, each with its unit.
//!
//! **Promises.** Each refuses with what is wrong and what would be right. None panics, whatever the text.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::value::as_text;
use crate::model::Rate;

/// A span of time within a range: `"90s"`, `"5m"`, `"1h30m"`, `"3d"`.
pub(super) fn span(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, Fault> {
    const RIGHT: &str = r#"a duration such as "500ms", "30s", "5m", "2h" or "3d""#;
    move |value| {
        let text = as_text(value, RIGHT)?;
        let span = parse_span(text)
            .ok_or_else(|| Fault::new(format!("bad duration \"{}\"", shortened(text)), format!("expected {RIGHT}")))?;
        if range.contains(&span) {
            return Ok(span);
        }
        let right = format!("expected {} to {}", Shown(*range.start()), Shown(*range.end()));
        Err(Fault::new(format!("\"{}\" is out of range", shortened(text)), right))
    }
}

/// The same, or `"never"`.
pub(super) fn span_or_never(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<Duration>, Fault> {
    let span = span(range);
    move |value| if value.as_str() == Some("never") { Ok(None) } else { span(value).map(Some) }
}

/// A number of bytes within a range: `"50MiB"`, `"64KiB"`, or a bare number.
pub(super) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, Fault> {
    const RIGHT: &str = r#"a size such as "512B", "64KiB", "50MiB" or "2GiB""#;
    move |value| {
        let (shown, size) = match value.as_integer() {
            Some(integer) => (integer.as_str().to_owned(), u64::from_str_radix(integer.as_str(), integer.radix()).ok()),
            None => {
                let text = as_text(value, RIGHT)?;
                (text.to_owned(), parse_bytes(text))
            }
        };
        let size =
            size.ok_or_else(|| Fault::new(format!("bad size \"{}\"", shortened(&shown)), format!("expected {RIGHT}")))?;
        if range.contains(&size) {
            return Ok(size);
        }
        let right = format!("expected {} to {}", ShownBytes(*range.start()), ShownBytes(*range.end()));
        Err(Fault::new(format!("\"{}\" is out of range", shortened(&shown)), right))
    }
}

/// `"100/s"`, `"6000/m"`, `"50000/h"`.
pub(super) fn rate(value: &DeValue<'_>) -> Result<Rate, Fault> {
    rate_in(value, &["s", "m", "h"], r#"a rate such as "100/s", "6000/m" or "50000/h""#)
}

/// `"1/m"`, `"5/h"`, `"10/d"`: how many in which span, none of which is as short as a second.
pub(super) fn rate_a_day(value: &DeValue<'_>) -> Result<Rate, Fault> {
    rate_in(value, &["m", "h", "d"], r#"a limit such as "1/m", "5/h" or "10/d""#)
}

fn rate_in(value: &DeValue<'_>, units: &[&str], right: &str) -> Result<Rate, Fault> {
    let text = as_text(value, right)?;
    let parse = || {
        let (count, unit) = text.split_once('/')?;
        let seconds = match *units.iter().find(|known| **known == unit.trim())? {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => 86_400,
        };
        let count = count.trim().parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
        Some(Rate { count, per: Duration::from_secs(seconds) })
    };
    parse().ok_or_else(|| Fault::new(format!("bad rate \"{}\"", shortened(text)), format!("expected {right}")))
}

/// `"1KiB/s"`: bytes in a second.
pub(super) fn bytes_per_second(value: &DeValue<'_>) -> Result<u64, Fault> {
    const RIGHT: &str = r#"a rate such as "100B/s" or "1KiB/s""#;
    let text = as_text(value, RIGHT)?;
    text.strip_suffix("/s")
        .and_then(|size| parse_bytes(size.trim()))
        .ok_or_else(|| Fault::new(format!("bad rate \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

/// Reads a duration: one or more numbers with units (ms, s, m, h, d) in a row, such as `1h30m`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[unit..];
    }
    Some(sum)
}

/// Reads a size in bytes: a number with or without a unit, such as `64KiB` or `10MB`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A duration as it would be written.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (size, unit) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size))
            .unwrap_or((1, "ms"));
        write!(f, "\"{}{unit}\"", millis / size)
    }
}

/// A size as it would be written.
struct ShownBytes(u64);

impl fmt::Display for ShownBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size))
            .unwrap_or((1, "B"));
        write!(f, "\"{}{unit}\"", self.0 / size)
    }
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
    fn durations_and_sizes_have_units() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("1h30m", 5_400_000), ("3d", 259_200_000), ("0s", 0)] {
            assert_eq!(parse_span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "s", "5 s", "5x", "-5s", "5s5", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
        for (text, size) in
            [("50MiB", 50 << 20), ("64 KiB", 64 << 10), ("10MB", 10_000_000), ("7", 7), ("1TiB", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Some(size), "{text}");
        }
        for bad in ["", "MiB", "50mib", "-1", "1.5GiB", "99999999999TiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(Shown(Duration::from_secs(5_400)).to_string(), "\"90m\"");
        assert_eq!(Shown(Duration::from_millis(10)).to_string(), "\"10ms\"");
        assert_eq!(ShownBytes(256 << 20).to_string(), "\"256MiB\"");
    }

    #[test]
    fn rates_say_how_many_in_what() {
        let rate = |text: &str| rate(&quoted(text));
        assert_eq!(rate("100/s").unwrap().per_second(), 100.0);
        assert_eq!(rate("6000/m").unwrap().per_second(), 100.0);
        assert_eq!(rate("3600/h").unwrap().to_string(), "3600/h");
        for bad in ["100", "100/", "/s", "100/d", "0/s", "-1/s", "1.5/s", "100 per second"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(bytes_per_second(&quoted("1KiB/s")), Ok(1024));
        assert!(bytes_per_second(&quoted("1KiB")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC{0,30}|[0-9./smhdKMiB -]{0,30}") {
            let value = quoted(&text);
            let _ = span(Duration::ZERO..=Duration::MAX)(&value);
            let _ = bytes(0..=u64::MAX)(&value);
            let _ = (rate(&value), bytes_per_second(&value));
        }
    }
}
