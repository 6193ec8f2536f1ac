//! Texts that leave once more: to another carrier, because one has refused them or brings no receipt or a bad one; and after an
//! answer that was lost.
//!
//! **Promises.** No carrier gets a text twice, but for what an answer was lost of, and that once. What a carrier has taken may
//! still arrive, so the text lives on while nothing bad is known of it, and ends as delivered as soon as one carrier says so.
//!
//! **Does not know** whether carriers are up: that is seen when the text leaves.

use std::time::Duration;

use super::Options;
use super::entry::{Entry, Track};
use super::life::State;
use super::retry::Retry;
use super::table::{Now, Table};
use crate::clock::Timestamp;
use crate::model::{CARRIERS_MAX, Channel, Number, RecipientIndex, TextProgress, Verdict};
use crate::route::Routes;

/// When a class's texts leave once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Again {
    /// One whose receipt has not come within this goes to another carrier as well; `None`: never.
    pub receipt_within: Option<Duration>,
    /// So does one that a carrier has refused, or says did not arrive.
    pub after_failure: bool,
    /// Carriers that one text may go to, at most [`CARRIERS_MAX`].
    pub carriers_max: usize,
    /// What an answer was lost of leaves once more, and may arrive twice.
    pub unanswered: bool,
}

impl Default for Again {
    /// Never.
    fn default() -> Self {
        Self { receipt_within: None, after_failure: false, carriers_max: CARRIERS_MAX, unanswered: false }
    }
}

/// Why a text leaves once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    NoReceipt,
    Failed,
    Unanswered,
}

impl Reason {
    /// The word in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoReceipt => "no-receipt",
            Self::Failed => "failed",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What a recipient may hope for.
#[derive(Clone, Copy)]
pub(super) struct Prospects<'a> {
    pub(super) retry: &'a Retry,
    pub(super) again: &'a Again,
    /// Is there a carrier that the text has not gone to, and time? Asked only where it decides: most texts arrive.
    pub(super) elsewhere: &'a dyn Fn(&TextProgress) -> bool,
}

impl Prospects<'_> {
    /// A carrier has refused the text for good: where that leaves it. `None` if it has come to its end.
    pub(super) fn refused(&self, progress: &mut TextProgress, now: Timestamp) -> Option<(State, Option<Reason>)> {
        if self.again.after_failure && (self.elsewhere)(progress) {
            progress.give_up();
            return Some((State::Queued { due: now }, Some(Reason::Failed)));
        }
        self.awaited(progress, now)
    }

    /// The text may have left, and nobody has seen an answer: where that leaves it. `None` if it has come to its end.
    pub(super) fn unanswered(
        &self,
        progress: &mut TextProgress,
        due: Timestamp,
        now: Timestamp,
    ) -> Option<(State, Option<Reason>)> {
        if self.again.unanswered && !progress.doubted {
            progress.doubted = true;
            progress.wait_again();
            return Some((State::Queued { due }, Some(Reason::Unanswered)));
        }
        self.awaited(progress, now)
    }

    /// The receipts of a text at its carrier have come, and are bad: may it go to another?
    pub(super) fn lost(&self, progress: &TextProgress) -> bool {
        self.again.after_failure && progress.verdict() == Some(Verdict::Lost) && (self.elsewhere)(progress)
    }

    /// No further carrier: those before may still bring it.
    fn awaited(&self, progress: &mut TextProgress, now: Timestamp) -> Option<(State, Option<Reason>)> {
        let waits = progress.may_arrive();
        if waits {
            progress.give_up();
        }
        waits.then_some((State::Sent { at: now }, None))
    }
}

/// Where something goes whose time has run out and that does not end by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Onward {
    /// No receipt has come in time: to another carrier.
    Elsewhere,
    /// No further carrier has taken it in time; one that has may still bring it.
    Await,
}

impl Onward {
    /// In words for events.
    pub(super) fn why(self, carrier: &str) -> String {
        match self {
            Self::Elsewhere => format!("carrier {carrier} brought no receipt in time; another may try"),
            Self::Await => "no further carrier could take it in time; a receipt may still come".to_owned(),
        }
    }
}

impl Table {
    /// Is there a carrier that a text has not gone to, and time?
    pub(super) fn elsewhere(
        &self,
        entry: &Entry,
        track: &Track,
        progress: &TextProgress,
        (routes, options): (&Routes, &Options),
        now: Timestamp,
    ) -> bool {
        let again = &options.again[entry.class.index()];
        if entry.channel != Channel::Sms
            // Its words are gone: it has lain on the shelf.
            || entry.size == 0
            || entry.expires_at <= now
            || progress.chain().count() >= again.carriers_max.min(CARRIERS_MAX)
        {
            return false;
        }
        let client = self.clients.name(entry.client);
        let number = Number::of_digits(track.address);
        let course = number.and_then(|number| routes.text.course(&number, entry.class, &client));
        course.is_some_and(|course| course.all().any(|carrier| progress.chain().all(|at| at.carrier != *carrier)))
    }

    /// Until when a text that was sent at `at` waits for its receipt, where it is.
    pub(super) fn awaits_until(
        &self,
        number: u32,
        recipient: RecipientIndex,
        at: Timestamp,
        (routes, options): (&Routes, &Options),
        now: Timestamp,
    ) -> Timestamp {
        let end = at.plus(options.receipt_wait_max);
        let sooner = || {
            let entry = self.entry(number)?;
            let within = options.again[entry.class.index()].receipt_within?;
            let (track, progress) = (entry.track(recipient)?, self.parts.progress(number, recipient)?);
            self.elsewhere(entry, track, progress, (routes, options), now).then(|| at.plus(within).min(end))
        };
        sooner().unwrap_or(end)
    }

    /// What is to become of a text at its carrier whose time to wait is over; `None` if that is its end.
    pub(super) fn onward(
        &self,
        number: u32,
        recipient: RecipientIndex,
        (routes, options): (&Routes, &Options),
        now: Now,
    ) -> Option<Onward> {
        let entry = self.entry(number)?;
        let (track, progress) = (entry.track(recipient)?, self.parts.progress(number, recipient)?);
        match track.state() {
            State::Queued { .. } => progress.may_arrive().then_some(Onward::Await),
            State::Sent { at } if now.wall < at.plus(options.receipt_wait_max) => {
                self.elsewhere(entry, track, progress, (routes, options), now.wall).then_some(Onward::Elsewhere)
            }
            _ => None,
        }
    }
}
