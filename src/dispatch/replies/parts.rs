//! The parts of handsets' long messages that wait for each other: in memory, and in a journal, so that each can be answered
//! yes on its own.
//!
//! **Promises.** [`PartsWaiting::keep`] returns once a part is on stable storage. What has been told is crossed out there; should
//! that be lost in a crash it is told once more. The file is written anew when most of it counts no more.
//!
//! **Does not know** how a message is told.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::egress::sms::HandsetMessage;
use crate::sms::join::{Incomplete, Joiner, Taken as Joined};
use crate::sms::{Alphabet, Concatenation};
use crate::storage::Disk;
use crate::storage::journal::{Journal, JournalError, Opening};

/// A file that is no larger is not written anew.
pub(super) const SHRINK_BYTES: u64 = 1024 * 1024;
/// About what a part takes in the file.
const PART_BYTES: u64 = 512;

/// By carrier, from whom, to what.
type Who = (Arc<str>, Arc<str>, Arc<str>);

/// The parts that wait.
pub(super) struct PartsWaiting {
    state: Arc<Mutex<State>>,
    journal: Journal,
}

struct State {
    joiner: Joiner<Who, HandsetMessage>,
    /// Taken out, and not told yet.
    going: HashMap<u64, Vec<HandsetMessage>>,
    gone: u64,
    /// Could not be told, and cannot wait among the others any more.
    stranded: Vec<Vec<HandsetMessage>>,
}

/// Parts that have been taken out to be told: hand them to [`PartsWaiting::told`] or [`PartsWaiting::put_back`].
pub(super) struct Out {
    nth: u64,
    parts: Vec<HandsetMessage>,
}

impl Out {
    pub(super) fn parts(&self) -> &[HandsetMessage] {
        &self.parts
    }
}

/// What came of a part.
pub(super) enum Taken {
    Waiting,
    Whole(Out),
    Displaced(Out),
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The version of the format.
    v: u32,
    carrier: Arc<str>,
    from: Arc<str>,
    to: Arc<str>,
    reference: u16,
    total: u8,
    /// Missing: the message has been told.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartLine>,
}

#[derive(Serialize, Deserialize)]
struct PartLine {
    number: u8,
    alphabet: String,
    /// Hexadecimal.
    octets: String,
    /// RFC 3339.
    received_at: String,
}

const VERSION: u32 = 1;

impl PartsWaiting {
    /// Reads what waits from the file at `path`. Blocks.
    ///
    /// # Errors
    /// The disk's; `Unsupported` for a file of a newer version.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path, most: usize) -> io::Result<Self> {
        let mut joiner = Joiner::new(most);
        let opening = Opening::read(disk, path, &mut |line| {
            let line: Line = serde_json::from_str(line)?;
            if line.v != VERSION {
                let why = format!("{}: a line of version {}, and this program reads {VERSION}", path.display(), line.v);
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            take_in(&mut joiner, line)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a part makes no sense"))
        })?;
        if opening.damaged > 0 {
            tracing::error!(file = %path.display(), lines = opening.damaged, "parts of handsets' messages are damaged and are passed over");
        }
        let state = State { joiner, going: HashMap::new(), gone: 0, stranded: Vec::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), journal: opening.start() })
    }

    /// Parts that wait.
    pub(super) fn len(&self) -> usize {
        self.state.lock().joiner.parts().count()
    }

    /// The message that has waited longest, if this one would find no room.
    pub(super) fn make_room(&self, place: Concatenation, message: &HandsetMessage) -> Option<Out> {
        let mut state = self.state.lock();
        let text = Incomplete { who: who(message), reference: place.reference, total: place.total };
        if state.joiner.has_room(&text) {
            return None;
        }
        let oldest = state.joiner.oldest()?;
        Some(state.out(oldest))
    }

    pub(super) fn take(&self, place: Concatenation, message: HandsetMessage) -> Taken {
        let mut state = self.state.lock();
        let (who, at) = (who(&message), message.received_at);
        match state.joiner.take(who, place, message, at) {
            Joined::Waiting => Taken::Waiting,
            Joined::Whole(parts) => Taken::Whole(state.out(parts)),
            Joined::Displaced(parts) => Taken::Displaced(state.out(parts)),
        }
    }

    /// Makes a part that waits durable.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) async fn keep(&self, place: Concatenation, message: &HandsetMessage) -> Result<(), JournalError> {
        self.journal.append(&written(place, message)).await
    }

    /// Messages whose first part came before `then`, and those that are stranded.
    pub(super) fn overdue(&self, then: Timestamp) -> Vec<Out> {
        let mut state = self.state.lock();
        let mut overdue = state.joiner.overdue(then);
        overdue.append(&mut state.stranded);
        overdue.into_iter().map(|parts| state.out(parts)).collect()
    }

    /// These have been told.
    pub(super) async fn told(&self, out: Out) {
        // First in memory: were the file written anew in between, it would hold them again.
        self.state.lock().going.remove(&out.nth);
        if let Some(line) = out.parts.first().and_then(crossed_out) {
            // If it fails they are told again at the next start, which is all that can be done.
            let _ = self.journal.append(&line).await;
        }
    }

    /// These could not be told: they wait on, but for one that will be brought again.
    pub(super) fn put_back(&self, out: Out, brought: Option<&HandsetMessage>) {
        let mut state = self.state.lock();
        state.going.remove(&out.nth);
        for part in out.parts.into_iter().filter(|part| Some(part) != brought) {
            if let Some(place) = part.place {
                let (who, at) = (who(&part), part.received_at);
                match state.joiner.take(who, place, part, at) {
                    Joined::Waiting => {}
                    // Another message under the same reference has begun meanwhile.
                    Joined::Whole(parts) | Joined::Displaced(parts) => state.stranded.push(parts),
                }
            }
        }
    }

    /// Writes the file anew if most of it counts no more.
    pub(super) async fn shrink(&self) {
        let waiting = self.len() as u64;
        if self.journal.length() <= SHRINK_BYTES.max(4 * PART_BYTES * waiting) {
            return;
        }
        let state = self.state.clone();
        let lines = move || {
            let state = state.lock();
            let waiting = state.joiner.parts().chain(state.going.values().chain(&state.stranded).flatten());
            waiting.filter_map(|part| Some(written(part.place?, part))).collect()
        };
        if let Err(error) = self.journal.rewrite(lines).await {
            tracing::error!(%error, "the parts of handsets' messages cannot be written anew");
        }
    }
}

impl State {
    fn out(&mut self, parts: Vec<HandsetMessage>) -> Out {
        self.gone += 1;
        self.going.insert(self.gone, parts.clone());
        Out { nth: self.gone, parts }
    }
}

fn who(message: &HandsetMessage) -> Who {
    (message.carrier.clone(), message.from.clone(), message.to.clone())
}

fn line(place: Concatenation, message: &HandsetMessage, part: Option<PartLine>) -> String {
    let (carrier, from, to) = who(message);
    let Concatenation { reference, total, .. } = place;
    serde_json::to_string(&Line { v: VERSION, carrier, from, to, reference, total, part }).unwrap_or_default()
}

fn written(place: Concatenation, message: &HandsetMessage) -> String {
    let part = PartLine {
        number: place.number,
        alphabet: message.alphabet.name(),
        octets: super::hex(&message.octets),
        received_at: message.received_at.rfc3339(),
    };
    line(place, message, Some(part))
}

fn crossed_out(message: &HandsetMessage) -> Option<String> {
    Some(line(message.place?, message, None))
}

/// Does what a line says.
fn take_in(joiner: &mut Joiner<Who, HandsetMessage>, line: Line) -> Option<()> {
    let Line { carrier, from, to, reference, total, part, .. } = line;
    let Some(part) = part else {
        let who = (carrier, from, to);
        joiner.remove(&Incomplete { who, reference, total });
        return Some(());
    };
    let place = Concatenation { reference, total, number: part.number };
    let message = HandsetMessage {
        carrier,
        from,
        to,
        alphabet: Alphabet::named(&part.alphabet)?,
        place: Some(place).filter(|place| (1..=place.total).contains(&place.number)),
        octets: octets(&part.octets)?.into(),
        received_at: Timestamp::parse_rfc3339(&part.received_at)?,
    };
    let at = message.received_at;
    // A part that contradicts another came after that had been told.
    let _ = joiner.take(who(&message), message.place?, message, at);
    Some(())
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
