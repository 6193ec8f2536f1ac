//! Whatever a configuration file holds, it is a configuration or a list of mistakes; each mistake and each warning is a line
//! of its own and names a place inside the file. Spans and sizes do not panic either.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postrider::config::{Config, parse_bytes, parse_span};

fuzz_target!(|text: &str| {
    let _ = (parse_bytes(text), parse_span(text));
    // Nothing stands in this directory, so relative names lead nowhere.
    let file = Path::new("/nonexistent/postrider.toml");
    let lines = text.lines().count().max(1) + usize::from(text.ends_with('\n'));
    match Config::parse(file, text) {
        Ok((_, warnings)) => {
            for warning in warnings {
                assert!(warning.line <= lines);
                assert!(!warning.to_string().contains('\n'), "{warning}");
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.line <= lines, "line {} of {lines}", mistake.line);
                assert!(!mistake.to_string().contains('\n'), "{mistake}");
            }
        }
    }
});
