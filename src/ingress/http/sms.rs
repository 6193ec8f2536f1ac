//! `POST /v1/sms`: one text to one number; and the reading of such a request, which `preview` shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;

use super::dto::{AcceptedReply, ProblemBody, SmsRequest};
use super::intake::{Intake, MediaType, TextReply, answer, refused};
use super::json;
use super::problem::{Faults, Kind, Problem};
use super::settings::{RawSettings, Settings, not_after};
use super::{App, Options, Shared};
use crate::clock::Timestamp;
use crate::ingress::backend::Backend;
use crate::ingress::text::{Counter, Destination, Refused, SPEND_RULE, Text};
use crate::model::{
    Address, Channel, Envelope, Idempotency, MessageId, Number, Origin, Recipient, SenderId, SmsText, TextOrigin,
};
use crate::policy::Client;
use crate::policy::texts::{Capped, Overspent};
use crate::sms::{Repertoire, plan_for};

/// Send a text
///
/// The answer comes after the message is on stable storage.
#[utoipa::path(
    post, path = "/v1/sms", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats under the same key are the same message")),
    request_body = SmsRequest,
    responses(
        (status = 202, description = "Accepted, durably", body = AcceptedReply,
            headers(("Idempotent-Replayed" = bool, description = "true: this is the answer to an earlier request"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Try again later", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn submit<B: Backend>(State(app): State<App<B>>, request: Request) -> Result<Response, Problem> {
    let (intake, asked) = read::<_, Number>(&app, request).await?;
    let repertoire = app.shared.backend.repertoire(&asked.text.to, asked.text.class, &intake.client.name);
    let (envelope, told) = asked.envelope(&intake, intake.id, intake.idempotency(None), &repertoire);
    let text = asked.text;
    let (client, options, now) = (intake.client.clone(), intake.options.clone(), intake.received_at);
    let scheduled = envelope.send_at.is_some();
    // The intake goes along, so that its share of the memory bounds such tasks too.
    let taken = counter(&app, &client, &options, now).take(&text, envelope, intake).await;
    let accepted = taken.map_err(|why| not_taken(why, now))?;
    Ok(answer(&accepted, scheduled, Some(told)))
}

pub(super) fn counter<'a, B>(
    app: &'a App<B>,
    client: &'a Arc<Client>,
    options: &'a Options,
    now: Timestamp,
) -> Counter<'a, B> {
    let Shared { backend, caps, metrics, .. } = &*app.shared;
    Counter { backend, caps, rules: &options.text_rules, metrics, client, now }
}

pub(super) fn not_taken(why: Refused, now: Timestamp) -> Problem {
    match why {
        Refused::Rule(refusal) => refusal.into(),
        Refused::Capped(Capped { rule, limit, until }) => {
            Problem::ruled(Kind::Limited, rule, format!("no more than {limit}: one more from {until} on"))
                .retry_after(until.since(now))
        }
        Refused::Overspent(Overspent { whose, budget, until }) => Problem::ruled(
            Kind::Limited,
            SPEND_RULE,
            format!("{whose} may spend {budget} a day: one more from {until} on"),
        )
        .retry_after(until.since(now)),
        Refused::Queue(error) => refused(error),
        Refused::Fault => Problem::new(Kind::Internal, "it is not known whether the message was accepted"),
    }
}

/// Reads a request whose client is allowed what it asks for.
pub(super) async fn read<B: Backend, To: Target>(
    app: &App<B>,
    request: Request,
) -> Result<(Intake, Asked<To>), Problem> {
    let intake = Intake::of(app, request, Channel::Sms, &[MediaType::Json], |_| BODY_BYTES_MAX).await?;
    let request: SmsRequest = json::read(&intake.body, |value| SmsRequest::deserialize(value).map(drop))?;
    let asked = Asked::<To>::checked(app, request, &intake)?;
    Ok((intake, asked))
}

/// Where a text goes: a [`Number`], or `Option<Number>` where the request may leave it out.
pub(super) trait Target: Destination + Sized {
    /// Checks what was written.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    fn parse(written: Option<String>) -> Result<Self, &'static str>;
}

impl Target for Number {
    fn parse(written: Option<String>) -> Result<Self, &'static str> {
        Number::parse(&written.ok_or("missing")?).map_err(number_expected)
    }
}

impl Target for Option<Number> {
    fn parse(written: Option<String>) -> Result<Self, &'static str> {
        written.map(|to| Number::parse(&to).map_err(number_expected)).transpose()
    }
}

/// A request whose fields are all right.
pub(super) struct Asked<To> {
    /// The text.
    pub(super) text: Text<To>,
    settings: Settings,
}

impl Asked<Number> {
    /// The envelope of this text under that id, and what is told of it.
    pub(super) fn envelope(
        &self,
        intake: &Intake,
        id: MessageId,
        idempotency: Option<Idempotency>,
        repertoire: &Repertoire,
    ) -> (Envelope, TextReply) {
        let Self { text, settings } = self;
        let told = TextReply { parts: plan_for(&text.words, repertoire).count, transliterated: text.transliterated };
        let origin = Origin::Text(TextOrigin { from: text.from.clone() });
        let recipients = vec![Recipient::new(Address::Number(text.to.clone()))];
        let envelope = intake.envelope(settings.clone(), idempotency, origin, recipients);
        (Envelope { id, ..envelope }, told)
    }
}

impl<To: Target> Asked<To> {
    /// Reads a text, and holds it against the rules of its client.
    pub(super) fn checked<B: Backend>(app: &App<B>, request: SmsRequest, intake: &Intake) -> Result<Self, Problem> {
        let transliterate = request.transliterate.unwrap_or(intake.client.transliterate);
        let Self { text, settings } = Self::read(request, intake)?;
        let counter = counter(app, &intake.client, &intake.options, intake.received_at);
        Ok(Self { text: text.ruled(&counter, transliterate)?, settings })
    }

    fn read(request: SmsRequest, intake: &Intake) -> Result<Self, Problem> {
        let mut faults = Faults::default();
        let to = faults.take("to", To::parse(request.to));
        let words = match (request.template, request.text) {
            (None, text) => {
                if request.variables.is_some() {
                    faults.add("variables", "only a template has variables");
                }
                words(text, request.signature, &mut faults)
            }
            (Some(_), Some(_)) => {
                faults.add("template", "stands beside a text; send one of them");
                None
            }
            (Some(template), None) => rendered(&template, request.variables.unwrap_or_default(), intake, &mut faults)
                .and_then(|text| words(Some(text), request.signature, &mut faults)),
        };
        let from = request.from.and_then(|from| faults.take("from", SenderId::parse(&from)));
        let raw = RawSettings {
            class: request.class,
            campaign: request.campaign,
            tags: request.tags.map(|t| t.0).unwrap_or_default(),
            client_ref: request.client_ref,
            send_at: request.send_at,
            expires_at: None,
        };
        let now = intake.received_at;
        let mut settings = raw.check(&intake.options, now, &mut faults);
        if let Some(seconds) = request.ttl_s {
            let end = if (1..=TTL_SECONDS_MAX).contains(&seconds) {
                let end = now.plus(Duration::from_secs(seconds));
                not_after(end, settings.send_at.unwrap_or(now), &intake.options, now)
            } else {
                Err(format!("expected 1 to {TTL_SECONDS_MAX} seconds"))
            };
            settings.expires_at = faults.take("ttl_s", end);
        }
        match (to, words) {
            (Some(to), Some(words)) if faults.is_empty() => {
                let class = settings.class.unwrap_or_default();
                Ok(Self { text: Text { to, words, from, class, transliterated: false }, settings })
            }
            _ => Err(faults.into_problem()),
        }
    }
}

/// The text of a client's template.
fn rendered(id: &str, values: BTreeMap<String, String>, intake: &Intake, faults: &mut Faults) -> Option<String> {
    let Some(template) = intake.options.text_rules.template(&intake.client, id) else {
        faults.add("template", "the client has no template of that name");
        return None;
    };
    let given: Vec<&str> = values.keys().map(String::as_str).collect();
    match template.render(|name| values.get(name).map(String::as_str), &given) {
        Ok(text) => Some(text),
        Err(misfits) => {
            misfits.into_iter().for_each(|m| faults.add(format!("variables.{}", m.variable), m.why));
            None
        }
    }
}

fn number_expected(error: crate::model::AddressError) -> &'static str {
    match error {
        crate::model::AddressError::NumberWithoutPlus => "expected a leading +, as in +8613800138000",
        _ => "expected + and 7 to 15 digits, as in +8613800138000",
    }
}

/// The words as they will travel, with the signature in front.
fn words(text: Option<String>, signed: Option<String>, faults: &mut Faults) -> Option<SmsText> {
    let signature = signed.map(|s| {
        let fits = (1..=SIGNATURE_CHARS_MAX).contains(&s.chars().count());
        let plain = !s.chars().any(|c| c.is_control() || matches!(c, '【' | '】'));
        if fits && plain {
            Ok(format!("【{s}】"))
        } else {
            Err(format!("expected 1 to {SIGNATURE_CHARS_MAX} characters, without 【, 】 and control characters"))
        }
    });
    let prefix = signature.and_then(|s| faults.take("signature", s));
    let Some(text) = text else {
        faults.add("text", "missing");
        return None;
    };
    // An empty text stays empty: a signature alone says nothing.
    let checked = faults.take("text", SmsText::new(&text))?;
    match prefix {
        Some(prefix) if !text.starts_with(&prefix) => faults.take("text", SmsText::new(&format!("{prefix}{text}"))),
        _ => Some(checked),
    }
}

/// Largest request: 2,000 characters, each written as an escaped surrogate pair, and room for the rest.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest signature; carriers register shorter ones.
const SIGNATURE_CHARS_MAX: usize = 30;
/// Longest `ttl_s`: three days, the most that carriers keep trying.
const TTL_SECONDS_MAX: u64 = 259_200;

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(text: &str, signature: &str) -> Option<String> {
        let mut faults = Faults::default();
        let words = words(Some(text.to_owned()), Some(signature.to_owned()), &mut faults);
        faults.is_empty().then(|| words.unwrap().as_str().to_owned())
    }

    #[test]
    fn a_signature_stands_in_front_once() {
        assert_eq!(signed("hello", "店铺").as_deref(), Some("【店铺】hello"));
        assert_eq!(signed("【店铺】hello", "店铺").as_deref(), Some("【店铺】hello"));
        assert_eq!(signed("【别家】hello", "店铺").as_deref(), Some("【店铺】【别家】hello"));
        for bad in ["", "店【铺", "a\nb", &"x".repeat(31)] {
            assert_eq!(signed("hello", bad), None, "{bad}");
        }
        assert_eq!(signed("", "店铺"), None);
        assert_eq!(signed(&"x".repeat(1_996), "店铺").map(|t| t.chars().count()), Some(2_000));
        assert_eq!(signed(&"x".repeat(1_997), "店铺"), None);
    }
}
