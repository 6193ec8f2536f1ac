//! Encodings and parts of texts against those who count them too: PyPI's `gsm0338` (and Python) for the octets, npm's
//! `sms-segments-calculator` for encoding, parts and units. What the library says, the endpoint says.
//!
//! The calculator keeps a grapheme cluster whole, an emoji family for instance, where we keep only what a decoder needs
//! together: escape pairs and surrogate pairs. So where each grapheme is one character all numbers are the same; elsewhere its
//! parts are those that our rule makes of its graphemes, and ours are never more. And `gsm0338` takes the control character ESC
//! for one of the alphabet; it would only announce the next character's table there, so a text that holds it goes as UCS-2.

use postrider::model::SmsText;
use postrider::sms::{Encoding, Parts, Plan, look_alike, parts, plan, split_header};
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::keys::api_key_hash;
use crate::support::peer::{Carrier, filter, node, python};
use crate::support::relay::{Relay, Settings};
use crate::support::{SOON, SilentPort, script};

const TEXTS: usize = 10_000;
const SEED: u64 = 0x0338;

/// The alphabet's characters by kind; written down here once more, so that a table of ours cannot vouch for itself.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
                     abcdefghijklmnopqrstuvwxyzäöñüà";
const EXTENSION: &str = "\u{0C}^{}\\[~]|€";
const NEIGHBOURS: &str = "`çÁáíóúÀâêôãõğış“”‘’–…\u{A0}\t₤αБя\u{1B}";
const ESCAPE: char = '\u{1B}';
const WIDE: &str = "中文短信您的订单已发货验证码【】，。！";
const PAIRS: &str = "😀🚚🎉𠮷𝒳🏽";
const CLUSTERS: [&str; 6] = ["👨‍👩‍👧", "🇨🇳", "e\u{301}", "👍🏽", "\r\n", "நி"];

/// Lengths at which something happens, and any others.
fn length(rng: &mut fastrand::Rng) -> usize {
    let near = |border: usize, rng: &mut fastrand::Rng| (border + rng.usize(..3)).saturating_sub(1).max(1);
    match rng.u8(..8) {
        0 => near(160, rng),
        1 => near(153 * rng.usize(1..4), rng),
        2 => near(70, rng),
        3 => near(67 * rng.usize(1..6), rng),
        // The same borders, with every character in a pair.
        4 => near([80, 76, 152, 35, 33, 66][rng.usize(..6)], rng),
        5 => rng.usize(1..20),
        _ => rng.usize(1..350),
    }
}

fn text(rng: &mut fastrand::Rng) -> SmsText {
    let pools: &[&str] = match rng.u8(..9) {
        0 => &[BASIC],
        1 => &[EXTENSION],
        2 | 3 => &[BASIC, BASIC, BASIC, EXTENSION],
        4 => &[WIDE],
        5 => &[PAIRS],
        6 => &[WIDE, PAIRS, BASIC, EXTENSION],
        7 => &[BASIC, NEIGHBOURS],
        _ => &[],
    };
    let mut words = String::new();
    let length = length(rng);
    for _ in 0..length {
        match pools.get(rng.usize(..pools.len().max(1))) {
            Some(pool) => words.push(pool.chars().nth(rng.usize(..pool.chars().count())).unwrap()),
            None if rng.bool() => words.push_str(CLUSTERS[rng.usize(..CLUSTERS.len())]),
            None => words.push(rng.char('\u{20}'..)),
        }
    }
    SmsText::new(&words).unwrap()
}

fn texts() -> Vec<SmsText> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    (0..TEXTS).map(|_| text(&mut rng)).collect()
}

/// The content of each part, without its header.
fn contents(made: &Parts) -> Vec<&[u8]> {
    made.parts.iter().map(|part| if made.udhi { split_header(part).unwrap().1 } else { part }).collect()
}

fn lines(values: impl Iterator<Item = Value>) -> Vec<u8> {
    values.flat_map(|value| format!("{value}\n").into_bytes()).collect()
}

fn answers(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn by_gsm0338(asked: impl Iterator<Item = Value>) -> Vec<Value> {
    answers(&filter(python().arg(script("gsm0338_judge.py")), &lines(asked)))
}

fn by_calculator<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let asked = lines(texts.map(|text| json!({"text": text})));
    answers(&filter(node("sms-segments-calculator").arg(script("segments_judge.js")), &asked))
}

#[test]
fn the_octets_of_ten_thousand_texts_are_those_of_gsm0338_and_python() {
    let texts = texts();
    let made: Vec<_> = texts.iter().map(|text| parts(text, 7)).collect();
    let asked = texts.iter().zip(&made).map(|(text, made)| {
        let parts: Vec<_> = contents(made).into_iter().map(hex).collect();
        json!({"text": text.as_str(), "parts": parts})
    });
    let judged = by_gsm0338(asked);
    assert_eq!(judged.len(), TEXTS);
    let mut narrow = 0;
    for ((text, made), judged) in texts.iter().zip(&made).zip(&judged) {
        let text = text.as_str();
        let gsm7 = judged["gsm7"].as_str().filter(|_| !text.contains(ESCAPE));
        assert_eq!(made.encoding == Encoding::Gsm7, gsm7.is_some(), "{text:?}");
        narrow += usize::from(gsm7.is_some());
        let (octets, decoded) = match gsm7 {
            Some(octets) => (octets, &judged["gsm7_parts"]),
            None => (judged["ucs2"].as_str().unwrap(), &judged["ucs2_parts"]),
        };
        assert_eq!(hex(&contents(made).concat()), octets, "{text:?}");
        // Each part was decoded alone: a cut within a pair would have been an error, or lost it.
        let decoded: String = decoded.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert_eq!(decoded, text);
    }
    assert!((TEXTS / 4..TEXTS * 3 / 4).contains(&narrow), "{narrow} of them were in the GSM alphabet");
}

/// What our rule makes of units that stay together: as many parts, with as many units each.
fn greedy(together: impl Iterator<Item = usize> + Clone, single: usize, part: usize) -> Vec<usize> {
    let room = if together.clone().sum::<usize>() <= single { single } else { part };
    let mut filled = vec![0];
    for units in together {
        match filled.last_mut() {
            Some(last) if *last + units <= room => *last += units,
            _ => filled.push(units),
        }
    }
    filled
}

#[test]
fn encoding_and_parts_of_ten_thousand_texts_are_those_of_the_calculator() {
    let texts = texts();
    let judged = by_calculator(texts.iter().map(SmsText::as_str));
    assert_eq!(judged.len(), TEXTS);
    let (mut clustered, mut fewer) = (0, 0);
    for (text, judged) in texts.iter().zip(&judged) {
        let Plan { encoding, count, units, last_units } = plan(text);
        let text = text.as_str();
        let name = if encoding == Encoding::Gsm7 { "GSM-7" } else { "UCS-2" };
        assert_eq!(judged["encoding"], name, "{text:?}");
        let segments: Vec<_> = judged["segments"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!(segments.iter().sum::<u64>(), units as u64, "{text:?}");
        let Some(graphemes) = judged["graphemes"].as_array() else {
            assert_eq!((segments.len(), segments.last()), (count, Some(&(last_units as u64))), "{text:?}");
            continue;
        };
        clustered += 1;
        fewer += usize::from(count < segments.len());
        assert!(count <= segments.len(), "{text:?}");
        let together = graphemes.iter().map(|g| g.as_str().unwrap().encode_utf16().count());
        let ours = greedy(together, encoding.single_units_max(), encoding.part_units_max());
        assert_eq!(segments, ours.iter().map(|&n| n as u64).collect::<Vec<_>>(), "{text:?}");
    }
    assert!(clustered > TEXTS / 20 && fewer > 0, "{clustered} texts with clusters, {fewer} of them in fewer parts");
}

#[test]
fn the_judges_can_say_no() {
    let told = by_gsm0338([json!({"text": "中", "parts": ["d8"]}), json!({"text": "[€", "parts": []})].into_iter());
    assert_eq!((&told[0]["gsm7"], &told[0]["ucs2_parts"]), (&Value::Null, &Value::Null));
    assert_eq!((&told[1]["gsm7"], &told[1]["ucs2"]), (&json!("1b3c1b65"), &json!("005b20ac")));
    let told = by_calculator(["a".repeat(160), "a".repeat(161), "€".repeat(81)].iter().map(String::as_str));
    assert_eq!(
        told.iter().map(|t| t["segments"].clone()).collect::<Vec<_>>(),
        [json!([160]), json!([153, 8]), json!([152, 10])]
    );
}

/// Where Unicode itself knows what a character is made of, and that is ASCII, the look-alike is just that.
#[test]
fn look_alikes_are_what_unicode_decomposes_to() {
    /// Unicode's is a space with a mark, outside the alphabet, or less than the alphabet has (ü for ǚ).
    const OTHERWISE: &str = "´｀ǕǗǙǛǖǘǚǜ";
    let known: Vec<_> = ('\u{80}'..='\u{FFFF}').filter_map(|c| Some((c, look_alike(c)?))).collect();
    let judged = by_gsm0338(known.iter().map(|(c, _)| json!({"character": c})));
    let mut confirmed = 0;
    for ((c, alike), judged) in known.iter().zip(&judged) {
        let bare = judged["bare"].as_str().unwrap();
        if bare.is_ascii() && !OTHERWISE.contains(*c) && !alike.is_empty() {
            assert_eq!(bare, *alike, "{c}");
            confirmed += 1;
        }
    }
    assert!(confirmed > 300, "{confirmed} of {} were confirmed", known.len());
}

#[test]
fn the_endpoint_says_what_the_library_says_and_stores_nothing() {
    let silent = SilentPort::take();
    let relay = Relay::start(&Settings { carrier_port: Some(silent.port), ..Settings::default() });
    for text in texts().iter().step_by(50) {
        let answer = relay.api("POST", "/v1/sms/preview", &[], &json!({"text": text.as_str()}).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = answer.json();
        let planned = plan(text);
        assert_eq!(told["text"], text.as_str());
        assert_eq!(told["encoding"], planned.encoding.as_str(), "{text:?}");
        let numbers = ["parts", "units", "capacity", "units_left"].map(|field| told[field].as_u64().unwrap());
        let expected = [planned.count, planned.units, planned.capacity(), planned.units_left()].map(|n| n as u64);
        assert_eq!(numbers, expected, "{told}");
    }
    let accepted = || relay.metric(r#"postrider_accepted_bytes_total{channel="sms"}"#);
    assert!(accepted().is_none_or(|bytes| bytes == 0));
    let sent = json!({"to": "+8613800138000", "text": "“five”", "transliterate": true});
    assert_eq!(relay.api("POST", "/v1/sms", &[], &sent.to_string()).status, 202);
    assert_eq!(accepted(), Some(6), "the text as it is written, with straight quotes");
}

#[test]
fn a_client_whose_texts_are_transliterated_sends_them_in_the_narrow_alphabet() {
    const KEY: &str = "plain-key";
    let carrier = Carrier::start();
    let client = format!(
        "\n[[client]]\nname = \"plain\"\napi_keys = [\"{}\"]\nchannels = [\"sms\"]\ntransliterate = true\n",
        api_key_hash(KEY)
    );
    let settings = Settings { carrier_port: Some(carrier.0.port), extra: client, ..Settings::default() };
    let relay = Relay::start(&settings);
    // 80 characters: two parts of UCS-2, one of the GSM alphabet.
    let curly = format!("“It’s on its way – {}”", "x".repeat(60));
    for (n, (asked, transliterated)) in [(json!({}), true), (json!({"transliterate": false}), false)].iter().enumerate()
    {
        let mut body = json!({"to": format!("+861380013800{n}"), "text": curly});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let fields = [&*format!("Authorization: Bearer {KEY}"), "Content-Type: application/json"];
        let answer = request(&relay.listeners.http, "POST", "/v1/sms", &fields, body.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        let told = answer.json();
        assert_eq!(
            (told["parts"].as_u64(), told["transliterated"] == true),
            (Some(2 - u64::from(*transliterated)), *transliterated)
        );
    }
    let mut taken = carrier.wait_for_taken(3, SOON);
    taken.sort_by(|a, b| (&a.to, &a.udh).cmp(&(&b.to, &b.udh)));
    assert_eq!((taken[0].data_coding, taken[1].data_coding, taken[2].data_coding), (0, 8, 8), "{taken:?}");
    assert_eq!(taken[0].text, curly.replace(['“', '”'], "\"").replace('’', "'").replace('–', "-"));
    assert_eq!(taken[1].text.clone() + &taken[2].text, curly);
    assert_eq!(relay.metric("postrider_transliterated_texts_total{client=\"plain\"}"), Some(1));
}
