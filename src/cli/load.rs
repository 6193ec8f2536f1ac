//! `postrider load`

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{Failure, interrupted, one_thread, output};
use crate::config::parse_bytes;
use crate::model::{Class, Domain, Mailbox, Secret};
use crate::peers::load::{self, Amount, HttpOptions, Post, Progress, Protocol, SmtpOptions, SmtpTls};

/// Submit many messages over many connections and report rate, latency and failures
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider load --to 127.0.0.1:2525 --connections 50 --messages 100000 --size 4KiB\n  \
                        postrider load --protocol sms --to 127.0.0.1:8025 --api-key KEY --messages 1 --number +8613800138000\n\n\
                        Exit code 1 if any message was not accepted. Point it at machines that are yours."
)]
pub(super) struct Args {
    /// Host and port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    to: String,
    /// What is submitted, and how
    #[arg(long, value_name = "PROTOCOL", default_value = "smtp")]
    protocol: Spoken,
    /// Connections held at once
    #[arg(long, value_name = "N", default_value_t = 20)]
    connections: usize,
    /// Messages in all
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "seconds")]
    messages: u64,
    /// Go on for so many seconds instead
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// At most so many messages a second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Size of a mail, header included, or of a text in characters: 4096, 4KiB, 1MiB [default: 4KiB, 40 for sms]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,
    /// MAIL FROM and From
    #[arg(long, value_name = "ADDRESS", default_value = "load@load.example")]
    from: Mailbox,
    /// Domains of the recipients, in turn
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', default_value = "sink.example")]
    domain: Vec<Domain>,
    /// Spread the recipients over so many domains below each: d0.DOMAIN, d1.DOMAIN, ...
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=DOMAINS_MAX))]
    domains: Option<u32>,
    /// Ask for a class: otp, transactional or marketing
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Recipients of each mail
    #[arg(long, value_name = "N", default_value_t = 1)]
    recipients: usize,
    /// Where texts go: one number, or the first digits of many, such as +86138
    #[arg(long, value_name = "NUMBER", default_value = "+86138")]
    number: String,
    /// TLS
    #[arg(long, value_name = "HOW", default_value = "none")]
    tls: Tls,
    /// User for AUTH; the password is taken from the environment variable POSTRIDER_PASSWORD
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// API key for HTTP [default: $POSTRIDER_API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// List accepted messages in this file: number, id and the time of the reply in microseconds of Unix time, one a line
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Spoken {
    /// Mails by SMTP.
    Smtp,
    /// Mails by HTTP: POST /v1/email.
    Email,
    /// Texts by HTTP: POST /v1/sms.
    Sms,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Tls {
    /// None.
    None,
    /// After STARTTLS; SMTP only.
    Starttls,
    /// From the first byte.
    Implicit,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let json = self.json;
        let progress = if self.quiet { Progress::Silent } else { Progress::on_stderr() };
        let options = self.into_options()?;
        // One thread: the generator leaves the other cores to what it measures.
        let report =
            one_thread()?.block_on(load::run_until(options, progress, interrupted())).map_err(Failure::failed)?;
        if json {
            output::print_json(&report)?;
        } else {
            output::print(&report.to_string())?;
        }
        if report.all_accepted() { Ok(()) } else { Err(Failure::Told) }
    }

    fn into_options(self) -> Result<load::Options, Failure> {
        let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let protocol = match self.protocol {
            Spoken::Smtp => {
                Protocol::Smtp(SmtpOptions { tls: self.tls.for_smtp(), auth: self.credentials(environment)? })
            }
            Spoken::Email | Spoken::Sms if self.tls == Tls::Starttls => {
                return Err(Failure::Usage("--tls starttls: HTTP has none; use implicit".to_owned()));
            }
            Spoken::Email | Spoken::Sms => Protocol::Http(HttpOptions {
                post: if self.protocol == Spoken::Sms { Post::Text } else { Post::Mail },
                api_key: self.api_key.or_else(|| environment("POSTRIDER_API_KEY")).map(Secret::new),
                tls: self.tls == Tls::Implicit,
            }),
        };
        let default_size = if self.protocol == Spoken::Sms { 40 } else { 4_096 };
        let (number_prefix, number_digits) = numbers(&self.number)?;
        let recipient_domains = match self.domains {
            Some(count) => below(&self.domain, count)?,
            None => self.domain,
        };
        Ok(load::Options {
            address: self.to,
            protocol,
            connections: self.connections,
            amount: match self.seconds {
                Some(seconds) => Amount::For(Duration::from_secs(seconds)),
                None => Amount::Messages(self.messages),
            },
            rate: self.rate,
            message_bytes: self.size.unwrap_or(default_size),
            sender: self.from,
            recipient_domains,
            recipients_per_message: self.recipients,
            class: self.class,
            number_prefix,
            number_digits,
            accepted_file: self.accepted,
            ..load::Options::default()
        })
    }

    fn credentials(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Option<(String, Secret)>, Failure> {
        let Some(user) = &self.user else { return Ok(None) };
        let password = environment("POSTRIDER_PASSWORD")
            .ok_or_else(|| Failure::Usage("--user: set the environment variable POSTRIDER_PASSWORD".to_owned()))?;
        Ok(Some((user.clone(), Secret::new(password))))
    }
}

impl Tls {
    fn for_smtp(self) -> SmtpTls {
        match self {
            Self::None => SmtpTls::None,
            Self::Starttls => SmtpTls::StartTls,
            Self::Implicit => SmtpTls::Implicit,
        }
    }
}

/// A size on the command line.
fn size(text: &str) -> Result<usize, &'static str> {
    let bytes = parse_bytes(text).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or("expected a size such as 4096, 4KiB or 1MiB")
}

/// Most domains below each: every one is kept in memory.
const DOMAINS_MAX: i64 = 1_000_000;

/// So many domains below each of these.
fn below(domains: &[Domain], count: u32) -> Result<Vec<Domain>, Failure> {
    let names = (0..count).flat_map(|n| domains.iter().map(move |domain| format!("d{n}.{domain}")));
    let parsed = names.map(|name| Domain::parse(&name).map_err(|e| Failure::Usage(format!("--domains: {name}: {e}"))));
    parsed.collect()
}

/// Digits of the numbers that a prefix is filled up to, those of a Chinese mobile number with its country code.
const NUMBER_DIGITS: usize = 13;

/// The prefix, and how many digits are counted up behind it.
fn numbers(text: &str) -> Result<(String, u8), Failure> {
    let digits =
        text.strip_prefix('+').filter(|d| (1..=15).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()));
    let digits = digits.ok_or_else(|| Failure::Usage(format!("--number {text}: expected digits behind a +")))?;
    let counted = NUMBER_DIGITS.saturating_sub(digits.len());
    Ok((text.to_owned(), u8::try_from(counted).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(size("4KiB"), Ok(4096));
        assert!(size("4kb").is_err());
        assert_eq!(numbers("+86138").unwrap(), ("+86138".to_owned(), 8));
        assert_eq!(numbers("+8613800138000").unwrap(), ("+8613800138000".to_owned(), 0));
        assert!(numbers("86138").is_err());
    }

    #[test]
    fn domains_below_a_domain() {
        let domains = [Domain::parse("a.example").unwrap(), Domain::parse("b.example").unwrap()];
        let below: Vec<_> = below(&domains, 2).unwrap().iter().map(Domain::to_string).collect();
        assert_eq!(below, ["d0.a.example", "d0.b.example", "d1.a.example", "d1.b.example"]);
    }
}
