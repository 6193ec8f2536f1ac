//! The ingress over real sockets, with a queue that only remembers.

mod batch;
mod document;
mod fixture;
mod hostile;
mod mail;
mod preview;
mod rules;
mod server;
mod sms;
