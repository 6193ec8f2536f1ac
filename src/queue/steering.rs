//! What operators have ordered: which messages a [`Selector`] means, and the [`Rule`]s in force that hold them or send them
//! elsewhere.
//!
//! **Promises.** Pure. Whether a lane is held is asked once a lane: when it is made, moves, or the rules change. A message that
//! goes into a lane asks whether its campaign is told apart and its lane rerouted; without rules these cost nothing. Of two rules
//! that fit, the younger one counts.
//!
//! **Does not know** lanes' tickets, time, or where rules are kept (`steering/file.rs` does).
//!
//! **Fails how.** [`Selector::check`] and [`Order::check`] say in a sentence what is wrong with what somebody typed.

pub(super) mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Target;
use super::entry::CampaignPrint;
use crate::clock::Timestamp;
use crate::event::SteeringFact;
use crate::model::{Class, ClientName, Domain};
use crate::schedule::LaneKey;

/// Rules there may be at a time.
const RULES_MAX: usize = 1_000;
/// Octets of a reason, and of each word of a selector.
const WORD_BYTES_MAX: usize = 500;
/// What is meant to last longer needs no end.
const EXPIRES_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Which messages are meant: those that fit every part that is named. A recipient counts by itself.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// Who submitted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientName>,
    /// Its campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Arc<str>>,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none", with = "class_word")]
    pub class: Option<Class>,
    /// The domain of a mail's recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// Who runs the hosts of a mail's domain, by the provider table's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The site, as `postrider queue` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Arc<str>>,
    /// The source of ours that mail leaves from. What will leave from it is not known before it does, so that it can be paused
    /// and nothing else be done to it; the other sources of its pools go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
}

/// What a rule does to the messages that it fits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// They are held.
    Pause,
    /// Mail goes to a next hop.
    Reroute {
        /// `host:port`.
        to: Arc<str>,
    },
}

/// A rule that somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What it is to do.
    #[serde(flatten)]
    pub action: Action,
    /// Which messages.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// For how long; `None`: until somebody ends it.
    #[serde(skip_serializing_if = "Option::is_none", default, rename = "expires_ms", with = "millis")]
    pub expires: Option<Duration>,
}

/// A rule in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Its number; never used again.
    pub id: u64,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// To which messages.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// Who wanted it.
    pub by: String,
    /// Since when.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// Until when; `None`: until somebody ends it.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "maybe_time")]
    pub expires_at: Option<Timestamp>,
}

/// Which rule is meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one of that number.
    Id(u64),
    /// The one with just this selector.
    Selector(Selector),
}

/// Why an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SteerError {
    /// It makes no sense as it stands.
    Bad(String),
    /// There is no such rule.
    NoSuchRule,
    /// There are as many rules as there may be.
    TooMany,
    /// The rules' file cannot be written: nothing has changed.
    NotKept(String),
    /// A rule was ended, but the rules' file cannot be written: a restart would bring it back.
    EndNotKept(String),
}

impl fmt::Display for SteerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(why) => f.write_str(why),
            Self::NoSuchRule => f.write_str("there is no such rule; postrider steering lists them"),
            Self::TooMany => write!(f, "there are {RULES_MAX} rules already: end some"),
            Self::NotKept(why) => write!(f, "the rule could not be kept and is not in force: {why}"),
            Self::EndNotKept(why) => {
                write!(f, "the rule has been ended, but a restart would bring it back: {why}")
            }
        }
    }
}

impl std::error::Error for SteerError {}

impl Selector {
    /// Its parts by name, those that are there.
    pub fn parts(&self) -> BTreeMap<&'static str, Arc<str>> {
        let Self { client, campaign, class, domain, provider, site, source } = self;
        let class = class.map(|class| Arc::from(class.as_str()));
        let all = [
            ("client", client.clone()),
            ("campaign", campaign.clone()),
            ("class", class),
            ("domain", domain.clone()),
            ("provider", provider.clone()),
            ("site", site.clone()),
            ("source", source.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// True if it names nothing: it fits everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with its domain as lanes spell it.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn check(mut self) -> Result<Self, SteerError> {
        for (name, value) in self.parts() {
            if value.is_empty() || value.len() > WORD_BYTES_MAX {
                return Err(SteerError::Bad(format!("{name} must have 1 to {WORD_BYTES_MAX} octets")));
            }
        }
        if let Some(domain) = &self.domain {
            let parsed = Domain::parse(domain).map_err(|e| SteerError::Bad(format!("domain {domain}: {e}")))?;
            self.domain = Some(parsed.as_str().into());
        }
        Ok(self)
    }

    /// The same for what nobody may do to everything at once.
    ///
    /// # Errors
    /// As [`Selector::check`].
    pub fn check_named(self) -> Result<Self, SteerError> {
        if self.is_empty() {
            return Err(SteerError::Bad("say which messages: name a client, a campaign, a class, …".to_owned()));
        }
        self.check()
    }

    /// The same for what is done to messages that wait: none of them has a source yet.
    ///
    /// # Errors
    /// If it names one.
    pub(super) fn without_source(self) -> Result<Self, SteerError> {
        match &self.source {
            Some(source) => Err(SteerError::Bad(format!(
                "source {source}: what waits has no source yet, so a source can be paused and nothing else be done to it"
            ))),
            None => Ok(self),
        }
    }

    /// True if it names a source as a pause may: alone, or towards a provider.
    fn is_source(&self) -> bool {
        let Self { client, campaign, class, domain, provider: _, site, source } = self;
        let beside = client.is_some() || campaign.is_some() || class.is_some() || domain.is_some() || site.is_some();
        source.is_some() && !beside
    }

    /// Does it fit what travels in this lane to there? Campaigns apart; a source's rule fits no lane.
    pub(super) fn fits_lane(&self, key: &LaneKey, target: &Target) -> bool {
        let Self { client, campaign: _, class, domain, provider, site, source } = self;
        source.is_none()
            && client.as_ref().is_none_or(|client| *client == key.client)
            && class.is_none_or(|class| class == key.class)
            && domain.as_ref().is_none_or(|domain| target.is_mail() && *domain == key.destination)
            && provider.as_ref().is_none_or(|provider| target.provider() == Some(provider))
            && site.as_ref().is_none_or(|site| *site == target.site_name())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("everything");
        }
        for (n, (name, value)) in self.parts().into_iter().enumerate() {
            write!(f, "{}{name} {value}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Action {
    /// The word of its command.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Reroute { .. } => "reroute",
        }
    }

    fn same_kind(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Order {
    /// The same, if it makes sense.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn check(self) -> Result<Self, SteerError> {
        if let Action::Reroute { to } = &self.action
            && !crate::route::is_next_hop(to)
        {
            return Err(SteerError::Bad(format!(
                "{to} is no next hop: say a host and a port, such as mail.example.com:25 or 192.0.2.1:25"
            )));
        }
        if self.expires.is_some_and(|span| span.is_zero() || span > EXPIRES_MAX) {
            return Err(SteerError::Bad("it must expire within ten years, and not at once".to_owned()));
        }
        let selector = self.selector.check_named()?;
        let selector = match (&self.action, selector.is_source()) {
            (Action::Pause, true) => selector,
            (Action::Pause, false) if selector.source.is_some() => {
                return Err(SteerError::Bad("beside a source only a provider can be named".to_owned()));
            }
            _ => selector.without_source()?,
        };
        Ok(Self { selector, reason: check_reason(&self.reason)?, ..self })
    }
}

/// A reason as it is kept.
///
/// # Errors
/// If it is missing or too long.
pub fn check_reason(reason: &str) -> Result<String, SteerError> {
    let reason: String = reason.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if reason.is_empty() || reason.len() > WORD_BYTES_MAX {
        return Err(SteerError::Bad(format!("say why, in 1 to {WORD_BYTES_MAX} octets")));
    }
    Ok(reason)
}

impl Rule {
    /// What it does, for whom, until when and why, in a sentence.
    pub fn sentence(&self) -> String {
        let what = match &self.action {
            Action::Pause => "held".to_owned(),
            Action::Reroute { to } => format!("rerouted to {to}"),
        };
        let until = match self.expires_at {
            Some(at) => format!("until {}", at.rfc3339()),
            None => "until it is ended".to_owned(),
        };
        format!("{what} by rule {} ({}) {until}: {}", self.id, self.selector, self.reason)
    }

    /// As events tell of it.
    pub(super) fn fact(&self, action: &'static str) -> SteeringFact {
        let to = match &self.action {
            Action::Pause => None,
            Action::Reroute { to } => Some(to.clone()),
        };
        SteeringFact {
            rule: Some(self.id),
            to,
            expires_at: self.expires_at,
            ..SteeringFact::new(action, self.selector.parts(), self.by.clone())
        }
    }
}

/// The rules in force, oldest first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Rules {
    list: Vec<Rule>,
    last_id: u64,
}

impl Rules {
    pub(super) fn list(&self) -> &[Rule] {
        &self.list
    }

    /// The rule that holds what travels in this lane to there.
    pub(super) fn pause(&self, key: &LaneKey, target: &Target) -> Option<&Rule> {
        self.list.iter().rev().find(|rule| rule.action == Action::Pause && rule.fits(key, target))
    }

    /// The rule that sends elsewhere what would go there in this lane, and whereto.
    pub(super) fn reroute(&self, key: &LaneKey, target: &Target) -> Option<(&Rule, &Arc<str>)> {
        if !target.is_mail() {
            return None;
        }
        self.list.iter().rev().find_map(|rule| match &rule.action {
            Action::Reroute { to } if rule.fits(key, target) => Some((rule, to)),
            _ => None,
        })
    }

    /// The rules that pause a source.
    pub(super) fn of_sources(&self) -> Arc<[Rule]> {
        self.list.iter().filter(|rule| rule.selector.source.is_some()).cloned().collect()
    }

    /// The campaign, if a rule names it: then its messages travel in lanes of their own.
    pub(super) fn apart(&self, campaign: CampaignPrint) -> Option<&Arc<str>> {
        if self.list.is_empty() || campaign == CampaignPrint::NONE {
            return None;
        }
        let named = self.list.iter().filter_map(|rule| rule.selector.campaign.as_ref());
        named.into_iter().find(|name| CampaignPrint::of(Some(name)) == campaign)
    }

    /// Adds a rule in place of one that does the same kind of thing to the same messages.
    pub(super) fn add(&mut self, order: Order, by: String, now: Timestamp) -> Result<Rule, SteerError> {
        let Order { action, selector, reason, expires } = order;
        self.list.retain(|rule| !(rule.action.same_kind(&action) && rule.selector == selector));
        if self.list.len() >= RULES_MAX {
            return Err(SteerError::TooMany);
        }
        self.last_id += 1;
        let expires_at = expires.map(|span| now.plus(span));
        let rule = Rule { id: self.last_id, action, selector, reason, by, since: now, expires_at };
        self.list.push(rule.clone());
        Ok(rule)
    }

    /// Takes a rule out. `action` is the word of the command that made it.
    pub(super) fn remove(&mut self, action: &str, which: &Which) -> Result<Rule, SteerError> {
        let is_meant = |rule: &Rule| {
            rule.action.as_str() == action
                && match which {
                    Which::Id(id) => rule.id == *id,
                    Which::Selector(selector) => rule.selector == *selector,
                }
        };
        let place = self.list.iter().position(is_meant).ok_or(SteerError::NoSuchRule)?;
        Ok(self.list.remove(place))
    }

    /// Takes out the rules whose time has run out.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Vec<Rule> {
        self.list.extract_if(.., |rule| rule.expires_at.is_some_and(|at| at <= now)).collect()
    }
}

impl Rule {
    fn fits(&self, key: &LaneKey, target: &Target) -> bool {
        let campaign = self.selector.campaign.as_ref();
        campaign.is_none_or(|campaign| key.campaign() == Some(campaign)) && self.selector.fits_lane(key, target)
    }
}

mod class_word {
    use super::{Class, Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(class: &Option<Class>, s: S) -> Result<S::Ok, S::Error> {
        class.map(Class::as_str).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Class>, D::Error> {
        let word = Option::<String>::deserialize(d)?;
        word.map(|word| word.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

mod millis {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_millis))
    }
}

mod time {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&time.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom(format!("{text} is no time")))
    }
}

mod maybe_time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp, time};

    #[derive(Serialize, Deserialize)]
    struct Whole(#[serde(with = "time")] Timestamp);

    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
        time.map(Whole).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Whole>::deserialize(d)?.map(|Whole(time)| time))
    }
}

#[cfg(test)]
mod tests;
