//! Amounts of money: what parts of texts cost. No rounding anywhere; the currency is the administrator's.

use std::fmt;
use std::str::FromStr;

/// Millionths of a currency's unit: a part costs a few hundredths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Money(u64);

/// Millionths in a unit.
const UNIT: u64 = 1_000_000;
/// Digits behind the point.
const DIGITS: usize = 6;
/// Largest amount that is read, in units.
const UNITS_MAX: u64 = 1_000_000_000_000;

impl Money {
    /// So many millionths.
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// In millionths.
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// In units, for metrics, which are floats.
    pub fn units(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// So many times; the most there is, if that is more.
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Both together.
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// Without this; nothing, if that is more.
    pub const fn minus(self, less: Self) -> Self {
        Self(self.0.saturating_sub(less.0))
    }
}

/// At least two digits behind the point, and no more noughts than that: `0.035`, `2.50`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:06}", self.0 % UNIT);
        let behind = digits.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / UNIT, &digits[..behind])
    }
}

/// What is no amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MoneyError;

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write an amount with at most six digits behind the point, such as \"0.035\"")
    }
}

impl std::error::Error for MoneyError {}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (units, behind) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(units, 13) || !digits(behind, DIGITS) {
            return Err(MoneyError);
        }
        let units: u64 = units.parse().ok().filter(|units| *units <= UNITS_MAX).ok_or(MoneyError)?;
        let millionths: u64 = format!("{behind:0<6}").parse().map_err(|_| MoneyError)?;
        Ok(Self(units * UNIT + millionths))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_and_shown_as_people_write_them() {
        for (written, shown) in [
            ("0.035", "0.035"),
            ("2.5", "2.50"),
            ("12", "12.00"),
            ("0.000001", "0.000001"),
            ("1000000000000", "1000000000000.00"),
        ] {
            assert_eq!(written.parse::<Money>().map(|m| m.to_string()).as_deref(), Ok(shown));
        }
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,5", "1000000000001", "99999999999999"] {
            assert_eq!(bad.parse::<Money>(), Err(MoneyError), "{bad}");
        }
    }

    #[test]
    fn sums_stop_at_their_ends() {
        let (one, most) = (Money::from_millionths(1), Money::from_millionths(u64::MAX));
        assert_eq!((most.plus(one), most.times(2), one.minus(most)), (most, most, Money::default()));
        assert_eq!(Money::from_millionths(35_000).times(3).to_string(), "0.105");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millionths in 0..=UNITS_MAX * UNIT) {
            let money = Money::from_millionths(millionths);
            prop_assert_eq!(money.to_string().parse(), Ok(money));
        }
    }
}
