//! Rules in force: what they hold and where they send it, over restarts, and what is ended without an attempt.

use super::*;
use crate::queue::steer::{Sentence, SentenceEnd, Sweep, Swept};
use crate::queue::steering::{Action, Order, Selector, SteerError, Which};

fn by(part: &str, value: &str) -> Selector {
    serde_json::from_value(serde_json::json!({ part: value })).unwrap()
}

fn pause(selector: Selector) -> Order {
    Order { action: Action::Pause, selector, reason: "the price is wrong".to_owned(), expires: None }
}

fn sentence(end: SentenceEnd, selector: Selector) -> Sentence {
    Sentence { end, selector, reason: "no such domain".to_owned(), dry_run: false }
}

fn of_campaign(mut submission: Submission, campaign: &str) -> Submission {
    submission.envelope.campaign = Some(campaign.into());
    submission
}

/// What a message waits for.
async fn waits_for(queue: &Queue, id: MessageId) -> String {
    settled(queue).await;
    let view = queue.message(id, None).await.unwrap();
    format!("{}: {}", view.status, view.recipients[0].waiting_for.clone().unwrap_or_default())
}

/// The mail hosts that what can be leased goes to, and how many leases there are; all are given back.
fn hops(queue: &Queue) -> Vec<MailHop> {
    let leases: Vec<Lease> = std::iter::from_fn(|| try_lease(queue)).collect();
    let hop = |lease: &Lease| match lease.target() {
        Target::Mail(hop) => hop.clone(),
        other => panic!("{other:?}"),
    };
    leases.iter().map(hop).collect()
}

/// Ends all that a sweep finds, without notifications.
async fn carried_out(queue: &Queue, mut sweep: Sweep) -> Swept {
    while let Some(endings) = sweep.next().await {
        for ending in endings {
            let recipients = ending.recipients.len();
            assert!(queue.end(ending, Vec::new()).await);
            sweep.hit(recipients);
        }
    }
    sweep.finish()
}

#[tokio::test]
async fn a_paused_campaign_waits_over_restarts_and_the_rest_goes() {
    let bench = Bench::small();
    let (queue, _) = bench.open().await;
    let mut spring = Vec::new();
    for n in 0..60 {
        let mail = bench.mail(&["x@example.net"]);
        let mail = if n % 2 == 0 { of_campaign(mail, "spring") } else { of_campaign(mail, "autumn") };
        let id = queue.accept(mail).await.unwrap().message_id();
        spring.extend((n % 2 == 0).then_some(id));
    }
    // What is leased is not torn away.
    let underway = lease(&queue);
    assert_eq!(underway.work.id, spring[0]);
    let rule = queue.order(pause(by("campaign", "spring")), "lin").await.unwrap();
    let late = queue.accept(of_campaign(bench.mail(&["x@example.net"]), "spring")).await.unwrap().message_id();
    spring.push(late);
    assert_eq!(waits_for(&queue, spring[0]).await, "queued: being delivered now");
    let why = format!("held: {}", rule.sentence());
    for id in &spring[1..] {
        assert_eq!(waits_for(&queue, *id).await, why);
    }
    assert_eq!(queue.rules()[0].waiting, 30);
    // Its outcome counts; what comes of it finds the rule.
    let all = outcomes(&underway, &delayed());
    underway.settle(all, Vec::new()).await;
    assert_eq!(waits_for(&queue, spring[0]).await, why);
    let others: Vec<Lease> = std::iter::from_fn(|| try_lease(&queue)).collect();
    assert!(!others.is_empty() && others.iter().all(|lease| !spring.contains(&lease.work.id)), "the rest goes");
    drop(others);
    queue.checkpoint(true).await;
    bench.crash(queue).await;

    let (queue, _) = bench.open().await;
    assert_eq!(queue.rules()[0].rule, rule);
    for id in &spring {
        assert_eq!(waits_for(&queue, *id).await, why, "also from sidecars");
    }
    let view = queue.message(spring[1], None).await.unwrap();
    assert_eq!(&*view.recipients[0].lane, "example.net/transactional/shop/spring");
    let ended = queue.end_rule("pause", Which::Selector(by("campaign", "spring")), "lin").await.unwrap();
    assert_eq!((ended, queue.rules()), (rule, vec![]));
    assert_eq!(waits_for(&queue, late).await, "queued: a free connection");
    assert_eq!(queue.end_rule("pause", Which::Id(1), "lin").await, Err(SteerError::NoSuchRule));
    bench.close(queue).await;
    assert_eq!(bench.events().iter().filter(|event| *event == "steered").count(), 2);
    let (queue, _) = bench.open().await;
    assert_eq!(waits_for(&queue, late).await, "queued: a free connection");
    drop(queue);
}

#[tokio::test]
async fn lanes_are_held_by_all_that_is_named_wherever_they_move() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let a = queue.accept(bench.mail(&["x@a.example"])).await.unwrap().message_id();
    let b = queue.accept(bench.mail(&["x@b.example"])).await.unwrap().message_id();
    let both = Selector { client: Some("shop".into()), ..by("domain", "a.example") };
    queue.order(pause(both), "lin").await.unwrap();
    queue.order(pause(Selector { client: Some("other".into()), ..by("domain", "b.example") }), "lin").await.unwrap();
    assert!(waits_for(&queue, a).await.starts_with("held: held by rule 1"));
    assert_eq!(waits_for(&queue, b).await, "queued: a free connection");
    queue.end_rule("pause", Which::Id(1), "lin").await.unwrap();
    // Who runs the hosts, and which site that is, turns out later.
    queue.order(pause(by("provider", "gmail")), "lin").await.unwrap();
    assert_eq!(hops(&queue).len(), 2);
    let site = Some(MailSite { name: "mx h".into(), limits: std::sync::Arc::default(), provider: "gmail".into() });
    for name in ["a.example", "b.example"] {
        queue.learn_site(&Domain::parse(name).unwrap(), site.clone(), Duration::from_secs(60));
    }
    assert_eq!(hops(&queue), []);
    queue.end_rule("pause", Which::Id(3), "lin").await.unwrap();
    assert_eq!(hops(&queue).len(), 2);
    queue.order(pause(by("site", "mx h")), "lin").await.unwrap();
    assert_eq!(hops(&queue), []);
    queue.order(pause(by("class", "transactional")), "lin").await.unwrap();
    queue.reconfigure(bench.options.clone());
    assert_eq!(hops(&queue), []);
}

#[tokio::test]
async fn rerouted_mail_goes_elsewhere_until_the_rule_ends() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let first = queue.accept(bench.mail(&["x@a.example"])).await.unwrap().message_id();
    queue.accept(of_campaign(bench.mail(&["x@a.example"]), "spring")).await.unwrap();
    let site = Some(MailSite { name: "mx h".into(), limits: std::sync::Arc::default(), provider: "any".into() });
    let a = Domain::parse("a.example").unwrap();
    queue.learn_site(&a, site.clone(), Duration::from_secs(3_600));
    let order = |selector, to: &str| Order { action: Action::Reroute { to: to.into() }, ..pause(selector) };
    queue.order(order(by("site", "mx h"), "b.example:25"), "lin").await.unwrap();
    assert_eq!(hops(&queue), [MailHop::Fixed("b.example:25".into()), MailHop::Fixed("b.example:25".into())]);
    queue.order(order(by("campaign", "spring"), "c.example:25"), "lin").await.unwrap();
    queue.accept(bench.mail(&["y@a.example"])).await.unwrap();
    queue.learn_site(&a, site, Duration::from_secs(3_600));
    let fixed = |name: &str| MailHop::Fixed(name.into());
    let mut now = hops(&queue);
    now.sort_by_key(|hop| format!("{hop:?}"));
    assert_eq!(now, [fixed("b.example:25"), fixed("b.example:25"), fixed("c.example:25")]);
    assert!(
        waits_for(&queue, first).await.starts_with("queued: a free connection; rerouted to b.example:25 by rule 1")
    );
    assert_eq!(queue.rules().iter().map(|rule| rule.waiting).collect::<Vec<_>>(), [2, 1]);
    queue.end_rule("reroute", Which::Id(1), "lin").await.unwrap();
    queue.end_rule("reroute", Which::Id(2), "lin").await.unwrap();
    assert!(hops(&queue).iter().all(|hop| *hop == MailHop::Mx(a.clone())) && !hops(&queue).is_empty());
    assert_eq!(waits_for(&queue, first).await, "queued: a free connection");
}

#[tokio::test]
async fn a_rule_ends_when_it_expires_and_stays_ended() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    let order = Order { expires: Some(Duration::from_secs(60)), ..pause(by("client", "shop")) };
    queue.order(order, "lin").await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    queue.expire_rules().await;
    assert!(waits_for(&queue, id).await.starts_with("held"));
    bench.clock.advance(Duration::from_secs(1));
    queue.expire_rules().await;
    assert_eq!(waits_for(&queue, id).await, "queued: a free connection");
    bench.close(queue).await;
    let text = std::fs::read_to_string(bench.event_file()).unwrap();
    assert!(text.contains(r#""steering":{"action":"expire","rule":1,"selector":{"client":"shop"}"#), "{text}");
    let (queue, _) = bench.open().await;
    assert!(queue.rules().is_empty());
}

#[tokio::test]
async fn a_damaged_file_of_rules_is_an_error_at_start_that_names_it() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    queue.order(pause(by("client", "shop")), "lin").await.unwrap();
    bench.close(queue).await;
    let path = bench.dir.path().join("spool/steering.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("shop", "shoe");
    std::fs::write(&path, text).unwrap();
    let file = steering::file::RulesFile::new(Arc::new(crate::storage::RealDisk), path.parent().unwrap());
    let why = file.read().unwrap_err().to_string();
    assert!(why.contains("spool/steering.json: its checksum does not match") && why.contains("move it away"), "{why}");
}

#[tokio::test]
async fn what_a_sentence_names_ends_and_nothing_else() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let two = ["x@a.example", "x@b.example"];
        let mail = of_campaign(bench.mail(&two), if n < 10 { "spring" } else { "autumn" });
        ids.push(queue.accept(mail).await.unwrap().message_id());
    }
    let underway = lease(&queue);
    assert_eq!(underway.work.id, ids[0]);
    bench.clock.advance(Duration::from_millis(1));
    let spring_a = Selector { campaign: Some("spring".into()), ..by("domain", "a.example") };
    let order = sentence(SentenceEnd::Bounce, spring_a);
    let dry = queue.sweep(Sentence { dry_run: true, ..order.clone() }, "lin").await.unwrap();
    let dry = carried_out(&queue, dry).await;
    assert_eq!((dry.hit, dry.underway), (9, 1));
    let swept = queue.sweep(order, "lin").await.unwrap();
    // What comes after it began is not meant.
    bench.clock.advance(Duration::from_millis(1));
    queue.accept(of_campaign(bench.mail(&["x@a.example"]), "spring")).await.unwrap();
    let swept = carried_out(&queue, swept).await;
    assert_eq!((swept.hit, swept.underway, swept.failed), (9, 1, 0));
    for (n, id) in ids.iter().enumerate() {
        let view = queue.message(*id, None).await.unwrap();
        let wanted = if (1..10).contains(&n) { ["bounced", "queued"] } else { ["queued", "queued"] };
        assert_eq!([&*view.recipients[0].status, &*view.recipients[1].status], wanted, "{n}");
    }
    let view = queue.message(ids[1], None).await.unwrap();
    let attempt = &view.recipients[0].attempts[0];
    assert_eq!(attempt.reason.as_deref(), Some("bounced by an operator: no such domain"));
    assert_eq!(view.recipients[0].attempts_made, 0);

    bench.clock.advance(Duration::from_millis(1));
    let cancel = queue.sweep(sentence(SentenceEnd::Cancel, by("client", "shop")), "lin").await.unwrap();
    let cancelled = carried_out(&queue, cancel).await;
    assert_eq!((cancelled.hit, cancelled.underway), (31, 1));
    let all = outcomes(&underway, &relayed());
    underway.settle(all, Vec::new()).await;
    settled(&queue).await;
    assert_eq!(queue.overview(10).messages, 0);
    let view = queue.message(ids[0], None).await.unwrap();
    assert_eq!([&*view.recipients[0].status, &*view.recipients[1].status], ["delivered", "cancelled"]);
    bench.close(queue).await;
    let events = bench.events();
    let count = |word: &str| events.iter().filter(|event| *event == word).count();
    assert_eq!((count("bounced"), count("cancelled"), count("delivered"), count("steered")), (9, 31, 1, 2));
    let (_queue, found) = bench.open().await;
    assert_eq!(found.messages, 0, "they have ended on disk");
}

#[tokio::test]
async fn a_campaign_with_the_same_print_is_not_ended_for_another() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    // Two names that share their 24 bits.
    let mut seen = std::collections::HashMap::new();
    let (one, other) = (0_u32..)
        .find_map(|n| {
            let name = format!("campaign {n}");
            seen.insert(crate::queue::entry::CampaignPrint::of(Some(&name)).0, name.clone()).map(|old| (old, name))
        })
        .unwrap();
    let id = queue.accept(of_campaign(bench.mail(&["x@a.example"]), &one)).await.unwrap().message_id();
    bench.clock.advance(Duration::from_millis(1));
    let sweep = queue.sweep(sentence(SentenceEnd::Cancel, by("campaign", &other)), "lin").await.unwrap();
    assert_eq!(carried_out(&queue, sweep).await.hit, 0);
    assert_eq!(status(&queue, id).await, "queued");
    assert_eq!(hops(&queue).len(), 1, "and it can be leased");
}

#[tokio::test]
async fn flushing_a_domain_hurries_that_domain() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for to in ["x@a.example", "x@b.example"] {
        queue.accept(bench.mail(&[to])).await.unwrap();
    }
    for _ in 0..2 {
        let turn = lease(&queue);
        let all = outcomes(&turn, &delayed());
        turn.settle(all, Vec::new()).await;
    }
    settled(&queue).await;
    assert_eq!(queue.flush(by("domain", "c.example"), "lin").await, Ok(0));
    assert_eq!(queue.flush(by("domain", "B.example"), "lin").await, Ok(1));
    assert_eq!(hops(&queue), [MailHop::Mx(Domain::parse("b.example").unwrap())]);
    assert!(queue.flush(by("domain", "-"), "lin").await.is_err());
}
