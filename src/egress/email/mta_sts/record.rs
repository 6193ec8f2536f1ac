//! What a domain publishes for MTA-STS: the TXT record and the policy (RFC 8461 section 3). Pure.
//!
//! **Promises.** Whatever the bytes, the answer is a value or nothing, and never a panic. A policy that is not well-formed is
//! none; fields that nobody knows are passed over.

use std::sync::Arc;
use std::time::Duration;

use super::super::tls_policy::HostPattern;

/// Longest that a policy may be kept (RFC 8461 section 3.2), in seconds; whoever says more means this.
const MAX_AGE_MAX: u64 = 31_557_600;
/// Longest id (section 3.1).
const ID_BYTES_MAX: usize = 32;

/// What senders are to do about a host that does not match (RFC 8461 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Not send there.
    Enforce,
    /// Send, and report.
    Testing,
    /// Nothing: there is no policy any more.
    None,
}

impl Mode {
    /// Its word in a policy.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }

    /// The mode of a word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Enforce, Self::Testing, Self::None].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StsPolicy {
    pub(super) mode: Mode,
    /// How long it holds.
    pub(super) max_age: Duration,
    /// What mail hosts may be called; not empty unless the mode is none.
    pub(super) hosts: Arc<[HostPattern]>,
}

impl StsPolicy {
    /// Its lines, as a report shows them (RFC 8460 section 4.4): at most so many of its hosts.
    pub(super) fn lines(&self, hosts_max: usize) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode.as_str())];
        lines.extend(self.hosts.iter().take(hosts_max).map(|host| format!("mx: {}", host.as_str())));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines
    }
}

/// The id that the TXT records of `_mta-sts.<domain>` announce; `None` unless exactly one record does.
pub(super) fn announced<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut versioned = records.into_iter().filter_map(|record| fields(record));
    let only = versioned.next()?;
    if versioned.next().is_some() {
        return None;
    }
    let id = only.split(';').find_map(|field| field.trim().strip_prefix("id="))?;
    is_id(id).then(|| id.to_owned())
}

/// True of what may be an id.
pub(super) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// What follows the version, if that is ours.
fn fields(record: &str) -> Option<&str> {
    record.strip_prefix("v=STSv1")?.trim_start().strip_prefix(';')
}

/// Reads a policy. `None` if it is none.
pub(super) fn policy(text: &str) -> Option<StsPolicy> {
    let (mut version, mut mode, mut max_age, mut hosts) = (None, None, None, Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(':')?;
        let value = value.trim_start();
        match key {
            // Of what may stand once only, the first counts (section 3.2).
            "version" => drop(version.get_or_insert(value)),
            "mode" => drop(mode.get_or_insert(value)),
            "max_age" => drop(max_age.get_or_insert(value)),
            "mx" => hosts.push(HostPattern::parse(value)?),
            _ => {}
        }
    }
    if version? != "STSv1" {
        return None;
    }
    let (mode, max_age) = (Mode::parse(mode?)?, max_age?);
    let digits = (1..=10).contains(&max_age.len()) && max_age.bytes().all(|b| b.is_ascii_digit());
    let seconds = max_age.parse::<u64>().ok().filter(|_| digits)?.min(MAX_AGE_MAX);
    if hosts.is_empty() && mode != Mode::None {
        return None;
    }
    Some(StsPolicy { mode, max_age: Duration::from_secs(seconds), hosts: hosts.into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_record_announces_one_id() {
        for (records, id) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=a"], Some("a")),
            (&["v=STSv1 ; x=1; id=b ;"], Some("b")),
            (&["v=spf1 -all", "v=STSv1; id=c"], Some("c")),
            (&[], None),
            (&["v=STSv1; id=a", "v=STSv1; id=b"], None),
            (&["v=STSv1; id=a", "v=STSv1; other"], None),
            (&["v=STSv1"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv2; id=a"], None),
            (&["v=STSv1x; id=a"], None),
            (&["id=a; v=STSv1"], None),
            (&[" v=STSv1; id=a"], None),
            (&["v=STSv1; id="], None),
            (&["v=STSv1; id=a-b"], None),
            (&["v=STSv1; id=123456789012345678901234567890123"], None),
        ] {
            assert_eq!(announced(records.iter().copied()).as_deref(), id, "{records:?}");
        }
    }

    #[test]
    fn a_policy_is_read_as_the_rfc_writes_it() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let read = policy(text).unwrap();
        assert_eq!((read.mode, read.max_age), (Mode::Enforce, Duration::from_secs(604_800)));
        let hosts: Vec<&str> = read.hosts.iter().map(HostPattern::as_str).collect();
        assert_eq!(hosts, ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(policy(&text.replace("\r\n", "\n")), Some(read.clone()));
        assert_eq!(read.lines(99).join("\r\n") + "\r\n", text);
        assert_eq!(read.lines(1).len(), 4);
        // The first of two counts; unknown keys are for others.
        assert_eq!(policy(&format!("{text}mode: none\nmax_age: 1\nnew: x\n")), Some(read));
        assert_eq!(policy("version: STSv1\nmode: none\nmax_age: 9999999999").unwrap().max_age.as_secs(), MAX_AGE_MAX);
    }

    #[test]
    fn what_is_not_well_formed_is_no_policy() {
        let good = ["version: STSv1", "mode: enforce", "mx: mx.example", "max_age: 60"];
        assert!(policy(&good.join("\n")).is_some());
        for missing in 0..good.len() {
            let rest: Vec<&str> =
                good.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, line)| *line).collect();
            assert_eq!(policy(&rest.join("\n")), None, "without {}", good[missing]);
        }
        for (n, bad) in [
            (0, "version: STSv2"),
            (1, "mode: Enforce"),
            (1, "mode: "),
            (2, "mx: "),
            (2, "mx: *"),
            (2, "mx: m*.example"),
            (2, "mx: 192.0.2.1:25"),
            (3, "max_age: -1"),
            (3, "max_age: +60"),
            (3, "max_age: 12345678901"),
            (3, "max_age: 1d"),
            (3, "<html>"),
        ] {
            let mut lines = good;
            lines[n] = bad;
            assert_eq!(policy(&lines.join("\n")), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_a_reader_panic(
            text in "\\PC{0,80}|(version|mode|mx|max_age|x): ?[a-zA-Z0-9.*-]{0,12}(\r?\n(version|mode|mx|max_age|x): ?[a-zA-Z0-9.*-]{0,12}){0,6}",
        ) {
            let _ = policy(&text);
            let _ = announced([text.as_str()]);
        }

        #[test]
        fn the_order_of_fields_and_the_line_ends_change_nothing(order in Just([0, 1, 2, 3, 4]).prop_shuffle(), crlf: bool, blanks: bool) {
            let fields = ["version: STSv1", "mode: testing", "mx: *.mx.example", "max_age: 86400", "later: x"];
            let end = match (crlf, blanks) { (true, _) => "\r\n", (false, true) => " \n\n", (false, false) => "\n" };
            let text: Vec<&str> = order.iter().map(|n| fields[*n]).collect();
            let read = policy(&text.join(end)).unwrap();
            prop_assert_eq!((read.mode, read.max_age.as_secs(), read.hosts.len()), (Mode::Testing, 86_400, 1));
        }
    }
}
