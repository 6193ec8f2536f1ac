//! Whatever a carrier's PDU holds, decoding it is an answer or an error; and what was understood reads back from what we
//! write of it, written the same again.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use postrider::wire::smpp::{Body, Frame, Framer, Pdu, command};

const COMMANDS: [u32; 8] = [
    command::BIND_RECEIVER,
    command::BIND_TRANSCEIVER,
    command::SUBMIT_SM,
    command::DELIVER_SM,
    command::UNBIND,
    command::ENQUIRE_LINK,
    command::ALERT_NOTIFICATION,
    0,
];

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, status], body)) = input.split_first_chunk() else { return };
    let response = if kind & 8 == 0 { 0 } else { command::RESPONSE };
    // A bit of its own, so that older inputs mean what they meant.
    let command_id = if kind & 16 == 0 { COMMANDS[usize::from(kind & 7)] } else { command::DATA_SM };
    let frame = Frame {
        command_id: command_id | response,
        command_status: status.into(),
        sequence: 7,
        body: Bytes::copy_from_slice(body),
    };
    let Ok(pdu) = Pdu::decode(frame) else { return };
    if let Body::SubmitSm(message) | Body::DeliverSm(message) = pdu.body() {
        let _ = (message.octets(), message.is_receipt());
        // 255 octets, one more than the standard allows, we would write as a payload.
        if message.short_message.len() > 254 {
            return;
        }
    }
    let written = encoded(&pdu);
    let mut framer = Framer::new();
    framer.extend(&written);
    let back = Pdu::decode(framer.next_frame().expect("its length is true").expect("it is whole"));
    assert_eq!(back.as_ref(), Ok(&pdu));
    assert_eq!(framer.next_frame(), Ok(None));
    assert_eq!(encoded(&pdu), written);
});

fn encoded(pdu: &Pdu) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(&mut out);
    out
}
