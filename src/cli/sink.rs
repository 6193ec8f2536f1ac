//! `postrider sink`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::ends::{Arrivals, CarrierEnd, MailEnd};
use super::output::{Cell, DIM, paint, table};
use super::sandbox::show;
use super::{Failure, interrupted, one_thread, output};
use crate::config::parse_span;
use crate::model::Secret;
use crate::net::tls::server_config;
use crate::peers::arrivals::ArrivalList;
use crate::peers::carrier::{self, Fault, Faults, SgipCallback};
use crate::peers::mail_sink::{self, Stage};

/// Be the far end: an SMTP server that takes every mail and a carrier that takes every text by SMPP, CMPP, SMGP, SGIP or HTTP, and keep none
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider sink\n  postrider sink --only smtp --smtp 127.0.0.1:2526 --latency 20ms \
                        --defer-share 0.1\n  postrider sink --only smpp --throttle-share 0.05 --receipt-delay 2s\n  postrider sink --only smpp --reply \
                        +8613800138000=TD\n  postrider sink --only smpp --fault silence=5 --fault twice\n\nCounts are \
                        printed at the end (Ctrl-C), and on the way with --every."
)]
pub(super) struct Args {
    /// Where mail is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2526")]
    smtp: SocketAddr,
    /// Where texts are taken, by SMPP 3.4 or 5.0, CMPP 2.0 or 3.0, SMGP 3.0 or 1.3, SGIP 1.2, or HTTP (POST of JSON, as config/http/generic.toml
    /// says): clients' first octets tell
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2776")]
    smpp: SocketAddr,
    /// Only one of the two ends
    #[arg(long, value_name = "END")]
    only: Option<End>,
    /// How long each message waits for its reply
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span)]
    latency: Duration,
    /// Share of mails deferred (451), 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    defer_share: f64,
    /// Share of mails (550) and of texts refused for good, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    refuse_share: f64,
    /// Which command of a mail is deferred or refused
    #[arg(long, value_name = "COMMAND", default_value = "data")]
    at: At,
    /// Share of texts answered "throttled", 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    throttle_share: f64,
    /// How full the carrier says it is, in percent, to clients that speak SMPP 5.0
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    congestion: Option<u8>,
    /// So many parts of texts are answered "throttled" at first
    #[arg(long, value_name = "COUNT", default_value = "0")]
    throttle_first: u64,
    /// Share of texts whose receipt says undeliverable, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    undeliverable_share: f64,
    /// How long after a text its receipt comes
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = span)]
    receipt_delay: Duration,
    /// After a text to this number its handset answers so; may be given several times
    #[arg(long, value_name = "NUMBER=TEXT")]
    reply: Vec<carrier::Reply>,
    /// Do something wrong with texts on purpose; may be given more than once
    #[arg(long = "fault", value_name = "FAULT", long_help = fault_help())]
    faults: Vec<Fault>,
    /// The one system id (in CMPP: SP_Id, in SMGP: ClientID) that may bind; its password, in HTTP the bearer token, is taken from the environment variable POSTRIDER_PASSWORD [default: any]
    #[arg(long, value_name = "NAME")]
    system_id: Option<String>,
    /// Where receipts and handsets' messages go by SGIP: the client's own listener
    #[arg(long, value_name = "HOST:PORT", requires = "sgip_login")]
    sgip_callback: Option<String>,
    /// The name that is said there, at most 16 characters; its password is taken from the environment variable
    /// POSTRIDER_SGIP_PASSWORD
    #[arg(long, value_name = "NAME", requires = "sgip_callback")]
    sgip_login: Option<String>,
    /// Offer STARTTLS, and let clients of the carrier begin TLS, with this certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// List mails in this file as they are taken: time in microseconds of Unix time and Message-ID, one a line
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// Show each message as it arrives
    #[arg(long)]
    show: bool,
    /// Print the counts every so often, too
    #[arg(long, value_name = "TIME", value_parser = span)]
    every: Option<Duration>,
    /// Print counts and messages as JSON objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The mail sink.
    Smtp,
    /// The carrier simulator.
    Smpp,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Each RCPT by itself.
    Rcpt,
    /// The whole message, at the end of its data.
    Data,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        // One thread: the sink leaves the other cores to what it is the far end of.
        one_thread()?.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), Failure> {
        let (inlet, mut arrivals) = Arrivals::new();
        let mut mail_options = self.mail_options()?;
        let mut carrier_options = self.carrier_options()?;
        if self.show {
            mail_options.keep = Some(inlet.mails);
            carrier_options.received = Some(inlet.texts);
        }
        let mail = if self.only == Some(End::Smpp) { None } else { Some(MailEnd::start(mail_options).await?) };
        let carrier = if self.only == Some(End::Smtp) { None } else { Some(CarrierEnd::start(carrier_options).await?) };
        self.announce(mail.as_ref(), carrier.as_ref())?;

        let stop = interrupted();
        tokio::pin!(stop);
        let mut look = tokio::time::interval(self.every.unwrap_or(Duration::from_secs(3_600)).max(SHORTEST));
        look.tick().await;
        let shown = loop {
            let shown = tokio::select! {
                () = &mut stop => break Ok(()),
                Some(arrival) = arrivals.next() => show::arrival(&arrival, self.json),
                _ = look.tick() => if self.every.is_some() {
                    self.print_counts(mail.as_ref(), carrier.as_ref())
                } else {
                    Ok(())
                },
            };
            if shown.is_err() {
                break shown;
            }
        };
        // Nobody reads what arrives any more; the ends must not wait for it.
        drop(arrivals);
        let counted = shown.and_then(|()| self.print_counts(mail.as_ref(), carrier.as_ref()));
        if let Some(mail) = mail {
            mail.stop().await;
        }
        if let Some(carrier) = carrier {
            carrier.stop().await;
        }
        Ok(counted?)
    }

    fn mail_options(&self) -> Result<mail_sink::Options, Failure> {
        let unwritable = |path: &PathBuf, e| Failure::Failed(format!("{} cannot be written: {e}", path.display()));
        let arrivals = match &self.arrivals {
            Some(path) => Some(Arc::new(ArrivalList::create(path).map_err(|e| unwritable(path, e))?)),
            None => None,
        };
        Ok(mail_sink::Options {
            address: self.smtp,
            latency: self.latency,
            defer_share: self.defer_share,
            refuse_share: self.refuse_share,
            stage: match self.at {
                At::Rcpt => Stage::Recipient,
                At::Data => Stage::EndOfData,
            },
            tls: self.tls()?.map(Arc::new),
            arrivals,
            ..mail_sink::Options::default()
        })
    }

    fn tls(&self) -> Result<Option<rustls::ServerConfig>, Failure> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.private_key) else { return Ok(None) };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Failure::Failed(format!("{} cannot be read: {e}", path.display())))
        };
        let config = server_config(&read(certificate)?, &read(key)?);
        config.map(Some).map_err(|e| Failure::Failed(format!("{}: {e}", certificate.display())))
    }

    fn carrier_options(&self) -> Result<carrier::Options, Failure> {
        let password = match &self.system_id {
            Some(_) => std::env::var("POSTRIDER_PASSWORD").map_err(|_| {
                Failure::Usage("--system-id: set the environment variable POSTRIDER_PASSWORD".to_owned())
            })?,
            None => String::new(),
        };
        Ok(carrier::Options {
            address: self.smpp.to_string(),
            system_id: self.system_id.clone().unwrap_or_default(),
            password: Secret::new(password),
            tls: self.tls()?.map(Arc::new),
            latency: self.latency,
            congestion: self.congestion,
            throttle_first: self.throttle_first,
            throttle_share: self.throttle_share,
            refuse_share: self.refuse_share,
            receipt_delay: self.receipt_delay,
            undeliverable_share: self.undeliverable_share,
            replies: self.reply.clone(),
            sgip_callback: self.sgip_callback()?,
            faults: Faults(self.faults.clone()),
            ..carrier::Options::default()
        })
    }

    fn sgip_callback(&self) -> Result<Option<SgipCallback>, Failure> {
        let (Some(address), Some(login)) = (&self.sgip_callback, &self.sgip_login) else { return Ok(None) };
        let password = std::env::var("POSTRIDER_SGIP_PASSWORD").map_err(|_| {
            Failure::Usage("--sgip-callback: set the environment variable POSTRIDER_SGIP_PASSWORD".to_owned())
        })?;
        if login.len() > 16 || password.len() > 16 {
            return Err(Failure::Usage(
                "--sgip-login: SGIP has 16 characters for a name, and for a password".to_owned(),
            ));
        }
        Ok(Some(SgipCallback { address: address.clone(), login: login.clone(), password: Secret::new(password) }))
    }

    fn announce(&self, mail: Option<&MailEnd>, carrier: Option<&CarrierEnd>) -> std::io::Result<()> {
        let (smtp, smpp) = (mail.map(MailEnd::address), carrier.map(CarrierEnd::address));
        if self.json {
            return output::print_json(&json!({ "listening": { "smtp": smtp, "smpp": smpp } }));
        }
        for (name, address) in [("SMTP", smtp), ("SMPP", smpp)] {
            if let Some(address) = address {
                output::print(&format!("{name} on {address}"))?;
            }
        }
        Ok(())
    }

    fn print_counts(&self, mail: Option<&MailEnd>, carrier: Option<&CarrierEnd>) -> std::io::Result<()> {
        let counts: Vec<_> = mail.map(mail_counts).into_iter().chain(carrier.map(carrier_counts)).collect();
        if self.json {
            let object =
                |rows: &[(&str, u64)]| rows.iter().map(|(n, c)| ((*n).to_owned(), json!(c))).collect::<Value>();
            let all = counts.iter().map(|(end, rows)| ((*end).to_owned(), object(rows))).collect::<Value>();
            return output::print_json(&json!({ "counts": all }));
        }
        let mut out = String::new();
        for (end, rows) in &counts {
            out.push_str(&paint(DIM, end));
            out.push('\n');
            let rows: Vec<_> =
                rows.iter().map(|(name, n)| vec![Cell::number(*n), Cell::new(name.replace('_', " "))]).collect();
            out.push_str(&table(&rows));
        }
        output::print(&out)
    }
}

/// The shortest pause between two prints of the counts.
const SHORTEST: Duration = Duration::from_millis(10);

fn mail_counts(end: &MailEnd) -> (&'static str, Vec<(&'static str, u64)>) {
    let mail_sink::Counts { connections, open, messages, recipients, bytes, deferred, refused } = end.counts();
    let rows = vec![
        ("messages", messages),
        ("recipients", recipients),
        ("bytes", bytes),
        ("deferred", deferred),
        ("refused", refused),
        ("connections", connections),
        ("connections_open", open),
    ];
    ("smtp", rows)
}

fn carrier_counts(end: &CarrierEnd) -> (&'static str, Vec<(&'static str, u64)>) {
    let counts = end.counts();
    let rows = vec![
        ("texts", counts.texts),
        ("parts", counts.taken),
        ("throttled", counts.throttled),
        ("refused", counts.refused),
        ("queue_full", counts.queue_full),
        ("receipts_sent", counts.receipts_sent),
        ("receipts_acknowledged", counts.receipts_acknowledged),
        ("replies_acknowledged", counts.replies_acknowledged),
        ("replies_put_off", counts.replies_put_off),
        ("connections", counts.connections),
        ("binds", counts.binds),
        ("binds_refused", counts.binds_refused),
        ("calls", counts.calls),
        ("calls_refused", counts.calls_refused),
        ("faults", counts.faults),
    ];
    ("smpp", rows)
}

fn fault_help() -> String {
    format!("Do something wrong with texts on purpose; may be given more than once:\n{}", Fault::help().trim_end())
}

/// A duration on the command line.
fn span(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("expected a duration such as 20ms, 2s or 1m")
}

/// A share on the command line.
fn share(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or("expected a share from 0 to 1, such as 0.1")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn starttls_is_offered_with_a_certificate_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("sink.crt"), dir.path().join("sink.key"));
        let parsed = |key: &std::path::Path| {
            let words =
                ["sink", "--certificate", certificate.to_str().unwrap(), "--private-key", key.to_str().unwrap()];
            Line::try_parse_from(words).unwrap().args
        };
        let made = rcgen::generate_simple_self_signed(vec!["sink.example".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        assert!(parsed(&key).mail_options().unwrap().tls.is_some());
        assert!(parsed(&certificate).mail_options().is_err(), "a certificate is no key");
        assert!(parsed(&dir.path().join("nowhere")).mail_options().is_err());
        assert!(Line::try_parse_from(["sink"]).unwrap().args.mail_options().unwrap().tls.is_none());
        assert!(Line::try_parse_from(["sink", "--certificate", "sink.crt"]).is_err(), "its key is missing");
    }
}
