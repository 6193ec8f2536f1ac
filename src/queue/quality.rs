//! How well carriers bring what they take: the share that arrives, and how long receipts take. Pure; in memory.
//!
//! **Promises.** What was seen counts half after [`HALF_LIFE`], so that what a carrier does today outweighs yesterday. Who has
//! brought too few receipts to tell is neither preferred for that nor passed over.
//!
//! **Does not know** which carriers there are: it has heard of those of which receipts came, or did not come in time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;

/// After this long what was seen counts half.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Texts by which a carrier is judged at least.
const VOLUME_MIN: f64 = 30.0;
/// Shares that differ by less are the same: a fiftieth.
const STEPS: f64 = 50.0;
/// Times of receipts are told apart by doublings from this on.
const SHORTEST: Duration = Duration::from_millis(500);
/// So many of them: up to some days.
const BUCKETS: usize = 20;

/// All carriers.
#[derive(Debug, Default)]
pub(super) struct Qualities(HashMap<Arc<str>, Seen>);

#[derive(Clone, Debug, Default)]
struct Seen {
    arrived: f64,
    lost: f64,
    times: [f64; BUCKETS],
    faded: Mono,
}

/// How well a carrier brings what it takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quality {
    /// The share that arrives, 0 to 1.
    pub arrives: f64,
    /// Of 20 receipts 19 come within this; `None` while none has come.
    pub within: Option<Duration>,
}

impl Seen {
    fn fade(&mut self, now: Mono) {
        let kept = 0.5_f64.powf(now.since(self.faded).as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.faded = now;
        [&mut self.arrived, &mut self.lost].into_iter().chain(&mut self.times).for_each(|sum| *sum *= kept);
    }

    fn volume(&self) -> f64 {
        self.arrived + self.lost
    }

    fn quality(&self) -> Option<Quality> {
        let enough = self.volume() >= VOLUME_MIN;
        enough.then(|| Quality { arrives: self.arrived / self.volume(), within: self.bucket().map(end_of) })
    }

    /// The doubling within which 19 of 20 receipts come.
    fn bucket(&self) -> Option<usize> {
        let all: f64 = self.times.iter().sum();
        let mut sum = 0.0;
        let within = self.times.iter().position(|count| {
            sum += count;
            sum >= 0.95 * all
        });
        within.filter(|_| all > 0.0)
    }
}

fn bucket_of(time: Duration) -> usize {
    (0..BUCKETS).find(|bucket| time <= end_of(*bucket)).unwrap_or(BUCKETS - 1)
}

fn end_of(bucket: usize) -> Duration {
    SHORTEST.saturating_mul(1 << bucket.min(BUCKETS))
}

impl Qualities {
    /// A carrier's receipts for a text have come, so long after it was taken, where that is known.
    pub(super) fn note(&mut self, carrier: &Arc<str>, arrived: bool, after: Option<Duration>, now: Mono) {
        let seen = self.0.entry(carrier.clone()).or_insert_with(|| Seen { faded: now, ..Seen::default() });
        seen.fade(now);
        if arrived {
            seen.arrived += 1.0;
        } else {
            seen.lost += 1.0;
        }
        if let Some(after) = after {
            seen.times[bucket_of(after)] += 1.0;
        }
    }

    /// How well a carrier does, if that can be told.
    pub(super) fn of(&self, carrier: &str) -> Option<Quality> {
        self.0.get(carrier)?.quality()
    }

    /// The place of the carrier that does best: by the share that arrives, then by how soon, then by their order.
    pub(super) fn best(&self, carriers: &[Arc<str>]) -> Option<usize> {
        let ranks: Vec<Option<(u64, usize)>> = carriers.iter().map(|carrier| self.rank(carrier)).collect();
        let share = ranks.iter().flatten().map(|(share, _)| *share).max().unwrap_or_default();
        let soonest = ranks.iter().flatten().map(|(_, bucket)| *bucket).min().unwrap_or_default();
        // Of whom nothing is known the best is believed.
        let believed = ranks.into_iter().map(|rank| rank.unwrap_or((share, soonest))).enumerate();
        believed.max_by_key(|(at, (share, bucket))| (*share, std::cmp::Reverse((*bucket, *at)))).map(|(at, _)| at)
    }

    fn rank(&self, carrier: &str) -> Option<(u64, usize)> {
        let seen = self.0.get(carrier)?;
        let quality = seen.quality()?;
        Some(((quality.arrives * STEPS).round() as u64, seen.bucket().unwrap_or(BUCKETS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(seconds))
    }

    fn note(qualities: &mut Qualities, carrier: &str, arrived: usize, lost: usize, after: u64, now: Mono) {
        for n in 0..arrived + lost {
            qualities.note(&carrier.into(), n < arrived, Some(Duration::from_secs(after)), now);
        }
    }

    #[test]
    fn the_share_that_arrives_decides_then_how_soon_then_the_order() {
        let names = ["a", "b", "c"].map(Arc::<str>::from);
        let mut qualities = Qualities::default();
        assert_eq!((qualities.best(&names), qualities.best(&[])), (Some(0), None));
        note(&mut qualities, "a", 95, 5, 3, at(0));
        assert_eq!(qualities.best(&names), Some(0), "nothing is known of the others");
        note(&mut qualities, "b", 99, 1, 3, at(0));
        assert_eq!(qualities.best(&names), Some(1));
        note(&mut qualities, "c", 99, 1, 1, at(0));
        assert_eq!(qualities.best(&names), Some(2), "as many arrive, and sooner");
        note(&mut qualities, "b", 0, 29, 3, at(0));
        assert_eq!(qualities.best(&names[..2]), Some(0));
    }

    #[test]
    fn too_few_say_nothing_and_the_past_fades() {
        let mut qualities = Qualities::default();
        note(&mut qualities, "a", 20, 9, 3, at(0));
        assert_eq!(qualities.of("a"), None);
        note(&mut qualities, "a", 1, 0, 3, at(0));
        let quality = qualities.of("a").unwrap();
        assert!((quality.arrives - 0.7).abs() < 1e-9, "{quality:?}");
        assert_eq!(quality.within, Some(Duration::from_secs(4)));
        // Six half lives later the old ones weigh next to nothing.
        note(&mut qualities, "a", 100, 0, 1, at(3_600));
        assert!(qualities.of("a").unwrap().arrives > 0.99);
        assert_eq!(qualities.of("a").unwrap().within, Some(Duration::from_secs(1)));
    }
}
