//! Waiting messages handed out whole, so that they can be rescued by hand.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::ledger::{Ledger, Waiting};
use super::show::{AcceptView, PositionView, accept_view};
use super::{Spool, Told};
use crate::model::{Channel, MessageId};
use crate::queue::record::{self, RecordError};
use crate::storage::inspect::{Item, Part};
use crate::storage::{OpenError, Position, ReadError};

/// Which messages are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// All that have not ended.
    All,
    /// One.
    Id(MessageId),
    /// Those of a client.
    Client(Arc<str>),
}

/// The messages chosen.
#[derive(Debug)]
pub struct Plan {
    /// In order of commit.
    chosen: Vec<(MessageId, Waiting)>,
    /// Damaged places met, and records that cannot be understood: what was in them is not among the chosen.
    pub damaged_places: u64,
}

impl Plan {
    /// How many.
    pub fn messages(&self) -> u64 {
        self.chosen.len() as u64
    }
}

/// One message of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rescue {
    /// It is whole.
    Whole {
        /// Everything but its content.
        view: Box<RescuedView>,
        /// The content, byte for byte.
        content: Bytes,
    },
    /// It cannot be read.
    Lost {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
}

/// A rescued message but for its content. Nothing in it is masked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RescuedView {
    /// Its id.
    pub id: String,
    /// The name of the file that holds the content.
    pub content: String,
    /// Its bytes.
    pub bytes: u64,
    /// Where the record lay.
    pub position: PositionView,
    /// The envelope, and each recipient's state.
    #[serde(flatten)]
    pub envelope: AcceptView,
}

enum Failed {
    Read(ReadError),
    Record(RecordError),
}

impl From<ReadError> for Failed {
    fn from(e: ReadError) -> Self {
        Self::Read(e)
    }
}

impl From<RecordError> for Failed {
    fn from(e: RecordError) -> Self {
        Self::Record(e)
    }
}

impl Spool {
    /// Finds the messages that are wanted.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn plan(&self, choice: &Choice, told: Told<'_>) -> Result<Plan, OpenError> {
        let mut ledger = Ledger::with_changes();
        let mut damaged_places = 0;
        self.walk(told, &mut |item| {
            match item {
                Item::Record(seen) => damaged_places += u64::from(ledger.take(&seen).is_err()),
                Item::Flaw(flaw) => damaged_places += u64::from(!matches!(flaw.what, Part::TornEnd(_))),
                Item::Segment(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        let is_wanted = |id: &MessageId, waiting: &Waiting| match choice {
            Choice::All => true,
            Choice::Id(wanted) => id == wanted,
            Choice::Client(client) => waiting.client == *client,
        };
        let mut chosen: Vec<_> = ledger.messages.into_iter().filter(|(id, waiting)| is_wanted(id, waiting)).collect();
        chosen.sort_unstable_by_key(|(_, waiting)| waiting.position);
        Ok(Plan { chosen, damaged_places })
    }

    /// Reads the messages of a plan, one after the other.
    pub fn rescue(&self, plan: &Plan) -> impl Iterator<Item = Rescue> {
        plan.chosen.iter().map(|(id, waiting)| {
            self.rescue_one(*id, waiting).unwrap_or_else(|e| {
                let why = match e {
                    Failed::Read(ReadError::Gone) => "the file of its content is missing".to_owned(),
                    Failed::Read(ReadError::Corrupt) => "its content is damaged".to_owned(),
                    Failed::Read(ReadError::Io(e)) => format!("the disk could not read it: {e}"),
                    Failed::Record(e) => e.to_string(),
                };
                Rescue::Lost { id: id.to_string(), why }
            })
        })
    }

    fn rescue_one(&self, id: MessageId, waiting: &Waiting) -> Result<Rescue, Failed> {
        let stored = self.log.read(waiting.position)?;
        let (envelope, mut lives) = record::read_accept(id, &stored.payload)?;
        for position in &waiting.changes {
            self.apply(*position, &mut lives)?;
        }
        let content = stored.body.ok_or(RecordError { field: "content" })?;
        let ending = if envelope.channel() == Channel::Sms { "txt" } else { "eml" };
        let view = RescuedView {
            id: id.to_string(),
            content: format!("{id}.{ending}"),
            bytes: content.len() as u64,
            position: waiting.position.into(),
            envelope: accept_view(&envelope, &lives, false),
        };
        Ok(Rescue::Whole { view: Box::new(view), content })
    }

    fn apply(&self, position: Position, lives: &mut [crate::queue::life::Life]) -> Result<(), Failed> {
        for change in record::read_changes(&self.log.read(position)?.payload)? {
            if let Some(life) = lives.get_mut(change.recipient as usize) {
                life.apply(change);
            }
        }
        Ok(())
    }
}
