//! Codecs and protocol state machines, sans-I/O.
pub mod smpp;
pub mod smtp;
