//! Reading JSON bodies, and telling the client all that is wrong with one.
//!
//! **Promises.** What is not JSON is `malformed` with line and column; what is JSON of another shape is `invalid-fields`
//! with one entry a field. Messages say what was expected and never repeat a value: it may be a verification code.
//!
//! **How.** One typed pass for the many requests that are right. Only when that fails is the body read again as a
//! [`Value`] and each field tried alone, against the same type, so there is one definition of what is right.

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::problem::{Faults, Kind, Problem};

/// Reads `bytes` as a `T`, an object all of whose fields are optional to serde; `probe` tries a [`Value`] as a `T`.
pub(super) fn read<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    probe: fn(&Value) -> Result<(), serde_json::Error>,
) -> Result<T, Problem> {
    // serde takes an array for a struct, fields by position; nobody means that.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::field("", "expected a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => wrong_shape(bytes, &error, probe),
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::new(Kind::Malformed, format!("not valid JSON: {error}"))
        }
    })
}

fn wrong_shape(bytes: &[u8], error: &serde_json::Error, probe: fn(&Value) -> Result<(), serde_json::Error>) -> Problem {
    let mut faults = Faults::default();
    // A tree of values takes some sixteen times the memory of its text, so a large body is not read again.
    if bytes.len() <= PROBED_BYTES_MAX {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => {
                for (name, value) in fields {
                    probe_field(&name, value, probe, &mut faults);
                }
            }
            Ok(_) => {}
            // The typed pass stopped before the place where it is not JSON at all.
            Err(error) => return Problem::new(Kind::Malformed, format!("not valid JSON: {error}")),
        }
    }
    if faults.is_empty() {
        // A field that stands twice, for one, is no fault of either alone.
        faults.add("", without_value(&error.to_string()));
    }
    faults.into_problem()
}

fn probe_field(name: &str, value: Value, probe: fn(&Value) -> Result<(), serde_json::Error>, faults: &mut Faults) {
    let alone = |value: Value| probe(&Value::Object(Map::from_iter([(name.to_owned(), value)])));
    let elements = match &value {
        // Only where a list belongs is one of its elements to blame.
        Value::Array(elements) if alone(Value::Array(Vec::new())).is_ok() => elements.clone(),
        _ => Vec::new(),
    };
    let Err(error) = alone(value) else { return };
    let mut any = false;
    for (i, element) in elements.into_iter().enumerate() {
        if let Err(error) = alone(Value::Array(vec![element])) {
            any = true;
            faults.add(format!("{name}[{i}]"), without_value(&error.to_string()));
        }
    }
    if !any {
        faults.add(name, without_value(&error.to_string()));
    }
}

/// Turns serde's "invalid type: string "1234", expected u32" into "expected u32".
fn without_value(message: &str) -> String {
    match message.rfind("expected ") {
        Some(at) if message.starts_with("invalid ") => message[at..].to_owned(),
        _ => message.to_owned(),
    }
}

/// Largest body read a second time.
const PROBED_BYTES_MAX: usize = 1024 * 1024;
