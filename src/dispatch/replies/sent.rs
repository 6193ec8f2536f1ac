//! The last text to each number from each sender: what a reply is about. In memory, bounded by number, the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{Class, ClientName, MessageId, Number, SenderId};

/// The text that a number was sent last from some sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) id: MessageId,
    pub(super) client: ClientName,
    pub(super) class: Class,
    /// The signature at its head.
    pub(super) signature: Option<Arc<str>>,
}

/// What a text shows as its sender.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Shown {
    /// This number or name, without `+` and case, which carriers write as they like.
    Sender(Arc<str>),
    /// Whatever this carrier shows where nothing is said.
    CarriersOwn(Arc<str>),
}

type Key = (u64, Shown);

/// The texts.
#[derive(Debug)]
pub(super) struct SentTexts {
    last: HashMap<Key, (u64, Sent)>,
    /// In the order in which they were sent; those that another has followed since are passed over.
    order: VecDeque<(u64, Key)>,
    sent: u64,
}

impl SentTexts {
    pub(super) fn new() -> Self {
        Self { last: HashMap::new(), order: VecDeque::new(), sent: 0 }
    }

    /// Remembers a text, of at most `most`.
    pub(super) fn note(
        &mut self,
        number: &Number,
        from: Option<&SenderId>,
        carrier: &Arc<str>,
        sent: Sent,
        most: usize,
    ) {
        let Some(digits) = digits(number) else { return };
        let shown = from.map_or_else(|| Shown::CarriersOwn(carrier.clone()), |from| sender(&from.to_string()));
        self.sent += 1;
        self.order.push_back((self.sent, (digits, shown.clone())));
        self.last.insert((digits, shown), (self.sent, sent));
        while self.order.len() > most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((nth, key)) = self.order.pop_front() else { return };
        if self.last.get(&key).is_some_and(|(newest, _)| *newest == nth) {
            self.last.remove(&key);
        }
    }

    /// The last text to `number` that showed `to`; else the last by `carrier` that left its sender to that.
    pub(super) fn find(&self, number: &Number, to: &str, carrier: &Arc<str>) -> Option<Sent> {
        let digits = digits(number)?;
        let shown = [sender(to), Shown::CarriersOwn(carrier.clone())];
        shown.into_iter().find_map(|shown| self.last.get(&(digits, shown))).map(|(_, sent)| sent.clone())
    }
}

fn digits(number: &Number) -> Option<u64> {
    number.digits().parse().ok()
}

fn sender(written: &str) -> Shown {
    Shown::Sender(written.trim_start_matches('+').to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u8) -> Sent {
        let id = MessageId::from_bytes([n; 16]);
        Sent { id, client: "shop".into(), class: Class::Marketing, signature: None }
    }

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn a_reply_finds_the_last_text_of_its_sender() {
        let (lin, wang) = (number("+8613800138000"), number("+8613800138001"));
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let port = SenderId::parse("10690001").unwrap();
        let mut texts = SentTexts::new();
        texts.note(&lin, Some(&port), &one, sent(1), 10);
        texts.note(&lin, Some(&port), &one, sent(2), 10);
        texts.note(&lin, None, &one, sent(3), 10);
        texts.note(&wang, None, &two, sent(4), 10);
        let found = |number, to, carrier| texts.find(number, to, carrier).map(|s| s.id.to_bytes()[0]);
        assert_eq!(found(&lin, "10690001", &one), Some(2));
        assert_eq!(found(&lin, "+10690001", &two), Some(2), "however it is written, whoever brings it");
        assert_eq!(found(&lin, "10690002", &one), Some(3), "the carrier's own sender");
        assert_eq!(found(&lin, "10690002", &two), None);
        assert_eq!(found(&wang, "10690001", &two), Some(4));
        assert_eq!(found(&wang, "10690001", &one), None);
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_nothing_grows() {
        let carrier: Arc<str> = "one".into();
        let mut texts = SentTexts::new();
        for n in 0..100u8 {
            texts.note(&number(&format!("+86138001380{:02}", n % 10)), None, &carrier, sent(n), 5);
        }
        assert_eq!((texts.last.len(), texts.order.len()), (5, 5));
        assert_eq!(texts.find(&number("+8613800138009"), "", &carrier), Some(sent(99)));
        assert_eq!(texts.find(&number("+8613800138004"), "", &carrier), None);
        texts.note(&number("+8613800138001"), None, &carrier, sent(7), 0);
        assert!(texts.last.is_empty() && texts.order.is_empty());
    }
}
