//! Whatever a gateway's PDU holds, decoding it is an answer or an error; and what was understood reads back from what we write
//! of it, written the same again. The content of a report is read as well.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use postrider::wire::cmpp::{Body, Frame, Framer, Pdu, Report, Version, command};

const COMMANDS: [u32; 6] =
    [command::CONNECT, command::TERMINATE, command::SUBMIT, command::DELIVER, command::ACTIVE_TEST, 0];

fuzz_target!(|input: &[u8]| {
    let Some((&kind, body)) = input.split_first() else { return };
    let response = if kind & 8 == 0 { 0 } else { command::RESPONSE };
    let version = if kind & 16 == 0 { Version::V2 } else { Version::V3 };
    let Some(command) = COMMANDS.get(usize::from(kind & 7)) else { return };
    let frame = Frame { command_id: command | response, sequence: 7, body: Bytes::copy_from_slice(body) };
    let Ok(pdu) = Pdu::decode(frame, version) else { return };
    match pdu.body() {
        Body::Deliver(deliver) => {
            if let Ok(report) = Report::read(&deliver.content) {
                let layout = if deliver.content.len() == 60 { Version::V2 } else { Version::V3 };
                assert_eq!(Report::read(&report.write(layout)).as_ref(), Ok(&report));
            }
        }
        // Answers are read in the widths of both versions, and written in that of ours.
        Body::ConnectResp(_) | Body::SubmitResp(..) | Body::DeliverResp(..) => return,
        _ => {}
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
