//! From the answers to a text's parts to the outcome of the attempt. Pure.

use super::protocol::Verdict;
use super::slots::{NoSlot, PartAnswer};
use crate::model::{EnhancedStatus, Failure, Outcome, PartState, Relayed, Reply, Scope, Stage, TextProgress};
use crate::wire::Meaning;

/// What the answers of one attempt have shown so far.
#[derive(Debug)]
pub(super) struct Tally {
    progress: TextProgress,
    /// The answer to the part that was taken last.
    taken: Option<Reply>,
    /// The first answer of each kind that was no yes.
    refused: Option<(Verdict, Scope)>,
    delayed: Option<Verdict>,
    throttled: Option<Verdict>,
    lost: Option<String>,
    /// Why parts were not even sent.
    held: Option<Failure>,
}

/// How one part's answer is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counted {
    Sent,
    Throttled,
    Delayed,
    Refused,
    Unanswered,
    NotSent,
}

impl Tally {
    pub(super) fn new(progress: TextProgress) -> Self {
        Self { progress, taken: None, refused: None, delayed: None, throttled: None, lost: None, held: None }
    }

    /// The parts that are to be sent.
    pub(super) fn waiting(&self) -> Vec<usize> {
        let parts = self.progress.parts.iter().enumerate();
        parts.filter(|(_, state)| **state == PartState::Waiting).map(|(i, _)| i).collect()
    }

    /// True once sending further parts serves nothing: the text cannot be complete in this attempt.
    pub(super) fn is_spoilt(&self) -> bool {
        self.refused.is_some() || self.delayed.is_some() || self.throttled.is_some() || self.lost.is_some()
    }

    /// True once an answer was lost in this attempt.
    pub(super) fn has_loss(&self) -> bool {
        self.lost.is_some()
    }

    /// Notes one part's answer.
    pub(super) fn note(&mut self, part: usize, answer: PartAnswer) -> Counted {
        let state = &mut self.progress.parts[part];
        let (verdict, message_id) = match answer {
            PartAnswer::Answered { verdict, message_id } => (verdict, message_id),
            PartAnswer::NotSent => return Counted::NotSent,
            PartAnswer::Lost(cause) => {
                *state = PartState::Unanswered;
                self.lost.get_or_insert(cause);
                return Counted::Unanswered;
            }
        };
        match verdict.meaning {
            Meaning::Ok => {
                let text = format!("{} id {message_id}", verdict.words);
                self.taken = Some(Reply { code: verdict.code, enhanced: None, text });
                *state = PartState::Sent(message_id.into());
                Counted::Sent
            }
            Meaning::Throttled => {
                self.throttled.get_or_insert(verdict);
                Counted::Throttled
            }
            Meaning::Temporary | Meaning::Account => {
                self.delayed.get_or_insert(verdict);
                Counted::Delayed
            }
            Meaning::Final(scope) => {
                *state = PartState::Refused;
                self.refused.get_or_insert((verdict, scope));
                Counted::Refused
            }
        }
    }

    /// Parts could not be handed to any link.
    pub(super) fn hold(&mut self, why: NoSlot) {
        let cause = match why {
            NoSlot::Down | NoSlot::Full => "no bind of the carrier is up",
            NoSlot::Stopping => "the carrier's links are being closed",
        };
        let status = EnhancedStatus::new(4, 4, 1);
        self.held.get_or_insert(Failure::without_reply(Scope::Host, Stage::Connect, status, cause));
    }

    /// The text's time ran out on the way.
    pub(super) fn expire(&mut self) {
        let status = EnhancedStatus::new(4, 4, 7);
        self.held.get_or_insert(Failure::without_reply(
            Scope::Message,
            Stage::Submit,
            status,
            "expired before it was sent",
        ));
    }

    /// The attempt's outcome and where the parts stand now.
    ///
    /// A refusal is final whatever else happened; a lost answer outweighs what may simply be sent again.
    pub(super) fn conclude(self) -> (Outcome, TextProgress) {
        let parts = &self.progress.parts;
        let outcome = if let Some((verdict, scope)) = self.refused {
            Outcome::Failed(answered(verdict, scope))
        } else if parts.contains(&PartState::Refused) {
            let cause = "a part was refused in an earlier attempt";
            let status = EnhancedStatus::new(5, 0, 0);
            Outcome::Failed(Failure::without_reply(Scope::Recipient, Stage::Submit, status, cause))
        } else if parts.contains(&PartState::Unanswered) {
            let cause = format!("answer lost: {}", self.lost.as_deref().unwrap_or("in an earlier attempt"));
            let status = EnhancedStatus::new(4, 4, 2);
            Outcome::Delayed(Failure::without_reply(Scope::Connection, Stage::Submit, status, cause))
        } else if !parts.contains(&PartState::Waiting) {
            let earlier = || Reply { code: 0, enhanced: None, text: "all parts were sent before".to_owned() };
            Outcome::Relayed(Relayed { reply: self.taken.unwrap_or_else(earlier), notifies: true })
        } else if let Some(verdict) = self.throttled {
            Outcome::Delayed(Failure { throttled: true, ..answered(verdict, Scope::Site) })
        } else if let Some(verdict) = self.delayed {
            let scope = if verdict.meaning == Meaning::Account { Scope::Host } else { Scope::Recipient };
            Outcome::Delayed(answered(verdict, scope))
        } else {
            let broke = || {
                let status = EnhancedStatus::new(4, 4, 2);
                Failure::without_reply(Scope::Connection, Stage::Submit, status, "the link broke before all parts left")
            };
            Outcome::Delayed(self.held.unwrap_or_else(broke))
        };
        (outcome, self.progress)
    }
}

fn answered(verdict: Verdict, scope: Scope) -> Failure {
    let reply = Reply { code: verdict.code, enhanced: None, text: verdict.words };
    Failure {
        scope,
        stage: Stage::Submit,
        status: verdict.enhanced,
        reply: Some(reply),
        cause: None,
        throttled: false,
        rule: None,
        retry_after: None,
        measures: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cmpp::SubmitResult;
    use crate::wire::smpp::CommandStatus;

    fn ok(id: &str) -> PartAnswer {
        PartAnswer::Answered { verdict: CommandStatus::OK.into(), message_id: id.to_owned() }
    }

    fn no(status: u32) -> PartAnswer {
        PartAnswer::Answered { verdict: CommandStatus(status).into(), message_id: String::new() }
    }

    fn cmpp(result: u32) -> PartAnswer {
        PartAnswer::Answered { verdict: SubmitResult(result).into(), message_id: "7".to_owned() }
    }

    fn after(answers: Vec<PartAnswer>) -> (String, Vec<PartState>) {
        let mut tally = Tally::new(TextProgress::new("c".into(), 1, answers.len()));
        for (i, answer) in answers.into_iter().enumerate() {
            tally.note(i, answer);
        }
        let (outcome, progress) = tally.conclude();
        let shown = match outcome {
            Outcome::Relayed(relayed) => format!("relayed {}", relayed.reply),
            Outcome::Delayed(f) => format!("delayed {:?} {} {}", f.scope, f.status, f.throttled),
            Outcome::Failed(f) => format!("failed {:?} {}", f.scope, f.status),
        };
        (shown, progress.parts)
    }

    #[test]
    fn the_weightiest_answer_decides_and_each_part_keeps_its_own() {
        use PartState::{Refused, Sent, Unanswered, Waiting};
        let lost = || PartAnswer::Lost("closed".to_owned());
        for (answers, outcome, parts) in [
            (vec![ok("a"), ok("b")], "relayed 0 ESME_ROK (0x00) id b", vec![Sent("a".into()), Sent("b".into())]),
            (vec![ok("a"), no(0x58)], "delayed Site 4.4.5 true", vec![Sent("a".into()), Waiting]),
            (vec![no(0x08), no(0x14)], "delayed Site 4.4.5 true", vec![Waiting, Waiting]),
            (vec![no(0x08)], "delayed Recipient 4.3.0 false", vec![Waiting]),
            (vec![no(0x7777)], "delayed Recipient 4.3.0 false", vec![Waiting]),
            (vec![no(0x04)], "delayed Host 4.3.0 false", vec![Waiting]),
            (vec![ok("a"), no(0x0B)], "failed Recipient 5.1.1", vec![Sent("a".into()), Refused]),
            (vec![no(0x0A), lost()], "failed Message 5.1.8", vec![Refused, Unanswered]),
            (
                vec![ok("a"), lost(), no(0x58)],
                "delayed Connection 4.4.2 false",
                vec![Sent("a".into()), Unanswered, Waiting],
            ),
            (vec![cmpp(0)], "relayed 0 result 0 (taken) id 7", vec![Sent("7".into())]),
            (vec![cmpp(0), cmpp(8)], "delayed Site 4.4.5 true", vec![Sent("7".into()), Waiting]),
            (vec![cmpp(5)], "delayed Host 4.3.5 false", vec![Waiting]),
            (vec![cmpp(120)], "delayed Recipient 4.3.0 false", vec![Waiting]),
            (vec![cmpp(13)], "failed Recipient 5.1.1", vec![Refused]),
            (vec![ok("a"), PartAnswer::NotSent], "delayed Connection 4.4.2 false", vec![Sent("a".into()), Waiting]),
        ] {
            assert_eq!(after(answers), (outcome.to_owned(), parts));
        }
    }
}
