//! What a part of a text costs at a carrier. Pure.
//!
//! **Promises.** Of a carrier's prices the one that names most of the number counts, of equals the first; where none does, the
//! price is not known, which is not the same as nothing.

use std::sync::Arc;

use crate::model::{Money, Number, longest_beginning};

/// What a carrier takes for a part to numbers that begin so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    /// The carrier.
    pub carrier: Arc<str>,
    /// First digits, with the `+`; `+` alone is all.
    pub prefixes: Vec<String>,
    /// For one part.
    pub part: Money,
}

/// All prices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prices {
    currency: Arc<str>,
    all: Vec<Price>,
}

impl Prices {
    /// A list of prices in this currency.
    pub fn new(currency: Arc<str>, all: Vec<Price>) -> Self {
        Self { currency, all }
    }

    /// What the administrator calls the currency.
    pub fn currency(&self) -> &Arc<str> {
        &self.currency
    }

    /// What a part to this number costs there, if that is known.
    pub fn of(&self, carrier: &str, number: &Number) -> Option<Money> {
        self.of_digits(carrier, number.as_str())
    }

    /// The same for all numbers that begin so; what is dearer or cheaper for some of them does not count.
    pub fn of_digits(&self, carrier: &str, digits: &str) -> Option<Money> {
        let theirs = self.all.iter().enumerate().filter(|(_, price)| *price.carrier == *carrier);
        let fitting = theirs.filter_map(|(at, price)| {
            Some((longest_beginning(digits, &price.prefixes)?, std::cmp::Reverse(at), price.part))
        });
        fitting.max_by_key(|(length, at, _)| (*length, *at)).map(|(.., part)| part)
    }
}

/// A price in tests.
#[cfg(test)]
pub(super) fn price(carrier: &str, prefix: &str, part: &str) -> Price {
    Price { carrier: carrier.into(), prefixes: vec![prefix.to_owned()], part: part.parse().unwrap() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_says_what_a_part_costs() {
        let prices = Prices::new(
            "CNY".into(),
            vec![price("a", "+86", "0.035"), price("a", "+", "0.40"), price("a", "+86", "9"), price("b", "+1", "0.01")],
        );
        let of = |carrier, number| prices.of(carrier, &Number::parse(number).unwrap()).map(|m| m.to_string());
        assert_eq!(of("a", "+8613800138000").as_deref(), Some("0.035"), "of equals the first");
        assert_eq!(of("a", "+14155550100").as_deref(), Some("0.40"));
        assert_eq!(of("b", "+14155550100").as_deref(), Some("0.01"));
        assert_eq!((of("b", "+8613800138000"), of("c", "+14155550100")), (None, None));
    }
}
