//! One quantity that is turned up while answers are good, and down at the first refusal.
//!
//! **What.** A number between two bounds. Nothing is known at first: it doubles in [`DOUBLING`]. Refused, it is halved, and
//! the level at which that happened becomes the *ceiling*. From below it is approached fast, then slowly, and [`REST`] of it
//! is where the dial stays. After a while it goes on, gently: refused there again, it goes down less and waits twice as long
//! before the next try; not refused, it leaves the old ceiling behind, ever faster.
//!
//! **Does not know** what it counts, nor who refuses.

use std::time::Duration;

use super::learnt::Level;
use crate::clock::Mono;

/// While no ceiling is known, the level doubles in this time.
const DOUBLING: f64 = 60.0;
/// The share of the ceiling at which the dial rests.
const REST: f64 = 0.95;
/// How much of the way to the ceiling is made up in a second.
const EAGER: f64 = 0.05;
/// And after a suspension: half of it in two and a half minutes.
const CAREFUL: f64 = 0.0045;
/// What is added in a second on the way past a ceiling, as a share of it.
const GENTLE: f64 = 0.001;
/// Refused at a ceiling that was known, it goes down to this share.
const BELOW_KNOWN: f64 = 0.8;
/// This far above a ceiling it is forgotten.
const LEFT_BEHIND: f64 = 1.5;
/// How long the dial rests before it tries to pass a ceiling, at first and at most.
const PATIENCE: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(1_920)];
/// Time between two good answers for which the level grows, at most: what is hardly used has proven little.
const CREDIT_MAX: Duration = Duration::from_secs(5);

/// Where a dial starts and how far it may go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Where it starts.
    pub start: f64,
    /// It does not go below by itself.
    pub least: f64,
    /// Nor above.
    pub most: f64,
}

/// The dial.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    level: f64,
    bounds: Bounds,
    /// Below the lower bound, if what was in use is lower still.
    floor: f64,
    ceiling: Option<f64>,
    /// The level after the last refusal.
    low: f64,
    /// The last good answer that counted.
    moved: Mono,
    /// It rests until then.
    rests_until: Mono,
    patience: Duration,
    /// It comes back from a suspension.
    careful: bool,
}

impl Dial {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            level: bounds.start,
            bounds,
            floor: f64::INFINITY,
            ceiling: None,
            low: 0.0,
            moved: Mono(0),
            rests_until: Mono(0),
            patience: PATIENCE[0],
            careful: false,
        }
    }

    pub(super) fn level(&self) -> f64 {
        self.level
    }

    pub(super) fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// What has been found out.
    pub(super) fn learnt(&self) -> Level {
        let is_known = self.ceiling.is_some() || self.level != self.bounds.start;
        Level { at: Some(self.level).filter(|level| is_known && level.is_finite()), ceiling: self.ceiling }
    }

    /// Begins where another has ended, within its bounds. A ceiling is approached carefully: it may have come down since.
    pub(super) fn recall(&mut self, learnt: Level, now: Mono) {
        let positive = |n: f64| n.is_finite() && n > 0.0;
        self.ceiling = learnt.ceiling.filter(|ceiling| positive(*ceiling));
        if let Some(level) = learnt.at.filter(|level| positive(*level)) {
            self.floor = self.floor.min(level);
            self.level = level.min(self.bounds.most);
        }
        (self.low, self.moved, self.careful) = (0.0, now, self.ceiling.is_some_and(|c| self.level < REST * c));
        self.rests_until = now.plus(self.patience);
    }

    /// Other bounds. A ceiling that has been met is kept; without one the level is what it would have become.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        if self.ceiling.is_none() {
            let scaled = self.level / self.bounds.start * bounds.start;
            self.level = if scaled.is_finite() { scaled } else { bounds.start };
        }
        self.bounds = bounds;
        self.level = self.level.clamp(self.least(), bounds.most.max(self.least()));
    }

    /// Less than the lower bound has been in use, and even that was refused: the bound was too high.
    pub(super) fn lower_bound(&mut self, least: f64) {
        self.floor = self.floor.min(least);
    }

    fn least(&self) -> f64 {
        self.bounds.least.min(self.floor)
    }

    /// All of it is in use, and an answer was good.
    pub(super) fn turn_up(&mut self, now: Mono) {
        let seconds = now.since(self.moved).min(CREDIT_MAX).as_secs_f64();
        self.moved = now;
        let level = match self.ceiling {
            None => self.level * (seconds / DOUBLING).exp2(),
            Some(ceiling) if self.level < REST * ceiling => {
                let eager = if self.careful { CAREFUL } else { EAGER };
                let made_up = (ceiling - self.level) * -f64::exp_m1(-seconds * eager);
                (self.level + made_up).min(REST * ceiling)
            }
            Some(_) if now < self.rests_until => self.level,
            Some(ceiling) => {
                let above = (self.level / ceiling - 1.0).max(0.0);
                self.level + ceiling * seconds * (GENTLE + EAGER * above)
            }
        };
        self.level = level.clamp(self.least(), self.bounds.most.max(self.least()));
        if self.careful && self.ceiling.is_some_and(|ceiling| self.level >= REST * ceiling) {
            self.careful = false;
            self.rests_until = now.plus(self.patience);
        }
        if self.ceiling.is_some_and(|ceiling| self.level > LEFT_BEHIND * ceiling) {
            self.ceiling = None;
            self.patience = PATIENCE[0];
        }
    }

    /// Refused, with so much in use. False if it has not come up since it was refused last: going down does not help.
    pub(super) fn turn_down(&mut self, in_use: f64, now: Mono) -> bool {
        let level = self.level.min(in_use).max(self.least());
        let helped = level > 1.2 * self.low;
        let again = self.ceiling.is_some_and(|ceiling| level > 0.9 * ceiling && level < 1.1 * ceiling);
        self.patience = if again { (2 * self.patience).min(PATIENCE[1]) } else { PATIENCE[0] };
        self.rests_until = now.plus(self.patience);
        self.ceiling = Some(level);
        // Where the ceiling is known, it is enough to go well below.
        let share = if again { BELOW_KNOWN } else { 0.5 };
        self.level = (level * share).max(self.least());
        (self.low, self.moved, self.careful) = (self.level, now, false);
        helped
    }

    /// Down to the lower bound, to come back carefully.
    pub(super) fn retreat(&mut self, in_use: f64, now: Mono) {
        if !self.careful {
            self.ceiling = Some(self.level.min(in_use.max(self.least())));
        }
        self.level = self.least();
        (self.low, self.moved, self.careful) = (self.level, now, true);
        self.rests_until = now.plus(self.patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000)
    }

    fn dial() -> Dial {
        Dial::new(Bounds { start: 10.0, least: 2.5, most: 50.0 })
    }

    /// Good answers every second; the level at the end.
    fn well(dial: &mut Dial, from: u64, to: u64) -> f64 {
        (from..to).for_each(|second| dial.turn_up(at(second)));
        dial.level()
    }

    #[test]
    fn it_doubles_in_a_minute_up_to_its_bound() {
        let mut dial = dial();
        dial.turn_up(at(0));
        assert!((19.0..21.0).contains(&well(&mut dial, 1, 61)));
        assert_eq!(well(&mut dial, 61, 600), 50.0);
    }

    #[test]
    fn refused_it_halves_comes_back_below_and_waits_longer_each_time() {
        let mut dial = dial();
        assert!(dial.turn_down(10.0, at(100)));
        assert_eq!(dial.level(), 5.0);
        assert!((8.5..9.5).contains(&well(&mut dial, 101, 135)), "{dial:?}");
        assert_eq!(well(&mut dial, 135, 219), 9.5);
        // Past the ceiling, gently; refused there again, it is twice as patient.
        let mut now = 219;
        while dial.level() <= 10.0 {
            dial.turn_up(at(now));
            now += 1;
        }
        assert!((260..280).contains(&now), "{now}");
        assert!(dial.turn_down(10.5, at(now)));
        assert_eq!(well(&mut dial, now + 1, now + 239), REST * dial.ceiling().unwrap());
        // Not refused any more, the old ceiling is left behind.
        well(&mut dial, now + 239, now + 700);
        assert_eq!(dial.ceiling(), None);
    }

    #[test]
    fn going_down_in_vain_is_noticed_and_bounded() {
        let mut dial = dial();
        assert!(dial.turn_down(10.0, at(1)));
        assert!(!dial.turn_down(10.0, at(2)));
        assert!(!dial.turn_down(10.0, at(3)));
        assert_eq!(dial.level(), 2.5);
    }

    #[test]
    fn what_comes_back_from_a_suspension_takes_its_time() {
        let mut dial = dial();
        dial.retreat(10.0, at(0));
        dial.retreat(10.0, at(3_600));
        assert_eq!((dial.level(), dial.ceiling()), (2.5, Some(10.0)));
        let after_a_minute = well(&mut dial, 3_601, 3_661);
        assert!((4.0..5.0).contains(&after_a_minute), "{after_a_minute}");
        let after_five = well(&mut dial, 3_661, 3_901);
        assert!((7.5..8.5).contains(&after_five), "{after_five}");
        assert_eq!(well(&mut dial, 3_901, 4_300), 9.5);
    }

    #[test]
    fn what_was_learnt_is_begun_with() {
        assert_eq!(dial().learnt(), Level::default());
        let mut met = dial();
        met.turn_down(10.0, at(100));
        well(&mut met, 101, 219);
        assert_eq!(met.learnt(), Level { at: Some(9.5), ceiling: Some(10.0) });
        let mut again = dial();
        again.recall(met.learnt(), at(1_000));
        assert_eq!((again.learnt(), again.level()), (met.learnt(), 9.5));
        assert_eq!(well(&mut again, 1_001, 1_100), 9.5, "it rests there at first");
        // Other bounds hold at once; what cannot be is not believed.
        let mut narrow = Dial::new(Bounds { start: 4.0, least: 1.0, most: 6.0 });
        narrow.recall(met.learnt(), at(1_000));
        assert_eq!(narrow.level(), 6.0);
        narrow.recall(Level { at: Some(-3.0), ceiling: Some(f64::NAN) }, at(1_000));
        assert_eq!((narrow.level(), narrow.ceiling()), (6.0, None));
        // Below the lower bound it may have been, and stays.
        let mut low = dial();
        low.recall(Level { at: Some(0.5), ceiling: Some(1.0) }, at(1_000));
        assert_eq!(low.level(), 0.5);
    }

    #[test]
    fn what_is_hardly_used_hardly_grows() {
        let mut dial = dial();
        (1..=10).for_each(|hour| dial.turn_up(at(hour * 3_600)));
        assert!(dial.level() < 18.0);
    }
}
