//! The client half of SMTP, sans-I/O: replies in, commands out (RFC 5321, 1870, 2920, 3030, 3461, 6152, 6531).
//!
//! **What.** [`ReplyParser`] turns bytes into [`Reply`](crate::model::Reply)s; [`dialogue`] and [`exchange`] hold one type per
//! state of the conversation, each consumed by its transition; [`Outgoing`] gives the message as slices to write.
//!
//! **Promises.** No byte of a peer makes anything here panic, loop or grow beyond `limits::PEER_REPLY_BYTES_MAX`. A command
//! is one line: nothing that came from a client can end it early. The message leaves byte-identical but for dot-stuffing
//! and a missing last CRLF.
//!
//! **Does not know** sockets, timeouts, TLS, or what a reply means for the recipient: that is `egress::email`'s.
//!
//! **Fails how.** A peer that breaks the protocol is a [`ReplyFault`]; the caller drops the connection and tries later.

pub mod capabilities;
pub mod command;
pub mod content;
pub mod dialogue;
pub mod exchange;
pub mod reply;

pub use capabilities::Capabilities;
pub use command::{MailCommand, RcptCommand};
pub use content::{Outgoing, sent_bytes};
pub use reply::{ReplyFault, ReplyParser};
