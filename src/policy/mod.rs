//! What is allowed: who the clients are and what each may send.
//!
//! **Promises.** Pure decisions on tables built by `config`; every refusal is a [`Refusal`] with a stable rule id.
//! **Does not know** sockets, SMTP or HTTP; [`credentials`] alone spends CPU, on a bounded pool, [`opt_outs`] alone has a file.

pub mod credentials;
pub mod opt_outs;
pub mod reply_rules;
pub mod texts;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Channel, Class, ClientName, Domain, Money, Number, Rate, Secret, SenderId};

/// An application that may submit.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name: the SMTP AUTH user.
    pub name: ClientName,
    /// Its password, as a PHC string made by `postrider hash-password`.
    pub password: Option<Secret>,
    /// SHA-256 of each API key.
    pub api_keys: Vec<[u8; 32]>,
    /// Channels it may use.
    pub channels: Vec<Channel>,
    /// Domains it may send as: `example.com` is that domain and all below it; `*` is any.
    pub senders: Vec<String>,
    /// Sender numbers and names its texts may show; empty: the carrier's default only.
    pub numbers: Vec<SenderId>,
    /// Number prefixes it may text to, with the `+`; empty: any that has a route.
    pub countries: Vec<String>,
    /// Signatures under which it may text to +86, without their brackets; empty: it is not held to any.
    pub signatures: Vec<Arc<str>>,
    /// Its texts to +86 must be among the templates registered for it.
    pub templates_only: bool,
    /// Its senders get notifications of what became of their mail; else the events alone tell.
    pub bounces: bool,
    /// Its texts are written with look-alikes where that makes them fit the GSM 7-bit alphabet, if they do not say
    /// otherwise.
    pub transliterate: bool,
    /// How many texts it may send to numbers that begin so, beside the caps of everybody.
    pub velocity: Vec<texts::Velocity>,
    /// What its texts of a day may cost; `None`: anything.
    pub daily_spend: Option<Money>,
    /// How it may bind by SMPP.
    pub smpp: SmppTerms,
    /// How it may log in by CMPP, if it may.
    pub cmpp: Option<CmppTerms>,
}

#[cfg(test)]
impl Client {
    /// One that may do nothing yet: tests say what theirs may.
    pub(crate) fn bare(name: &str) -> Self {
        Self {
            name: name.into(),
            password: None,
            api_keys: Vec::new(),
            channels: Vec::new(),
            senders: Vec::new(),
            numbers: Vec::new(),
            countries: Vec::new(),
            signatures: Vec::new(),
            templates_only: false,
            bounces: true,
            transliterate: false,
            velocity: Vec::new(),
            daily_spend: None,
            smpp: SmppTerms::default(),
            cmpp: None,
        }
    }
}

/// How a client may bind by SMPP.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SmppTerms {
    /// The `system_id` that it binds with; `None`: its name.
    pub system_id: Option<Arc<str>>,
    /// What it may do then.
    pub terms: BindTerms,
}

/// How a client may log in by CMPP.
#[derive(Clone, Debug)]
pub struct CmppTerms {
    /// The SP_Id that it logs in with: at most six characters.
    pub sp_id: Arc<str>,
    /// The secret that it proves to know; it does not travel, so it cannot be kept as a hash.
    pub secret: Secret,
    /// What it may do then.
    pub terms: BindTerms,
}

/// What a client may do over links that stay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindTerms {
    /// Most binds at a time.
    pub binds: usize,
    /// Most submissions unanswered at a time, over all its binds.
    pub window: usize,
    /// Most submissions in a time, over all its binds; a second's worth may come at once.
    pub rate: Rate,
    /// The class of texts that do not say theirs.
    pub class: Class,
}

impl Default for BindTerms {
    fn default() -> Self {
        let rate = Rate { count: 100, per: Duration::from_secs(1) };
        Self { binds: 2, window: 32, rate, class: Class::default() }
    }
}

/// Why something is not allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Stable rule id, such as `sender-not-allowed`.
    pub rule: &'static str,
    /// One sentence for the client.
    pub detail: String,
}

impl Client {
    /// May it use this channel?
    ///
    /// # Errors
    /// Rule `channel-not-allowed`.
    pub fn may_use(&self, channel: Channel) -> Result<(), Refusal> {
        if self.channels.contains(&channel) {
            return Ok(());
        }
        Err(Refusal { rule: "channel-not-allowed", detail: format!("client {} may not send by {channel}", self.name) })
    }

    /// May it send as this domain, in MAIL FROM and From?
    ///
    /// # Errors
    /// Rule `sender-not-allowed`.
    pub fn may_send_as(&self, domain: &Domain) -> Result<(), Refusal> {
        if self.senders.iter().any(|s| s == "*" || domain.is_within(s)) {
            return Ok(());
        }
        Err(Refusal { rule: "sender-not-allowed", detail: format!("client {} may not send as {domain}", self.name) })
    }

    /// May its texts show this sender?
    ///
    /// # Errors
    /// Rule `number-not-allowed`.
    pub fn may_show(&self, sender: &SenderId) -> Result<(), Refusal> {
        if self.numbers.contains(sender) {
            return Ok(());
        }
        Err(Refusal { rule: "number-not-allowed", detail: format!("client {} may not send from {sender}", self.name) })
    }

    /// May it text this number?
    ///
    /// # Errors
    /// Rule `country-not-allowed`.
    pub fn may_text(&self, number: &Number) -> Result<(), Refusal> {
        if self.countries.is_empty() || number.longest_beginning(&self.countries).is_some() {
            return Ok(());
        }
        Err(Refusal {
            rule: "country-not-allowed",
            detail: format!("client {} may not send to {}", self.name, number.as_str().get(..3).unwrap_or_default()),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.rule)
    }
}

impl std::error::Error for Refusal {}

/// All clients, by name.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    by_name: HashMap<ClientName, Arc<Client>>,
    /// Those that have an SMPP `system_id` of their own.
    by_system_id: HashMap<Arc<str>, Arc<Client>>,
    /// Those that may log in by CMPP.
    by_sp_id: HashMap<Arc<str>, Arc<Client>>,
}

impl Clients {
    /// A table of clients; names are unique, `config` has seen to it.
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        let clients: Vec<Arc<Client>> = clients.into_iter().map(Arc::new).collect();
        let all = || clients.iter().cloned();
        Self {
            by_name: all().map(|c| (c.name.clone(), c)).collect(),
            by_system_id: all().filter_map(|c| Some((c.smpp.system_id.clone()?, c))).collect(),
            by_sp_id: all().filter_map(|c| Some((c.cmpp.as_ref()?.sp_id.clone(), c))).collect(),
        }
    }

    /// The client of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Client>> {
        self.by_name.get(name)
    }

    /// The client that binds by SMPP with that `system_id`.
    pub fn of_system_id(&self, system_id: &str) -> Option<&Arc<Client>> {
        let by_name = || self.named(system_id).filter(|client| client.smpp.system_id.is_none());
        self.by_system_id.get(system_id).or_else(by_name)
    }

    /// The client that logs in by CMPP with that SP_Id.
    pub fn of_sp_id(&self, sp_id: &str) -> Option<&Arc<Client>> {
        self.by_sp_id.get(sp_id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.by_name.values()
    }
}
