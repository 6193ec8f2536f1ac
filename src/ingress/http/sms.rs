//! `POST /v1/sms`: one text to one number; and the reading of such a request, which `preview` shares.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;

use super::App;
use super::backend::Backend;
use super::dto::{AcceptedReply, ProblemBody, SmsRequest};
use super::intake::{IDEMPOTENT_REPLAYED, Intake, MediaType, TextReply, answer, hand_over, refused};
use super::json;
use super::problem::{Faults, Kind, Problem};
use super::settings::{RawSettings, Settings, not_after};
use crate::model::{Address, Channel, Content, Number, Origin, Recipient, SenderId, SmsText, TextOrigin};
use crate::policy::Refusal;
use crate::policy::opt_outs::Wanted;
use crate::policy::texts::{self, Capped, Counted};
use crate::sms::{plan, signature, transliterate};

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
    let (intake, text) = read::<_, Number>(&app, request).await?;
    check_opt_outs(&app, &intake, &text)?;
    let told = TextReply { parts: plan(&text.words).count, transliterated: text.transliterated };
    let counted = count(&app, &intake, &text);
    let origin = Origin::Text(TextOrigin { from: text.from });
    let recipients = vec![Recipient::new(Address::Number(text.to))];
    let envelope = intake.envelope(text.settings, intake.idempotency(None), origin, recipients);
    let client = intake.client.clone();
    let counted = match counted {
        Ok(counted) => counted,
        // What was accepted once is accepted, however often its sender has to ask.
        Err(capped) => {
            let before = app.shared.backend.accepted_before(&envelope).await.map_err(refused)?;
            return before.map(|yes| answer(&yes, envelope.send_at.is_some(), Some(told))).ok_or_else(|| {
                count_refusal(&app, &intake, CAP_RULE);
                capped
            });
        }
    };
    let response = hand_over(&app, intake, envelope, Content::Text(text.words), Some((told, counted))).await?;
    if told.transliterated && !response.headers().contains_key(IDEMPOTENT_REPLAYED) {
        app.shared.metrics.transliterated.with_label_values(&[&*client.name]).inc();
    }
    Ok(response)
}

/// Counts a text to its number, if there have not been enough.
fn count<B: Backend>(app: &App<B>, intake: &Intake, text: &Text<Number>) -> Result<Counted, Problem> {
    let shown = text.from.as_ref().map(ToString::to_string).unwrap_or_default();
    let signature = signature(text.words.as_str()).unwrap_or(&shown);
    let class = text.settings.class.unwrap_or_default();
    let wanted = texts::Text { client: &intake.client.name, to: &text.to, class, signature };
    let now = intake.received_at;
    app.caps.count(&intake.options.text_rules.caps, &wanted, now).map_err(|capped| {
        let Capped { limit, until } = capped;
        Problem::ruled(Kind::Limited, CAP_RULE, format!("no more than {limit}: one more from {until} on"))
            .retry_after(until.since(now))
    })
}

fn count_refusal<B: Backend>(app: &App<B>, intake: &Intake, rule: &str) {
    app.shared.metrics.text_refusals.with_label_values(&[&*intake.client.name, rule]).inc();
}

/// A number that has opted out of such texts gets none.
fn check_opt_outs<B: Backend>(app: &App<B>, intake: &Intake, text: &Text<Number>) -> Result<(), Problem> {
    let wanted = Wanted {
        number: &text.to,
        class: text.settings.class.unwrap_or_default(),
        client: &intake.client.name,
        signature: signature(text.words.as_str()),
        sender: text.from.as_ref(),
    };
    app.shared.backend.may_send(wanted).inspect_err(|refusal| count_refusal(app, intake, refusal.rule))?;
    Ok(())
}

/// Reads a request whose client is allowed what it asks for.
pub(super) async fn read<B: Backend, To: Destination>(
    app: &App<B>,
    request: Request,
) -> Result<(Intake, Text<To>), Problem> {
    let intake = Intake::of(app, request, Channel::Sms, &[MediaType::Json], |_| BODY_BYTES_MAX).await?;
    let request: SmsRequest = json::read(&intake.body, |value| SmsRequest::deserialize(value).map(drop))?;
    let transliterate = request.transliterate.unwrap_or(intake.client.transliterate);
    let text = Text::<To>::read(request, &intake)?;
    let ruled = text.ruled(&intake).inspect_err(|refusal| count_refusal(app, &intake, refusal.rule))?;
    Ok((intake, ruled.written(transliterate)))
}

/// Where a text goes: a [`Number`], or `Option<Number>` where the request may leave it out.
pub(super) trait Destination: Sized {
    /// Checks what was written.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    fn parse(written: Option<String>) -> Result<Self, &'static str>;

    /// The number, if there is one.
    fn number(&self) -> Option<&Number>;
}

impl Destination for Number {
    fn parse(written: Option<String>) -> Result<Self, &'static str> {
        Number::parse(&written.ok_or("missing")?).map_err(number_expected)
    }

    fn number(&self) -> Option<&Number> {
        Some(self)
    }
}

impl Destination for Option<Number> {
    fn parse(written: Option<String>) -> Result<Self, &'static str> {
        written.map(|to| Number::parse(&to).map_err(number_expected)).transpose()
    }

    fn number(&self) -> Option<&Number> {
        self.as_ref()
    }
}

/// A request whose fields are all right.
pub(super) struct Text<To> {
    to: To,
    /// The words as they will travel.
    pub(super) words: SmsText,
    /// They are written with look-alikes.
    pub(super) transliterated: bool,
    from: Option<SenderId>,
    settings: Settings,
}

impl<To: Destination> Text<To> {
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
                Ok(Self { to, words, transliterated: false, from, settings })
            }
            _ => Err(faults.into_problem()),
        }
    }

    /// The text as its client may send it.
    fn ruled(self, intake: &Intake) -> Result<Self, Refusal> {
        let number = self.to.number();
        if let Some(to) = number {
            intake.client.may_text(to)?;
        }
        if let Some(from) = &self.from {
            intake.client.may_show(from)?;
        }
        let class = self.settings.class.unwrap_or_default();
        let words = intake.options.text_rules.edit(&intake.client, number, class, self.words.clone())?;
        Ok(Self { words, ..self })
    }

    /// The text with look-alikes, if that is wanted and of use.
    fn written(self, with_look_alikes: bool) -> Self {
        match with_look_alikes.then(|| transliterate(&self.words)).flatten() {
            Some(words) => Self { words, transliterated: true, ..self },
            None => self,
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
/// The rule that a number, a range or a client has had enough.
const CAP_RULE: &str = "frequency-cap";
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
