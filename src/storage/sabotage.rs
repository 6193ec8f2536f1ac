//! Switches that break the log on purpose, to see that the simulator catches it. Tests only; they hold for one thread.

use std::cell::Cell;

use super::Record;

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Switch {
    #[default]
    Nothing,
    /// Checksums of payloads and bodies are not compared.
    BlindChecksums,
    /// Notes do not say what they are about.
    NotesAboutNothing,
    /// What is written next counts as applied.
    EagerMarks,
}

thread_local! {
    static SWITCH: Cell<Switch> = const { Cell::new(Switch::Nothing) };
}

/// From now on, on this thread.
pub(crate) fn set(switch: Switch) {
    SWITCH.set(switch);
}

pub(super) fn is(switch: Switch) -> bool {
    SWITCH.get() == switch
}

/// A group as it is appended.
pub(super) fn sabotaged(mut records: Vec<Record>) -> Vec<Record> {
    if is(Switch::NotesAboutNothing) {
        records.iter_mut().filter(|r| !r.live).for_each(|r| r.about = None);
    }
    records
}
