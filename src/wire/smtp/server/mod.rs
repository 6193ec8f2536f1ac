//! The server half of SMTP (RFC 5321), sans-I/O: bytes in, reply bytes and [`Event`]s out.
//!
//! **How it is driven.** Append what the peer sent to a buffer and call [`Session::receive`] until it says
//! [`Event::NeedInput`]; then write [`Session::output`] and read on. Replies to a pipelined group gather in the output and
//! leave in one write (RFC 2920). An event that needs a decision carries it: `accept` or `refuse`, once.
//!
//! **Promises.** Commands are taken in the order RFC 5321 section 4.1.4 wants; `Session::command` is the only place where
//! that is decided. Nothing said before STARTTLS survives it, input sent behind it included (RFC 3207 section 4.2,
//! CVE-2011-0411). The positive reply to end-of-data takes a [`Responsibility`] and names its id. What the session keeps is
//! bounded by [`Terms`]: one line, one message, `recipients_max` recipients.
//!
//! **Does not know** sockets, clocks, clients or what a message is for.
//!
//! **Fails how.** The peer's faults are replies; after too many the session closes with 421. An event dropped without an
//! answer closes it too.
//!
//! **Tested** by the dialogues in `tests/dialogues`, each also split at every byte.

mod auth;
mod command;
mod data;
mod event;
mod parameters;
mod reply;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use memchr::memchr;

pub use auth::Identity;
pub use command::{Chunk, Command, CommandFault, MailCommand, Mechanism, RcptCommand};
pub use data::{LongLines, MessageFault};
pub use event::{AuthDecision, EndOfData, Event, MailDecision, Received, RecipientDecision, TlsDecision};
pub use reply::NegativeReply;
pub use state::Hello;

use crate::limits::COMMAND_LINE_BYTES_MAX;
#[cfg(doc)]
use crate::model::Responsibility;
use auth::Step;
use data::{Framed, MessageLimits};
use event::Pending;
use state::{Addressing, AwaitAuth, AwaitChunk, AwaitHello, Idle, ReceivingChunk, ReceivingData, SkippingChunk, State};

/// What a session announces and allows.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Our name, in the greeting and the reply to EHLO.
    pub hostname: Arc<str>,
    /// Largest message, in bytes; announced by SIZE.
    pub message_bytes_max: usize,
    /// Most recipients of one transaction; further ones get 452 4.5.3.
    pub recipients_max: usize,
    /// Permanent refusals since the last message taken, after which the session closes.
    pub errors_max: u32,
    /// Failed AUTHs after which the session closes.
    pub auth_failures_max: u32,
    /// Bytes of a message over the limit, or of a chunk out of place, that are read for the sake of a proper reply.
    pub discard_bytes_max: u64,
    /// What happens to lines over 998 octets.
    pub long_lines: LongLines,
    /// TLS is up, or can be had.
    pub tls: Tls,
    /// AUTH is offered.
    pub auth: bool,
    /// AUTH is offered without TLS too.
    pub plaintext_auth: bool,
}

/// How a session stands to TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// Neither up nor to be had.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// Up.
    Active,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            message_bytes_max: 50 * 1024 * 1024,
            recipients_max: 1_000,
            errors_max: 20,
            auth_failures_max: 3,
            discard_bytes_max: 200 * 1024 * 1024,
            long_lines: LongLines::Refuse,
            tls: Tls::Unavailable,
            auth: false,
            plaintext_auth: false,
        }
    }
}

impl Terms {
    fn limits(&self) -> MessageLimits {
        MessageLimits { bytes_max: self.message_bytes_max, long_lines: self.long_lines }
    }

    /// AUTH sends a password as good as in clear.
    fn auth_is_safe(&self) -> bool {
        self.plaintext_auth || self.tls == Tls::Active
    }
}

/// One connection's protocol machine.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    state: State,
    output: BytesMut,
    errors: u32,
    auth_failures: u32,
    /// Inside a command line that is too long.
    skipping_line: bool,
}

impl Session {
    /// A session whose output holds the greeting.
    pub fn new(terms: Terms) -> Self {
        let mut output = BytesMut::with_capacity(512);
        reply::plain(&mut output, 220, &format!("{} ESMTP postrider", terms.hostname));
        Self { terms, state: State::AwaitHello(AwaitHello), output, errors: 0, auth_failures: 0, skipping_line: false }
    }

    /// Replies that are to be written; whoever has written them clears it.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// True between 354 and end-of-data, and inside a chunk: what comes is message data.
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::ReceivingData(_) | State::ReceivingChunk(_) | State::SkippingChunk(_))
    }

    /// Bytes of the message that is coming in.
    pub fn message_bytes(&self) -> usize {
        match &self.state {
            State::ReceivingData(state) => state.reader.stored_bytes(),
            State::ReceivingChunk(ReceivingChunk { message, .. }) | State::AwaitChunk(message) => {
                message.reader.stored_bytes()
            }
            _ => 0,
        }
    }

    /// True once nothing more will be said.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Says `reply`, mostly a 421, and closes.
    pub fn close(&mut self, reply: &NegativeReply) {
        if !self.is_closed() {
            reply.write(&mut self.output);
            self.state = State::Closed;
        }
    }

    /// Closes after a reply that said so already.
    pub fn end(&mut self) {
        self.state = State::Closed;
    }

    /// Takes from `input` what belongs to the next event. What is left there is for the next call.
    pub fn receive(&mut self, input: &mut BytesMut) -> Event<'_> {
        let pending = loop {
            if let Some(pending) = self.step(input) {
                break pending;
            }
        };
        pending.into_event(self)
    }

    /// One line or one slice of data; `None` if there may be more to do.
    fn step(&mut self, input: &mut BytesMut) -> Option<Pending> {
        match std::mem::replace(&mut self.state, State::Deciding) {
            State::ReceivingData(state) => self.data(state, input),
            State::ReceivingChunk(state) => self.chunk(state, input),
            State::SkippingChunk(state) => self.skip(state, input),
            State::Deciding => {
                self.close(&NegativeReply::new(421, (3, 0), "Internal error"));
                Some(Pending::Closed)
            }
            State::Closed => {
                self.state = State::Closed;
                Some(Pending::Closed)
            }
            state => self.line(state, input),
        }
    }

    /// Finds the next line and has it taken as a command, or as a part of AUTH.
    fn line(&mut self, state: State, input: &mut BytesMut) -> Option<Pending> {
        let Some(bytes) = memchr(b'\n', input).map(|lf| lf + 1) else {
            self.state = state;
            if input.len() > COMMAND_LINE_BYTES_MAX {
                // Read to its end all the same, or its rest would be the next command.
                self.skipping_line = true;
                input.clear();
            }
            return Some(Pending::NeedInput);
        };
        let too_long = std::mem::take(&mut self.skipping_line) || bytes > COMMAND_LINE_BYTES_MAX;
        let pending = match state {
            State::AwaitAuth(AwaitAuth { idle, .. }) if too_long => self
                .refuse(State::Idle(idle), &NegativeReply::new(500, (5, 6), "Authentication exchange line too long")),
            state if too_long => self.refuse(state, &reply::to_command_fault(&CommandFault::LineTooLong)),
            State::AwaitAuth(AwaitAuth { idle, exchange }) => match command::line_text(&input[..bytes]) {
                Ok(line) => self.auth_step(idle, exchange.line(line)),
                Err(fault) => self.refuse(State::Idle(idle), &reply::to_command_fault(&fault)),
            },
            state => match Command::parse(&input[..bytes]) {
                Ok(command) => self.command(state, command),
                Err(fault) => self.fault(state, &fault, &input[..bytes]),
            },
        };
        input.advance(bytes);
        if matches!(pending, Some(Pending::StartTls)) {
            input.clear();
        }
        pending
    }

    /// What each command means in each state; every 503 comes from here.
    fn command(&mut self, state: State, command: Command<'_>) -> Option<Pending> {
        use Command as C;
        match (state, command) {
            (state, C::Ehlo(name)) => self.hello(state, name, true),
            (state, C::Helo(name)) => self.hello(state, name, false),
            (state, C::Rset) => self.go_on(state.reset(), (0, 0), "Ok"),
            (state, C::Noop) => self.go_on(state, (0, 0), "Ok"),
            (state, C::Vrfy) => {
                reply::positive(&mut self.output, 252, (5, 0), "Cannot VRFY user; send some mail and see");
                self.stay(state)
            }
            (_, C::Quit) => {
                reply::positive(&mut self.output, 221, (0, 0), "Bye");
                self.stay(State::Closed)
            }
            (State::Idle(idle), C::StartTls) if self.terms.tls != Tls::Active => self.start_tls(idle),
            (State::Idle(idle), C::Auth { mechanism, initial }) if !idle.authenticated => {
                self.auth(idle, mechanism, initial)
            }
            (State::Idle(idle), C::Mail(mail)) => self.mail(idle, mail),
            (State::AwaitRecipient(state), C::Rcpt(rcpt)) => self.rcpt(Addressing::First(state), rcpt),
            (State::AwaitData(state), C::Rcpt(rcpt)) => self.rcpt(Addressing::Further(state), rcpt),
            (State::AwaitData(state), C::Data) => {
                reply::plain(&mut self.output, 354, "End data with <CR><LF>.<CR><LF>");
                self.stay(State::ReceivingData(state.data(self.terms.limits())))
            }
            (State::AwaitData(state), C::Bdat(chunk)) => self.begin_chunk(state.chunk(self.terms.limits(), chunk)),
            (State::AwaitChunk(state), C::Bdat(chunk)) => self.begin_chunk(state.chunk(chunk)),
            (state, C::Bdat(chunk)) => {
                let reply = state.out_of_order();
                self.skip_chunk(state, chunk, reply)
            }
            (state, C::StartTls | C::Auth { .. } | C::Mail(_) | C::Rcpt(_) | C::Data) => {
                let reply = state.out_of_order();
                self.refuse(state, &reply)
            }
        }
    }

    fn stay(&mut self, state: State) -> Option<Pending> {
        self.state = state;
        None
    }

    fn go_on(&mut self, state: State, status: (u16, u16), text: &str) -> Option<Pending> {
        reply::positive(&mut self.output, 250, status, text);
        self.stay(state)
    }

    /// Says no and goes on in `state`, or closes if that was once too often.
    fn refuse(&mut self, state: State, reply: &NegativeReply) -> Option<Pending> {
        reply.write(&mut self.output);
        self.state = state;
        self.errors += u32::from(reply.is_permanent());
        if self.errors >= self.terms.errors_max {
            self.close(&NegativeReply::new(421, (7, 0), "Too many errors"));
        }
        None
    }

    /// A line that is no command. After a BDAT that cannot be understood, nobody knows where the next command begins.
    fn fault(&mut self, state: State, fault: &CommandFault, line: &[u8]) -> Option<Pending> {
        let reply = reply::to_command_fault(fault);
        if line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT")) {
            self.close(&reply);
            return None;
        }
        self.refuse(state, &reply)
    }

    fn hello(&mut self, state: State, name: &str, extended: bool) -> Option<Pending> {
        let idle = state.greeted(Hello { name: name.into(), extended });
        if extended {
            self.announce(&idle);
        } else {
            reply::plain(&mut self.output, 250, &self.terms.hostname);
        }
        self.stay(State::Idle(idle))
    }

    fn announce(&mut self, idle: &Idle) {
        let (terms, out) = (&self.terms, &mut self.output);
        reply::continued(out, 250, &terms.hostname);
        reply::continued(out, 250, "PIPELINING");
        reply::continued(out, 250, &format!("SIZE {}", terms.message_bytes_max));
        if terms.tls == Tls::Offered {
            reply::continued(out, 250, "STARTTLS");
        }
        if terms.auth && terms.auth_is_safe() && !idle.authenticated {
            reply::continued(out, 250, "AUTH PLAIN LOGIN");
        }
        // RFC 8689 section 2: never in clear.
        if terms.tls == Tls::Active {
            reply::continued(out, 250, "REQUIRETLS");
        }
        for keyword in ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING"] {
            reply::continued(out, 250, keyword);
        }
        reply::plain(out, 250, "DSN");
    }

    fn start_tls(&mut self, idle: Idle) -> Option<Pending> {
        if self.terms.tls == Tls::Unavailable {
            return self.refuse(State::Idle(idle), &NegativeReply::new(454, (7, 0), "TLS not available"));
        }
        // The greeted state ends here; what follows the handshake begins anew.
        reply::positive(&mut self.output, 220, (0, 0), "Ready to start TLS");
        Some(Pending::StartTls)
    }

    fn auth(&mut self, idle: Idle, mechanism: Mechanism, initial: Option<&str>) -> Option<Pending> {
        if !self.terms.auth {
            return self.refuse(State::Idle(idle), &NegativeReply::new(502, (5, 1), "Authentication not offered here"));
        }
        if !self.terms.auth_is_safe() {
            // RFC 4954 section 6.
            let reply = NegativeReply::new(538, (7, 11), "Encryption required: STARTTLS first");
            return self.refuse(State::Idle(idle), &reply);
        }
        self.auth_step(idle, auth::begin(mechanism, initial))
    }

    fn auth_step(&mut self, idle: Idle, step: Step) -> Option<Pending> {
        match step {
            Step::Ask(text, exchange) => {
                reply::plain(&mut self.output, 334, text);
                self.stay(State::AwaitAuth(AwaitAuth { idle, exchange }))
            }
            Step::Done(identity) => Some(Pending::Authenticate(idle, identity)),
            Step::Fail(reply) => self.refuse_auth(idle, &reply),
        }
    }

    fn refuse_auth(&mut self, idle: Idle, reply: &NegativeReply) -> Option<Pending> {
        self.refuse(State::Idle(idle), reply);
        self.auth_failures += u32::from(reply.code() == 535);
        if self.auth_failures >= self.terms.auth_failures_max {
            self.close(&NegativeReply::new(421, (7, 0), "Too many failed authentications"));
        }
        None
    }

    fn mail(&mut self, idle: Idle, mail: MailCommand) -> Option<Pending> {
        if mail.size.is_some_and(|size| size > self.terms.message_bytes_max as u64) {
            let fault = MessageFault::TooLarge { bytes_max: self.terms.message_bytes_max };
            self.refuse(State::Idle(idle), &reply::to_message_fault(&fault));
            return Some(Pending::MessageRefused(fault));
        }
        if mail.require_tls && self.terms.tls != Tls::Active {
            let reply = NegativeReply::new(530, (7, 0), "REQUIRETLS needs TLS on this connection first");
            return self.refuse(State::Idle(idle), &reply);
        }
        if !mail.smtputf8 && mail.reverse_path.mailbox().is_some_and(|m| m.needs_smtputf8()) {
            return self.refuse(State::Idle(idle), &needs_smtputf8());
        }
        Some(Pending::Mail(idle, mail))
    }

    fn rcpt(&mut self, state: Addressing, rcpt: RcptCommand) -> Option<Pending> {
        if !state.smtputf8() && rcpt.mailbox.needs_smtputf8() {
            return self.refuse(state.refuse(), &needs_smtputf8());
        }
        if state.count() >= self.terms.recipients_max {
            return self.refuse(state.refuse(), &NegativeReply::new(452, (5, 3), "Too many recipients"));
        }
        Some(Pending::Recipient(state, rcpt))
    }

    fn data(&mut self, mut state: ReceivingData, input: &mut BytesMut) -> Option<Pending> {
        match state.reader.feed(input) {
            Framed::Ended(bytes) => {
                input.advance(bytes);
                let ReceivingData { envelope, reader } = state;
                self.end_of_data(envelope, reader.finish())
            }
            Framed::More => {
                input.clear();
                if state.reader.skipped() > self.terms.discard_bytes_max {
                    return self.give_up();
                }
                self.state = State::ReceivingData(state);
                Some(Pending::NeedInput)
            }
        }
    }

    /// The peer goes on and on; it is told, and no more is read.
    fn give_up(&mut self) -> Option<Pending> {
        let fault = MessageFault::TooLarge { bytes_max: self.terms.message_bytes_max };
        self.close(&reply::to_message_fault(&fault));
        Some(Pending::MessageRefused(fault))
    }

    fn end_of_data(
        &mut self,
        envelope: state::AwaitData,
        data: Result<crate::model::MailData, MessageFault>,
    ) -> Option<Pending> {
        let state::AwaitData { idle, mail, recipients } = envelope;
        match data {
            Ok(data) => Some(Pending::Message(idle, Received { mail, recipients, data })),
            Err(fault) => {
                self.refuse(State::Idle(idle), &reply::to_message_fault(&fault));
                Some(Pending::MessageRefused(fault))
            }
        }
    }

    fn begin_chunk(&mut self, state: ReceivingChunk) -> Option<Pending> {
        if state.left > (self.terms.message_bytes_max as u64).saturating_add(self.terms.discard_bytes_max) {
            return self.give_up();
        }
        self.stay(State::ReceivingChunk(state))
    }

    fn chunk(&mut self, mut state: ReceivingChunk, input: &mut BytesMut) -> Option<Pending> {
        let bytes = take(&mut state.left, input.len());
        state.message.reader.feed(&input[..bytes]);
        input.advance(bytes);
        if state.left > 0 {
            self.state = State::ReceivingChunk(state);
            return Some(Pending::NeedInput);
        }
        let ReceivingChunk { message: AwaitChunk { envelope, reader }, chunk, .. } = state;
        match reader.overflow() {
            // RFC 3030 section 2: the transaction is over; chunks that are already on their way get 503.
            Some(fault) => self.end_of_data(envelope, Err(fault)),
            None if chunk.last => self.end_of_data(envelope, reader.finish()),
            None => {
                let text = format!("{} octets received", chunk.bytes);
                self.go_on(State::AwaitChunk(AwaitChunk { envelope, reader }), (0, 0), &text)
            }
        }
    }

    /// A chunk nobody asked for: its octets pass by before the reply.
    fn skip_chunk(&mut self, state: State, chunk: Chunk, reply: NegativeReply) -> Option<Pending> {
        if chunk.bytes > self.terms.discard_bytes_max {
            self.close(&reply);
            return None;
        }
        self.stay(State::SkippingChunk(SkippingChunk { back: Box::new(state), left: chunk.bytes, reply }))
    }

    fn skip(&mut self, mut state: SkippingChunk, input: &mut BytesMut) -> Option<Pending> {
        input.advance(take(&mut state.left, input.len()));
        if state.left > 0 {
            self.state = State::SkippingChunk(state);
            return Some(Pending::NeedInput);
        }
        self.refuse(*state.back, &state.reply)
    }
}

/// Takes at most `available` off `left`.
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

/// RFC 6531 section 3.7.4.
fn needs_smtputf8() -> NegativeReply {
    NegativeReply::new(553, (6, 7), "Address needs SMTPUTF8, which MAIL did not ask for")
}
