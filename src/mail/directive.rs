//! What `X-Postrider-*` fields ask for.

use crate::clock::Timestamp;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, LABEL_BYTES_MAX, TAGS_MAX};
use crate::mail::header::Field;
use crate::mail::prepare::PrepareError;
use crate::model::Class;

/// What `X-Postrider-*` fields say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directives {
    /// `X-Postrider-Class`.
    pub class: Option<Class>,
    /// `X-Postrider-Campaign`.
    pub campaign: Option<String>,
    /// `X-Postrider-Tags`, separated by commas.
    pub tags: Vec<String>,
    /// `X-Postrider-Send-At`, RFC 3339.
    pub send_at: Option<Timestamp>,
    /// `X-Postrider-Require-TLS: yes`: what REQUIRETLS says in SMTP.
    pub require_tls: Option<bool>,
    /// `X-Postrider-Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// How every directive's name begins.
pub(super) const PREFIX: &str = "X-Postrider-";

const KNOWN: &str = "one of X-Postrider-Class, X-Postrider-Campaign, X-Postrider-Tags, X-Postrider-Send-At, X-Postrider-Require-TLS, X-Postrider-Idempotency-Key";

/// True for a field that speaks to us.
pub(super) fn is_directive(field: &Field<'_>) -> bool {
    field.name().get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

impl Directives {
    /// Takes one directive; each may stand once.
    pub(super) fn take(&mut self, field: &Field<'_>) -> Result<(), PrepareError> {
        let bad = |expected: String| PrepareError::BadDirective {
            field: String::from_utf8_lossy(field.name()).into_owned(),
            expected,
        };
        let name = String::from_utf8_lossy(&field.name()[PREFIX.len()..]).to_ascii_lowercase();
        let value = field.value();
        let value = std::str::from_utf8(&value).map_err(|_| bad("text in UTF-8".to_owned()))?;
        let fresh = match name.as_str() {
            "class" => {
                let class = value.parse().map_err(|_| bad("otp, transactional or marketing".to_owned()))?;
                self.class.replace(class).is_none()
            }
            "campaign" => self.campaign.replace(label(value).ok_or_else(|| bad(label_rule()))?).is_none(),
            "tags" => {
                let fresh = self.tags.is_empty();
                let tags: Option<Vec<String>> = value.split(',').map(label).collect();
                self.tags = tags.filter(|t| t.len() <= TAGS_MAX).ok_or_else(|| {
                    bad(format!("at most {TAGS_MAX} tags separated by commas, each {}", label_rule()))
                })?;
                fresh
            }
            "send-at" => {
                let rule = || bad("a date and time by RFC 3339, such as 2026-11-23T14:24:00+08:00".to_owned());
                self.send_at.replace(Timestamp::parse_rfc3339(value).ok_or_else(rule)?).is_none()
            }
            "require-tls" => {
                let wanted = match value.trim().to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(bad("yes or no".to_owned())),
                };
                self.require_tls.replace(wanted).is_none()
            }
            "idempotency-key" => {
                let fine = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&value.len())
                    && value.bytes().all(|b| matches!(b, b' '..=b'~'));
                if !fine {
                    return Err(bad(format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters")));
                }
                self.idempotency_key.replace(value.to_owned()).is_none()
            }
            _ => return Err(bad(KNOWN.to_owned())),
        };
        if fresh { Ok(()) } else { Err(bad("one such field only".to_owned())) }
    }
}

/// A campaign word or tag.
fn label(text: &str) -> Option<String> {
    let text = text.trim();
    let fine = (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fine.then(|| text.to_owned())
}

fn label_rule() -> String {
    format!("1 to {LABEL_BYTES_MAX} bytes of text without control characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header::fields;

    fn take(header: &str) -> Result<Directives, String> {
        let mut directives = Directives::default();
        for field in fields(header.as_bytes()) {
            assert!(is_directive(&field), "{header}");
            directives.take(&field).map_err(|e| e.to_string())?;
        }
        Ok(directives)
    }

    #[test]
    fn every_directive_is_read() {
        let all = take(
            "x-postrider-class: OTP\r\nX-Postrider-Campaign: spring sale \r\nX-POSTRIDER-TAGS: a, 春,c d\r\n\
             X-Postrider-Send-At: 2026-11-23T14:24:00+08:00\r\nX-Postrider-Idempotency-Key:\r\n key 1\r\n\
             X-Postrider-Require-TLS: Yes\r\n",
        );
        assert_eq!(
            all,
            Ok(Directives {
                class: Some(Class::Otp),
                campaign: Some("spring sale".to_owned()),
                tags: vec!["a".to_owned(), "春".to_owned(), "c d".to_owned()],
                send_at: Some(Timestamp::from_seconds(1_795_415_040)),
                require_tls: Some(true),
                idempotency_key: Some("key 1".to_owned()),
            })
        );
    }

    #[test]
    fn bad_values_are_named() {
        for (header, said) in [
            ("X-Postrider-Class: urgent", "otp, transactional or marketing"),
            ("X-Postrider-Campaign:", "1 to 128 bytes"),
            ("X-Postrider-Tags: a,,b", "separated by commas"),
            ("X-Postrider-Send-At: tomorrow", "RFC 3339"),
            ("X-Postrider-Idempotency-Key: \u{e4}", "printable ASCII"),
            ("X-Postrider-Require-TLS: always", "yes or no"),
            ("X-Postrider-Priority: 1", "one of X-Postrider-Class"),
            ("X-Postrider-: 1", "one of X-Postrider-Class"),
            ("X-Postrider-Class: otp\r\nX-Postrider-Class: otp", "one such field only"),
            ("X-Postrider-Tags: a\r\nX-Postrider-Tags: b", "one such field only"),
        ] {
            let error = take(header).unwrap_err();
            assert!(error.contains(said), "{header}: {error}");
        }
        assert!(take(&format!("X-Postrider-Tags: {}", ["t"; 16].join(","))).is_ok());
        assert!(take(&format!("X-Postrider-Tags: {}", ["t"; 17].join(","))).is_err());
        assert!(take(&format!("X-Postrider-Campaign: {}", "x".repeat(128))).is_ok());
        assert!(take(&format!("X-Postrider-Campaign: {}", "x".repeat(129))).is_err());
        assert!(take(&format!("X-Postrider-Idempotency-Key: {}", "x".repeat(255))).is_ok());
        assert!(take(&format!("X-Postrider-Idempotency-Key: {}", "x".repeat(256))).is_err());
    }
}
