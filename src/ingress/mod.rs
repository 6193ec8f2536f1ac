//! Taking messages in.
pub mod http;
pub mod smtp;
