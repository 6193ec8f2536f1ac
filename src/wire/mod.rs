//! Codecs and protocol state machines, sans-I/O.

pub mod cmpp;
mod field;
pub mod framing;
mod meaning;
pub mod smpp;
pub mod smtp;
mod window;

pub use field::FieldError;
pub use meaning::Meaning;
