//! The rules of this code that no compiler checks: layers, headers, who may say yes, lengths, tests that cannot pretend.
//!
//! Each rule is an ordinary test; each has a list of exceptions that may only shrink: an exception that is no longer needed
//! fails too. Sources are looked at without comments and strings, and, where a rule is about the program, without its
//! tests. The last tests here show that the rules can say no.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of DESIGN section 3, low to high. A module uses lower layers only.
const LAYERS: [&[&str]; 9] = [
    &["model", "clock", "limits"],
    &["wire", "mail", "sms"],
    &["storage", "net", "dns"],
    &["schedule", "route", "provider", "policy", "event"],
    &["queue", "egress"],
    &["ingress", "dispatch"],
    &["admin", "peers"],
    &["config", "relay"],
    &["cli", "main", "lib"],
];

/// Who may use a module of its own layer, and why.
const SIBLINGS: &[(&str, &str, &str)] = &[
    ("model", "clock", "ids and envelopes carry timestamps"),
    ("model", "limits", "constructors enforce the hard ceilings"),
    ("relay", "config", "it is built from a Config"),
    ("main", "cli", "it is the cli's way in"),
];

/// Parts of one module that must not know each other.
const STRANGERS: &[(&str, &[&str])] = &[
    ("src/egress", &["email", "sms"]),
    ("src/ingress", &["smtp", "http", "smpp", "cmpp"]),
    ("src/wire", &["smtp", "smpp", "cmpp", "sgip", "smgp"]),
    ("src/peers", &["mail_sink", "carrier", "load"]),
];

/// The only places that may implement `model::Responsibility`: the queue, the embedded ends for themselves, and parts of texts
/// that a journal keeps until they are whole.
const RESPONSIBLE: [&str; 3] = ["src/queue", "src/peers", "src/ingress/bound/kept.rs"];

/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 100;
/// Functions that are longer, with their length. This list shrinks.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 600;
/// Files that are longer, with their length. This list shrinks.
const LONG_FILES: &[(&str, usize)] = &[];

/// Where every metric and every kind of event is described. Naming a file here turns the check on.
const CATALOGUES: &[&str] = &["docs/metrics-and-events.md"];

#[test]
fn modules_use_lower_layers_only() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let module = module_of(&source.path);
        for used in modules_used(&source.program()) {
            faults.extend(layer_fault(&module, &used).map(|why| format!("{}: {why}", source.name())));
        }
    }
    assert_none(&faults);
}

#[test]
fn parts_of_a_module_do_not_know_each_other() {
    let mut faults = Vec::new();
    for (parent, parts) in STRANGERS {
        for source in sources(parent) {
            let Some(own) = parts.iter().find(|p| is_part(&source.path, parent, p)) else { continue };
            let program = source.program();
            let module = parent.trim_start_matches("src/");
            for other in parts.iter().filter(|p| *p != own) {
                if program.contains(&format!("crate::{module}::{other}")) {
                    faults.push(format!("{}: {own} must not know {other}", source.name()));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_file_says_what_it_is() {
    let faults: Vec<_> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|dir| sources(dir))
        .filter(|s| !s.text.starts_with("//! "))
        .map(|s| format!("{}: does not open with a //! header", s.name()))
        .collect();
    assert_none(&faults);
}

#[test]
fn only_the_queue_and_the_embedded_ends_say_yes() {
    let mut seen = 0;
    let mut faults = Vec::new();
    for source in sources("src") {
        if source.program().contains("Responsibility for ") {
            seen += 1;
            if !RESPONSIBLE.iter().any(|dir| source.path.starts_with(dir)) {
                faults.push(format!("{}: implements Responsibility", source.name()));
            }
        }
    }
    assert_none(&faults);
    assert!(seen > 0, "nobody implements Responsibility: the rule looks for the wrong words");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = BTreeSet::new();
    let mut faults = Vec::new();
    for source in sources("src") {
        for (function, lines) in functions(&source.program()) {
            if lines <= FUNCTION_LINES_MAX {
                continue;
            }
            match LONG_FUNCTIONS.iter().find(|(file, name, _)| source.path == Path::new(file) && *name == function) {
                Some(known) if lines <= known.2 => drop(found.insert(known)),
                _ => faults.push(format!("{}: fn {function} has {lines} lines", source.name())),
            }
        }
    }
    faults.extend(LONG_FUNCTIONS.iter().filter(|e| !found.contains(e)).map(|e| format!("{e:?} is no longer needed")));
    assert_none(&faults);
}

#[test]
fn files_can_be_held_in_the_head() {
    let mut found = BTreeSet::new();
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches"].iter().flat_map(|dir| sources(dir)) {
        let lines = source.text.lines().count();
        if lines <= FILE_LINES_MAX {
            continue;
        }
        match LONG_FILES.iter().find(|(file, _)| source.path == Path::new(file)) {
            Some(known) if lines <= known.1 => drop(found.insert(known)),
            _ => faults.push(format!("{}: {lines} lines", source.name())),
        }
    }
    faults.extend(LONG_FILES.iter().filter(|e| !found.contains(e)).map(|e| format!("{e:?} is no longer needed")));
    assert_none(&faults);
}

#[test]
fn no_test_is_skipped_or_sleeps() {
    let mut faults = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let code = code_only(&source.text);
        let tests = if source.is_test() { code.clone() } else { difference(&code, &source.program()) };
        for banned in ["#[ignore", "sleep("] {
            faults.extend(lines_with(&tests, banned).map(|n| format!("{}:{n}: {banned}", source.name())));
        }
    }
    assert_none(&faults);
}

#[test]
fn metrics_and_events_are_documented() {
    let told: String = CATALOGUES.iter().map(|file| fs::read_to_string(root().join(file)).unwrap()).collect();
    let metrics = metric_names(&fs::read_to_string(root().join("src/event/metrics.rs")).unwrap());
    // What there is of SMPP in, there is of CMPP in.
    let twins: Vec<_> =
        metrics.iter().filter(|name| name.contains("smpp")).map(|n| n.replace("smpp", "cmpp")).collect();
    assert!(twins.len() > 5, "the metrics of SMPP are not found: {metrics:?}");
    assert!(metrics.len() > 20, "the catalogue of metrics is not found: {metrics:?}");
    let kinds = postrider::event::Kind::ALL.iter().map(|kind| format!("`{}`", kind.as_str()));
    let missing = metrics
        .into_iter()
        .chain(twins)
        .map(|name| format!("`{name}`"))
        .chain(kinds)
        .filter(|name| !told.contains(name));
    if !CATALOGUES.is_empty() {
        assert_none(&missing.map(|name| format!("{name} is not described in {CATALOGUES:?}")).collect::<Vec<_>>());
    }
}

// What the rules are made of.

struct Source {
    /// From the package's root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// A file that is compiled for tests only.
    fn is_test(&self) -> bool {
        let in_tests = |p: &Path| p.components().any(|c| c.as_os_str() == "tests");
        in_tests(&self.path) || self.path.file_stem().is_some_and(|s| s == "tests")
    }

    /// The code that is not test code.
    fn program(&self) -> String {
        if self.is_test() { String::new() } else { without_tests(&code_only(&self.text)) }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory, sorted.
fn sources(dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// `src/wire/smtp/mod.rs` and `src/route.rs` belong to `wire` and `route`.
fn module_of(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn is_part(path: &Path, parent: &str, part: &str) -> bool {
    path.starts_with(Path::new(parent).join(part)) || path == Path::new(parent).join(part).with_extension("rs")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `module` may not use `used`.
fn layer_fault(module: &str, used: &str) -> Option<String> {
    // The front page names everything; that is its use.
    if module == "lib" || module == used {
        return None;
    }
    let (Some(own), Some(other)) = (layer_of(module), layer_of(used)) else {
        return Some(format!("{module} or {used} stands in no layer"));
    };
    let allowed = other < own || SIBLINGS.iter().any(|(m, u, _)| (*m, *u) == (module, used));
    (!allowed).then(|| format!("{module} (layer {own}) uses {used} (layer {other})"))
}

/// The modules that paths from the crate's root name: `crate::a::…`, `use crate::{a::…, b}`, `postrider::a`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for start in ["crate::", "postrider::"] {
        for (at, _) in code.match_indices(start) {
            // `pub(crate)` has no path; `$crate::` and `::crate::` are the same root.
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(heads(group)),
                None => used.extend(Some(word(rest)).filter(|w| !w.is_empty())),
            }
        }
    }
    used
}

/// The first words of the elements of a use group, whose `{` has been read.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut at_head) = (0, Vec::new(), true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if at_head && (c.is_alphanumeric() || c == '_') => {
                heads.push(word(&group[i..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The text with comments and the insides of strings and characters blanked; lines stay where they are.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match &bytes[i..] {
            [b'/', b'/', ..] => find(bytes, i, b"\n"),
            [b'/', b'*', ..] => find(bytes, i + 2, b"*/") + 2,
            [b'r', b'"', ..] => find(bytes, i + 2, b"\"") + 1,
            [b'r', b'#', b'"', ..] => find(bytes, i + 3, b"\"#") + 2,
            [b'r', b'#', b'#', b'"', ..] => find(bytes, i + 4, b"\"##") + 3,
            [b'"', ..] => closing_quote(bytes, i + 1),
            [b'\'', b'\\', ..] => find(bytes, i + 3, b"'") + 1,
            [b'\'', first, ..] if bytes.get(i + 1 + width(*first)) == Some(&b'\'') => i + 2 + width(*first),
            _ => {
                i += 1;
                continue;
            }
        };
        let end = end.min(bytes.len());
        code[i..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        i = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Bytes of the UTF-8 character that starts so.
fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let from = from.min(bytes.len());
    bytes[from..].windows(what.len()).position(|w| w == what).map_or(bytes.len(), |n| from + n)
}

fn closing_quote(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The code with every item under `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut program = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code.as_bytes(), at);
        program[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    String::from_utf8_lossy(&program).into_owned()
}

/// Where the item that starts at `from` ends: behind its `;` or its closing brace.
fn item_end(code: &[u8], from: usize) -> usize {
    let mut depth = 0;
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return i + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// What stands in `code` and has been blanked in `program`.
fn difference(code: &str, program: &str) -> String {
    let both = code.bytes().zip(program.bytes());
    let bytes = both.map(|(c, p)| if c == p && c != b'\n' { b' ' } else { c }).collect();
    String::from_utf8(bytes).unwrap()
}

/// Every function with a body, and its length in lines.
fn functions(code: &str) -> Vec<(String, usize)> {
    let starts =
        code.match_indices("fn ").filter(|(at, _)| code[..*at].chars().next_back().is_none_or(|c| c.is_whitespace()));
    starts
        .filter_map(|(at, keyword)| {
            let name = word(&code[at + keyword.len()..]);
            let end = function_end(code.as_bytes(), at)?;
            (!name.is_empty()).then(|| (name, code[at..end].matches('\n').count() + 1))
        })
        .collect()
}

/// Where a function's body ends; `None` for a declaration. A `;` in brackets, as in `[u8; 4]`, ends nothing.
fn function_end(code: &[u8], from: usize) -> Option<usize> {
    let mut brackets = 0i32;
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if brackets == 0 => return None,
            b'{' if brackets == 0 => return Some(item_end(code, i)),
            _ => {}
        }
    }
    None
}

fn lines_with<'a>(code: &'a str, what: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.lines().enumerate().filter(move |(_, line)| line.contains(what)).map(|(n, _)| n + 1)
}

/// The full names of the series that the catalogue in `event/metrics.rs` declares.
fn metric_names(catalogue: &str) -> Vec<String> {
    let mut names = Vec::new();
    for call in ["counters(", "gauges(", "counter(", "gauge(", "HistogramOpts::new(", "Counter::new("] {
        for (at, _) in catalogue.match_indices(call) {
            let argument = catalogue[at + call.len()..].trim_start();
            if let Some(name) = argument.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                names.push(format!("postrider_{}", name.trim_start_matches("postrider_")));
            }
        }
    }
    names
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

// The rules can say no.

#[test]
fn uses_are_found_in_every_form() {
    let code = "use crate::{model::{A, B}, net::x as y};\nfn f() { crate::queue::g(); } pub(crate) struct S;";
    assert_eq!(modules_used(code).into_iter().collect::<Vec<_>>(), ["model", "net", "queue"]);
}

#[test]
fn a_use_of_a_higher_layer_or_a_sibling_is_a_fault() {
    assert!(layer_fault("wire", "storage").is_some());
    assert!(layer_fault("queue", "egress").is_some());
    assert!(layer_fault("clock", "model").is_some());
    assert!(layer_fault("wire", "nowhere").is_some());
    assert!(layer_fault("queue", "storage").is_none());
    assert!(layer_fault("model", "clock").is_none());
}

#[test]
fn comments_strings_and_tests_do_not_count() {
    let text = "a(); // b()\n/* c()\n */ d(\"e() \\\" f()\", r#\"gone\"()\"#, '\"', '…', '\\'');\n#[cfg(test)]\nmod tests { h(); }\ni();";
    let code = code_only(text);
    for gone in ["b()", "c()", "e()", "f()", "gone"] {
        assert!(!code.contains(gone), "{gone}: {code}");
    }
    assert!(code.contains("h();") && code.contains("d("));
    let program = without_tests(&code);
    assert!(!program.contains("h()") && program.contains("i();"));
    assert!(difference(&code, &program).contains("h();") && !difference(&code, &program).contains("i();"));
    assert_eq!(program.lines().count(), text.lines().count());
}

#[test]
fn functions_are_measured_to_their_closing_brace() {
    let code = "impl T {\n    fn short(a: [u8; 4]) -> u8;\n    pub fn long<F>(f: F)\n    where\n        F: Fn(),\n    {\n        f();\n    }\n}\nfn one() {}\n";
    assert_eq!(functions(code), [("long".to_owned(), 6), ("one".to_owned(), 1)]);
}

#[test]
fn metric_names_are_found() {
    let names =
        metric_names("counter(\"a_total\", \"A.\")\ngauges(\n   \"b\", …) HistogramOpts::new(\"postrider_c_seconds\"");
    assert_eq!(names, ["postrider_b", "postrider_a_total", "postrider_c_seconds"]);
    assert_eq!(metric_names("Counter::new(\"postrider_d_total\", \"D.\")"), ["postrider_d_total"]);
}
