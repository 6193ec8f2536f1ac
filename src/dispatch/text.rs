//! The pump of one set of carriers: a text is leased when a carrier can take it, and not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::{Hand, Task};
use crate::egress::sms::Carrier;
use crate::model::{
    Content, EnhancedStatus, Failure, Outcome, PartState, RecipientOutcome, Scope, Stage, TextProgress,
};
use crate::queue::{Lease, Pull};
use crate::schedule::SiteId;

/// How long a pump waits for a carrier before it looks at all of them again.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a pump without work rests at most.
const REST: Duration = Duration::from_secs(60);

/// Hands texts to the first of `carriers` that is up, as fast as it takes them.
pub(super) async fn pump(task: Task, site: SiteId, carriers: Arc<[Arc<str>]>, hand: Hand) {
    let mut stop = task.stop.clone();
    while !task.is_stopping() {
        tokio::select! {
            () = pump_one(&task, site, &carriers, &hand) => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

async fn pump_one(task: &Task, site: SiteId, carriers: &[Arc<str>], hand: &Hand) {
    if task.parts.queue.slots_wanted(site) == 0 {
        hand.rest(REST).await;
        return;
    }
    let Some(carrier) = ready_carrier(task, carriers).await else { return };
    match task.parts.queue.pull(site) {
        Pull::Lease(lease) => {
            tokio::spawn(carry(task.clone(), lease, carrier));
        }
        Pull::Wait(span) => {
            let _ = tokio::time::timeout(span, hand.rest(REST)).await;
        }
        Pull::Busy | Pull::Nothing => {
            hand.rest(REST).await;
        }
    }
}

/// The first carrier in order of preference that is up, once it can take a part; `None` to look again.
async fn ready_carrier(task: &Task, names: &[Arc<str>]) -> Option<Arc<Carrier>> {
    let all = task.parts.carriers.load();
    let up = names.iter().filter_map(|name| all.get(name)).find(|c| c.is_up()).cloned();
    match up {
        Some(carrier) => {
            let ready = tokio::time::timeout(PATIENCE, carrier.ready()).await.is_ok();
            ready.then_some(carrier)
        }
        None => {
            tokio::time::sleep(PATIENCE).await;
            None
        }
    }
}

async fn carry(task: Task, mut lease: Lease, ready: Arc<Carrier>) {
    let (progress, carrier) = match lease.load().await {
        Ok(consignment) => {
            let Content::Text(text) = &consignment.content else { return };
            match under_way(consignment.progress.as_ref()) {
                Some(progress) => (progress.clone(), carrier_named(&task, &progress.carrier)),
                None => (fresh(ready.name(), ready.parts_of(text)), Some(ready)),
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
    let outcome = carrier.carry(&begun, consignment).await;
    lease.settle(vec![outcome], Vec::new()).await;
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
