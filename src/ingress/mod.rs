//! Taking messages in: peers' bytes become a [`Submission`](crate::model::Submission), the queue's yes becomes a reply.
//!
//! `smtp`, `http`, `smpp` and `cmpp` do not know each other; what they share stands beside them: [`bound`] (all of SMPP and CMPP but
//! their PDUs), [`backend`] (what they ask of the layers
//! below), [`accepting`] (sockets that listen), [`text`] (what every text must fit, whoever brings it), [`answers`] (texts that the relay writes itself), [`stream`] (a connection with or without TLS), `slots` (how many
//! connections there may be).
//!
//! **Does not know** how messages are stored or sent. The channels' ends do not know each other.

pub mod accepting;
pub mod answers;
pub mod backend;
pub mod bound;
pub mod cmpp;
pub mod http;
mod slots;
pub mod smpp;
pub mod smtp;
pub mod stream;
mod text;
