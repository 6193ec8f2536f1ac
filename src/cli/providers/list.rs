//! `postrider providers list`

use serde::Serialize;

use super::super::output::{BOLD, Cell, DIM, NAME, table};
use super::super::{Failure, output};
use super::{RowView, Which, measures, span};
use crate::provider::{Provider, Table};

/// Show the providers and with what limits to start there, or one of them and what its replies mean
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider providers list\n  postrider providers list gmail\n  postrider providers list \
                        --config /etc/postrider/postrider.toml --json\n\nRows are asked from top to bottom; the first that \
                        fits wins. The limits are data: nothing is held to them yet."
)]
pub(super) struct Args {
    /// A provider's name: show what its replies mean
    #[arg(value_name = "PROVIDER")]
    provider: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Print all of it as a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ProviderView<'t> {
    name: &'t str,
    mx: &'t [String],
    domains: &'t [String],
    connections: Option<u32>,
    messages_per_connection: Option<u32>,
    messages: Option<String>,
    new_connections: Option<String>,
    tls_wanted: Option<bool>,
    idle_s: Option<u64>,
    replies: Vec<RowView<'t>>,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let table = self.which.table()?;
        let chosen = self.chosen(&table)?;
        if self.json {
            return Ok(output::print_json(&chosen.into_iter().map(view).collect::<Vec<_>>())?);
        }
        Ok(output::print(&match chosen[..] {
            [one] if self.provider.is_some() => replies(one),
            _ => providers(&chosen),
        })?)
    }

    fn chosen<'t>(&self, table: &'t Table) -> Result<Vec<&'t Provider>, Failure> {
        let Some(name) = &self.provider else { return Ok(table.providers().iter().collect()) };
        let found = table.providers().iter().find(|p| *p.name == **name);
        found.map(|p| vec![p]).ok_or_else(|| {
            Failure::Failed(format!("there is no provider {}: postrider providers list", output::printable(name)))
        })
    }
}

fn view(provider: &Provider) -> ProviderView<'_> {
    let limits = &provider.limits;
    ProviderView {
        name: &provider.name,
        mx: &provider.mx,
        domains: &provider.domains,
        connections: limits.connections,
        messages_per_connection: limits.messages_per_connection,
        messages: limits.messages.map(|r| r.to_string()),
        new_connections: limits.new_connections.map(|r| r.to_string()),
        tls_wanted: limits.tls_wanted,
        idle_s: limits.idle.map(|d| d.as_secs()),
        // Those that hold everywhere stand under `any`.
        replies: provider.rows().filter(|row| row.provider == provider.name).map(RowView::of).collect(),
    }
}

fn providers(chosen: &[&Provider]) -> String {
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("provider"),
        head("connections").at_right(),
        head("mails on each").at_right(),
        head("mails").at_right(),
        head("new connections").at_right(),
        head("idle").at_right(),
        head("TLS"),
        head("mail hosts"),
    ]];
    rows.extend(chosen.iter().map(|provider| {
        let limits = &provider.limits;
        let word = |value: Option<String>| Cell::new(value.unwrap_or_else(|| "-".to_owned())).at_right();
        vec![
            Cell::new(&*provider.name).styled(NAME),
            word(limits.connections.map(|n| n.to_string())),
            word(limits.messages_per_connection.map(|n| n.to_string())),
            word(limits.messages.map(|r| r.to_string())),
            word(limits.new_connections.map(|r| r.to_string())),
            word(limits.idle.map(span)),
            Cell::new(if limits.tls_wanted == Some(true) { "wanted" } else { "" }),
            Cell::new(if provider.mx.is_empty() { "all others".to_owned() } else { provider.mx.join(" ") }),
        ]
    }));
    table(&rows)
}

fn replies(provider: &Provider) -> String {
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![head("row"), head("class"), head("action"), head("blames"), head("besides")]];
    rows.extend(provider.rows().map(|row| {
        vec![
            Cell::new(&*row.rule.id).styled(if row.provider == provider.name { BOLD } else { DIM }),
            Cell::new(row.class.as_str()),
            Cell::new(row.action.as_str()),
            Cell::new(row.blames.as_str()),
            Cell::new(measures(row)),
        ]
    }));
    table(&rows)
}
