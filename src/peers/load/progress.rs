//! Progress of a run on standard error: a bar on a terminal, a line every few seconds elsewhere, or nothing.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;
use super::{Amount, Options};
use crate::clock::SharedClock;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Progress {
    /// Not at all.
    #[default]
    Silent,
    /// A bar, redrawn a few times a second.
    Bar,
    /// A line every few seconds.
    Lines,
}

impl Progress {
    /// A bar if standard error is a terminal, lines otherwise.
    pub fn on_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }

    fn interval(self) -> Option<Duration> {
        match self {
            Self::Silent => None,
            Self::Bar => Some(Duration::from_millis(200)),
            Self::Lines => Some(Duration::from_secs(3)),
        }
    }
}

/// Shows progress until it is dropped.
pub(super) async fn show(progress: Progress, options: &Options, tally: &Tally, clock: &SharedClock) {
    let Some(interval) = progress.interval() else { return std::future::pending().await };
    let length = match options.amount {
        Amount::Messages(count) => count,
        Amount::For(span) => span.as_secs(),
    };
    let bar = ProgressBar::with_draw_target(
        Some(length),
        if progress == Progress::Bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    if let Ok(style) = ProgressStyle::with_template("{bar:40.cyan/blue} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    let _clear = ClearAtEnd(&bar);
    let started = clock.mono();
    let (mut before, mut then) = (0, started);
    loop {
        tokio::time::sleep(interval).await;
        let (now, accepted) = (clock.mono(), tally.accepted.load(Ordering::Relaxed));
        let rate = (accepted - before) as f64 / now.since(then).as_secs_f64().max(1e-6);
        (before, then) = (accepted, now);
        let failed = tally.refused.load(Ordering::Relaxed) + tally.unanswered.load(Ordering::Relaxed);
        let p99 = tally.latencies.percentile(0.99).as_secs_f64() * 1_000.0;
        let message = format!("{accepted} accepted, {rate:.0}/s, {failed} failed, p99 {p99:.1} ms");
        match options.amount {
            Amount::Messages(_) => bar.set_position(accepted + failed),
            Amount::For(_) => bar.set_position(now.since(started).as_secs()),
        }
        if progress == Progress::Lines {
            anstream::eprintln!("{message}");
        }
        bar.set_message(message);
    }
}

/// Takes the bar off the screen, also when the future that draws it is dropped.
struct ClearAtEnd<'a>(&'a ProgressBar);

impl Drop for ClearAtEnd<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
