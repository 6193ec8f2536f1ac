//! The submissions of a link that are not answered, for each protocol that has a window.

use std::collections::{HashMap, VecDeque};

use crate::clock::Mono;

/// Unanswered submissions: awaited until their deadline, overdue after it, until an answer takes them out.
#[derive(Debug, Default)]
pub(in crate::wire) struct Window {
    /// By sequence number: true once overdue.
    unanswered: HashMap<u32, bool>,
    /// The awaited ones by deadline, which is the order they were sent in; those answered meanwhile are skipped.
    deadlines: VecDeque<(Mono, u32)>,
    overdue: usize,
    newest_overdue: Option<Mono>,
}

impl Window {
    pub(in crate::wire) fn len(&self) -> usize {
        self.unanswered.len()
    }

    pub(in crate::wire) fn awaited(&self) -> usize {
        self.unanswered.len() - self.overdue
    }

    pub(in crate::wire) fn contains(&self, sequence: u32) -> bool {
        self.unanswered.contains_key(&sequence)
    }

    pub(in crate::wire) fn insert(&mut self, sequence: u32, deadline: Mono) {
        self.unanswered.insert(sequence, false);
        self.deadlines.push_back((deadline, sequence));
    }

    /// Takes out an answered submission and says whether it was overdue; `None` if there is no such.
    pub(in crate::wire) fn remove(&mut self, sequence: u32) -> Option<bool> {
        let late = self.unanswered.remove(&sequence)?;
        if late {
            self.overdue -= 1;
        }
        // Answers mostly come in order, so this keeps the queue as short as the window.
        while self.deadlines.front().is_some_and(|(_, first)| self.unanswered.get(first) != Some(&false)) {
            self.deadlines.pop_front();
        }
        Some(late)
    }

    /// Marks what is overdue at `now` and returns it.
    pub(in crate::wire) fn expire(&mut self, now: Mono) -> Vec<u32> {
        let mut expired = Vec::new();
        while let Some(&(deadline, sequence)) = self.deadlines.front() {
            match self.unanswered.get_mut(&sequence) {
                Some(overdue @ false) if now >= deadline => {
                    *overdue = true;
                    self.overdue += 1;
                    self.newest_overdue = Some(deadline);
                    expired.push(sequence);
                }
                Some(false) => break,
                _ => {}
            }
            self.deadlines.pop_front();
        }
        expired
    }

    pub(in crate::wire) fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }

    /// The deadline that the newest overdue submission missed, while there is one.
    pub(in crate::wire) fn newest_overdue(&self) -> Option<Mono> {
        if self.overdue == 0 { None } else { self.newest_overdue }
    }
}
