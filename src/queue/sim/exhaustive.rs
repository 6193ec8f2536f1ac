//! Small workloads, and everything that can happen to them once: the power goes or the process dies at each call that changes
//! the disk, and each such call fails, for want of space or for worse.

use std::io::ErrorKind;
use std::sync::Arc;

use super::model::Check;
use super::trace::Trace;
use super::{Ending, Run, Sabotage, some_life};
use crate::event::metrics::Metrics;

/// The workloads: seeds under which something of everything happens.
const WORKLOADS: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
const OPERATIONS: u64 = 20;
/// Each cut leaves another part of what was not synced.
const TEARS: u64 = 3;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Nothing,
    PowerCut { at: u64, tear: u64 },
    Kill { at: u64 },
    Failure { at: u64, kind: ErrorKind },
}

/// Runs a workload with one blow; returns how many calls it made in its first life.
fn strike(workload: u64, blow: Blow, metrics: &Arc<Metrics>, trace: Trace) -> Result<u64, String> {
    let mut run = Run::new(workload, Sabotage::Nothing, metrics.clone(), trace);
    run.damaging = false;
    match blow {
        Blow::Nothing => {}
        Blow::PowerCut { at, tear } => {
            run.disk.tear_by(tear);
            run.disk.cut_power_at(at);
        }
        Blow::Kill { at } => run.disk.cut_power_at(at),
        Blow::Failure { at, kind } => run.disk.fail_at(at, kind),
    }
    let healthy = matches!(blow, Blow::Nothing);
    run.live(healthy, async |life| some_life(life, OPERATIONS, Ending::Clean).await)?;
    let calls = run.disk.calls();
    run.leave(if matches!(blow, Blow::PowerCut { .. }) { Ending::PowerCut } else { Ending::Kill });
    run.last()?;
    Ok(calls)
}

/// All blows to one workload; returns how many there were.
fn all(workload: u64, metrics: &Arc<Metrics>) -> Result<u64, String> {
    let calls = strike(workload, Blow::Nothing, metrics, Trace::default())
        .map_err(|e| format!("workload {workload}, untouched: {e}"))?;
    let mut count = 0;
    for at in 1..=calls {
        let cuts = (0..TEARS).map(|tear| Blow::PowerCut { at, tear });
        let failures = [ErrorKind::StorageFull, ErrorKind::Other].map(|kind| Blow::Failure { at, kind });
        for blow in cuts.chain([Blow::Kill { at }]).chain(failures) {
            strike(workload, blow, metrics, Trace::default()).map_err(|e| {
                // Once more, with its trace.
                let _ = strike(workload, blow, metrics, Trace { print: true, hash: None });
                format!("workload {workload}, {blow:?}: {e}")
            })?;
            count += 1;
        }
    }
    Ok(count)
}

#[test]
fn every_crash_point_and_every_failing_call_of_small_workloads() -> Check {
    let metrics = Arc::new(Metrics::new());
    let mut count = 0;
    for workload in WORKLOADS {
        count += all(workload, &metrics)?;
    }
    eprintln!("{count} blows to {} workloads", WORKLOADS.len());
    assert!(count > 1_000, "the workloads hardly touch the disk: {count}");
    Ok(())
}
