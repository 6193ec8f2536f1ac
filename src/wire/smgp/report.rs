//! Status reports: what a DELIVER with IsReport 1 brings as its content.
//!
//! It looks like SMPP's, but the ten octets behind `id:` are a MsgID as it is, blanks and NULs included.
//!
//! **Promises.** Read by position, as only that finds what stands behind the id; keys are compared without case, since M3
//! itself writes them in more than one way. Of the text quoted at the end any length is taken.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MsgId, Octets};
use crate::wire::FieldError;

/// Octets of a report.
pub const LENGTH: usize = 122;

/// Octets of the quoted text.
const TEXT_OCTETS: usize = 20;

/// A status report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What it is about: the MsgID of the SUBMIT_RESP.
    pub msg_id: MsgId,
    /// How many texts were submitted: `001`.
    pub sub: Octets<3>,
    /// How many arrived.
    pub dlvrd: Octets<3>,
    /// When it was submitted: `YYMMDDhhmm`, China's time.
    pub submit_date: Octets<10>,
    /// When it ended.
    pub done_date: Octets<10>,
    /// What became of it: `DELIVRD` and its like.
    pub stat: Octets<7>,
    /// Why: see [`error_name`].
    pub err: Octets<3>,
    /// The first of its octets.
    pub text: Octets<TEXT_OCTETS>,
}

impl Report {
    /// Reads the content of a DELIVER.
    ///
    /// # Errors
    /// [`FieldError`] if a key does not stand where it should.
    pub fn read(content: &Bytes) -> Result<Self, FieldError> {
        let body = &mut content.clone();
        key("id:", body)?;
        Ok(Self {
            msg_id: MsgId::read(body)?,
            sub: value("sub", " sub:", body)?,
            dlvrd: value("dlvrd", " dlvrd:", body)?,
            submit_date: value("submit date", " submit date:", body)?,
            done_date: value("done date", " done date:", body)?,
            stat: value("stat", " stat:", body)?,
            err: value("err", " err:", body)?,
            text: quoted(body)?,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LENGTH);
        out.put_slice(b"id:");
        out.put_slice(&self.msg_id.0);
        out.put_slice(b" sub:");
        self.sub.put(&mut out);
        out.put_slice(b" dlvrd:");
        self.dlvrd.put(&mut out);
        out.put_slice(b" submit date:");
        self.submit_date.put(&mut out);
        out.put_slice(b" done date:");
        self.done_date.put(&mut out);
        out.put_slice(b" stat:");
        self.stat.put(&mut out);
        out.put_slice(b" err:");
        self.err.put(&mut out);
        out.put_slice(b" text:");
        self.text.put(&mut out);
        out.freeze()
    }
}

/// What an `err` means; `None` for one that is all well, or that M3 does not know.
pub fn error_name(err: &[u8]) -> Option<&'static str> {
    Some(match err {
        b"001" => "unreachable",
        b"002" => "busy",
        b"003" => "no such part",
        b"004" => "illegal user",
        b"005" => "blacklisted",
        b"006" => "system error",
        b"007" => "memory full",
        b"008" => "not a data terminal",
        b"009" => "data error",
        b"010" => "data lost",
        b"999" => "unknown",
        _ => return None,
    })
}

fn key(key: &'static str, body: &mut Bytes) -> Result<(), FieldError> {
    if !body.get(..key.len()).is_some_and(|octets| octets.eq_ignore_ascii_case(key.as_bytes())) {
        return Err(FieldError { field: key.trim() });
    }
    body.advance(key.len());
    Ok(())
}

fn value<const WIDTH: usize>(
    field: &'static str,
    before: &'static str,
    body: &mut Bytes,
) -> Result<Octets<WIDTH>, FieldError> {
    key(before, body)?;
    Octets::read(field, body)
}

/// Nothing of it is needed: what is shorter, or not there at all, is no reason to lose a report.
fn quoted(body: &mut Bytes) -> Result<Octets<TEXT_OCTETS>, FieldError> {
    if key(" text:", body).is_err() {
        return Ok(Octets::default());
    }
    let width = body.len().min(TEXT_OCTETS);
    Octets::read_narrow("text", width, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: [u8; 10] = *b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45";

    fn report() -> Report {
        let o = |text| Octets::new("test", text).unwrap();
        Report {
            msg_id: MsgId(ID),
            sub: Octets::new("sub", "001").unwrap(),
            dlvrd: Octets::new("dlvrd", "001").unwrap(),
            submit_date: o("2611240224"),
            done_date: o("2611240225"),
            stat: Octets::new("stat", "DELIVRD").unwrap(),
            err: Octets::new("err", "000").unwrap(),
            text: Octets::new("text", "hello").unwrap(),
        }
    }

    fn golden() -> Vec<u8> {
        let tail = b" sub:001 dlvrd:001 submit date:2611240224 done date:2611240225 stat:DELIVRD err:000 text:hello";
        [&b"id:"[..], &ID, tail, &[0; 15]].concat()
    }

    #[test]
    fn the_octets_are_those_of_the_standard() {
        let octets = golden();
        assert_eq!((octets.len(), LENGTH), (122, 122));
        let at = |start: usize, end: usize| &octets[start..end];
        assert_eq!((at(3, 13), at(18, 21), at(28, 31)), (&ID[..], &b"001"[..], &b"001"[..]));
        assert_eq!((at(44, 54), at(65, 75)), (&b"2611240224"[..], &b"2611240225"[..]));
        assert_eq!((at(81, 88), at(93, 96), at(102, 107)), (&b"DELIVRD"[..], &b"000"[..], &b"hello"[..]));
        assert_eq!(report().write(), octets);
        assert_eq!(Report::read(&octets.into()), Ok(report()));
    }

    #[test]
    fn keys_are_compared_without_case_and_stand_where_they_should() {
        let read = |octets: &[u8]| Report::read(&Bytes::copy_from_slice(octets));
        let mut octets = golden();
        for (at, key) in [(0, &b"ID"[..]), (14, b"Sub"), (32, b"Submit Date"), (76, b"STAT"), (97, b"Text")] {
            octets[at..at + key.len()].copy_from_slice(key);
        }
        assert_eq!(read(&octets), Ok(report()));
        // An id may hold what looks like the rest.
        let mut octets = golden();
        octets[3..13].copy_from_slice(b" stat:X \0:");
        assert_eq!(read(&octets).unwrap().msg_id, MsgId(*b" stat:X \0:"));
        assert_eq!(read(&octets).unwrap().stat.to_string(), "DELIVRD");
        // The quoted text may be cut off, at any place.
        for length in 96..122 {
            assert_eq!(read(&golden()[..length]).unwrap().err.to_string(), "000", "{length}");
        }
        for length in 0..96 {
            assert!(read(&golden()[..length]).is_err(), "{length}");
        }
        let mut octets = golden();
        octets[13] = b'-';
        assert_eq!(read(&octets), Err(FieldError { field: "sub:" }));
    }

    proptest! {
        #[test]
        fn no_content_panics(content in proptest::collection::vec(any::<u8>(), 0..140), at in 0usize..122, octet: u8) {
            let _ = Report::read(&content.into());
            let mut octets = golden();
            octets[at] = octet;
            if let Ok(read) = Report::read(&octets.into()) {
                prop_assert_eq!(Report::read(&read.write()), Ok(read));
            }
        }
    }
}
