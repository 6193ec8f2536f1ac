//! A mail transaction: from MAIL to the answer to the end of data (RFC 5321 section 3.3, RFC 2920, RFC 3030).
//!
//! **Promises.** With PIPELINING the whole envelope and DATA are one write (RFC 2920); without it the same types go step by
//! step. Content is given only to a peer that took MAIL and at least one recipient, or else together with them in one
//! BDAT group, whose content a peer that refuses must skip (RFC 3030 section 2). A peer that says 354 although it took no
//! recipient is sent a lone dot (RFC 2920 section 3.1). Whatever was answered survives a lost connection as [`Answers`].

use super::Capabilities;
use super::command::{self, MailCommand, RcptCommand};
use super::dialogue::{Idle, is_positive};
use crate::model::{Reply, Stage};

/// Commands sent ahead of their answers: their replies fit into any socket's buffer, so that neither side waits for the
/// other to read (RFC 2920 section 3.1).
const OUTSTANDING_MAX: usize = 128;

/// A transaction to be carried out.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// MAIL.
    pub mail: MailCommand<'a>,
    /// RCPT, at least one.
    pub recipients: &'a [RcptCommand<'a>],
    /// How the content goes.
    pub transfer: Transfer,
}

/// How the content goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// DATA.
    Data,
    /// One BDAT chunk of so many bytes, once a recipient was taken.
    Chunk(u64),
    /// One BDAT chunk in the same write as the envelope; needs PIPELINING.
    ChunkAtOnce(u64),
}

/// What the peer has answered so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answers {
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To RCPT, in order; shorter than the recipients while answers are missing.
    pub recipients: Vec<Reply>,
    /// To DATA.
    pub data: Option<Reply>,
    /// To the end of data, or to BDAT.
    pub end: Option<Reply>,
}

impl Answers {
    /// True if MAIL and that recipient were taken.
    pub fn takes(&self, recipient: usize) -> bool {
        self.mail.as_ref().is_some_and(is_positive) && self.recipients.get(recipient).is_some_and(is_positive)
    }

    /// True if MAIL and at least one recipient were taken.
    pub fn takes_any(&self) -> bool {
        self.mail.as_ref().is_some_and(is_positive) && self.recipients.iter().any(is_positive)
    }

    fn count(&self) -> usize {
        let ones = [&self.mail, &self.data, &self.end].into_iter().flatten().count();
        ones + self.recipients.len()
    }
}

/// The envelope is under way.
#[derive(Debug)]
pub struct Exchange<'a> {
    plan: Plan<'a>,
    capabilities: Capabilities,
    /// Commands written.
    written: usize,
    answers: Answers,
}

/// Where an answer leads.
#[derive(Debug)]
pub enum Next<'a> {
    /// Write what there is to write and await the next answer.
    Exchange(Exchange<'a>),
    /// The peer waits for the content.
    Send(SendContent),
    /// The peer waits for content, though it took no recipient: send it nothing.
    Withdraw(Withdraw),
    /// The transaction is over.
    Over(Over),
}

impl<'a> Exchange<'a> {
    pub(super) fn new(plan: Plan<'a>, capabilities: Capabilities) -> Self {
        let answers = Answers { recipients: Vec::with_capacity(plan.recipients.len()), ..Answers::default() };
        Self { plan, capabilities, written: 0, answers }
    }

    /// Appends the commands that may go now; true if the content has to follow them in the same write.
    pub fn write(&mut self, out: &mut Vec<u8>) -> bool {
        while self.may_write() {
            let (recipients, utf8) = (self.plan.recipients, self.plan.mail.smtputf8);
            match self.written.checked_sub(1) {
                None => command::mail(&self.plan.mail, &self.capabilities, out),
                Some(n) if n < recipients.len() => command::rcpt(&recipients[n], utf8, &self.capabilities, out),
                Some(_) => match self.plan.transfer {
                    Transfer::Data => command::data(out),
                    Transfer::ChunkAtOnce(bytes) | Transfer::Chunk(bytes) => {
                        command::bdat_last(bytes, out);
                        self.written += 1;
                        return true;
                    }
                },
            }
            self.written += 1;
        }
        false
    }

    /// True while the peer owes no answer: what it says now answers nothing.
    pub fn is_answered(&self) -> bool {
        self.answers.count() == self.written
    }

    /// Whose answer is awaited next.
    pub fn awaits(&self) -> Stage {
        match self.answers.count() {
            0 => Stage::Mail,
            n if n <= self.plan.recipients.len() => Stage::Recipient,
            _ if self.plan.transfer == Transfer::Data => Stage::Data,
            _ => Stage::EndOfData,
        }
    }

    /// May the next command go?
    fn may_write(&self) -> bool {
        let (answered, pipelining) = (self.answers.count(), self.capabilities.pipelining);
        let in_turn = if pipelining { self.written - answered < OUTSTANDING_MAX } else { self.written == answered };
        let refused = self.answers.mail.as_ref().is_some_and(|r| !is_positive(r));
        let envelope = self.plan.recipients.len() + 1;
        in_turn
            && !refused
            && (self.written < envelope
                || self.written == envelope
                    && !matches!(self.plan.transfer, Transfer::Chunk(_))
                    // Nobody is left to send it to, once all have answered.
                    && (answered < envelope || self.answers.takes_any()))
    }

    /// The next answer.
    pub fn on_reply(mut self, reply: Reply) -> Next<'a> {
        let envelope = self.plan.recipients.len() + 1;
        let (code, at) = (reply.code, self.answers.count());
        let slot_takes = match at {
            0 => {
                self.answers.mail = Some(reply);
                code != 354
            }
            _ if at < envelope => {
                self.answers.recipients.push(reply);
                code != 354
            }
            _ if self.plan.transfer == Transfer::Data => {
                self.answers.data = Some(reply);
                code == 354 || code >= 400
            }
            _ => {
                self.answers.end = Some(reply);
                code != 354
            }
        };
        if code == 421 || !slot_takes || (code / 100 == 3 && code != 354) {
            // The peer hangs up, or we no longer know which command it is answering.
            return Next::Over(Over { answers: self.answers, idle: None });
        }
        if self.answers.count() < self.written || self.may_write() {
            return Next::Exchange(self);
        }
        self.conclude()
    }

    /// All has been answered and nothing more is to be asked.
    fn conclude(self) -> Next<'a> {
        let Self { plan, capabilities, answers, .. } = self;
        let awaits_data = answers.data.as_ref().is_some_and(|r| r.code == 354);
        if answers.end.is_none() && answers.takes_any() && (awaits_data || matches!(plan.transfer, Transfer::Chunk(_)))
        {
            let chunk = match plan.transfer {
                Transfer::Chunk(bytes) | Transfer::ChunkAtOnce(bytes) => Some(bytes),
                Transfer::Data => None,
            };
            return Next::Send(SendContent { capabilities, answers, chunk });
        }
        if awaits_data {
            return Next::Withdraw(Withdraw { capabilities, answers });
        }
        let taken = answers.end.as_ref().is_some_and(is_positive);
        if answers.end.is_some() && !taken {
            // A peer that refused the chunk should have skipped its bytes. One that reads them as commands would answer
            // each of them, and those answers must not be taken for the next mail's.
            return Next::Over(Over { answers, idle: None });
        }
        let open = answers.mail.as_ref().is_some_and(is_positive) && !taken;
        Next::Over(Over { answers, idle: Some(Idle::after(capabilities, open)) })
    }

    /// The connection is lost: what was answered before.
    pub fn into_answers(self) -> Answers {
        self.answers
    }
}

/// The peer has taken the envelope and waits.
#[derive(Debug)]
pub struct SendContent {
    capabilities: Capabilities,
    answers: Answers,
    chunk: Option<u64>,
}

impl SendContent {
    /// Appends the BDAT command that goes before the content, where it goes by BDAT; true if it does.
    pub fn announce(&self, out: &mut Vec<u8>) -> bool {
        if let Some(bytes) = self.chunk {
            command::bdat_last(bytes, out);
        }
        self.chunk.is_some()
    }

    /// The content has been written to its end.
    pub fn sent(self) -> AwaitEnd {
        AwaitEnd { capabilities: self.capabilities, answers: self.answers }
    }

    /// The connection is lost before that: what was answered.
    pub fn into_answers(self) -> Answers {
        self.answers
    }
}

/// The content has gone; the peer's word on it is awaited.
#[derive(Debug)]
pub struct AwaitEnd {
    capabilities: Capabilities,
    answers: Answers,
}

impl AwaitEnd {
    /// The answer.
    pub fn on_reply(mut self, reply: Reply) -> Over {
        let goes_on = reply.code != 421 && reply.code / 100 != 3;
        self.answers.end = Some(reply);
        let idle = goes_on.then(|| Idle::after(self.capabilities, false));
        Over { answers: self.answers, idle }
    }

    /// The connection is lost: what was answered before.
    pub fn into_answers(self) -> Answers {
        self.answers
    }
}

/// The peer waits for content that is for nobody.
#[derive(Debug)]
pub struct Withdraw {
    capabilities: Capabilities,
    answers: Answers,
}

impl Withdraw {
    /// Appends the lone dot.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b".\r\n");
    }

    /// The answer, which means nothing to anybody.
    pub fn on_reply(self, reply: &Reply) -> Over {
        let goes_on = reply.code != 421 && reply.code / 100 != 3;
        Over { answers: self.answers, idle: goes_on.then(|| Idle::after(self.capabilities, true)) }
    }

    /// The connection is lost: what was answered before.
    pub fn into_answers(self) -> Answers {
        self.answers
    }
}

/// The end of a transaction.
#[derive(Debug)]
pub struct Over {
    /// All answers.
    pub answers: Answers,
    /// Ready for the next transaction; `None` if the connection is of no further use.
    pub idle: Option<Idle>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BodyKind, Mailbox, ReversePath};

    fn reply(code: u32) -> Reply {
        Reply { code, enhanced: None, text: "text".to_owned() }
    }

    fn peer(pipelining: bool) -> Idle {
        Idle::after(Capabilities { pipelining, ..Capabilities::default() }, false)
    }

    /// Runs a transaction for `recipients` recipients against scripted codes; shows what was said, step by step.
    fn run(pipelining: bool, transfer: Transfer, recipients: usize, codes: &[u32]) -> (Vec<String>, Option<Over>) {
        let mailboxes: Vec<_> = (0..recipients).map(|n| Mailbox::parse(&format!("r{n}@x")).unwrap()).collect();
        let commands: Vec<_> =
            mailboxes.iter().map(|m| RcptCommand { forward_path: m, notify: None, original: None }).collect();
        let mail = MailCommand {
            reverse_path: &ReversePath::Null,
            size: 1,
            body: BodyKind::SevenBit,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
        };
        let mut next = Next::Exchange(peer(pipelining).begin(Plan { mail, recipients: &commands, transfer }));
        let (mut said, mut codes) = (Vec::new(), codes.iter());
        let mut say = |out: Vec<u8>, content: bool| {
            let words = String::from_utf8(out).unwrap();
            let verbs = words.lines().map(|l| l.split(' ').next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
            if !verbs.is_empty() || content {
                said.push(verbs + if content { " +content" } else { "" });
            }
        };
        let over = loop {
            let mut out = Vec::new();
            next = match next {
                Next::Exchange(mut exchange) => {
                    let content = exchange.write(&mut out);
                    say(out, content);
                    let Some(code) = codes.next() else { break None };
                    exchange.on_reply(reply(*code))
                }
                Next::Send(send) => {
                    send.announce(&mut out);
                    say(out, true);
                    let Some(code) = codes.next() else { break None };
                    Next::Over(send.sent().on_reply(reply(*code)))
                }
                Next::Withdraw(withdraw) => {
                    withdraw.write(&mut out);
                    say(out, false);
                    let Some(code) = codes.next() else { break None };
                    Next::Over(withdraw.on_reply(&reply(*code)))
                }
                Next::Over(over) => break Some(over),
            };
        };
        assert_eq!(codes.next(), None, "all answers were read");
        (said, over)
    }

    fn state(over: &Option<Over>) -> &'static str {
        match over.as_ref().map(|o| o.idle.as_ref().map(Idle::needs_reset)) {
            None => "midway",
            Some(None) => "closed",
            Some(Some(true)) => "needs RSET",
            Some(Some(false)) => "idle",
        }
    }

    #[test]
    fn every_course_of_a_transaction() {
        use Transfer::{Chunk, ChunkAtOnce, Data};
        let together = "MAIL RCPT RCPT DATA";
        for (name, pipelining, transfer, codes, said, end) in [
            ("good", true, Data, &[250, 250, 250, 354, 250][..], &[together, " +content"][..], "idle"),
            ("one refused", true, Data, &[250, 550, 250, 354, 250], &[together, " +content"], "idle"),
            ("all refused, DATA too", true, Data, &[250, 550, 550, 503], &[together], "needs RSET"),
            ("all refused, 354", true, Data, &[250, 550, 450, 354, 554], &[together, "."], "needs RSET"),
            ("all refused, 354, 250", true, Data, &[250, 550, 450, 354, 250], &[together, "."], "needs RSET"),
            ("MAIL refused", true, Data, &[550, 503, 503, 503], &[together], "idle"),
            ("MAIL refused, the rest taken", true, Data, &[550, 250, 250, 354, 250], &[together, "."], "needs RSET"),
            ("DATA refused", true, Data, &[250, 250, 250, 451], &[together], "needs RSET"),
            ("421 midway", true, Data, &[250, 421], &[together], "closed"),
            ("354 to RCPT", true, Data, &[250, 354], &[together], "closed"),
            ("250 to DATA", true, Data, &[250, 250, 250, 250], &[together], "closed"),
            ("content refused", true, Data, &[250, 250, 250, 354, 552], &[together, " +content"], "idle"),
            ("content, 421", true, Data, &[250, 250, 250, 354, 421], &[together, " +content"], "closed"),
            ("lost", true, Data, &[250, 250, 250, 354], &[together, " +content"], "midway"),
            ("steps", false, Data, &[250, 250, 250, 354, 250], &["MAIL", "RCPT", "RCPT", "DATA", " +content"], "idle"),
            ("steps, MAIL refused", false, Data, &[450], &["MAIL"], "idle"),
            ("steps, all refused", false, Data, &[250, 550, 550], &["MAIL", "RCPT", "RCPT"], "needs RSET"),
            ("chunk", true, ChunkAtOnce(9), &[250, 250, 250, 250], &["MAIL RCPT RCPT BDAT +content"], "idle"),
            ("chunk refused", true, ChunkAtOnce(9), &[250, 550, 550, 503], &["MAIL RCPT RCPT BDAT +content"], "closed"),
            ("big chunk", true, Chunk(9), &[250, 250, 550, 250], &["MAIL RCPT RCPT", "BDAT +content"], "idle"),
            ("big chunk, refused", true, Chunk(9), &[250, 550, 550], &["MAIL RCPT RCPT"], "needs RSET"),
            (
                "chunk, steps",
                false,
                Chunk(9),
                &[250, 250, 550, 250],
                &["MAIL", "RCPT", "RCPT", "BDAT +content"],
                "idle",
            ),
        ] {
            let (heard, over) = run(pipelining, transfer, 2, codes);
            assert_eq!(heard, said, "{name}");
            assert_eq!(state(&over), end, "{name}");
        }
    }

    #[test]
    fn a_recipient_counts_only_with_mail() {
        let (_, over) = run(true, Transfer::Data, 2, &[550, 250, 250, 354, 250]);
        assert!(!over.unwrap().answers.takes(0));
        let (_, over) = run(true, Transfer::Data, 2, &[250, 550, 250, 354, 250]);
        let answers = over.unwrap().answers;
        assert_eq!((answers.takes(0), answers.takes(1), answers.takes(2)), (false, true, false));
    }

    #[test]
    fn many_recipients_are_sent_in_bounded_groups() {
        let mut codes = vec![250; 301];
        codes.extend([354, 250]);
        let (said, over) = run(true, Transfer::Data, 300, &codes);
        assert_eq!(said[0].split(' ').count(), OUTSTANDING_MAX);
        assert_eq!(state(&over), "idle");
    }

    proptest::proptest! {
        #[test]
        fn no_answers_lead_astray(
            pipelining in proptest::bool::ANY,
            transfer in proptest::sample::select(vec![Transfer::Data, Transfer::Chunk(9)]),
            recipients in 1usize..5,
            codes in proptest::collection::vec(proptest::sample::select(vec![250, 251, 354, 421, 450, 503, 550, 200, 334]), 9),
        ) {
            // The longest course takes one answer per command and one for the content.
            for heard in 0..=recipients + 3 {
                let (said, over) = run(pipelining, transfer, recipients, &codes[..heard.min(codes.len())]);
                let Some(over) = over else { continue };
                let content = said.iter().any(|s| s.ends_with("+content"));
                proptest::prop_assert_eq!(content, over.answers.end.is_some());
                proptest::prop_assert!(!content || over.answers.takes_any(), "content for nobody");
                break;
            }
        }
    }
}
