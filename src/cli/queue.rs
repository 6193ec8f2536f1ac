//! `postrider queue`

use std::collections::BTreeMap;

use super::control::{Which, unexpected};
use super::output::{BOLD, Cell, DIM, NAME, WAITING, hidden, paint, plural, printable, size, table};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::queue::view::QueueView;

/// Show what waits, by lane
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider queue --config /etc/postrider/postrider.toml\n\nA lane is what waits for one \
                        destination, class and client. ready: would go now; waiting: for its next attempt; sending: on its \
                        way."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Most lanes shown, the fullest first
    #[arg(long, value_name = "N", default_value_t = 30)]
    lanes: usize,
    /// Print all of it as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.which.ask(&Request::Queue { lanes: self.lanes })? {
            Response::Queue(view) if self.json => Ok(output::print_json(&view)?),
            Response::Queue(view) => Ok(output::print(&for_people(&view))?),
            other => Err(unexpected(&other)),
        }
    }
}

fn for_people(view: &QueueView) -> String {
    let mut out = format!("{}, {}", paint(BOLD, &plural(view.messages, "message")), size(view.bytes));
    if view.held {
        out.push_str(&format!("  {}", paint(WAITING.bold(), "paused: nothing is sent until postrider resume")));
    }
    out.push('\n');
    if view.lanes.is_empty() {
        return out;
    }
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("channel"),
        head("lane"),
        head("site"),
        head("ready").at_right(),
        head("waiting").at_right(),
        head("sending").at_right(),
        head("next attempt"),
    ]];
    rows.extend(view.lanes.iter().map(|lane| {
        vec![
            Cell::new(&*lane.channel),
            Cell::new(&*lane.lane).styled(NAME),
            Cell::new(&*lane.site),
            Cell::number(lane.ready),
            Cell::number(lane.waiting),
            Cell::number(lane.leased),
            Cell::new(lane.next_due.as_deref().unwrap_or_default()),
        ]
    }));
    out.push_str(&table(&rows));
    out.push_str(&limits_for_people(view));
    out.push_str(&hidden(view.lanes_total.saturating_sub(view.lanes.len() as u64), "lane", "--lanes"));
    out
}

/// The sites of the lanes shown, and what is in force there.
fn limits_for_people(view: &QueueView) -> String {
    let limits = view.lanes.iter().filter_map(|lane| Some((&*lane.site, lane.limit.as_deref()?)));
    let sites: BTreeMap<&str, &str> = limits.collect();
    let line = |(site, limit): (&str, &str)| format!("{}  {}\n", paint(NAME, &printable(site)), printable(limit));
    sites.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::view::LaneView;

    #[test]
    fn lanes_are_a_table() {
        let lane = LaneView {
            channel: "email".into(),
            lane: "example.com/transactional/shop".into(),
            site: "mx mx.example.com".into(),
            limit: Some("5 connections: as the provider table for any says".into()),
            ready: 0,
            waiting: 1_200,
            leased: 3,
            next_due: Some("2026-11-23T06:24:00.000000Z".into()),
        };
        let view = QueueView { held: true, messages: 1_203, bytes: 5 << 20, lanes: vec![lane], lanes_total: 3 };
        let shown = anstream::adapter::strip_str(&for_people(&view)).to_string();
        assert_eq!(
            shown,
            "1,203 messages, 5.0 MiB  paused: nothing is sent until postrider resume\n\
             channel  lane                            site               ready  waiting  sending  next attempt\n\
             email    example.com/transactional/shop  mx mx.example.com      0    1,200        3  2026-11-23T06:24:00.000000Z\n\
             mx mx.example.com  5 connections: as the provider table for any says\n\
             and 2 lanes more: --lanes N shows them\n"
        );
    }
}
