//! Storage.
/// Proof of an fsync.
#[derive(Clone, Debug)]
pub struct Durable(());
