//! Sources that are warmed up: what goes over one before its day is used up, and from where the rest goes.

use std::collections::BTreeMap;

use super::*;
use crate::egress::email::{WarmupPlan, WarmupRules};

const BYE: &str = "C: QUIT\nS: 221 bye";

/// The EHLO of a source, with PIPELINING.
fn hello_from(name: &str) -> String {
    format!("S: 220 mx ready\nC: EHLO {name}.example\nS: 250-mx at your service\nS: 250 PIPELINING\n")
}

fn source(name: &str, address: &str, warmup: Option<&[u32]>) -> Arc<Source> {
    let rules = WarmupRules { hourly: Share::percent(100), ..WarmupRules::default() };
    let plan = |days: &[u32]| WarmupPlan { name: "slow".into(), days: days.into(), providers: BTreeMap::new(), rules };
    Arc::new(Source {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        hostname: Some(format!("{name}.example")),
        proxy: None,
        connections_max: 100,
        warmup: warmup.map(plan).map(Arc::new),
    })
}

/// One pool, in which the first source has all turns while it may.
fn one_pool(members: &[&Arc<Source>], whose: Whose) -> Options {
    let weights = [1_000_000_000, 1];
    let members = members.iter().zip(weights).map(|(source, weight)| ((*source).clone(), weight)).collect();
    Options { sources: Sources::new(vec![Pool { name: "all".into(), members, whose }]), ..options() }
}

/// A courier to the hosts of x.example, where this host stands.
async fn to_mx(options: Options, host: &Host) -> (Slot, Arc<MailEgress>, ZoneServer) {
    let zone = Zone::new().mx("x.example", 10, "mx.x.example").a("mx.x.example", [127, 0, 0, 1]);
    let names = ZoneServer::start(zone).await.unwrap();
    let options = Options { smtp_port: host.address.port(), ..options };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let slot = Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap()));
    (slot, egress, names)
}

fn from_of(outcome: &RecipientOutcome) -> String {
    let source = outcome.peer.as_ref().and_then(|peer| peer.source.as_deref()).unwrap_or("-");
    format!("{} {source}", shown(outcome))
}

/// A pipelined mail to so many recipients, taken.
fn taken(recipients: usize) -> String {
    let (asked, yes) = ("C: RCPT\n".repeat(recipients), "S: 250 ok\n".repeat(recipients + 1));
    format!("C: MAIL\n{asked}C: DATA\n{yes}S: 354 go\nDATA\nS: 250 2.0.0 queued\n")
}

#[tokio::test]
async fn what_is_more_than_the_day_allows_goes_from_a_warm_source() {
    let (new, warm) = (source("new", "127.0.0.2", Some(&[3])), source("warm", "127.0.0.3", None));
    // Three recipients from the new source, the last of which leaves two behind; these and the next mail from the other.
    let first = hello_from("new") + &taken(2) + &taken(1) + BYE;
    let second = hello_from("warm") + &taken(2) + &taken(1) + BYE;
    let host = Host::start(&[&first, &second]).await;
    let (mut slot, egress, _names) = to_mx(one_pool(&[&new, &warm], Whose::default()), &host).await;
    let mut seen = Vec::new();
    for recipients in
        [&["a@x.example", "b@x.example"][..], &["c@x.example", "d@x.example", "e@x.example"], &["f@x.example"]]
    {
        seen.extend(slot.carry(&mail(MAIL, recipients)).await.iter().map(from_of));
    }
    slot.close().await;
    host.finish().await;
    assert_eq!(seen, ["relayed new", "relayed new", "relayed new", "relayed warm", "relayed warm", "relayed warm"]);
    let view = egress.warmup().remove(0);
    assert_eq!((view.provider.as_deref(), view.used, view.cap, view.day), (Some("any"), 3, Some(3), Some(1)));
}

#[tokio::test]
async fn without_a_warm_source_it_waits_and_says_until_when() {
    let new = source("new", "127.0.0.2", Some(&[1]));
    let campaigns = Whose { campaigns: vec!["spring".into()], ..Whose::default() };
    for (whose, scope) in [(Whose::default(), Scope::Source), (campaigns, Scope::Message)] {
        let host = Host::start(&[&(hello_from("new") + &taken(1) + BYE)]).await;
        let (mut slot, _, _names) = to_mx(one_pool(&[&new], whose), &host).await;
        let mut mail = mail(MAIL, &["a@x.example", "b@x.example"]);
        mail.envelope = Arc::new(Envelope { campaign: Some("spring".into()), ..(*mail.envelope).clone() });
        let outcomes = slot.carry(&mail).await;
        slot.close().await;
        host.finish().await;
        assert_eq!(from_of(&outcomes[0]), "relayed new");
        let Outcome::Delayed(failure) = &outcomes[1].outcome else { panic!("{outcomes:?}") };
        // The mail of one campaign is not all of its lane.
        assert_eq!((failure.scope, failure.throttled), (scope, true));
        assert_eq!(failure.lane_waits().is_some(), scope == Scope::Source);
        let why = failure.cause.as_deref().unwrap();
        assert!(
            why.contains("source new has had its 1 recipients of day 1 of its warm-up (plan slow) to any"),
            "{why}"
        );
        assert!(why.contains("more from 1970-01-02T00:00:00.000000Z"), "{why}");
        assert!(failure.retry_after.is_some_and(|pause| pause > Duration::from_secs(86_000)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_held_against_the_source_and_a_next_hop_of_ours_counts_nothing() {
    let new = source("new", "127.0.0.2", Some(&[9]));
    let host = Host::start(&["S: 421 4.7.0 not now"]).await;
    let (mut slot, egress, _names) = to_mx(one_pool(&[&new], Whose::default()), &host).await;
    let outcomes = slot.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&outcomes), ["delayed Host connect 4.7.0"]);
    host.finish().await;
    let view = egress.warmup().remove(0);
    assert_eq!((view.used, view.deferred), (0, 1));

    let host = Host::start(&[&(hello_from("new") + &taken(1) + BYE)]).await;
    let next = egress_with(one_pool(&[&new], Whose::default()), vec![], Arc::new(NoSigner));
    let mut slot = courier(&next, &host);
    assert_eq!(all_shown(&slot.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    slot.close().await;
    host.finish().await;
    assert_eq!((next.warmup()[0].used, next.warmup()[0].provider.as_deref()), (0, None));
}

#[tokio::test]
async fn what_never_reached_the_host_is_given_back() {
    let new = source("new", "127.0.0.2", Some(&[1]));
    // The kept connection is dead by the time of the second mail, which goes over a fresh one; the third finds nothing left.
    let broken = hello_from("new") + "C: MAIL\nCLOSE";
    let whole = hello_from("new") + &taken(1) + BYE;
    let host = Host::start(&[&broken, &whole]).await;
    let (mut slot, egress, _names) = to_mx(one_pool(&[&new], Whose::default()), &host).await;
    let first = slot.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&first), ["delayed Connection mail 4.4.2"]);
    assert_eq!(egress.warmup()[0].used, 0);
    let second = slot.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&second), ["relayed"]);
    slot.close().await;
    host.finish().await;
}
