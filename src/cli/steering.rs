//! `postrider steering`

use super::control::{Which, unexpected};
use super::output::{Cell, DIM, NAME, WAITING, table};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::queue::steer::RuleView;
use crate::queue::steering::Action;

/// List the rules that `pause` and `reroute` have made
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider steering --config /etc/postrider/postrider.toml\n\nwaiting: what waits under the \
                        rule now. resume RULE ends a pause, reroute --end RULE a reroute."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the rules as a JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.which.ask(&Request::Rules)? {
            Response::Rules { rules } if self.json => Ok(output::print_json(&rules)?),
            Response::Rules { rules } => Ok(output::print(&for_people(&rules))?),
            other => Err(unexpected(&other)),
        }
    }
}

fn for_people(rules: &[RuleView]) -> String {
    if rules.is_empty() {
        return "no rules: nothing is held or rerouted".to_owned();
    }
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("rule").at_right(),
        head("action"),
        head("messages"),
        head("waiting").at_right(),
        head("until"),
        head("by"),
        head("reason"),
    ]];
    rows.extend(rules.iter().map(|RuleView { rule, waiting }| {
        let action = match &rule.action {
            Action::Pause => "pause".to_owned(),
            Action::Reroute { to } => format!("reroute to {to}"),
        };
        vec![
            Cell::number(rule.id),
            Cell::new(action).styled(WAITING),
            Cell::new(rule.selector.to_string()).styled(NAME),
            Cell::number(*waiting),
            Cell::new(rule.expires_at.map_or_else(|| "ended".to_owned(), |at| at.rfc3339())),
            Cell::new(&*rule.by),
            Cell::new(&*rule.reason),
        ]
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_table() {
        let rules = r#"[
            {"id":1,"action":"pause","selector":{"client":"shop","campaign":"spring"},"reason":"wrong price","by":"lin",
             "since":"2026-11-23T06:24:00.000000Z","waiting":1200},
            {"id":2,"action":"reroute","to":"b:25","selector":{"domain":"example.net"},"reason":"MX down","by":"uid 0",
             "since":"2026-11-23T06:24:00.000000Z","expires_at":"2026-11-23T07:24:00.000000Z","waiting":0}]"#;
        let rules: Vec<RuleView> = serde_json::from_str(rules).unwrap();
        let shown = anstream::adapter::strip_str(&for_people(&rules)).to_string();
        assert_eq!(
            shown,
            "rule  action           messages                      waiting  until                        by     reason\n   \
                1  pause            campaign spring, client shop    1,200  ended                        lin    wrong price\n   \
                2  reroute to b:25  domain example.net                  0  2026-11-23T07:24:00.000000Z  uid 0  MX down\n"
        );
    }
}
