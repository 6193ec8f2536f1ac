//! Mailbox providers: who runs a mail host, which limits are a good start there, and what its replies mean.
//!
//! **What.** A [`Table`] is read from one TOML file (`config/providers.toml` is shipped in the program; an administrator may
//! name another). A [`Provider`] is known by the names of its mail hosts. [`Provider::judge`] asks its rows first, then those
//! that hold everywhere, in the order of the file; the first that fits wins.
//!
//! **Promises.** Pure look-ups. Whatever a row says: before MAIL nothing condemns a recipient or a mail, a refusal of MAIL
//! condemns no recipient, and an address may be suppressed only by an answer to RCPT or by a status x.1.z. A table is checked:
//! ids are unique, providers are defined, no row is hidden by an earlier one. This is the only module that knows how the keys
//! of its file are spelled.
//!
//! **Does not know** connections, retries, or what becomes of a refusal that no row knows: that is decided by the rules of
//! the RFCs where the reply was heard. It carries limits and measures; who sets the pace applies them.
//!
//! **Fails how.** [`Table::parse`] gives all [`Mistake`]s at once; nothing of a bad file is used.

mod mistake;
mod parse;
mod reader;
mod row;

#[cfg(test)]
mod replies;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::model::{Reply, Scope, Stage};

pub use crate::model::{Measures, Rate, Slow};
pub use mistake::Mistake;
pub use row::{Action, Class, Row};

/// The table that comes with the program.
pub const SHIPPED: &str = include_str!("../../config/providers.toml");

/// The provider whose rows hold everywhere, and whose limits are those of hosts that nobody else runs.
pub const ANY: &str = "any";

/// With what a start is made towards a provider, from one source address. What is missing is as for [`ANY`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Connections open at once.
    pub connections: Option<u32>,
    /// Mails over one connection.
    pub messages_per_connection: Option<u32>,
    /// Mails in a span of time.
    pub messages: Option<Rate>,
    /// New connections in a span of time.
    pub new_connections: Option<Rate>,
    /// Mail without TLS is refused or held against us.
    pub tls_wanted: Option<bool>,
    /// How long a connection without work may stay open.
    pub idle: Option<Duration>,
}

impl Limits {
    /// These, completed by those of everybody.
    fn or(self, general: &Self) -> Self {
        Self {
            connections: self.connections.or(general.connections),
            messages_per_connection: self.messages_per_connection.or(general.messages_per_connection),
            messages: self.messages.or(general.messages),
            new_connections: self.new_connections.or(general.new_connections),
            tls_wanted: self.tls_wanted.or(general.tls_wanted),
            idle: self.idle.or(general.idle),
        }
    }
}

/// Who runs mail hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Its name, as in metrics.
    pub name: Arc<str>,
    /// Its mail hosts: these names, and all below them.
    pub mx: Vec<String>,
    /// Domains of its mailboxes, where they are few and known.
    pub domains: Vec<String>,
    /// With what to start.
    pub limits: Limits,
    /// Its own rows, then those that hold everywhere.
    rows: Vec<Arc<Row>>,
}

impl Provider {
    /// The rows it is judged by, in their order: its own, then those that hold everywhere.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().map(|row| &**row)
    }

    /// What a refusal means that was heard at `stage`.
    pub fn judge(&self, reply: &Reply, stage: Stage) -> Judgement<'_> {
        // A positive reply that is out of step is nothing that a table could know.
        let text = matches!(reply.code, 400..=599).then(|| row::folded(&reply.text));
        let row = text.and_then(|text| self.rows().find(|row| row.knows(reply, &text, stage)));
        let Some(row) = row else {
            let bounces = reply.code / 100 == 5 && !comes_before_mail(stage);
            let action = if bounces { Action::Bounce } else { Action::Retry };
            return Judgement { row: None, action, blames: None };
        };
        let action = match row.action {
            Action::Bounce | Action::Suppress if comes_before_mail(stage) => Action::Retry,
            Action::Suppress if !may_suppress(reply, stage) => Action::Bounce,
            action => action,
        };
        let blames = match row.blames {
            Scope::Recipient | Scope::Message if comes_before_mail(stage) => Scope::Host,
            Scope::Recipient if stage == Stage::Mail => Scope::Message,
            scope => scope,
        };
        Judgement { row: Some(row), action, blames: Some(blames) }
    }
}

/// Nothing has been said of any mail yet.
fn comes_before_mail(stage: Stage) -> bool {
    matches!(stage, Stage::Route | Stage::Dns | Stage::Connect | Stage::Hello | Stage::Tls)
}

fn may_suppress(reply: &Reply, stage: Stage) -> bool {
    stage == Stage::Recipient || reply.enhanced.is_some_and(|e| e.subject == 1)
}

/// What a refusal means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement<'t> {
    /// The row that knows it. Without one, the rest is what the bare code says, and whoever heard it may know better.
    pub row: Option<&'t Row>,
    /// What becomes of the mail.
    pub action: Action,
    /// Whom it blames, if a row says so.
    pub blames: Option<Scope>,
}

impl Judgement<'_> {
    /// The class, as metrics name it.
    pub fn class(&self) -> &'static str {
        self.row.map_or("none", |row| row.class.as_str())
    }
}

/// All providers, and the rows that know their replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The first is [`ANY`].
    providers: Vec<Provider>,
    /// Names of mail hosts, to places in `providers`.
    by_suffix: HashMap<String, usize>,
}

impl Table {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// All mistakes, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        parse::table(text)
    }

    /// The table that comes with the program.
    pub fn shipped() -> Arc<Self> {
        static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| {
            Arc::new(Table::parse(SHIPPED).unwrap_or_else(|mistakes| {
                // A test holds that there are none.
                tracing::error!(?mistakes, "the shipped provider table is wrong");
                Table::default()
            }))
        });
        TABLE.clone()
    }

    /// All providers; the first is [`ANY`].
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Who runs a mail host: the one with the longest name that the host's name ends in; [`ANY`] if nobody is known.
    pub fn provider_of(&self, mx_host: &str) -> &Provider {
        let host = mx_host.trim_end_matches('.').to_ascii_lowercase();
        let mut name = host.as_str();
        loop {
            if let Some(provider) = self.by_suffix.get(name).and_then(|place| self.providers.get(*place)) {
                return provider;
            }
            match name.split_once('.') {
                Some((_, parent)) => name = parent,
                None => return &self.providers[0],
            }
        }
    }

    /// Puts providers and rows together. They have been checked; the first provider is [`ANY`].
    fn new(mut providers: Vec<Provider>, rows: Vec<Row>) -> Self {
        let general = providers[0].limits.clone();
        let (everywhere, own): (Vec<_>, Vec<_>) = rows.into_iter().map(Arc::new).partition(|r| &*r.provider == ANY);
        for provider in &mut providers {
            provider.limits = std::mem::take(&mut provider.limits).or(&general);
            provider.rows = own.iter().filter(|r| r.provider == provider.name).chain(&everywhere).cloned().collect();
        }
        let named = providers.iter().enumerate();
        let by_suffix = named.flat_map(|(place, p)| p.mx.iter().map(move |name| (name.clone(), place))).collect();
        Self { providers, by_suffix }
    }
}

impl Default for Table {
    /// Knows nobody and nothing: the rules of the RFCs are left.
    fn default() -> Self {
        let any = Provider {
            name: ANY.into(),
            mx: Vec::new(),
            domains: Vec::new(),
            limits: Limits::default(),
            rows: Vec::new(),
        };
        Self::new(vec![any], Vec::new())
    }
}
