//! The conversation, one type per state; a transition consumes the state it leaves (RFC 5321 section 4.3.2).
//!
//! ```text
//! AwaitGreeting ─220─▶ Greeted ─EHLO─▶ AwaitHello ─250─▶ Idle ─MAIL…─▶ Exchange ─354─▶ SendContent ─▶ AwaitEnd ─▶ Over
//!                         ▲                 │ 5yz: HELO    │               │ 354, but no recipient: Withdraw ─▶ Over
//!                         └── AwaitTls ◀── STARTTLS ───────┘               └ refused ─▶ Over
//! ```
//!
//! Here stand the states around a transaction; the transaction itself is in [`exchange`](super::exchange).
//!
//! **Promises.** What was said in clear does not survive TLS. A peer that may still hold a transaction open is reset before
//! the next one.

use super::exchange::{Exchange, Plan};
use super::{Capabilities, ReplyFault, command};
use crate::model::Reply;

/// Connected; the peer speaks first.
#[derive(Debug)]
pub struct AwaitGreeting;

impl AwaitGreeting {
    /// The peer's first reply.
    ///
    /// # Errors
    /// Its reply, if that is not a welcome.
    pub fn on_reply(self, reply: Reply) -> Result<Greeted, Reply> {
        if reply.code == 220 { Ok(Greeted(())) } else { Err(reply) }
    }
}

/// Welcome, or freshly secured: nothing is known of the peer.
#[derive(Debug)]
pub struct Greeted(());

impl Greeted {
    /// Says EHLO.
    pub fn hello(self, hostname: &str, out: &mut Vec<u8>) -> AwaitHello {
        command::ehlo(hostname, out);
        AwaitHello { extended: true }
    }
}

/// EHLO, or HELO, has been said.
#[derive(Debug)]
pub struct AwaitHello {
    extended: bool,
}

/// What the peer made of EHLO or HELO.
#[derive(Debug)]
pub enum Hello {
    /// Ready for a transaction.
    Accepted(Idle),
    /// The peer does not know EHLO; HELO has been said instead.
    Again(AwaitHello),
    /// It will not talk to us.
    Refused(Reply),
}

impl AwaitHello {
    /// The answer. A peer that refuses EHLO for good is asked once more with HELO (RFC 5321 section 3.2), but not after
    /// 521, 554 and 556, which mean the peer and not the command (RFC 7504).
    pub fn on_reply(self, reply: Reply, hostname: &str, out: &mut Vec<u8>) -> Hello {
        match reply.code {
            200..=299 if self.extended => Hello::Accepted(Idle::after(Capabilities::from_hello(&reply), false)),
            200..=299 => Hello::Accepted(Idle::after(Capabilities::default(), false)),
            500..=520 | 550 if self.extended => {
                command::helo(hostname, out);
                Hello::Again(AwaitHello { extended: false })
            }
            _ => Hello::Refused(reply),
        }
    }
}

/// Between transactions.
#[derive(Debug)]
pub struct Idle {
    capabilities: Capabilities,
    /// A transaction that the peer may still hold open.
    before: Option<Unfinished>,
}

/// A refused transaction has left state behind in the peer.
#[derive(Debug)]
struct Unfinished;

impl Idle {
    /// After a transaction; `open` says that the peer may still hold it open.
    pub(super) fn after(capabilities: Capabilities, open: bool) -> Self {
        Self { capabilities, before: open.then_some(Unfinished) }
    }

    /// What the peer offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// True if RSET has to be said before the next transaction.
    pub fn needs_reset(&self) -> bool {
        self.before.is_some()
    }

    /// Asks for TLS. `Err` gives the state back: the peer does not offer it.
    ///
    /// # Errors
    /// The state itself.
    pub fn starttls(self, out: &mut Vec<u8>) -> Result<AwaitTls, Self> {
        if !self.capabilities.starttls {
            return Err(self);
        }
        command::starttls(out);
        Ok(AwaitTls(self))
    }

    /// Says RSET if the peer may still hold a transaction open; else the state is ready as it is.
    ///
    /// # Errors
    /// The state itself, when nothing has to be said.
    pub fn reset(self, out: &mut Vec<u8>) -> Result<AwaitReset, Self> {
        if self.before.is_none() {
            return Err(self);
        }
        command::rset(out);
        Ok(AwaitReset(self.capabilities))
    }

    /// Begins a mail transaction.
    pub fn begin<'a>(self, plan: Plan<'a>) -> Exchange<'a> {
        Exchange::new(plan, self.capabilities)
    }

    /// Takes leave.
    pub fn quit(self, out: &mut Vec<u8>) {
        command::quit(out);
    }
}

/// RSET has been said.
#[derive(Debug)]
pub struct AwaitReset(Capabilities);

impl AwaitReset {
    /// The answer.
    ///
    /// # Errors
    /// Its reply, if the peer refuses even that.
    pub fn on_reply(self, reply: Reply) -> Result<Idle, Reply> {
        if is_positive(&reply) { Ok(Idle::after(self.0, false)) } else { Err(reply) }
    }
}

/// STARTTLS has been said.
#[derive(Debug)]
pub struct AwaitTls(Idle);

/// The peer's answer to STARTTLS.
#[derive(Debug)]
pub enum Tls {
    /// Shake hands now; nothing that was said in clear counts any more.
    Begin(Handshake),
    /// Not now: the conversation may go on in clear.
    Refused(Idle, Reply),
    /// The peer hangs up.
    Closing(Reply),
}

impl AwaitTls {
    /// The answer; `more` says that further bytes came with it in clear.
    ///
    /// # Errors
    /// Bytes behind the reply were put there by somebody in between, to be taken for the peer's own later.
    pub fn on_reply(self, reply: Reply, more: bool) -> Result<Tls, ReplyFault> {
        match reply.code {
            _ if more => Err(ReplyFault::Unasked),
            220 => Ok(Tls::Begin(Handshake(()))),
            421 => Ok(Tls::Closing(reply)),
            _ => Ok(Tls::Refused(self.0, reply)),
        }
    }
}

/// The TLS handshake is under way.
#[derive(Debug)]
pub struct Handshake(());

impl Handshake {
    /// It is done: the conversation starts anew (RFC 3207 section 4.2).
    pub fn done(self) -> Greeted {
        Greeted(())
    }
}

/// True for 2yz.
pub fn is_positive(reply: &Reply) -> bool {
    reply.code / 100 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u32) -> Reply {
        Reply { code, enhanced: None, text: "text".to_owned() }
    }

    #[test]
    fn hello_falls_back_and_tls_starts_anew() {
        let mut out = Vec::new();
        let greeted = AwaitGreeting.on_reply(reply(220)).unwrap();
        assert!(AwaitGreeting.on_reply(reply(554)).is_err());
        let Hello::Again(again) = greeted.hello("us", &mut out).on_reply(reply(502), "us", &mut out) else {
            panic!("HELO expected");
        };
        let Hello::Accepted(idle) = again.on_reply(reply(250), "us", &mut out) else { panic!("accepted expected") };
        assert_eq!(out, b"EHLO us\r\nHELO us\r\n");
        let idle = idle.starttls(&mut out).expect_err("not offered");
        assert!(idle.reset(&mut out).is_err(), "nothing to reset");

        let capabilities = Capabilities { starttls: true, ..Capabilities::default() };
        let asked = |out: &mut Vec<u8>| Idle::after(capabilities, false).starttls(out).unwrap();
        assert!(matches!(asked(&mut out).on_reply(reply(220), true), Err(ReplyFault::Unasked)));
        assert!(matches!(asked(&mut out).on_reply(reply(454), true), Err(ReplyFault::Unasked)));
        assert!(matches!(asked(&mut out).on_reply(reply(454), false), Ok(Tls::Refused(..))));
        assert!(matches!(asked(&mut out).on_reply(reply(421), false), Ok(Tls::Closing(_))));
        assert!(matches!(asked(&mut out).on_reply(reply(220), false), Ok(Tls::Begin(_))));

        let soiled = Idle::after(capabilities, true);
        assert!(!soiled.reset(&mut out).unwrap().on_reply(reply(250)).unwrap().needs_reset());
        assert!(out.ends_with(b"RSET\r\n"));
    }
}
