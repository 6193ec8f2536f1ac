//! What every submission may say beside content and addresses: class, labels, times, the idempotency key.

use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::HeaderMap;

use super::options::Options;
use super::problem::{Faults, Kind, Problem};
use crate::clock::Timestamp;
use crate::limits;
use crate::model::{Class, Idempotency};

/// The settings of one submission, checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Settings {
    /// Its class, if it says so.
    pub(super) class: Option<Class>,
    /// The campaign's word.
    pub(super) campaign: Option<Arc<str>>,
    /// Words to find it by.
    pub(super) tags: Vec<Arc<str>>,
    /// The client's own reference.
    pub(super) client_ref: Option<Arc<str>>,
    /// Not before; `None` is now.
    pub(super) send_at: Option<Timestamp>,
    /// Not after.
    pub(super) expires_at: Option<Timestamp>,
}

/// The settings as they were written.
#[derive(Default)]
pub(super) struct RawSettings {
    pub(super) class: Option<String>,
    pub(super) campaign: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) client_ref: Option<String>,
    pub(super) send_at: Option<String>,
    pub(super) expires_at: Option<String>,
}

impl RawSettings {
    /// Checks all of it; what is wrong is noted.
    pub(super) fn check(self, options: &Options, now: Timestamp, faults: &mut Faults) -> Settings {
        let class = self.class.and_then(|c| faults.take("class", Class::from_str(&c)));
        let tags = tags(self.tags, faults);
        let time = |field, text: Option<String>, faults: &mut Faults| {
            let parsed = Timestamp::parse_rfc3339(&text?).ok_or("expected a time such as 2026-11-23T14:24:00+08:00");
            faults.take(field, parsed)
        };
        let send_at = time("send_at", self.send_at, faults);
        let send_at = send_at.and_then(|t| faults.take("send_at", not_before(t, options, now)).flatten());
        let expires_at = time("expires_at", self.expires_at, faults);
        let expires_at =
            expires_at.and_then(|t| faults.take("expires_at", not_after(t, send_at.unwrap_or(now), options, now)));
        Settings {
            class,
            campaign: label("campaign", self.campaign, faults),
            tags,
            client_ref: label("client_ref", self.client_ref, faults),
            send_at,
            expires_at,
        }
    }
}

/// The time before which nothing is sent; `None` if it has passed.
pub(super) fn not_before(time: Timestamp, options: &Options, now: Timestamp) -> Result<Option<Timestamp>, String> {
    if time > now.plus(options.send_at_max) {
        return Err(format!("more than {} days ahead", options.send_at_max.as_secs() / 86_400));
    }
    Ok((time > now).then_some(time))
}

/// The time after which nothing is sent; it must leave time to send at all.
pub(super) fn not_after(
    time: Timestamp,
    begin: Timestamp,
    options: &Options,
    now: Timestamp,
) -> Result<Timestamp, String> {
    if time <= begin {
        return Err("has passed before the message may be sent".to_owned());
    }
    if time > now.plus(options.expires_max) {
        return Err(format!("more than {} days ahead", options.expires_max.as_secs() / 86_400));
    }
    Ok(time)
}

/// The words of a list of tags.
pub(super) fn tags(words: Vec<String>, faults: &mut Faults) -> Vec<Arc<str>> {
    if words.len() > limits::TAGS_MAX {
        faults.add("tags", format!("more than {} tags", limits::TAGS_MAX));
        return Vec::new();
    }
    let mut tags = Vec::with_capacity(words.len());
    for (i, word) in words.into_iter().enumerate() {
        match checked_label(&word) {
            Ok(tag) => tags.push(tag),
            Err(why) => faults.add(format!("tags[{i}]"), why),
        }
    }
    tags
}

/// A label: a campaign, a tag or a client's reference. An empty one is none.
pub(super) fn label(field: &str, word: Option<String>, faults: &mut Faults) -> Option<Arc<str>> {
    let word = word.filter(|w| !w.is_empty())?;
    faults.take(field, checked_label(&word))
}

fn checked_label(word: &str) -> Result<Arc<str>, String> {
    if word.is_empty() || word.len() > limits::LABEL_BYTES_MAX {
        return Err(format!("expected 1 to {} bytes", limits::LABEL_BYTES_MAX));
    }
    if word.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(word.into())
}

/// The key of `Idempotency-Key`, if the request has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let mut fields = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let key = field.to_str().ok().filter(|k| is_idempotency_key(k) && fields.next().is_none());
    key.map(|k| Some(k.into())).ok_or_else(|| {
        Problem::new(
            Kind::Malformed,
            format!("Idempotency-Key: expected 1 to {} visible ASCII characters", limits::IDEMPOTENCY_KEY_BYTES_MAX),
        )
    })
}

/// True for 1 to 255 visible ASCII characters.
pub(super) fn is_idempotency_key(key: &str) -> bool {
    (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// A request's fingerprint: the same key with another fingerprint is another request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// SHA-256 over all of `parts`, each behind its length, so that no two requests run together into one.
    pub(super) fn of(parts: [&[u8]; 4]) -> Self {
        let mut hash = Context::new(&SHA256);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        Self(fingerprint)
    }

    /// Joins it with a key.
    pub(super) fn under(self, key: Arc<str>) -> Idempotency {
        Idempotency { key, fingerprint: self.0 }
    }
}

/// The request's header field that carries the key.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_415_040);

    fn checked(raw: RawSettings) -> Result<Settings, Problem> {
        let mut faults = Faults::default();
        let settings = raw.check(&Options::default(), NOW, &mut faults);
        faults.check().map(|()| settings)
    }

    #[test]
    fn times_have_bounds() {
        let day = Duration::from_secs(86_400);
        let at = |t: Timestamp| RawSettings { send_at: Some(t.rfc3339()), ..RawSettings::default() };
        assert_eq!(checked(at(NOW.minus(day))).unwrap().send_at, None, "the past is now");
        assert_eq!(checked(at(NOW.plus(day))).unwrap().send_at, Some(NOW.plus(day)));
        assert!(checked(at(NOW.plus(day * 30))).is_ok());
        assert!(checked(at(NOW.plus(day * 30).plus(Duration::from_micros(1)))).is_err());
        let until = |send_at: Option<Timestamp>, expires_at: Timestamp| RawSettings {
            send_at: send_at.map(Timestamp::rfc3339),
            expires_at: Some(expires_at.rfc3339()),
            ..RawSettings::default()
        };
        assert_eq!(checked(until(None, NOW.plus(day))).unwrap().expires_at, Some(NOW.plus(day)));
        assert!(checked(until(None, NOW)).is_err());
        assert!(checked(until(Some(NOW.plus(day)), NOW.plus(day))).is_err());
        assert!(checked(until(None, NOW.plus(day * 61))).is_err());
    }

    #[test]
    fn labels_have_bounds() {
        let tagged = |tags: Vec<String>| RawSettings { tags, ..RawSettings::default() };
        assert!(checked(tagged(vec!["x".repeat(128); 16])).is_ok());
        assert!(checked(tagged(vec!["x".repeat(129)])).is_err());
        assert!(checked(tagged(vec!["x".to_owned(); 17])).is_err());
        assert!(checked(tagged(vec![String::new()])).is_err());
        assert!(checked(tagged(vec!["a\nb".to_owned()])).is_err());
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        let with = |keys: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key).unwrap());
            }
            idempotency_key(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[b"order-1"]), Ok(Some("order-1".into())));
        assert!(with(&[&[b'k'; 255]]).is_ok());
        for bad in [&[b'k'; 256][..], b"", b"a b", b"\xc3\xa4", b"a\tb"] {
            assert_eq!(with(&[bad]).unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        }
        assert!(with(&[b"a", b"b"]).is_err(), "two keys");
    }

    #[test]
    fn fingerprints_keep_parts_apart() {
        assert_ne!(Fingerprint::of([b"ab", b"c", b"", b""]), Fingerprint::of([b"a", b"bc", b"", b""]));
        assert_eq!(Fingerprint::of([b"a", b"b", b"c", b"d"]), Fingerprint::of([b"a", b"b", b"c", b"d"]));
    }
}
