//! What the targets share: cutting input up, and making mail of it.

use std::io::IoSlice;

use bytes::Bytes;
use postrider::model::{MailData, MessageId, Responsibility};
use postrider::wire::smtp::client::Outgoing;
use postrider::wire::smtp::client::content::SLICES;

/// Cuts `bytes` into slices of 1 to 32 octets, at other places for each `seed`; a seed of 0 cuts at every octet.
pub fn slices(seed: u8, mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(0x9E37_79B1);
        let length = (1 + (state >> 27) as usize).min(bytes.len());
        let slice = bytes.split_off(..length)?;
        (!slice.is_empty()).then_some(slice)
    })
}

/// Mail data that says what `bytes` say: each LF becomes CRLF; CR and NUL are left out.
pub fn mail(bytes: &[u8]) -> MailData {
    let mut clean = Vec::with_capacity(bytes.len() + 16);
    for &octet in bytes {
        match octet {
            b'\r' | 0 => {}
            b'\n' => clean.extend(b"\r\n"),
            _ => clean.push(octet),
        }
    }
    MailData::new(Bytes::from(clean)).expect("only CRLF ends a line")
}

/// Writes as a socket does: some octets at a time.
pub fn written(seed: u8, mut outgoing: Outgoing<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for room in slices(seed, &[0; 4096]).map(<[u8]>::len).collect::<Vec<_>>().into_iter().cycle() {
        let mut offered = [IoSlice::new(&[]); SLICES];
        let octets = match outgoing.slices(&mut offered) {
            0 => break,
            count => offered[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>(),
        };
        let taken = &octets[..octets.len().min(room)];
        out.extend(taken);
        outgoing.advance(taken.len());
    }
    out
}

/// True if `data` holds no CR, LF or NUL but in CRLF: said independently of the constructor that promises it.
pub fn is_clean(data: &MailData) -> bool {
    String::from_utf8_lossy(data.bytes()).split("\r\n").all(|line| !line.contains(['\r', '\n', '\0']))
}

/// The fuzzer's yes.
pub struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::from_bytes([0; 16])
    }
}
