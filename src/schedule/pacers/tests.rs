//! Several sources at one site: who is heard by whom, and what the site may do.

use super::super::pacer::{By, OverAll};
use super::super::{Bounds, Step};
use super::*;
use crate::model::{EnhancedStatus, Failure, Measures, Peer, Relayed, Reply, Rule, Stage};

fn at(seconds: u64) -> Mono {
    Mono(0).plus(Duration::from_secs(seconds))
}

fn terms() -> Terms {
    Terms {
        provider: "p".into(),
        connections: Bounds { start: 8.0, least: 2.0, most: 40.0 },
        per_second: Bounds { start: 100.0, least: 25.0, most: 500.0 },
        new_connections: None,
        messages_per_connection: None,
        idle: None,
        each_source: true,
        over_all: OverAll::NONE,
        by: By::Table,
    }
}

fn from(source: &str, outcome: Outcome) -> RecipientOutcome {
    let source = (source != "system").then(|| Arc::from(source));
    let peer = Peer { host: "mx.p".into(), address: None, tls: None, source, tls_policy: None };
    RecipientOutcome { recipient: 0, outcome, peer: Some(peer), progress: None, duration: Duration::from_millis(1) }
}

fn good(source: &str) -> RecipientOutcome {
    let reply = Reply { code: 250, enhanced: None, text: "ok".to_owned() };
    from(source, Outcome::Relayed(Relayed { reply, notifies: true }))
}

fn refused(source: &str, scope: Scope, asked: Measures) -> RecipientOutcome {
    let rule = Rule { id: "row".into(), class: "rate-ip".into() };
    let failure = Failure::without_reply(scope, Stage::Mail, EnhancedStatus::new(4, 7, 0), "refused");
    from(source, Outcome::Delayed(Failure { rule: Some(rule), measures: Some(Arc::new(asked)), ..failure }))
}

fn suspends(seconds: u64) -> Measures {
    Measures { suspend: Some(Duration::from_secs(seconds)), ..Measures::default() }
}

fn of(sources: &[&str]) -> Pacers {
    let mut pacers = Pacers::new(terms());
    for source in sources {
        assert!(pacers.heard(&[good(source)], false, at(1)).is_empty());
    }
    pacers
}

fn shown(pacers: &Pacers, now: Mono) -> (usize, f64) {
    let limits = pacers.limits(now);
    (limits.concurrency, limits.pace.map_or(f64::INFINITY, |pace| pace.per_second))
}

#[test]
fn one_source_is_the_site_and_more_may_do_more() {
    assert_eq!(shown(&Pacers::new(terms()), at(1)), (8, 100.0));
    let one = of(&["a"]);
    assert_eq!(shown(&one, at(1)), (8, 100.0));
    assert!(one.shares().is_none(), "its share is the site's");
    let names = |pacers: &Pacers| pacers.in_force(at(1)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&one), [Some("a".into())], "what nobody knew of became the first one's");
    let three = of(&["a", "b", "system"]);
    assert_eq!(shown(&three, at(1)), (24, 300.0));
    assert_eq!(names(&three), [Some("a".into()), Some("b".into()), None]);
    let shares = three.shares().unwrap();
    assert_eq!((shares.of(Some("b")).connections, shares.of(Some("nobody yet")).connections), (8, 8));
}

#[test]
fn what_is_set_over_all_holds_for_the_sum() {
    let over_all = OverAll { connections: 10.0, per_second: 120.0 };
    let mut pacers = Pacers::new(Terms { over_all, ..terms() });
    for source in ["a", "b", "c"] {
        pacers.heard(&[good(source)], false, at(1));
    }
    assert_eq!(shown(&pacers, at(1)), (10, 120.0));
    pacers.set(terms(), at(1));
    assert_eq!(shown(&pacers, at(1)), (24, 300.0));
}

#[test]
fn where_nobody_knows_what_a_host_takes_all_sources_share_it() {
    let mut pacers = Pacers::new(Terms { each_source: false, ..terms() });
    for source in ["a", "b", "system"] {
        pacers.heard(&[good(source)], false, at(1));
    }
    assert_eq!((shown(&pacers, at(1)), pacers.in_force(at(1)).len()), ((8, 100.0), 1));
    assert!(pacers.shares().is_none());
    pacers.heard(&[refused("a", Scope::Source, suspends(60))], true, at(2));
    assert_eq!(pacers.suspended(at(3)).unwrap().0, at(62));
}

#[test]
fn a_source_that_is_blamed_slows_down_alone_and_a_site_all() {
    let asked = Measures { connections: Some((2, Duration::from_secs(600))), ..Measures::default() };
    let mut pacers = of(&["a", "b"]);
    let told = pacers.heard(&[refused("a", Scope::Source, asked.clone())], true, at(10));
    assert!(matches!(&*told, [Told { source: Some(a), step: Step::Slowed(_) }] if &**a == "a"), "{told:?}");
    let shares = pacers.shares().unwrap();
    assert_eq!((shares.of(Some("a")).connections, shares.of(Some("b")).connections), (2, 8));
    assert_eq!(shown(&pacers, at(10)).0, 10);
    let mut pacers = of(&["a", "b"]);
    let told = pacers.heard(&[refused("a", Scope::Site, asked)], true, at(10));
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(shown(&pacers, at(10)).0, 4);
}

#[test]
fn a_site_is_closed_only_while_all_of_its_sources_are() {
    let mut pacers = of(&["a", "b"]);
    pacers.heard(&[refused("a", Scope::Source, suspends(3_600))], true, at(10));
    assert_eq!(pacers.suspended(at(11)), None);
    assert_eq!(shown(&pacers, at(11)).0, 8, "only b is counted on");
    assert_eq!(pacers.shares().unwrap().of(Some("a")).suspended, Some(at(3_610)));
    // One recipient of two was still taken.
    pacers.heard(&[refused("b", Scope::Source, suspends(86_400)), good("b")], true, at(3_000));
    assert_eq!(pacers.suspended(at(3_001)).unwrap().0, at(3_610), "until the first may again");
    assert_eq!(pacers.suspended(at(3_611)), None);
    assert!(shown(&pacers, at(3_611)).0 >= 2, "a goes, though nothing was heard of it for an hour");
    pacers.resume();
    assert_eq!(pacers.shares().unwrap().of(Some("b")).suspended, None);
    assert_eq!(pacers.suspended(at(3_001)), None);
}

#[test]
fn who_has_sent_nothing_for_long_is_remembered_but_not_counted_on() {
    let mut pacers = of(&["a", "b"]);
    let asked = Measures { connections: Some((2, Duration::from_secs(9_000))), ..Measures::default() };
    pacers.heard(&[refused("a", Scope::Source, asked)], true, at(2));
    pacers.heard(&[good("b")], false, at(500));
    assert_eq!(shown(&pacers, at(500)).0, 8);
    pacers.heard(&[good("a")], false, at(600));
    assert_eq!(shown(&pacers, at(600)).0, 10, "a is held at two still");
}

#[test]
fn an_outcome_without_a_peer_is_nobodys() {
    let mut pacers = of(&["a", "b"]);
    let nobody = RecipientOutcome { peer: None, ..refused("a", Scope::Site, suspends(60)) };
    pacers.heard(&[nobody], false, at(5));
    assert_eq!(pacers.in_force(at(5)).len(), 2, "no third source");
    assert!(pacers.suspended(at(5)).is_some(), "what blames the site all hear");
    let mut many = of(&[]);
    for n in 0..2 * SOURCES_MAX {
        many.heard(&[good(&n.to_string())], false, at(1));
    }
    assert_eq!(many.in_force(at(1)).len(), SOURCES_MAX);
}
