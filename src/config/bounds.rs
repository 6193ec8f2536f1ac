//! `[limits]`, `[log]`, `[events]`, `[history]`: how much of everything.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::{files, quantity, value};
use crate::limits;

/// `[limits]`: what clients may ask of us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one mail, at most [`limits::MESSAGE_BYTES_MAX`].
    pub message_bytes: usize,
    /// Bytes of messages that all SMTP connections together may hold before the queue has them, and as many all HTTP
    /// connections.
    pub receiving_bytes: usize,
    /// Recipients of one message, at most [`limits::RECIPIENTS_MAX`].
    pub recipients: usize,
    /// Connections to one listener set, SMTP, and as many to HTTP.
    pub connections: usize,
    /// Of those, from one address.
    pub connections_per_peer: usize,
    /// Mails over one SMTP connection.
    pub messages_per_connection: usize,
    /// How long a peer may take for a command (RFC 5321 section 4.5.3.2.7: at least 5 minutes).
    pub command_timeout: Duration,
    /// Bytes a second below which a peer that sends message data is too slow.
    pub data_rate_min: u64,
    /// Received fields above which a mail is taken for a loop (RFC 5321 section 6.3).
    pub hops: usize,
    /// Messages of one client in the queue.
    pub client_messages: u64,
    /// Bytes of one client in the queue.
    pub client_bytes: u64,
    /// Messages in the queue.
    pub queue_messages: u64,
    /// Bytes in the queue.
    pub queue_bytes: u64,
}

/// `[log]`: the queue on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Bytes of bodies kept in memory.
    pub body_cache_bytes: u64,
    /// While less than this is free on the disk, nothing is accepted.
    pub reserve_bytes: u64,
}

/// `[events]`: the file of facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Events {
    /// Where; one JSON object a line.
    pub file: PathBuf,
    /// Bytes after which a new file is begun.
    pub rotate_bytes: u64,
    /// Finished files kept.
    pub keep: usize,
}

/// `[history]`: ended messages that `explain` and the API still know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// How many.
    pub messages: usize,
    /// For how long.
    pub hours: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

pub(super) fn limits(section: &mut Section<'_>) -> Limits {
    const MESSAGES: RangeInclusive<u64> = 1..=1_000_000_000;
    const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
    let message_bytes = KIB..=limits::MESSAGE_BYTES_MAX as u64;
    let read = Limits {
        message_bytes: to_usize(section.or("message_bytes", 50 * MIB, quantity::bytes(message_bytes))),
        receiving_bytes: to_usize(section.or("receiving_bytes", 512 * MIB, quantity::bytes(MIB..=TIB))),
        recipients: section.or("recipients", 1_000, value::count(1..=limits::RECIPIENTS_MAX as u64)),
        connections: section.or("connections", 2_000, value::count(1..=100_000)),
        connections_per_peer: section.or("connections_per_peer", 200, value::count(1..=100_000)),
        messages_per_connection: section.or("messages_per_connection", 10_000, value::count(1..=1_000_000_000)),
        command_timeout: section.or("command_timeout", Duration::from_secs(300), quantity::span(TIMEOUTS)),
        data_rate_min: section.or("data_rate_min", 128, quantity::bytes_per_second),
        hops: section.or("hops", 100, value::count(1..=1_000)),
        client_messages: section.or("client_messages", 1_000_000, value::whole(MESSAGES)),
        client_bytes: section.or("client_bytes", 20 * GIB, quantity::bytes(MIB..=1_000 * TIB)),
        queue_messages: section.or("queue_messages", 10_000_000, value::whole(MESSAGES)),
        queue_bytes: section.or("queue_bytes", 100 * GIB, quantity::bytes(MIB..=1_000 * TIB)),
    };
    check_limits(section, &read);
    read
}

/// Shares cannot exceed their whole. A whole that the file lowers below a share's default lowers the share with it in
/// effect, so only what is written down is checked.
fn check_limits(section: &Section<'_>, limits: &Limits) {
    let has = |key: &str| section.notes.has(&section.key_of(key));
    let share = |key: &str, exceeds: bool, whole: &str| {
        if exceeds && has(key) {
            section.mistake(
                key,
                format!("a share larger than the whole, {whole}"),
                format!("lower it or raise {whole}"),
            );
        }
    };
    share("connections_per_peer", limits.connections_per_peer > limits.connections, "connections");
    share("client_messages", limits.client_messages > limits.queue_messages, "queue_messages");
    share("client_bytes", limits.client_bytes > limits.queue_bytes, "queue_bytes");
    // The body of an HTTP request is a third larger than the mail in it; with twice as much one fits beside others.
    if limits.receiving_bytes / 2 < limits.message_bytes {
        let key = if has("receiving_bytes") { "receiving_bytes" } else { "message_bytes" };
        section.mistake(
            key,
            "receiving_bytes is less than twice message_bytes",
            "raise receiving_bytes or lower message_bytes",
        );
    }
    share("message_bytes", limits.message_bytes as u64 > limits.client_bytes, "client_bytes");
}

pub(super) fn log(section: &mut Section<'_>) -> Log {
    // A segment must hold several batches, or rolling over would be all the log does.
    let segment_bytes = 4 * limits::BATCH_BYTES_MAX as u64..=GIB;
    Log {
        segment_bytes: section.or("segment_bytes", 64 * MIB, quantity::bytes(segment_bytes)),
        body_cache_bytes: section.or("body_cache_bytes", 128 * MIB, quantity::bytes(0..=TIB)),
        reserve_bytes: section.or("reserve_bytes", 512 * MIB, quantity::bytes(0..=TIB)),
    }
}

pub(super) fn events(section: &mut Section<'_>) -> (Option<PathBuf>, u64, usize) {
    let file = section.optional("file", value::text).map(|name| files::resolve(section.notes, &name));
    let rotate_bytes = section.or("rotate_bytes", 100 * MIB, quantity::bytes(KIB..=TIB));
    let keep = section.or("keep", 10, value::count(0..=100_000));
    (file, rotate_bytes, keep)
}

pub(super) fn history(section: &mut Section<'_>) -> History {
    History {
        messages: section.or("messages", 100_000, value::count(0..=100_000_000)),
        hours: section.or("hours", 24, value::whole(1..=24 * 365)),
    }
}

fn to_usize(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
