//! A mail worker: one connection slot of one site, kept busy as long as there is work.

use std::time::Duration;

use super::{Hand, Task, notify};
use crate::egress::email::MailCourier;
use crate::model::{Outcome, RecipientOutcome};
use crate::queue::{ConnectionTerms, Lease, Pull, Target};
use crate::schedule::SiteId;

/// A worker waits so long at a time for its site's pace, even where connections without work are closed sooner.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Carries what the site gives out until nothing has come for the idle time.
pub(super) async fn work(task: Task, site: SiteId, mut hand: Hand) {
    let mut courier = MailCourier::new(task.parts.mail.clone());
    let mut idle = task.parts.mail.idle();
    // Set when nobody has called for long: one last look, now that this hand is not counted on any more.
    let mut leaving = false;
    while !task.is_stopping() {
        if !courier.is_connected() {
            let ConnectionTerms { wait, slots, messages_max, idle: open } = task.parts.queue.connection_terms(site);
            // The site takes fewer connections than it did: whoever has none goes first.
            if hand.leave_if_above(slots) {
                break;
            }
            if !wait.is_zero() {
                if !pause(&task, wait.min(WAIT_MAX)).await {
                    break;
                }
                continue;
            }
            courier.allow(messages_max);
            idle = open.unwrap_or_else(|| task.parts.mail.idle());
        }
        match task.parts.queue.pull(site) {
            Pull::Lease(lease) => {
                courier.share(site, lease.shares().cloned());
                let carried = carry(&task, &mut courier, lease).await;
                let dialled = courier.take_dialled();
                if dialled > 0 {
                    task.parts.queue.connected(site, dialled);
                }
                // Whoever has a connection shall have it: without one this hand would only be quicker to pull again.
                if !carried {
                    break;
                }
            }
            // A pause longer than that is a suspended site, or a very slow one: its end rouses it anew.
            Pull::Wait(span) if span > idle.max(WAIT_MAX) => break,
            Pull::Wait(span) => {
                if !pause(&task, span).await {
                    break;
                }
            }
            Pull::Busy | Pull::Nothing if leaving => break,
            Pull::Busy if hand.leave_if_above(task.parts.queue.slots_max(site)) => break,
            Pull::Busy | Pull::Nothing => {
                // A connection that is not needed makes room where there is none left.
                let span = if courier.is_connected() && !task.is_full() { idle } else { Duration::ZERO };
                leaving = !rest(&task, &hand, span).await;
                continue;
            }
        }
        leaving = false;
    }
    // Not a worker any more from here on: closing takes a round trip, and what comes meanwhile wants another one.
    drop(hand);
    courier.close().await;
}

/// False if it was cut short: there is no more work.
async fn pause(task: &Task, span: Duration) -> bool {
    let mut stop = task.stop.clone();
    tokio::select! {
        () = tokio::time::sleep(span) => true,
        _ = stop.wait_for(|&stop| stop) => false,
    }
}

async fn rest(task: &Task, hand: &Hand, span: Duration) -> bool {
    let mut stop = task.stop.clone();
    tokio::select! {
        woken = hand.rest(span) => woken,
        _ = stop.wait_for(|&stop| stop) => false,
    }
}

/// Nothing was tried, and a worker with a connection may carry it at once.
fn is_for_another(outcome: &RecipientOutcome) -> bool {
    matches!(&outcome.outcome, Outcome::Delayed(f) if f.is_ours() && f.retry_after == Some(Duration::ZERO))
}

/// False if it has gone back to its lane, for a worker that has a connection.
async fn carry(task: &Task, courier: &mut MailCourier, mut lease: Lease) -> bool {
    let loaded = lease.load().await.map(|_| ());
    if let Err(e) = loaded {
        let outcomes = lease.unreadable(&e);
        tracing::error!(error = %e, "a mail cannot be carried");
        lease.settle(outcomes, Vec::new()).await;
        return true;
    }
    if lease.must_wait() {
        return true;
    }
    let Target::Mail(hop) = lease.target().clone() else { return true };
    let Ok(consignment) = lease.load().await else { return true };
    let outcomes: Vec<RecipientOutcome> = courier.carry(consignment, &hop).await;
    if !outcomes.is_empty() && outcomes.iter().all(is_for_another) {
        lease.blame(&courier.take_blamed());
        return false;
    }
    let follow_ups = notify::for_outcomes(&task.parts, consignment, &outcomes).await;
    lease.blame(&courier.take_blamed());
    lease.settle(outcomes, follow_ups).await;
    true
}
