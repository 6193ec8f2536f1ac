//! The nouns of the relay, shared by both channels.
//!
//! **Promises.** Values of these types are well-formed: a [`Mailbox`] obeys RFC 5321's grammar, a [`Number`] is E.164,
//! [`MailData`] holds no bare CR, bare LF or NUL. Whoever has one need not check again (parse, don't validate).
//! [`Responsibility`] is what a positive reply to a submission demands.
//!
//! **Does not know** bytes on the wire, disk, time sources or configuration.
//!
//! **Fails how.** Constructors return a typed error that names what is wrong; nothing here panics on input.

mod address;
mod class;
mod consignment;
mod data;
mod envelope;
mod id;
mod measures;
mod money;
mod outcome;
mod secret;
mod text;

pub use address::{Address, AddressError, Domain, Mailbox, Number, ReversePath, longest_beginning};
pub use class::{Channel, Class};
pub use consignment::{AttemptBegun, Consignment};
pub use data::{DataFault, MailData};
pub use envelope::{
    BodyKind, ClientName, Content, Envelope, Idempotency, MailOrigin, Notify, Origin, OriginalRecipient, Recipient,
    RecipientIndex, Ret, Submission, TextOrigin, TlsWish,
};
pub use id::MessageId;
pub use measures::{Measures, Rate, Slow};
pub use money::{Money, MoneyError};
pub use outcome::{EnhancedStatus, Failure, Outcome, Peer, RecipientOutcome, Relayed, Reply, Rule, Scope, Stage};
pub use secret::Secret;
pub use text::{
    CARRIERS_MAX, CarrierMessageId, PartState, Receipt, ReceiptState, SenderId, SmsText, TextProgress, Verdict,
};

/// Proof that somebody has taken responsibility for a message (RFC 5321 section 4.2.5, "accept responsibility").
///
/// The positive reply to end-of-data, the HTTP 202 and `submit_sm_resp` each demand one, so that no codec can say yes
/// before the message is safe. `queue::Accepted` implements it (its private field is storage's proof of an fsync); the
/// embedded test ends in `peers` have their own. `tests/tidy.rs` checks that nobody else does.
pub trait Responsibility {
    /// The id under which the message was taken; it stands in the reply.
    fn message_id(&self) -> MessageId;
}
