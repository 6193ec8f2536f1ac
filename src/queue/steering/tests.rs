//! Selectors and rules.

use super::*;
use crate::queue::MailSite;
use crate::route::{Course, MailHop};
use crate::schedule::Apart;

pub(in crate::queue) fn order(campaign: &str) -> Order {
    let selector = Selector { campaign: Some(campaign.into()), ..Selector::default() };
    Order { action: Action::Pause, selector, reason: "the price is wrong".to_owned(), expires: None }
}

fn key() -> LaneKey {
    LaneKey { destination: "example.net".into(), class: Class::Marketing, client: "shop".into(), apart: None }
}

fn shared() -> Target {
    Target::Shared(MailSite {
        name: "mx mx.example.net".into(),
        limits: std::sync::Arc::default(),
        provider: "gmail".into(),
    })
}

#[test]
fn every_part_that_is_named_has_to_fit() {
    let fits = |selector: &str| serde_json::from_str::<Selector>(selector).unwrap().fits_lane(&key(), &shared());
    for (selector, fit) in [
        (r"{}", true),
        (r#"{"client":"shop"}"#, true),
        (r#"{"client":"shop","class":"marketing","domain":"example.net"}"#, true),
        (r#"{"client":"shop","class":"otp","domain":"example.net"}"#, false),
        (r#"{"client":"sho"}"#, false),
        (r#"{"domain":"a.example.net"}"#, false),
        (r#"{"provider":"gmail","site":"mx mx.example.net"}"#, true),
        (r#"{"provider":"qq"}"#, false),
        (r#"{"site":"example.net"}"#, false),
        // Which source mail leaves from is not a lane's to know.
        (r#"{"source":"mta1"}"#, false),
    ] {
        assert_eq!(fits(selector), fit, "{selector}");
    }
    let carriers = Target::Text(Arc::new(Course::in_order([Arc::from("example.net")])));
    let selector = |text: &str| serde_json::from_str::<Selector>(text).unwrap();
    assert!(!selector(r#"{"domain":"example.net"}"#).fits_lane(&key(), &carriers), "a carrier is no domain");
    assert!(selector(r#"{"site":"carriers example.net"}"#).fits_lane(&key(), &carriers));
    assert!(serde_json::from_str::<Selector>(r#"{"colour":"red"}"#).is_err());
}

#[test]
fn what_somebody_typed_is_checked() {
    let bad = |order: Order| order.check().unwrap_err().to_string();
    let good = order("spring");
    assert!(good.clone().check().is_ok());
    assert!(bad(Order { reason: " ".to_owned(), ..good.clone() }).contains("say why"));
    assert!(bad(Order { selector: Selector::default(), ..good.clone() }).contains("say which messages"));
    assert!(bad(Order { action: Action::Reroute { to: "nowhere".into() }, ..good.clone() }).contains("no next hop"));
    assert!(bad(Order { expires: Some(Duration::ZERO), ..good.clone() }).contains("expire"));
    let source = Selector { source: Some("mta1".into()), ..Selector::default() };
    let towards = Selector { provider: Some("gmail".into()), ..source.clone() };
    assert!(Order { selector: towards, ..good.clone() }.check().is_ok());
    let beside = Selector { client: Some("shop".into()), ..source.clone() };
    assert!(bad(Order { selector: beside, ..good.clone() }).contains("only a provider"));
    let elsewhere = Action::Reroute { to: "mail.example.com:25".into() };
    assert!(bad(Order { action: elsewhere, selector: source.clone(), ..good.clone() }).contains("can be paused"));
    assert!(source.without_source().unwrap_err().to_string().contains("source mta1"));
    let domain = Selector { domain: Some("Example.NET".into()), ..Selector::default() };
    assert_eq!(Order { selector: domain, ..good }.check().unwrap().selector.domain.as_deref(), Some("example.net"));
}

#[test]
fn the_younger_rule_counts_and_the_same_order_replaces_its_rule() {
    let mut rules = Rules::default();
    let selector = Selector { client: Some("shop".into()), ..Selector::default() };
    let add = |rules: &mut Rules, to: &str, selector: &Selector| {
        let action = Action::Reroute { to: to.into() };
        let order = Order { action, selector: selector.clone(), reason: "a test".to_owned(), expires: None };
        rules.add(order, "lin".to_owned(), Timestamp(1)).unwrap().id
    };
    assert_eq!(add(&mut rules, "a:25", &selector), 1);
    assert_eq!(add(&mut rules, "b:25", &Selector { class: Some(Class::Marketing), ..selector.clone() }), 2);
    let to = |rules: &Rules| rules.reroute(&key(), &shared()).map(|(_, to)| to.to_string());
    assert_eq!(to(&rules).as_deref(), Some("b:25"));
    assert_eq!(add(&mut rules, "c:25", &selector), 3);
    assert_eq!((rules.list().len(), to(&rules).as_deref()), (2, Some("c:25")));
    assert_eq!(rules.remove("pause", &Which::Id(3)), Err(SteerError::NoSuchRule), "that is no pause");
    assert_eq!(rules.remove("reroute", &Which::Selector(selector)).unwrap().id, 3);
    let fixed = Target::Text(Arc::new(Course::in_order([Arc::from("cmcc")])));
    assert!(rules.reroute(&key(), &fixed).is_none(), "texts go by their carriers");
    assert!(rules.reroute(&key(), &Target::Mail(MailHop::Fixed("x:25".into()))).is_some());
}

#[test]
fn campaigns_are_a_matter_of_lanes_told_apart_and_rules_expire() {
    let mut rules = Rules::default();
    assert_eq!(rules.apart(CampaignPrint::of(Some("spring"))), None);
    let spring = Order { expires: Some(Duration::from_secs(60)), ..order("spring") };
    rules.add(spring, "lin".to_owned(), Timestamp::from_seconds(100)).unwrap();
    assert_eq!(rules.apart(CampaignPrint::of(Some("spring"))).map(|name| &**name), Some("spring"));
    assert_eq!(rules.apart(CampaignPrint::of(Some("autumn"))), None);
    assert_eq!(rules.apart(CampaignPrint::NONE), None);
    assert!(rules.pause(&key(), &shared()).is_none());
    let apart = LaneKey { apart: Some(Apart::Campaign("spring".into())), ..key() };
    let rule = rules.pause(&apart, &shared()).unwrap();
    assert_eq!(
        rule.sentence(),
        "held by rule 1 (campaign spring) until 1970-01-01T00:02:40.000000Z: the price is wrong"
    );
    assert!(rules.take_expired(Timestamp::from_seconds(159)).is_empty());
    assert_eq!(rules.take_expired(Timestamp::from_seconds(160)).len(), 1);
    assert!(rules.list().is_empty());
}
