//! What the queue keeps in memory of a message that has not ended: as little as will do to give it out in time, to say what
//! it waits for, and to find the rest on disk.
//!
//! **Promises.** A message to one recipient costs [`Entry`]'s 96 bytes, whatever its size, its addresses and its history;
//! those stay on disk (`detail.rs` reads them back). A [`Track`] does to a [`Change`] what a [`super::life::Life`] does, as
//! far as it knows it.
//!
//! **Does not know** disk, schedule or time sources.

use super::life::{Change, End, Life, State, Tally};
use crate::clock::Timestamp;
use crate::model::{Address, Channel, Class, MessageId, RecipientIndex};
use crate::schedule::Ticket;
use crate::storage::Position;

/// A message with a recipient that has not ended.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    /// Where its accept record lies.
    pub(super) spot: Spot,
    /// Bytes of content.
    pub(super) size: u32,
    /// After this it is not sent any more.
    pub(super) expires_at: Timestamp,
    /// Whose it is, by the table's number.
    pub(super) client: u16,
    pub(super) class: Class,
    pub(super) channel: Channel,
    pub(super) campaign: CampaignPrint,
    /// Its record is being moved, or something that no attempt led to is being recorded about it: nothing may be leased, and
    /// nothing else of that kind begun, meanwhile.
    pub(super) moving: bool,
    first: Track,
    /// The recipients behind the first: few messages have any.
    #[allow(
        clippy::box_collection,
        reason = "eight bytes where a Vec or a boxed slice takes more, in millions of entries"
    )]
    rest: Option<Box<Vec<Track>>>,
}

/// Where a recipient's life stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Track {
    /// Since when, or for when: [`State`]'s time.
    at: Timestamp,
    /// The number itself, or a fingerprint of the mailbox (see [`fingerprint`]).
    pub(super) address: u64,
    /// The consignment it travels with, unless it has ended or waits for a receipt without any.
    pub(super) ticket: Option<Ticket>,
    /// The newest change record, [`Spot::NOWHERE`] if there is none: the accept record holds what it does not lead to.
    newest: Spot,
    /// Changes so far.
    pub(super) sequence: u32,
    /// [`Tally`], in pieces: as a whole it would take eight bytes more.
    attempts_made: u16,
    throttled: u8,
    stage: Stage,
}

/// [`State`] without its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Queued,
    Begun,
    Sent,
    Ended(End),
}

/// A [`Position`] in twelve bytes: four thousand million segments are more than any disk holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot {
    segment: u32,
    offset: u32,
    length: u32,
}

impl Spot {
    /// Where no record lies: none is empty.
    const NOWHERE: Self = Self { segment: 0, offset: 0, length: 0 };
}

impl From<Position> for Spot {
    fn from(at: Position) -> Self {
        Self { segment: u32::try_from(at.segment).unwrap_or(u32::MAX), offset: at.offset, length: at.length }
    }
}

impl From<Spot> for Position {
    fn from(at: Spot) -> Self {
        Self { segment: u64::from(at.segment), offset: at.offset, length: at.length }
    }
}

/// What is kept of an envelope without its recipients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Particulars {
    pub(super) id: MessageId,
    pub(super) spot: Spot,
    pub(super) size: u32,
    pub(super) expires_at: Timestamp,
    pub(super) class: Class,
    pub(super) channel: Channel,
    pub(super) campaign: CampaignPrint,
}

impl Entry {
    /// An entry; `None` without a recipient.
    pub(super) fn new(of: Particulars, client: u16, tracks: Vec<Track>) -> Option<Self> {
        let mut tracks = tracks.into_iter();
        let first = tracks.next()?;
        let rest: Vec<Track> = tracks.collect();
        let Particulars { id, spot, size, expires_at, class, channel, campaign } = of;
        let rest = (!rest.is_empty()).then(|| Box::new(rest));
        Some(Self { id, spot, size, expires_at, client, class, channel, campaign, moving: false, first, rest })
    }

    pub(super) fn particulars(&self) -> Particulars {
        let &Self { id, spot, size, expires_at, class, channel, campaign, .. } = self;
        Particulars { id, spot, size, expires_at, class, channel, campaign }
    }

    /// Where its accept record lies.
    pub(super) fn position(&self) -> Position {
        self.spot.into()
    }

    /// All recipients, in the envelope's order.
    pub(super) fn tracks(&self) -> impl Iterator<Item = &Track> {
        std::iter::once(&self.first).chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// All recipients with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (RecipientIndex, &Track)> {
        (0..).zip(self.tracks())
    }

    pub(super) fn track(&self, recipient: RecipientIndex) -> Option<&Track> {
        match recipient.checked_sub(1) {
            None => Some(&self.first),
            Some(behind) => self.rest.as_ref()?.get(behind as usize),
        }
    }

    pub(super) fn track_mut(&mut self, recipient: RecipientIndex) -> Option<&mut Track> {
        match recipient.checked_sub(1) {
            None => Some(&mut self.first),
            Some(behind) => self.rest.as_mut()?.get_mut(behind as usize),
        }
    }

    /// The recipients that travel with a ticket.
    pub(super) fn consigned(&self, ticket: Ticket) -> Vec<RecipientIndex> {
        self.numbered().filter(|(_, t)| t.ticket == Some(ticket)).map(|(r, _)| r).collect()
    }

    /// Its tickets, each once.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = Vec::with_capacity(1);
        for ticket in self.tracks().filter_map(|t| t.ticket) {
            if !tickets.contains(&ticket) {
                tickets.push(ticket);
            }
        }
        tickets
    }

    /// True once nothing further can happen to any recipient.
    pub(super) fn has_ended(&self) -> bool {
        self.tracks().all(Track::has_ended)
    }

    /// How many recipients wait to be sent to, or are being sent to.
    pub(super) fn queued(&self) -> usize {
        self.tracks().filter(|t| matches!(t.stage, Stage::Queued | Stage::Begun)).count()
    }
}

impl Track {
    /// From a whole life.
    pub(super) fn of(life: &Life, address: &Address) -> Self {
        let (stage, at) = split(life.state);
        let throttled = life.attempts.iter().rev().take_while(|a| a.throttled).count();
        Self {
            at,
            address: fingerprint(address),
            ticket: None,
            newest: Spot::NOWHERE,
            sequence: life.sequence,
            attempts_made: u16::try_from(life.attempts_made).unwrap_or(u16::MAX),
            throttled: u8::try_from(throttled).unwrap_or(u8::MAX),
            stage,
        }
    }

    /// From its parts, as a summary holds them.
    pub(super) fn restored(state: State, address: u64, newest: Option<Position>, sequence: u32, tally: Tally) -> Self {
        let (stage, at) = split(state);
        let newest = newest.map_or(Spot::NOWHERE, Spot::from);
        let Tally { attempts_made, throttled } = tally;
        Self { at, address, ticket: None, newest, sequence, attempts_made, throttled, stage }
    }

    /// What a change record makes of a recipient of whom nothing else is known.
    pub(super) fn after(change: &Change, position: Position) -> Self {
        Self::restored(change.state, 0, Some(position), change.sequence, change.tally.unwrap_or_default())
    }

    /// Takes over what another knows of the same recipient, if it has come further.
    pub(super) fn catch_up(&mut self, other: &Self) {
        if other.sequence > self.sequence && !self.has_ended() {
            *self = Self { address: self.address, ticket: self.ticket, ..*other };
        }
    }

    pub(super) fn state(&self) -> State {
        let at = self.at;
        match self.stage {
            Stage::Queued => State::Queued { due: at },
            Stage::Begun => State::Begun { at },
            Stage::Sent => State::Sent { at },
            Stage::Ended(end) => State::Ended { end, at },
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// What retrying goes by.
    pub(super) fn tally(&self) -> Tally {
        Tally { attempts_made: self.attempts_made, throttled: self.throttled }
    }

    /// The record of the newest change.
    pub(super) fn newest(&self) -> Option<Position> {
        (self.newest != Spot::NOWHERE).then(|| self.newest.into())
    }

    /// Makes a life that was read back in part agree with what is known here.
    pub(super) fn impress(&self, life: &mut Life) {
        life.state = self.state();
        life.sequence = self.sequence;
        life.attempts_made = u32::from(self.attempts_made);
    }

    /// Its history stands in the accept record now.
    pub(super) fn moved(&mut self) {
        self.newest = Spot::NOWHERE;
    }

    /// The number and predecessor that its next change bears.
    pub(super) fn next_change(&self) -> (u32, Option<Position>) {
        (self.sequence.saturating_add(1), self.newest())
    }

    /// Applies a change whose record lies at `position`, unless it is known already. An ended life stays as it is.
    pub(super) fn apply(&mut self, change: &Change, position: Position) {
        let Some(sequence) = change.number_after(self.sequence) else { return };
        if self.has_ended() {
            return;
        }
        self.sequence = sequence;
        self.newest = position.into();
        (self.stage, self.at) = split(change.state);
        if let Some(attempt) = &change.attempt {
            let after = self.tally().after(change.counts, attempt.throttled);
            Tally { attempts_made: self.attempts_made, throttled: self.throttled } = change.tally.unwrap_or(after);
        }
    }
}

const fn split(state: State) -> (Stage, Timestamp) {
    match state {
        State::Queued { due } => (Stage::Queued, due),
        State::Begun { at } => (Stage::Begun, at),
        State::Sent { at } => (Stage::Sent, at),
        State::Ended { end, at } => (Stage::Ended(end), at),
    }
}

/// What is kept of an address: a number is its digits, of a mailbox 64 bits that are the same whatever its case. Stays the
/// same over restarts, for it stands in summaries; two mailboxes that share it cost one look at the disk.
pub(super) fn fingerprint(address: &Address) -> u64 {
    match address {
        Address::Number(number) => number.digits().parse().unwrap_or(0),
        Address::Mailbox(mailbox) => hash(&mailbox.to_string()),
    }
}

/// The fingerprint of an address as somebody typed it.
pub(super) fn fingerprint_of_text(address: &str) -> u64 {
    let address = address.trim();
    match address.strip_prefix('+').and_then(|digits| digits.parse().ok()) {
        Some(number) => number,
        None => hash(address),
    }
}

fn hash(text: &str) -> u64 {
    fnv(text.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// FNV-1a, 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is kept of a message's campaign: 24 bits of its name, all that an entry has room for. Who acts on it for good reads
/// the name itself first: of 16 million other campaigns one shares it. Stays the same over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CampaignPrint(pub(super) [u8; 3]);

impl CampaignPrint {
    /// Of a message without a campaign.
    pub(super) const NONE: Self = Self([0; 3]);

    pub(super) fn of(campaign: Option<&str>) -> Self {
        let Some(campaign) = campaign else { return Self::NONE };
        let hash = fnv(campaign.bytes());
        let [a, b, c, ..] = (hash ^ (hash >> 24) ^ (hash >> 48)).to_le_bytes();
        if [a, b, c] == [0; 3] { Self([1, 0, 0]) } else { Self([a, b, c]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mailbox, Number};

    #[test]
    fn a_message_costs_what_is_stated() {
        assert!(size_of::<Option<Entry>>() <= 96, "{}", size_of::<Option<Entry>>());
        assert!(size_of::<Track>() <= 40, "{}", size_of::<Track>());
    }

    #[test]
    fn addresses_are_found_again_as_people_type_them() {
        let mailbox = |text: &str| Address::Mailbox(Mailbox::parse(text).unwrap());
        assert_eq!(fingerprint(&mailbox("Lin@Example.net")), fingerprint_of_text(" lin@example.NET "));
        assert_ne!(fingerprint(&mailbox("lin@example.net")), fingerprint_of_text("lim@example.net"));
        let number = Address::Number(Number::parse("+8613800138000").unwrap());
        assert_eq!(
            (fingerprint(&number), fingerprint_of_text("+8613800138000")),
            (8_613_800_138_000, 8_613_800_138_000)
        );
    }

    #[test]
    fn campaigns_are_told_apart_and_none_is_none() {
        let prints: std::collections::HashSet<[u8; 3]> =
            (0..2_000).map(|n| CampaignPrint::of(Some(&format!("spring-{n}"))).0).collect();
        assert_eq!((prints.len(), prints.contains(&[0; 3])), (2_000, false));
        assert_eq!(CampaignPrint::of(Some("spring")), CampaignPrint([0x99, 0x8b, 0x5c]), "it stands in sidecars");
        assert_eq!(CampaignPrint::of(None), CampaignPrint::NONE);
    }

    /// What a track knows of a life, it knows as the life does.
    #[test]
    fn a_track_goes_the_way_of_its_life() {
        let address = Address::Number(Number::parse("+8613800138000").unwrap());
        let mut life = Life::new(Timestamp(1));
        let mut track = Track::of(&life, &address);
        let at = Position { segment: 7, offset: 8, length: 9 };
        for n in 1..40_u32 {
            let (sequence, previous) = track.next_change();
            assert_eq!((sequence, previous), (n, (n > 1).then_some(at)));
            let attempt = crate::queue::life::tests::attempt(n % 3 == 0);
            let state = if n == 39 {
                State::Ended { end: End::Expired, at: Timestamp(9) }
            } else {
                State::Queued { due: Timestamp(u64::from(n)) }
            };
            let counts = n % 3 != 0;
            let tally = Some(track.tally().after(counts, attempt.throttled)).filter(|_| n % 2 == 0);
            let attempt = Some(attempt);
            let change = Change {
                recipient: 0,
                sequence,
                previous,
                state,
                attempt,
                counts,
                tally,
                progress: None,
                receipt: None,
            };
            for _ in 0..2 {
                track.apply(&change, at);
                life.apply(change.clone());
            }
            let expected = Track { newest: track.newest, ..Track::of(&life, &address) };
            assert_eq!(track, expected);
        }
        assert!(track.has_ended() && track.state() == life.state);
    }
}
