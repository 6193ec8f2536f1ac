//! What is wrong with a PDU's field.

use std::fmt;

/// A field that is too long, too short or badly made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// The standard's name for it.
    pub field: &'static str,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}", self.field)
    }
}

impl std::error::Error for FieldError {}
