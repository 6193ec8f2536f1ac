//! Putting long texts together again.

use super::ReceivedText;
use super::talk::Submission;
use crate::clock::Timestamp;
use crate::sms;
use crate::sms::join::{Incomplete, Joiner, Taken};

/// Most texts of which some part is missing; beyond it the oldest is forgotten, as a handset would.
const INCOMPLETE_MAX: usize = 4_096;

/// The texts of which some part is missing, by source and destination.
#[derive(Debug)]
pub(super) struct Assembly {
    incomplete: Joiner<(String, String), String>,
}

impl Default for Assembly {
    fn default() -> Self {
        Self { incomplete: Joiner::new(INCOMPLETE_MAX) }
    }
}

impl Assembly {
    /// Takes a part; returns the whole text if it was the last one.
    pub(super) fn take(&mut self, part: &Submission) -> Option<ReceivedText> {
        let (source, destination) = (part.source.number.clone(), part.destination.number.clone());
        let split = if part.udhi { sms::split_header(&part.octets) } else { None };
        let (concatenation, _) = split.unwrap_or((part.place, &part.octets));
        let text = sms::decode_part(part.coding, part.udhi, &part.octets);
        let Some(place) = concatenation.filter(|c| c.total > 1) else {
            return Some(ReceivedText { source, destination, text, parts: 1 });
        };
        let who = (source.clone(), destination.clone());
        if !self.incomplete.has_room(&Incomplete { who: who.clone(), reference: place.reference, total: place.total }) {
            self.incomplete.oldest();
        }
        // Nothing here goes by time.
        match self.incomplete.take(who, place, text, Timestamp(0)) {
            Taken::Whole(parts) => Some(ReceivedText { source, destination, text: parts.concat(), parts: parts.len() }),
            Taken::Waiting | Taken::Displaced(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SmsText;

    fn part(octets: bytes::Bytes, udhi: bool) -> Submission {
        Submission { udhi, coding: 8, octets, ..Submission::default() }
    }

    #[test]
    fn parts_may_come_in_any_order_and_twice() {
        let content = "快递".repeat(60);
        let made = sms::parts(&SmsText::new(&content).unwrap(), 3);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(&part(made.parts[1].clone(), true)), None);
        assert_eq!(assembly.take(&part(made.parts[1].clone(), true)), None);
        let whole = assembly.take(&part(made.parts[0].clone(), true)).unwrap();
        assert_eq!((whole.text, whole.parts), (content, 2));
        assert!(assembly.incomplete.is_empty());
    }

    #[test]
    fn incomplete_texts_are_bounded() {
        let mut assembly = Assembly::default();
        for i in 0..INCOMPLETE_MAX + 10 {
            let [high, low] = u16::try_from(i).unwrap().to_be_bytes();
            assert_eq!(assembly.take(&part(vec![6, 8, 4, high, low, 2, 1, 0, b'a'].into(), true)), None);
        }
        assert_eq!(assembly.incomplete.len(), INCOMPLETE_MAX);
        // The first is forgotten, the last is not.
        assert_eq!(assembly.take(&part(vec![6, 8, 4, 0, 0, 2, 2, 0, b'b'].into(), true)), None);
        let [high, low] = u16::try_from(INCOMPLETE_MAX).unwrap().to_be_bytes();
        let whole = assembly.take(&part(vec![6, 8, 4, high, low, 2, 2, 0, b'b'].into(), true)).unwrap();
        assert_eq!(whole.text, "ab");
    }
}
