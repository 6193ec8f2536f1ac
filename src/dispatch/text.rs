//! The pump of one course, that is, of a set of carriers: a text is leased when a carrier can take it, and not before, so that
//! the most urgent one goes and nothing stands in its way. Whose turn it is says `turns`; a text that could not be handed over
//! goes to the next carrier of its course at its next attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::turns::{self, Standing, Turns};
use super::{Hand, Task};
use crate::egress::sms::{Carrier, Permit};
use crate::model::{
    Content, EnhancedStatus, Failure, Outcome, PartState, RecipientOutcome, Scope, Stage, TextProgress,
};
use crate::queue::{Lease, Pull};
use crate::route::Course;
use crate::schedule::SiteId;

/// How long a pump waits for a carrier before it looks at all of them again.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a pump without work rests at most.
const REST: Duration = Duration::from_secs(60);

/// Hands texts to the carriers of a course, as fast as they take them.
pub(super) async fn pump(task: Task, site: SiteId, course: Arc<Course>, hand: Hand) {
    let mut stop = task.stop.clone();
    let mut turns = Turns::new(&course);
    while !task.is_stopping() {
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
    let Some((at, carrier, standing)) = next_carrier(task, course, turns).await else { return };
    let Ok(permit) = tokio::time::timeout(PATIENCE, carrier.permit()).await else { return };
    let for_codes = permit.is_for_codes();
    let queue = &task.parts.queue;
    match if for_codes { queue.pull_code(site) } else { queue.pull(site) } {
        Pull::Lease(lease) => {
            turns.took(at, &standing);
            tokio::spawn(carry(task.clone(), lease, course.clone(), carrier, permit));
        }
        Pull::Wait(span) => {
            drop(permit);
            let _ = tokio::time::timeout(span, hand.rest(REST)).await;
        }
        Pull::Busy | Pull::Nothing => {
            drop(permit);
            tokio::select! {
                () = carrier.has_room(), if for_codes => {}
                _ = hand.rest(REST) => {}
            }
        }
    }
}

/// The carrier whose turn it is, its place in the course and how all of that stood; `None` to look again.
async fn next_carrier(task: &Task, course: &Course, turns: &Turns) -> Option<(usize, Arc<Carrier>, Vec<Standing>)> {
    let standing = standing(task, course);
    let Some(at) = turns.next(&standing) else {
        tokio::time::sleep(PATIENCE).await;
        return None;
    };
    Some((at, carrier_named(task, course.carriers.get(at)?)?, standing))
}

/// How the carriers of a course stand, in its order.
fn standing(task: &Task, course: &Course) -> Vec<Standing> {
    let all = task.parts.carriers.load();
    let one = |name: &Arc<str>| match all.get(name).filter(|c| c.is_up()) {
        None => Standing::Down,
        Some(carrier) if carrier.is_slowed() && !carrier.try_ready() => Standing::Throttled,
        Some(_) => Standing::Up,
    };
    course.carriers.iter().map(one).collect()
}

async fn carry(task: Task, mut lease: Lease, course: Arc<Course>, ready: Arc<Carrier>, permit: Permit) {
    let (progress, carrier) = match lease.load().await {
        Ok(consignment) => {
            let Content::Text(text) = &consignment.content else { return };
            match under_way(consignment.progress.as_ref()) {
                Some(progress) => (progress.clone(), carrier_named(&task, &progress.carrier)),
                None => {
                    let other = consignment.progress.as_ref().and_then(|p| another(&task, &course, &p.carrier));
                    let carrier = other.unwrap_or(ready);
                    if let Some(refusal) = task.parts.replies.refusal(consignment, &carrier) {
                        let outcomes = lease.outcomes(&refusal);
                        return lease.settle(outcomes, Vec::new()).await;
                    }
                    (fresh(carrier.name(), carrier.parts_of(text)), Some(carrier))
                }
            }
        }
        Err(e) => {
            tracing::error!(error = %e, "a text cannot be carried");
            let outcomes = lease.unreadable(&e);
            return lease.settle(outcomes, Vec::new()).await;
        }
    };
    let Some(carrier) = carrier else {
        // Some parts are there already; only this carrier can complete the text.
        let outcomes = waiting_for(&lease, progress);
        return lease.settle(outcomes, Vec::new()).await;
    };
    // On an error the lease goes back: nothing was sent.
    let Ok(begun) = lease.begin(progress).await else { return };
    let Ok(consignment) = lease.load().await else { return };
    task.parts.replies.note_sent(consignment, &carrier);
    let outcome = carrier.carry(&begun, consignment, Some(permit)).await;
    lease.settle(vec![outcome], Vec::new()).await;
}

/// Who is to try a text that a carrier has refused, throttled or not been able to take: the next of the course.
fn another(task: &Task, course: &Course, tried: &str) -> Option<Arc<Carrier>> {
    let last = course.carriers.iter().position(|name| **name == *tried)?;
    let at = turns::after(&standing(task, course), last)?;
    carrier_named(task, course.carriers.get(at)?)
}

/// The progress of a text that a carrier already has a part of; otherwise any carrier will do.
fn under_way(progress: Option<&TextProgress>) -> Option<&TextProgress> {
    progress.filter(|p| p.parts.iter().any(|part| *part != PartState::Waiting))
}

fn carrier_named(task: &Task, name: &str) -> Option<Arc<Carrier>> {
    task.parts.carriers.load().get(name).filter(|c| c.is_up()).cloned()
}

fn fresh(carrier: &Arc<str>, parts: usize) -> TextProgress {
    static REFERENCE: AtomicU8 = AtomicU8::new(0);
    let reference = REFERENCE.fetch_add(1, Ordering::Relaxed);
    TextProgress { carrier: carrier.clone(), reference, parts: vec![PartState::Waiting; parts] }
}

fn waiting_for(lease: &Lease, progress: TextProgress) -> Vec<RecipientOutcome> {
    let cause = format!("carrier {} has some of the parts and is not up", progress.carrier);
    let status = EnhancedStatus::new(4, 4, 1);
    let mut failure = Failure::without_reply(Scope::Recipient, Stage::Connect, status, cause);
    // Not the text's fault: soon again, and not counted against its schedule.
    failure.throttled = true;
    let mut outcomes = lease.outcomes(&Outcome::Delayed(failure));
    outcomes.iter_mut().for_each(|o| o.progress = Some(progress.clone()));
    outcomes
}
