//! How many texts are too many: for a number, for a range of numbers, for a client, and for a client to numbers that begin so.
//!
//! **Promises.** A window slides: at no time have more been counted in the span before it than a cap allows. What is taken
//! back ([`Counted`] dropped) counts no more. Memory is bounded: what falls out of every window is forgotten, and above the
//! bound nothing new is remembered, which is told to whoever asks.
//!
//! **Does not know** the time. What was counted in the seconds before a crash may not be known after it ([`CountFiles`]).

mod kept;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::kept::CountFiles;
use self::kept::{Row, Salt, fresh_salt};
use crate::clock::Timestamp;
use crate::model::{Class, ClientName, Number, Rate};
use crate::storage::shelf::key_of;

/// So many in such spans, for texts of some classes to numbers that begin so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cap {
    /// First digits of the numbers, with the `+`.
    pub prefixes: Vec<String>,
    /// Classes; none for all.
    pub classes: Vec<Class>,
    /// What is counted together.
    pub per: Per,
    /// How many in which spans, each of which counts. Never empty.
    pub limits: Vec<Rate>,
}

/// What a cap counts together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Per {
    /// Texts of a class to a number under a signature.
    Number,
    /// A client's texts of a class to numbers whose first digits, so many of them, are the same.
    Digits(u8),
    /// A client's texts of a class.
    Client,
}

/// So many of a client's texts to numbers that begin so, of all classes together: numbers in some countries pay whoever has them texted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Velocity {
    /// First digits, with the `+`.
    pub prefix: String,
    /// How many in which span.
    pub most: Rate,
}

/// The rule that a number, a range or a client has had enough.
const CAP_RULE: &str = "frequency-cap";
/// The rule that numbers that begin so have had enough of a client.
const VELOCITY_RULE: &str = "velocity-cap";

/// What is to be sent to whom.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Whose it is.
    pub client: &'a ClientName,
    /// To whom.
    pub to: &'a Number,
    /// Its class.
    pub class: Class,
    /// Its signature, or the sender that it shows; empty without one.
    pub signature: &'a str,
    /// What its client has beside the caps of everybody; of several the longest beginning holds, and all that are for the same.
    pub velocity: &'a [Velocity],
}

/// There have been enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capped {
    /// The rule that is against it.
    pub rule: &'static str,
    /// What says so, such as `5/h for a number`.
    pub limit: String,
    /// When one more may be sent.
    pub until: Timestamp,
}

/// What has been counted, of everybody.
#[derive(Clone, Debug)]
pub struct Caps(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// When texts that are counted together were sent, in seconds since the epoch, oldest first.
    sent: HashMap<u64, Vec<u32>>,
    salt: Salt,
    /// What is to be written down, if anything is.
    unwritten: Vec<Row>,
    kept: bool,
    remembered_max: usize,
    /// When what has fallen out of every window was last swept away.
    swept: u32,
}

/// A text that has been counted; dropped without [`Counted::keep`], it is taken back.
#[derive(Debug)]
pub struct Counted {
    caps: Caps,
    at: u32,
    keys: Vec<u64>,
}

/// Sweeps follow each other no sooner, in seconds.
const SWEEP_EVERY: u32 = 60;
/// No window is longer, in seconds.
const WINDOW_MAX: u32 = 86_400;

impl Cap {
    /// How much of a number it names, if it is for such texts.
    fn rank(&self, text: &Text<'_>) -> Option<usize> {
        let takes = self.classes.is_empty() || self.classes.contains(&text.class);
        text.to.longest_beginning(&self.prefixes).filter(|_| takes)
    }

    fn words(&self, limit: Rate) -> String {
        match self.per {
            Per::Number => format!("{limit} to a number"),
            Per::Digits(digits) => format!("{limit} to numbers with the same {digits} digits"),
            Per::Client => format!("{limit} of a client"),
        }
    }
}

impl Caps {
    /// Nothing counted yet; remembers at most so many numbers, ranges and clients.
    pub fn new(remembered_max: usize) -> Self {
        let (sent, salt, unwritten) = (HashMap::new(), fresh_salt(), Vec::new());
        Self(Arc::new(Mutex::new(State { sent, salt, unwritten, kept: false, remembered_max, swept: 0 })))
    }

    /// Counts a text, if no cap is against it.
    ///
    /// # Errors
    /// The limit that is reached for longest; then nothing has been counted.
    pub fn count(&self, caps: &[Cap], text: &Text<'_>, now: Timestamp) -> Result<Counted, Capped> {
        let now = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        let mut state = self.0.lock();
        let (mut keys, mut reached) = (Vec::new(), None::<(u32, &'static str, String)>);
        for cap in in_force(caps, text) {
            let key = state.key(cap.per, text);
            let sent = state.sent.get(&key).map_or(&[][..], Vec::as_slice);
            for &limit in &cap.limits {
                let until = open_again(sent, limit, now);
                if let Some(until) = until.filter(|u| reached.as_ref().is_none_or(|(known, ..)| u > known)) {
                    reached = Some((until, CAP_RULE, cap.words(limit)));
                }
            }
            keys.push(key);
        }
        for velocity in velocities(text) {
            let key = key_of(&[&state.salt, b"velocity", velocity.prefix.as_bytes(), text.client.as_bytes()]);
            let sent = state.sent.get(&key).map_or(&[][..], Vec::as_slice);
            let until = open_again(sent, velocity.most, now);
            if let Some(until) = until.filter(|u| reached.as_ref().is_none_or(|(known, ..)| u > known)) {
                let words = format!("{} to numbers that begin {}", velocity.most, velocity.prefix);
                reached = Some((until, VELOCITY_RULE, words));
            }
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if let Some((until, rule, limit)) = reached {
            return Err(Capped { rule, limit, until: Timestamp::from_seconds(u64::from(until)) });
        }
        keys.retain(|key| state.note(*key, now));
        Ok(Counted { caps: self.clone(), at: now, keys })
    }

    /// How many numbers, ranges and clients are remembered.
    pub fn remembered(&self) -> usize {
        self.0.lock().sent.len()
    }
}

/// The caps that hold for a text: of each kind the one that names most of the number, of equals the first.
fn in_force<'c>(caps: &'c [Cap], text: &Text<'_>) -> Vec<&'c Cap> {
    let mut held: Vec<(usize, &Cap)> = Vec::new();
    for cap in caps {
        let Some(rank) = cap.rank(text) else { continue };
        match held.iter_mut().find(|(_, known)| known.per == cap.per) {
            Some(known) if known.0 < rank => *known = (rank, cap),
            Some(_) => {}
            None => held.push((rank, cap)),
        }
    }
    held.into_iter().map(|(_, cap)| cap).collect()
}

/// What a client has for numbers that begin so.
fn velocities<'a>(text: &Text<'a>) -> impl Iterator<Item = &'a Velocity> {
    let (to, all) = (text.to.as_str(), text.velocity);
    let fitting = move || all.iter().filter(move |velocity| to.starts_with(&velocity.prefix));
    let longest = fitting().map(|velocity| velocity.prefix.len()).max();
    fitting().filter(move |velocity| Some(velocity.prefix.len()) == longest)
}

/// When a limit allows one more; `None` if it does now.
fn open_again(sent: &[u32], limit: Rate, now: u32) -> Option<u32> {
    let span = u32::try_from(limit.per.as_secs()).unwrap_or(WINDOW_MAX);
    let within = sent.len() - sent.partition_point(|at| at.saturating_add(span) <= now);
    let count = usize::try_from(limit.count).unwrap_or(usize::MAX);
    // One more may go when so few are left that it is the last of those allowed.
    (within >= count).then(|| sent[sent.len() - count].saturating_add(span))
}

impl State {
    fn key(&self, per: Per, text: &Text<'_>) -> u64 {
        let (number, client, class) = (text.to.as_str(), text.client.as_bytes(), text.class.as_str().as_bytes());
        match per {
            Per::Number => key_of(&[&self.salt, b"number", class, number.as_bytes(), text.signature.as_bytes()]),
            Per::Digits(digits) => {
                let digits = number.get(..usize::from(digits) + 1).unwrap_or(number);
                key_of(&[&self.salt, b"digits", class, digits.as_bytes(), client])
            }
            Per::Client => key_of(&[&self.salt, b"client", class, client]),
        }
    }

    /// False if there is no room to remember it.
    fn note(&mut self, key: u64, now: u32) -> bool {
        if self.sent.len() >= self.remembered_max && !self.sent.contains_key(&key) {
            self.sweep(now);
            if self.sent.len() >= self.remembered_max {
                return false;
            }
        }
        let sent = self.sent.entry(key).or_default();
        let gone = sent.partition_point(|at| at.saturating_add(WINDOW_MAX) <= now);
        sent.drain(..gone);
        // Clocks may be set back: the row stays in order all the same.
        let at = sent.partition_point(|at| *at <= now);
        sent.insert(at, now);
        true
    }

    fn sweep(&mut self, now: u32) {
        if now.saturating_sub(self.swept) < SWEEP_EVERY && now >= self.swept {
            return;
        }
        self.swept = now;
        self.sent.retain(|_, sent| sent.last().is_some_and(|at| at.saturating_add(WINDOW_MAX) > now));
    }
}

impl Counted {
    /// It is being sent: it counts.
    pub fn keep(mut self) {
        let at = self.at;
        let rows: Vec<Row> = self.keys.drain(..).map(|key| (key, at)).collect();
        self.caps.0.lock().remember(&rows);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.caps.0.lock();
        for key in &self.keys {
            let Some(sent) = state.sent.get_mut(key) else { continue };
            if let Ok(at) = sent.binary_search(&self.at) {
                sent.remove(at);
            }
            if sent.is_empty() {
                state.sent.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits(limits: &[(u32, u64)]) -> Vec<Rate> {
        limits.iter().map(|&(count, seconds)| Rate { count, per: Duration::from_secs(seconds) }).collect()
    }

    pub(super) fn cap(prefix: &str, per: Per, of: &[(u32, u64)]) -> Cap {
        Cap { prefixes: vec![prefix.to_owned()], classes: vec![Class::Otp], per, limits: limits(of) }
    }

    /// Counts a code to a number; when to come back if there have been enough.
    pub(super) fn send(
        caps: &Caps,
        rules: &[Cap],
        number: &str,
        signature: &str,
        at: u64,
    ) -> Result<(), (String, u64)> {
        let (client, to) = (ClientName::from("shop"), Number::parse(number).unwrap());
        let text = Text { client: &client, to: &to, class: Class::Otp, signature, velocity: &[] };
        let counted = caps.count(rules, &text, Timestamp::from_seconds(at));
        counted.map(Counted::keep).map_err(|capped| (capped.limit, capped.until.seconds()))
    }

    pub(super) const ONE: &str = "+8613800138000";

    #[test]
    fn the_usual_caps_of_codes_slide() {
        let (caps, rules) = (Caps::new(100), [cap("+86", Per::Number, &[(1, 60), (5, 3_600), (10, 86_400)])]);
        assert_eq!(send(&caps, &rules, ONE, "a", 1_000), Ok(()));
        assert_eq!(send(&caps, &rules, ONE, "a", 1_059), Err(("1/m to a number".to_owned(), 1_060)));
        assert_eq!(send(&caps, &rules, ONE, "b", 1_059), Ok(()), "another signature");
        assert_eq!(send(&caps, &rules, "+8613800138001", "a", 1_059), Ok(()), "another number");
        assert_eq!(send(&caps, &rules, "+14155550100", "a", 1_059), Ok(()), "no cap is for it");
        for n in 1..5 {
            assert_eq!(send(&caps, &rules, ONE, "a", 1_000 + 60 * n), Ok(()));
        }
        assert_eq!(send(&caps, &rules, ONE, "a", 1_300), Err(("5/h to a number".to_owned(), 4_600)));
        for n in 0..5 {
            assert_eq!(send(&caps, &rules, ONE, "a", 4_840 + 60 * n), Ok(()));
        }
        assert_eq!(send(&caps, &rules, ONE, "a", 9_000), Err(("10/d to a number".to_owned(), 87_400)));
        assert_eq!(send(&caps, &rules, ONE, "a", 87_400), Ok(()));
    }

    #[test]
    fn a_range_and_a_client_have_caps_of_their_own_and_all_count() {
        let rules = [cap("+", Per::Digits(4), &[(2, 60)]), cap("+", Per::Client, &[(3, 60)])];
        let caps = Caps::new(100);
        assert_eq!(send(&caps, &rules, "+96170000001", "", 10), Ok(()));
        assert_eq!(send(&caps, &rules, "+96170000002", "", 11), Ok(()));
        assert_eq!(
            send(&caps, &rules, "+96170000003", "", 12),
            Err(("2/m to numbers with the same 4 digits".to_owned(), 70))
        );
        assert_eq!(send(&caps, &rules, ONE, "", 13), Ok(()));
        assert_eq!(send(&caps, &rules, "+14155550100", "", 14), Err(("3/m of a client".to_owned(), 70)));
    }

    #[test]
    fn of_two_caps_for_the_same_the_one_that_names_more_of_the_number_holds() {
        let rules = [cap("+", Per::Number, &[(1, 60)]), cap("+86138", Per::Number, &[(2, 60)])];
        let caps = Caps::new(100);
        assert_eq!((send(&caps, &rules, ONE, "", 10), send(&caps, &rules, ONE, "", 10)), (Ok(()), Ok(())));
        assert!(send(&caps, &rules, ONE, "", 10).is_err());
    }

    #[test]
    fn a_client_has_so_many_texts_to_numbers_that_begin_so() {
        let caps = Caps::new(100);
        let velocity =
            |prefix: &str, count, seconds| Velocity { prefix: prefix.to_owned(), most: limits(&[(count, seconds)])[0] };
        let all = [velocity("+", 9, 60), velocity("+371", 2, 60), velocity("+371", 3, 3_600)];
        let send = |client: &str, class, number: &str, at| {
            let (client, to) = (ClientName::from(client), Number::parse(number).unwrap());
            let text = Text { client: &client, to: &to, class, signature: "", velocity: &all };
            let counted = caps.count(&[], &text, Timestamp::from_seconds(at));
            counted.map(Counted::keep).map_err(|capped| (capped.rule, capped.limit, capped.until.seconds()))
        };
        assert_eq!(send("shop", Class::Otp, "+37120000001", 10), Ok(()));
        assert_eq!(send("shop", Class::Marketing, "+37120000002", 11), Ok(()), "classes count together");
        let reached = |limit: &str, until| Err((VELOCITY_RULE, format!("{limit} to numbers that begin +371"), until));
        assert_eq!(send("shop", Class::Otp, "+37120000003", 12), reached("2/m", 70));
        assert_eq!(send("other", Class::Otp, "+37120000003", 12), Ok(()), "another client");
        assert_eq!(send("shop", Class::Otp, "+37220000003", 12), Ok(()), "other numbers");
        assert_eq!(send("shop", Class::Otp, "+37120000003", 71), Ok(()));
        assert_eq!(send("shop", Class::Otp, "+37120000003", 140), reached("3/h", 3_610));
    }

    #[test]
    fn what_was_taken_back_does_not_count() {
        let (caps, rules) = (Caps::new(100), [cap("+", Per::Number, &[(1, 60)])]);
        let (client, to) = (ClientName::from("shop"), Number::parse(ONE).unwrap());
        let text = Text { client: &client, to: &to, class: Class::Otp, signature: "", velocity: &[] };
        for _ in 0..3 {
            drop(caps.count(&rules, &text, Timestamp::from_seconds(10)).unwrap());
        }
        assert_eq!(caps.remembered(), 0);
        assert_eq!(send(&caps, &rules, ONE, "", 10), Ok(()));
        assert!(send(&caps, &rules, ONE, "", 10).is_err());
    }

    #[test]
    fn memory_is_bounded_and_what_is_old_makes_room() {
        let (caps, rules) = (Caps::new(10), [cap("+", Per::Number, &[(1, 60)])]);
        for n in 0..20 {
            assert_eq!(send(&caps, &rules, &format!("+86138{n:08}"), "", 100), Ok(()));
        }
        assert_eq!(caps.remembered(), 10);
        assert!(send(&caps, &rules, "+8613800000000", "", 101).is_err(), "who is known stays known");
        assert_eq!(send(&caps, &rules, "+8613900000000", "", 100 + 86_400), Ok(()));
        assert_eq!(caps.remembered(), 1);
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_allowed(steps in proptest::collection::vec(0_u64..40, 1..200)) {
            let (caps, rules) = (Caps::new(10), [cap("+", Per::Number, &[(3, 60)])]);
            let (mut now, mut went) = (1_000, Vec::new());
            for step in steps {
                now += step;
                match send(&caps, &rules, ONE, "", now) {
                    Ok(()) => went.push(now),
                    Err((_, until)) => {
                        prop_assert!(until > now && went.iter().filter(|at| **at + 60 > until).count() < 3);
                    }
                }
                prop_assert!(went.iter().filter(|at| **at + 60 > now).count() <= 3);
            }
        }
    }
}
