//! What stands in a segment's sidecar: its messages as the queue keeps them in memory, and its idempotency keys.
//!
//! ```text
//! state: version u8 │ names: count u32, text × count │ count u32 │ message × count
//! message: id 16 │ offset u32 │ length u32 │ size u32 │ client u32 │ class u8 │ channel u8 │ campaign 3 │ expires u64 │
//!          recipients u32 │ recipient × recipients
//! recipient: state │ address u64 │ newest change: option of position │ sequence u32 │ attempts u16 │ throttled u8 │
//!            destination u32 │ progress: option
//! brief: version u8 │ count u32 │ key × count
//! key: name 16 │ fingerprint 16 │ id 16 │ offset u32 │ length u32 │ received u64
//! ```
//!
//! Little-endian, fields as in [`super`]. `client` and `destination` are numbers in the list of names. The segment is the
//! sidecar's own. **Promises** and **fails** as [`super`] does.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::reader::Reader;
use super::writer::Writer;
use super::{Read, RecordError, index_of};
use crate::model::{Address, Channel, Class, ClientName, Envelope, MessageId, TextProgress};
use crate::queue::entry::{CampaignPrint, Particulars, Track};
use crate::queue::keys::Kept;
use crate::queue::life::Life;
use crate::storage::Position;

/// A message without what only its records hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::queue) struct Summary {
    pub(in crate::queue) of: Particulars,
    pub(in crate::queue) client: ClientName,
    /// False in sidecars of older versions: then nothing is known of the campaign.
    pub(in crate::queue) knows_campaign: bool,
    pub(in crate::queue) recipients: Vec<Standing>,
}

/// A recipient in a [`Summary`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::queue) struct Standing {
    pub(in crate::queue) track: Track,
    /// A mailbox's domain; empty for a number, and for who needs none any more.
    pub(in crate::queue) destination: Arc<str>,
    /// Parts of a text that has been attempted.
    pub(in crate::queue) progress: Option<Box<TextProgress>>,
}

impl Summary {
    /// The summary of what an accept record at `position` holds.
    pub(in crate::queue) fn new(envelope: &Envelope, lives: &[Life], position: Position, size: u32) -> Self {
        let recipients = envelope.recipients.iter().zip(lives).map(|(recipient, life)| Standing {
            track: Track::of(life, &recipient.address),
            destination: match &recipient.address {
                Address::Mailbox(mailbox) => mailbox.domain().as_str().into(),
                Address::Number(_) => Arc::from(""),
            },
            progress: life.progress.clone(),
        });
        Self {
            of: Particulars {
                id: envelope.id,
                spot: position.into(),
                size,
                expires_at: envelope.expires_at.unwrap_or(crate::clock::Timestamp(u64::MAX)),
                class: envelope.class,
                channel: envelope.channel(),
                campaign: CampaignPrint::of(envelope.campaign.as_deref()),
            },
            knows_campaign: true,
            client: envelope.client.clone(),
            recipients: recipients.collect(),
        }
    }
}

/// Channels by their number on disk.
const CHANNELS: [Channel; 2] = [Channel::Email, Channel::Sms];

/// Summaries being written.
pub(in crate::queue) struct Summaries {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    messages: Writer,
    count: u32,
}

impl Summaries {
    pub(in crate::queue) fn new() -> Self {
        Self { names: Vec::new(), numbers: HashMap::new(), messages: Writer(Vec::new()), count: 0 }
    }

    fn name(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }

    /// Begins a message; its recipients follow.
    pub(in crate::queue) fn message(&mut self, of: Particulars, client: &ClientName, recipients: usize) {
        self.count += 1;
        let client = self.name(client);
        let w = &mut self.messages;
        let position = Position::from(of.spot);
        w.0.extend_from_slice(&of.id.to_bytes());
        w.u32(position.offset);
        w.u32(position.length);
        w.u32(of.size);
        w.u32(client);
        w.u8(of.class.index() as u8);
        w.u8(index_of(&CHANNELS, of.channel));
        w.0.extend_from_slice(&of.campaign.0);
        w.time(of.expires_at);
        w.u32(recipients as u32);
    }

    /// The next recipient of the message begun last.
    pub(in crate::queue) fn recipient(
        &mut self,
        track: &Track,
        destination: &Arc<str>,
        progress: Option<&TextProgress>,
    ) {
        let destination = self.name(destination);
        let w = &mut self.messages;
        w.state(track.state());
        w.u64(track.address);
        w.option(track.newest(), Writer::position);
        w.u32(track.sequence);
        w.tally(track.tally());
        w.u32(destination);
        w.option(progress, Writer::progress);
    }

    /// The bytes for the sidecar.
    pub(in crate::queue) fn finish(self) -> Bytes {
        let mut w = Writer::new(self.messages.0.len() + 64 * self.names.len() + 16);
        w.u32(self.names.len() as u32);
        self.names.iter().for_each(|name| w.text(name));
        w.u32(self.count);
        w.0.extend_from_slice(&self.messages.0);
        w.finish()
    }
}

/// Reads summaries one by one.
pub(in crate::queue) struct SummaryReader<'a> {
    segment: u64,
    names: Vec<Arc<str>>,
    left: u32,
    reader: Reader<'a>,
}

impl<'a> SummaryReader<'a> {
    pub(in crate::queue) fn new(segment: u64, state: &'a [u8]) -> Read<Self> {
        let mut reader = Reader::new(state)?;
        let names = reader.list("names", |r| r.text("name"))?;
        let left = reader.u32("messages")?;
        Ok(Self { segment, names, left, reader })
    }

    fn name(names: &[Arc<str>], r: &mut Reader<'_>) -> Read<Arc<str>> {
        names.get(r.u32("name")? as usize).cloned().ok_or(RecordError { field: "name" })
    }

    fn read(&mut self) -> Read<Summary> {
        let (segment, names, r) = (self.segment, &self.names, &mut self.reader);
        let id = MessageId::from_bytes(r.array("id")?);
        let position = Position { segment, offset: r.u32("offset")?, length: r.u32("length")? };
        let size = r.u32("size")?;
        let client = Self::name(names, r)?;
        let class = r.one_of("class", &Class::ALL)?;
        let channel = r.one_of("channel", &CHANNELS)?;
        let campaign = r.since(4, |r| Ok(Some(CampaignPrint(r.array("campaign")?))))?;
        let (campaign, knows_campaign) = (campaign.unwrap_or(CampaignPrint::NONE), campaign.is_some());
        let expires_at = r.time("expires")?;
        let recipients = r.list("recipients", |r| {
            let state = r.state()?;
            let address = r.u64("address")?;
            let newest = r.option("newest", Reader::position)?;
            let (sequence, tally) = (r.u32("sequence")?, r.tally()?);
            Ok(Standing {
                track: Track::restored(state, address, newest, sequence, tally),
                destination: Self::name(names, r)?,
                progress: r.option("progress", |r| r.progress().map(Box::new))?,
            })
        })?;
        if recipients.is_empty() {
            return Err(RecordError { field: "recipients" });
        }
        Ok(Summary {
            of: Particulars { id, spot: position.into(), size, expires_at, class, channel, campaign },
            client,
            knows_campaign,
            recipients,
        })
    }
}

impl Iterator for SummaryReader<'_> {
    type Item = Read<Summary>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

/// Writes the keys of a segment.
pub(in crate::queue) fn write_keys(keys: &[Kept]) -> Bytes {
    let mut w = Writer::new(5 + 64 * keys.len());
    w.u32(keys.len() as u32);
    for key in keys {
        w.0.extend_from_slice(&key.name);
        w.0.extend_from_slice(&key.fingerprint);
        w.0.extend_from_slice(&key.id.to_bytes());
        w.u32(key.position.offset);
        w.u32(key.position.length);
        w.time(key.received_at);
    }
    w.finish()
}

/// Reads the keys of a segment.
pub(in crate::queue) fn read_keys(segment: u64, brief: &[u8]) -> Read<Vec<Kept>> {
    Reader::new(brief)?.list("keys", |r| {
        Ok(Kept {
            name: r.array("name")?,
            fingerprint: r.array("fingerprint")?,
            id: MessageId::from_bytes(r.array("id")?),
            position: Position { segment, offset: r.u32("offset")?, length: r.u32("length")? },
            received_at: r.time("received")?,
        })
    })
}
