//! What a link that is bound keeps count of, whatever is spoken on it: unanswered submissions, sequence numbers, signs of life,
//! answers to nothing.
//!
//! **Promises.** Never more than `window` submissions are unanswered, those whose answer is overdue included: a slot is free
//! again only when the other side has answered, however late. Sequence numbers run from 1 to 0x7FFFFFFF (P34 section 5.1.4;
//! some gateways count in signed integers) and none is used twice at a time. An answer with a sequence number that we did not
//! send completes nothing.
//!
//! **Does not know** PDUs, sockets or clocks: time is an argument; [`LinkState::wakeup`] says when [`LinkState::tick`] wants to
//! be called.
//!
//! **Fails how.** [`Broken`] ends the link.

use std::time::Duration;

use super::window::Window;
use crate::clock::Mono;

/// Highest sequence number.
pub(in crate::wire) const SEQUENCE_MAX: u32 = 0x7FFF_FFFF;

/// Answers to nothing that a link may bring before it is given up as broken.
pub(in crate::wire) const STRAYS_MAX: u32 = 1_000;

/// What a link is allowed and how patient it is; the defaults are those of the gateways' protocols (C3 section 7.1, M3 section
/// 4.2).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most submissions unanswered at a time; 0 on a link that only receives. The standards' W.
    pub window: usize,
    /// A link on which nothing was heard for so long is asked whether it lives. The standards' C.
    pub active_test_interval: Duration,
    /// How long an answer may take. The standards' T.
    pub response_timeout: Duration,
    /// How often a silent link is asked before it is given up; at least 1. The standards' N.
    pub active_tests_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 16,
            active_test_interval: Duration::from_secs(180),
            response_timeout: Duration::from_secs(60),
            active_tests_max: 3,
        }
    }
}

/// The window is full: an answer must come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowFull;

/// Why a link cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::wire) enum Broken {
    /// Nothing was heard, not even that the other side lives.
    Silent,
    /// It lives, and answers no submission.
    AnswersMissing,
    /// Too many answers to nothing we sent.
    Strays,
}

/// What passing time brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::wire) struct Tick {
    /// The other side is to be asked whether it lives, under this sequence number.
    pub(in crate::wire) ask: Option<u32>,
    /// Submissions whose answers are overdue now.
    pub(in crate::wire) overdue: Vec<u32>,
}

/// The state of a link that is bound.
#[derive(Debug)]
pub(in crate::wire) struct LinkState {
    settings: Settings,
    window: Window,
    pub(in crate::wire) last_sequence: u32,
    /// When something was heard last.
    heard: Mono,
    /// When the other side was asked without having spoken since, and how often.
    asked: Option<(Mono, u32)>,
    strays: u32,
}

impl LinkState {
    /// Of a link that was bound just now; sequence number 1 was the login.
    pub(in crate::wire) fn new(settings: Settings, now: Mono) -> Self {
        Self { settings, window: Window::default(), last_sequence: 1, heard: now, asked: None, strays: 0 }
    }

    /// How many more submissions the window takes.
    pub(in crate::wire) fn free(&self) -> usize {
        self.settings.window.saturating_sub(self.window.len())
    }

    /// Submissions whose answers are awaited, the overdue ones not counted.
    pub(in crate::wire) fn awaited(&self) -> usize {
        self.window.awaited()
    }

    /// Takes a slot for a submission and gives it its sequence number.
    pub(in crate::wire) fn admit(&mut self, now: Mono) -> Result<u32, WindowFull> {
        if self.free() == 0 {
            return Err(WindowFull);
        }
        let sequence = self.next_sequence();
        self.window.insert(sequence, now.plus(self.settings.response_timeout));
        Ok(sequence)
    }

    /// The same under a number that whoever submits has given it; false, and nothing taken, if an unanswered one has it.
    pub(in crate::wire) fn admit_as(&mut self, sequence: u32, now: Mono) -> Result<bool, WindowFull> {
        if self.free() == 0 {
            return Err(WindowFull);
        }
        let is_new = !self.window.contains(sequence);
        if is_new {
            self.window.insert(sequence, now.plus(self.settings.response_timeout));
        }
        Ok(is_new)
    }

    /// Something was heard.
    pub(in crate::wire) fn heard(&mut self, now: Mono) {
        self.heard = now;
        self.asked = None;
    }

    /// A submission was answered: whether that was late. `None`, and a stray, if there is no such.
    pub(in crate::wire) fn answered(&mut self, sequence: u32) -> Result<Option<bool>, Broken> {
        match self.window.remove(sequence) {
            Some(late) => Ok(Some(late)),
            None => self.stray().map(|()| None),
        }
    }

    /// An answer to nothing.
    pub(in crate::wire) fn stray(&mut self) -> Result<(), Broken> {
        self.strays += 1;
        if self.strays > STRAYS_MAX { Err(Broken::Strays) } else { Ok(()) }
    }

    /// Lets time pass. The slots of what is overdue stay taken until an answer comes.
    pub(in crate::wire) fn tick(&mut self, now: Mono) -> Result<Tick, Broken> {
        let mut ask = None;
        if now >= self.next_test() {
            let tests = self.asked.map_or(0, |(_, tests)| tests);
            if tests >= self.settings.active_tests_max {
                return Err(Broken::Silent);
            }
            ask = Some(self.next_sequence());
            self.asked = Some((now, tests + 1));
        }
        let overdue = self.window.expire(now);
        if self.hopeless_at().is_some_and(|at| now >= at) {
            // Whoever drives the link settles what is unanswered when it ends, the newly overdue included.
            return Err(Broken::AnswersMissing);
        }
        Ok(Tick { ask, overdue })
    }

    /// When [`LinkState::tick`] wants to be called next.
    pub(in crate::wire) fn wakeup(&self) -> Mono {
        [self.window.next_deadline(), self.hopeless_at()].into_iter().flatten().fold(self.next_test(), Mono::min)
    }

    /// A sequence number that no unanswered submission has.
    pub(in crate::wire) fn next_sequence(&mut self) -> u32 {
        loop {
            self.last_sequence = if self.last_sequence >= SEQUENCE_MAX { 1 } else { self.last_sequence + 1 };
            // After a wrap an overdue submission may still hold a number.
            if !self.window.contains(self.last_sequence) {
                return self.last_sequence;
            }
        }
    }

    /// When the other side is asked, or given up, unless it speaks.
    fn next_test(&self) -> Mono {
        match self.asked {
            Some((asked, _)) => asked.plus(self.settings.response_timeout),
            None => self.heard.plus(self.settings.active_test_interval),
        }
    }

    /// Once nothing is awaited but overdue answers take up slots, those get one more response time; then a new link is
    /// worth more than this one.
    fn hopeless_at(&self) -> Option<Mono> {
        let newest = self.window.newest_overdue()?;
        (self.window.awaited() == 0).then(|| newest.plus(self.settings.response_timeout))
    }
}
