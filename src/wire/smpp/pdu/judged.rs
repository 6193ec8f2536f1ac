//! Our PDUs before another program's codec, and its PDUs before ours: 10,000 random ones each way, field by field and octet by
//! octet.
//!
//! **Does not judge** what rusmpp does not let through although P34 does: passwords of more than 8 octets, times that are neither
//! empty nor 16 characters, statuses without a body.

use bytes::BytesMut;
use proptest::prelude::*;
use rusmpp_core::command::owned::Command;
use rusmpp_core::decode::owned::DecodeWithLength;
use rusmpp_core::encode::{Encode, Length};
use rusmpp_core::pdus::owned as theirs;
use rusmpp_core::tlvs::owned::{MessageDeliveryRequestTlvValue, MessageSubmissionRequestTlvValue};
use rusmpp_core::types::owned::{COctetString, EmptyOrFullCOctetString, OctetString};
use rusmpp_core::values::owned::ServiceType;

use super::message::SHORT_MESSAGE_BYTES_MAX;
use super::tests::{Taken, as_data, c, decoded, encoded};
use super::*;

/// As the other codec reads it; it wants no length in front.
fn judged(octets: &[u8]) -> Command {
    let mut behind = BytesMut::from(&octets[4..]);
    let (command, read) = Command::decode(&mut behind, octets.len() - 4).expect("the judge can read it");
    assert_eq!(read, octets.len() - 4, "and reads all of it");
    command
}

/// As the other codec writes it.
fn written(command: &Command) -> Vec<u8> {
    let mut body = vec![0; command.length()];
    let length = command.encode(&mut body);
    assert_eq!(length, body.len());
    let whole = u32::try_from(length + 4).unwrap();
    [&whole.to_be_bytes()[..], &body].concat()
}

/// A message as both codecs know it, field by field.
fn ours(m: &ShortMessage) -> String {
    format!(
        "{} {}.{}.{} {}.{}.{} {:#x} {} {} '{}' '{}' {:#x} {} {} {} {:x?}",
        m.service_type,
        m.source.ton,
        m.source.npi,
        m.source.address,
        m.destination.ton,
        m.destination.npi,
        m.destination.address,
        m.esm_class,
        m.protocol_id,
        m.priority_flag,
        m.schedule_delivery_time,
        m.validity_period,
        m.registered_delivery,
        m.replace_if_present,
        m.data_coding,
        m.sm_default_msg_id,
        &m.short_message[..]
    )
}

macro_rules! told {
    ($m:expr) => {{
        let m = $m;
        format!(
            "{} {}.{}.{} {}.{}.{} {:#x} {} {} '{}' '{}' {:#x} {} {} {} {:x?}",
            m.service_type.value(),
            u8::from(m.source_addr_ton),
            u8::from(m.source_addr_npi),
            m.source_addr.as_str(),
            u8::from(m.dest_addr_ton),
            u8::from(m.dest_addr_npi),
            m.destination_addr.as_str(),
            u8::from(m.esm_class),
            m.protocol_id,
            u8::from(m.priority_flag),
            m.schedule_delivery_time.as_str(),
            m.validity_period.as_str(),
            u8::from(m.registered_delivery),
            u8::from(m.replace_if_present_flag),
            u8::from(m.data_coding),
            m.sm_default_msg_id,
            m.short_message().as_ref()
        )
    }};
}

fn address() -> impl Strategy<Value = Address> {
    (any::<u8>(), any::<u8>(), "[0-9A-Za-z+]{0,20}").prop_map(|(ton, npi, text)| Address {
        ton,
        npi,
        address: c(&text),
    })
}

/// A message with optional parameters of the kinds that links use, as P34 section 5.3.2 sizes them, or a carrier's own.
fn message() -> impl Strategy<Value = ShortMessage> {
    let octets = |most| proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    let of = |tag: u16, length: usize| {
        proptest::collection::vec(any::<u8>(), length).prop_map(move |value| Tlv { tag, value: value.into() })
    };
    let parameter = prop_oneof![
        of(0x0204, 2),
        of(0x020A, 2),
        of(0x020C, 2),
        of(0x020E, 1),
        of(0x020F, 1),
        (0x1400..0x3FFF_u16, octets(20)).prop_map(|(tag, value)| Tlv { tag, value }),
    ];
    let time = prop_oneof![Just(String::new()), "[0-9]{15}[R+-]"];
    let fixed = proptest::array::uniform7(any::<u8>());
    let tlvs = proptest::collection::vec(parameter, 0..4);
    (address(), address(), fixed, "[ -~]{0,5}", time, octets(300), tlvs).prop_map(
        |(source, destination, fixed, service, validity, short_message, tlvs)| ShortMessage {
            service_type: c(&service),
            source,
            destination,
            esm_class: fixed[0],
            protocol_id: fixed[1],
            priority_flag: fixed[2],
            schedule_delivery_time: c(""),
            validity_period: c(&validity),
            registered_delivery: fixed[3],
            replace_if_present: fixed[4],
            data_coding: fixed[5],
            sm_default_msg_id: fixed[6],
            short_message,
            tlvs,
        },
    )
}

fn pdu() -> impl Strategy<Value = Pdu> {
    let binds = || prop_oneof![Just(1_u32), Just(2), Just(9)];
    let bind =
        ("[ -~]{0,15}", "[ -~]{0,8}", "[ -~]{0,12}", any::<[u8; 3]>()).prop_map(|(id, password, kind, [a, b, d])| {
            Bind {
                system_id: c(&id),
                password: c(&password),
                system_type: c(&kind),
                interface_version: a,
                addr_ton: b,
                addr_npi: d,
                ..Bind::default()
            }
        });
    let sequence = || any::<u32>();
    prop_oneof![
        (binds(), sequence(), bind).prop_map(|(id, n, bind)| Pdu::bind(id, n, bind)),
        (binds(), "[ -~]{0,15}").prop_map(|(id, name)| Pdu::bind_resp(id, 2, CommandStatus::OK, c(&name))),
        (sequence(), message()).prop_map(|(n, m)| Pdu::submit_sm(n, m)),
        (sequence(), message()).prop_map(|(n, m)| Pdu::deliver_sm(n, m)),
        (sequence(), message()).prop_map(|(n, m)| Pdu::data_sm(n, as_data(m))),
        (sequence(), "[ -~]{0,64}").prop_map(|(n, id)| Pdu::submit_sm_taken(n, &Taken, c(&id))),
        (sequence(), "[ -~]{0,64}").prop_map(|(n, id)| Pdu::data_sm_taken(n, &Taken, c(&id))),
        (sequence(), any::<u32>()).prop_map(|(n, status)| Pdu::deliver_sm_resp(n, CommandStatus(status))),
        (sequence(), any::<u32>()).prop_map(|(n, status)| Pdu::generic_nack(n, CommandStatus(status))),
        sequence().prop_map(Pdu::enquire_link),
        sequence().prop_map(Pdu::enquire_link_resp),
        sequence().prop_map(Pdu::unbind),
        sequence().prop_map(Pdu::unbind_resp),
    ]
}

/// The same message as the other codec makes it, without optional parameters but these.
macro_rules! made {
    ($builder:expr, $m:expr, $tlvs:expr) => {{
        let m = $m;
        $builder
            .service_type(ServiceType::new(text(&m.service_type)))
            .source_addr_ton(m.source.ton.into())
            .source_addr_npi(m.source.npi.into())
            .source_addr(text(&m.source.address))
            .dest_addr_ton(m.destination.ton.into())
            .dest_addr_npi(m.destination.npi.into())
            .destination_addr(text(&m.destination.address))
            .esm_class(m.esm_class.into())
            .protocol_id(m.protocol_id)
            .priority_flag(m.priority_flag.into())
            .validity_period(EmptyOrFullCOctetString::from_vec(ended(&m.validity_period)).unwrap())
            .registered_delivery(m.registered_delivery.into())
            .replace_if_present_flag(m.replace_if_present.into())
            .data_coding(m.data_coding.into())
            .sm_default_msg_id(m.sm_default_msg_id)
            .short_message(OctetString::from_slice(&m.short_message).unwrap())
            .tlvs($tlvs)
            .build()
    }};
}

fn ended<const MAX: usize>(text: &COctets<MAX>) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn text<const MAX: usize>(text: &COctets<MAX>) -> COctetString<1, MAX> {
    COctetString::from_vec(ended(text)).unwrap()
}

/// A message of ours made by the other codec, as it is submitted or delivered.
fn made(mut m: ShortMessage, delivered: bool) -> (ShortMessage, theirs::Pdu) {
    m.short_message.truncate(SHORT_MESSAGE_BYTES_MAX);
    m.tlvs.clear();
    let number = u16::from(m.protocol_id) << 8 | u16::from(m.data_coding);
    m.tlvs.push(Tlv::new(0x020C, number.to_be_bytes().to_vec()));
    m.tlvs.push(Tlv::new(0x020E, vec![m.esm_class]));
    let pdu: theirs::Pdu = if delivered {
        let reference = MessageDeliveryRequestTlvValue::SarMsgRefNum(number);
        let parts = MessageDeliveryRequestTlvValue::SarTotalSegments(m.esm_class);
        made!(theirs::DeliverSm::builder(), &m, vec![reference, parts]).into()
    } else {
        let reference = MessageSubmissionRequestTlvValue::SarMsgRefNum(number);
        let parts = MessageSubmissionRequestTlvValue::SarTotalSegments(m.esm_class);
        made!(theirs::SubmitSm::builder(), &m, vec![reference, parts]).into()
    };
    (m, pdu)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_we_write_another_codec_reads_and_writes_the_same(pdu in pdu()) {
        let octets = encoded(&pdu);
        let command = judged(&octets);
        prop_assert_eq!(u32::from(command.id()), pdu.command_id());
        prop_assert_eq!(u32::from(command.status), pdu.status().0);
        prop_assert_eq!(command.sequence_number, pdu.sequence());
        match (pdu.body(), command.pdu()) {
            // What is longer travels as message_payload, which ours tells apart only when it is read.
            (Body::SubmitSm(m), Some(theirs::Pdu::SubmitSm(read))) if m.short_message.len() <= SHORT_MESSAGE_BYTES_MAX => {
                prop_assert_eq!(ours(m), told!(read));
            }
            (Body::DeliverSm(m), Some(theirs::Pdu::DeliverSm(read))) if m.short_message.len() <= SHORT_MESSAGE_BYTES_MAX => {
                prop_assert_eq!(ours(m), told!(read));
            }
            (Body::DataSm(m), Some(theirs::Pdu::DataSm(read))) => {
                prop_assert_eq!(m.destination.address.to_string(), read.destination_addr.as_str());
                prop_assert_eq!(m.source.address.to_string(), read.source_addr.as_str());
                let theirs = [u8::from(read.esm_class), u8::from(read.registered_delivery), u8::from(read.data_coding)];
                prop_assert_eq!([m.esm_class, m.registered_delivery, m.data_coding], theirs);
            }
            (Body::SubmitSmResp(answer), Some(theirs::Pdu::SubmitSmResp(read))) => {
                prop_assert_eq!(answer.message_id.to_string(), read.message_id().as_str());
            }
            (Body::Bind(bind), Some(theirs::Pdu::BindTransceiver(read))) => {
                prop_assert_eq!(bind.system_id.to_string(), read.system_id.as_str());
                prop_assert_eq!(bind.password.to_string(), read.password.as_str());
            }
            (_, read) => prop_assert!(read.is_some(), "{:?}", command),
        }
        prop_assert_eq!(&written(&command)[..], &octets[..]);
    }

    #[test]
    fn what_another_codec_writes_we_read_and_write_the_same(
        m in message(),
        delivered in any::<bool>(),
        status in any::<u32>(),
        sequence in any::<u32>(),
    ) {
        let (m, pdu) = made(m, delivered);
        let octets = written(&Command::new(status.into(), sequence, pdu));
        let read = decoded(&octets).expect("we can read it");
        prop_assert_eq!((read.sequence(), read.status().0), (sequence, status));
        prop_assert_eq!(&encoded(&read)[..], &octets[..]);
        match read.into_body() {
            Body::SubmitSm(read) if !delivered => prop_assert_eq!(read, m),
            Body::DeliverSm(read) if delivered => prop_assert_eq!(read, m),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn binds_and_answers_that_another_codec_writes_we_read_and_write_the_same(
        id in "[ -~]{0,15}",
        password in "[ -~]{0,8}",
        message_id in "[ -~]{0,64}",
        sequence in any::<u32>(),
        numbers in any::<[u8; 3]>(),
    ) {
        let name = text(&c::<16>(&id));
        let bind = theirs::BindTransceiver::builder()
            .system_id(name.clone())
            .password(text(&c::<9>(&password)))
            .interface_version(numbers[0].into())
            .addr_ton(numbers[1].into())
            .addr_npi(numbers[2].into())
            .build();
        let version = Some(numbers[0].into());
        let bound = theirs::BindTransceiverResp::new(name, version);
        let taken = theirs::SubmitSmResp::builder().message_id(text(&c::<65>(&message_id))).build();
        let pdus = [bind.into(), bound.into(), taken.into(), theirs::Pdu::EnquireLink, theirs::Pdu::UnbindResp];
        for pdu in pdus {
            let octets = written(&Command::new(0.into(), sequence, pdu));
            let read = decoded(&octets).expect("we can read it");
            prop_assert_eq!(read.sequence(), sequence);
            prop_assert_eq!(&encoded(&read)[..], &octets[..]);
            match read.into_body() {
                Body::Bind(bind) => {
                    prop_assert_eq!((bind.system_id.to_string(), bind.password.to_string()), (id.clone(), password.clone()));
                    prop_assert_eq!([bind.interface_version, bind.addr_ton, bind.addr_npi], numbers);
                }
                Body::BindResp(bound) => prop_assert_eq!((bound.system_id.to_string(), bound.tlvs.len()), (id.clone(), 1)),
                Body::SubmitSmResp(taken) => prop_assert_eq!(taken.message_id.to_string(), message_id.clone()),
                Body::EnquireLink | Body::UnbindResp => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
