//! Whatever a gateway's PDU holds, decoding it is an answer or an error; and what was understood reads back from what we write
//! of it, written the same again.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use postrider::wire::sgip::{Frame, Framer, Pdu, Sequence, command};

const COMMANDS: [u32; 8] = [
    command::BIND,
    command::UNBIND,
    command::SUBMIT,
    command::DELIVER,
    command::REPORT,
    command::USERRPT,
    command::TRACE,
    0,
];

fuzz_target!(|input: &[u8]| {
    let Some((&kind, body)) = input.split_first() else { return };
    let response = if kind & 8 == 0 { 0 } else { command::RESPONSE };
    let command_id = COMMANDS[usize::from(kind & 7)] | response;
    let sequence = Sequence { node: 3_010_012_345, time: 1_127_000_000, counter: 7 };
    let Ok(pdu) = Pdu::decode(Frame { command_id, sequence, body: Bytes::copy_from_slice(body) }) else { return };
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
