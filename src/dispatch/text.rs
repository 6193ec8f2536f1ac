//! The pump of one course, that is, of a set of carriers: a text is leased when a carrier can take it, and not before, so that
//! the most urgent one goes and nothing stands in its way. Whose turn it is says `turns`; a text that could not be handed over
//! goes to the next carrier of its course at its next attempt; so does one that a carrier has taken and did not bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::turns::{self, Standing, Turns};
use super::{Hand, Task};
use crate::egress::sms::{Carrier, Permit};
use crate::model::{
    Content, EnhancedStatus, Failure, Outcome, PartState, RecipientOutcome, Scope, SmsText, Stage, TextProgress,
};
use crate::queue::{Lease, Pull};
use crate::route::{Choice, Course};
use crate::schedule::SiteId;

/// How long a pump waits for a carrier before it looks at all of them again.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often a pump looks which carrier does best, where that decides.
const QUALITY_LOOKED_AT: Duration = Duration::from_secs(1);
/// How long a pump without work rests at most.
const REST: Duration = Duration::from_secs(60);

/// Hands texts to the carriers of a course, as fast as they take them.
pub(super) async fn pump(task: Task, site: SiteId, course: Arc<Course>, hand: Hand) {
    let mut stop = task.stop.clone();
    let mut turns = Turns::new(&course);
    let mut looked = None::<Instant>;
    while !task.is_stopping() {
        if let Choice::Quality { canary } = course.choice
            && looked.is_none_or(|at| at.elapsed() >= QUALITY_LOOKED_AT)
        {
            turns.prefer(task.parts.queue.best_carrier(&course.carriers), canary);
            looked = Some(Instant::now());
        }
        tokio::select! {
            () = pump_one(&task, site, &course, &mut turns, &hand) => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

async fn pump_one(task: &Task, site: SiteId, course: &Arc<Course>, turns: &mut Turns, hand: &Hand) {
    if task.parts.queue.slots_wanted(site) == 0 {
        hand.rest(REST).await;
        return;
    }
    let Some((turn, carrier)) = next_carrier(task, course, turns).await else { return };
    let Ok(permit) = tokio::time::timeout(PATIENCE, carrier.permit()).await else { return };
    let (queue, kept) = (&task.parts.queue, permit.is_for_codes());
    match if kept || turn.is_none() { queue.pull_code(site) } else { queue.pull(site) } {
        Pull::Lease(lease) => {
            if let Some((at, standing)) = turn {
                turns.took(at, &standing);
            }
            tokio::spawn(carry(task.clone(), lease, course.clone(), carrier, permit));
        }
        Pull::Wait(span) => {
            drop(permit);
            let _ = tokio::time::timeout(span, hand.rest(REST)).await;
        }
        Pull::Busy | Pull::Nothing => {
            drop(permit);
            tokio::select! {
                () = carrier.has_room(), if kept => {}
                // The others may be up again.
                () = tokio::time::sleep(PATIENCE), if turn.is_none() => {}
                _ = hand.rest(REST) => {}
            }
        }
    }
}

/// A place in the course, and how its carriers stood.
type Turn = (usize, Vec<Standing>);

/// The carrier whose turn it is, and which one that was; none for one that only codes go to, as all others are down. `None` to
/// look again.
async fn next_carrier(task: &Task, course: &Course, turns: &Turns) -> Option<(Option<Turn>, Arc<Carrier>)> {
    let standing = standing(task, &course.carriers);
    let Some(at) = turns.next(&standing) else {
        if let Some(carrier) = course.then.iter().find_map(|name| carrier_named(task, name)) {
            return Some((None, carrier));
        }
        tokio::time::sleep(PATIENCE).await;
        return None;
    };
    Some((Some((at, standing)), carrier_named(task, course.carriers.get(at)?)?))
}

/// How these carriers stand.
fn standing(task: &Task, names: &[Arc<str>]) -> Vec<Standing> {
    let all = task.parts.carriers.load();
    let one = |name: &Arc<str>| match all.get(name).filter(|c| c.is_up()) {
        None => Standing::Down,
        Some(carrier) if carrier.is_slowed() && !carrier.try_ready() => Standing::Throttled,
        Some(_) => Standing::Up,
    };
    names.iter().map(one).collect()
}

async fn carry(task: Task, mut lease: Lease, course: Arc<Course>, ready: Arc<Carrier>, permit: Permit) {
    let chosen = match lease.load().await {
        Ok(consignment) => {
            let Content::Text(text) = &consignment.content else { return };
            let chosen = choose(&task, &course, ready, text, consignment.progress.as_ref());
            let begins = consignment.progress.as_ref().is_none_or(|known| !is_under_way(known));
            if let (Ok((carrier, _)), true) = (&chosen, begins)
                && let Some(refusal) = task.parts.replies.refusal(consignment, carrier)
            {
                let outcomes = lease.outcomes(&refusal);
                return lease.settle(outcomes, Vec::new()).await;
            }
            chosen
        }
        Err(e) => {
            tracing::error!(error = %e, "a text cannot be carried");
            let outcomes = lease.unreadable(&e);
            return lease.settle(outcomes, Vec::new()).await;
        }
    };
    let (carrier, progress) = match chosen {
        Ok(chosen) => chosen,
        Err(cause) => {
            let outcomes = waiting(&lease, cause);
            return lease.settle(outcomes, Vec::new()).await;
        }
    };
    // On an error the lease goes back: nothing was sent.
    let Ok(begun) = lease.begin(progress).await else { return };
    let Ok(consignment) = lease.load().await else { return };
    task.parts.replies.note_sent(consignment, &carrier);
    let outcome = carrier.carry(&begun, consignment, Some(permit)).await;
    task.parts.porting.answered(&task.parts.queue, consignment, carrier.name(), &outcome).await;
    lease.settle(vec![outcome], Vec::new()).await;
}

/// Who is to carry a text, and how far it has come there; in words, for whom it has to wait.
fn choose(
    task: &Task,
    course: &Course,
    ready: Arc<Carrier>,
    text: &SmsText,
    known: Option<&TextProgress>,
) -> Result<(Arc<Carrier>, TextProgress), String> {
    let Some(known) = known else { return Ok((ready.clone(), fresh(&ready, text))) };
    if is_under_way(known) {
        // Some parts are there already; only this carrier can complete the text.
        let carrier = carrier_named(task, &known.carrier);
        let down = || format!("carrier {} has some of the parts and is not up", known.carrier);
        return carrier.map(|carrier| (carrier, known.clone())).ok_or_else(down);
    }
    // What has no part of it leaves no trace.
    let before = if known.has_waiting() { known.before.clone() } else { Some(Box::new(known.clone())) };
    let carrier = match (untried(task, course, &known.carrier, before.as_deref()), &before) {
        (Some(carrier), _) => carrier,
        (None, None) => ready,
        (None, Some(_)) => return Err("no carrier is up that it has not gone to".to_owned()),
    };
    let progress = TextProgress { doubted: known.doubted, before, ..fresh(&carrier, text) };
    Ok((carrier, progress))
}

/// Who is to try a text that a carrier has refused, throttled or not been able to take, or did not bring: the next of the
/// course that has not had it; who comes after all others only if one of them has.
fn untried(task: &Task, course: &Course, last: &str, tried: Option<&TextProgress>) -> Option<Arc<Carrier>> {
    let untried = |names: &[Arc<str>]| {
        let has_had = |name: &Arc<str>| tried.is_some_and(|tried| tried.chain().any(|at| at.carrier == *name));
        let standing = standing(task, names).into_iter().zip(names);
        standing.map(|(s, name)| if has_had(name) { Standing::Down } else { s }).collect::<Vec<_>>()
    };
    let last = course.carriers.iter().position(|name| **name == *last);
    let (first, then) = (untried(&course.carriers), untried(&course.then));
    // One that is throttled only if no other is left.
    let at = match turns::after(&first, last.unwrap_or(course.carriers.len())) {
        Some(at) if first[at] == Standing::Up || tried.is_none() => course.carriers.get(at),
        throttled => match turns::after(&then, then.len()).filter(|_| tried.is_some()) {
            Some(at) => course.then.get(at),
            None => course.carriers.get(throttled?),
        },
    };
    carrier_named(task, at?)
}

/// True of a text of which a carrier already has a part, and of which another is still to go.
fn is_under_way(progress: &TextProgress) -> bool {
    progress.has_waiting() && progress.parts.iter().any(|part| *part != PartState::Waiting)
}

fn carrier_named(task: &Task, name: &str) -> Option<Arc<Carrier>> {
    task.parts.carriers.load().get(name).filter(|c| c.is_up()).cloned()
}

fn fresh(carrier: &Carrier, text: &SmsText) -> TextProgress {
    static REFERENCE: AtomicU8 = AtomicU8::new(0);
    let reference = REFERENCE.fetch_add(1, Ordering::Relaxed);
    carrier.planned(text, reference)
}

fn waiting(lease: &Lease, cause: String) -> Vec<RecipientOutcome> {
    let status = EnhancedStatus::new(4, 4, 1);
    let mut failure = Failure::without_reply(Scope::Recipient, Stage::Connect, status, cause);
    // Not the text's fault: soon again, and not counted against its schedule.
    failure.throttled = true;
    lease.outcomes(&Outcome::Delayed(failure))
}
