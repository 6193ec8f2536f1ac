//! From a SUBMIT to a text, or to a part of one, in the engine's words; and back to the result that says why not.
//!
//! **Promises.** No octets of a peer's panic. What is not understood is refused by name, never guessed. One number that is none
//! refuses a SUBMIT to several (C3 annex 1).
//!
//! **Does not know** what rules a text must fit.
//!
//! **Fails how.** [`Rejected`].

use std::collections::HashSet;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::ingress::bound::{Ground, Options, Part, Party, Rejected, Wish, time};
use crate::model::{MessageId, Number, SenderId};
use crate::policy::Client;
use crate::sms::{self, Alphabet, Concatenation};
use crate::wire::cmpp::{Submit, SubmitResult, msg_fmt};

/// Digits of a number in China without its country code; the first is a 1.
const CHINESE_DIGITS: usize = 11;

/// What a client is told whose submission is not taken.
pub(super) fn result_of(ground: Ground) -> SubmitResult {
    match ground {
        Ground::Destination => SubmitResult::BAD_DESTINATION,
        Ground::Source => SubmitResult::BAD_SRC_ID,
        Ground::Length => SubmitResult::TOO_LONG,
        Ground::Refused => SubmitResult::OTHER,
        Ground::Full | Ground::Unavailable => SubmitResult::FLOW_CONTROL,
        Ground::Gone => SubmitResult::BAD_MSG_SRC,
        Ground::Field(result) => SubmitResult(result),
    }
}

fn bad(result: SubmitResult, detail: impl Into<String>) -> Rejected {
    Rejected::field(Ground::Field(result.0), detail)
}

/// Reads what a client submits; its Msg_Id is yet to be given.
pub(super) fn read(submit: &Submit, client: &Client, options: &Options, now: Timestamp) -> Result<Vec<Part>, Rejected> {
    let structure = |detail: String| bad(SubmitResult::BAD_STRUCTURE, detail);
    let own = client.cmpp.as_ref().ok_or_else(|| Rejected::field(Ground::Gone, "the client has no SP_Id"))?;
    if submit.msg_src.as_bytes() != own.sp_id.as_bytes() {
        return Err(bad(SubmitResult::BAD_MSG_SRC, "Msg_src is not the client's own"));
    }
    let (count, most) = (submit.destinations.len(), options.numbers_max);
    if !(1..=most).contains(&count) {
        let detail = format!("{count} numbers: expected 1 to {most}");
        return Err(bad(SubmitResult::BAD_DESTINATION, detail));
    }
    let numbers = submit.destinations.iter().map(|to| {
        let written = to.to_string();
        let to = number(&written).ok_or_else(|| bad(SubmitResult::BAD_DESTINATION, "Dest_terminal_Id is no number"))?;
        Ok((written, to))
    });
    let mut numbers = numbers.collect::<Result<Vec<_>, Rejected>>()?;
    let mut named = HashSet::new();
    numbers.retain(|(_, to)| named.insert(to.clone()));
    let written_from = submit.src_id.to_string();
    let from = match &*written_from {
        "" => None,
        from => Some(SenderId::parse(from).map_err(|why| bad(SubmitResult::BAD_SRC_ID, format!("Src_Id: {why}")))?),
    };
    let alphabet = match submit.msg_fmt {
        msg_fmt::ASCII => Alphabet::Ascii,
        msg_fmt::UCS2 => Alphabet::Ucs2,
        msg_fmt::GBK => Alphabet::Gbk,
        other => return Err(structure(format!("Msg_Fmt {other}: expected 0, 8 or 15"))),
    };
    let (place, octets) = content(submit)?;
    let until = |text: String, most| time(&text, now).filter(|at| at.is_none_or(|at| at <= now.plus(most)));
    let send_at = until(submit.at_time.to_string(), options.send_at_max)
        .ok_or_else(|| structure("At_Time".to_owned()))?
        .filter(|at| *at > now);
    let expires_at =
        until(submit.valid_time.to_string(), options.expires_max).ok_or_else(|| structure("ValId_Time".to_owned()))?;
    if expires_at.is_some_and(|end| end <= send_at.unwrap_or(now)) {
        return Err(structure("ValId_Time ends before the text may leave".to_owned()));
    }
    let party = |written: String| Party { ton: 0, npi: 0, address: written.into() };
    let wanted = match submit.registered_delivery {
        0 => false,
        1 => true,
        // 2 is, in version 2.0, a record of charges that no handset is to see.
        other => return Err(structure(format!("Registered_Delivery {other}: expected 0 or 1"))),
    };
    let source = party(written_from);
    let parts = numbers.into_iter().map(|(written, to)| Part {
        id: MessageId::new(now),
        msg_id: None,
        client: client.name.clone(),
        source: source.clone(),
        destination: party(written),
        to,
        from: from.clone(),
        class: own.terms.class,
        alphabet,
        place,
        octets: octets.clone(),
        wish: Wish { success: wanted, failure: wanted },
        send_at,
        expires_at,
        received_at: now,
    });
    Ok(parts.collect())
}

/// With or without the country code of China, which numbers may lack (C3 section 8.4.3.1), or its `+`.
fn number(written: &str) -> Option<Number> {
    let digits = written.strip_prefix('+').unwrap_or(written);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let chinese = digits.len() == CHINESE_DIGITS && digits.starts_with('1') && !written.starts_with('+');
    let digits = digits.strip_prefix("00").unwrap_or(digits);
    Number::parse(&if chinese { format!("+86{digits}") } else { format!("+{digits}") }).ok()
}

/// The octets of the words, and their place among others, which the user data header says.
fn content(submit: &Submit) -> Result<(Option<Concatenation>, Bytes), Rejected> {
    let octets = submit.content.clone();
    let (place, octets) = if submit.tp_udhi & 1 == 0 {
        (None, octets)
    } else {
        let header = sms::is_only_concatenation(&octets).then(|| sms::split_header(&octets)).flatten();
        let (place, content) = header
            .ok_or_else(|| bad(SubmitResult::BAD_STRUCTURE, "a user data header with more than concatenation"))?;
        (place, octets.slice_ref(content))
    };
    if octets.is_empty() {
        return Err(Rejected::field(Ground::Length, "no content"));
    }
    Ok((place.filter(|place| place.total > 1), octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ingress::cmpp::tests::client;
    use crate::wire::cmpp::Octets;

    /// 2026-11-23T06:24:00Z.
    const NOW: Timestamp = Timestamp::from_seconds(1_795_415_040);

    fn submit() -> Submit {
        Submit {
            pk_total: 1,
            pk_number: 1,
            msg_src: Octets::new("Msg_src", "900001").unwrap(),
            src_id: Octets::new("Src_Id", "10690001").unwrap(),
            destinations: vec![Octets::new("Dest_terminal_Id", "13800138000").unwrap()],
            content: Bytes::from_static(b"hello"),
            ..Submit::default()
        }
    }

    fn result(submit: &Submit) -> Result<Part, u32> {
        results(submit).map(|mut parts| parts.remove(0))
    }

    fn results(submit: &Submit) -> Result<Vec<Part>, u32> {
        read(submit, &client(), &Options::default(), NOW).map_err(|rejected| result_of(rejected.ground).0)
    }

    #[test]
    fn numbers_are_chinas_unless_they_say_so() {
        for (written, number) in [
            ("13800138000", Some("+8613800138000")),
            ("8613800138000", Some("+8613800138000")),
            ("+8613800138000", Some("+8613800138000")),
            ("008613800138000", Some("+8613800138000")),
            ("14155550100", Some("+8614155550100")),
            ("+14155550100", Some("+14155550100")),
            ("85261234567", Some("+85261234567")),
            ("", None),
            ("1380013800x", None),
            ("123", None),
        ] {
            assert_eq!(self::number(written).map(|n| n.to_string()).as_deref(), number, "{written}");
        }
    }

    #[test]
    fn each_fault_has_its_result() {
        let part = result(&submit()).unwrap();
        assert_eq!((part.to.to_string().as_str(), part.wish.any(), part.place), ("+8613800138000", false, None));
        let to = |count| vec![submit().destinations[0].clone(); count];
        let octets = |text: &str| Octets::new("field", text).unwrap();
        for (submit, expected) in [
            (Submit { msg_src: octets("900002"), ..submit() }, 11),
            (Submit { destinations: to(0), ..submit() }, 13),
            (Submit { destinations: to(100), ..submit() }, 13),
            (Submit { destinations: [to(1), vec![Octets::new("to", "x").unwrap()]].concat(), ..submit() }, 13),
            (Submit { destinations: vec![Octets::new("to", "x").unwrap()], ..submit() }, 13),
            (Submit { src_id: Octets::new("Src_Id", "12").unwrap(), ..submit() }, 10),
            (Submit { msg_fmt: 4, ..submit() }, 1),
            (Submit { registered_delivery: 2, ..submit() }, 1),
            (Submit { content: Bytes::new(), ..submit() }, 6),
            (Submit { tp_udhi: 1, ..submit() }, 1),
            (Submit { valid_time: Octets::new("time", "261101000000032+").unwrap(), ..submit() }, 1),
            (Submit { at_time: Octets::new("time", "rubbish").unwrap(), ..submit() }, 1),
        ] {
            assert_eq!(result(&submit).unwrap_err(), expected, "{submit:?}");
        }
    }

    #[test]
    fn a_submit_to_several_numbers_is_a_text_to_each() {
        // One of them is named twice.
        let destinations =
            ["13800138000", "13800138001", "+8613800138000"].map(|to| Octets::new("Dest_terminal_Id", to).unwrap());
        let parts = results(&Submit { destinations: destinations.to_vec(), ..submit() }).unwrap();
        let numbers: Vec<_> = parts.iter().map(|part| (part.to.to_string(), part.octets.len())).collect();
        assert_eq!(numbers, [("+8613800138000".to_owned(), 5), ("+8613800138001".to_owned(), 5)]);
        assert_ne!(parts[0].id, parts[1].id);
    }

    #[test]
    fn times_are_chinas_and_parts_have_their_place() {
        let content = Bytes::from_static(&[5, 0, 3, 7, 2, 1, 0x4F, 0x60]);
        let times = Octets::new("At_Time", "261124080000032+").unwrap();
        let long = Submit { tp_udhi: 1, msg_fmt: 8, content, at_time: times, registered_delivery: 1, ..submit() };
        let part = result(&long).unwrap();
        assert_eq!(part.place, Some(Concatenation { reference: 7, total: 2, number: 1 }));
        assert_eq!(part.octets, Bytes::from_static(&[0x4F, 0x60]));
        assert_eq!(part.send_at.unwrap().rfc3339(), "2026-11-24T00:00:00.000000Z");
        assert!(part.wish.success && part.wish.failure);
    }

    proptest! {
        #[test]
        fn no_octets_panic(
            content in proptest::collection::vec(any::<u8>(), 0..200),
            fmt in any::<u8>(), udhi in any::<u8>(), to in "\\PC{0,8}", at in "[0-9R+]{0,16}",
        ) {
            let destinations = Octets::new("Dest_terminal_Id", &to).into_iter().collect();
            let at_time = Octets::new("At_Time", &at).unwrap_or_default();
            let submit = Submit { content: content.into(), msg_fmt: fmt, tp_udhi: udhi, destinations, at_time, ..submit() };
            let _ = result(&submit);
        }
    }
}
