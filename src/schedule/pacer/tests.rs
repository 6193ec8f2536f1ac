//! The pacer, refusal by refusal.

use super::*;
use crate::model::{EnhancedStatus, Relayed, Reply, Slow, Stage};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(millis: u64) -> Mono {
    Mono(millis * 1_000)
}

fn terms() -> Terms {
    Terms {
        provider: "p".into(),
        connections: Bounds { start: 8.0, least: 2.0, most: 40.0 },
        per_second: Bounds { start: 100.0, least: 25.0, most: 500.0 },
        new_connections: Some(Rate { count: 60, per: Duration::from_secs(60) }),
        messages_per_connection: Some(50),
        idle: None,
        each_source: true,
        over_all: OverAll::NONE,
        by: By::Table,
    }
}

fn good() -> RecipientOutcome {
    let reply = Reply { code: 250, enhanced: None, text: "ok".to_owned() };
    answer(Outcome::Relayed(Relayed { reply, notifies: true }), 1)
}

fn answer(outcome: Outcome, took_ms: u64) -> RecipientOutcome {
    let duration = Duration::from_millis(took_ms);
    RecipientOutcome { recipient: 0, outcome, peer: None, progress: None, duration }
}

fn refusal(scope: Scope, asked: Measures) -> Failure {
    let status = EnhancedStatus::new(4, 7, 0);
    let rule = Rule { id: "row".into(), class: "rate-ip".into() };
    let failure = Failure::without_reply(scope, Stage::Mail, status, "refused");
    Failure { rule: Some(rule), measures: Some(Arc::new(asked)), ..failure }
}

fn heard(pacer: &mut Pacer, failure: &Failure, now: Mono) -> Option<Step> {
    pacer.heard(&[answer(Outcome::Delayed(failure.clone()), 1)], true, now)
}

/// A refusal that took so long to come.
fn late(pacer: &mut Pacer, failure: &Failure, took_ms: u64, now: Mono) -> Option<Step> {
    pacer.heard(&[answer(Outcome::Delayed(failure.clone()), took_ms)], true, now)
}

fn slow(to: (u32, u64), lasts: Duration) -> Option<Slow> {
    Some(Slow { to: Rate { count: to.0, per: Duration::from_secs(to.1) }, lasts })
}

fn shown(pacer: &Pacer, now: Mono) -> (usize, f64) {
    let limits = pacer.limits(now);
    (limits.concurrency, limits.pace.map_or(f64::INFINITY, |pace| (pace.per_second * 1_000.0).round() / 1_000.0))
}

#[test]
fn a_suspension_is_obeyed_at_once_and_left_from_the_lower_bound() {
    let mut pacer = Pacer::new(terms());
    let blocked = refusal(Scope::Source, Measures { suspend: Some(4 * HOUR), ..Measures::default() });
    let step = heard(&mut pacer, &blocked, at(10));
    assert!(
        matches!(step, Some(Step::Suspended { until, fix: None, .. }) if until == at(10).plus(4 * HOUR)),
        "{step:?}"
    );
    // What had begun before says the same, and that is known.
    assert_eq!(late(&mut pacer, &blocked, 500, at(400)), None);
    assert_eq!(shown(&pacer, at(400)).0, 2);
    let end = at(10).plus(4 * HOUR);
    assert_eq!((pacer.suspended_until(at(11)), pacer.suspended_until(end)), (Some(end), None));
    assert_eq!(shown(&pacer, end).0, 2);
    // A probe that is refused begins it anew.
    assert!(matches!(heard(&mut pacer, &blocked, end.plus(HOUR)), Some(Step::Suspended { .. })));
}

#[test]
fn what_must_be_repaired_suspends_and_is_said() {
    let mut pacer = Pacer::new(terms());
    let asked = Measures { fix: Some("the PTR record".to_owned()), ..Measures::default() };
    let step = heard(&mut pacer, &refusal(Scope::Source, asked.clone()), at(0));
    assert!(
        matches!(step, Some(Step::Suspended { until, fix: Some(fix), .. }) if until == at(0).plus(HOUR) && fix == "the PTR record")
    );
    // Somebody's SPF says nothing of the site.
    assert_eq!(heard(&mut Pacer::new(terms()), &refusal(Scope::SenderDomain, asked), at(0)), None);
}

#[test]
fn repute_is_obeyed_to_the_letter_pace_is_eased_first() {
    let asked = Measures { slow: slow((2, 3_600), 2 * HOUR), ..Measures::default() };
    let mut pacer = Pacer::new(terms());
    assert!(matches!(heard(&mut pacer, &refusal(Scope::Source, asked.clone()), at(0)), Some(Step::Slowed(_))));
    assert_eq!(shown(&pacer, at(0)), (8, 0.001));
    assert!(shown(&pacer, at(0).plus(2 * HOUR)).1 > 0.001);

    let about_pace = refusal(Scope::Source, Measures { about_pace: true, ..asked });
    let mut pacer = Pacer::new(terms());
    for n in 0..1_000 {
        pacer.heard(&[good()], false, at(10 * n));
    }
    // A hundred a second went out. Down by half at each refusal that is not of before; the fourth in a row is too much.
    let mut steps = Vec::new();
    for n in 0..4 {
        let now = at(10_000 + 6_000 * n);
        steps.push(heard(&mut pacer, &about_pace, now).unwrap());
        assert_eq!(heard(&mut pacer, &about_pace, now.plus(Duration::from_millis(2))), None, "of before");
    }
    assert!(matches!(steps[..], [Step::Eased(_), Step::Eased(_), Step::Eased(_), Step::Slowed(_)]), "{steps:?}");
    assert_eq!(shown(&pacer, at(28_000)).1, 0.001);
}

#[test]
fn connections_go_down_alone_where_only_they_are_meant() {
    let mut pacer = Pacer::new(terms());
    let asked = Measures { about_pace: true, connections: Some((1, HOUR)), ..Measures::default() };
    assert!(matches!(heard(&mut pacer, &refusal(Scope::Source, asked), at(0)), Some(Step::Eased(_))));
    assert_eq!(shown(&pacer, at(0)), (4, 100.0));
    let shown = pacer.in_force(at(0));
    assert_eq!(shown.eased.map(|(_, cause)| cause.to_string()).as_deref(), Some("row (rate-ip)"));
}

#[test]
fn mails_over_one_connection_are_fewer_from_then_on() {
    let mut pacer = Pacer::new(terms());
    let asked = Measures { about_pace: true, messages_per_connection: Some(5), ..Measures::default() };
    let full = Failure { throttled: true, ..refusal(Scope::Connection, asked) };
    assert_eq!(heard(&mut pacer, &full, at(0)), None, "that is no reason to be slower");
    assert_eq!((pacer.messages_per_connection(), shown(&pacer, at(0)).0), (Some(5), 8));
}

#[test]
fn throttling_that_nobody_knows_ends_in_growing_pauses() {
    let mut pacer = Pacer::new(terms());
    let status = EnhancedStatus::new(4, 3, 2);
    let busy = Failure { throttled: true, ..Failure::without_reply(Scope::Host, Stage::Mail, status, "busy") };
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..12 {
        if let Some(Step::Suspended { until, .. }) = heard(&mut pacer, &busy, now) {
            pauses.push(until.since(now).as_secs());
            now = until;
        }
        now = now.plus(Duration::from_secs(6));
    }
    assert_eq!(pauses, [60, 120, 240]);
}

#[test]
fn new_connections_keep_their_pace() {
    let mut pacer = Pacer::new(terms());
    for _ in 0..8 {
        assert_eq!(pacer.connection_wait(at(0)), Duration::ZERO);
        pacer.connected(at(0));
    }
    assert_eq!(pacer.connection_wait(at(0)), Duration::from_secs(1));
    assert_eq!(pacer.connection_wait(at(1_000)), Duration::ZERO);
}
