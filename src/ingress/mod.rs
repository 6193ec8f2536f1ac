//! Taking messages in: peers' bytes become a [`Submission`](crate::model::Submission), the queue's yes becomes a reply.
//!
//! **Does not know** how messages are stored or sent. The channels' ends do not know each other.

pub mod http;
pub mod smtp;
