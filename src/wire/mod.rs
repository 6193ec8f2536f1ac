//! Codecs and protocol state machines, sans-I/O.
pub mod cmpp;
pub mod smpp;
pub mod smtp;
mod window;
