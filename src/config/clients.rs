//! `[[client]]`: who may submit, and what.

use std::sync::Arc;

use toml::de::DeValue;

use super::files;
use super::mistake::{Fault, shortened};
use super::reader::Section;
use super::{cmpp_server, quantity, smpp_server, value};
use crate::model::Channel;
use crate::policy::Client;
use crate::policy::texts::Velocity;

pub(super) fn client(section: &mut Section<'_>) -> Option<Client> {
    const CHANNELS: &[(&str, Channel)] = &[("email", Channel::Email), ("sms", Channel::Sms)];
    let name = section.required("name", r#""shop""#, value::name);
    let password = files::password(section);
    let api_keys = section.list("api_keys", value::api_key).unwrap_or_default();
    let channels = section.list("channels", value::word(CHANNELS));
    let senders = section.list("senders", value::sender_domain);
    let numbers = section.list("numbers", value::sender_id).unwrap_or_default();
    let countries = section.list("countries", value::prefix).unwrap_or_default();
    let signatures = section.list("signatures", signature).unwrap_or_default();
    if let Some((key, hash)) = &password
        && let Err(fault) = value::check_password_hash(hash)
    {
        section.mistake(key, fault.wrong, fault.right);
    }
    let mut channels = channels.unwrap_or_else(|| vec![Channel::Email, Channel::Sms]);
    channels.sort_unstable();
    channels.dedup();
    if channels.is_empty() {
        section.mistake("channels", "this client may send nothing", "one or both of email, sms");
    }
    if channels.contains(&Channel::Email) && senders.as_ref().is_none_or(Vec::is_empty) {
        let right = "add senders = [\"shop.example.com\"], or leave email out of channels";
        section.mistake("senders", "this client may use email but send as no domain", right);
    }
    let password = password.map(|(_, secret)| secret);
    let senders = senders.unwrap_or_default();
    let templates_only = section.or("templates_only", false, value::flag);
    let bounces = section.or("bounces", true, value::flag);
    let transliterate = section.or("transliterate", false, value::flag);
    let velocity = section.tables("velocity", velocity).into_iter().map(|placed| placed.value).collect();
    let daily_spend = section.optional("daily_spend", value::money);
    let (smpp, cmpp) = (smpp_server::terms(section), cmpp_server::terms(section));
    Some(Client {
        name: name?,
        password,
        api_keys,
        channels,
        senders,
        numbers,
        countries,
        signatures,
        templates_only,
        bounces,
        transliterate,
        velocity,
        daily_spend,
        smpp,
        cmpp,
    })
}

/// `[[client.velocity]]`.
fn velocity(section: &mut Section<'_>) -> Option<Velocity> {
    let prefix = section.required("prefix", r#""+371""#, value::prefix);
    let most = section.required("most", r#""100/h""#, quantity::rate_a_day);
    Some(Velocity { prefix: prefix?, most: most? })
}

/// As carriers in China register them: the bare name, 2 to 12 characters.
fn signature(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    const RIGHT: &str = "write 2 to 12 letters and digits, without 【】, not digits only, such as \"小店\"";
    let text = value::as_text(value, RIGHT)?;
    let fits = (2..=12).contains(&text.chars().count()) && text.chars().all(char::is_alphanumeric);
    if fits && !text.chars().all(|c| c.is_ascii_digit()) {
        return Ok(text.into());
    }
    Err(Fault::new(format!("\"{}\" is no signature that carriers register", shortened(text)), RIGHT))
}
