//! What happened, and who is told.
//!
//! **What.** A [`Fact`] is one thing that happened to one recipient of one message. `queue` makes facts out of the records
//! it has settled; nobody else logs a message's fate. [`log`] writes them to a rotated file, one JSON object a line.
//!
//! **Promises.** Words are those of the events contract (DESIGN section 4). The content of a message of ours never appears; an
//! `otp` recipient is masked. What handsets send is told in full: the event is where it goes.
//!
//! **Does not know** storage, sockets, SMTP or SMPP.

pub mod log;
pub mod metrics;
pub mod past;
pub mod tail;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::model::{Channel, Class, ClientName, MessageId, Money};

/// The kinds of fact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The message is durable and ours.
    Accepted,
    /// An attempt did not succeed; there will be another.
    Delayed,
    /// A mail's next hop took it, or a text's receipt says it arrived.
    Delivered,
    /// A carrier took a text.
    Sent,
    /// A mail failed for good.
    Bounced,
    /// A text failed for good.
    Undelivered,
    /// Its time ran out before it could be sent.
    Expired,
    /// An operator or the client called it back.
    Cancelled,
    /// Refused by our own policy after acceptance.
    Rejected,
    /// A text left and no answer was seen.
    Unknown,
    /// A carrier's receipt that is not a verdict yet, or one that matches nothing.
    Receipt,
    /// An operator has steered what waits: about many messages, or those to come.
    Steered,
    /// Nothing is sent to a site, or from a lane, for a while. About no message in particular.
    Paused,
    /// A day of a source's warm-up towards a provider is over. About no message in particular.
    Warmup,
    /// A report on TLS was sent to a domain, or will not be. About no message in particular.
    TlsReport,
    /// A handset has sent a message: to a text of ours, where that can be told.
    Replied,
    /// A number wants no more texts of somebody.
    OptedOut,
    /// A number takes that back.
    OptedIn,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Accepted,
        Self::Delayed,
        Self::Delivered,
        Self::Sent,
        Self::Bounced,
        Self::Undelivered,
        Self::Expired,
        Self::Cancelled,
        Self::Rejected,
        Self::Unknown,
        Self::Receipt,
        Self::Steered,
        Self::Paused,
        Self::Warmup,
        Self::TlsReport,
        Self::Replied,
        Self::OptedOut,
        Self::OptedIn,
    ];

    /// The word in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Undelivered => "undelivered",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Receipt => "receipt",
            Self::Steered => "steered",
            Self::Paused => "paused",
            Self::Warmup => "warmup",
            Self::TlsReport => "tls_report",
            Self::Replied => "replied",
            Self::OptedOut => "opted_out",
            Self::OptedIn => "opted_in",
        }
    }
}

/// One thing that happened. Serialises to one line of the event log.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// When.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: Timestamp,
    /// What.
    pub event: Kind,
    /// To which message.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// By which channel it travels; missing where it is about both.
    #[serde(serialize_with = "channel", skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Who submitted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientName>,
    /// Its class.
    #[serde(serialize_with = "class", skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Its campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Arc<str>>,
    /// To whom (masked for `otp`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The lane it waited in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Arc<str>>,
    /// The site that is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Arc<str>>,
    /// The source of ours that it is paused for; missing where it is for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// How many attempts there have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When the next one is due.
    #[serde(serialize_with = "maybe_rfc3339", skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// What the other side said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyFact>,
    /// Where in the dialogue the attempt ended, when it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// The row of the provider table that judged the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleFact>,
    /// Why, where no reply says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How a bounce is classed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounce: Option<BounceFact>,
    /// The other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerFact>,
    /// How long the attempt took, in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Bytes of content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Parts of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
    /// What a carrier takes for a text that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceFact>,
    /// What an operator ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering: Option<SteeringFact>,
    /// What came of a day of warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupFact>,
    /// What became of a report on TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_report: Option<TlsReportFact>,
    /// What a handset has sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handset: Option<HandsetFact>,
    /// What a number wants no more of, or again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_out: Option<OptOutFact>,
}

impl Fact {
    /// A fact with nothing but what every fact has.
    pub fn new(time: Timestamp, event: Kind, channel: Channel) -> Self {
        Self {
            time,
            event,
            id: None,
            channel: Some(channel),
            client: None,
            class: None,
            campaign: None,
            recipient: None,
            lane: None,
            site: None,
            source: None,
            attempt: None,
            next_attempt: None,
            reply: None,
            stage: None,
            rule: None,
            reason: None,
            bounce: None,
            peer: None,
            duration: None,
            size: None,
            parts: None,
            price: None,
            steering: None,
            warmup: None,
            tls_report: None,
            handset: None,
            opt_out: None,
        }
    }

    /// A fact about a report on TLS, and why it was not sent.
    pub fn tls_report(time: Timestamp, report: TlsReportFact, reason: Option<String>) -> Self {
        Self { tls_report: Some(report), reason, ..Self::new(time, Kind::TlsReport, Channel::Email) }
    }

    /// A fact about an operator's order.
    pub fn steering(time: Timestamp, steering: SteeringFact) -> Self {
        let of_both = Self::new(time, Kind::Steered, Channel::Email);
        Self { channel: None, steering: Some(steering), ..of_both }
    }
}

/// What a carrier takes for a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PriceFact {
    /// For all its parts, as `0.07`.
    #[serde(serialize_with = "as_shown")]
    pub amount: Money,
    /// The administrator's word for the currency.
    pub currency: Arc<str>,
}

/// A message from a handset as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HandsetFact {
    /// The handset's number (masked where the text that it answers is of class `otp`).
    pub from: String,
    /// The number in full, for those that pass the message on; not in the event.
    #[serde(skip)]
    pub number: Arc<str>,
    /// What it was sent to: an access number of ours.
    pub to: Arc<str>,
    /// The words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The octets in hex, where they are no words that we can read; the event's `reason` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets: Option<String>,
    /// Parts that it came in.
    pub parts: usize,
    /// Parts that never came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts_missing: Option<usize>,
    /// The rule for replies that holds for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// What that rule calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// The automatic answer.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub answer: Option<MessageId>,
    /// Why there was none, though the rule has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_answered: Option<&'static str>,
}

/// An opt-out, or its end, as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OptOutFact {
    /// The number (masked as in [`HandsetFact`]).
    pub number: String,
    /// Texts under this signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Arc<str>>,
    /// Texts that show this sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Arc<str>>,
    /// Texts of this class.
    pub class: &'static str,
    /// Who said so: `reply`, or an operator.
    pub by: Arc<str>,
}

/// A report on TLS (RFC 8460) as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TlsReportFact {
    /// `sent`, `failed` (a destination refuses it for good), `given-up` (it was tried for long enough), `unwanted` (the domain
    /// asks for none).
    pub result: &'static str,
    /// The domain that it is about.
    pub domain: String,
    /// Its id.
    pub report_id: String,
    /// Where it went, or was to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Sessions that succeeded.
    pub successful: u64,
    /// Sessions that failed.
    pub failed: u64,
}

/// An operator's order as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SteeringFact {
    /// `pause`, `resume`, `reroute`, `end-reroute`, `expire`, `flush`, `bounce`, `cancel`.
    pub action: &'static str,
    /// The rule that was made or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u64>,
    /// Which messages: all that fit every part; everything if there is none.
    pub selector: BTreeMap<&'static str, Arc<str>>,
    /// Who ordered it.
    pub by: String,
    /// Where mail goes instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Arc<str>>,
    /// When the rule expires.
    #[serde(serialize_with = "maybe_rfc3339", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many were hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit: Option<u64>,
}

impl SteeringFact {
    /// An order with nothing but what every order has.
    pub fn new(action: &'static str, selector: BTreeMap<&'static str, Arc<str>>, by: String) -> Self {
        Self { action, rule: None, selector, by, to: None, expires_at: None, hit: None }
    }
}

/// A day of a source's warm-up that is over, as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WarmupFact {
    /// The source.
    pub source: Arc<str>,
    /// The provider.
    pub provider: Arc<str>,
    /// The day that is over, such as `2026-11-26`.
    pub date: String,
    /// `advanced`, `held`, `back`, `finished`.
    pub verdict: &'static str,
    /// The day of the plan that it was; missing if it was warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// The day that it is now; missing if it is warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// Recipients that the provider took or refused.
    pub recipients: u64,
    /// Recipients there could have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
}

/// A reply as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReplyFact {
    /// Reply code or command status.
    pub code: u32,
    /// Enhanced status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<String>,
    /// The text.
    pub text: String,
}

/// A row of the provider table as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RuleFact {
    /// Its id.
    pub id: Arc<str>,
    /// The class of the replies it knows.
    pub class: Arc<str>,
}

/// A bounce's class as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BounceFact {
    /// `hard` or `soft`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The scope it condemns: `recipient`, `message`, `host` …
    pub category: &'static str,
}

/// The other side as events show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PeerFact {
    /// Host or carrier name.
    pub host: String,
    /// Address dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// TLS version and cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// The configured source of ours that the connection was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<std::sync::Arc<str>>,
    /// The TLS policy that held, such as `verified (mta-sts enforce)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_policy: Option<Arc<str>>,
}

/// The reason of the `receipt` that says that a text's receipts are not waited for any more.
pub const NO_RECEIPT: &str = "no receipt came in time";

/// Hides all but the ends of an `otp` recipient: `+86138****8000`, `l***@example.com`.
pub fn mask(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let first: String = local.chars().take(1).collect();
            format!("{first}***@{domain}")
        }
        None if address.len() >= 9 && address.is_ascii() => {
            format!("{}****{}", &address[..address.len() - 8], &address[address.len() - 4..])
        }
        None => "****".to_owned(),
    }
}

fn as_rfc3339<S: Serializer>(t: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&t.rfc3339())
}

fn maybe_rfc3339<S: Serializer>(t: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    match t {
        Some(t) => s.serialize_str(&t.rfc3339()),
        None => s.serialize_none(),
    }
}

fn as_shown<S: Serializer>(amount: &Money, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(amount)
}

fn as_text<S: Serializer>(id: &Option<MessageId>, s: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => s.collect_str(id),
        None => s.serialize_none(),
    }
}

fn channel<S: Serializer>(c: &Option<Channel>, s: S) -> Result<S::Ok, S::Error> {
    match c {
        Some(c) => s.serialize_str(c.as_str()),
        None => s.serialize_none(),
    }
}

fn class<S: Serializer>(c: &Option<Class>, s: S) -> Result<S::Ok, S::Error> {
    match c {
        Some(c) => s.serialize_str(c.as_str()),
        None => s.serialize_none(),
    }
}

fn millis<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match d {
        Some(d) => s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        None => s.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_recipients_are_masked() {
        assert_eq!(mask("+8613800138000"), "+86138****8000");
        assert_eq!(mask("lin@example.com"), "l***@example.com");
        assert_eq!(mask("+123456"), "****");
    }

    #[test]
    fn a_fact_is_one_json_object_without_empty_fields() {
        let mut fact = Fact::new(Timestamp(1_000_000), Kind::Delayed, Channel::Email);
        fact.duration = Some(Duration::from_millis(7));
        let line = serde_json::to_string(&fact).unwrap();
        assert_eq!(
            line,
            r#"{"time":"1970-01-01T00:00:01.000000Z","event":"delayed","channel":"email","duration_ms":7}"#
        );
    }
}
