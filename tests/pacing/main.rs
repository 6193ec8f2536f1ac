//! The pacer against models of Gmail, Outlook, Yahoo, QQ and 163, from a quarter to four times what a start is made with.
//!
//! ```text
//! cargo test --test pacing -- --nocapture                       # asserts, and prints the figures
//! POSTRIDER_PLOTS=docs/pacing cargo test --test pacing          # the same, and draws the curves
//! ```
//!
//! Time is simulated and chance has a seed: a run gives the same figures every time. Schedule, pacer, provider table and the
//! courier's judgement are the program's own; what is modelled is the provider (`far_end.rs`) and the workers (`world.rs`).

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod far_end;
mod plot;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use far_end::{KINDS, Kind};
use plot::{Chart, Line, svg};
use postrider::clock::Mono;
use postrider::provider::Table;
use postrider::schedule::{Cause, Step};
use world::{SAMPLE, Sample, World};

/// What a provider takes, as a share of what a start is made with.
const SHARES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
const COLOURS: [&str; 5] = ["#7b3294", "#2166ac", "#1b7837", "#e08214", "#b2182b"];
const MINUTE: Duration = Duration::from_secs(60);
/// Some values are a mean over so many samples.
const HALF_A_MINUTE: usize = 6;

/// The samples from one minute to another.
fn minutes(samples: &[Sample], from: u64, to: u64) -> &[Sample] {
    let at = |minute: u64| ((minute * 60 / SAMPLE.as_secs()) as usize).min(samples.len());
    &samples[at(from)..at(to)]
}

/// Mails a second.
fn taken(samples: &[Sample]) -> f64 {
    let accepted: u32 = samples.iter().map(|s| s.accepted).sum();
    f64::from(accepted) / (samples.len().max(1) as f64 * SAMPLE.as_secs_f64())
}

/// The share of attempts that were refused.
fn deferred(samples: &[Sample]) -> f64 {
    let (accepted, refused) = samples.iter().fold((0, 0), |(a, r), s| (a + s.accepted, r + s.refused));
    f64::from(refused) / f64::from((accepted + refused).max(1))
}

/// Points of minutes and of what was taken over half a minute, as a share of the capacity.
fn curve(samples: &[Sample], first: usize, capacity: f64) -> Vec<(f64, f64)> {
    let minute = |n: usize| (first + n + HALF_A_MINUTE) as f64 * SAMPLE.as_secs_f64() / 60.0;
    samples.windows(HALF_A_MINUTE).enumerate().map(|(n, w)| (minute(n), taken(w) / capacity)).collect()
}

fn draw(name: &str, charts: &[Chart]) {
    if let Some(dir) = std::env::var_os("POSTRIDER_PLOTS").map(PathBuf::from) {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.svg")), svg(charts)).unwrap();
    }
}

#[test]
fn capacity_is_found_in_five_minutes_and_kept_for_ten() {
    let mut faults = Vec::new();
    println!("provider  capacity            85 % after  minutes 5 to 15: of it, deferred");
    for kind in KINDS {
        let (mut speed, mut slots) = (Vec::new(), Vec::new());
        for (share, colour) in SHARES.into_iter().zip(COLOURS) {
            let mut world = World::new(kind, share);
            let capacity = world.capacity();
            world.run(15 * MINUTE);
            let samples = &world.samples;
            let reached = samples.windows(HALF_A_MINUTE).position(|w| taken(w) >= 0.85 * capacity);
            let reached = reached.map_or(u64::MAX, |n| (n + HALF_A_MINUTE) as u64 * SAMPLE.as_secs());
            let kept = taken(minutes(samples, 5, 15)) / capacity;
            let deferred = deferred(minutes(samples, 5, 15));
            println!(
                "{:<8} {share:>5} x {capacity:>6.2}/s {reached:>12} s {:>19.1} %, {:.2} %",
                kind.name,
                100.0 * kept,
                100.0 * deferred
            );
            if reached > 300 || kept < 0.85 || deferred >= 0.02 {
                faults.push(format!("{} at {share}: {reached} s, {kept:.3}, {deferred:.4}", kind.name));
            }
            let name = format!("{share} x: {capacity:.1}/s");
            speed.push(Line { name: name.clone(), colour, points: curve(samples, 0, capacity) });
            let connections =
                (1..).zip(samples).map(|(n, s)| (n as f64 * SAMPLE.as_secs_f64() / 60.0, s.connections as f64));
            slots.push(Line { name, colour, points: connections.collect() });
        }
        let title = format!("{}: mails taken, as a share of what it takes", kind.name);
        let chart = Chart { title, lines: speed };
        let slots = Chart { title: format!("{}: connections allowed", kind.name), lines: slots };
        draw(kind.name, &[chart, slots]);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Blocked in the 20th minute, let in again while we still leave it alone.
#[test]
fn a_block_is_obeyed_and_left_by_a_ramp() {
    let mut charts = Vec::new();
    for kind in KINDS {
        let Kind { name, leave_alone, .. } = kind;
        let mut world = World::new(kind, 1.0);
        let capacity = world.capacity();
        world.run(20 * MINUTE);
        let blocked = world.now();
        world.block(leave_alone / 2);
        world.run(MINUTE + leave_alone + 30 * MINUTE);

        let suspended = world.steps.iter().find_map(|(at, step)| match step {
            Step::Suspended { until, cause: Cause::Rule(rule), .. } if *at > blocked => Some((*at, *until, rule)),
            _ => None,
        });
        let (at, until, rule) = suspended.unwrap_or_else(|| panic!("{name}: {:?}", world.steps));
        println!("{name}: {rule} after {:?}, for {:?}", at.since(blocked), until.since(at));
        assert!(at.since(blocked) < Duration::from_secs(5), "{name}: it took {:?}", at.since(blocked));
        assert_eq!(until.since(at), leave_alone, "{name}: what the table says");
        // Answers to what was under way come in; then nothing is tried until the end.
        let quiet = at.plus(Duration::from_secs(2));
        let meanwhile = world.attempts.iter().filter(|t| **t > quiet && **t < until).count();
        assert_eq!(meanwhile, 0, "{name}: attempts while it was to be left alone");

        // A ramp: little at first, then more and more, and no step that is a cliff.
        let minute = |n: u64| {
            let from = until.plus(MINUTE * n as u32);
            let to = from.plus(MINUTE);
            let sample = |at: Mono| (at.0 / SAMPLE.as_micros() as u64) as usize;
            taken(&world.samples[sample(from)..sample(to)]) / capacity
        };
        let ramp: Vec<f64> = (0..25).map(minute).collect();
        println!("  minutes after it: {:.2?}", &ramp[..15]);
        assert!(ramp[0] < 0.5, "{name}: {ramp:.2?}");
        assert!(ramp.windows(2).all(|w| w[1] - w[0] < 0.35), "{name}: {ramp:.2?}");
        assert!(ramp[15..].iter().sum::<f64>() / 10.0 > 0.85, "{name}: {ramp:.2?}");

        let end = (until.0 / SAMPLE.as_micros() as u64) as usize;
        let first = end.saturating_sub(60);
        let points = curve(&world.samples[first..], first, capacity);
        let zero = until.0 as f64 / 60e6;
        let points = points.into_iter().map(|(minute, share)| (minute - zero, share)).collect();
        let name = format!("{name}: after {} h", leave_alone.as_secs() / 3_600);
        charts.push(Line { name, colour: COLOURS[charts.len()], points });
    }
    let title = "The way back after a block: mails taken, as a share of what it takes".to_owned();
    draw("recovery", &[Chart { title, lines: charts }]);
}

#[test]
fn the_models_start_as_the_table_says() {
    let table = Table::shipped();
    for kind in KINDS {
        let provider = table.provider_of(kind.host);
        let limits = (provider.limits.connections, provider.limits.messages_per_connection);
        assert_eq!(&*provider.name, kind.name);
        assert_eq!(limits, (Some(kind.connections), Some(kind.per_connection)), "{}", kind.name);
    }
}
