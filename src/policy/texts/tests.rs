//! What becomes of a text under the rules.

use super::*;
use crate::model::Channel;

fn client(signatures: &[&str]) -> Client {
    Client {
        channels: vec![Channel::Sms],
        signatures: signatures.iter().map(|s| Arc::from(*s)).collect(),
        ..Client::bare("shop")
    }
}

fn edited(rules: &TextRules, signatures: &[&str], to: &str, class: Class, text: &str) -> Result<String, &'static str> {
    let (to, words) = (Number::parse(to).unwrap(), SmsText::new(text).unwrap());
    let edited = rules.edit(&client(signatures), Some(&to), class, words);
    edited.map(|words| words.as_str().to_owned()).map_err(|refusal| refusal.rule)
}

const CHINESE: &str = "+8613800138000";
const ABROAD: &str = "+14155550100";

#[test]
fn a_signature_is_added_or_checked_where_the_client_has_some() {
    let (rules, too_long) = (TextRules::default(), "长".repeat(1_997));
    let of = |signatures: &[&str], to: &str, text: &str| edited(&rules, signatures, to, Class::Otp, text);
    assert_eq!(of(&["小店"], CHINESE, "验证码1234").as_deref(), Ok("【小店】验证码1234"));
    assert_eq!(of(&["小店", "海淘"], CHINESE, "【海淘】验证码1234").as_deref(), Ok("【海淘】验证码1234"));
    assert_eq!(of(&["小店", "海淘"], CHINESE, "验证码1234"), Err("signature-missing"));
    assert_eq!(of(&["小店"], CHINESE, "【大店】验证码1234"), Err("signature-not-registered"));
    assert_eq!(of(&["Shop"], CHINESE, "【shop】1234"), Err("signature-not-registered"), "case counts");
    assert_eq!(of(&["小店"], CHINESE, "验证码【1234】"), Err("signature-inside"));
    assert_eq!(of(&["小店"], CHINESE, &too_long), Err("text-too-long"));
    assert_eq!(of(&[], CHINESE, "验证码1234").as_deref(), Ok("验证码1234"), "none is registered");
    assert_eq!(of(&["小店"], ABROAD, "code 1234").as_deref(), Ok("code 1234"), "a Chinese rule");
}

#[test]
fn marketing_says_how_to_get_out_and_codes_do_not() {
    let rules = TextRules { opt_out_words: Some("拒收请回复R".into()), ..TextRules::default() };
    let of = |to, class, text| edited(&rules, &[], to, class, text).unwrap();
    assert_eq!(of(CHINESE, Class::Marketing, "新品上市"), "新品上市，拒收请回复R");
    assert_eq!(of(CHINESE, Class::Marketing, "新品上市！"), "新品上市！拒收请回复R");
    assert_eq!(of(CHINESE, Class::Marketing, "新品上市，回T退订"), "新品上市，回T退订");
    assert_eq!(of(CHINESE, Class::Transactional, "已发货"), "已发货");
    assert_eq!(of(CHINESE, Class::Otp, "验证码1234"), "验证码1234");
    assert_eq!(of(ABROAD, Class::Marketing, "new things"), "new things");
}

#[test]
fn numbers_and_words_are_refused() {
    let rules = TextRules {
        blocked: BlockedWords::new(["赌博"]).unwrap(),
        denied: vec!["+8617".to_owned(), ABROAD.to_owned()],
        ..TextRules::default()
    };
    let of = |to, text| edited(&rules, &["小店"], to, Class::Transactional, text);
    assert_eq!(of("+8617012345678", "已发货"), Err("number-denied"));
    assert_eq!(of(ABROAD, "sent"), Err("number-denied"));
    assert_eq!(of("+14155550101", "sent").as_deref(), Ok("sent"));
    assert_eq!(of(CHINESE, "来赌 博"), Err("blocked-word"));
    let (to, words) = (Number::parse(CHINESE).unwrap(), SmsText::new("来赌博").unwrap());
    let refusal = rules.edit(&client(&["小店"]), Some(&to), Class::Otp, words).unwrap_err();
    assert_eq!(refusal.detail, "the text holds, at character 6, what is not sent from here", "of the rendered text");
    // A look at a text whose number is not known yet.
    let words = SmsText::new("hello").unwrap();
    assert_eq!(rules.edit(&client(&["小店"]), None, Class::Marketing, words).unwrap().as_str(), "hello");
}
