//! Where mail leaves from: whose leaves from which source, in which turn, and what happens when a source is blamed.

use super::*;
use crate::egress::email::session::rest_for;
use crate::egress::email::sources::{PausedSource, Roster, Towards};
use crate::egress::email::warmup::WarmUp;
use crate::model::{EnhancedStatus, Failure, Measures, Peer, Relayed, Reply, Stage};
use crate::schedule::{Bounds, By, OverAll, Pacers, SourceShares, Terms};

/// Greeting, and EHLO by that name with PIPELINING.
fn hello_from(name: &str) -> String {
    format!("S: 220 mx ready\nC: EHLO {name}\nS: 250-mx at your service\nS: 250 PIPELINING\n")
}

const BYE: &str = "C: QUIT\nS: 221 bye";
const LISTED: &str = "554 5.7.1 Client host blocked using a dnsbl";

fn source(name: &str, address: &str, connections_max: usize) -> Arc<Source> {
    Arc::new(Source {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        hostname: Some(format!("{name}.example")),
        proxy: None,
        connections_max,
        warmup: None,
    })
}

fn two() -> (Arc<Source>, Arc<Source>) {
    (source("mta1", "127.0.0.2", 100), source("mta2", "127.0.0.3", 100))
}

fn pool(name: &str, members: &[(&Arc<Source>, u32)], whose: Whose) -> Pool {
    Pool { name: name.into(), members: members.iter().map(|(s, weight)| ((*s).clone(), *weight)).collect(), whose }
}

fn with_pools(pools: Vec<Pool>) -> Options {
    Options { sources: Sources::new(pools), ..options() }
}

fn roster() -> (Arc<Roster>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp(1)));
    let metrics = Arc::new(Metrics::new());
    (Roster::new(WarmUp::open(None, clock.clone(), metrics.clone()), clock.clone(), metrics), clock)
}

/// A site that no warm-up counts.
fn towards(site: &str) -> Towards {
    Towards { site: site.into(), provider: None, of: None, shares: None }
}

fn from_of(outcome: &RecipientOutcome) -> &str {
    outcome.peer.as_ref().and_then(|peer| peer.source.as_deref()).unwrap_or("-")
}

#[test]
fn the_first_pool_that_fits_takes_the_mail() {
    let (mta1, mta2) = two();
    let whose = Whose {
        clients: vec!["news".into(), "shop".into()],
        classes: vec![Class::Marketing],
        campaigns: vec!["spring".into()],
        sender_domains: vec!["example.com".to_owned()],
    };
    let pools = vec![pool("bulk", &[(&mta1, 1)], whose), pool("rest", &[(&mta2, 1)], Whose::default())];
    let sources = Sources::new(pools);
    let fits = |change: &dyn Fn(&mut Envelope), author: &str| {
        let mut envelope = (*mail(MAIL, &["lin@example.net"]).envelope).clone();
        (envelope.class, envelope.campaign) = (Class::Marketing, Some("spring".into()));
        change(&mut envelope);
        sources.pool_of(&envelope, || vec![Domain::parse(author).unwrap()]).name.to_string()
    };
    assert_eq!(fits(&|_| {}, "news.example.com"), "bulk");
    assert_eq!(fits(&|_| {}, "badexample.com"), "rest");
    assert_eq!(fits(&|e| e.client = "other".into(), "example.com"), "rest");
    assert_eq!(fits(&|e| e.class = Class::Otp, "example.com"), "rest");
    assert_eq!(fits(&|e| e.campaign = None, "example.com"), "rest");
    assert_eq!(fits(&|e| e.campaign = Some("autumn".into()), "example.com"), "rest");
    let none = Sources::default();
    let nobody_asks = || panic!("no pool asks for the author");
    assert_eq!(&*none.pool_of(&mail(MAIL, &["lin@example.net"]).envelope, nobody_asks).name, Sources::SYSTEM);
}

#[tokio::test]
async fn sources_take_turns_by_weight_and_stop_at_their_caps() {
    let (mta1, mta2) = (source("mta1", "127.0.0.2", 1_000), source("mta2", "127.0.0.3", 150));
    let pool = pool("all", &[(&mta1, 1), (&mta2, 3)], Whose::default());
    let ((roster, _), site) = (roster(), towards("mx.example"));
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(roster.take(&pool, &site, Duration::ZERO).await.unwrap());
    }
    let of = |held: &[crate::egress::email::sources::Held], source: &Arc<Source>| {
        held.iter().filter(|h| h.source == *source).count()
    };
    let seconds = of(&held, &mta2);
    assert!((50..=95).contains(&seconds), "some three of four from the heavier: {seconds}");
    for _ in 0..500 {
        held.push(roster.take(&pool, &site, Duration::ZERO).await.unwrap());
    }
    assert_eq!(of(&held, &mta2), 150, "no more than it may");
    while of(&held, &mta1) < 1_000 {
        held.push(roster.take(&pool, &site, Duration::ZERO).await.unwrap());
    }
    let full = roster.take(&pool, &site, Duration::ZERO).await.unwrap_err();
    assert!(full.throttled && full.cause.as_ref().unwrap().contains("pool all"), "{full:?}");
    // Who waits is called when one becomes free.
    let waiting = tokio::spawn({
        let (roster, pool, site) = (roster.clone(), pool.clone(), site.clone());
        async move { roster.take(&pool, &site, Duration::from_secs(20)).await.map(|held| held.source.name.clone()) }
    });
    tokio::task::yield_now().await;
    let freed = held.pop().unwrap().source.name.clone();
    assert_eq!(waiting.await.unwrap().unwrap(), freed);
}

#[tokio::test]
async fn who_waits_for_a_source_is_called_although_another_waits_for_another() {
    let (mta1, mta2) = (source("mta1", "127.0.0.2", 1), source("mta2", "127.0.0.3", 1));
    let (one, two) = (pool("one", &[(&mta1, 1)], Whose::default()), pool("two", &[(&mta2, 1)], Whose::default()));
    let ((roster, _), site) = (roster(), towards("mx.example"));
    let long = Duration::from_secs(3_600);
    let first = roster.take(&one, &site, long).await.unwrap();
    let _second = roster.take(&two, &site, long).await.unwrap();
    // The one who waits for the second stands in front.
    let (for_two, for_one) = (roster.take(&two, &site, long), roster.take(&one, &site, long));
    tokio::pin!(for_two, for_one);
    tokio::select! {
        biased;
        _ = &mut for_two => panic!("the second is taken"),
        _ = &mut for_one => panic!("the first is taken"),
        () = std::future::ready(()) => {}
    }
    drop(first);
    let got = tokio::select! {
        _ = &mut for_two => panic!("the second is taken"),
        got = tokio::time::timeout(Duration::from_secs(10), &mut for_one) => got,
    };
    assert_eq!(got.expect("it was called").unwrap().source, mta1);
}

#[tokio::test]
async fn a_source_that_is_blamed_rests_there_and_nowhere_else() {
    let (mta1, mta2) = two();
    let pool = pool("all", &[(&mta1, 1), (&mta2, 1)], Whose::default());
    let ((roster, clock), here, there) = (roster(), towards("here"), towards("there"));
    assert!(roster.rest(&pool, &mta1, &here, Duration::from_secs(60)));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..64 {
        assert_eq!(roster.take(&pool, &here, Duration::ZERO).await.unwrap().source, mta2);
        seen.insert(roster.take(&pool, &there, Duration::ZERO).await.unwrap().source.name.clone());
    }
    assert_eq!(seen.len(), 2);
    assert!(!roster.may_go_on(&pool, &mta1, &here) && roster.may_go_on(&pool, &mta1, &there));
    assert!(!roster.rest(&pool, &mta2, &here, Duration::from_secs(90)), "nobody is left");
    let none = roster.take(&pool, &here, Duration::from_secs(20)).await.unwrap_err();
    assert_eq!((none.scope, none.retry_after), (Scope::Source, Some(Duration::from_secs(60))));
    clock.advance(Duration::from_secs(60));
    assert_eq!(roster.take(&pool, &here, Duration::ZERO).await.unwrap().source, mta1);
}

#[tokio::test]
async fn from_a_paused_source_nothing_leaves_until_that_ends() {
    let ((roster, _), (mta1, mta2)) = (roster(), two());
    let pool = pool("all", &[(&mta1, 1), (&mta2, 1)], Whose::default());
    let known = Towards { provider: Some("gmail".into()), ..towards("gmail") };
    let rule = |source: &str, provider: Option<&str>| PausedSource {
        source: source.into(),
        provider: provider.map(Into::into),
        why: format!("source {source} is held by rule 7").into(),
    };
    roster.pause(vec![rule("mta1", Some("gmail"))]);
    for _ in 0..8 {
        assert_eq!(roster.take(&pool, &known, Duration::ZERO).await.unwrap().source, mta2);
    }
    assert!(!roster.may_go_on(&pool, &mta1, &known) && roster.may_go_on(&pool, &mta1, &towards("mx.example")));
    roster.pause(vec![rule("mta1", None), rule("mta2", None)]);
    let none = roster.take(&pool, &known, Duration::from_secs(20)).await.unwrap_err();
    assert!(none.is_ours() && none.cause.as_deref().is_some_and(|why| why.ends_with("is held by rule 7")), "{none:?}");
    assert!(none.lane_waits().is_some_and(|span| span <= Duration::from_secs(30)), "it may end at any time");
    roster.pause(Vec::new());
    assert!(roster.take(&pool, &known, Duration::ZERO).await.is_ok());
}

/// What sources may do towards a site after these answers, each starting with two connections and one mail a minute.
fn shares_after(answers: &[(&Arc<Source>, Outcome)]) -> Option<Arc<SourceShares>> {
    let same = |start: f64| Bounds { start, least: start, most: start };
    let mut pacers = Pacers::new(Terms {
        provider: "p".into(),
        connections: same(2.0),
        per_second: same(1.0 / 60.0),
        new_connections: None,
        messages_per_connection: None,
        idle: None,
        each_source: true,
        over_all: OverAll::NONE,
        by: By::Table,
    });
    for (source, outcome) in answers {
        let source = Some(source.name.clone());
        let peer = Peer { host: "mx.example".into(), address: None, tls: None, source, tls_policy: None };
        let (outcome, peer) = (outcome.clone(), Some(peer));
        let answer = RecipientOutcome { recipient: 0, outcome, peer, progress: None, duration: Duration::ZERO };
        pacers.heard(&[answer], false, Mono(2));
    }
    pacers.shares().cloned()
}

#[tokio::test]
async fn a_source_keeps_to_its_share_of_what_a_site_takes() {
    let (mta1, mta2) = two();
    let pool = pool("all", &[(&mta1, 1), (&mta2, 1)], Whose::default());
    let (roster, clock) = roster();
    let good =
        Outcome::Relayed(Relayed { reply: Reply { code: 250, enhanced: None, text: "ok".into() }, notifies: true });
    assert_eq!(shares_after(&[(&mta1, good.clone())]), None);
    let shares = shares_after(&[(&mta1, good.clone()), (&mta2, good.clone())]);
    let site = Towards { shares, ..towards("mx.example") };
    // One was made before anything was known; it counts.
    let mut held = vec![roster.take(&pool, &towards("mx.example"), Duration::ZERO).await.unwrap()];
    while held.len() < 4 {
        held.push(roster.take(&pool, &site, Duration::ZERO).await.unwrap());
    }
    assert_eq!(held.iter().filter(|h| h.source == mta1).count(), 2);
    let full = roster.take(&pool, &site, Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(full.lane_waits(), Some(Duration::ZERO), "another may carry it at once: {full:?}");
    assert!(roster.take(&pool, &towards("elsewhere"), Duration::ZERO).await.is_ok());
    // A mail a minute from each.
    assert!(roster.may_go_on(&pool, &mta1, &site) && roster.turn(&mta1, &site).await);
    assert!(!roster.may_go_on(&pool, &mta1, &site) && !roster.turn(&mta1, &site).await);
    held.clear();
    for _ in 0..8 {
        assert_eq!(roster.take(&pool, &site, Duration::ZERO).await.unwrap().source, mta2);
    }
    assert!(roster.turn(&mta2, &site).await);
    let none = roster.take(&pool, &site, Duration::from_secs(20)).await.unwrap_err();
    assert!(none.is_ours() && none.cause.as_ref().unwrap().contains("its pace towards mx.example"), "{none:?}");
    assert_eq!(none.lane_waits().map(|span| span.as_secs()), Some(60));
    clock.advance(Duration::from_secs(60));
    assert!(roster.turn(&mta1, &site).await && roster.turn(&mta2, &site).await);
    // Suspended there, and there alone.
    let asked = Measures { suspend: Some(Duration::from_secs(600)), ..Measures::default() };
    let failure = Failure::without_reply(Scope::Source, Stage::Mail, EnhancedStatus::new(4, 7, 0), "blocked");
    let blocked = Outcome::Delayed(Failure { measures: Some(Arc::new(asked)), ..failure });
    let site = Towards { shares: shares_after(&[(&mta1, blocked), (&mta2, good)]), ..towards("suspended") };
    for _ in 0..8 {
        assert_eq!(roster.take(&pool, &site, Duration::ZERO).await.unwrap().source, mta2);
    }
    assert!(!roster.may_go_on(&pool, &mta1, &site) && roster.may_go_on(&pool, &mta2, &site));
    clock.advance(Duration::from_secs(600));
    assert!(roster.may_go_on(&pool, &mta1, &site));
}

#[tokio::test]
async fn mail_leaves_from_its_pools_address_by_its_name() {
    let (mta1, mta2) = two();
    let bulk = Whose { campaigns: vec!["spring".into()], ..Whose::default() };
    let options = with_pools(vec![pool("bulk", &[(&mta1, 1)], bulk), pool("rest", &[(&mta2, 1)], Whose::default())]);
    let one = hello_from("mta2.example") + TAKEN + BYE;
    // A kept connection of another pool is not used, though it leads to the same host.
    let other = hello_from("mta1.example") + TAKEN + TAKEN + BYE;
    let host = Host::start(&[&one, &other]).await;
    let egress = egress(options);
    let mut courier = courier(&egress, &host);
    let plain = mail(MAIL, &["lin@example.net"]);
    let mut campaign = plain.clone();
    campaign.envelope = Arc::new(Envelope { campaign: Some("spring".into()), ..(*plain.envelope).clone() });
    let mut seen = Vec::new();
    for consignment in [&plain, &campaign, &campaign] {
        let outcomes = courier.carry(consignment).await;
        seen.push(format!("{} {}", shown(&outcomes[0]), from_of(&outcomes[0])));
    }
    courier.close().await;
    host.finish().await;
    assert_eq!(seen, ["relayed mta2", "relayed mta1", "relayed mta1"]);
}

/// One mail over a pool of two whose first connection is met by `first`; what comes of it.
async fn second_chance(first: &str, recipients: &[&str]) -> Vec<String> {
    let (mta1, mta2) = (source("mta1", "127.0.0.2", 1), source("mta2", "127.0.0.3", 100));
    // All turns are the first's until it is blamed.
    let pool = pool("all", &[(&mta1, 1_000_000_000), (&mta2, 1)], Whose::default());
    let second = hello_from("mta2.example") + TAKEN + BYE;
    let host = Host::start(&[first, &second]).await;
    let egress = egress(with_pools(vec![pool]));
    let mut courier = courier(&egress, &host);
    let outcomes = courier.carry(&mail(MAIL, recipients)).await;
    courier.close().await;
    host.finish().await;
    outcomes.iter().map(|outcome| format!("{} {}", shown(outcome), from_of(outcome))).collect()
}

#[tokio::test]
async fn a_blamed_source_makes_way_for_another_within_the_attempt() {
    let lin = ["lin@example.net"];
    // At the greeting, at EHLO, at RCPT, at the end of the data.
    for first in [
        format!("S: {LISTED}\n"),
        format!("S: 220 mx ready\nC: EHLO mta1.example\nS: {LISTED}\n"),
        hello_from("mta1.example") + &format!("C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: {LISTED}\nS: 554 no\n") + BYE,
        hello_from("mta1.example")
            + &format!("C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nDATA\nS: {LISTED}\n")
            + BYE,
    ] {
        assert_eq!(second_chance(&first, &lin).await, ["relayed mta2"], "{first}");
    }
    // What was held against a recipient stays; only those for whom the source was blamed go again.
    let mixed = hello_from("mta1.example")
        + &format!("C: MAIL\nC: RCPT\nC: RCPT\nC: DATA\nS: 250 ok\nS: 550 5.1.1 unknown\nS: {LISTED}\nS: 554 no\n")
        + BYE;
    assert_eq!(
        second_chance(&mixed, &["nobody@example.net", "lin@example.net"]).await,
        ["failed Recipient rcpt 5.1.1 mta1", "relayed mta2"]
    );
}

#[test]
fn a_source_rests_as_long_as_its_row_suspends_it() {
    let hours = |n: u64| Duration::from_secs(3_600 * n);
    let yahoo = crate::provider::Table::shipped();
    let yahoo = yahoo.provider_of("mta5.am0.yahoodns.net");
    let of = |code: u32, text: &str| {
        let reply = Reply { code, enhanced: None, text: text.to_owned() };
        match refused(yahoo, &reply, crate::model::Stage::Connect, true) {
            Outcome::Delayed(failure) => rest_for(&failure),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(553, "5.7.1 [BL21] connections will not be accepted from this address [TSS09]"), Some(hours(24 * 7)));
    assert_eq!(
        of(421, "4.7.0 [TSS04] deferred"),
        Some(hours(1)),
        "without a suspension, until it is of use to try again"
    );
    assert_eq!(of(421, "not known"), None);
}

#[tokio::test]
async fn a_source_without_an_address_of_the_family_or_on_this_machine_is_passed_over() {
    let mta2 = source("mta2", "127.0.0.3", 100);
    for wrong in ["2001:db8::2", "192.0.2.99"] {
        let wrong = source("mta1", wrong, 100);
        let first_then_second = pool("all", &[(&wrong, 1_000_000_000), (&mta2, 1)], Whose::default());
        let host = Host::start(&[&(hello_from("mta2.example") + TAKEN + BYE)]).await;
        let egress_of_two = egress(with_pools(vec![first_then_second]));
        let mut slot = courier(&egress_of_two, &host);
        let outcomes = slot.carry(&mail(MAIL, &["lin@example.net"])).await;
        slot.close().await;
        host.finish().await;
        assert_eq!((shown(&outcomes[0]), from_of(&outcomes[0])), ("relayed".to_owned(), "mta2"));
        // Alone it makes the mail wait, and says why.
        let host = Host::start(&[]).await;
        let alone = egress(with_pools(vec![pool("all", &[(&wrong, 1)], Whose::default())]));
        let outcomes = courier(&alone, &host).carry(&mail(MAIL, &["lin@example.net"])).await;
        let Outcome::Delayed(failure) = &outcomes[0].outcome else { panic!("{outcomes:?}") };
        assert_eq!(failure.scope, Scope::Source);
        assert!(failure.cause.as_ref().unwrap().contains("source mta1"), "{failure:?}");
    }
}
