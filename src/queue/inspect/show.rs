//! Records as people and programs read them.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;

use super::{Kind, Spool, Told, part_name, part_owner};
use crate::clock::Timestamp;
use crate::event::mask;
use crate::model::{Class, Envelope, MessageId, Origin, Recipient, Ret};
use crate::queue::explain::{attempt_view, part_views};
use crate::queue::life::{Change, End, Life, State};
use crate::queue::record::{self, RecordError};
use crate::queue::view::{AttemptView, PartView};
use crate::storage::inspect::{Flaw, Item, Part, Seen, SeenBody};
use crate::storage::{OpenError, Position};

/// Which records are shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Those of a message.
    pub id: Option<MessageId>,
    /// Those of a kind.
    pub kind: Option<Kind>,
    /// At most so many.
    pub limit: Option<u64>,
    /// With the header sections of mails, but for class `otp`.
    pub headers: bool,
}

/// How a dump ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dumped {
    /// Records shown.
    pub records: u64,
    /// Damaged places met on the way, and records that cannot be understood.
    pub damaged: u64,
}

/// One line of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A record.
    Record(Box<RecordView>),
    /// A place where none can be read.
    Damage(DamageView),
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RecordView {
    /// `accept`, `change`, `key`, or `unknown`.
    pub kind: &'static str,
    /// The message.
    pub id: String,
    /// Where it lies.
    pub position: PositionView,
    /// The number of its batch; absent if that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// The record that this one speaks of or replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<PositionView>,
    /// An accept record's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<AcceptView>,
    /// The content of an accept record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyView>,
    /// The mail's header section, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// A change record's changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeView>,
    /// A key record's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyView>,
    /// Why it cannot be understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PositionView {
    /// The segment's number.
    pub segment: u64,
    /// Where in it.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

impl From<Position> for PositionView {
    fn from(position: Position) -> Self {
        Self { segment: position.segment, offset: position.offset, length: position.length }
    }
}

/// A content, but for its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BodyView {
    /// How many bytes.
    pub bytes: u64,
    /// Its own file, from the spool's directory, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// It matches its checksum; absent if that was not looked at, for a file's is only looked at by `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intact: Option<bool>,
}

/// An envelope and its recipients' lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "as in the envelope")]
pub struct AcceptView {
    pub client: Arc<str>,
    pub class: &'static str,
    pub channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<Arc<str>>,
    pub received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// `****` for class `otp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Arc<str>>,
    /// A mail's reverse-path (empty for a notification), or a text's sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// ENVID, xtext-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envid: Option<Arc<str>>,
    /// RET: `full` or `hdrs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ret: Option<&'static str>,
    /// What its sender wants of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'static str>,
    /// SMTPUTF8 was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtputf8: Option<bool>,
    /// Bytes of the content in front of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_bytes: Option<u32>,
    pub recipients: Vec<LifeView>,
}

/// A recipient and its life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LifeView {
    /// Its address; masked for class `otp`.
    pub address: String,
    /// NOTIFY: `never`, or some of `success`, `failure`, `delay`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<&'static str>,
    /// ORCPT, xtext-encoded; not told for class `otp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: StateView,
    /// Attempts that count.
    pub attempts_made: u32,
    /// The latest attempts, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
    /// Parts of a text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartView>,
}

/// A state and its time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StateView {
    /// `queued`, `begun`, `sent`, or how it ended: `delivered`, `failed`, `expired`, `cancelled`, `rejected`, `unknown`,
    /// `sent-without-receipt`.
    pub state: &'static str,
    /// When it is due, if it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Since when, otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What happened to a recipient.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ChangeView {
    /// Its place among the message's recipients; 0 is the first.
    pub recipient: u32,
    /// Where it stands since.
    #[serde(flatten)]
    pub state: StateView,
    /// The attempt that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptView>,
    /// That attempt counts towards the retry schedule.
    pub counts: bool,
    /// The receipt that led to it, in the carrier's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Parts of a text as they stand since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartView>,
}

/// An idempotency key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KeyView {
    /// Whose.
    pub client: Arc<str>,
    /// The key; `****` unless the message in front of it is known not to be of class `otp`.
    pub key: Arc<str>,
    /// Since when it is known.
    pub received_at: String,
}

/// A place where no record can be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DamageView {
    /// `damaged` or `torn`.
    pub kind: &'static str,
    /// The file, from the spool's directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// What it was.
    pub what: String,
    /// The message that it seems to belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What stands where something must not be shown.
const MASKED: &str = "****";

impl Spool {
    /// Shows records in order of commit; `show` may end it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn dump(
        &self,
        wanted: &Wanted,
        told: Told<'_>,
        show: &mut dyn FnMut(&Line) -> ControlFlow<()>,
    ) -> Result<Dumped, OpenError> {
        let mut dumped = Dumped::default();
        // A key's record follows its message's at once, if neither has been moved.
        let mut plain: Option<MessageId> = None;
        let limit = wanted.limit.unwrap_or(u64::MAX);
        if limit == 0 {
            return Ok(dumped);
        }
        self.walk(told, &mut |item| {
            let line = match item {
                Item::Record(seen) => {
                    let view = self.record_view(&seen, &mut plain, wanted);
                    dumped.damaged += u64::from(view.unreadable.is_some());
                    let id = MessageId::from_bytes(seen.key);
                    let is_wanted = wanted.id.is_none_or(|w| w == id)
                        && wanted.kind.is_none_or(|kind| Some(kind) == Kind::of(seen.kind));
                    if !is_wanted {
                        return ControlFlow::Continue(());
                    }
                    dumped.records += 1;
                    Line::Record(Box::new(view))
                }
                Item::Flaw(flaw) => {
                    let torn = matches!(flaw.what, Part::TornEnd(_));
                    dumped.damaged += u64::from(!torn);
                    let owner = part_owner(&flaw.what).map(|(id, _)| id);
                    if wanted.id.is_some() && owner.is_some() && wanted.id != owner {
                        return ControlFlow::Continue(());
                    }
                    Line::Damage(damage_view(&flaw, owner, torn))
                }
                Item::Segment(_) => return ControlFlow::Continue(()),
            };
            show(&line)?;
            if dumped.records < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(dumped)
    }

    fn record_view(&self, seen: &Seen<'_>, plain: &mut Option<MessageId>, wanted: &Wanted) -> RecordView {
        let id = MessageId::from_bytes(seen.key);
        let mut view = RecordView {
            kind: Kind::of(seen.kind).map_or("unknown", Kind::as_str),
            id: id.to_string(),
            position: seen.position.into(),
            batch: seen.batch,
            about: seen.about.map(PositionView::from),
            accept: None,
            body: body_view(&seen.body),
            headers: None,
            changes: Vec::new(),
            key: None,
            unreadable: None,
        };
        let mut fill = || -> Result<(), RecordError> {
            match Kind::of(seen.kind).ok_or(RecordError { field: "kind" })? {
                Kind::Accept => {
                    let (envelope, lives) = record::read_accept(id, seen.payload)?;
                    let masked = envelope.class == Class::Otp;
                    *plain = (!masked).then_some(id);
                    view.accept = Some(accept_view(&envelope, &lives, masked));
                    if wanted.headers && !masked {
                        view.headers = self.headers(&envelope, &seen.body);
                    }
                }
                Kind::Change => view.changes = record::read_changes(seen.payload)?.iter().map(change_view).collect(),
                Kind::Key => {
                    let known = record::read_key(seen.payload)?;
                    let shown = *plain == Some(id) && seen.about.is_none();
                    let key = if shown { known.idempotency.key } else { MASKED.into() };
                    view.key = Some(KeyView { client: known.client, key, received_at: known.received_at.rfc3339() });
                }
            }
            Ok(())
        };
        if let Err(e) = fill() {
            view.unreadable = Some(e.to_string());
        }
        view
    }

    /// A mail's header section, as far as it can be read.
    fn headers(&self, envelope: &Envelope, body: &SeenBody<'_>) -> Option<String> {
        let length = envelope.mail()?.header_bytes as usize;
        let text = |content: &[u8]| String::from_utf8_lossy(&content[..length.min(content.len())]).into_owned();
        match body {
            SeenBody::None => None,
            SeenBody::Inline { bytes, .. } => Some(text(bytes)),
            SeenBody::File(place) => self.log.read_body(place).ok().map(|content| text(&content)),
        }
    }
}

fn body_view(body: &SeenBody<'_>) -> Option<BodyView> {
    match body {
        SeenBody::None => None,
        SeenBody::Inline { bytes, intact } => {
            Some(BodyView { bytes: bytes.len() as u64, file: None, intact: Some(*intact) })
        }
        SeenBody::File(place) => {
            let file = Some(place.path().display().to_string());
            Some(BodyView { bytes: u64::from(place.bytes), file, intact: None })
        }
    }
}

fn damage_view(flaw: &Flaw, owner: Option<MessageId>, torn: bool) -> DamageView {
    DamageView {
        kind: if torn { "torn" } else { "damaged" },
        file: flaw.path().display().to_string(),
        offset: flaw.offset,
        length: flaw.length,
        what: part_name(&flaw.what),
        id: owner.map(|id| id.to_string()),
    }
}

/// An envelope and its recipients' lives; `masked` hides whom it is for.
pub(super) fn accept_view(envelope: &Envelope, lives: &[Life], masked: bool) -> AcceptView {
    let mail = envelope.mail();
    let key = envelope.idempotency.as_ref().map(|i| if masked { MASKED.into() } else { i.key.clone() });
    AcceptView {
        client: envelope.client.clone(),
        class: envelope.class.as_str(),
        channel: envelope.channel().as_str(),
        campaign: envelope.campaign.clone(),
        tags: envelope.tags.clone(),
        client_ref: envelope.client_ref.clone(),
        received_at: envelope.received_at.rfc3339(),
        send_at: envelope.send_at.map(Timestamp::rfc3339),
        expires_at: envelope.expires_at.map(Timestamp::rfc3339),
        idempotency_key: key,
        from: match &envelope.origin {
            Origin::Mail(mail) => Some(mail.reverse_path.to_string()),
            Origin::Text(text) => text.from.as_ref().map(ToString::to_string),
        },
        envid: mail.and_then(|m| m.envid.clone()),
        ret: mail.and_then(|m| m.ret).map(|ret| if ret == Ret::Full { "full" } else { "hdrs" }),
        smtputf8: mail.map(|m| m.smtputf8),
        tls: mail.and_then(|m| m.tls.as_str()),
        header_bytes: mail.map(|m| m.header_bytes),
        recipients: envelope.recipients.iter().zip(lives).map(|(r, life)| life_view(r, life, masked)).collect(),
    }
}

fn life_view(recipient: &Recipient, life: &Life, masked: bool) -> LifeView {
    let address = recipient.address.to_string();
    let original = recipient.original.as_ref().filter(|_| !masked);
    let notify = recipient.notify.map(|notify| {
        let words = [(notify.success, "success"), (notify.failure, "failure"), (notify.delay, "delay")];
        let asked: Vec<&str> = words.into_iter().filter_map(|(asked, word)| asked.then_some(word)).collect();
        if asked.is_empty() { vec!["never"] } else { asked }
    });
    LifeView {
        address: if masked { mask(&address) } else { address },
        notify: notify.unwrap_or_default(),
        original: original.map(|o| format!("{};{}", o.kind, o.xtext)),
        state: state_view(life.state),
        attempts_made: life.attempts_made,
        attempts: life.attempts.iter().map(attempt_view).collect(),
        parts: life.progress.as_deref().map(|p| part_views(p, &life.receipts)).unwrap_or_default(),
    }
}

fn change_view(change: &Change) -> ChangeView {
    ChangeView {
        recipient: change.recipient,
        state: state_view(change.state),
        attempt: change.attempt.as_ref().map(attempt_view),
        counts: change.counts,
        receipt: change.receipt.as_ref().map(|r| format!("part {}: {}", r.part + 1, r.text)),
        parts: change.progress.as_deref().map(|p| part_views(p, &[])).unwrap_or_default(),
    }
}

fn state_view(state: State) -> StateView {
    let (state, due, at) = match state {
        State::Queued { due } => ("queued", Some(due), None),
        State::Begun { at } => ("begun", None, Some(at)),
        State::Sent { at } => ("sent", None, Some(at)),
        State::Ended { end, at } => (end_word(end), None, Some(at)),
    };
    StateView { state, due: due.map(Timestamp::rfc3339), at: at.map(Timestamp::rfc3339) }
}

const fn end_word(end: End) -> &'static str {
    match end {
        End::Delivered => "delivered",
        End::Failed => "failed",
        End::Expired => "expired",
        End::Cancelled => "cancelled",
        End::Rejected => "rejected",
        End::Unknown => "unknown",
        End::SentWithoutReceipt => "sent-without-receipt",
        End::Shelved => "on-the-shelf",
    }
}
