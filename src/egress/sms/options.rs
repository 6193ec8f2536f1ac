//! A carrier account's settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{Secret, SenderId};
use crate::wire::smpp::{Bind, COctets, FieldError};

/// Most binds of one account.
const BINDS_MAX: usize = 64;
/// Largest window of one bind.
const WINDOW_MAX: usize = 4_096;

/// A carrier account. Durations are minima where the other side is waited for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its configured name.
    pub name: Arc<str>,
    /// `host:port`.
    pub address: String,
    /// Who we are to the carrier, at most 15 octets.
    pub system_id: String,
    /// Our password; the standard allows 8 octets, up to 64 are sent.
    pub password: Secret,
    /// What kind of system we are, at most 12 octets; mostly empty.
    pub system_type: String,
    /// Connections, each bound as a transceiver: 1 to 64.
    pub binds: usize,
    /// Most submissions unanswered on each bind: 1 to 4,096.
    pub window: usize,
    /// Most parts a second over all binds; `None`: until the carrier throttles.
    pub rate: Option<f64>,
    /// The sender of texts that name none; `None`: the carrier's own.
    pub source: Option<SenderId>,
    /// Type of number of short codes and access numbers: 0 unknown (default), 3 network specific, 6 abbreviated.
    pub short_ton: u8,
    /// Numbering plan of these: 1 E.164 (default), 0 unknown.
    pub short_npi: u8,
    /// How the carrier is told until when a text may be delivered.
    pub validity: Validity,
    /// A link on which nothing was heard for so long is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How long resolving, connecting and binding may take together.
    pub bind_timeout: Duration,
    /// Pause before the first new try after a link was lost; doubled each time.
    pub reconnect_min: Duration,
    /// Longest such pause; also the pause after a refusal of system id or password.
    pub reconnect_max: Duration,
    /// Nothing is sent for so long after the carrier said "throttled".
    pub throttle_pause: Duration,
    /// Receipts of one bind that may be on their way to disk at a time; at the limit reading stops.
    pub receipts_max: usize,
    /// Addresses that may be dialled; empty: any.
    pub allow: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "carrier".into(),
            address: "127.0.0.1:2775".to_owned(),
            system_id: String::new(),
            password: Secret::new(""),
            system_type: String::new(),
            binds: 1,
            window: 16,
            rate: None,
            source: None,
            short_ton: 0,
            short_npi: 1,
            validity: Validity::Relative,
            enquire_interval: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10),
            bind_timeout: Duration::from_secs(15),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
            throttle_pause: Duration::from_secs(1),
            receipts_max: 256,
            allow: Vec::new(),
        }
    }
}

/// The form of `validity_period` (P34 section 7.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validity {
    /// A span from now, which needs no common clock.
    #[default]
    Relative,
    /// A time in UTC.
    Absolute,
    /// Not sent: the carrier's default holds, and a code may arrive late.
    Omitted,
}

/// A setting no carrier could work with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionsError {
    /// The setting.
    pub option: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: expected {}", self.option, self.expected)
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        let bad = |option, expected| Err(OptionsError { option, expected });
        self.bind()?;
        if !(1..=BINDS_MAX).contains(&self.binds) {
            return bad("binds", "1 to 64");
        }
        if !(1..=WINDOW_MAX).contains(&self.window) {
            return bad("window", "1 to 4,096");
        }
        if self.rate.is_some_and(|rate| !(0.01..=1e6).contains(&rate)) {
            return bad("rate", "0.01 to 1,000,000 parts a second");
        }
        if self.receipts_max == 0 {
            return bad("receipts_max", "at least 1");
        }
        if self.reconnect_min.is_zero() || self.reconnect_max < self.reconnect_min {
            return bad("reconnect", "a pause above zero, and a longest pause not below it");
        }
        if self.enquire_interval.is_zero() || self.response_timeout.is_zero() || self.bind_timeout.is_zero() {
            return bad("timeouts", "more than zero");
        }
        Ok(())
    }

    /// What is said in a bind request.
    pub(super) fn bind(&self) -> Result<Bind, OptionsError> {
        let too_long = |e: FieldError| OptionsError {
            option: e.field,
            expected: "fewer octets (15 in system_id, 64 in password, 12 in system_type) and no NUL",
        };
        Ok(Bind {
            system_id: COctets::new("system_id", &self.system_id).map_err(too_long)?,
            password: COctets::new("password", self.password.expose()).map_err(too_long)?,
            system_type: COctets::new("system_type", &self.system_type).map_err(too_long)?,
            interface_version: 0x34,
            ..Bind::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        let failing = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().map_err(|e| e.option)
        };
        assert_eq!(failing(|_| {}), Ok(()));
        assert_eq!(failing(|o| o.system_id = "x".repeat(15)), Ok(()));
        assert_eq!(failing(|o| o.system_id = "x".repeat(16)), Err("system_id"));
        assert_eq!(failing(|o| o.password = Secret::new("x".repeat(65))), Err("password"));
        assert_eq!(failing(|o| o.binds = 0), Err("binds"));
        assert_eq!(failing(|o| o.window = WINDOW_MAX + 1), Err("window"));
        assert_eq!(failing(|o| o.rate = Some(0.0)), Err("rate"));
        assert_eq!(failing(|o| o.rate = Some(f64::NAN)), Err("rate"));
        assert_eq!(failing(|o| o.receipts_max = 0), Err("receipts_max"));
        assert_eq!(failing(|o| o.reconnect_max = Duration::ZERO), Err("reconnect"));
    }
}
