//! With what a site of mail starts, and how far its pacer may go: the provider table's limits within the administrator's.
//!
//! **Promises.** The administrator's number is never exceeded, whatever the table says. Where nobody in the table runs a host,
//! it is also what is started with.

use std::time::Duration;

use super::Blamed;
use crate::provider::{ANY, Limits};
use crate::schedule::{Bounds, By, OverAll, Shares, Terms};

/// What an administrator may say about the pace of mail.
#[derive(Clone, PartialEq, Debug)]
pub struct PaceOptions {
    /// Connections to one site, at most, of all sources together.
    pub connections_max: Option<usize>,
    /// Mails a second to one site, at most, of all sources together.
    pub per_second_max: Option<f64>,
    /// Mails over one connection, at most.
    pub messages_per_connection_max: Option<u32>,
    /// How long a connection without work may stay open.
    pub idle: Option<Duration>,
    /// How far below its start a pacer may go: a share of it.
    pub least: f64,
    /// How far above: a multiple.
    pub most: f64,
    /// Which shares of deferrals and bounces are too much.
    pub shares: Shares,
    /// When refusals blamed on a campaign or a sender are no single cases.
    pub blamed: Blamed,
    /// With what to start at hosts that nobody in the provider table runs.
    pub anybody: Limits,
}

impl Default for PaceOptions {
    fn default() -> Self {
        Self {
            connections_max: None,
            per_second_max: None,
            messages_per_connection_max: None,
            idle: None,
            least: 0.25,
            most: 5.0,
            shares: Shares { deferred: 0.3, bounced: 0.15, volume: 200, pause: Duration::from_secs(1_800) },
            blamed: Blamed { least: 3, share: 0.02 },
            anybody: Limits::default(),
        }
    }
}

/// Connections to a site of which the table says nothing.
const CONNECTIONS: usize = 10;

impl PaceOptions {
    /// What holds at a site whose hosts that provider runs.
    pub fn terms(&self, provider: &str, limits: &Limits) -> Terms {
        let count = |n: Option<u32>| n.map(|n| f64::from(n.max(1)));
        let start = count(limits.connections).unwrap_or(CONNECTIONS as f64);
        let rate = limits.messages.map_or(f64::INFINITY, |rate| rate.per_second());
        let connections_max = self.connections_max.map(|most| most.max(1) as f64);
        let is_nobodys = provider == ANY;
        Terms {
            provider: provider.into(),
            connections: self.bounds(start, connections_max, is_nobodys, 1.0),
            per_second: self.bounds(rate, self.per_second_max, is_nobodys, f64::MIN_POSITIVE),
            new_connections: limits.new_connections,
            messages_per_connection: limits
                .messages_per_connection
                .into_iter()
                .chain(self.messages_per_connection_max)
                .min(),
            idle: self.idle.or(limits.idle),
            // What the table says of a provider is what it lets one address do. A small host has one capacity for all.
            each_source: !is_nobodys,
            over_all: OverAll {
                connections: connections_max.unwrap_or(f64::INFINITY),
                per_second: self.per_second_max.unwrap_or(f64::INFINITY),
            },
            by: if self.connections_max.is_some_and(|most| is_nobodys || most as f64 <= start) {
                By::Administrator
            } else {
                By::Table
            },
        }
    }

    /// What holds at a fixed next hop: the operator's own host gets what the operator says, and less when it asks for less.
    pub fn fixed(&self) -> Terms {
        let start = self.connections_max.unwrap_or(CONNECTIONS).max(1) as f64;
        let rate = self.per_second_max.unwrap_or(f64::INFINITY);
        Terms {
            provider: ANY.into(),
            connections: Bounds { start, least: (start * self.least).max(1.0), most: start },
            per_second: Bounds { start: rate, least: rate * self.least, most: rate },
            new_connections: None,
            messages_per_connection: Some(self.messages_per_connection_max.unwrap_or(100)),
            idle: self.idle,
            each_source: false,
            over_all: OverAll { connections: start, per_second: rate },
            by: By::Administrator,
        }
    }

    fn bounds(&self, start: f64, most: Option<f64>, is_nobodys: bool, least: f64) -> Bounds {
        let start = match most {
            Some(most) if is_nobodys => most,
            Some(most) => start.min(most),
            None => start,
        };
        Bounds { start, least: (start * self.least).max(least).min(start), most: most.unwrap_or(start * self.most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Table;

    #[test]
    fn the_administrator_beats_the_table() {
        let table = Table::shipped();
        let (gmail, any) = (table.provider_of("aspmx.l.google.com"), table.provider_of("mx.example"));
        let shown = |options: &PaceOptions, p: &crate::provider::Provider| {
            let Terms { connections, per_second, by, .. } = options.terms(&p.name, &p.limits);
            (connections.start, connections.least, connections.most, per_second.start, per_second.most, by)
        };
        let free = PaceOptions::default();
        assert_eq!(shown(&free, gmail), (5.0, 1.25, 25.0, 100.0, 500.0, By::Table));
        assert_eq!(shown(&free, any), (10.0, 2.5, 50.0, 100.0, 500.0, By::Table));
        let bound = PaceOptions { connections_max: Some(3), per_second_max: Some(20.0), ..PaceOptions::default() };
        assert_eq!(shown(&bound, gmail), (3.0, 1.0, 3.0, 20.0, 20.0, By::Administrator));
        let wide = PaceOptions { connections_max: Some(40), per_second_max: Some(1e4), ..PaceOptions::default() };
        assert_eq!(shown(&wide, gmail), (5.0, 1.25, 40.0, 100.0, 1e4, By::Table));
        assert_eq!(shown(&wide, any), (40.0, 10.0, 40.0, 1e4, 1e4, By::Administrator));
        assert_eq!(free.fixed().connections, Bounds { start: 10.0, least: 2.5, most: 10.0 });
    }
}
