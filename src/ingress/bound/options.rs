//! What can be set about links that clients make to submit texts.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::texts::TextRules;
use crate::sms::Alphabet;

/// Limits and times of all listeners. A change applies to connections made after it, but for `joining_max` and
/// `receipts_max`, which are taken at start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most connections at a time from one IPv4 address or IPv6 /64.
    pub connections_per_peer_max: usize,
    /// How long a connection may take from its first octet (or TLS handshake) to a bind that is right.
    pub bind_timeout: Duration,
    /// A link on which nothing was heard for so long is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take; also how long a write may wait for a peer that does not read.
    pub response_timeout: Duration,
    /// A link on which nothing was submitted nor delivered for so long is unbound.
    pub idle: Duration,
    /// Most deliveries unanswered at a time, on each bind.
    pub delivery_window: usize,
    /// What `data_coding` 0 means in SMPP.
    pub default_alphabet: Alphabet,
    /// How long the parts of a long text wait for each other.
    pub join_within: Duration,
    /// Long texts of which parts are missing, at most.
    pub joining_max: usize,
    /// How long receipts and replies are kept for a client that does not take them.
    pub receipts_for: Duration,
    /// Texts whose receipts are wanted and not taken, and replies that are not taken, at most each.
    pub receipts_max: usize,
    /// Furthest time ahead from which a text may leave.
    pub send_at_max: Duration,
    /// Furthest end of its validity ahead.
    pub expires_max: Duration,
    /// How long a link may take to come to its end once the relay is told to stop.
    pub drain_timeout: Duration,
    /// CMPP: numbers to which one SUBMIT may go.
    pub numbers_max: usize,
    /// CMPP: the gateway's code in Msg_Id, 22 bits.
    pub gateway: u32,
    /// CMPP: how far the time of a login may be off; `None`: that is not looked at.
    pub login_age: Option<Duration>,
    /// What texts must fit.
    pub text_rules: Arc<TextRules>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 1_000,
            connections_per_peer_max: 100,
            bind_timeout: Duration::from_secs(10),
            enquire_interval: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(86_400),
            delivery_window: 16,
            default_alphabet: Alphabet::Gsm7,
            join_within: Duration::from_secs(600),
            joining_max: 10_000,
            receipts_for: Duration::from_secs(72 * 3_600),
            receipts_max: 1_000_000,
            send_at_max: Duration::from_secs(30 * 86_400),
            expires_max: Duration::from_secs(60 * 86_400),
            drain_timeout: Duration::from_secs(5),
            numbers_max: 99,
            gateway: 1,
            login_age: None,
            text_rules: Arc::default(),
        }
    }
}
