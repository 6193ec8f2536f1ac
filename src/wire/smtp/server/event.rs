//! What a session hands to its driver, with the right to answer once.
//!
//! A decision borrows the session: until it is answered no further input is looked at. Answering consumes it.

use std::fmt::Write;

use super::auth::Identity;
use super::command::{MailCommand, RcptCommand};
use super::data::MessageFault;
use super::reply::{self, NegativeReply};
use super::state::{Addressing, AwaitHello, Hello, Idle, State};
use super::{Session, Tls};
use crate::model::{MailData, Recipient, Responsibility};

/// The next thing to be done about a session.
#[derive(Debug)]
pub enum Event<'s> {
    /// All input has been used: write the output, then read.
    NeedInput,
    /// MAIL wants to begin a transaction.
    Mail(MailDecision<'s>),
    /// RCPT wants to add a recipient.
    Recipient(RecipientDecision<'s>),
    /// A client says who it is.
    Authenticate(AuthDecision<'s>),
    /// A message is complete.
    Message(EndOfData<'s>, Received),
    /// A message was refused for its size or its octets; the reply is in the output.
    MessageRefused(MessageFault),
    /// STARTTLS: write the output, then do the handshake.
    StartTls(TlsDecision<'s>),
    /// Write the output, then close.
    Closed,
}

/// A whole mail transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The MAIL command.
    pub mail: MailCommand,
    /// The recipients taken, in order; at least one.
    pub recipients: Vec<Recipient>,
    /// The content.
    pub data: MailData,
}

/// An event without its loan of the session.
#[derive(Debug)]
pub(super) enum Pending {
    NeedInput,
    Mail(Idle, MailCommand),
    Recipient(Addressing, RcptCommand),
    Authenticate(Idle, Identity),
    Message(Idle, Received),
    MessageRefused(MessageFault),
    StartTls,
    Closed,
}

impl Pending {
    pub(super) fn into_event(self, session: &mut Session) -> Event<'_> {
        match self {
            Self::NeedInput => Event::NeedInput,
            Self::Mail(idle, mail) => Event::Mail(MailDecision { session, idle, mail }),
            Self::Recipient(state, rcpt) => Event::Recipient(RecipientDecision { session, state, rcpt }),
            Self::Authenticate(idle, identity) => Event::Authenticate(AuthDecision { session, idle, identity }),
            Self::Message(idle, received) => Event::Message(EndOfData { session, idle }, received),
            Self::MessageRefused(fault) => Event::MessageRefused(fault),
            Self::StartTls => Event::StartTls(TlsDecision { session }),
            Self::Closed => Event::Closed,
        }
    }
}

/// MAIL, to be answered.
#[must_use = "a decision that is dropped closes the session"]
#[derive(Debug)]
pub struct MailDecision<'s> {
    session: &'s mut Session,
    idle: Idle,
    mail: MailCommand,
}

impl MailDecision<'_> {
    /// The command.
    pub fn mail(&self) -> &MailCommand {
        &self.mail
    }

    /// What the client called itself.
    pub fn hello(&self) -> &Hello {
        &self.idle.hello
    }

    /// 250: the transaction begins.
    pub fn accept(self) {
        let Self { session, idle, mail } = self;
        session.go_on(State::AwaitRecipient(idle.mail(mail)), (1, 0), "Ok");
    }

    /// No transaction.
    pub fn refuse(self, reply: &NegativeReply) {
        self.session.refuse(State::Idle(self.idle), reply);
    }
}

/// RCPT, to be answered.
#[must_use = "a decision that is dropped closes the session"]
#[derive(Debug)]
pub struct RecipientDecision<'s> {
    session: &'s mut Session,
    state: Addressing,
    rcpt: RcptCommand,
}

impl RecipientDecision<'_> {
    /// The command.
    pub fn rcpt(&self) -> &RcptCommand {
        &self.rcpt
    }

    /// The transaction's MAIL command.
    pub fn mail(&self) -> &MailCommand {
        self.state.mail()
    }

    /// What the client called itself.
    pub fn hello(&self) -> &Hello {
        &self.state.idle().hello
    }

    /// 250: one recipient more.
    pub fn accept(self) {
        let Self { session, state, rcpt } = self;
        session.go_on(State::AwaitData(state.accept(rcpt.recipient)), (1, 5), "Ok");
    }

    /// Not this one.
    pub fn refuse(self, reply: &NegativeReply) {
        self.session.refuse(self.state.refuse(), reply);
    }
}

/// AUTH, to be answered.
#[must_use = "a decision that is dropped closes the session"]
#[derive(Debug)]
pub struct AuthDecision<'s> {
    session: &'s mut Session,
    idle: Idle,
    identity: Identity,
}

impl AuthDecision<'_> {
    /// Who the client says it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Replies that may be written while the answer is sought.
    pub fn output(&mut self) -> &mut bytes::BytesMut {
        &mut self.session.output
    }

    /// 235.
    pub fn accept(self) {
        let Self { session, idle, .. } = self;
        reply::positive(&mut session.output, 235, (7, 0), "Authentication successful");
        session.state = State::Idle(Idle { authenticated: true, ..idle });
    }

    /// 535, 454 …; a 535 counts as a failed authentication.
    pub fn refuse(self, reply: &NegativeReply) {
        self.session.refuse_auth(self.idle, reply);
    }
}

/// A complete message, to be answered.
#[must_use = "a decision that is dropped closes the session"]
#[derive(Debug)]
pub struct EndOfData<'s> {
    session: &'s mut Session,
    idle: Idle,
}

impl EndOfData<'_> {
    /// What the client called itself.
    pub fn hello(&self) -> &Hello {
        &self.idle.hello
    }

    /// True if the client has authenticated by AUTH.
    pub fn authenticated(&self) -> bool {
        self.idle.authenticated
    }

    /// Replies that may be written while the message is made safe.
    pub fn output(&mut self) -> &mut bytes::BytesMut {
        &mut self.session.output
    }

    /// 250: somebody has taken responsibility for the message.
    pub fn accept(self, proof: &impl Responsibility) {
        let Self { session, idle, .. } = self;
        let mut text = String::with_capacity(48);
        let _ = write!(text, "Ok: queued as {}", proof.message_id());
        session.errors = 0;
        session.go_on(State::Idle(idle), (0, 0), &text);
    }

    /// Nobody has.
    pub fn refuse(self, reply: &NegativeReply) {
        self.session.refuse(State::Idle(self.idle), reply);
    }
}

/// STARTTLS: the go-ahead stands in the output, input sent behind the command is gone.
#[must_use = "a decision that is dropped closes the session"]
#[derive(Debug)]
pub struct TlsDecision<'s> {
    session: &'s mut Session,
}

impl TlsDecision<'_> {
    /// Replies to write before the handshake, the go-ahead among them.
    pub fn output(&mut self) -> &mut bytes::BytesMut {
        &mut self.session.output
    }

    /// The handshake is done: the session begins anew and knows nothing of what was said in clear (RFC 3207 section 4.2).
    pub fn started(self) {
        self.session.terms.tls = Tls::Active;
        self.session.state = State::AwaitHello(AwaitHello);
    }
}
