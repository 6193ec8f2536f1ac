//! At which hours texts may be sent.
//!
//! **Promises.** Pure arithmetic on the wall clock's time, in a fixed distance from UTC: no time zone database, no host's zone.
//! Hours may go over midnight.
//!
//! **Does not know** daylight saving: where the law speaks of a clock that is put forward and back, the administrator does it.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::model::Class;

/// From when to when, each day.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hours {
    /// Minutes after midnight.
    opens: u32,
    /// Minutes after midnight, at most 24 hours; up to but not including.
    closes: u32,
    /// Minutes that its clock is ahead of UTC.
    ahead: i32,
}

/// Texts of some classes to numbers that begin so are sent at these hours only, and wait for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendingHours {
    /// First digits, with the `+`.
    pub prefixes: Vec<String>,
    /// The classes; never empty.
    pub classes: Vec<Class>,
    /// The hours.
    pub hours: Hours,
}

const DAY_MINUTES: u32 = 24 * 60;
/// UTC+14 is as far as clocks are ahead, UTC-12 as far as they are behind; both within this.
const AHEAD_MAX: i32 = 14 * 60;

impl Hours {
    /// 08:00 to 20:00 in Beijing.
    pub const CHINESE_MARKETING: Self = Self { opens: 8 * 60, closes: 20 * 60, ahead: 8 * 60 };

    /// When sending is allowed again; `None` while it is.
    pub fn closed_until(self, now: Timestamp) -> Option<Timestamp> {
        let ahead = i64::from(self.ahead) * 60;
        let local = i64::try_from(now.seconds()).unwrap_or(i64::MAX / 2) + ahead;
        let second = local.rem_euclid(i64::from(DAY_MINUTES) * 60);
        let (opens, closes) = (i64::from(self.opens) * 60, i64::from(self.closes) * 60);
        let open = if opens < closes { (opens..closes).contains(&second) } else { second >= opens || second < closes };
        if open {
            return None;
        }
        let day = if second < opens { 0 } else { i64::from(DAY_MINUTES) * 60 };
        let at = local - second + day + opens - ahead;
        Some(Timestamp::from_seconds(u64::try_from(at).unwrap_or(0)))
    }
}

/// `08:00-20:00 +08:00`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let sign = if self.ahead < 0 { '-' } else { '+' };
        write!(f, "{}-{} {sign}{}", clock(self.opens), clock(self.closes), clock(self.ahead.unsigned_abs()))
    }
}

/// What is not written as hours are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoursError;

impl fmt::Display for HoursError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write from, to and the distance from UTC, such as \"08:00-20:00 +08:00\"")
    }
}

impl std::error::Error for HoursError {}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let (span, ahead) = text.trim().rsplit_once(' ').ok_or(HoursError)?;
        let (opens, closes) = span.trim_end().split_once('-').ok_or(HoursError)?;
        let ahead = ahead_of_utc(ahead).ok_or(HoursError)?;
        let hours =
            Self { opens: minutes(opens).ok_or(HoursError)?, closes: minutes(closes).ok_or(HoursError)?, ahead };
        let right = hours.opens != hours.closes && hours.opens < DAY_MINUTES;
        right.then_some(hours).ok_or(HoursError)
    }
}

/// How many minutes a clock is ahead of UTC that is described so: `+08:00`, `-03:30`. `None` if none can be.
pub fn ahead_of_utc(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let ahead = i32::try_from(minutes(&text[1..])?).ok()? * sign;
    (ahead.abs() <= AHEAD_MAX).then_some(ahead)
}

/// `HH:MM` up to `24:00`, in minutes.
fn minutes(text: &str) -> Option<u32> {
    let two = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok())?
    };
    let (hour, minute) = text.split_once(':')?;
    let minutes = two(hour)? * 60 + two(minute).filter(|m| *m < 60)?;
    (minutes <= DAY_MINUTES).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    /// A time of 1970-01-02 in Beijing, and back.
    fn beijing(hour: u64, minute: u64) -> Timestamp {
        Timestamp::from_seconds(86_400 + hour * 3_600 + minute * 60 - 8 * 3_600)
    }

    #[test]
    fn outside_its_hours_a_text_waits_for_the_next_opening() {
        let day = hours("08:00-20:00 +08:00");
        for (now, until) in [
            (beijing(8, 0), None),
            (beijing(19, 59), None),
            (beijing(20, 0), Some(beijing(32, 0))),
            (beijing(23, 59), Some(beijing(32, 0))),
            (beijing(0, 0), Some(beijing(8, 0))),
            (beijing(7, 59), Some(beijing(8, 0))),
        ] {
            assert_eq!(day.closed_until(now), until, "{now:?}");
        }
        let night = hours("22:30-06:00 +08:00");
        assert_eq!((night.closed_until(beijing(23, 0)), night.closed_until(beijing(5, 0))), (None, None));
        assert_eq!(night.closed_until(beijing(6, 0)), Some(beijing(22, 30)));
        let always = hours("00:00-24:00 +00:00");
        assert_eq!((always.closed_until(beijing(0, 0)), always.closed_until(beijing(23, 59))), (None, None));
        assert_eq!(
            hours("09:00-17:00 -05:00").closed_until(Timestamp::from_seconds(86_400 + 13 * 3_600)),
            Some(Timestamp::from_seconds(86_400 + 14 * 3_600))
        );
    }

    #[test]
    fn only_hours_are_read_as_such() {
        for text in ["08:00-20:00 +08:00", "22:30-06:00 -03:30", "00:00-24:00 +00:00"] {
            assert_eq!(hours(text).to_string(), text);
        }
        for bad in [
            "",
            "08:00-20:00",
            "8:00-20:00 +08:00",
            "08:00-08:00 +08:00",
            "08:00-24:01 +08:00",
            "24:00-08:00 +08:00",
            "08:60-20:00 +08:00",
            "08:00-20:00 08:00",
            "08:00-20:00 +15:00",
            "08:00 20:00 +08:00",
            "08:00-20:00 ＋08:00",
        ] {
            assert_eq!(bad.parse::<Hours>(), Err(HoursError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_opening_is_open_and_within_a_day(opens in 0_u32..1_440, closes in 0_u32..=1_440, ahead in -720_i32..=840, now in 86_400_u64..4_000_000_000) {
            prop_assume!(opens != closes);
            let (hours, now) = (Hours { opens, closes, ahead }, Timestamp::from_seconds(now));
            if let Some(until) = hours.closed_until(now) {
                prop_assert!(until > now && until.since(now).as_secs() <= 86_400);
                prop_assert_eq!(hours.closed_until(until), None);
                prop_assert!(hours.closed_until(Timestamp::from_seconds(until.seconds() - 1)).is_some());
            }
        }

        #[test]
        fn any_words_are_read_or_refused(text in "\\PC{0,24}") {
            let _ = text.parse::<Hours>();
        }
    }
}
