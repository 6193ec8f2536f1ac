//! Who wants no more texts, of whom and of which class: kept on disk, asked before a text is taken and before it leaves.
//!
//! **Promises.** What [`OptOuts::add`] and [`OptOuts::remove`] have returned is on stable storage. A text of class `otp` is never
//! refused. In memory an entry takes some 90 bytes; on disk it is a line of JSON, which a start writes anew without those
//! that count no more once they are the larger part.
//!
//! **What is refused.** A [`Whom`]: a signature (whoever sends under it), or a sender's number or name, of one client's texts or of
//! all clients'. A text that does not say its sender counts as being of any.
//!
//! **Does not know** which words mean what ([`Words`] apart, which is pure), nor carriers.
//!
//! **Fails how.** [`OptOutError`]: nothing has changed then, but perhaps on disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::clock::Timestamp;
use crate::model::{Class, ClientName, Number, SenderId};
use crate::sms::half_width;
use crate::storage::Disk;
use crate::storage::journal::{Journal, JournalError, Opening};

/// The rule by which texts are refused.
pub const RULE: &str = "opted-out";

/// Whose texts are not wanted.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// Texts that begin with this name in 【】.
    Signature(Arc<str>),
    /// Texts that show this number or name.
    Sender(Arc<str>),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(name) => write!(f, "【{name}】"),
            Self::Sender(sender) => write!(f, "sender {sender}"),
        }
    }
}

/// One entry: this number wants none of these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OptOut {
    /// Who wants none.
    pub number: Arc<str>,
    /// Of whom.
    #[serde(flatten)]
    pub whom: Whom,
    /// Of which class; never `otp`.
    pub class: Class,
    /// Of which client; of all if it is missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<ClientName>,
    /// Since when.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// Who said so: `reply`, or an operator.
    pub by: Arc<str>,
}

/// A text that is about to be taken or sent.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// To whom.
    pub number: &'a Number,
    /// Of which class.
    pub class: Class,
    /// Of which client.
    pub client: &'a str,
    /// The name in 【】 at its head.
    pub signature: Option<&'a str>,
    /// What it shows; `None` if that is the carrier's to say.
    pub sender: Option<&'a SenderId>,
}

/// Which entries of a number are meant.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Which {
    /// Those about one of these; about anybody if there is none.
    pub whom: Vec<Whom>,
    /// Those of this class; of any if it is missing.
    pub class: Option<Class>,
    /// Those of this client and of all clients; of anybody if it is missing.
    pub client: Option<ClientName>,
}

/// Why the list was not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OptOutError {
    /// It holds as many as it may.
    Full,
    /// It could not be made durable.
    NotKept(JournalError),
    /// Codes are never refused.
    Otp,
    /// Not a telephone number.
    BadNumber,
}

impl fmt::Display for OptOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the list of opt-outs is full: raise [opt_outs] entries"),
            Self::NotKept(why) => write!(f, "the list of opt-outs cannot be written: {why}"),
            Self::Otp => f.write_str("texts of class otp cannot be opted out of: name marketing or transactional"),
            Self::BadNumber => f.write_str("expected an international number, as in +8613800138000"),
        }
    }
}

impl std::error::Error for OptOutError {}

/// The list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OptOuts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    list: RwLock<List>,
    journal: Journal,
    most: usize,
    /// Held over a change: first on disk, then in memory, one after the other.
    changing: tokio::sync::Mutex<()>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The version of the format.
    v: u32,
    /// The number is out, or in again.
    out: bool,
    #[serde(flatten)]
    entry: OptOut,
}

const VERSION: u32 = 1;

/// Below so many lines a file is not worth being written anew.
const LINES_KEPT: u64 = 1_024;

impl OptOuts {
    /// Reads the list at `path`, which holds at most `most` entries from now on. Blocks.
    ///
    /// # Errors
    /// The disk's; `Unsupported` for a file of a newer version.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, most: usize) -> io::Result<Self> {
        let mut list = List::default();
        let mut opening = Opening::read(disk, path, &mut |line| {
            let line: Line = serde_json::from_str(line)?;
            if line.v != VERSION {
                let why = format!("{}: a line of version {}, and this program reads {VERSION}", path.display(), line.v);
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            if line.out {
                list.insert(&line.entry)
            } else {
                list.remove_exactly(&line.entry)
            };
            Ok(())
        })?;
        if opening.damaged > 0 {
            tracing::error!(file = %path.display(), lines = opening.damaged, "lines of the list of opt-outs are damaged and are passed over");
        }
        if opening.lines > LINES_KEPT.max(2 * list.entries.len() as u64) {
            opening.rewrite(list.all().map(|entry| written(true, entry)))?;
        }
        let (journal, changing) = (opening.start(), tokio::sync::Mutex::new(()));
        Ok(Self { shared: Arc::new(Shared { list: RwLock::new(list), journal, most, changing }) })
    }

    /// May this text be sent?
    ///
    /// # Errors
    /// Rule [`RULE`].
    pub fn may_send(&self, text: Wanted<'_>) -> Result<(), Refusal> {
        if text.class == Class::Otp {
            return Ok(());
        }
        let list = self.shared.list.read();
        let Some((what, since)) = list.refusal(text) else { return Ok(()) };
        let detail =
            format!("{} has opted out of {} texts of {} on {}", text.number, what.class, what.whom, since.rfc3339());
        Err(Refusal { rule: RULE, detail })
    }

    /// Adds an entry; false if it was there.
    ///
    /// # Errors
    /// [`OptOutError`].
    pub async fn add(&self, entry: OptOut) -> Result<bool, OptOutError> {
        if entry.class == Class::Otp {
            return Err(OptOutError::Otp);
        }
        digits_of(&entry.number).ok_or(OptOutError::BadNumber)?;
        let own = self.clone();
        // A task of its own: what the disk has, the list must get, whether or not anybody still waits for the answer.
        let adding = tokio::spawn(async move {
            let shared = &own.shared;
            let _changing = shared.changing.lock().await;
            {
                let list = shared.list.read();
                if list.holds(&entry) {
                    return Ok(false);
                }
                if list.entries.len() >= shared.most {
                    return Err(OptOutError::Full);
                }
            }
            shared.journal.append(&written(true, entry.clone())).await.map_err(OptOutError::NotKept)?;
            shared.list.write().insert(&entry);
            Ok(true)
        });
        adding.await.unwrap_or(Err(OptOutError::NotKept(JournalError::Failed)))
    }

    /// Takes the entries of a number out that are meant; those that were there.
    ///
    /// # Errors
    /// [`OptOutError`]; some may be out then.
    pub async fn remove(&self, number: &Number, which: Which) -> Result<Vec<OptOut>, OptOutError> {
        let (own, number) = (self.clone(), number.clone());
        let removing = tokio::spawn(async move {
            let shared = &own.shared;
            let _changing = shared.changing.lock().await;
            let found = own.meant(&number, &which);
            for entry in &found {
                shared.journal.append(&written(false, entry.clone())).await.map_err(OptOutError::NotKept)?;
                shared.list.write().remove_exactly(entry);
            }
            Ok(found)
        });
        removing.await.unwrap_or(Err(OptOutError::NotKept(JournalError::Failed)))
    }

    /// The entries of a number that are meant.
    pub fn meant(&self, number: &Number, which: &Which) -> Vec<OptOut> {
        self.of(number).into_iter().filter(|entry| which.means(entry)).collect()
    }

    /// A number's entries.
    pub fn of(&self, number: &Number) -> Vec<OptOut> {
        let list = self.shared.list.read();
        digits_of(number.as_str()).map_or_else(Vec::new, |digits| list.of(digits).collect())
    }

    /// The first entries by number, at most `most`.
    pub fn first(&self, most: usize) -> Vec<OptOut> {
        self.shared.list.read().all().take(most).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shared.list.read().entries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Which {
    fn means(&self, entry: &OptOut) -> bool {
        (self.whom.is_empty() || self.whom.contains(&entry.whom))
            && self.class.is_none_or(|class| class == entry.class)
            && (self.client.is_none() || entry.client.is_none() || self.client == entry.client)
    }
}

fn written(out: bool, entry: OptOut) -> String {
    serde_json::to_string(&Line { v: VERSION, out, entry }).unwrap_or_default()
}

/// The digits of a number: it starts with none that is lost.
fn digits_of(number: &str) -> Option<u64> {
    Number::parse(number).ok()?.digits().parse().ok()
}

/// What many entries share.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct What {
    whom: Whom,
    class: Class,
    client: Option<ClientName>,
}

impl What {
    fn of(entry: &OptOut) -> Self {
        Self { whom: entry.whom.clone(), class: entry.class, client: entry.client.clone() }
    }

    fn refuses(&self, text: Wanted<'_>) -> bool {
        let of_whom = match &self.whom {
            Whom::Signature(name) => text.signature == Some(name),
            Whom::Sender(sender) => text.sender.is_none_or(|shown| is_same_sender(&shown.to_string(), sender)),
        };
        of_whom && self.class == text.class && self.client.as_deref().is_none_or(|client| client == text.client)
    }
}

/// Carriers write an international number with its `+` or without, names as they like.
pub fn is_same_sender(one: &str, other: &str) -> bool {
    let bare = |sender: &str| sender.trim_start_matches('+').to_ascii_lowercase();
    bare(one) == bare(other)
}

/// The entries in memory.
#[derive(Debug, Default)]
struct List {
    /// By the digits of the number, and what it is about.
    entries: BTreeMap<(u64, u32), (Timestamp, Arc<str>)>,
    whats: Vec<What>,
    numbers: HashMap<What, u32>,
    bys: HashSet<Arc<str>>,
}

impl List {
    fn insert(&mut self, entry: &OptOut) {
        let Some(digits) = digits_of(&entry.number) else { return };
        let what = What::of(entry);
        let number = match self.numbers.get(&what) {
            Some(&number) => number,
            None => {
                let Ok(number) = u32::try_from(self.whats.len()) else { return };
                self.whats.push(what.clone());
                self.numbers.insert(what, number);
                number
            }
        };
        let by = match self.bys.get(&entry.by) {
            Some(by) => by.clone(),
            None => {
                self.bys.insert(entry.by.clone());
                entry.by.clone()
            }
        };
        self.entries.entry((digits, number)).or_insert((entry.since, by));
    }

    fn place(&self, entry: &OptOut) -> Option<(u64, u32)> {
        Some((digits_of(&entry.number)?, *self.numbers.get(&What::of(entry))?))
    }

    fn holds(&self, entry: &OptOut) -> bool {
        self.place(entry).is_some_and(|place| self.entries.contains_key(&place))
    }

    fn remove_exactly(&mut self, entry: &OptOut) {
        if let Some(place) = self.place(entry) {
            self.entries.remove(&place);
        }
    }

    fn refusal(&self, text: Wanted<'_>) -> Option<(&What, Timestamp)> {
        let digits = digits_of(text.number.as_str())?;
        self.entries.range((digits, 0)..=(digits, u32::MAX)).find_map(|((_, what), (since, _))| {
            let what = self.whats.get(*what as usize)?;
            what.refuses(text).then_some((what, *since))
        })
    }

    fn of(&self, digits: u64) -> impl Iterator<Item = OptOut> {
        self.shown(self.entries.range((digits, 0)..=(digits, u32::MAX)))
    }

    fn all(&self) -> impl Iterator<Item = OptOut> {
        self.shown(self.entries.iter())
    }

    fn shown<'a>(
        &'a self,
        entries: impl Iterator<Item = (&'a (u64, u32), &'a (Timestamp, Arc<str>))>,
    ) -> impl Iterator<Item = OptOut> {
        entries.filter_map(|((digits, what), (since, by))| {
            let What { whom, class, client } = self.whats.get(*what as usize)?.clone();
            let (number, since, by) = (format!("+{digits}").into(), *since, by.clone());
            Some(OptOut { number, whom, class, client, since, by })
        })
    }
}

/// The words that opt out and in again, folded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words {
    out: HashSet<String>,
    back: HashSet<String>,
}

/// What a handset asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// No more.
    Out,
    /// Some more, after all.
    Back,
}

impl Words {
    /// Such as clouds and carriers in China and elsewhere ask to be honoured.
    pub const OUT: [&'static str; 13] =
        ["T", "TD", "N", "R", "0000", "00000", "QX", "退订", "STOP", "UNSUBSCRIBE", "CANCEL", "QUIT", "END"];
    /// Their opposites.
    pub const BACK: [&'static str; 3] = ["START", "UNSTOP", "订阅"];

    /// Words of one's own.
    pub fn new<W: AsRef<str>>(out: impl IntoIterator<Item = W>, back: impl IntoIterator<Item = W>) -> Self {
        let folded = |word: W| Self::fold(word.as_ref());
        Self { out: out.into_iter().map(folded).collect(), back: back.into_iter().map(folded).collect() }
    }

    /// What a message asks for, if it is one of the words and nothing else.
    pub fn wish(&self, message: &str) -> Option<Wish> {
        // Longer than any word, whatever stands around it.
        if message.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let word = Self::fold(message);
        match (self.out.contains(&word), self.back.contains(&word)) {
            (true, _) => Some(Wish::Out),
            (_, true) => Some(Wish::Back),
            _ => None,
        }
    }

    /// A word as it is compared: full-width letters made plain, lower case, without what is neither letter nor digit.
    pub fn fold(text: &str) -> String {
        let kept: String = text.chars().map(half_width).filter(|c| c.is_alphanumeric() || c.is_whitespace()).collect();
        // Words stay words: "T D" is not TD.
        kept.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new(Self::OUT, Self::BACK)
    }
}

/// A time as text.
mod time {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::clock::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&at.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("expected a time in RFC 3339"))
    }
}

/// Longest message that may be a word and what people put around it.
pub(super) const MESSAGE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
