//! How the queue behaves: plain values; `config` knows how the keys are spelled.

use std::time::Duration;

use super::again::{Again, Prospects};
use super::{PaceOptions, Retry};
use crate::model::{Class, TextProgress};
use crate::storage::shelf;

/// How the queue behaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Retry schedule and expiry, by [`crate::model::Class::index`].
    pub retry: [Retry; 3],
    /// When texts leave once more, by class as well.
    pub again: [Again; 3],
    /// Messages queued, all clients together.
    pub messages_max: u64,
    /// Bytes of content queued, all clients together.
    pub bytes_max: u64,
    /// Messages queued per client.
    pub client_messages_max: u64,
    /// Bytes of content queued per client.
    pub client_bytes_max: u64,
    /// Bytes of content kept in memory; the rest is read back from disk when its time comes.
    pub body_cache_bytes_max: u64,
    /// Ended messages remembered.
    pub history_messages_max: usize,
    /// For how long.
    pub history_age_max: Duration,
    /// How long an idempotency key is known.
    pub key_age_max: Duration,
    /// How long a sent text waits for its receipt.
    pub receipt_wait_max: Duration,
    /// Texts that wait for receipts in memory; those beyond lie on the shelf.
    pub awaiting_in_memory_max: usize,
    /// How those are kept there.
    pub shelf: shelf::Options,
    /// Recipients of one mail transaction.
    pub recipients_per_consignment_max: usize,
    /// How fast mail may leave.
    pub pace: PaceOptions,
    /// Texts under way per set of carriers; the carriers' own windows and rates bound what is on the wire.
    pub texts_under_way_max: usize,
    /// Start with everything held.
    pub held: bool,
}

impl Options {
    /// What a recipient of a class may hope for.
    pub(super) fn prospects<'a>(&'a self, class: Class, elsewhere: &'a dyn Fn(&TextProgress) -> bool) -> Prospects<'a> {
        let (retry, again) = (&self.retry[class.index()], &self.again[class.index()]);
        Prospects { retry, again, elsewhere }
    }
}

impl Default for Options {
    fn default() -> Self {
        let minutes = |m: &[u64]| m.iter().map(|m| Duration::from_secs(60 * m)).collect::<Vec<_>>();
        let slow = |days: u64| Retry {
            schedule: minutes(&[1, 5, 15, 30, 60, 120, 240]),
            expire: Duration::from_secs(days * 86_400),
        };
        let otp = Retry { schedule: [5, 10, 20].map(Duration::from_secs).to_vec(), expire: Duration::from_secs(300) };
        Self {
            retry: [otp, slow(3), slow(1)],
            again: Default::default(),
            messages_max: 10_000_000,
            bytes_max: 1 << 40,
            client_messages_max: 5_000_000,
            client_bytes_max: 1 << 39,
            body_cache_bytes_max: 64 << 20,
            history_messages_max: 50_000,
            history_age_max: Duration::from_secs(24 * 3_600),
            key_age_max: Duration::from_secs(24 * 3_600),
            receipt_wait_max: Duration::from_secs(72 * 3_600),
            awaiting_in_memory_max: 200_000,
            shelf: shelf::Options::default(),
            recipients_per_consignment_max: 100,
            pace: PaceOptions::default(),
            texts_under_way_max: 1_024,
            held: false,
        }
    }
}
