//! `[[sms_route]]`, `[[network]]`, `[[sending_hours]]`: which texts go to which carriers, whose numbers are whose, and when texts
//! leave.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Fault, among, shortened};
use super::raw::{RawConfig, values};
use super::reader::{Notes, Placed, Section};
use super::value;
use crate::model::Class;
use crate::route::{
    Choice, Course, Hours, HoursError, Network, Networks, SendingHours, TextRoute, TextRoutes, Weights,
};

/// The networks that come with the program, to which the administrator's add.
const SHIPPED: &str = include_str!("../../config/networks.toml");

/// Most a carrier of a route may weigh.
const WEIGHT_MAX: u64 = 1_000_000;

pub(super) fn sms_route(section: &mut Section<'_>) -> Option<TextRoute> {
    let prefixes = section.list("prefixes", value::prefix).unwrap_or_default();
    let networks = section.list("networks", value::name).unwrap_or_default();
    let classes = section.list("classes", value::class).unwrap_or_default();
    let clients = section.list("clients", value::name).unwrap_or_default();
    let carriers = section.required_list("carriers", r#"["cmcc-1"]"#, value::name);
    let weights = section.list("weights", value::whole(0..=WEIGHT_MAX));
    if prefixes.is_empty() && networks.is_empty() {
        let right = r#"add prefixes = ["+86138"], or ["+"] for all, or networks = ["china-mobile"]"#;
        section.mistake("prefixes", "the route says nothing of numbers", right);
        return None;
    }
    let carriers = carriers?;
    let choice = choice(section, weights, carriers.len())?;
    let then: Vec<Arc<str>> = section.list("then", value::name).unwrap_or_default();
    if let Some((at, twice)) = then.iter().enumerate().find(|(_, name)| carriers.contains(*name)) {
        let wrong = format!("\"{twice}\" stands in carriers as well");
        section.mistake(&format!("then[{at}]"), wrong, "name in then who comes after all of carriers");
    }
    let course = Arc::new(Course { carriers: carriers.into(), choice, then: then.into() });
    Some(TextRoute { prefixes, networks, classes, clients, course })
}

/// Carriers that are not the best share so many of a hundred texts, if nobody says otherwise.
const CANARY: u64 = 5;

fn choice(section: &mut Section<'_>, weights: Option<Vec<u64>>, carriers: usize) -> Option<Choice> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum By {
        Order,
        Price,
        Quality,
    }
    const WORDS: &[(&str, By)] = &[("order", By::Order), ("price", By::Price), ("quality", By::Quality)];
    let by = section.optional("by", value::word(WORDS));
    let canary = section.optional("canary", value::whole(0..=50));
    if canary.is_some() && by != Some(By::Quality) {
        section.mistake("canary", "only a choice by quality has one", "write by = \"quality\", or leave it out");
    }
    match (weights, by) {
        (Some(_), Some(_)) => {
            section.mistake("weights", "they say who gets a text, and by does", "leave one of them out");
            None
        }
        (Some(weights), None) => Some(Choice::Weights(weights_of(section, &weights, carriers)?)),
        (None, Some(By::Quality)) => {
            let canary = u32::try_from(canary.unwrap_or(CANARY)).unwrap_or_default();
            Some(Choice::Quality { canary })
        }
        (None, Some(By::Price)) => Some(Choice::Price),
        (None, Some(By::Order) | None) => Some(Choice::Order),
    }
}

fn weights_of(section: &Section<'_>, weights: &[u64], carriers: usize) -> Option<Weights> {
    let small: Vec<u32> = weights.iter().map(|w| u32::try_from(*w).unwrap_or(u32::MAX)).collect();
    let usable = Weights::new(&small, carriers);
    if usable.is_none() {
        let wrong = if weights.len() == carriers {
            "no carrier weighs anything".to_owned()
        } else {
            format!("{} weights for {carriers} carriers", weights.len())
        };
        section.mistake("weights", wrong, "write a number for each carrier, in their order, such as [95, 5]");
    }
    usable
}

pub(super) fn network(section: &mut Section<'_>) -> Option<Network> {
    let name = section.required("name", r#""china-mobile""#, value::name);
    let mcc_mnc = section.optional("mcc_mnc", mcc_mnc);
    let prefixes = section.required_list("prefixes", r#"["+86138"]"#, value::prefix);
    Some(Network { name: name?, mcc_mnc, prefixes: prefixes? })
}

pub(super) fn sending_hours(section: &mut Section<'_>) -> Option<SendingHours> {
    let prefixes = section.required_list("prefixes", r#"["+86"]"#, value::prefix);
    let classes = section.list("classes", value::class).filter(|classes| !classes.is_empty());
    let hours = section.required("hours", r#""08:00-20:00 +08:00""#, hours);
    let classes = classes.unwrap_or_else(|| vec![Class::Marketing]);
    Some(SendingHours { prefixes: prefixes?, classes, hours: hours? })
}

fn hours(value: &DeValue<'_>) -> Result<Hours, Fault> {
    let text = value::as_text(value, &HoursError.to_string())?;
    text.parse().map_err(|e: HoursError| Fault::new(format!("\"{}\" are no hours", shortened(text)), e.to_string()))
}

/// Marketing in mainland China: what the cautious half of its carriers' platforms allows.
fn chinese_hours() -> SendingHours {
    SendingHours { prefixes: vec!["+86".to_owned()], classes: vec![Class::Marketing], hours: Hours::CHINESE_MARKETING }
}

/// Three digits of country and two or three of network (ITU-T E.212).
fn mcc_mnc(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    const RIGHT: &str = "write MCC and MNC together, five or six digits, such as \"46000\"";
    let text = value::as_text(value, RIGHT)?;
    let right = (5..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if right { Ok(text.into()) } else { Err(Fault::new(format!("\"{}\" is no MCC and MNC", shortened(text)), RIGHT)) }
}

/// The networks that come with the program.
fn shipped() -> &'static [Network] {
    static NETWORKS: LazyLock<Vec<Network>> = LazyLock::new(|| {
        let none = |_: &str| None;
        let notes = Notes::new(Path::new("config/networks.toml"), SHIPPED, &none);
        let table = DeTable::parse(SHIPPED).ok();
        let read = |table: &Spanned<DeTable<'_>>| {
            Section::read_root(&notes, table.get_ref(), |root| values(root.tables("network", network)))
        };
        table.as_ref().map(read).unwrap_or_default()
    });
    &NETWORKS
}

/// The table of routes.
pub(super) fn routes(
    routes: Vec<Placed<TextRoute>>,
    networks: Vec<Placed<Network>>,
    hours: Vec<Placed<SendingHours>>,
) -> TextRoutes {
    let networks = Networks::new(shipped().iter().cloned().chain(values(networks)));
    // Of equals the first counts: the administrator's.
    let hours = values(hours).into_iter().chain([chinese_hours()]).collect();
    TextRoutes::new(values(routes), Arc::new(networks), hours)
}

/// What routes name must be there, and of two for the same texts the second would never be taken.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let carriers: Vec<&str> = raw.carriers.iter().map(|c| &*c.value.name).collect();
    let clients: Vec<&str> = raw.clients.iter().map(|c| &*c.value.name).collect();
    let networks = Networks::new(shipped().iter().chain(raw.networks.iter().map(|n| &n.value)).cloned());
    let words: Vec<&str> = networks.all().iter().map(|n| &*n.name).collect();
    let complete = |key: &str, read: usize| !super::relations::incomplete(notes, key, read);
    let all_carriers = complete("carrier", raw.carriers.len());
    let all_clients = complete("client", raw.clients.len());
    let all_networks = complete("network", raw.networks.len());
    for placed in &raw.sms_routes {
        let route = &placed.value;
        let refuse = |key: &str, names: &[Arc<str>], is_known: &dyn Fn(&str) -> bool, known: &[&str]| {
            let what = if key == "then" { "carrier" } else { key };
            for (i, name) in names.iter().enumerate().filter(|(_, name)| !is_known(name)) {
                let wrong = format!("unknown {} \"{}\"", what.trim_end_matches('s'), shortened(name));
                notes.mistake(&placed.key_of(&format!("{key}[{i}]")), wrong, among(name, known));
            }
        };
        let one_of = |names: &[&str], name: &str| names.contains(&name);
        refuse("carriers", &route.course.carriers, &|name| !all_carriers || one_of(&carriers, name), &carriers);
        refuse("then", &route.course.then, &|name| !all_carriers || one_of(&carriers, name), &carriers);
        refuse("clients", &route.clients, &|name| !all_clients || one_of(&clients, name), &clients);
        refuse("networks", &route.networks, &|word| !all_networks || networks.knows(word), &words);
    }
    super::relations::once(notes, said(raw), |(what, ..)| format!("\"{what}\" has a route already"), "name each once");
    for carrier in &raw.carriers {
        if !raw.sms_routes.iter().any(|r| r.value.course.leads_to(&carrier.value.name)) {
            notes.warn(&carrier.key_of("name"), "no [[sms_route]] leads to this carrier", "name it in one");
        }
    }
}

/// Everything that routes say about texts: beginning or network, class, client; `None` for all.
type Said<'r> = (&'r str, Option<Class>, Option<&'r str>);

fn said(raw: &RawConfig) -> impl Iterator<Item = (Said<'_>, String)> {
    raw.sms_routes.iter().flat_map(|placed| {
        let TextRoute { prefixes, networks, classes, clients, .. } = &placed.value;
        let prefixes = prefixes.iter().enumerate().map(|(i, p)| (p.as_str(), format!("prefixes[{i}]")));
        let networks = networks.iter().enumerate().map(|(i, n)| (&**n, format!("networks[{i}]")));
        let classes = each_or_all(classes.iter().copied());
        let clients = each_or_all(clients.iter().map(|c| &**c));
        let mut all = Vec::new();
        for (what, key) in prefixes.chain(networks) {
            for class in &classes {
                all.extend(clients.iter().map(|client| ((what, *class, *client), placed.key_of(&key))));
            }
        }
        all
    })
}

fn each_or_all<T>(named: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let each: Vec<Option<T>> = named.map(Some).collect();
    if each.is_empty() { vec![None] } else { each }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Number;

    #[test]
    fn the_shipped_networks_are_right_and_tell_numbers_apart() {
        let none = |_: &str| None;
        let notes = Notes::new(Path::new("config/networks.toml"), SHIPPED, &none);
        let table = DeTable::parse(SHIPPED).unwrap();
        let read = Section::read_root(&notes, table.get_ref(), |root| root.tables("network", network));
        assert_eq!(notes.finish().0, []);
        assert_eq!(read.len(), shipped().len());
        let mut seen = std::collections::HashSet::new();
        for prefix in shipped().iter().flat_map(|n| &n.prefixes) {
            assert!(seen.insert(prefix.clone()), "{prefix} stands twice");
        }
        let networks = Networks::new(shipped().iter().cloned());
        let of = |number: &str| networks.of(&Number::parse(number).unwrap()).map(|(n, _)| n.name.to_string());
        for (number, network) in [
            ("+8613800138000", Some("china-mobile")),
            ("+8618612345678", Some("china-unicom")),
            ("+8617031234567", Some("china-mobile")),
            ("+8617091234567", Some("china-unicom")),
            ("+8617001234567", Some("china-telecom")),
            ("+8619212345678", Some("china-broadcast")),
            ("+8612345678901", None),
            ("+14155550100", None),
        ] {
            assert_eq!(of(number).as_deref(), network, "{number}");
        }
    }
}
