//! Carrying: couriers for mail and for texts. Both are handed [`Consignment`](crate::model::Consignment)s and answer with an
//! outcome for each recipient.
//!
//! `email` and `sms` do not know each other; `dispatch` joins them to the queue.

pub mod email;
mod https;
pub mod sms;
