//! One mail transaction over a session: the I/O that `wire::smtp::client::exchange` asks for.
//!
//! **Promises.** Whatever the peer answered before a connection broke is kept. It is known whether all of the content had
//! gone, and so whether the peer may have taken a mail whose answer never came. A yes that comes before its question is
//! none: the content stays here.

use std::time::Duration;

use super::connection::Lost;
use super::options::Timeouts;
use super::session::Session;
use super::verdict::Loss;
use crate::model::{MailData, Reply, Stage};
use crate::wire::smtp::client::dialogue::Idle;
use crate::wire::smtp::client::exchange::{Answers, AwaitEnd, Exchange, Next, Over, Plan, SendContent, Withdraw};
use crate::wire::smtp::client::{Outgoing, ReplyFault};

/// How long to listen for a peer's last words after it stopped listening to ours.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a transaction ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) answers: Answers,
    pub(super) loss: Option<Loss>,
}

impl Ended {
    /// True if the peer is not known to have heard anything of this mail.
    pub(super) fn never_reached(&self) -> bool {
        self.answers.mail.is_none() && self.loss.as_ref().is_some_and(|loss| !loss.answer_lost)
    }

    /// True if a kept connection proved dead before the peer took anything of this mail.
    pub(super) fn never_began(&self) -> bool {
        match (&self.answers.mail, &self.loss) {
            (None, Some(loss)) => !loss.answer_lost,
            (Some(mail), _) => mail.code == 421,
            (None, None) => false,
        }
    }
}

/// The content: a signature block in front, and the mail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) signature: Option<&'a MailData>,
    pub(super) data: &'a MailData,
    /// Bytes of both as they are sent.
    pub(super) bytes: u64,
}

/// Runs one transaction; the session keeps its `idle` state if it can carry another.
pub(super) async fn transact(
    session: &mut Session,
    idle: Idle,
    plan: Plan<'_>,
    load: Load<'_>,
    timeouts: &Timeouts,
) -> Ended {
    session.connection.renew();
    let mut run = Run { session, load, timeouts, out: Vec::with_capacity(512), content_gone: false, deaf: None };
    let mut next = Next::Exchange(idle.begin(plan));
    loop {
        let step = match next {
            Next::Exchange(exchange) => run.exchange(exchange).await,
            Next::Send(send) => run.send(send).await,
            Next::Withdraw(withdraw) => run.withdraw(withdraw).await,
            Next::Over(Over { answers, idle }) => {
                run.session.idle = idle.filter(|_| run.deaf.is_none());
                return Ended { answers, loss: None };
            }
        };
        next = match step {
            Ok(next) => next,
            Err(ended) => return *ended,
        };
    }
}

struct Run<'a, 's> {
    session: &'s mut Session,
    load: Load<'a>,
    timeouts: &'a Timeouts,
    out: Vec<u8>,
    /// All of the content has been handed to the system.
    content_gone: bool,
    /// The peer stopped reading amid the content: only its last words are awaited.
    deaf: Option<Lost>,
}

type Step<'p> = Result<Next<'p>, Box<Ended>>;

impl Run<'_, '_> {
    async fn exchange<'p>(&mut self, mut exchange: Exchange<'p>) -> Step<'p> {
        self.out.clear();
        if exchange.is_answered() && self.session.connection.has_more() {
            let stage = exchange.awaits();
            return Err(self.broken(exchange.into_answers(), stage, &Lost::Fault(ReplyFault::Unasked)));
        }
        let with_content = exchange.write(&mut self.out);
        let stage = exchange.awaits();
        if with_content {
            let content = Outgoing::chunk(&self.out, self.load.signature, self.load.data);
            match self.session.connection.send(content, self.load.bytes, self.timeouts.block).await {
                Ok(()) => self.content_gone = true,
                Err(lost @ Lost::Timeout) => return Err(self.broken(exchange.into_answers(), stage, &lost)),
                Err(lost) => self.deaf = Some(lost),
            }
        } else if !self.out.is_empty()
            && let Err(Lost::Timeout) = self.session.connection.say(&self.out, self.timeout(stage)).await
        {
            return Err(self.broken(exchange.into_answers(), stage, &Lost::Timeout));
        }
        // A failed write is not the end: the peer may have said why it hung up.
        match (self.session.connection.reply(self.timeout(stage)).await, &self.deaf) {
            // A yes to half a mail is none.
            (Ok(reply), Some(lost)) if stage == Stage::EndOfData && reply.code < 400 => {
                Err(self.broken(exchange.into_answers(), stage, lost))
            }
            (Ok(reply), _) => Ok(exchange.on_reply(reply)),
            (Err(lost), _) => Err(self.broken(exchange.into_answers(), stage, &lost)),
        }
    }

    async fn send<'p>(&mut self, send: SendContent) -> Step<'p> {
        self.out.clear();
        if self.session.connection.has_more() {
            // A verdict on a mail that has not been given: a refusal is believed, a yes is not.
            return Err(self.last_words(send.sent(), &Lost::Fault(ReplyFault::Unasked)).await);
        }
        let (signature, data) = (self.load.signature, self.load.data);
        let content = if send.announce(&mut self.out) {
            Outgoing::chunk(&self.out, signature, data)
        } else {
            Outgoing::dot_stuffed(signature, data)
        };
        match self.session.connection.send(content, self.load.bytes, self.timeouts.block).await {
            Ok(()) => self.content_gone = true,
            Err(lost) => return Err(self.last_words(send.sent(), &lost).await),
        }
        let end = send.sent();
        match self.session.connection.reply(self.timeout(Stage::EndOfData)).await {
            Ok(reply) => Ok(Next::Over(end.on_reply(reply))),
            Err(lost) => Err(self.broken(end.into_answers(), Stage::EndOfData, &lost)),
        }
    }

    /// The peer hung up or stopped reading amid the content, or spoke before it; a refusal it left behind counts, a yes to half a mail does not.
    async fn last_words(&mut self, end: AwaitEnd, lost: &Lost) -> Box<Ended> {
        let within = match lost {
            // It has had its time; only what has come already is read.
            Lost::Timeout => Duration::ZERO,
            Lost::Closed | Lost::Io(_) | Lost::Fault(_) => LAST_WORDS,
        };
        let last = self.session.connection.reply(within).await.ok();
        match last.filter(|reply| reply.code >= 400) {
            Some(reply) => Box::new(Ended { answers: end.on_reply(reply).answers, loss: None }),
            None => self.broken(end.into_answers(), Stage::Data, lost),
        }
    }

    async fn withdraw<'p>(&mut self, withdraw: Withdraw) -> Step<'p> {
        self.out.clear();
        withdraw.write(&mut self.out);
        let said = self.session.connection.say(&self.out, self.timeouts.block).await;
        let reply = match said {
            Ok(()) => self.session.connection.reply(self.timeouts.end_of_data).await,
            Err(lost) => Err(lost),
        };
        match reply {
            Ok(reply) => Ok(Next::Over(withdraw.on_reply(&reply))),
            // Everybody has been refused already; nobody loses anything.
            Err(lost) => Err(self.broken(withdraw.into_answers(), Stage::Data, &lost)),
        }
    }

    fn broken(&self, answers: Answers, stage: Stage, lost: &Lost) -> Box<Ended> {
        let refused = |reply: &Reply| reply.code / 100 != 2;
        let may_be_taken = !answers.mail.as_ref().is_some_and(refused)
            && (answers.recipients.is_empty() || answers.takes_any() || stage == Stage::Recipient);
        let loss = Loss { stage, cause: lost.to_string(), answer_lost: self.content_gone && may_be_taken };
        Box::new(Ended { answers, loss: Some(loss) })
    }

    fn timeout(&self, stage: Stage) -> Duration {
        match stage {
            _ if self.deaf.is_some() => LAST_WORDS,
            Stage::Mail => self.timeouts.mail,
            Stage::Recipient => self.timeouts.recipient,
            Stage::Data => self.timeouts.data,
            _ => self.timeouts.end_of_data,
        }
    }
}
