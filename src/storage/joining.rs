//! The parts of long texts that wait for each other: in memory, and in a journal, so that each can be answered yes on its own.
//!
//! **Promises.** [`PartsWaiting::keep`] returns once a part is on stable storage. What has been passed on is crossed out there;
//! should that be lost in a crash it comes out once more. The file is written anew when most of it counts no more.
//!
//! **Does not know** whose parts they are, nor what becomes of a whole text.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Disk;
use super::journal::{Journal, JournalError, Opening, Written};
use crate::clock::Timestamp;
use crate::sms::Concatenation;
use crate::sms::join::{Incomplete, Joiner, Taken as Joined};

/// A file that is no larger is not written anew.
pub const SHRINK_BYTES: u64 = 1024 * 1024;
/// About what a part takes in the file.
const PART_BYTES: u64 = 512;

/// A part of a long text. As octets it is its content: by that it is told whether a part came twice.
pub trait Part: AsRef<[u8]> + Clone + PartialEq + Send + 'static {
    /// From whom to whom it is: parts of one text have the same.
    type Who: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + 'static;
    /// What the journal says of it beside that and its place.
    type Line: Serialize + DeserializeOwned;

    /// From whom to whom.
    fn who(&self) -> Self::Who;

    /// Which part of which text it is; what has no place does not wait.
    fn place(&self) -> Option<Concatenation>;

    /// When it came.
    fn received_at(&self) -> Timestamp;

    /// For the journal.
    fn line(&self) -> Self::Line;

    /// From the journal; `None` if that makes no sense.
    fn read(who: Self::Who, place: Concatenation, line: Self::Line) -> Option<Self>;
}

/// The parts that wait.
pub struct PartsWaiting<P: Part> {
    state: Arc<Mutex<State<P>>>,
    journal: Journal,
}

struct State<P: Part> {
    joiner: Joiner<P::Who, P>,
    /// Taken out, and not passed on yet.
    going: HashMap<u64, Vec<P>>,
    gone: u64,
    /// Could not be passed on, and cannot wait among the others any more.
    stranded: Vec<Vec<P>>,
}

/// Parts that have been taken out to be told: hand them to [`PartsWaiting::told`] or [`PartsWaiting::put_back`].
pub struct Out<P> {
    nth: u64,
    parts: Vec<P>,
}

impl<P> Out<P> {
    /// The parts, in order.
    pub fn parts(&self) -> &[P] {
        &self.parts
    }
}

/// What came of a part.
pub enum Taken<P> {
    /// Others are awaited.
    Waiting,
    /// It was the last one.
    Whole(Out<P>),
    /// Another text under the same reference had begun: what had come of it. This part waits.
    Displaced(Out<P>),
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "W: DeserializeOwned, L: DeserializeOwned"))]
struct Line<W, L> {
    /// The version of the format.
    v: u32,
    #[serde(flatten)]
    who: W,
    reference: u16,
    total: u8,
    /// Missing: the text has been passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartLine<L>>,
}

#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "L: DeserializeOwned"))]
struct PartLine<L> {
    number: u8,
    #[serde(flatten)]
    content: L,
}

const VERSION: u32 = 1;

impl<P: Part> PartsWaiting<P> {
    /// Reads what waits from the file at `path`. Blocks.
    ///
    /// # Errors
    /// The disk's; `Unsupported` for a file of a newer version.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, most: usize) -> io::Result<Self> {
        let mut joiner = Joiner::new(most);
        let opening = Opening::read(disk, path, &mut |line| {
            let line: Line<P::Who, P::Line> = serde_json::from_str(line)?;
            if line.v != VERSION {
                let why = format!("{}: a line of version {}, and this program reads {VERSION}", path.display(), line.v);
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            take_in::<P>(&mut joiner, line)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a part makes no sense"))
        })?;
        if opening.damaged > 0 {
            tracing::error!(file = %path.display(), lines = opening.damaged, "parts of long texts are damaged and are passed over");
        }
        let state = State { joiner, going: HashMap::new(), gone: 0, stranded: Vec::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), journal: opening.start() })
    }

    /// True if no part waits.
    pub fn is_empty(&self) -> bool {
        self.state.lock().joiner.is_empty()
    }

    /// Parts that wait.
    pub fn len(&self) -> usize {
        self.state.lock().joiner.parts().count()
    }

    /// The text that has waited longest, if this one would find no room.
    pub fn make_room(&self, place: Concatenation, part: &P) -> Option<Out<P>> {
        let mut state = self.state.lock();
        let text = Incomplete { who: part.who(), reference: place.reference, total: place.total };
        if state.joiner.has_room(&text) {
            return None;
        }
        let oldest = state.joiner.oldest()?;
        Some(state.out(oldest))
    }

    /// Takes a part; hand what comes out to [`PartsWaiting::told`] or [`PartsWaiting::put_back`].
    pub fn take(&self, place: Concatenation, part: P) -> Taken<P> {
        let mut state = self.state.lock();
        let (who, at) = (part.who(), part.received_at());
        match state.joiner.take(who, place, part, at) {
            Joined::Waiting => Taken::Waiting,
            Joined::Whole(parts) => Taken::Whole(state.out(parts)),
            Joined::Displaced(parts) => Taken::Displaced(state.out(parts)),
        }
    }

    /// Makes a part that waits durable.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn keep(&self, place: Concatenation, part: &P) -> Result<Written, JournalError> {
        self.journal.append(&written(place, part)).await
    }

    /// Texts whose first part came before `then`, and those that are stranded.
    pub fn overdue(&self, then: Timestamp) -> Vec<Out<P>> {
        let mut state = self.state.lock();
        let mut overdue = state.joiner.overdue(then);
        overdue.append(&mut state.stranded);
        overdue.into_iter().map(|parts| state.out(parts)).collect()
    }

    /// These have been passed on.
    pub async fn told(&self, out: Out<P>) {
        // First in memory: were the file written anew in between, it would hold them again.
        self.state.lock().going.remove(&out.nth);
        if let Some(line) = out.parts.first().and_then(crossed_out) {
            // If it fails they come out again at the next start, which is all that can be done.
            let _ = self.journal.append(&line).await;
        }
    }

    /// These could not be passed on: they wait on, but for one that will be brought again.
    pub fn put_back(&self, out: Out<P>, brought: Option<&P>) {
        let mut state = self.state.lock();
        state.going.remove(&out.nth);
        for part in out.parts.into_iter().filter(|part| Some(part) != brought) {
            if let Some(place) = part.place() {
                let (who, at) = (part.who(), part.received_at());
                match state.joiner.take(who, place, part, at) {
                    Joined::Waiting => {}
                    // Another text under the same reference has begun meanwhile.
                    Joined::Whole(parts) | Joined::Displaced(parts) => state.stranded.push(parts),
                }
            }
        }
    }

    /// Writes the file anew if most of it counts no more.
    pub async fn shrink(&self) {
        let waiting = self.len() as u64;
        if self.journal.length() <= SHRINK_BYTES.max(4 * PART_BYTES * waiting) {
            return;
        }
        let state = self.state.clone();
        let lines = move || {
            let state = state.lock();
            let waiting = state.joiner.parts().chain(state.going.values().chain(&state.stranded).flatten());
            waiting.filter_map(|part| Some(written(part.place()?, part))).collect()
        };
        if let Err(error) = self.journal.rewrite(lines).await {
            tracing::error!(%error, "the parts of long texts cannot be written anew");
        }
    }
}

impl<P: Part> State<P> {
    fn out(&mut self, parts: Vec<P>) -> Out<P> {
        self.gone += 1;
        self.going.insert(self.gone, parts.clone());
        Out { nth: self.gone, parts }
    }
}

fn line<P: Part>(place: Concatenation, part: &P, content: Option<PartLine<P::Line>>) -> String {
    let Concatenation { reference, total, .. } = place;
    serde_json::to_string(&Line { v: VERSION, who: part.who(), reference, total, part: content }).unwrap_or_default()
}

fn written<P: Part>(place: Concatenation, part: &P) -> String {
    line(place, part, Some(PartLine { number: place.number, content: part.line() }))
}

fn crossed_out<P: Part>(part: &P) -> Option<String> {
    Some(line(part.place()?, part, None))
}

/// Does what a line says.
fn take_in<P: Part>(joiner: &mut Joiner<P::Who, P>, line: Line<P::Who, P::Line>) -> Option<()> {
    let Line { who, reference, total, part, .. } = line;
    let Some(PartLine { number, content }) = part else {
        joiner.remove(&Incomplete { who, reference, total });
        return Some(());
    };
    let place = Concatenation { reference, total, number };
    if !(1..=total).contains(&number) {
        return None;
    }
    let part = P::read(who, place, content)?;
    let at = part.received_at();
    // A part that contradicts another came after that had been passed on.
    let _ = joiner.take(part.who(), place, part, at);
    Some(())
}
