//! What pacers have found out, as plain values that outlive a process.
//!
//! **Promises.** What is recalled stays within the terms that hold by then; a suspension, or what a row holds down, lasts as
//! long as it would have.

use std::sync::Arc;

use super::pacer::{Cause, Held};
use crate::clock::Mono;

/// What the pacer of one source has found out at a site.
#[derive(Clone, PartialEq, Debug)]
pub struct Learnt {
    /// The source; `None`: the system's choice.
    pub source: Option<Arc<str>>,
    /// Connections at once.
    pub connections: Level,
    /// Mails a second.
    pub per_second: Level,
    /// Nothing is sent until then, and why.
    pub suspended: Option<(Mono, Cause)>,
    /// What rows hold the connections and the rate at.
    pub held: [Option<Held>; 2],
    /// Mails over one connection that a row has asked for.
    pub per_connection: Option<(u32, Cause)>,
}

/// How far something has been turned up or down.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Level {
    /// Where it stands; `None`: where the terms start it.
    pub at: Option<f64>,
    /// Where it was refused.
    pub ceiling: Option<f64>,
}

impl Learnt {
    /// There is nothing that a start would not know.
    pub fn is_nothing(&self) -> bool {
        let Self { source: _, connections, per_second, suspended, held, per_connection } = self;
        [connections, per_second].into_iter().all(|level| *level == Level::default())
            && suspended.is_none()
            && held.iter().all(Option::is_none)
            && per_connection.is_none()
    }
}
