//! One type per state of a session; a transition consumes the old state.
//!
//! RCPT exists only where there is a reverse-path, DATA only where there is a recipient, and both only behind a greeting.
//! A mail transaction wraps the [`Idle`] it grew from; [`State::reset`] gives that back, and what the transaction gathered is
//! gone with it. [`super::Session`] holds the one match over state and command.

use std::sync::Arc;

use super::auth::Exchange;
use super::command::{Chunk, MailCommand};
use super::data::{ChunkReader, DataReader, MessageLimits};
use super::reply::NegativeReply;
use crate::model::Recipient;

/// What the client called itself, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The name or address literal; nothing in it can break out of a Received field.
    pub name: Arc<str>,
    /// EHLO, not HELO.
    pub extended: bool,
}

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    AwaitHello(AwaitHello),
    Idle(Idle),
    AwaitAuth(AwaitAuth),
    AwaitRecipient(AwaitRecipient),
    AwaitData(AwaitData),
    ReceivingData(ReceivingData),
    AwaitChunk(AwaitChunk),
    ReceivingChunk(ReceivingChunk),
    SkippingChunk(SkippingChunk),
    /// An event is out and its answer will set the next state. Found at the next call, it was never answered.
    Deciding,
    Closed,
}

/// Connected, or behind a TLS handshake: nothing is known of the client.
#[derive(Debug)]
pub(super) struct AwaitHello;

/// Greeted; no mail transaction.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) hello: Hello,
    pub(super) authenticated: bool,
}

/// In the middle of AUTH.
#[derive(Debug)]
pub(super) struct AwaitAuth {
    pub(super) idle: Idle,
    pub(super) exchange: Exchange,
}

/// Behind MAIL.
#[derive(Debug)]
pub(super) struct AwaitRecipient {
    pub(super) idle: Idle,
    pub(super) mail: MailCommand,
}

/// Behind the first RCPT that was taken.
#[derive(Debug)]
pub(super) struct AwaitData {
    pub(super) idle: Idle,
    pub(super) mail: MailCommand,
    /// At least one.
    pub(super) recipients: Vec<Recipient>,
}

/// Behind 354.
#[derive(Debug)]
pub(super) struct ReceivingData {
    pub(super) envelope: AwaitData,
    pub(super) reader: DataReader,
}

/// Between two chunks.
#[derive(Debug)]
pub(super) struct AwaitChunk {
    pub(super) envelope: AwaitData,
    pub(super) reader: ChunkReader,
}

/// Inside a chunk.
#[derive(Debug)]
pub(super) struct ReceivingChunk {
    pub(super) message: AwaitChunk,
    pub(super) chunk: Chunk,
    pub(super) left: u64,
}

/// Inside a chunk that nobody asked for: its octets must not be taken for commands.
#[derive(Debug)]
pub(super) struct SkippingChunk {
    pub(super) back: Box<State>,
    pub(super) left: u64,
    /// What is said when it has passed.
    pub(super) reply: NegativeReply,
}

impl Idle {
    pub(super) fn mail(self, mail: MailCommand) -> AwaitRecipient {
        AwaitRecipient { idle: self, mail }
    }
}

impl AwaitRecipient {
    pub(super) fn recipient(self, first: Recipient) -> AwaitData {
        AwaitData { idle: self.idle, mail: self.mail, recipients: vec![first] }
    }
}

impl AwaitData {
    pub(super) fn recipient(mut self, further: Recipient) -> Self {
        self.recipients.push(further);
        self
    }

    pub(super) fn data(self, limits: MessageLimits) -> ReceivingData {
        let reader = DataReader::new(limits, self.mail.size);
        ReceivingData { envelope: self, reader }
    }

    pub(super) fn chunk(self, limits: MessageLimits, chunk: Chunk) -> ReceivingChunk {
        let reader = ChunkReader::new(limits, self.mail.size);
        AwaitChunk { envelope: self, reader }.chunk(chunk)
    }
}

impl AwaitChunk {
    pub(super) fn chunk(self, chunk: Chunk) -> ReceivingChunk {
        ReceivingChunk { message: self, chunk, left: chunk.bytes }
    }
}

/// The two states that take RCPT.
#[derive(Debug)]
pub(super) enum Addressing {
    First(AwaitRecipient),
    Further(AwaitData),
}

impl Addressing {
    pub(super) fn accept(self, recipient: Recipient) -> AwaitData {
        match self {
            Self::First(state) => state.recipient(recipient),
            Self::Further(state) => state.recipient(recipient),
        }
    }

    pub(super) fn refuse(self) -> State {
        match self {
            Self::First(state) => State::AwaitRecipient(state),
            Self::Further(state) => State::AwaitData(state),
        }
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::First(_) => 0,
            Self::Further(state) => state.recipients.len(),
        }
    }

    pub(super) fn smtputf8(&self) -> bool {
        match self {
            Self::First(AwaitRecipient { mail, .. }) | Self::Further(AwaitData { mail, .. }) => mail.smtputf8,
        }
    }

    pub(super) fn idle(&self) -> &Idle {
        match self {
            Self::First(AwaitRecipient { idle, .. }) | Self::Further(AwaitData { idle, .. }) => idle,
        }
    }

    pub(super) fn mail(&self) -> &MailCommand {
        match self {
            Self::First(AwaitRecipient { mail, .. }) | Self::Further(AwaitData { mail, .. }) => mail,
        }
    }
}

impl State {
    /// Ends the mail transaction, if there is one; what was said before it stays.
    pub(super) fn reset(self) -> Self {
        match self {
            Self::AwaitRecipient(AwaitRecipient { idle, .. })
            | Self::AwaitData(AwaitData { idle, .. })
            | Self::AwaitChunk(AwaitChunk { envelope: AwaitData { idle, .. }, .. }) => Self::Idle(idle),
            other => other,
        }
    }

    /// The state behind EHLO or HELO: it resets a transaction and does not undo AUTH (RFC 5321 section 4.1.4).
    pub(super) fn greeted(self, hello: Hello) -> Idle {
        match self.reset() {
            Self::Idle(Idle { authenticated, .. }) => Idle { hello, authenticated },
            _ => Idle { hello, authenticated: false },
        }
    }

    /// The 503 of this state.
    pub(super) fn out_of_order(&self) -> NegativeReply {
        let expected = match self {
            Self::AwaitHello(_) => "Bad sequence of commands: EHLO first",
            Self::Idle(_) => "Bad sequence of commands: MAIL first",
            Self::AwaitRecipient(_) => "Bad sequence of commands: expected RCPT",
            Self::AwaitData(_) => "Bad sequence of commands: expected RCPT, DATA or BDAT",
            Self::AwaitChunk(_) => "Bad sequence of commands: expected BDAT",
            _ => "Bad sequence of commands",
        };
        NegativeReply::new(503, (5, 1), expected)
    }
}
