//! What a run did, step by step: printed when one seed is replayed, hashed when two runs are compared.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// Where steps go.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) print: bool,
    pub(super) hash: Option<DefaultHasher>,
}

impl Trace {
    pub(super) fn wants(&self) -> bool {
        self.print || self.hash.is_some()
    }

    pub(super) fn note(&mut self, step: fmt::Arguments<'_>) {
        let step = step.to_string();
        if self.print {
            eprintln!("  {step}");
        }
        if let Some(hash) = &mut self.hash {
            hash.write(step.as_bytes());
        }
    }

    /// What two runs of the same seed have in common.
    pub(super) fn sum(&self) -> Option<u64> {
        self.hash.as_ref().map(Hasher::finish)
    }
}

/// Notes a step if anybody wants to know.
macro_rules! note {
    ($trace:expr, $($step:tt)*) => {
        if $trace.wants() {
            $trace.note(format_args!($($step)*));
        }
    };
}
pub(super) use note;
