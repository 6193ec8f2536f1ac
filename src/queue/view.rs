//! What is told about a message: the one answer behind `GET /v1/messages/{id}`, `explain` and `queue`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A message as its client or an operator sees it. Times are RFC 3339 in UTC.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// The public state: the least advanced of its recipients' (accepted, scheduled, held, queued, delayed, sent,
    /// delivered, bounced, undelivered, expired, rejected, cancelled, unknown).
    pub status: String,
    /// `email` or `sms`.
    pub channel: String,
    /// Who submitted it.
    pub client: Arc<str>,
    /// Its class.
    pub class: String,
    /// Its campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Arc<str>>,
    /// The client's own reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<Arc<str>>,
    /// When it was received.
    pub received_at: String,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Bytes of content.
    pub size: u64,
    /// One entry a recipient.
    pub recipients: Vec<RecipientView>,
}

/// One recipient of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecipientView {
    /// The address, masked for `otp`.
    pub address: String,
    /// The public state.
    pub status: String,
    /// The lane it waits or waited in.
    pub lane: Arc<str>,
    /// The site whose limits the lane is under, while it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<Arc<str>>,
    /// The limits in force at that site, and the rule that they come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<String>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// Why it has not gone, in a sentence, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// The attempts so far, oldest first; bounded, the newest are kept.
    pub attempts: Vec<AttemptView>,
    /// Attempts made in all, also those no longer listed.
    pub attempts_made: u32,
    /// Parts of a text.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub parts: Vec<PartView>,
}

/// One attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttemptView {
    /// When it ended.
    pub time: String,
    /// `delivered`, `sent`, `delayed`, `bounced` …
    pub outcome: String,
    /// Where in the dialogue it ended, when it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The other side's reply, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The row of the provider table that judged the reply, and the class it gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, when no reply says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The host or carrier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The address dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// TLS version and suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// The configured source of ours that the connection was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The TLS policy that held, such as `verified (mta-sts enforce)`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls_policy: Option<Arc<str>>,
    /// How long it took.
    pub duration_ms: u64,
}

/// One part of a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartView {
    /// 1 for the first.
    pub part: u32,
    /// `waiting`, `sent`, `unknown`, `refused`, or the receipt's state.
    pub state: String,
    /// The carrier's configured name.
    pub carrier: Arc<str>,
    /// The id the carrier gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier_message_id: Option<String>,
    /// When its latest receipt came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receipt_at: Option<String>,
    /// What the receipt said, in the carrier's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receipt: Option<String>,
}

/// The queue as `postrider queue` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueView {
    /// True while nothing is sent (`serve --hold`, `pause`).
    pub held: bool,
    /// Messages with a recipient that has not ended.
    pub messages: u64,
    /// Their bytes of content.
    pub bytes: u64,
    /// The lanes with most recipients first, at most as many as were asked for.
    pub lanes: Vec<LaneView>,
    /// Lanes in all.
    pub lanes_total: u64,
}

/// One lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LaneView {
    /// `email` or `sms`.
    pub channel: String,
    /// Its name: destination, class and client.
    pub lane: Arc<str>,
    /// The site whose limits it is under: a domain, hosts that domains share, a next hop, carriers.
    #[serde(default)]
    pub site: Arc<str>,
    /// The limits in force there, and the rule that they come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<String>,
    /// Recipients ready to go now.
    pub ready: u64,
    /// Recipients whose time has not come.
    pub waiting: u64,
    /// Recipients out for delivery.
    pub leased: u64,
    /// When the earliest of those waiting is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_due: Option<String>,
}
