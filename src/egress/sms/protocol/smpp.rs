//! SMPP 3.4 and 5.0 as the engine's protocol.

use bytes::{Bytes, BytesMut};

use super::super::options::{LongTexts, Options, OptionsError, Smpp, Validity};
use super::{
    Bound, Brought, Closing, Cut, DeliveryId, Event, FromHandset, Login, NotBound, Part, Parting, Reaction, Step,
    Verdict, WindowFull, international, is_chinese_mobile,
};
use crate::clock::{Mono, Timestamp};
use crate::model::{ReceiptState, SenderId, SmsText};
use crate::sms::{self, Alphabet, Concatenation, receipt};
use crate::wire::smgp::LoginMode;
use crate::wire::smpp::session::{self, BindStep, LinkFault, Receiver, Transceiver, Transmitter};
use crate::wire::smpp::{self, COctets, CommandStatus, Framer, ShortMessage, Tlv, esm_class, tlv};

/// Octets of the header that `sms::parts` writes.
const HEADER_OCTETS: usize = 6;

/// A text's octets. How long texts travel makes a difference only to one of several parts.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8, account: &Smpp) -> Cut {
    let sms::Parts { data_coding, udhi, parts, .. } = sms::parts_for(text, reference, &account.repertoire);
    let cut = Cut { coding: data_coding, udhi, reference: None, on_air: 1, parts };
    if !udhi {
        return cut;
    }
    let bare = |parts: &[Bytes]| parts.iter().map(|part| part.slice(HEADER_OCTETS..)).collect::<Vec<_>>();
    match account.long_texts {
        LongTexts::Udh => cut,
        LongTexts::Sar => Cut { udhi: false, reference: Some(reference), parts: bare(&cut.parts), ..cut },
        LongTexts::Payload => {
            let whole = bare(&cut.parts).concat();
            Cut { udhi: false, on_air: cut.parts.len(), parts: vec![whole.into()], ..cut }
        }
    }
}

/// Asks to be bound.
pub(in crate::egress::sms) fn login(
    options: &Options,
    account: &Smpp,
    mode: LoginMode,
    now: Mono,
    out: &mut BytesMut,
) -> Result<Box<dyn Login>, OptionsError> {
    let settings = session::Settings {
        window: options.window,
        enquire_interval: options.enquire_interval,
        response_timeout: options.response_timeout,
    };
    let request = account.bind(&options.system_id, &options.password)?;
    let (open, deadline) = (session::Open::new(settings), now.plus(options.bind_timeout));
    Ok(match mode {
        LoginMode::Both => Binding::login(open.bind::<Transceiver>(request, deadline, out), account),
        LoginMode::Send => Binding::login(open.bind::<Transmitter>(request, deadline, out), account),
        LoginMode::Receive => Binding::login(open.bind::<Receiver>(request, deadline, out), account),
    })
}

/// What can be done in a mode.
trait Works: session::Mode {
    /// Texts may be submitted.
    const SUBMITS: bool;

    fn submit(
        session: &mut session::Bound<Self>,
        message: ShortMessage,
        now: Mono,
        out: &mut BytesMut,
    ) -> Result<u32, session::WindowFull>
    where
        Self: Sized;
}

macro_rules! submits {
    ($($mode:ty),*) => {$(
        impl Works for $mode {
            const SUBMITS: bool = true;

            fn submit(
                session: &mut session::Bound<Self>,
                message: ShortMessage,
                now: Mono,
                out: &mut BytesMut,
            ) -> Result<u32, session::WindowFull> {
                session.submit_sm(message, now, out)
            }
        }
    )*};
}

submits!(Transceiver, Transmitter);

impl Works for Receiver {
    const SUBMITS: bool = false;

    fn submit(
        _: &mut session::Bound<Self>,
        _: ShortMessage,
        _: Mono,
        _: &mut BytesMut,
    ) -> Result<u32, session::WindowFull> {
        Err(session::WindowFull)
    }
}

struct Binding<M> {
    framer: Framer,
    binding: session::Binding<M>,
    account: Smpp,
}

impl<M: Works> Binding<M> {
    fn login(binding: session::Binding<M>, account: &Smpp) -> Box<dyn Login> {
        Box::new(Self { framer: Framer::new(), binding, account: account.clone() })
    }
}

impl<M: Works> Login for Binding<M> {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn step(mut self: Box<Self>, now: Mono, out: &mut BytesMut) -> Result<Step, NotBound> {
        while let Some(frame) = self.framer.next_frame().map_err(|e| NotBound::Failed(e.to_string()))? {
            let Self { framer, binding, account } = *self;
            match binding.receive(frame, now, out) {
                Ok(BindStep::Binding(binding)) => *self = Self { framer, binding, account },
                Ok(BindStep::Bound(session)) => return Ok(Step::Bound(Box::new(Esme { framer, session, account }))),
                Err(LinkFault::BindRefused(status)) => {
                    let credentials = status.is_credentials();
                    return Err(NotBound::Refused { why: status.to_string(), credentials });
                }
                Err(fault) => return Err(NotBound::Failed(fault.to_string())),
            }
        }
        Ok(Step::Waiting(self))
    }
}

/// A bound ESME.
struct Esme<M> {
    framer: Framer,
    session: session::Bound<M>,
    account: Smpp,
}

impl<M: Works> Bound for Esme<M> {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(None) };
        Ok(Some(match self.session.receive(frame, now, out).map_err(|e| e.to_string())? {
            session::Event::Answer { sequence, status, message_id, congestion, .. } => {
                let message_id = message_id.to_string();
                Event::Answer { sequence, verdict: status.into(), message_id, load: congestion }
            }
            session::Event::Delivery { sequence, message } => {
                Event::Delivery(DeliveryId { sequence, msg_id: 0 }, brought(&message, self.account.repertoire.default))
            }
            session::Event::Unbound => Event::Unbound,
            session::Event::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        M::submit(&mut self.session, message(&self.account, part), now, out).map_err(|_| WindowFull)
    }

    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut) {
        let status = match reaction {
            Reaction::Taken => CommandStatus::OK,
            Reaction::Busy => CommandStatus::TEMPORARY_APPLICATION_ERROR,
            Reaction::Unavailable => CommandStatus::SYSTEM_ERROR,
            Reaction::Refused => CommandStatus::PERMANENT_APPLICATION_ERROR,
        };
        self.session.answer_delivery(delivery.sequence, status, out);
    }

    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, String> {
        self.session.tick(now, out).map_err(|e| e.to_string())
    }

    fn wakeup(&self) -> Mono {
        self.session.wakeup()
    }

    fn awaited(&self) -> usize {
        self.session.awaited()
    }

    fn spoken(&self) -> Option<String> {
        self.session.version().map(|version| format!("SMPP {:x}.{:x}", version >> 4, version & 0x0F))
    }

    fn submits(&self) -> bool {
        M::SUBMITS
    }

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        let unbinding = self.session.unbind(out);
        Parting::closing(self.framer, move |frame, out| unbinding.receive(&frame, out))
    }
}

impl From<CommandStatus> for Verdict {
    fn from(status: CommandStatus) -> Self {
        Self { meaning: status.meaning(), code: status.0, enhanced: status.enhanced(), words: status.to_string() }
    }
}

/// The `submit_sm` of a part.
fn message(account: &Smpp, part: &Part) -> ShortMessage {
    // Numbers and names are never longer than 20 octets.
    let address = |ton, npi, text| {
        let address = COctets::new("address", text).unwrap_or_default();
        smpp::Address { ton, npi, address }
    };
    let text = &part.text;
    let source = match &text.from {
        Some(SenderId::International(number)) => address(1, 1, number.digits()),
        Some(SenderId::Short(digits)) => address(account.short_ton, account.short_npi, digits),
        Some(SenderId::Name(name)) => address(5, 0, name),
        None => smpp::Address::default(),
    };
    let (short_message, mut tlvs) = octets(part);
    tlvs.extend(account.extras_of(text.template.as_deref()));
    ShortMessage {
        source,
        destination: address(1, 1, text.to.digits()),
        esm_class: if text.cut.udhi { esm_class::UDHI } else { 0 },
        validity_period: part.valid_until().map(|at| validity(account.validity, part.at, at)).unwrap_or_default(),
        registered_delivery: 1,
        data_coding: text.cut.coding,
        short_message,
        tlvs,
        ..ShortMessage::default()
    }
}

/// A part's octets, and what says beside them where they belong.
fn octets(part: &Part) -> (Bytes, Vec<Tlv>) {
    let (cut, octets) = (&part.text.cut, part.octets());
    let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    match cut.reference {
        // sm_length must then be 0 (P34 section 5.3.2.32), however short it is.
        None if cut.on_air > 1 => (Bytes::new(), vec![Tlv::new(tlv::MESSAGE_PAYLOAD, octets)]),
        None => (octets, Vec::new()),
        Some(reference) => {
            let tlvs = vec![
                Tlv::new(tlv::SAR_MSG_REF_NUM, u16::from(reference).to_be_bytes().to_vec()),
                Tlv::new(tlv::SAR_TOTAL_SEGMENTS, vec![count(cut.parts.len())]),
                Tlv::new(tlv::SAR_SEGMENT_SEQNUM, vec![count(part.index + 1)]),
            ];
            (octets, tlvs)
        }
    }
}

/// P34 section 7.1.1: `YYMMDDhhmmss000R` is a span, `YYMMDDhhmmss000+` a time in UTC. Rounded down: a code must not be
/// shown after it has expired.
fn validity(form: Validity, now: Timestamp, until: Timestamp) -> COctets<17> {
    let text = match form {
        Validity::Omitted => String::new(),
        Validity::Relative => {
            let seconds = until.since(now).as_secs().max(1);
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
            format!("0000{days:02}{hours:02}{minutes:02}{:02}000R", seconds % 60)
        }
        Validity::Absolute => {
            let at = until.rfc3339();
            let digits: String = at.chars().skip(2).take(17).filter(char::is_ascii_digit).collect();
            format!("{digits}000+")
        }
    };
    COctets::new("validity_period", &text).unwrap_or_default()
}

fn brought(message: &ShortMessage, default: Alphabet) -> Brought {
    if message.is_receipt() {
        read_receipt(message).unwrap_or(Brought::Unreadable)
    } else {
        Brought::Handset(from_handset(message, default))
    }
}

fn from_handset(message: &ShortMessage, default: Alphabet) -> FromHandset {
    let udhi = message.esm_class & esm_class::UDHI != 0;
    let octets = Bytes::copy_from_slice(message.octets());
    let (from, to) = (number(&message.source), written(&message.destination));
    let mut read = FromHandset::new(from, to, alphabet(message.data_coding, default), udhi, octets);
    read.place = read.place.or_else(|| place(message));
    read
}

/// The parts' places where no header says them.
fn place(message: &ShortMessage) -> Option<Concatenation> {
    let smpp::Segment { reference, total, number } = message.segment()?;
    (total > 1).then_some(Concatenation { reference, total, number })
}

/// P34 section 5.2.19. What 0 stands for is the carrier's to say.
fn alphabet(data_coding: u8, default: Alphabet) -> Alphabet {
    match data_coding {
        0 => default,
        // These forms carry message classes (3GPP TS 23.038 section 4), and waiting indications.
        0xC0..=0xDF | 0xF0..=0xF3 => Alphabet::Gsm7,
        1 => Alphabet::Ascii,
        3 => Alphabet::Latin1,
        8 | 0xE0..=0xEF => Alphabet::Ucs2,
        other => Alphabet::Other(other),
    }
}

/// A handset's number: international unless its type says otherwise; a national one is taken for one of China.
fn number(address: &smpp::Address) -> String {
    let text = address.address.to_string();
    let digits = text.trim_start_matches('+');
    match address.ton {
        _ if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => text,
        NATIONAL if is_chinese_mobile(digits) => format!("+86{digits}"),
        // A short number is one of the carrier's services.
        _ if digits.len() < 7 => text,
        _ => international(digits),
    }
}

/// Type of number of a national number (P34 section 5.2.5).
const NATIONAL: u8 = 2;

/// One of our own numbers as the carrier writes it.
fn written(address: &smpp::Address) -> String {
    match (address.ton, address.address.to_string()) {
        (1, text) if text.starts_with(|c: char| c.is_ascii_digit()) => format!("+{text}"),
        (_, text) => text,
    }
}

fn read_receipt(message: &ShortMessage) -> Option<Brought> {
    let mut octets = message.octets();
    if message.esm_class & esm_class::UDHI != 0 {
        octets = sms::split_header(octets)?.1;
    }
    let wide = (message.data_coding == 8).then(|| sms::decode(8, octets));
    let text = wide.as_deref().map_or(octets, str::as_bytes);
    let tlv_state = message.tlv(tlv::MESSAGE_STATE).and_then(|value| value.first().copied());
    let read = receipt::parse(text, message.tlv(tlv::RECEIPTED_MESSAGE_ID), tlv_state)?;
    // An intermediate notification is no verdict, whatever state it names.
    let intermediate = message.esm_class & esm_class::TYPE == esm_class::INTERMEDIATE;
    let state = if intermediate { ReceiptState::Underway } else { read.state };
    Some(Brought::Receipt { id: read.id, state, words: read.words })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Text;
    use super::*;
    use crate::model::{MessageId, Number};
    use crate::sms::{Language, Repertoire};

    fn deliver(change: impl FnOnce(&mut ShortMessage)) -> FromHandset {
        let address = |ton, text| smpp::Address { ton, npi: 1, address: COctets::new("address", text).unwrap() };
        let mut message = ShortMessage {
            source: address(1, "8613800138000"),
            destination: address(0, "10690001"),
            short_message: Bytes::from_static(b"TD"),
            ..ShortMessage::default()
        };
        change(&mut message);
        match brought(&message, Alphabet::Gsm7) {
            Brought::Handset(read) => read,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_default_alphabet_is_the_carriers_both_ways() {
        let octets = |default, text: &str| {
            let repertoire = Repertoire { default, languages: vec![Language::Turkish] };
            let cut = cut(&SmsText::new(text).unwrap(), 9, &Smpp { repertoire, ..Smpp::default() });
            (cut.coding, cut.parts)
        };
        let one = |coding, octets: &'static [u8]| (coding, vec![Bytes::from_static(octets)]);
        assert_eq!(octets(Alphabet::Gsm7, "@é["), one(0, b"\x00\x05\x1B\x3C"));
        assert_eq!(octets(Alphabet::Latin1, "@é["), one(0, b"@\xE9["));
        assert_eq!(octets(Alphabet::Ascii, "@["), one(0, b"@["));
        assert_eq!(octets(Alphabet::Ascii, "é"), one(8, &[0, 0xE9]), "it does not hold it");
        assert_eq!(octets(Alphabet::Latin1, "€"), one(8, &[0x20, 0xAC]));
        assert_eq!(octets(Alphabet::Latin1, "ş").0, 8, "no table is named where septets are not written");
        let (coding, parts) = octets(Alphabet::Latin1, &"[é".repeat(60));
        assert_eq!((coding, parts.len(), parts[0].len()), (0, 2, 6 + 102), "153 septets a part, as on the air");
        assert_eq!(
            (&parts[0][..8], &parts[1][6..]),
            (
                &[5, 0, 3, 9, 2, 1, b'[', 0xE9][..],
                "[\u{E9}".repeat(9).chars().map(|c| c as u8).collect::<Vec<_>>().as_slice()
            )
        );
        let heard = ShortMessage { short_message: Bytes::from_static(b"@\xE9"), ..ShortMessage::default() };
        let Brought::Handset(read) = brought(&heard, Alphabet::Latin1) else { panic!() };
        assert_eq!(read.alphabet.words(&read.octets).as_deref(), Ok("@é"));
    }

    #[test]
    fn a_handsets_message_is_read_wherever_it_travels() {
        let place = |reference, total, number| Some(Concatenation { reference, total, number });
        let plain = deliver(|_| {});
        assert_eq!((plain.from.as_str(), plain.to.as_str()), ("+8613800138000", "10690001"));
        assert_eq!((plain.alphabet, plain.place, &plain.octets[..]), (Alphabet::Gsm7, None, &b"TD"[..]));
        let with_header = deliver(|m| {
            (m.esm_class, m.data_coding) = (esm_class::UDHI, 8);
            m.short_message = Bytes::from_static(&[5, 0, 3, 9, 2, 1, 0x90, 0x00]);
        });
        assert_eq!((with_header.alphabet, with_header.place), (Alphabet::Ucs2, place(9, 2, 1)));
        assert_eq!(&with_header.octets[..], [0x90, 0x00]);
        let turkish = deliver(|m| {
            m.esm_class = esm_class::UDHI;
            m.short_message = Bytes::from_static(&[8, 0x24, 1, 1, 0, 3, 9, 2, 1, b'T', 0x1B, b's']);
        });
        assert_eq!((turkish.alphabet.words(&turkish.octets), turkish.place), (Ok("Tş".to_owned()), place(9, 2, 1)));
        let payload = deliver(|m| {
            m.short_message = Bytes::new();
            m.tlvs = vec![
                smpp::Tlv::new(tlv::MESSAGE_PAYLOAD, &b"STOP"[..]),
                smpp::Tlv::new(tlv::SAR_MSG_REF_NUM, &[1, 2][..]),
                smpp::Tlv::new(tlv::SAR_TOTAL_SEGMENTS, &[3][..]),
                smpp::Tlv::new(tlv::SAR_SEGMENT_SEQNUM, &[2][..]),
            ];
        });
        assert_eq!((&payload.octets[..], payload.place), (&b"STOP"[..], place(0x102, 3, 2)));
        // What makes no sense stays a message of its own.
        let odd = deliver(|m| (m.esm_class, m.short_message) = (esm_class::UDHI, Bytes::from_static(&[200, 1])));
        assert_eq!((odd.place, &odd.octets[..]), (None, &[200, 1][..]));
        let alone = deliver(|m| {
            m.esm_class = esm_class::UDHI;
            m.short_message = Bytes::from_static(&[5, 0, 3, 9, 1, 1, b'T']);
        });
        assert_eq!((alone.place, &alone.octets[..]), (None, &b"T"[..]));
    }

    proptest! {
        /// However long texts travel, who reads what is written has the text again: what a `submit_sm` says, a `deliver_sm` does.
        #[test]
        fn long_texts_are_whole_again(
            content in "[a-zA-Z0-9 @€\\[\\]^{}~|é]{1,700}|(😀|中|a){1,300}",
            long in prop_oneof![Just(LongTexts::Udh), Just(LongTexts::Sar), Just(LongTexts::Payload)],
            reference: u8,
        ) {
            let words = SmsText::new(&content).unwrap();
            let planned = sms::plan(&words);
            let cut = cut(&words, reference, &Smpp { long_texts: long, ..Smpp::default() });
            let is_whole = long == LongTexts::Payload;
            prop_assert_eq!(cut.parts.len(), if is_whole { 1 } else { planned.count });
            prop_assert_eq!(cut.parts.len() * cut.on_air, planned.count, "what it takes on the air is always the same");
            let text = Arc::new(Text {
                id: MessageId::new(Timestamp(0)),
                cut,
                words,
                from: None,
                to: Number::parse("+8613800138000").unwrap(),
                template: None,
                expires_at: None,
            });
            let mut back = String::new();
            for index in 0..text.cut.parts.len() {
                let part = Part { text: Arc::clone(&text), index, at: Timestamp(0) };
                let mut octets = BytesMut::new();
                smpp::Pdu::deliver_sm(1, message(&Smpp::default(), &part)).encode(&mut octets);
                let mut framer = Framer::new();
                framer.extend(&octets);
                let pdu = smpp::Pdu::decode(framer.next_frame().unwrap().unwrap()).unwrap();
                let smpp::Body::DeliverSm(read) = pdu.into_body() else { panic!() };
                let Brought::Handset(read) = brought(&read, Alphabet::Gsm7) else { panic!() };
                let place = (planned.count > 1 && !is_whole).then(|| Concatenation {
                    reference: reference.into(),
                    total: u8::try_from(planned.count).unwrap(),
                    number: u8::try_from(index + 1).unwrap(),
                });
                prop_assert_eq!(read.place, place);
                // No part is fuller than what the carrier's own header leaves room for.
                let room = if is_whole { usize::MAX } else { planned.capacity() };
                let octets_each = if planned.encoding == sms::Encoding::Ucs2 { 2 } else { 1 };
                prop_assert!(read.octets.len() / octets_each <= room);
                back.push_str(&sms::decode(text.cut.coding, &read.octets));
            }
            prop_assert_eq!(back, content);
        }
    }

    #[test]
    fn numbers_of_handsets_are_international() {
        let number = |ton, text| number(&smpp::Address { ton, npi: 1, address: COctets::new("a", text).unwrap() });
        for (ton, text, expected) in [
            (1, "8613800138000", "+8613800138000"),
            (0, "+8613800138000", "+8613800138000"),
            (0, "13105551234", "+13105551234"),
            (2, "13800138000", "+8613800138000"),
            (0, "10086", "10086"),
            (5, "CMCC", "CMCC"),
            (1, "", ""),
        ] {
            assert_eq!(number(ton, text), expected, "{ton} {text}");
        }
    }

    #[test]
    fn validity_never_reaches_past_the_expiry() {
        let now = Timestamp::parse_rfc3339("2026-11-23T06:24:00Z").unwrap();
        let shown = |form, span| {
            let words = SmsText::new("hello").unwrap();
            let text = Text {
                id: MessageId::new(now),
                cut: cut(&words, 0, &Smpp::default()),
                words,
                from: None,
                to: Number::parse("+8613800138000").unwrap(),
                template: None,
                expires_at: Some(now.plus(span)),
            };
            let part = Part { text: Arc::new(text), index: 0, at: now };
            message(&Smpp { validity: form, ..Smpp::default() }, &part).validity_period.to_string()
        };
        let relative = |span| shown(Validity::Relative, span);
        assert_eq!(relative(Duration::from_secs(300)), "000000000500000R");
        assert_eq!(relative(Duration::from_millis(90_999)), "000000000130000R");
        assert_eq!(relative(Duration::from_secs(3 * 86_400 + 3_661)), "000003010101000R");
        assert_eq!(relative(Duration::from_secs(400 * 86_400)), "000030000000000R");
        assert_eq!(relative(Duration::from_millis(10)), "000000000001000R");
        assert_eq!(shown(Validity::Absolute, Duration::from_secs(300)), "261123062900000+");
        assert_eq!(shown(Validity::Omitted, Duration::from_secs(300)), "");
    }
}
