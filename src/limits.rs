//! Hard ceilings: bounds that no configuration can lift, each with its reason, and the sums they make.
//!
//! Configured limits are checked against these when configuration loads. A bound that only one module needs stands there.

/// Largest mail any configuration may allow. Record lengths on disk are 32-bit and a body must fit in memory while it is
/// received and while it is sent: 256 MiB × a handful of such transactions is what a small machine can carry.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most recipients of one mail transaction (RFC 5321 section 4.5.3.1.8 asks for at least 100).
pub const RECIPIENTS_MAX: usize = 10_000;

/// Longest SMTP command line taken, CRLF included. RFC 5321 section 4.5.3.1.4 asks for 512; RFC 3461, 6531 and 4954 add
/// to MAIL and RCPT; 12,288 is AUTH's own bound (RFC 4954 section 4).
pub const COMMAND_LINE_BYTES_MAX: usize = 12_288;

/// Longest line of message data, CRLF not counted (RFC 5322 section 2.1.1).
pub const DATA_LINE_BYTES_MAX: usize = 998;

/// All replies of one transaction together, from a next hop; more is hostile.
pub const PEER_REPLY_BYTES_MAX: usize = 64 * 1024;

/// Largest SMPP PDU taken: header 16 + fixed fields under 300 + `message_payload` of 64 KiB.
pub const SMPP_PDU_BYTES_MAX: usize = 16 + 300 + 65_536;

/// Largest CMPP or SMGP PDU taken: header 12 + fixed fields of a CMPP 3.0 SUBMIT + 255 numbers of 32 octets + text of 255.
/// SMGP's numbers have 21 octets, which leaves 2,842 for its optional parameters.
pub const GATEWAY_PDU_BYTES_MAX: usize = 12 + 151 + 255 * 32 + 255;

/// Largest SGIP PDU taken: header 20 + fixed fields of a SUBMIT + 255 numbers of 21 octets + text of 255. S12 says 2 KiB, which
/// its own SUBMIT to 100 numbers does not keep to.
pub const SGIP_PDU_BYTES_MAX: usize = 20 + 123 + 255 * 21 + 255;

/// Bodies above this size do not travel through the log's batches: one batch of them would stand in front of a code.
pub const INLINE_BODY_BYTES_MAX: usize = 256 * 1024;

/// One log batch: a 4 MiB write and sync takes some 16 ms, which everyone behind it waits.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Longest campaign word, tag or client reference.
pub const LABEL_BYTES_MAX: usize = 128;

/// Most tags of one message.
pub const TAGS_MAX: usize = 16;

// An inline body with its envelope must fit into a batch.
const _: () = assert!(INLINE_BODY_BYTES_MAX * 4 <= BATCH_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX < u32::MAX as usize);
