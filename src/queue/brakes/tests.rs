//! Who is slowed down, for how long, and how they come back.

use proptest::prelude::*;

use super::*;
use crate::model::{EnhancedStatus, Mailbox, Origin, Rate, Relayed, Reply, Stage};
use crate::queue::tests::Bench;
use crate::schedule::{Schedule, SiteLimits};

const ENOUGH: Blamed = Blamed { least: 3, share: 0.02 };
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn site() -> SiteId {
    Schedule::new(false).site(&"site".into(), SiteLimits { concurrency: 1, pace: None })
}

fn mail(campaign: Option<&str>, from: &str) -> Envelope {
    let mut envelope = Bench::new().mail(&["x@example.net"]).envelope;
    (envelope.campaign, envelope.class) = (campaign.map(Into::into), Class::Marketing);
    if let Origin::Mail(origin) = &mut envelope.origin {
        origin.reverse_path = ReversePath::Mailbox(Mailbox::parse(from).unwrap());
    }
    envelope
}

fn failing(scope: Scope, measures: Measures) -> Failure {
    let rule = Some(Rule { id: "row".into(), class: "content".into() });
    let status = EnhancedStatus::new(5, 7, 1);
    Failure { rule, measures: Some(measures.into()), ..Failure::without_reply(scope, Stage::EndOfData, status, "no") }
}

fn slow(count: u32, per: u64, lasts: u64) -> Measures {
    let to = Rate { count, per: Duration::from_secs(per) };
    Measures { slow: Some(Slow { to, lasts: Duration::from_secs(lasts) }), ..Measures::default() }
}

fn outcome(outcome: Outcome) -> RecipientOutcome {
    RecipientOutcome { recipient: 0, outcome, peer: None, progress: None, duration: Duration::ZERO }
}

fn taken() -> RecipientOutcome {
    let reply = Reply { code: 250, enhanced: None, text: String::new() };
    outcome(Outcome::Relayed(Relayed { reply, notifies: false }))
}

#[test]
fn a_refusal_that_only_defers_is_obeyed_at_once_and_one_that_costs_a_mail_when_it_is_no_single_case() {
    let (site, mut brakes) = (site(), Brakes::default());
    let (spring, autumn) = (mail(Some("spring"), "a@shop.example"), mail(Some("autumn"), "a@shop.example"));
    let hear = |brakes: &mut Brakes, of: &Envelope, answer: RecipientOutcome, now| {
        brakes.hear(site, of, &[answer], ENOUGH, at(now)).len()
    };
    let refused = || outcome(Outcome::Failed(failing(Scope::Campaign, slow(5, HOUR, 4 * HOUR))));
    // Two of them are nothing yet; nor are three among two hundred.
    assert_eq!((0..2).map(|n| hear(&mut brakes, &spring, refused(), n)).sum::<usize>(), 0);
    for n in 0..200 {
        assert_eq!(hear(&mut brakes, &spring, taken(), n), 0);
        assert_eq!(brakes.ask(site, &spring, at(n)), Ok(()));
    }
    assert_eq!(hear(&mut brakes, &spring, refused(), 201), 0);
    assert_eq!(hear(&mut brakes, &spring, refused(), 202), 0);
    assert_eq!(hear(&mut brakes, &spring, refused(), 203), 1, "the fifth of 205");
    // One in twelve minutes goes, of that campaign alone.
    let held = brakes.ask(site, &spring, at(204)).unwrap_err();
    assert_eq!((held.until, &held.whose), (at(203 + 720), &Apart::Campaign("spring".into())));
    assert_eq!(&*held.why, "campaign spring: at most 5/h for a while by row (content)");
    assert_eq!(brakes.ask(site, &autumn, at(204)), Ok(()));
    assert_eq!(brakes.ask(site, &Envelope { client: "other".into(), ..spring.clone() }, at(204)), Ok(()));
    assert_eq!(brakes.ask(site, &Envelope { class: Class::Otp, ..spring.clone() }, at(204)), Ok(()));
    assert_eq!(brakes.ask(site, &spring, at(923)), Ok(()));
    assert_eq!(brakes.ask(site, &spring, at(924)).unwrap_err().until, at(923 + 720));
    // A deferral is obeyed at once.
    let later = outcome(Outcome::Delayed(failing(Scope::Campaign, slow(1, MINUTE, HOUR))));
    assert_eq!(hear(&mut brakes, &autumn, later, 1_000), 1);
    assert!(brakes.ask(site, &autumn, at(1_001)).is_err());
}

#[test]
fn a_suspended_sender_waits_and_comes_back_by_a_ramp() {
    let (site, mut brakes) = (site(), Brakes::default());
    let (one, other) = (mail(None, "a@one.example"), mail(None, "a@two.example"));
    let measures = Measures { suspend: Some(Duration::from_secs(HOUR)), ..Measures::default() };
    let answer = outcome(Outcome::Delayed(failing(Scope::SenderDomain, measures)));
    let put_on = brakes.hear(site, &one, std::slice::from_ref(&answer), ENOUGH, at(0));
    assert_eq!((put_on.len(), put_on[0].until), (1, at(HOUR)));
    assert_eq!(brakes.hear(site, &one, &[answer], ENOUGH, at(10)), [], "what was under way is no news");
    assert_eq!(brakes.ask(site, &other, at(11)), Ok(()));
    assert_eq!(brakes.ask(site, &one, at(HOUR - 1)).unwrap_err().until, at(HOUR + 10));
    // How many go in each eighth of an hour after it: more and more, until nothing holds it.
    let mut went = Vec::new();
    for eighth in 0..6 {
        let span = HOUR + 10 + 450 * eighth..HOUR + 10 + 450 * (eighth + 1);
        went.push(span.filter(|second| brakes.ask(site, &one, at(*second)).is_ok()).count());
    }
    assert!(went.is_sorted() && went[0] > 100 && went[0] < 180 && went[5] == 450, "{went:?}");
    brakes.forget(at(3 * HOUR));
    assert!(!brakes.are_at(site));
}

#[test]
fn what_needs_a_repair_waits_for_it() {
    let (site, mut brakes) = (site(), Brakes::default());
    let of = mail(None, "a@one.example");
    let measures = Measures { fix: Some("publish SPF".to_owned()), ..Measures::default() };
    let retry_after = Some(Duration::from_secs(7_200));
    let failure = Failure { retry_after, ..failing(Scope::SenderDomain, measures) };
    let put_on = brakes.hear(site, &of, &[outcome(Outcome::Delayed(failure))], ENOUGH, at(0));
    assert_eq!(put_on[0].fix.as_deref(), Some("publish SPF"));
    assert_eq!(brakes.ask(site, &of, at(7_199)).unwrap_err().until, at(7_200));
    brakes.lift(site, &of.client, &Apart::Sender("one.example".into()));
    assert_eq!(brakes.ask(site, &of, at(7_199)), Ok(()), "an operator has said so");
}

#[test]
fn there_are_no_more_than_there_may_be() {
    let (site, mut brakes) = (site(), Brakes::default());
    let refused = || outcome(Outcome::Failed(failing(Scope::Campaign, slow(5, HOUR, HOUR))));
    let mut of = mail(None, "a@one.example");
    for n in 0..BRAKES_MAX + 10 {
        of.campaign = Some(format!("c{n}").into());
        brakes.hear(site, &of, &[refused()], ENOUGH, at(1));
    }
    assert_eq!((brakes.count, brakes.sites[&site].len()), (BRAKES_MAX, BRAKES_MAX));
    // Those that came to nothing make room.
    brakes.hear(site, &of, &[refused()], ENOUGH, at(700));
    assert_eq!(brakes.count, 1);
    brakes.forget_site(site);
    assert_eq!((brakes.count, brakes.are_at(site)), (0, false));
}

proptest! {
    /// However often it is asked and blamed, what is slowed down goes no faster than its row says while that holds.
    #[test]
    fn the_pace_is_kept(steps in proptest::collection::vec((0..30_u64, any::<bool>()), 1..200), count in 1..20_u32) {
        let (site, mut brakes) = (site(), Brakes::default());
        let of = mail(Some("spring"), "a@one.example");
        let answer = || outcome(Outcome::Delayed(failing(Scope::Campaign, slow(count, MINUTE, HOUR))));
        brakes.hear(site, &of, &[answer()], ENOUGH, at(0));
        let (mut now, mut went) = (0, 0);
        for (span, blames) in steps {
            now = (now + span).min(HOUR);
            if blames {
                brakes.hear(site, &of, &[answer()], ENOUGH, at(now));
            }
            went += u64::from(brakes.ask(site, &of, at(now)).is_ok());
        }
        prop_assert!(went <= now * u64::from(count) / MINUTE, "{went} in {now} s at {count}/m");
    }
}
