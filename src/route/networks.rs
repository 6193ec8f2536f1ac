//! Whose a number is: first digits and the mobile network that they were given to.
//!
//! **Promises.** The longest first digits win; a number written out whole is the longest there can be. What came later in the
//! list replaces what said the same digits before it.
//!
//! **Does not know** where a number was ported to, unless the administrator wrote it down as such a longer beginning, or whoever asks says
//! which networks it is not of: since numbers may keep their digits when they change their network, first digits are a hint and no more.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::Number;

/// Characters of a number that say its country, its `+` among them, as far as that matters here.
const COUNTRY: usize = 3;

/// A mobile network, and the numbers that were given to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// Its name, by which routes mean it.
    pub name: Arc<str>,
    /// MCC and MNC (ITU-T E.212), five or six digits, by which they may mean it as well.
    pub mcc_mnc: Option<Arc<str>>,
    /// First digits of its numbers, with the `+`, or whole numbers.
    pub prefixes: Vec<String>,
}

/// A table of networks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks {
    all: Vec<Network>,
    /// Which of them first digits belong to.
    by_prefix: HashMap<Box<str>, usize>,
    /// Digits of the longest beginning, its `+` among them.
    longest: usize,
}

impl Networks {
    /// A table; one that bears the name of an earlier one adds to it.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let mut table = Self::default();
        for network in networks {
            let known = table.all.iter().position(|n| n.name == network.name);
            let at = known.unwrap_or(table.all.len());
            for prefix in &network.prefixes {
                table.longest = table.longest.max(prefix.len());
                table.by_prefix.insert(prefix.as_str().into(), at);
            }
            match known {
                Some(at) => {
                    table.all[at].prefixes.extend(network.prefixes);
                    table.all[at].mcc_mnc = network.mcc_mnc.or(table.all[at].mcc_mnc.take());
                }
                None => table.all.push(network),
            }
        }
        table
    }

    /// The network of a number, and how many characters of it say so.
    pub fn of(&self, number: &Number) -> Option<(&Network, usize)> {
        let text = number.as_str();
        let lengths = (1..=text.len().min(self.longest)).rev();
        lengths.filter_map(|length| Some((&self.all[*self.by_prefix.get(&text[..length])?], length))).next()
    }

    /// The network of a number that is known to be none of some: the one that its digits say if it is not among those, else the first of
    /// its country that is not. `None` if nothing is left.
    pub fn but(&self, number: &Number, not: &[Arc<str>]) -> Option<(&Network, usize)> {
        let text = number.as_str();
        let said = self.of(number);
        // A whole number was written down by somebody who knows.
        if let Some((network, length)) =
            said.filter(|(network, length)| *length == text.len() || !not.contains(&network.name))
        {
            return Some((network, length));
        }
        let country = text.get(..COUNTRY)?;
        let of_country = |network: &&Network| network.prefixes.iter().any(|prefix| prefix.starts_with(country));
        self.all.iter().filter(of_country).find(|network| !not.contains(&network.name)).map(|n| (n, text.len()))
    }

    /// All of them.
    pub fn all(&self) -> &[Network] {
        &self.all
    }

    /// True if a route may mean one by this word: a name, or MCC and MNC.
    pub fn knows(&self, word: &str) -> bool {
        self.all.iter().any(|network| network.is(word))
    }
}

impl Network {
    /// Is it meant by this word?
    pub fn is(&self, word: &str) -> bool {
        *self.name == *word || self.mcc_mnc.as_deref() == Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, prefixes: &[&str]) -> Network {
        Network { name: name.into(), mcc_mnc: None, prefixes: prefixes.iter().map(|&p| p.to_owned()).collect() }
    }

    #[test]
    fn the_longest_beginning_says_whose_a_number_is() {
        let ported = network("unicom", &["+8613900000001"]);
        let table = Networks::new([network("mobile", &["+86139", "+861703"]), network("unicom", &["+86170"]), ported]);
        let of = |number: &str| {
            table.of(&Number::parse(number).unwrap()).map(|(network, length)| (network.name.to_string(), length))
        };
        assert_eq!(of("+8613912345678"), Some(("mobile".to_owned(), 6)));
        assert_eq!(of("+8613900000001"), Some(("unicom".to_owned(), 14)), "it took its number along");
        assert_eq!(of("+8617031234567"), Some(("mobile".to_owned(), 7)));
        assert_eq!(of("+8617091234567"), Some(("unicom".to_owned(), 6)));
        assert_eq!(of("+14155550100"), None);
        assert_eq!(table.all().len(), 2);
    }

    #[test]
    fn what_a_number_is_not_leaves_the_others_of_its_country() {
        let whole = network("unicom", &["+8613900000001"]);
        let (mobile, abroad) = (network("mobile", &["+86139"]), network("abroad", &["+4915"]));
        let table =
            Networks::new([mobile, abroad, network("unicom", &["+86130"]), network("telecom", &["+86133"]), whole]);
        let but = |number: &str, not: &[&str]| {
            let not: Vec<Arc<str>> = not.iter().map(|&name| name.into()).collect();
            table.but(&Number::parse(number).unwrap(), &not).map(|(network, _)| network.name.to_string())
        };
        assert_eq!(but("+8613912345678", &["unicom"]).as_deref(), Some("mobile"));
        assert_eq!(but("+8613912345678", &["mobile"]).as_deref(), Some("unicom"));
        assert_eq!(but("+8613912345678", &["mobile", "unicom"]).as_deref(), Some("telecom"), "two leave one");
        assert_eq!(but("+8613912345678", &["mobile", "unicom", "telecom"]), None);
        assert_eq!(but("+8613900000001", &["unicom"]).as_deref(), Some("unicom"), "it was written down");
    }

    #[test]
    fn what_comes_later_replaces_and_adds() {
        let mobile = Network { mcc_mnc: Some("46000".into()), ..network("mobile", &["+86139"]) };
        let table = Networks::new([mobile, network("mobile", &["+86199"]), network("own", &["+86139"])]);
        let of = |number: &str| table.of(&Number::parse(number).unwrap()).map(|(n, _)| &*n.name);
        assert_eq!((of("+8613912345678"), of("+8619912345678")), (Some("own"), Some("mobile")));
        assert!(table.knows("46000") && table.knows("own") && !table.knows("46001"));
    }
}
