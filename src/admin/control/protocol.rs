//! What is said on the control socket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::Reason;
use crate::egress::email::TlsReportsView;
use crate::egress::email::WarmupView;
use crate::model::{Class, ClientName};
use crate::policy::opt_outs::{OptOut, Whom};
use crate::queue::MessageView;
use crate::queue::steer::{RuleView, Sentence, Swept};
use crate::queue::steering::{Order, Rule, Selector, Which};
use crate::queue::view::QueueView;
use crate::route::PortedNumber;

/// What an operator asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What waits. Answered by [`Response::Queue`].
    Queue {
        /// Most lanes to list.
        lanes: usize,
    },
    /// What became of a message, or of the messages to an address. Answered by [`Response::Messages`].
    Explain {
        /// A message id, a mailbox or a number.
        what: String,
        /// Most messages to list.
        most: usize,
    },
    /// Send nothing more for now. Answered by [`Response::Held`].
    Pause,
    /// Send again. Answered by [`Response::Held`].
    Resume,
    /// Make what waits for a retry due now. Answered by [`Response::Flushed`].
    Flush {
        /// Which messages; all of them if it is empty.
        #[serde(default, skip_serializing_if = "Selector::is_empty")]
        selector: Selector,
    },
    /// Make a rule. Answered by [`Response::Rule`].
    Order {
        /// Which.
        order: Order,
    },
    /// End a rule. Answered by [`Response::Rule`], as it was.
    EndRule {
        /// The word of the command that made it: `pause`, `reroute`.
        action: String,
        /// Which.
        which: Which,
    },
    /// The rules in force. Answered by [`Response::Rules`].
    Rules,
    /// End what waits without an attempt. Answered by any number of [`Response::Sweeping`] and then [`Response::Swept`].
    Sweep {
        /// What, and how.
        sentence: Sentence,
    },
    /// How far sources are warmed up. Answered by [`Response::Warmup`].
    Warmup,
    /// Put a source on a day of its plan. Answered by [`Response::Warmup`], of that source.
    ResetWarmup {
        /// Which.
        source: String,
        /// Towards whom; towards all if it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        /// The day, from 1 on; behind the last one it is warm.
        day: u32,
    },
    /// What became of TLS with mail hosts. Answered by [`Response::TlsReports`].
    TlsReports {
        /// Most domains to list.
        domains: usize,
    },
    /// End the period of TLS reports and send them. Answered by [`Response::TlsReportsDue`].
    SendTlsReports,
    /// Who has opted out of texts. Answered by [`Response::OptOuts`].
    OptOuts {
        /// Of this number only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<Arc<str>>,
        /// Most entries to list.
        most: usize,
    },
    /// Put a number on the list of opt-outs. Answered by [`Response::OptOuts`]: the entry, if it is new.
    AddOptOut {
        /// Whose, of what.
        entry: OptOutOrder,
    },
    /// Take entries off the list. Answered by [`Response::OptOuts`]: those that were taken off.
    RemoveOptOuts {
        /// The number.
        number: Arc<str>,
        /// Those about this signature or sender only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whom: Option<Whom>,
        /// Those of this class only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Class>,
    },
    /// Which numbers carriers say are of another network. Answered by [`Response::Ported`].
    Ported {
        /// This number only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<Arc<str>>,
        /// Most numbers to list.
        most: usize,
    },
    /// Believe a number's first digits again. Answered by [`Response::Ported`]: what was known.
    ForgetPorted {
        /// The number.
        number: Arc<str>,
    },
    /// Read the configuration again. Answered by [`Response::Reloaded`].
    Reload,
    /// How the relay is. Answered by [`Response::Status`].
    Status,
}

/// What the relay answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Response {
    /// What waits.
    Queue(QueueView),
    /// Messages, newest first.
    Messages {
        /// The messages.
        messages: Vec<MessageView>,
    },
    /// Whether sending is held now.
    Held {
        /// True while nothing is sent.
        held: bool,
    },
    /// Retries made due.
    Flushed {
        /// How many recipients.
        recipients: u64,
    },
    /// A rule that was made, or has been ended.
    Rule {
        /// The rule.
        rule: Rule,
    },
    /// The rules in force, oldest first.
    Rules {
        /// The rules.
        rules: Vec<RuleView>,
    },
    /// How far sources are warmed up.
    Warmup {
        /// A source towards a provider each.
        sources: Vec<WarmupView>,
    },
    /// How far the relay has come; more will be said.
    Sweeping(Swept),
    /// What came of it.
    Swept(Swept),
    /// What became of TLS with mail hosts.
    TlsReports(TlsReportsView),
    /// Reports on TLS were made due.
    TlsReportsDue {
        /// How many.
        reports: u64,
    },
    /// Who has opted out of texts.
    OptOuts {
        /// Entries, by number.
        opt_outs: Vec<OptOut>,
        /// As many fit in all.
        total: u64,
    },
    /// What carriers say of numbers' networks.
    Ported {
        /// Numbers, the newest first.
        numbers: Vec<PortedNumber>,
        /// As many fit in all.
        total: u64,
    },
    /// The new configuration is in force.
    Reloaded {
        /// What cannot change without a restart, a sentence each.
        notes: Vec<String>,
    },
    /// How the relay is.
    Status(Status),
    /// The request could not be served; nothing was changed.
    Error {
        /// Why.
        why: String,
    },
}

/// An entry that an operator wants on the list of opt-outs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OptOutOrder {
    /// The number.
    pub number: Arc<str>,
    /// Of whom it wants no more.
    #[serde(flatten)]
    pub whom: Whom,
    /// Of which class.
    pub class: Class,
    /// Of which client; of all if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientName>,
}

/// How a relay is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Since it started, in seconds.
    pub uptime_s: u64,
    /// True while nothing is sent.
    pub held: bool,
    /// True while messages are accepted.
    pub ready: bool,
    /// Why they are not.
    pub reasons: Vec<Reason>,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
}

/// One address the relay listens on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// What for: `smtp`, `http`, `admin`.
    pub name: String,
    /// The address bound.
    pub address: String,
}

/// The version spoken. It changes when an old side would misunderstand a new one; additions do not change it.
pub(super) const VERSION: u32 = 1;

/// Longest response line, line end included: ten thousand lanes, or a thousand messages with their attempts, fit well.
pub(in crate::admin) const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request on the wire.
#[derive(Serialize, Deserialize)]
pub(super) struct RequestLine<T> {
    pub(super) v: u32,
    /// Who asks, as the command knows; the kernel says under which user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
    pub(super) request: T,
}

/// A response on the wire.
#[derive(Serialize, Deserialize)]
pub(super) struct ResponseLine<T> {
    pub(super) v: u32,
    pub(super) response: T,
}

/// Reads nothing but the version.
#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// Reads a request line; an error is a sentence for the operator.
pub(super) fn read_request(line: &[u8]) -> Result<RequestLine<Request>, String> {
    check_version(line)?;
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

/// Reads a response line; an error is a sentence for the operator.
pub(super) fn read_response(line: &[u8]) -> Result<Response, String> {
    check_version(line)?;
    serde_json::from_slice::<ResponseLine<Response>>(line).map(|l| l.response).map_err(|e| e.to_string())
}

fn check_version(line: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<VersionOnly>(line) {
        Ok(VersionOnly { v: VERSION }) => Ok(()),
        Ok(VersionOnly { v }) => Err(format!("control version {v} is not spoken here, only {VERSION}")),
        Err(e) => Err(format!("not a control message: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::queue::steer::SentenceEnd;
    use crate::queue::steering::Action;

    #[test]
    fn requests_stand_on_the_wire_as_documented() {
        let shop = Selector { client: Some("shop".into()), ..Selector::default() };
        let action = Action::Reroute { to: "b:25".into() };
        let (selector, reason) = (shop.clone(), "x".to_owned());
        let order = Order { action, selector, reason, expires: Some(Duration::from_secs(60)) };
        let (selector, reason) = (shop.clone(), "x".to_owned());
        let sentence = Sentence { end: SentenceEnd::Bounce, selector, reason, dry_run: true };
        for (request, json) in [
            (Request::Queue { lanes: 20 }, r#"{"op":"queue","lanes":20}"#),
            (Request::Explain { what: "a@b".to_owned(), most: 5 }, r#"{"op":"explain","what":"a@b","most":5}"#),
            (Request::Pause, r#"{"op":"pause"}"#),
            (Request::Resume, r#"{"op":"resume"}"#),
            (Request::Flush { selector: Selector::default() }, r#"{"op":"flush"}"#),
            (Request::Flush { selector: shop.clone() }, r#"{"op":"flush","selector":{"client":"shop"}}"#),
            (
                Request::Order { order },
                r#"{"op":"order","order":{"action":"reroute","to":"b:25","selector":{"client":"shop"},"reason":"x","expires_ms":60000}}"#,
            ),
            (
                Request::EndRule { action: "pause".to_owned(), which: Which::Id(7) },
                r#"{"op":"end_rule","action":"pause","which":{"id":7}}"#,
            ),
            (
                Request::EndRule { action: "pause".to_owned(), which: Which::Selector(shop.clone()) },
                r#"{"op":"end_rule","action":"pause","which":{"selector":{"client":"shop"}}}"#,
            ),
            (Request::Rules, r#"{"op":"rules"}"#),
            (
                Request::Sweep { sentence },
                r#"{"op":"sweep","sentence":{"end":"bounce","selector":{"client":"shop"},"reason":"x","dry_run":true}}"#,
            ),
            (Request::Warmup, r#"{"op":"warmup"}"#),
            (
                Request::ResetWarmup { source: "mta2".to_owned(), provider: Some("gmail".to_owned()), day: 5 },
                r#"{"op":"reset_warmup","source":"mta2","provider":"gmail","day":5}"#,
            ),
            (Request::TlsReports { domains: 7 }, r#"{"op":"tls_reports","domains":7}"#),
            (Request::SendTlsReports, r#"{"op":"send_tls_reports"}"#),
            (Request::Reload, r#"{"op":"reload"}"#),
            (Request::Status, r#"{"op":"status"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), json);
            let line = format!(r#"{{"v":1,"request":{json}}}"#);
            assert_eq!(read_request(line.as_bytes()).map(|line| line.request), Ok(request));
        }
    }

    #[test]
    fn other_versions_and_unknown_requests_are_named() {
        let why = |line: &[u8]| read_request(line).err().unwrap();
        let two = why(br#"{"v":2,"request":{"op":"dance"}}"#);
        assert_eq!(two, "control version 2 is not spoken here, only 1");
        let unknown = why(br#"{"v":1,"request":{"op":"dance"}}"#);
        assert!(unknown.contains("dance"), "{unknown}");
        let more = why(br#"{"v":1,"request":{"op":"queue","lanes":1,"x":2}}"#);
        assert!(more.contains('x'), "{more}");
    }

    proptest! {
        #[test]
        fn no_line_makes_a_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_request(&line);
            let _ = read_response(&line);
        }
    }
}
