//! `[tls_reports]`: who reports on TLS with mail hosts, and how much is counted.

use std::time::Duration;

use super::mistake::{Fault, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::{files, quantity, value};
use crate::egress::email::{Reporter, TlsReportOptions};
use crate::model::{Domain, Mailbox};

/// `[tls_reports]`
pub(super) fn tls_reports(section: &mut Section<'_>) -> TlsReportOptions {
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    let defaults = TlsReportOptions::default();
    let reporter = reporter(section);
    let bytes = quantity::bytes(1024 * 1024..=1024 * 1024 * 1024);
    let bytes_max = section.or("memory", defaults.bytes_max as u64, bytes);
    let verify = section.or("verify_https", false, value::flag);
    let authorities = files::authorities(section, "ca_file");
    if !verify && section.notes.has(&section.key_of("ca_file")) {
        section.mistake(
            "ca_file",
            "nobody is asked about certificates",
            "add verify_https = true, or leave ca_file out",
        );
    }
    TlsReportOptions {
        reporter,
        spread: section.or("spread", defaults.spread, quantity::span(Duration::ZERO..=12 * HOUR)),
        retry_for: section.or("retry_for", defaults.retry_for, quantity::span(MINUTE..=72 * HOUR)),
        domains_max: section.or("domains", defaults.domains_max, value::count(1..=1_000_000)),
        details_max: section.or("failure_details", defaults.details_max, value::count(1..=1_000)),
        bytes_max: usize::try_from(bytes_max).unwrap_or(defaults.bytes_max),
        timeout: section.or("timeout", defaults.timeout, quantity::span(Duration::from_secs(1)..=10 * MINUTE)),
        authorities: verify.then_some(authorities),
        // Beside the queue: who builds the relay knows where.
        file: None,
    }
}

/// All three, or none: then nothing is sent.
fn reporter(section: &mut Section<'_>) -> Option<Reporter> {
    const KEYS: [(&str, &str); 3] = [
        ("organization", r#""Example Shop""#),
        ("contact", r#""postmaster@shop.example.com""#),
        ("from", r#""tls-reports@shop.example.com""#),
    ];
    let organization = section.optional("organization", organization);
    let contact = section.optional("contact", mailbox);
    let from = section.optional("from", mailbox);
    let there = |key: &str| section.notes.has(&section.key_of(key));
    if KEYS.iter().any(|(key, _)| there(key)) {
        for (key, example) in KEYS.iter().filter(|(key, _)| !there(key)) {
            let wrong = "missing: a report names its organization, its contact and its sender";
            section.mistake(key, wrong, format!("add {key} = {example}, or leave all three out to send none"));
        }
    }
    Some(Reporter { organization: organization?, contact: contact?, from: from? })
}

/// Reports by mail that bear no signature of their sender's domain are ignored (RFC 8460 section 3).
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let Some(reporter) = &raw.tls_reports.reporter else { return };
    let domain = reporter.domain();
    let signs = |signer: &Domain| signer.to_ascii().is_ok_and(|signer| domain.is_within(signer.as_str()));
    if !raw.dkim.iter().any(|dkim| signs(&dkim.value.domain)) && !notes.has(&format!("dkim[{}]", raw.dkim.len())) {
        let wrong = format!("no [[dkim]] signs for {domain}, and unsigned reports are ignored");
        notes.mistake("tls_reports.from", wrong, format!("add a [[dkim]] with domain = \"{domain}\""));
    }
}

fn organization(value: &toml::de::DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = r#"1 to 128 characters, such as "Example Shop""#;
    let text = value::as_text(value, RIGHT)?;
    let good = (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let wrong = || Fault::new(format!("bad name \"{}\"", shortened(text)), format!("expected {RIGHT}"));
    good.then(|| text.to_owned()).ok_or_else(wrong)
}

/// In ASCII: reports must arrive also where SMTPUTF8 is not known.
fn mailbox(value: &toml::de::DeValue<'_>) -> Result<Mailbox, Fault> {
    const RIGHT: &str = r#"an address in ASCII such as "postmaster@shop.example.com""#;
    let text = value::as_text(value, RIGHT)?;
    let mailbox = Mailbox::parse(text).ok().filter(|m| text.is_ascii() && !m.domain().is_literal());
    mailbox.ok_or_else(|| Fault::new(format!("bad address \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, good, mistakes};

    #[test]
    fn what_cannot_be_is_said() {
        const ALL: &str =
            "[tls_reports]\norganization = \"Shop\"\ncontact = \"a@shop.example.com\"\nfrom = \"b@shop.example.com\"\n";
        for (text, said) in [
            (
                "[tls_reports]\norganization = \"Shop\"\n",
                "tls_reports.contact: missing: a report names its organization",
            ),
            ("[tls_reports]\nfrom = \"a@x.example\"\n", "add organization = \"Example Shop\", or leave all three out"),
            ("[tls_reports]\norganization = \"\"\n", "tls_reports.organization: bad name \"\""),
            ("[tls_reports]\ncontact = \"postmaster\"\n", "tls_reports.contact: bad address \"postmaster\""),
            ("[tls_reports]\nfrom = \"a@[192.0.2.1]\"\n", "tls_reports.from: bad address"),
            ("[tls_reports]\nfrom = \"\u{e4}@x.example\"\n", "expected an address in ASCII"),
            (ALL, "tls_reports.from: no [[dkim]] signs for shop.example.com, and unsigned reports are ignored"),
            ("[tls_reports]\nca_file = \"nowhere.pem\"\nverify_https = true\n", "tls_reports.ca_file: cannot read"),
            ("[tls_reports]\nspread = \"13h\"\n", "tls_reports.spread: "),
            ("[tls_reports]\nmemory = \"1KiB\"\n", "tls_reports.memory: "),
        ] {
            assert!(mistakes(text).contains(said), "{text}: {}", mistakes(text));
        }
    }

    #[test]
    fn nobody_reports_unless_that_is_said() {
        assert_eq!(good(GOOD).0.tls_reports, TlsReportOptions::default());
        let some = format!("{GOOD}[tls_reports]\ndomains = 7\nverify_https = true\n");
        let read = good(&some).0.tls_reports;
        assert_eq!((read.domains_max, read.reporter, read.authorities.is_some()), (7, None, true));
    }
}
