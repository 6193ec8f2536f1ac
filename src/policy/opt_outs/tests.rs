//! The list on a real disk, over restarts; the words as people write them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::storage::RealDisk;

const LIN: &str = "+8613800138000";

fn entry(whom: Whom) -> OptOut {
    OptOut {
        number: LIN.into(),
        whom,
        class: Class::Marketing,
        client: None,
        since: Timestamp::from_seconds(1_795_415_040),
        by: "reply".into(),
    }
}

fn signed(name: &str) -> OptOut {
    entry(Whom::Signature(name.into()))
}

fn from_port(client: Option<&str>) -> OptOut {
    OptOut { client: client.map(Into::into), ..entry(Whom::Sender("10690001".into())) }
}

fn open(dir: &Path) -> OptOuts {
    OptOuts::open(Arc::new(RealDisk), &dir.join("opt-outs.jsonl"), 5).unwrap()
}

fn refused(list: &OptOuts, signature: Option<&str>, sender: Option<&str>, class: Class, client: &str) -> bool {
    let number = Number::parse(LIN).unwrap();
    let sender = sender.map(|s| SenderId::parse(s).unwrap());
    let text = Wanted { number: &number, class, client, signature, sender: sender.as_ref() };
    list.may_send(text).is_err_and(|refusal| refusal.rule == RULE)
}

#[tokio::test]
async fn what_is_refused_stays_refused_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    {
        let list = open(dir.path());
        assert_eq!(list.add(signed("小店")).await, Ok(true));
        assert_eq!(list.add(signed("小店")).await, Ok(false), "it is there");
        assert_eq!(list.add(signed("别家")).await, Ok(true));
        let which = Which { whom: vec![Whom::Signature("别家".into())], ..Which::default() };
        assert_eq!(list.remove(&Number::parse(LIN).unwrap(), which).await.unwrap().len(), 1);
    }
    let list = open(dir.path());
    assert_eq!((list.len(), list.first(10)), (1, vec![signed("小店")]));
    let marketing = Class::Marketing;
    assert!(refused(&list, Some("小店"), None, marketing, "shop"));
    assert!(refused(&list, Some("小店"), None, marketing, "another"), "a signature is a signature");
    assert!(!refused(&list, Some("别家"), None, marketing, "shop"));
    assert!(!refused(&list, Some("小店"), None, Class::Transactional, "shop"));
    assert!(!refused(&list, Some("小店"), None, Class::Otp, "shop"));
    let other = Number::parse("+8613800138001").unwrap();
    let text = Wanted { number: &other, class: marketing, client: "shop", signature: Some("小店"), sender: None };
    assert_eq!(list.may_send(text), Ok(()));
}

#[tokio::test]
async fn a_sender_is_refused_for_one_client_or_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let list = open(dir.path());
    list.add(from_port(Some("shop"))).await.unwrap();
    let marketing = Class::Marketing;
    assert!(refused(&list, None, Some("10690001"), marketing, "shop"));
    assert!(refused(&list, None, None, marketing, "shop"), "who does not say its sender may be that one");
    assert!(!refused(&list, None, Some("10690002"), marketing, "shop"));
    assert!(!refused(&list, None, Some("10690001"), marketing, "another"));
    list.add(from_port(None)).await.unwrap();
    assert!(refused(&list, None, Some("10690001"), marketing, "another"));
    let shops = Which { client: Some("shop".into()), ..Which::default() };
    assert_eq!(list.remove(&Number::parse(LIN).unwrap(), shops).await.unwrap().len(), 2);
    assert!(list.is_empty());
    assert!(is_same_sender("+8613800138000", "8613800138000") && is_same_sender("Shop", "SHOP"));
}

#[tokio::test]
async fn the_list_is_bounded_and_codes_are_never_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let list = open(dir.path());
    for n in 0..5 {
        assert_eq!(list.add(signed(&n.to_string())).await, Ok(true));
    }
    assert_eq!(list.add(signed("6")).await, Err(OptOutError::Full));
    assert_eq!(list.add(signed("4")).await, Ok(false));
    assert_eq!(list.add(OptOut { class: Class::Otp, ..signed("6") }).await, Err(OptOutError::Otp));
    assert_eq!(list.add(OptOut { number: "13800138000".into(), ..signed("6") }).await, Err(OptOutError::BadNumber));
}

#[tokio::test]
async fn a_file_of_lines_that_count_no_more_is_written_anew_and_a_newer_one_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("opt-outs.jsonl");
    let mut opening = Opening::read(Arc::new(RealDisk), &path, &mut |_| Ok(())).unwrap();
    let in_and_out = (0..LINES_KEPT).map(|n| written(n % 2 == 0, signed("小店")));
    opening.rewrite(in_and_out.chain([written(true, signed("店"))])).unwrap();
    drop(opening);
    let before = std::fs::metadata(&path).unwrap().len();
    assert_eq!(open(dir.path()).first(5), [signed("店")]);
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < 300 && before > 100_000, "{before} {after}");
    assert_eq!(open(dir.path()).len(), 1);

    let journal = Opening::read(Arc::new(RealDisk), &path, &mut |_| Ok(())).unwrap().start();
    journal.append(&written(true, signed("新")).replace("\"v\":1", "\"v\":2")).await.unwrap();
    let newer = OptOuts::open(Arc::new(RealDisk), &path, 5).unwrap_err();
    assert_eq!(newer.kind(), io::ErrorKind::Unsupported, "{newer}");
}

#[test]
fn words_are_honoured_as_people_write_them() {
    let words = Words::default();
    for out in
        ["T", "td", " TD。", "ＴＤ", "“退订”", "退订！", "stop.", "Unsubscribe", "0000", "00000", "\u{FEFF}R", "【T】"]
    {
        assert_eq!(words.wish(out), Some(Wish::Out), "{out}");
    }
    for back in ["START", "订阅", "unstop!"] {
        assert_eq!(words.wish(back), Some(Wish::Back), "{back}");
    }
    let long = format!("T{}", "!".repeat(256));
    for neither in ["", "T D", "TDT", "stop it", "我要退订吗", "000", "000000", "请退订", &long] {
        assert_eq!(words.wish(neither), None, "{neither}");
    }
    let own = Words::new(["PARE"], ["ALTA"]);
    assert_eq!((own.wish("pare"), own.wish("Alta"), own.wish("STOP")), (Some(Wish::Out), Some(Wish::Back), None));
}

proptest! {
    #[test]
    fn folding_is_done_once_and_for_all(text in "\\PC{0,40}") {
        let once = Words::fold(&text);
        prop_assert_eq!(Words::fold(&once), once.clone());
        let _ = Words::default().wish(&text);
    }
}
