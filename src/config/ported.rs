//! `[ported]`: by which words carriers say that a number is of another network, and how long that is believed.

use std::time::Duration;

use toml::de::DeValue;

use super::mistake::Fault;
use super::reader::Section;
use super::{quantity, value};
use crate::dispatch::PortingOptions;
use crate::route::PortedTerms;

pub(super) fn ported(section: &mut Section<'_>) -> PortingOptions {
    let default = PortingOptions::default();
    let span = quantity::span(Duration::from_secs(3_600)..=Duration::from_secs(3_650 * 86_400));
    PortingOptions {
        words: section.list("words", words).unwrap_or(default.words),
        terms: PortedTerms {
            most: section.or("entries", default.terms.most, value::count(1..=50_000_000)),
            keep: section.or("keep", default.terms.keep, span),
        },
    }
}

fn words(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = "write 3 to 60 characters of a carrier's answer, such as \"MI:0013\"";
    let text = value::as_text(value, RIGHT)?;
    let good = (3..=60).contains(&text.chars().count()) && text.chars().any(char::is_alphanumeric);
    good.then(|| text.to_owned()).ok_or_else(|| Fault::new("too little or too much to be found", RIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, good, mistakes};

    #[test]
    fn what_is_not_set_is_usual_and_what_cannot_be_is_said() {
        assert_eq!(good(GOOD).0.ported, PortingOptions::default());
        let read = good(&format!("{GOOD}[ported]\nwords = [\"MI:0013\"]\nkeep = \"30d\"\n")).0.ported;
        assert_eq!((read.words, read.terms.keep.as_secs()), (vec!["MI:0013".to_owned()], 30 * 86_400));
        let said = mistakes("[ported]\nwords = [\"x\"]\nentries = 0\n");
        assert!(said.contains("ported.words[0]: too little") && said.contains("ported.entries: 0 is out of"), "{said}");
    }
}
