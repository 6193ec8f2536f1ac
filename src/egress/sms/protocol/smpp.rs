//! SMPP 3.4 as the engine's protocol.

use bytes::BytesMut;

use super::super::options::{Options, OptionsError, Smpp, Validity};
use super::{
    Bound, Brought, Closing, Cut, DeliveryId, Event, Login, NotBound, Part, Reaction, Step, Verdict, WindowFull,
};
use crate::clock::{Mono, Timestamp};
use crate::model::{ReceiptState, SenderId, SmsText};
use crate::sms::{self, receipt};
use crate::wire::smpp::session::{self, BindStep, LinkFault, Transceiver};
use crate::wire::smpp::{self, COctets, CommandStatus, Framer, ShortMessage, esm_class, tlv};

/// A text's octets.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8) -> Cut {
    let sms::Parts { data_coding, udhi, parts, .. } = sms::parts(text, reference);
    Cut { coding: data_coding, udhi, parts }
}

/// Asks to be bound.
pub(in crate::egress::sms) fn login(
    options: &Options,
    account: &Smpp,
    now: Mono,
    out: &mut BytesMut,
) -> Result<Box<dyn Login>, OptionsError> {
    let settings = session::Settings {
        window: options.window,
        enquire_interval: options.enquire_interval,
        response_timeout: options.response_timeout,
    };
    let request = account.bind(&options.system_id, &options.password)?;
    let binding = session::Open::new(settings).bind(request, now.plus(options.bind_timeout), out);
    Ok(Box::new(Binding { framer: Framer::new(), binding, account: account.clone() }))
}

struct Binding {
    framer: Framer,
    binding: session::Binding<Transceiver>,
    account: Smpp,
}

impl Login for Binding {
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
struct Esme {
    framer: Framer,
    session: session::Bound<Transceiver>,
    account: Smpp,
}

impl Bound for Esme {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(None) };
        Ok(Some(match self.session.receive(frame, now, out).map_err(|e| e.to_string())? {
            session::Event::Answer { sequence, status, message_id, .. } => {
                Event::Answer { sequence, verdict: status.into(), message_id: message_id.to_string() }
            }
            session::Event::Delivery { sequence, message } => {
                Event::Delivery(DeliveryId { sequence, msg_id: 0 }, brought(&message))
            }
            session::Event::Unbound => Event::Unbound,
            session::Event::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        self.session.submit_sm(message(&self.account, part), now, out).map_err(|_| WindowFull)
    }

    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut) {
        let status = match reaction {
            Reaction::Taken => CommandStatus::OK,
            Reaction::Busy | Reaction::PutOff => CommandStatus::TEMPORARY_APPLICATION_ERROR,
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

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        Box::new(Unbinding { framer: self.framer, unbinding: self.session.unbind(out) })
    }
}

struct Unbinding {
    framer: Framer,
    unbinding: session::Unbinding,
}

impl Closing for Unbinding {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn is_over(&mut self, out: &mut BytesMut) -> bool {
        while let Ok(Some(frame)) = self.framer.next_frame() {
            if self.unbinding.receive(&frame, out) {
                return true;
            }
        }
        false
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
    ShortMessage {
        source,
        destination: address(1, 1, text.to.digits()),
        esm_class: if text.cut.udhi { esm_class::UDHI } else { 0 },
        validity_period: part.valid_until().map(|at| validity(account.validity, part.at, at)).unwrap_or_default(),
        registered_delivery: 1,
        data_coding: text.cut.coding,
        short_message: part.octets(),
        ..ShortMessage::default()
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

fn brought(message: &ShortMessage) -> Brought {
    if message.is_receipt() { read_receipt(message).unwrap_or(Brought::Unreadable) } else { Brought::Handset }
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

    use super::super::Text;
    use super::*;
    use crate::model::Number;

    #[test]
    fn validity_never_reaches_past_the_expiry() {
        let now = Timestamp::parse_rfc3339("2026-11-23T06:24:00Z").unwrap();
        let shown = |form, span| {
            let text = Text {
                from: None,
                to: Number::parse("+8613800138000").unwrap(),
                cut: cut(&SmsText::new("hello").unwrap(), 0),
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
