//! Mailbox providers as models: what each takes, and in which words it refuses the rest.
//!
//! The words are those that the providers document or are known for (`config/providers.toml` has the rows that know them). A
//! model counts what is open and what comes in, over some seconds, as the real ones do in secret; whoever is above either is
//! refused, and is not held in worse regard for it.

use std::time::Duration;

use postrider::clock::Mono;
use postrider::model::{EnhancedStatus, Reply, Stage};

/// How long a mail takes that is accepted, and a connection until it is ready; a refusal takes less.
pub const TRANSACTION: Duration = Duration::from_millis(600);
pub const GREETING: Duration = Duration::from_millis(400);
pub const REFUSAL: Duration = Duration::from_millis(150);

/// Over how many seconds of full speed a provider looks back.
const LOOKS_BACK: f64 = 10.0;

/// Who is modelled.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// One of its mail hosts.
    pub host: &'static str,
    /// With how many connections a start is made there; a test holds that the table says so.
    pub connections: u32,
    /// Mails over one connection.
    pub per_connection: u32,
    /// Too many connections; `None`: it counts mails only.
    pub too_many: Option<Refusal>,
    /// Too many mails; `None`: it counts connections only.
    pub too_fast: Option<Refusal>,
    /// Our address has lost its favour.
    pub blocked: Refusal,
    /// For how long the table says to leave it alone then.
    pub leave_alone: Duration,
}

/// In which words, and when.
#[derive(Clone, Copy)]
pub struct Refusal {
    pub at: Stage,
    pub code: u32,
    pub text: &'static str,
}

const fn refusal(at: Stage, code: u32, text: &'static str) -> Refusal {
    Refusal { at, code, text }
}

const HOUR: Duration = Duration::from_secs(3_600);

pub const KINDS: [Kind; 5] = [
    Kind {
        name: "gmail",
        host: "gmail-smtp-in.l.google.com",
        connections: 5,
        per_connection: 50,
        too_many: Some(refusal(Stage::Connect, 421, "4.7.0 Try again later, closing connection. (EHLO)")),
        too_fast: Some(refusal(
            Stage::Mail,
            421,
            "4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\nfrom your IP address. To protect \
             our users from spam, mail sent from\nyour IP address has been temporarily rate limited.",
        )),
        blocked: refusal(
            Stage::EndOfData,
            421,
            "4.7.0 This message is suspicious due to the very low reputation of the sending IP address.",
        ),
        leave_alone: HOUR.saturating_mul(4),
    },
    Kind {
        name: "outlook",
        host: "outlook-com.olc.protection.outlook.com",
        connections: 5,
        per_connection: 50,
        too_many: Some(refusal(
            Stage::Connect,
            421,
            "The maximum number of concurrent connections has exceeded a limit, IB007",
        )),
        too_fast: Some(refusal(
            Stage::Mail,
            421,
            "RP-001 Unfortunately, some messages from 192.0.2.1 weren't sent. Please try again.",
        )),
        blocked: refusal(
            Stage::Mail,
            550,
            "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider \
             since part of their network is on our block list (S3150).",
        ),
        leave_alone: HOUR.saturating_mul(24),
    },
    Kind {
        name: "yahoo",
        host: "mta5.am0.yahoodns.net",
        connections: 20,
        per_connection: 20,
        too_many: Some(refusal(Stage::Connect, 421, "4.7.0 Too many concurrent connections from 192.0.2.1")),
        too_fast: Some(refusal(
            Stage::Mail,
            421,
            "4.7.0 [TS03] All messages from 192.0.2.1 will be temporarily deferred; please try again later.",
        )),
        blocked: refusal(
            Stage::Mail,
            421,
            "4.7.0 [TSS05] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
        ),
        leave_alone: HOUR.saturating_mul(4),
    },
    Kind {
        name: "qq",
        host: "mx3.qq.com",
        connections: 4,
        per_connection: 8,
        too_many: None,
        too_fast: Some(refusal(Stage::Recipient, 550, "Ip frequency limited")),
        blocked: refusal(Stage::EndOfData, 550, "Suspected spam ip"),
        leave_alone: HOUR.saturating_mul(24),
    },
    Kind {
        name: "netease",
        host: "163mx01.mxmail.netease.com",
        connections: 4,
        per_connection: 7,
        too_many: Some(refusal(Stage::Connect, 421, "HL:ICC 163 smtp12, the IP has too many connections")),
        too_fast: None,
        blocked: refusal(Stage::Mail, 421, "HL:REP 163 smtp5, the IP sends to too many addresses that do not exist"),
        leave_alone: HOUR.saturating_mul(4),
    },
];

/// One provider at work.
pub struct FarEnd {
    pub kind: Kind,
    connections_max: u32,
    per_second: f64,
    pub open: u32,
    /// What has come in and not yet been forgotten.
    bucket: f64,
    at: Mono,
    pub blocks_until: Mono,
}

impl FarEnd {
    /// It takes `share` of what a start is made with.
    pub fn new(kind: Kind, share: f64) -> Self {
        let connections_max = (f64::from(kind.connections) * share).round().max(1.0);
        let mut far_end = Self {
            kind,
            connections_max: connections_max as u32,
            per_second: f64::INFINITY,
            open: 0,
            bucket: 0.0,
            at: Mono(0),
            blocks_until: Mono(0),
        };
        if kind.too_fast.is_some() {
            // A little less than what the connections could carry: that is what is met first.
            far_end.per_second = 0.9 * f64::from(kind.connections) * share * far_end.per_slot();
        }
        far_end
    }

    /// Mails a second that it takes, over as many connections as it lets in.
    pub fn capacity(&self) -> f64 {
        self.per_second.min(f64::from(self.connections_max) * self.per_slot())
    }

    /// Mails a second over one connection, its openings counted.
    fn per_slot(&self) -> f64 {
        1.0 / (TRANSACTION.as_secs_f64() + GREETING.as_secs_f64() / f64::from(self.kind.per_connection))
    }

    /// Somebody connects. Whoever is refused is not open.
    pub fn connect(&mut self) -> Result<(), Refusal> {
        if let Some(too_many) = self.kind.too_many.filter(|_| self.open >= self.connections_max) {
            return Err(too_many);
        }
        self.open += 1;
        Ok(())
    }

    /// Somebody brings a mail.
    pub fn take(&mut self, now: Mono) -> Result<(), Refusal> {
        if now < self.blocks_until {
            return Err(self.kind.blocked);
        }
        let Some(too_fast) = self.kind.too_fast else { return Ok(()) };
        self.bucket = (self.bucket - self.per_second * now.since(self.at).as_secs_f64()).max(0.0);
        self.at = now;
        if self.bucket + 1.0 > (LOOKS_BACK * self.per_second).max(1.0) {
            return Err(too_fast);
        }
        self.bucket += 1.0;
        Ok(())
    }
}

impl Refusal {
    pub fn reply(self) -> Reply {
        let enhanced = self.text.split(' ').next().and_then(EnhancedStatus::parse);
        Reply { code: self.code, enhanced, text: self.text.to_owned() }
    }
}
