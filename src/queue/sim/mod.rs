//! The simulator: the real queue over a disk that tears, reorders, forgets, fails and loses power, seed by seed, against a
//! model of what was answered. Tests only.
//!
//! **Promises.** One thread, one clock, one source of chance: the same seed is the same run, byte for byte. A failing run
//! names its seed and the command that replays it with a trace of what it did.
//!
//! **What is checked**, after each start and after each answer:
//! - what was answered yes is there, whole, until its end was recorded; what was refused or not found once is never seen;
//! - nothing is leased that has ended, is out already, is not due, or had begun before a crash; nothing at all after a
//!   poisoning or while the queue is held;
//! - a change and what follows from it are both there or neither; attempts, due times and parts survive;
//! - a repeated key gives the same answer, also after a start;
//! - where a bit was flipped, that record may be missing, which the start reports, and nothing else;
//! - at the end everything that was taken can be delivered, each end has been told, and no space is left in use.
//!
//! **Variables.** `POSTRIDER_SIM_SEED=n` replays one seed with its trace; `POSTRIDER_SIM_RUNS=n` and `POSTRIDER_SIM_FROM=n` say
//! how many and from which on.
//!
//! [`subject`] is all that knows the queue's calls.

mod exhaustive;
mod life;
mod model;
mod subject;
mod tests;
mod trace;
mod workload;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use crate::clock::{ManualClock, Timestamp};
use crate::event::metrics::Metrics;
use crate::storage::faulty::{Call, FaultyDisk, Lies};
use crate::storage::{self, sabotage};
use life::{Life, World};
use model::{Check, Counts, Model};
use subject::Ground;
use trace::{Trace, note};

/// What is broken on purpose, to see that the model catches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sabotage {
    Nothing,
    /// Syncs of files do nothing.
    NoSync,
    /// The answer comes before the write.
    AnswerBeforeWrite,
    /// Bytes that were damaged pass for right.
    BlindChecksums,
    /// Notes do not say what they are about, so that their segments go too early.
    NotesAboutNothing,
    /// A tail that was cut is not made to last.
    UnsyncedCuts,
    /// Sidecars say that they cover what is not even written yet.
    EagerMarks,
}

const DIR: &str = "spool";
const OPERATIONS: u64 = 200;

/// A run: a disk, its queue's lives, and the model of all of them.
struct Run {
    disk: Arc<FaultyDisk>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    log: storage::Options,
    options: Options,
    random: fastrand::Rng,
    model: Model,
    trace: Trace,
    /// Bits are flipped between lives.
    damaging: bool,
    /// Messages taken before this life.
    accepted: u64,
    /// The power goes all the time, mostly in the middle of a write.
    stormy: bool,
}

/// How a life is to end, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Clean,
    Kill,
    PowerCut,
}

impl Run {
    fn new(seed: u64, sabotage: Sabotage, metrics: Arc<Metrics>, trace: Trace) -> Self {
        // Salts, file numbers and jitter.
        fastrand::seed(seed);
        sabotage::set(match sabotage {
            Sabotage::BlindChecksums => sabotage::Switch::BlindChecksums,
            Sabotage::NotesAboutNothing => sabotage::Switch::NotesAboutNothing,
            Sabotage::EagerMarks => sabotage::Switch::EagerMarks,
            _ => sabotage::Switch::Nothing,
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = FaultyDisk::new(seed);
        disk.lie_about(match sabotage {
            Sabotage::NoSync => Lies::Always,
            Sabotage::AnswerBeforeWrite => Lies::AboutWrites,
            Sabotage::UnsyncedCuts => Lies::AboutCuts,
            _ => Lies::Never,
        });
        let (log, options) = (workload::log_options(&mut random), workload::options(&mut random));
        Self {
            disk,
            clock: Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000))),
            metrics,
            log,
            model: Model::new(options.again.clone()),
            options,
            damaging: random.u8(..4) == 0 || sabotage == Sabotage::BlindChecksums,
            stormy: random.u8(..16) == 0 || sabotage == Sabotage::UnsyncedCuts,
            random,
            accepted: 0,
            trace,
        }
    }

    /// One life on a runtime of its own, so that nothing of it is left behind.
    fn live<T>(
        &mut self,
        healthy: bool,
        work: impl AsyncFnOnce(Life<'_, '_>) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ground = Ground {
            disk: self.disk.clone(),
            dir: Path::new(DIR),
            log: self.log.clone(),
            options: self.options.clone(),
            routes: workload::routes(false),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        };
        let mut world = World {
            ground,
            disk: self.disk.clone(),
            model: &mut self.model,
            random: &mut self.random,
            trace: &mut self.trace,
            healthy,
        };
        runtime.block_on(async {
            match Life::begin(&mut world).await? {
                Some(life) => work(life).await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// Lives of any sort, `operations` in all, then one in which everything is delivered.
    fn whole(&mut self, operations: u64) -> Check {
        while self.model.counts.operations < operations {
            let now = self.random.u64(1..=if self.stormy { 8 } else { 100 });
            let ending = [Ending::Clean, Ending::Kill, Ending::PowerCut][self.random.usize(..3)];
            let healthy = self.plan(now);
            note!(self.trace, "a life of {now} operations, healthy: {healthy}");
            let ended = self.live(healthy, async |life| some_life(life, now, ending).await)?;
            self.leave(ended.unwrap_or(Ending::PowerCut));
        }
        // Some of the runs: it takes as long as all the rest.
        if self.random.u8(..4) == 0 { self.last() } else { Ok(()) }
    }

    fn last(&mut self) -> Check {
        note!(self.trace, "the last life");
        self.live(true, async |mut life| {
            life.drain().await?;
            life.end().await
        })?;
        self.leave(Ending::PowerCut);
        let found = self.live(true, async |life| life.end_with_nothing().await)?;
        debug_assert!(found.is_some());
        self.model.all_told()?;
        let segments =
            self.disk.files().iter().filter(|(path, _)| path.starts_with(Path::new(DIR).join("segments"))).count();
        if segments > 4 && self.model.counts.spoilt == 0 && self.model.tolerance == 0 {
            return Err(format!("nothing lives, and {segments} segments are left"));
        }
        Ok(())
    }

    /// Plans what will fail in the next life; true if nothing will.
    fn plan(&mut self, operations: u64) -> bool {
        let random = &mut self.random;
        let soon = 3 * operations;
        match random.u8(..8) {
            _ if self.stormy => {
                self.disk.cut_power_at(random.u64(1..=soon));
                false
            }
            0..3 => true,
            3..5 => {
                self.disk.cut_power_at(random.u64(1..=soon));
                false
            }
            5 => {
                self.disk.fail(Call::Sync, random.u64(1..=soon), ErrorKind::Other);
                false
            }
            _ => {
                for _ in 0..random.u8(1..4) {
                    let call = [Call::Write, Call::Write, Call::Create, Call::Remove, Call::SyncDir, Call::SetLength];
                    let call = call[random.usize(..6)];
                    let kind = if random.u8(..4) == 0 { ErrorKind::Other } else { ErrorKind::StorageFull };
                    self.disk.fail(call, random.u64(1..=soon), kind);
                }
                false
            }
        }
    }

    /// What happens to the disk when a life is over.
    fn leave(&mut self, ending: Ending) {
        self.model.crashed();
        note!(self.trace, "ends: {ending:?}");
        // A process that has stopped is followed by a power cut as often as not.
        let cut = ending == Ending::PowerCut || ending == Ending::Clean && self.random.bool();
        match ending {
            Ending::Clean => self.model.counts.clean_ends += 1,
            Ending::Kill => self.model.counts.kills += 1,
            Ending::PowerCut => self.model.counts.power_cuts += 1,
        }
        if cut {
            self.disk.cut_power();
        } else {
            self.disk.kill();
        }
        let answered = self.model.counts.accepted > self.accepted;
        self.accepted = self.model.counts.accepted;
        if self.damaging && answered && self.random.bool() {
            self.flip();
        }
    }

    /// Flips one bit of what must not have been forgotten, after a life that has answered yes. Not in the newest segment that
    /// durably holds a batch, nor behind it: a last batch that is not whole is taken for one that nobody was promised.
    fn flip(&mut self) {
        let dir = Path::new(DIR);
        let mut files = self.disk.files();
        // The shelf's own tests flip bits there: what it misses, it does not count as damage.
        let elsewhere = [dir.join("quarantine"), dir.join("shelf")];
        let in_log = |path: &PathBuf| path.starts_with(dir) && !elsewhere.iter().any(|dir| path.starts_with(dir));
        files.retain(|(path, length)| *length > 0 && in_log(path));
        let in_segments = |path: &PathBuf| path.starts_with(dir.join("segments"));
        let holds = |path: &PathBuf| storage::begins_with_a_batch(path, &self.disk.durable(path));
        let last = files.iter().rev().map(|(path, _)| path).find(|path| in_segments(path) && holds(path)).cloned();
        files.retain(|(path, _)| !in_segments(path) || last.as_ref().is_some_and(|last| path < last));
        if let Some((path, length)) = self.random.choice(files) {
            // One of a segment's two headers stays: without both, all of its records go at once.
            let (at, bit) = (self.random.usize(..length), self.random.u8(..8));
            if in_segments(&path) && (512..576).contains(&at) {
                return;
            }
            note!(self.trace, "bit {bit} of byte {at} of {} flips", path.display());
            self.disk.flip(&path, at, bit);
            self.model.tolerance += 1;
            self.model.counts.flips += 1;
        }
    }
}

/// A life of some operations; returns how it ended.
async fn some_life(mut life: Life<'_, '_>, operations: u64, ending: Ending) -> Result<Ending, String> {
    for _ in 0..operations {
        if !life.has_power() {
            return Ok(life.either());
        }
        if life.is_poisoned() {
            life.prod_the_dead().await?;
            return Ok(life.either());
        }
        life.operate().await?;
    }
    if ending == Ending::Clean && life.has_power() && !life.is_poisoned() {
        life.end().await?;
        return Ok(Ending::Clean);
    }
    Ok(if life.has_power() { ending } else { Ending::PowerCut })
}

/// One seed, whatever happens in it.
fn run(seed: u64, sabotage: Sabotage, metrics: &Arc<Metrics>, trace: Trace) -> Result<(Counts, Option<u64>), String> {
    let whole = || {
        let mut run = Run::new(seed, sabotage, metrics.clone(), trace);
        run.whole(OPERATIONS)?;
        Ok((run.model.counts, run.trace.sum()))
    };
    catch_unwind(AssertUnwindSafe(whole)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}
