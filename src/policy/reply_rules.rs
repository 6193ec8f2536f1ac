//! What follows from the words that a handset sends: who gets the reply, what is answered, what it is called.
//!
//! **Promises.** A rule holds for a message that is one of its words and nothing else, folded as the words of opt-outs are; of
//! several the first. [`Answered`] lets one automatic answer through in a time, to a number by a rule, and remembers a bounded number
//! of them: where there is no room for one more, it is not given.
//!
//! **Does not know** how answers are sent, and forgets everything at a restart: whoever sends them also has them bear a key.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::opt_outs::{MESSAGE_BYTES_MAX, Words, is_same_sender};
use crate::clock::Timestamp;
use crate::model::{ClientName, MessageId, Number, SmsText};

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyRule {
    /// What events and metrics call it.
    pub name: Arc<str>,
    /// The words, folded.
    pub words: HashSet<String>,
    /// It holds for what is sent to these numbers; to any if there is none.
    pub numbers: Vec<String>,
    /// It holds for what answers a text of these clients; of any, or none, if there is none.
    pub clients: Vec<ClientName>,
    /// Who gets the reply; `None`: whose text it answers.
    pub client: Option<ClientName>,
    /// What is answered, in the name of who gets it.
    pub answer: Option<SmsText>,
    /// One answer to a number in such a time.
    pub answer_every: Duration,
    /// Stands in the event.
    pub label: Option<Arc<str>>,
}

impl ReplyRule {
    /// Longest time that automatic answers may be kept apart: so long their keys are known over a restart.
    pub const EVERY_MAX: Duration = Duration::from_secs(86_400);

    fn holds(&self, word: &str, to: &str, client: Option<&ClientName>) -> bool {
        self.words.contains(word)
            && (self.numbers.is_empty() || self.numbers.iter().any(|number| is_same_sender(number, to)))
            && (self.clients.is_empty() || client.is_some_and(|client| self.clients.contains(client)))
    }
}

/// The rule that holds for a message to that number, which answers a text of that client.
pub fn rule_for<'r>(
    rules: &'r [ReplyRule],
    message: &str,
    to: &str,
    client: Option<&ClientName>,
) -> Option<&'r ReplyRule> {
    // Longer than any word, whatever stands around it.
    if rules.is_empty() || message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let word = Words::fold(message);
    rules.iter().find(|rule| rule.holds(&word, to, client))
}

/// An answer that is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// In whose name.
    pub client: ClientName,
    /// To whom.
    pub to: Number,
    /// What the message was sent to: shown as the sender if the client may show it.
    pub from: Arc<str>,
    /// The words.
    pub words: SmsText,
    /// Under one key of a client there is one answer.
    pub key: Arc<str>,
}

/// Why an answer is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAnswered {
    /// This rule is against it.
    Refused(&'static str),
    /// There was one under that key.
    Before,
    /// It cannot be made durable now.
    Busy,
}

/// An answer on its way into the queue.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<MessageId, NotAnswered>> + Send + 'a>>;

/// Whoever sends automatic answers: those who hear handsets know no rules for texts.
pub trait Answering: Send + Sync {
    /// Takes an answer as a text of its client; returns once it is durable.
    fn send(&self, answer: Answer) -> Sending<'_>;
}

/// Who has been answered by which rule lately.
#[derive(Debug, Default)]
pub struct Answered {
    last: Mutex<HashMap<(Arc<str>, u64), Timestamp>>,
}

/// Answers that are remembered.
const REMEMBERED_MAX: usize = 100_000;

impl Answered {
    /// May this number have an answer by this rule now?
    pub fn may(&self, rule: &ReplyRule, number: &Number, now: Timestamp) -> bool {
        let Ok(digits) = number.digits().parse() else { return false };
        let mut last = self.last.lock();
        if let Some(at) = last.get(&(rule.name.clone(), digits)) {
            return now.since(*at) >= rule.answer_every;
        }
        if last.len() >= REMEMBERED_MAX {
            last.retain(|_, at| now.since(*at) < ReplyRule::EVERY_MAX);
        }
        last.len() < REMEMBERED_MAX
    }

    /// It has had one.
    pub fn note(&self, rule: &ReplyRule, number: &Number, now: Timestamp) {
        if let Ok(digits) = number.digits().parse() {
            self.last.lock().insert((rule.name.clone(), digits), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, words: &[&str]) -> ReplyRule {
        ReplyRule {
            name: name.into(),
            words: words.iter().map(|word| Words::fold(word)).collect(),
            numbers: Vec::new(),
            clients: Vec::new(),
            client: None,
            answer: None,
            answer_every: Duration::from_secs(3_600),
            label: None,
        }
    }

    #[test]
    fn a_rule_holds_for_its_words_numbers_and_clients_and_of_several_the_first() {
        let (shop, other) = (ClientName::from("shop"), ClientName::from("other"));
        let rules = [
            ReplyRule { numbers: vec!["10690009".to_owned()], ..rule("number", &["HELP"]) },
            ReplyRule { clients: vec![shop.clone()], ..rule("client", &["help", "查询"]) },
            rule("any", &["Help"]),
        ];
        let found = |message: &str, to: &str, client: Option<&ClientName>| {
            rule_for(&rules, message, to, client).map(|rule| &*rule.name)
        };
        assert_eq!(found(" ＨＥＬＰ！", "+10690009", Some(&shop)), Some("number"));
        assert_eq!(found("help", "10690001", Some(&shop)), Some("client"));
        assert_eq!(found("help", "10690001", Some(&other)), Some("any"));
        assert_eq!(found("help", "10690001", None), Some("any"));
        assert_eq!(found("查询", "10690001", None), None);
        assert_eq!(found("help me", "10690001", Some(&shop)), None);
        assert_eq!(found(&format!("help{}", "!".repeat(300)), "10690001", None), None);
    }

    #[test]
    fn one_answer_in_a_time_for_each_number_and_rule() {
        let (answered, one, two) = (Answered::default(), rule("one", &["a"]), rule("two", &["b"]));
        let (lin, wang) = (Number::parse("+8613800138000").unwrap(), Number::parse("+8613800138001").unwrap());
        let at = Timestamp::from_seconds;
        assert!(answered.may(&one, &lin, at(10_000)));
        answered.note(&one, &lin, at(10_000));
        assert!(!answered.may(&one, &lin, at(13_599)));
        assert!(!answered.may(&one, &lin, at(9_000)), "the clock was set back");
        assert!(answered.may(&one, &wang, at(10_000)) && answered.may(&two, &lin, at(10_000)));
        assert!(answered.may(&one, &lin, at(13_600)));
    }

    #[test]
    fn memory_is_bounded_and_without_room_there_is_no_answer() {
        let (answered, rule) = (Answered::default(), rule("one", &["a"]));
        let number = |n: usize| Number::parse(&format!("+86138{n:08}")).unwrap();
        (0..REMEMBERED_MAX).for_each(|n| answered.note(&rule, &number(n), Timestamp::from_seconds(10)));
        assert!(!answered.may(&rule, &number(REMEMBERED_MAX), Timestamp::from_seconds(20)));
        assert!(answered.may(&rule, &number(REMEMBERED_MAX), Timestamp::from_seconds(86_410)));
    }
}
