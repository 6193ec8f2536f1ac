//! What came of an attempt, in RFC 3464's words.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Measures, RecipientIndex, TextProgress};

/// What one attempt meant for one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecipientOutcome {
    /// Whom it concerns.
    pub recipient: RecipientIndex,
    /// What happened.
    pub outcome: Outcome,
    /// The other side, as far as we got to know it.
    pub peer: Option<Peer>,
    /// For a text: where its parts stand now.
    pub progress: Option<TextProgress>,
    /// From the first byte of the attempt to its outcome.
    pub duration: Duration,
}

/// The three ends of an attempt (RFC 3464 section 2.3.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The next hop has taken responsibility.
    Relayed(Relayed),
    /// Not now; to be tried again. Whatever we do not understand is this.
    Delayed(Failure),
    /// Never.
    Failed(Failure),
}

/// The next hop's yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relayed {
    /// Its whole reply.
    pub reply: Reply,
    /// It has also taken over the duty to notify the sender (RFC 3461 section 5.2.1). If not, a sender who wants to hear of
    /// success hears from us that the mail was relayed.
    pub notifies: bool,
}

/// An attempt that did not succeed: whom it condemns, where it happened, and what the other side said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Who else is affected.
    pub scope: Scope,
    /// Where in the dialogue.
    pub stage: Stage,
    /// The enhanced status code to report (RFC 3463), the peer's own where it gave one.
    pub status: EnhancedStatus,
    /// The peer's whole reply, if there was one.
    pub reply: Option<Reply>,
    /// For operators: what happened, when no reply says so.
    pub cause: Option<String>,
    /// The next hop asked us to slow down.
    pub throttled: bool,
    /// The row of the provider table that judged the reply, if one did.
    pub rule: Option<Rule>,
    /// It is of no use to try again sooner. Not kept on disk: the time at which it is due is.
    pub retry_after: Option<Duration>,
    /// What that row has done besides. Not kept on disk.
    pub measures: Option<Arc<Measures>>,
}

impl Failure {
    /// A failure without a reply.
    pub fn without_reply(scope: Scope, stage: Stage, status: EnhancedStatus, cause: impl Into<String>) -> Self {
        Self {
            scope,
            stage,
            status,
            reply: None,
            cause: Some(cause.into()),
            throttled: false,
            rule: None,
            retry_after: None,
            measures: None,
        }
    }
}

impl Failure {
    /// Nobody was asked: something of ours has to be waited for.
    pub fn is_ours(&self) -> bool {
        self.stage == Stage::Route
    }

    /// For how long none of the sources that a mail's lane goes by may send there, if that is what it waits for.
    pub fn lane_waits(&self) -> Option<Duration> {
        self.retry_after.filter(|_| self.is_ours() && self.scope == Scope::Source)
    }
}

/// A row of the provider table, as it is shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Its stable id, such as `gmail-rate-ip`.
    pub id: Arc<str>,
    /// The class of the replies it knows, such as `rate-ip`.
    pub class: Arc<str>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.class)
    }
}

/// Whom a failure condemns (DESIGN section 5), from narrow to wide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// This recipient only.
    Recipient,
    /// This message, whoever it goes to.
    Message,
    /// All messages of its campaign.
    Campaign,
    /// All mail from this sender domain.
    SenderDomain,
    /// This connection; another may succeed.
    Connection,
    /// This host; another of the same destination may succeed.
    Host,
    /// Our source address.
    Source,
    /// The whole destination.
    Site,
}

impl Scope {
    /// All scopes, from narrow to wide.
    pub const ALL: [Self; 8] = [
        Self::Recipient,
        Self::Message,
        Self::Campaign,
        Self::SenderDomain,
        Self::Connection,
        Self::Host,
        Self::Source,
        Self::Site,
    ];

    /// The word used in events and in the provider table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Campaign => "campaign",
            Self::SenderDomain => "sender-domain",
            Self::Connection => "connection",
            Self::Host => "host",
            Self::Source => "source",
            Self::Site => "site",
        }
    }
}

/// Where in the dialogue an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// Before any connection: routing, policy, signing.
    Route,
    /// Name resolution.
    Dns,
    /// Connecting, up to and including the greeting.
    Connect,
    /// EHLO or a carrier's bind.
    Hello,
    /// The TLS handshake.
    Tls,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, up to the go-ahead.
    Data,
    /// The reply to the final dot.
    EndOfData,
    /// A carrier's answer to a part.
    Submit,
    /// A receipt.
    Receipt,
}

impl Stage {
    /// The word used in events and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Hello => "hello",
            Self::Tls => "tls",
            Self::Mail => "mail",
            Self::Recipient => "rcpt",
            Self::Data => "data",
            Self::EndOfData => "end-of-data",
            Self::Submit => "submit",
            Self::Receipt => "receipt",
        }
    }
}

/// A peer's reply, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// SMTP reply code, or a carrier's command status.
    pub code: u32,
    /// Enhanced status code, if it gave one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text without codes, lines joined by `\n`; what is not UTF-8 is replaced.
    pub text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(e) = self.enhanced {
            write!(f, " {e}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text.replace('\n', " / "))?;
        }
        Ok(())
    }
}

/// An enhanced mail system status code (RFC 3463): class.subject.detail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about.
    pub subject: u16,
    /// In particular.
    pub detail: u16,
}

impl EnhancedStatus {
    /// `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Parses `5.1.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('.');
        let (class, subject, detail) = (fields.next()?, fields.next()?, fields.next()?);
        let digits = |s: &str, max: usize| (1..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        if fields.next().is_some() || !matches!(class, "2" | "4" | "5") || !digits(subject, 3) || !digits(detail, 3) {
            return None;
        }
        Some(Self::new(class.parse().ok()?, subject.parse().ok()?, detail.parse().ok()?))
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The other side of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name: an MX host, a next hop, a carrier.
    pub host: String,
    /// The address dialled.
    pub address: Option<SocketAddr>,
    /// TLS version and cipher suite, when the connection had TLS.
    pub tls: Option<String>,
    /// The configured source of ours that the connection was made from.
    pub source: Option<Arc<str>>,
    /// The TLS policy that held for the mail, such as `verified (mta-sts enforce)`.
    pub tls_policy: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_follow_rfc_3463() {
        assert_eq!(EnhancedStatus::parse("5.1.1"), Some(EnhancedStatus::new(5, 1, 1)));
        assert_eq!(EnhancedStatus::parse("4.7.650").map(|e| e.to_string()).as_deref(), Some("4.7.650"));
        for bad in ["", "5", "5.1", "3.1.1", "5.1.1.1", "5.1234.1", "5.a.1", "5..1", "250"] {
            assert_eq!(EnhancedStatus::parse(bad), None, "{bad}");
        }
    }
}
