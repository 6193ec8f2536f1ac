//! Parts whose texts have ended lately: a receipt that comes once more for one of them says nothing new. In memory, bounded by
//! number; what is forgotten is answered as a receipt that matches nothing.

use std::collections::{HashSet, VecDeque};

use super::parts::PartKey;

/// The latest parts whose texts have ended, up to a number.
#[derive(Debug, Default)]
pub(super) struct Answered {
    known: HashSet<PartKey>,
    order: VecDeque<PartKey>,
}

/// Some 6 MiB.
const ANSWERED_MAX: usize = 65_536;

impl Answered {
    pub(super) fn insert(&mut self, key: PartKey) {
        if self.known.insert(key.clone()) {
            self.order.push_back(key);
        }
        if self.order.len() > ANSWERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, key: &PartKey) -> bool {
        self.known.contains(key)
    }
}
