//! Times, which are China's: UTC+8 without summer time, whatever zone the host is in.

use std::fmt;
use std::time::Duration;

use super::Octets;
use crate::clock::Timestamp;

const EAST: Duration = Duration::from_secs(8 * 3_600);

/// The time of a login, as it is carried and hashed: MMDDHHMMSS read as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoginTime(pub u32);

impl LoginTime {
    /// That time in China.
    pub fn at(now: Timestamp) -> Self {
        Self(digits(now).get(4..14).and_then(|digits| digits.parse().ok()).unwrap_or_default())
    }
}

/// Ten digits, as it is hashed.
impl fmt::Display for LoginTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// A time of a SUBMIT, `YYMMDDhhmmsstnnp` as in SMPP: `032+` says that it is eight hours ahead of UTC. It takes 16 octets.
pub fn absolute<const WIDTH: usize>(at: Timestamp) -> Octets<WIDTH> {
    let text = format!("{}032+", digits(at).get(2..14).unwrap_or_default());
    Octets::new("ValId_Time", &text).unwrap_or_default()
}

/// A time of a report: `YYMMDDhhmm`.
pub fn minute(at: Timestamp) -> Octets<10> {
    Octets::new("Done_time", digits(at).get(2..12).unwrap_or_default()).unwrap_or_default()
}

/// When a message came in: `YYYYMMDDhhmmss`.
pub fn second(at: Timestamp) -> Octets<14> {
    Octets::new("RecvTime", &digits(at)).unwrap_or_default()
}

/// Reads a time of a report.
pub fn read_minute(field: &Octets<10>) -> Option<Timestamp> {
    let text = std::str::from_utf8(field.as_bytes()).ok()?;
    if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let pair = |i: usize| &text[2 * i..2 * i + 2];
    Timestamp::parse_rfc3339(&format!("20{}-{}-{}T{}:{}:00+08:00", pair(0), pair(1), pair(2), pair(3), pair(4)))
}

/// `YYYYMMDDhhmmss`.
fn digits(at: Timestamp) -> String {
    at.plus(EAST).rfc3339().chars().take(19).filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_chinas() {
        let at = Timestamp::parse_rfc3339("2026-11-23T18:24:07Z").unwrap();
        assert_eq!(LoginTime::at(at), LoginTime(1_124_022_407));
        assert_eq!(absolute::<16>(at).to_string(), "261124022407032+");
        assert_eq!(minute(at).to_string(), "2611240224");
        assert_eq!(second(at).to_string(), "20261124022407");
        assert_eq!(read_minute(&minute(at)), Timestamp::parse_rfc3339("2026-11-23T18:24:00Z"));
        for bad in ["", "261124022", "26112402 4", "2613240224"] {
            assert_eq!(read_minute(&Octets::new("x", bad).unwrap()), None, "{bad}");
        }
        // Months before October: the number has nine digits, the hash ten.
        let march = Timestamp::parse_rfc3339("2026-02-28T16:00:00Z").unwrap();
        assert_eq!((LoginTime::at(march).0, LoginTime::at(march).to_string().as_str()), (0x11F0_E540, "0301000000"));
    }
}
