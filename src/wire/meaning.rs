//! What a carrier's answer means for what we asked, whatever the protocol's number for it.

use crate::model::Scope;

/// What to do about an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Done.
    Ok,
    /// Slow down, then again.
    Throttled,
    /// Again later.
    Temporary,
    /// The bind, the account or how we speak is at fault: again later, elsewhere if possible.
    Account,
    /// Never; condemns the recipient or the message.
    Final(Scope),
}
