//! What commands print: aligned and coloured on a terminal, plain in a pipe.
//!
//! **Promises.** Text that came from a peer or a client cannot steer the terminal: control characters are replaced.
//! Colours are taken out again where the output is no terminal or `NO_COLOR` is set.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

pub(super) const PLAIN: Style = Style::new();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const WAITING: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const NAME: Style = AnsiColor::Cyan.on_default();

/// The colour of a public state or of an attempt's outcome.
pub(super) fn state_style(state: &str) -> Style {
    match state {
        "delivered" => GOOD.bold(),
        "sent" => GOOD,
        "bounced" | "undelivered" | "undeliverable" | "expired" | "rejected" | "refused" => BAD,
        "delayed" | "held" | "unknown" | "cancelled" => WAITING,
        _ => PLAIN,
    }
}

/// Styled text; control characters in it are replaced.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", printable(text))
}

/// The text without what could steer a terminal; line ends become spaces.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\r' | '\n' | '\t' => ' ',
            // Besides the control characters, those that turn the direction of what follows.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints one JSON value to standard output.
pub(super) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value).map_err(io::Error::other)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints what was found: as a JSON array, or for people; then `none` says that there is nothing.
pub(super) fn print_all<T: Serialize>(
    found: &[T],
    json: bool,
    none: &str,
    for_people: impl FnOnce(&[T]) -> String,
) -> io::Result<()> {
    match found {
        _ if json => print_json(&found),
        [] => print(none),
        found => print(&for_people(found)),
    }
}

/// Says on standard error what went wrong.
pub(super) fn complain(what: &str) {
    anstream::eprintln!("{}postrider:{} {what}", BAD.bold().render(), anstyle::Reset);
}

/// Says something on standard error, beside the data.
pub(super) fn remark(what: &str) {
    anstream::eprintln!("{what}");
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: printable(&text.into()), style: PLAIN, right: false }
    }

    pub(super) fn number(number: u64) -> Self {
        let style = if number == 0 { DIM } else { PLAIN };
        Self { text: grouped(number), style, right: true }
    }

    pub(super) fn styled(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub(super) fn at_right(mut self) -> Self {
        self.right = true;
        self
    }
}

/// Lines with columns under each other, two spaces apart.
pub(super) fn table(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| columns_of(&cell.text)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let last = i + 1 == row.len();
            let gap = " ".repeat(widths[i] - columns_of(&cell.text));
            let style = cell.style;
            let (before, after) = if cell.right { (gap.as_str(), "") } else { ("", gap.as_str()) };
            let _ = write!(out, "{before}{style}{}{style:#}", cell.text);
            if !last {
                let _ = write!(out, "{after}  ");
            }
        }
        out.push('\n');
    }
    out
}

/// Columns of a terminal: East Asian wide characters take two. An approximation by block, enough for alignment.
fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{1f300}'..='\u{1faff}'
            | '\u{20000}'..='\u{3fffd}' => 2,
            _ => 1,
        })
        .sum()
}

/// `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `4.1 KiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `one message`, `2 messages`.
pub(super) fn plural(count: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// How many rows a table leaves out, and what shows them; nothing if it has all.
pub(super) fn hidden(count: u64, one: &str, flag: &str) -> String {
    if count == 0 {
        return String::new();
    }
    paint(DIM, &format!("and {} more: {flag} N shows them", plural(count, one))) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = vec![
            vec![Cell::new("lane").styled(BOLD), Cell::new("ready").at_right(), Cell::new("next")],
            vec![Cell::new("例子.公司"), Cell::number(12_345), Cell::new("now").styled(GOOD)],
            vec![Cell::new("a"), Cell::number(0), Cell::new("")],
        ];
        assert_eq!(plain(&table(&rows)), "lane        ready  next\n例子.公司  12,345  now\na               0  \n");
    }

    #[test]
    fn a_peers_words_cannot_steer_the_terminal() {
        assert_eq!(printable("250 \u{1b}[2Jok\r\nbye\u{202e}"), "250 \u{fffd}[2Jok  bye\u{fffd}");
    }

    #[test]
    fn numbers_and_sizes_are_readable() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([0, 1023, 1024, 4_200, 5 << 30].map(size), ["0 B", "1023 B", "1.0 KiB", "4.1 KiB", "5.0 GiB"]);
        assert_eq!(plural(1, "message"), "1 message");
        assert_eq!(plural(2_000, "message"), "2,000 messages");
    }
}
