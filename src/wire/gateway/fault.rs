//! What is wrong with a PDU that cannot be read.

use std::fmt;

use crate::wire::FieldError;

/// What is wrong with a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No such command between a gateway and a service provider.
    Command,
    /// A field.
    Field(FieldError),
}

/// A PDU that cannot be read, with what an answer to it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PduError<Id> {
    /// Its command id.
    pub command_id: u32,
    /// Its sequence number.
    pub sequence: u32,
    /// Its message id, where it starts with one.
    pub msg_id: Id,
    /// What is wrong.
    pub fault: Fault,
}

impl<Id> fmt::Display for PduError<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Command => write!(f, "unknown command 0x{:08X}", self.command_id),
            Fault::Field(field) => write!(f, "{field} in command 0x{:08X}", self.command_id),
        }
    }
}

impl<Id: fmt::Debug> std::error::Error for PduError<Id> {}
