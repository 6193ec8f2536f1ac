//! `postrider warmup`

use super::control::{Which, unexpected};
use super::output::{Cell, DIM, GOOD, NAME, WAITING, table};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::egress::email::{WARMUP_DAYS_MAX, WarmupView};

/// Show how far new sources are warmed up, or put one on another day of its plan
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider warmup --config /etc/postrider/postrider.toml\n  postrider warmup --config \
                  /etc/postrider/postrider.toml --reset mta2 --provider gmail --day 5\n\nused: recipients today, of as many as \
                  the day of its plan allows; held: days in a row that a gate has held it. The provider is any for hosts that \
                  nobody in the provider table runs. A day behind the last one of a plan makes a source warm. Mail that waits \
                  goes at once after a reset and postrider flush."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Put this source on a day of its plan, as if nothing had been sent on it
    #[arg(long, value_name = "SOURCE")]
    reset: Option<String>,
    /// Towards this provider only, as the provider table calls it
    #[arg(long, value_name = "NAME", requires = "reset")]
    provider: Option<String>,
    /// The day, the first if it is not said
    #[arg(long, value_name = "N", requires = "reset", value_parser = clap::value_parser!(u32).range(1..=i64::from(WARMUP_DAYS_MAX)))]
    day: Option<u32>,
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { which, reset, provider, day, json } = self;
        let request = match reset {
            Some(source) => Request::ResetWarmup { source, provider, day: day.unwrap_or(1) },
            None => Request::Warmup,
        };
        match which.ask(&request)? {
            Response::Warmup { sources } if json => Ok(output::print_json(&sources)?),
            Response::Warmup { sources } => Ok(output::print(&for_people(&sources))?),
            other => Err(unexpected(&other)),
        }
    }
}

fn for_people(sources: &[WarmupView]) -> String {
    if sources.is_empty() {
        return "no source has a plan to be warmed up by".to_owned();
    }
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("source"),
        head("plan"),
        head("provider"),
        head("day").at_right(),
        head("used").at_right(),
        head("of").at_right(),
        head("held").at_right(),
        head("last verdict, and what it waits for"),
    ]];
    rows.extend(sources.iter().map(|view| {
        let day = match view.day {
            Some(day) => Cell::new(format!("{day}/{}", view.days)).at_right(),
            None => Cell::new("warm").at_right().styled(GOOD),
        };
        let said: Vec<&str> = [&view.verdict, &view.waits].into_iter().filter_map(|text| text.as_deref()).collect();
        let style = if view.waits.is_some() { WAITING } else { DIM };
        vec![
            Cell::new(&*view.source).styled(NAME),
            Cell::new(&*view.plan),
            Cell::new(view.provider.as_deref().unwrap_or("-")),
            day,
            Cell::number(view.used),
            view.cap.map_or_else(|| Cell::new("-").at_right(), Cell::number),
            Cell::number(u64::from(view.held_days)),
            Cell::new(said.join("; ")).styled(style),
        ]
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_a_table() {
        let sources = r#"[
            {"source":"new","plan":"slow","provider":"gmail","day":3,"days":23,"cap":196,"used":196,"deferred":1,"unknown":0,
             "held_days":1,"verdict":"2026-11-25: advanced","waits":"source new has had its 196"},
            {"source":"new","plan":"slow","provider":"any","days":23,"used":2000,"deferred":0,"unknown":0,"held_days":0},
            {"source":"other","plan":"slow","day":1,"days":23,"cap":100,"used":0,"deferred":0,"unknown":0,"held_days":0}]"#;
        let sources: Vec<WarmupView> = serde_json::from_str(sources).unwrap();
        let shown = anstream::adapter::strip_str(&for_people(&sources)).to_string();
        assert_eq!(
            shown,
            "source  plan  provider   day   used   of  held  last verdict, and what it waits for\n\
             new     slow  gmail     3/23    196  196     1  2026-11-25: advanced; source new has had its 196\n\
             new     slow  any       warm  2,000    -     0  \n\
             other   slow  -         1/23      0  100     0  \n"
        );
    }
}
