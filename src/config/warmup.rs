//! `[[warmup]]`: plans by which new sources are warmed up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::reader::Section;
use super::{quantity, value};
use crate::egress::email::{Share, WarmupPlan, WarmupRules};

/// Days of one plan.
const DAYS_MAX: usize = 366;
/// Recipients of one day.
const RECIPIENTS_MAX: u64 = 1_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A plan, with the places of those providers that it names.
pub(super) struct PlanSection {
    pub(super) plan: WarmupPlan,
    /// Name, and where it stands.
    pub(super) named: Vec<(Arc<str>, String)>,
}

pub(super) fn plan(section: &mut Section<'_>) -> Option<PlanSection> {
    let name = section.required("name", r#""slow""#, value::name);
    let days = days(section);
    let own = section.tables("provider", provider);
    let rules = rules(section);
    let built_in = WarmupPlan::default();
    // Who writes days means them for everybody whom the plan does not name.
    let mut providers = if days.is_some() { BTreeMap::new() } else { built_in.providers };
    let named = own.iter().map(|one| (one.value.0.clone(), one.key_of("name"))).collect();
    providers.extend(own.into_iter().map(|one| one.value));
    Some(PlanSection { plan: WarmupPlan { name: name?, days: days.unwrap_or(built_in.days), providers, rules }, named })
}

/// `[[warmup.provider]]`
fn provider(section: &mut Section<'_>) -> Option<(Arc<str>, Arc<[u32]>)> {
    let name = section.required("name", r#""gmail""#, value::name);
    let days = days(section);
    if days.is_none() && !section.notes.has(&section.key_of("days")) {
        section.mistake("days", "missing", "add days = [500, 1000, 2000]");
    }
    Some((name?, days?))
}

/// Recipients a day; `None` where they are missing, or wrong, which has been reported.
fn days(section: &mut Section<'_>) -> Option<Arc<[u32]>> {
    let days = section.list("days", value::whole(1..=RECIPIENTS_MAX))?;
    if days.is_empty() || days.len() > DAYS_MAX {
        let right = format!("expected recipients a day for 1 to {DAYS_MAX} days, such as [50, 100, 200]");
        section.mistake("days", format!("the plan has {} days", days.len()), right);
        return None;
    }
    Some(days.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect())
}

fn rules(section: &mut Section<'_>) -> WarmupRules {
    let built_in = WarmupRules::default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let days = |built_in: u32| built_in as usize;
    let idle = section.or("idle", DAY * built_in.idle_days, quantity::span(DAY..=1_000 * DAY));
    WarmupRules {
        zone_s: section.or("zone", built_in.zone_s, zone),
        hourly: section.or("hourly_percent", built_in.hourly, percent),
        used_min: section.or("used_min_percent", built_in.used_min, percent),
        deferred: section.or("deferrals_max_percent", built_in.deferred, percent),
        unknown: section.or("unknown_max_percent", built_in.unknown, percent),
        complaints: section.or("complaints_max_percent", built_in.complaints, percent),
        volume: count(section.or("volume", days(built_in.volume), value::count(1..=1_000_000))),
        badly: count(section.or("badly", days(built_in.badly), value::count(1..=1_000))),
        held_max: count(section.or("held_days_max", days(built_in.held_max), value::count(0..=1_000))),
        back: count(section.or("back", days(built_in.back), value::count(0..=1_000))),
        back_blocked: count(section.or("back_blocked", days(built_in.back_blocked), value::count(0..=1_000))),
        idle_days: u32::try_from(idle.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX),
        back_idle: count(section.or("back_idle", days(built_in.back_idle), value::count(0..=1_000))),
    }
}

/// `1`, `0.1`: more than nothing, at most all.
fn percent(value: &DeValue<'_>) -> Result<Share, Fault> {
    const RIGHT: &str = "expected a number above 0 and up to 100, such as 1 or 0.1";
    let whole = value.as_integer().filter(|i| i.radix() == 10).map(|i| i.as_str());
    let Some(text) = whole.or_else(|| value.as_float().map(|f| f.as_str())) else {
        return Err(Fault::new(format!("expected a number, found {}", value.type_str()), RIGHT));
    };
    let share = text.parse::<f64>().ok().filter(|percent| (0.0001..=100.0).contains(percent));
    let share = share.ok_or_else(|| Fault::new(format!("{} is out of range", shortened(text)), RIGHT))?;
    // At most a million: it fits.
    Ok(Share::millionths((share * 10_000.0).round() as u32))
}

/// `"+08:00"`: how far its clocks are ahead of UTC.
fn zone(value: &DeValue<'_>) -> Result<i32, Fault> {
    const RIGHT: &str = r#"how far the clocks are ahead of UTC where the day begins, such as "+08:00" or "-05:00""#;
    let text = value::as_text(value, RIGHT)?;
    let parse = || {
        let (sign, rest) = text.split_at_checked(1)?;
        let sign = match sign {
            "+" => 1,
            "-" => -1,
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let number = |digits: &str, most: i32| {
            let good = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<i32>().ok().filter(|n| good && *n <= most)
        };
        Some(sign * (number(hours, 14)? * 3_600 + number(minutes, 59)? * 60))
    };
    parse().ok_or_else(|| Fault::new(format!("bad zone \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use toml::de::DeTable;

    use super::super::tests::{GOOD, good, mistakes};
    use super::*;

    const SOURCE: &str = "[[source]]\nname = \"new\"\nwarmup = \"slow\"\n";

    fn quoted(text: &str) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(text))
    }

    #[test]
    fn zones_are_ahead_of_utc_or_behind() {
        for (text, seconds) in [("+08:00", 28_800), ("-05:30", -19_800), ("+00:00", 0), ("-00:00", 0)] {
            assert_eq!(zone(&quoted(text)), Ok(seconds), "{text}");
        }
        for bad in ["", "8", "08:00", "+8:00", "+08", "+15:00", "+08:60", "+0a:00", "é08:00", "+é:00"] {
            assert!(zone(&quoted(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_may_have_a_point() {
        let of = |text: &str| {
            let text = format!("a = {text}");
            let table = DeTable::parse(&text).unwrap();
            percent(table.get_ref()["a"].get_ref())
        };
        assert_eq!(of("1"), Ok(Share::percent(1)));
        assert_eq!(of("0.1").unwrap().to_string(), "0.1 %");
        assert_eq!(of("100.0"), Ok(Share::percent(100)));
        for bad in ["0", "-1", "100.1", "\"1\"", "nan", "inf", "true", "0x10"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_has_its_plan() {
        let plan = "[[warmup]]\nname = \"slow\"\ndays = [5, 10]\nidle = \"60d\"\ndeferrals_max_percent = 0.5\n\
                    [[warmup.provider]]\nname = \"gmail\"\ndays = [7]\n";
        let (config, warnings) = good(&format!("{GOOD}{SOURCE}{plan}"));
        assert_eq!(warnings, []);
        let source = config.sources.sources().next().unwrap();
        let plan = source.warmup.as_ref().unwrap();
        assert_eq!(
            (plan.days_of("gmail"), plan.days_of("qq"), plan.days_of("any")),
            (&[7][..], &[5, 10][..], &[5, 10][..])
        );
        let rules = WarmupRules { idle_days: 60, deferred: Share::millionths(5_000), ..WarmupRules::default() };
        assert_eq!(plan.rules, rules);
        // The built-in plan needs no table, and may be given other rules.
        let built_in = SOURCE.replace("slow", "default");
        for table in ["", "[[warmup]]\nname = \"default\"\nbadly = 3\n"] {
            let (config, warnings) = good(&format!("{GOOD}{built_in}{table}"));
            assert_eq!(warnings, []);
            let source = config.sources.sources().next().unwrap();
            assert_eq!(*source.warmup.clone().unwrap(), WarmupPlan::default());
        }
        assert!(good(GOOD).0.sources.sources().next().is_none());
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_said_where_it_stands() {
        let slow = "[[warmup]]\nname = \"slow\"\n";
        for (more, expected) in [
            (SOURCE.to_owned(), "relay.toml:11: source[0].warmup: unknown warm-up plan \"slow\"; one of default"),
            (
                format!("{SOURCE}{slow}days = []\n"),
                "relay.toml:14: warmup[0].days: the plan has 0 days; expected recipients a day for 1 to 366 days, such as \
                 [50, 100, 200]",
            ),
            (
                format!("{SOURCE}{slow}days = [0]\n"),
                "relay.toml:14: warmup[0].days[0]: 0 is out of range; expected a whole number from 1 to 1000000000",
            ),
            (
                format!("{SOURCE}{slow}unknown_max_percent = 0\n"),
                "relay.toml:14: warmup[0].unknown_max_percent: 0 is out of range; expected a number above 0 and up to 100, \
                 such as 1 or 0.1",
            ),
            (
                format!("{SOURCE}{slow}[[warmup.provider]]\nname = \"gmial\"\ndays = [1]\n"),
                "relay.toml:15: warmup[0].provider[0].name: unknown provider \"gmial\"; did you mean \"gmail\"?",
            ),
            (
                format!("{SOURCE}{slow}[[warmup.provider]]\nname = \"gmail\"\n"),
                "relay.toml:14: warmup[0].provider[0].days: missing; add days = [500, 1000, 2000]",
            ),
            (
                format!("{SOURCE}{slow}{}", "[[warmup.provider]]\nname = \"qq\"\ndays = [1]\n".repeat(2)),
                "relay.toml:18: warmup[0].provider[1].name: qq has its days already (warmup[0].provider[0].name); name each once",
            ),
            (
                format!("{SOURCE}{slow}{slow}"),
                "relay.toml:15: warmup[1].name: the name \"slow\" is taken (warmup[0].name); give each plan its own name",
            ),
        ] {
            let found = mistakes(&more);
            assert!(found.starts_with(expected) && !found.contains('\n'), "{found}\n--- for\n{more}");
        }
        let (_, warnings) = good(&format!("{GOOD}{slow}"));
        let said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["relay.toml:10: warmup[0].name: no [[source]] is warmed up by this plan; name it in one as warmup"]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC{0,12}|[+-][0-9:]{0,6}") {
            let _ = (zone(&quoted(&text)), percent(&quoted(&text)));
        }
    }
}
