//! `POST /v1/email` as `message/rfc822`: a finished mail; its envelope from the query or from its own fields.
//!
//! **Line ends.** All CRLF is taken as it is. All LF, without a single CR, is what a program on Unix reads from a file
//! and is converted. Anything mixed is refused: where two readers might see different lines, neither guess is safe.

use axum::extract::Query;
use bytes::{BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr_iter};

use super::intake::Intake;
use super::mail::{Draft, each_once};
use super::mailboxes;
use super::problem::{Faults, Kind, Problem};
use super::settings::RawSettings;
use crate::limits;
use crate::mail::header::fields;
use crate::model::{MailData, Mailbox};

/// Reads the request.
pub(super) fn read(intake: &Intake) -> Result<Draft, Problem> {
    let mut faults = Faults::default();
    let asked = Asked::read(intake, &mut faults)?;
    let data = data(intake.body.clone())?;
    let from = match asked.from {
        Some(from) => faults.take("from", Mailbox::parse(&from).map_err(|e| e.to_string())),
        None => faults.take("from", author(&data)),
    };
    let recipients = if asked.to.is_empty() {
        faults.take("to", readers(&data, intake.options.recipients_max)).unwrap_or_default()
    } else {
        let one = |(i, text): (usize, &String)| faults.take(&format!("to[{i}]"), Mailbox::parse(text));
        asked.to.iter().enumerate().filter_map(one).collect()
    };
    if recipients.is_empty() && faults.is_empty() {
        faults.add("to", "no recipient: expected To, Cc or Bcc, or to=… in the query");
    }
    let recipients = each_once(recipients, intake.options.recipients_max, &mut faults);
    let settings = asked.settings.check(&intake.options, intake.received_at, &mut faults);
    let (Some(reverse_path), true) = (from, faults.is_empty()) else { return Err(faults.into_problem()) };
    Ok(Draft { reverse_path, recipients, require_tls: false, settings, data })
}

/// What the query asks for. Class, campaign, tags and time have header fields of their own (`X-Postrider-*`).
#[derive(Default)]
struct Asked {
    from: Option<String>,
    to: Vec<String>,
    settings: RawSettings,
}

impl Asked {
    fn read(intake: &Intake, faults: &mut Faults) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&intake.uri)
            .map_err(|_| Problem::new(Kind::Malformed, "the query cannot be read"))?;
        let mut asked = Self::default();
        for (name, value) in pairs {
            let slot = match name.as_str() {
                "to" => {
                    asked.to.push(value);
                    continue;
                }
                "from" => &mut asked.from,
                "client_ref" => &mut asked.settings.client_ref,
                "expires_at" => &mut asked.settings.expires_at,
                _ => {
                    faults.add(name, "unknown parameter: expected from, to, client_ref or expires_at");
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                faults.add(name, "stands twice");
            }
        }
        Ok(asked)
    }
}

/// Checks line ends and line lengths, see the head of this file.
fn data(body: Bytes) -> Result<MailData, Problem> {
    let wrong = |why: String| Problem::field("", why);
    let body = if memchr(b'\r', &body).is_none() { with_crlf(&body) } else { body };
    if let Some(at) = line_too_long(&body) {
        let most = limits::DATA_LINE_BYTES_MAX;
        return Err(wrong(format!("the line at byte {at} has more than {most} bytes (RFC 5322 section 2.1.1)")));
    }
    MailData::new(body).map_err(|fault| wrong(format!("{fault}; all lines may end with LF instead")))
}

fn with_crlf(body: &Bytes) -> Bytes {
    let lines = memchr_iter(b'\n', body).count();
    if lines == 0 {
        return body.clone();
    }
    let mut converted = BytesMut::with_capacity(body.len() + lines);
    let mut from = 0;
    for at in memchr_iter(b'\n', body) {
        converted.put_slice(&body[from..at]);
        converted.put_slice(b"\r\n");
        from = at + 1;
    }
    converted.put_slice(&body[from..]);
    converted.freeze()
}

/// The offset of a line that is too long.
fn line_too_long(data: &[u8]) -> Option<usize> {
    let mut from = 0;
    for end in memchr_iter(b'\n', data).chain([data.len()]) {
        let line = data.get(from..end).unwrap_or_default();
        if line.strip_suffix(b"\r").unwrap_or(line).len() > limits::DATA_LINE_BYTES_MAX {
            return Some(from);
        }
        from = end + 1;
    }
    None
}

/// The only mailbox of the From field.
fn author(data: &MailData) -> Result<Mailbox, String> {
    let mut all = mailboxes_of(data, &["From"], 1).map_err(|why| format!("{why}; or say from=… in the query"))?;
    all.pop().ok_or_else(|| "the mail has no From field: expected one, or from=… in the query".to_owned())
}

/// The mailboxes of To, Cc and Bcc.
fn readers(data: &MailData, most: usize) -> Result<Vec<Mailbox>, String> {
    mailboxes_of(data, &["To", "Cc", "Bcc"], most).map_err(|why| format!("{why}; or say to=… in the query"))
}

fn mailboxes_of(data: &MailData, names: &[&str], most: usize) -> Result<Vec<Mailbox>, String> {
    let mut all = Vec::new();
    for field in fields(data.bytes()).filter(|f| names.iter().any(|n| f.is(n))) {
        let value = field.value();
        let value = std::str::from_utf8(&value).map_err(|_| format!("{}: not UTF-8", names.join(", ")))?;
        let room = most.saturating_sub(all.len());
        let found = mailboxes::list(value, room).map_err(|why| format!("{}: {why}", names.join(", ")))?;
        all.extend(found.into_iter().map(|(_, mailbox)| mailbox));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(body: &'static [u8]) -> Option<Vec<u8>> {
        data(Bytes::from_static(body)).ok().map(|d| d.bytes().to_vec())
    }

    #[test]
    fn line_ends_are_all_crlf_or_all_lf() {
        assert_eq!(taken(b"A: b\r\n\r\nc").unwrap(), b"A: b\r\n\r\nc");
        assert_eq!(taken(b"A: b\n\nc\n").unwrap(), b"A: b\r\n\r\nc\r\n");
        assert_eq!(taken(b"").unwrap(), b"");
        for mixed in [&b"A: b\r\n\nc"[..], b"A: b\n\r\n", b"A: b\r", b"A: b\rc\r\n", b"A: b\n.\r\n"] {
            assert_eq!(taken(mixed), None, "{mixed:?}");
        }
        assert_eq!(taken(b"A: \0\n"), None);
    }

    #[test]
    fn lines_have_a_bound() {
        let line = |n: usize| data([vec![b'x'; n], b"\r\ny".to_vec()].concat().into());
        assert!(line(998).is_ok());
        assert!(line(999).is_err());
        assert!(data(vec![b'x'; 999].into()).is_err());
        assert!(data([b"A: b\n".to_vec(), vec![b'x'; 998]].concat().into()).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_taken_differs_in_line_ends_only(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..24)) {
            if let Ok(data) = data(Bytes::from(bytes.clone())) {
                let no_cr = |b: &[u8]| b.iter().copied().filter(|b| *b != b'\r').collect::<Vec<_>>();
                prop_assert_eq!(no_cr(data.bytes()), no_cr(&bytes));
            }
        }
    }
}
