//! `[[carrier.tlv]]` and `[[carrier.template]]`: parameters that a carrier wants beside each text, and texts registered with it.

use bytes::Bytes;
use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::reader::Section;
use super::value;
use crate::egress::sms::{Extra, Filling, Registered};
use crate::sms::{Template, TemplateError, octets};
use crate::wire::smpp::tlv;

/// Most that go with a text.
const TLVS_MAX: usize = 16;
/// Longest value, in octets.
const VALUE_OCTETS_MAX: usize = 255;
/// Those that are written where a text needs them.
const OURS: [u16; 4] = [tlv::MESSAGE_PAYLOAD, tlv::SAR_MSG_REF_NUM, tlv::SAR_TOTAL_SEGMENTS, tlv::SAR_SEGMENT_SEQNUM];

/// Texts registered with a carrier.
pub(super) fn templates(section: &mut Section<'_>) -> Vec<Registered> {
    let read = section.tables("template", |section| {
        let text = section.required("text", r#""您的验证码是{code}，{minutes}分钟内有效""#, |value| {
            let loose = |text: String| Template::loose(&text);
            loose(value::text(value)?)
                .map_err(|why: TemplateError| Fault::new(why.to_string(), "see docs/http-carriers.md"))
        });
        let id = section.required("id", r#""SMS_154950909""#, value::text);
        let signature = section.optional("signature", value::text);
        if let Some(signature) = signature.as_ref().filter(|signature| signature.contains(['【', '】'])) {
            let right = "write it without its brackets";
            section.mistake("signature", format!("bad signature \"{}\"", shortened(signature)), right);
        }
        Some(Registered { template: text?, id: id?.into(), signature: signature.map(Into::into) })
    });
    read.into_iter().map(|placed| placed.value).collect()
}

/// Parameters that go with each text by SMPP; `templates` are those of the account.
pub(super) fn tlvs(section: &mut Section<'_>, templates: &[Registered]) -> Vec<Extra> {
    let read = section.tables("tlv", |section| {
        let tag = section.required("tag", "0x1400", tag);
        let text = section.optional("value", held(|text| Some(Bytes::copy_from_slice(text.as_bytes()))));
        let octets = section.optional("octets", held(|hex| octets(hex).map(Bytes::from)));
        let of_template = section.or("template_id", false, value::flag);
        let terminated = section.or("terminated", false, value::flag);
        let is_said = ["value", "octets"].map(|key| section.notes.has(&section.key_of(key)));
        let filling = match (text, octets, of_template) {
            (Some(fixed), None, false) if !is_said[1] => Filling::Fixed(fixed),
            (None, Some(fixed), false) if !is_said[0] => Filling::Fixed(fixed),
            (None, None, true) if is_said == [false; 2] => Filling::TemplateId,
            (None, None, false) if is_said != [false; 2] => return None,
            _ => {
                let right = "write one of value = \"...\", octets = \"0a1b\" and template_id = true";
                section.mistake("value", "the parameter holds nothing, or several things", right);
                return None;
            }
        };
        if filling == Filling::TemplateId && templates.is_empty() {
            let right = "add [[carrier.template]] with the texts and the ids that they have there";
            section.mistake("template_id", "no text is registered", right);
        }
        Some(Extra { tag: tag?, filling, terminated })
    });
    let has = |key: &str| section.notes.has(&section.key_of(key));
    for (at, placed) in read.iter().enumerate() {
        if read[..at].iter().any(|before| before.value.tag == placed.value.tag) {
            let wrong = format!("{:#06x} is there already", placed.value.tag);
            section.notes.mistake(&placed.key_of("tag"), wrong, "remove one of them");
        }
    }
    if read.len() > TLVS_MAX {
        section.mistake("tlv", format!("{} of them", read.len()), format!("write at most {TLVS_MAX}"));
    }
    let extras: Vec<Extra> = read.into_iter().map(|placed| placed.value).collect();
    if has("template") && !templates.is_empty() && !extras.iter().any(|extra| extra.filling == Filling::TemplateId) {
        let right = "add a [[carrier.tlv]] with template_id = true, or remove them";
        section.mistake("template", "nobody is told which text it is", right);
    }
    extras
}

fn tag(value: &DeValue<'_>) -> Result<u16, Fault> {
    let tag = value::count(1..=0xFFFF)(value)?;
    let tag = u16::try_from(tag).unwrap_or(u16::MAX);
    if OURS.contains(&tag) {
        return Err(Fault::new(format!("{tag:#06x} is written where a text needs it"), "remove it"));
    }
    Ok(tag)
}

/// What a parameter holds, made of text in quotes.
fn held(read: impl Fn(&str) -> Option<Bytes>) -> impl Fn(&DeValue<'_>) -> Result<Bytes, Fault> {
    move |value| {
        let right = format!("write at most {VALUE_OCTETS_MAX} octets: value as text, octets in hexadecimal");
        let text = value::as_text(value, &right)?;
        let held = read(text).filter(|octets| octets.len() <= VALUE_OCTETS_MAX);
        held.ok_or_else(|| Fault::new(format!("\"{}\" does not fit", shortened(text)), right))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, check, good};
    use super::*;
    use crate::egress::sms::Protocol;

    const CARRIER: &str =
        "[[carrier]]\nname = \"a\"\nprotocol = \"smpp\"\naddress = \"a:1\"\nsystem_id = \"a\"\npassword = \"a\"\n";
    const TEMPLATE: &str = "[[carrier.template]]\ntext = \"code {code}\"\nid = \"7\"\n";

    #[test]
    fn parameters_hold_text_octets_or_the_texts_id() {
        let tlvs = "[[carrier.tlv]]\ntag = 0x1400\nvalue = \"11\"\nterminated = true\n\
                    [[carrier.tlv]]\ntag = 5121\ntemplate_id = true\n[[carrier.tlv]]\ntag = 0x1402\noctets = \"\"\n";
        let (config, _) = good(&format!("{GOOD}{CARRIER}{tlvs}{TEMPLATE}"));
        let Protocol::Smpp(account) = &config.carriers[0].protocol else { panic!() };
        let extra = |tag, filling, terminated| Extra { tag, filling, terminated };
        let fixed = |octets| Filling::Fixed(Bytes::from_static(octets));
        let wanted = [
            extra(0x1400, fixed(b"11"), true),
            extra(0x1401, Filling::TemplateId, false),
            extra(0x1402, fixed(b""), false),
        ];
        assert_eq!((&account.extras[..], account.templates.len()), (&wanted[..], 1));
    }

    #[test]
    fn mistakes_are_named() {
        for (tlv, wanted) in [
            (
                "tag = 0x0424\nvalue = \"x\"\n",
                "relay.toml:16: carrier[0].tlv[0].tag: 0x0424 is written where a text needs it; remove it",
            ),
            (
                "tag = 1\n",
                "relay.toml:15: carrier[0].tlv[0].value: the parameter holds nothing, or several things; \
                 write one of value = \"...\", octets = \"0a1b\" and template_id = true",
            ),
            (
                "tag = 1\nvalue = \"x\"\noctets = \"00\"\n",
                "relay.toml:17: carrier[0].tlv[0].value: the parameter holds nothing, or several things; \
                 write one of value = \"...\", octets = \"0a1b\" and template_id = true",
            ),
            (
                "tag = 1\noctets = \"0x\"\n",
                "relay.toml:17: carrier[0].tlv[0].octets: \"0x\" does not fit; \
                 write at most 255 octets: value as text, octets in hexadecimal",
            ),
            (
                "tag = 1\ntemplate_id = true\n",
                "relay.toml:17: carrier[0].tlv[0].template_id: no text is registered; \
                 add [[carrier.template]] with the texts and the ids that they have there",
            ),
            (
                "tag = 1\nvalue = \"a\"\n[[carrier.tlv]]\ntag = 1\nvalue = \"b\"\n",
                "relay.toml:19: carrier[0].tlv[1].tag: 0x0001 is there already; remove one of them",
            ),
        ] {
            check(&format!("{CARRIER}[[carrier.tlv]]\n{tlv}"), wanted);
        }
        let untold = "relay.toml:15: carrier[0].template: nobody is told which text it is; \
                      add a [[carrier.tlv]] with template_id = true, or remove them";
        check(&format!("{CARRIER}{TEMPLATE}"), untold);
    }
}
