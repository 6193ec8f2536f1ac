//! Whatever a gateway's PDU holds, decoding it is an answer or an error; and what was understood reads back from what we write
//! of it, written the same again. The content of a report is read as well.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use postrider::wire::smgp::{Body, Frame, Framer, Pdu, Report, Version, command};

const COMMANDS: [u32; 8] = [
    command::LOGIN,
    command::SUBMIT,
    command::DELIVER,
    command::ACTIVE_TEST,
    command::FORWARD,
    command::EXIT,
    command::QUERY,
    0,
];

fuzz_target!(|input: &[u8]| {
    let Some((&kind, body)) = input.split_first() else { return };
    let response = if kind & 8 == 0 { 0 } else { command::RESPONSE };
    let version = if kind & 16 == 0 { Version::V30 } else { Version::V13 };
    let command_id = COMMANDS[usize::from(kind & 7)] | response;
    let frame = Frame { command_id, sequence: 7, body: Bytes::copy_from_slice(body) };
    let Ok(pdu) = Pdu::decode(frame, version) else { return };
    if let Body::Deliver(deliver) = pdu.body()
        && let Ok(report) = Report::read(&deliver.content)
    {
        assert_eq!(Report::read(&report.write()).as_ref(), Ok(&report));
    }
    let written = encoded(&pdu, version);
    let mut framer = Framer::new();
    framer.extend(&written);
    let back = Pdu::decode(framer.next_frame().expect("its length is true").expect("it is whole"), version);
    assert_eq!(back.as_ref(), Ok(&pdu));
    assert_eq!(framer.next_frame(), Ok(None));
    assert_eq!(encoded(&pdu, version), written);
});

fn encoded(pdu: &Pdu, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(version, &mut out);
    out
}
