//! How receipts and replies look as a `deliver_sm`.
//!
//! A receipt is appendix B of P34, with `receipted_message_id` and `message_state` beside; a reply goes whole, in
//! `message_payload` where it is longer than a short message.

use bytes::Bytes;

use crate::ingress::bound::Party;
use crate::ingress::bound::outbox::{Delivery, End, Reply, Stat, Want, What, submitted_at};
use crate::model::MessageId;
use crate::sms::{self, Alphabet, receipt};
use crate::wire::smpp::{Address, COctets, ShortMessage, Tlv, esm_class, tlv};

/// Octets of the longest reply; `message_payload` holds 64 KiB.
const PAYLOAD_OCTETS_MAX: usize = 65_534;

/// As it travels; `default` is what `data_coding` 0 means.
pub(in crate::ingress) fn message(delivery: &Delivery, default: Alphabet) -> ShortMessage {
    match &delivery.what {
        What::Receipt { part, want, end } => receipt_of(*part, want, end),
        What::Reply(reply) => reply_of(reply, default),
    }
}

/// Its `message_state` (P34 section 5.2.28).
fn state_of(stat: Stat) -> u8 {
    match stat {
        Stat::Delivered => 2,
        Stat::Expired => 3,
        Stat::Deleted => 4,
        Stat::Undeliverable => 5,
        Stat::Unknown => 7,
        Stat::Rejected => 8,
    }
}

fn receipt_of(part: MessageId, want: &Want, end: &End) -> ShortMessage {
    let (id, word, state) = (part.to_string(), end.stat.word(), state_of(end.stat));
    let delivered = u8::from(end.stat == Stat::Delivered);
    let text = receipt::write_words(&id, word, delivered, &end.err, submitted_at(part), end.at, "");
    ShortMessage {
        // Addresses turned round (P34 appendix B).
        source: address(&want.destination),
        destination: address(&want.source),
        esm_class: esm_class::RECEIPT,
        short_message: text.into(),
        tlvs: vec![
            Tlv::new(tlv::RECEIPTED_MESSAGE_ID, Bytes::from(format!("{id}\0"))),
            Tlv::new(tlv::MESSAGE_STATE, Bytes::copy_from_slice(&[state])),
        ],
        ..ShortMessage::default()
    }
}

fn reply_of(reply: &Reply, default: Alphabet) -> ShortMessage {
    let (data_coding, mut octets) = match (&reply.text, &reply.octets) {
        (Some(text), _) => encoded(text, default),
        // Binary (P34 section 5.2.19).
        (None, octets) => (4, octets.as_deref().and_then(sms::octets).unwrap_or_default()),
    };
    octets.truncate(PAYLOAD_OCTETS_MAX);
    let number = |written: &str| match written.strip_prefix('+') {
        Some(digits) => Party { ton: 1, npi: 1, address: digits.into() },
        None => Party { ton: 0, npi: 1, address: written.into() },
    };
    ShortMessage {
        source: address(&number(&reply.from)),
        destination: address(&number(&reply.to)),
        data_coding,
        short_message: octets.into(),
        ..ShortMessage::default()
    }
}

/// The narrowest alphabet that holds all of a text, and its octets.
fn encoded(text: &str, default: Alphabet) -> (u8, Vec<u8>) {
    let gsm = (default == Alphabet::Gsm7).then_some((0, Alphabet::Gsm7));
    let all = gsm.into_iter().chain([(1, Alphabet::Ascii), (3, Alphabet::Latin1), (8, Alphabet::Ucs2)]);
    let mut fitting = all.filter_map(|(coding, alphabet)| Some((coding, alphabet.octets(text)?)));
    // The last holds everything.
    fitting.next().unwrap_or_default()
}

/// What does not fit into an address, such as a number of more than 20 characters, is cut.
fn address(party: &Party) -> Address {
    let written = party.address.get(..party.address.floor_char_boundary(20)).unwrap_or_default();
    Address { ton: party.ton, npi: party.npi, address: COctets::new("address", written).unwrap_or_default() }
}
