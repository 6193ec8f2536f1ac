//! How receipts and replies look as DELIVERs (C3 section 8.4.5.1).
//!
//! A receipt is a report, in the layout of the link's version. A reply goes in as many parts as it needs, with a user data header
//! each. What is brought again has the Msg_Id that it had.

use bytes::Bytes;

use crate::ingress::bound::outbox::{Delivery, End, Reply, Want, What, submitted_at};
use crate::model::MessageId;
use crate::sms;
use crate::wire::cmpp::{Deliver, MsgId, Octets, Report, Version, msg_fmt, time};

/// Octets of a message, and of a part behind its header.
const OCTETS_MAX: usize = 140;
const PART_OCTETS_MAX: usize = 134;
/// Parts that a user data header can count; a longer reply goes as several.
const PARTS_MAX: usize = 255;

/// As it travels; never empty.
pub(super) fn parts(delivery: &Delivery, version: Version) -> Vec<Deliver> {
    match &delivery.what {
        What::Receipt { part, want, end } => vec![report_of(*part, want, end, version)],
        What::Reply(reply) => replies_of(reply),
    }
}

/// Half of an id is chance.
fn own_id(id: MessageId) -> MsgId {
    let bytes = id.to_bytes();
    MsgId(bytes[8..].first_chunk().map_or(0, |half| u64::from_be_bytes(*half)))
}

fn report_of(part: MessageId, want: &Want, end: &End, version: Version) -> Deliver {
    let at = want.parts.iter().position(|(id, _)| id.0 == part);
    let msg_id = at.and_then(|at| want.msg_ids.get(at)).copied().unwrap_or_default();
    let destination = octets("Dest_terminal_Id", &want.destination.address);
    let report = Report {
        msg_id: MsgId(msg_id),
        stat: octets("Stat", end.stat.word()),
        submit_time: time::minute(submitted_at(part)),
        done_time: time::minute(end.at),
        dest_terminal_id: destination.clone(),
        smsc_sequence: own_id(part).0 as u32,
    };
    Deliver {
        msg_id: own_id(part),
        dest_id: octets("Dest_Id", &want.source.address),
        src_terminal_id: destination,
        registered_delivery: 1,
        content: report.write(version),
        ..Deliver::default()
    }
}

fn replies_of(reply: &Reply) -> Vec<Deliver> {
    let (msg_fmt, contents) = match (&reply.text, &reply.octets) {
        (Some(text), _) if text.is_ascii() => (msg_fmt::ASCII, cut(text, |c| vec![c as u8])),
        (Some(text), _) => (msg_fmt::UCS2, cut(text, utf16)),
        (None, octets) => {
            let octets = octets.as_deref().and_then(sms::octets).unwrap_or_default();
            let most = if octets.len() > OCTETS_MAX { PART_OCTETS_MAX } else { OCTETS_MAX };
            (msg_fmt::BINARY, octets.chunks(most).map(<[u8]>::to_vec).collect())
        }
    };
    let id = own_id(reply.id.0);
    let contents = if contents.is_empty() { vec![Vec::new()] } else { contents };
    let total = contents.len();
    let deliver = |(at, content): (usize, Vec<u8>)| {
        let (message, within) = (at / PARTS_MAX, at % PARTS_MAX);
        let of = (total - message * PARTS_MAX).min(PARTS_MAX);
        let header = [5, 0, 3, (id.0 as u8).wrapping_add(message as u8), of as u8, (within + 1) as u8];
        let content = if total > 1 { [&header[..], &content].concat() } else { content };
        Deliver {
            // Each part has its own.
            msg_id: MsgId(id.0.wrapping_add(at as u64)),
            dest_id: octets("Dest_Id", &reply.to),
            src_terminal_id: octets("Src_terminal_Id", number(&reply.from)),
            tp_udhi: u8::from(total > 1),
            msg_fmt,
            content: Bytes::from(content),
            ..Deliver::default()
        }
    };
    contents.into_iter().enumerate().map(deliver).collect()
}

/// Numbers in China are written without its country code.
fn number(written: &str) -> &str {
    written.strip_prefix("+86").or_else(|| written.strip_prefix('+')).unwrap_or(written)
}

fn utf16(c: char) -> Vec<u8> {
    c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()).collect()
}

/// The octets of a text, in parts that hold whole characters.
fn cut(text: &str, octets_of: impl Fn(char) -> Vec<u8>) -> Vec<Vec<u8>> {
    let whole: Vec<u8> = text.chars().flat_map(&octets_of).collect();
    if whole.len() <= OCTETS_MAX {
        return vec![whole];
    }
    let mut parts = vec![Vec::new()];
    for octets in text.chars().map(octets_of) {
        if parts.last().is_some_and(|part: &Vec<u8>| part.len() + octets.len() > PART_OCTETS_MAX) {
            parts.push(Vec::new());
        }
        parts.last_mut().into_iter().for_each(|part| part.extend_from_slice(&octets));
    }
    parts
}

/// What does not fit into a field is cut.
fn octets<const WIDTH: usize>(field: &'static str, text: &str) -> Octets<WIDTH> {
    let cut = text.get(..text.floor_char_boundary(WIDTH)).unwrap_or_default();
    Octets::new(field, cut).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::ingress::bound::Speaks;
    use crate::ingress::bound::outbox::Id;

    fn reply(text: &str) -> Reply {
        Reply {
            id: Id(MessageId::from_bytes([7; 16])),
            client: "shop".into(),
            from: "+8613800138000".into(),
            to: "10690001".into(),
            text: Some(text.to_owned()),
            octets: None,
            by: Speaks::Cmpp,
            at: Timestamp(1),
        }
    }

    #[test]
    fn long_replies_go_in_parts_that_hold_whole_characters() {
        let one = replies_of(&reply("TD"));
        assert_eq!((one.len(), one[0].tp_udhi, one[0].msg_fmt, &one[0].content[..]), (1, 0, 0, &b"TD"[..]));
        assert_eq!(one[0].src_terminal_id.to_string(), "13800138000");
        let text = "😀".repeat(36);
        let parts = replies_of(&reply(&text));
        assert_eq!(parts.iter().map(|part| part.content.len()).collect::<Vec<_>>(), [6 + 132, 6 + 12]);
        assert!(parts.iter().all(|part| part.tp_udhi == 1 && part.msg_fmt == 8 && part.content[4] == 2));
        let units: Vec<u16> = parts
            .iter()
            .flat_map(|part| part.content[6..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
            .collect();
        assert_eq!(String::from_utf16(&units).unwrap(), text);
        assert_ne!(parts[0].msg_id, parts[1].msg_id);
    }

    #[test]
    fn no_reply_is_too_long() {
        let parts = replies_of(&reply(&"a".repeat(134 * 257)));
        let headers: Vec<_> = parts.iter().map(|part| part.content[3..6].to_vec()).collect();
        assert_eq!((parts.len(), &headers[254..]), (257, &[vec![7, 255, 255], vec![8, 2, 1], vec![8, 2, 2]][..]));
        assert!(parts.iter().all(|part| part.content.len() == 140));
    }
}
