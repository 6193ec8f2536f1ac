//! What operators may do to a running relay.

use std::time::Duration;

use super::Core;
use crate::admin::control::{Operator, Status};
use crate::queue::MessageView;
use crate::queue::view::QueueView;

/// How long the overview waits for a backlog that is being taken in.
const PATIENCE: Duration = Duration::from_secs(5);

impl Operator for Core {
    fn queue(&self, lanes_max: usize) -> QueueView {
        // What is still being taken in from disk would be missing; a large backlog is not waited for to its end.
        let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.queue.loaded()).await });
        self.queue.overview(lanes_max)
    }

    fn explain(&self, what: &str, most: usize) -> Vec<MessageView> {
        // Operators are served on a thread that may wait.
        self.runtime.block_on(self.queue.explain(what, most))
    }

    fn hold(&self, held: bool) {
        tracing::info!(held, "an operator holds or resumes sending");
        self.queue.hold(held);
    }

    fn flush(&self) -> u64 {
        // What is still being taken in from disk is meant as well. Operators are served on a thread that may wait.
        self.runtime.block_on(self.queue.loaded());
        self.queue.flush()
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        Core::reload(self)
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.clock.mono().since(self.started).as_secs(),
            held: self.queue.is_held(),
            ready: self.readiness.is_ready(),
            reasons: self.readiness.reasons(),
            listeners: self.listeners.lock().clone(),
        }
    }
}
