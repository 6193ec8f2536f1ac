//! Codecs and protocol state machines, sans-I/O.

pub mod cmpp;
mod field;
pub mod framing;
pub mod gateway;
mod link_state;
mod meaning;
pub mod sgip;
pub mod smgp;
pub mod smpp;
pub mod smtp;
pub mod tlv;
mod window;

pub use field::FieldError;
pub use meaning::Meaning;
