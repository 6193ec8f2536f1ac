//! From one TOML file to a [`Config`] that is ready to be used, or to all of its mistakes.
//!
//! **Promises.** Every mistake is reported at once, each with file, line, key, what is wrong and what would be right; only
//! a file that is no TOML is reported alone. A [`Config`] is checked: files are loaded, numbers are within their bounds,
//! every name that is used is defined. Secrets appear in no message and in no `Debug`. This is the only module that knows
//! how keys are spelled; each has its sentence in the samples under `config/`, and a test here sees to it.
//!
//! **Two forms.** `RawConfig` is the file, section by section; relations between sections are checked on it, because it
//! still knows its places. [`Config`] is what the rest of the program may use.
//!
//! **Does not know** what the values do, and whether a certificate fits its key: whoever builds the listeners does.
//!
//! **Fails how.** With the list of mistakes; nothing of a bad file is used.

mod bounds;
mod clients;
mod cmpp_server;
mod files;
mod http_carrier;
mod http_description;
mod mail;
mod mistake;
mod outbound_tls;
mod ported;
mod quantity;
mod queue;
mod raw;
mod reader;
mod relations;
mod replies;
mod routing;
mod server;
mod sgip;
mod smpp_server;
mod sources;
mod text_rules;
mod texts;
mod timeouts;
mod tls_reports;
mod tlvs;
mod value;
mod warmup;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::egress::email::{MtaStsOptions, Sources, TlsPolicies, TlsReportOptions};
use crate::policy::Clients;
use crate::route::Routes;

pub use bounds::{Events, History, Limits, Log};
pub use http_description::parse_description;
pub use mail::{Delivery, Dkim, Dns};
pub use mistake::{Mistake, Warning};
pub use outbound_tls::Dane;
pub use quantity::{parse_bytes, parse_span};
pub use queue::{Queue, Retry};
pub use replies::Replies;
pub use server::{Admin, Auth, Http, Listener, ListenerTls, Server, Tls};
pub use text_rules::Texts;
pub use texts::Carrier;
pub use timeouts::DeliveryTimeouts;

use mistake::Fault;
use raw::RawConfig;
use reader::{Notes, Section};

/// A configuration, checked and complete.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, as it was named.
    pub file: PathBuf,
    /// Who we are.
    pub server: Server,
    /// What our listeners show.
    pub tls: Option<Tls>,
    /// SMTP in.
    pub listeners: Vec<Listener>,
    /// The applications' API.
    pub http: Option<Http>,
    /// SMPP in.
    pub smpp_listeners: Vec<crate::ingress::bound::Listener>,
    /// Limits and times of it.
    pub smpp_server: crate::ingress::bound::Options,
    /// CMPP listeners.
    pub cmpp_listeners: Vec<crate::ingress::bound::Listener>,
    /// How CMPP is served.
    pub cmpp_server: crate::ingress::bound::Options,
    /// Metrics and health.
    pub admin: Option<Admin>,
    /// Who may submit.
    pub clients: Clients,
    /// Keys that sign mail.
    pub dkim: Vec<Dkim>,
    /// Whom to ask.
    pub dns: Dns,
    /// Retries and expiry, per class.
    pub queue: Queue,
    /// How mail leaves.
    pub delivery: Delivery,
    /// Whence mail leaves.
    pub sources: Sources,
    /// Which TLS mail has to have on its way out.
    pub outbound_tls: TlsPolicies,
    /// How MTA-STS is followed; `None` if it is off.
    pub mta_sts: Option<MtaStsOptions>,
    /// How sessions are counted for TLS reports, and who sends these.
    pub tls_reports: TlsReportOptions,
    /// How DANE is followed.
    pub dane: Dane,
    /// Fixed mail routes and text routes.
    pub routes: Routes,
    /// Accounts with carriers.
    pub carriers: Vec<Carrier>,
    /// What texts must fit.
    pub texts: Texts,
    /// What handsets send, and want no more of.
    pub replies: Replies,
    /// What is learnt of numbers' networks.
    pub ported: crate::dispatch::PortingOptions,
    /// What clients may ask of us.
    pub limits: Limits,
    /// The queue on disk.
    pub log: Log,
    /// The file of facts.
    pub events: Events,
    /// Ended messages that are still known.
    pub history: History,
}

/// Largest configuration file taken; some ten thousand clients fit.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

impl Config {
    /// Reads and checks a file, and the files it names.
    ///
    /// # Errors
    /// All mistakes, in the order of the file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        let text = read(path).map_err(|wrong| vec![unreadable(path, wrong)])?;
        Self::parse(path, &text)
    }

    /// The data directory that a file names, without checking the rest and without reading the files it names.
    ///
    /// # Errors
    /// Why it cannot be told; the first mistake only.
    pub fn data_dir(path: &Path) -> Result<PathBuf, Mistake> {
        let text = read(path).map_err(|wrong| unreadable(path, wrong))?;
        let notes = Notes::new(path, &text, &|_| None);
        let found = match DeTable::parse(&text) {
            Ok(document) => server::data_dir_of(&notes, document.get_ref()),
            Err(e) => {
                notes.mistake_at(e.span().map_or(0, |s| s.start), "", Fault::new(syntax(&e), ""));
                None
            }
        };
        let (mistakes, _, _) = notes.finish();
        mistakes.into_iter().next().map_or_else(|| found.ok_or_else(|| incomplete(path)), Err)
    }

    /// Checks a text as if it stood in `file`; relative names in it start at that file's directory.
    ///
    /// # Errors
    /// All mistakes, in the order of the text.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        checked(file, text, &|name| std::env::var(name).ok()).0
    }
}

type Checked = Result<(Config, Vec<Warning>), Vec<Mistake>>;

/// The result, and every key that was asked for.
fn checked(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> (Checked, BTreeSet<String>) {
    let notes = Notes::new(file, text, env);
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let right = "everything else is checked once the file is TOML";
            notes.mistake_at(e.span().map_or(0, |s| s.start), "", Fault::new(syntax(&e), right));
            let (mistakes, _, asked) = notes.finish();
            return (Err(mistakes), asked);
        }
    };
    let raw = Section::read_root(&notes, document.get_ref(), RawConfig::read);
    relations::check(&raw, &notes);
    let (mistakes, warnings, asked) = notes.finish();
    if !mistakes.is_empty() {
        return (Err(mistakes), asked);
    }
    match raw.into_config(file.to_owned()) {
        Some(config) => (Ok((config, warnings)), asked),
        // A section without a value has reported why; this is only what remains if one forgot to.
        None => (Err(vec![incomplete(file)]), asked),
    }
}

fn unreadable(file: &Path, wrong: String) -> Mistake {
    let right = "name a readable TOML file, such as --config /etc/postrider/postrider.toml".to_owned();
    Mistake { file: file.to_owned(), line: 0, column: 0, key: String::new(), wrong, right }
}

fn incomplete(file: &Path) -> Mistake {
    let (wrong, right) = ("incomplete".to_owned(), "add a [server] table with hostname".to_owned());
    Mistake { file: file.to_owned(), line: 1, column: 1, key: "server".to_owned(), wrong, right }
}

/// The parser's own words, on one line.
fn syntax(e: &toml::de::Error) -> String {
    e.message().split('\n').map(str::trim).collect::<Vec<_>>().join(", ")
}

fn read(path: &Path) -> Result<String, String> {
    let file = files::open_regular(path).map_err(|e| format!("cannot be read: {e}"))?;
    let file = file.ok_or_else(|| "cannot be read: not a regular file".to_owned())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("cannot be read: larger than 16 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|e| format!("is not UTF-8: byte {} is wrong", e.utf8_error().valid_up_to() + 1))
}
