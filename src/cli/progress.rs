//! Progress of a walk on standard error: a bar on a terminal, a line every few seconds elsewhere, or nothing.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::{grouped, size};
use crate::clock::{Mono, SharedClock, SystemClock};

/// Shows how far something has come; gone when dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// Where no bar is shown: when a line was printed last.
    lines: Option<(SharedClock, Mono)>,
    what: &'static str,
    total: u64,
    of_bytes: bool,
}

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(3);

impl Progress {
    pub(super) fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), lines: None, what: "", total: 0, of_bytes: false }
    }

    /// Counts bytes.
    pub(super) fn of_bytes(what: &'static str, total: u64) -> Self {
        Self::new(what, total, true)
    }

    /// Counts things.
    pub(super) fn of_things(what: &'static str, total: u64) -> Self {
        Self::new(what, total, false)
    }

    fn new(what: &'static str, total: u64, of_bytes: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        let template = if of_bytes {
            "{msg} {bar:40.cyan/blue} {percent:>3}%  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        } else {
            "{msg} {bar:40.cyan/blue} {percent:>3}%  {human_pos} of {human_len}, {per_sec}, {eta} left"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let clock = SystemClock::shared();
        let started = clock.mono();
        Self { bar, lines: (!terminal).then_some((clock, started)), what, total, of_bytes }
    }

    /// So much more is done.
    pub(super) fn add(&mut self, count: u64) {
        self.bar.inc(count);
        let Some((clock, last)) = &mut self.lines else { return };
        let now = clock.mono();
        if now.since(*last) >= LINE_EVERY {
            *last = now;
            let figure = if self.of_bytes { size } else { grouped };
            anstream::eprintln!("{} {} of {}", self.what, figure(self.bar.position()), figure(self.total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
