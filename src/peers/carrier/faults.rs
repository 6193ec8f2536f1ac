//! What the simulated carrier does wrong on purpose, so that clients can be seen to bear it.
//!
//! **What.** [`Fault`] is one misdeed, [`Faults`] are all that were asked for; the few places where octets leave ask them.
//! [`Gate`] holds octets back that are to be written joined or in halves.
//!
//! **Promises.** Without a fault asked for, every octet leaves as it would without this file. A fault that a protocol does not know
//! has no effect on it.
//!
//! **Does not know** any protocol, but that their PDUs all begin with their length, nor sockets or clocks: time is an argument.

use std::str::FromStr;
use std::time::Duration;

use super::{Shared, count};
use crate::clock::Mono;

/// How much later than their receipts answers come at least.
pub(super) const ANSWER_LAG: Duration = Duration::from_millis(300);
/// How long is gathered what is to be written joined or in another order.
pub(super) const GATHERED_FOR: Duration = Duration::from_millis(50);
/// The pause amid a PDU.
const HALF_TIME: Duration = Duration::from_millis(10);

/// Something that a carrier does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Answers to logins do not prove that it knows the secret.
    WrongAuthenticator,
    /// Receipts come before the answers to their parts.
    ReceiptBeforeAnswer,
    /// Receipts come over any link but their part's.
    ReceiptOnAnotherLink,
    /// Reports of CMPP 3.0 have the layout of 2.0.
    ShortReceipt,
    /// What is written within a while goes out in one write.
    Joined,
    /// Each PDU goes out in two writes, with a pause between; prevails over [`Fault::Joined`].
    Halved,
    /// ACTIVE_TEST_RESP lacks its octet.
    ShortActiveTest,
    /// So many parts at first are taken and not answered.
    Silence(u64),
    /// Each receipt is brought twice.
    Twice,
    /// Answers that are due within a while come in reverse.
    OutOfOrder,
    /// The first link with so many answers held back is closed, and they are never given.
    CloseWhenFull(u64),
    /// So many parts at first are taken, and their connections are cut without an answer (HTTP).
    Cut(u64),
    /// So many parts at first are taken and answered with something else than was agreed (HTTP).
    Garbage(u64),
    /// So many parts at first are not taken, and answered 500 (HTTP).
    ServerError(u64),
}

/// How a [`Fault`] is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As a word.
    Word(Fault),
    /// As a word, `=` and a number.
    Counted(fn(u64) -> Fault),
}

/// Every fault's word, and what it means.
const WORDS: [(&str, Form, &str); 14] = [
    (
        "wrong-authenticator",
        Form::Word(Fault::WrongAuthenticator),
        "logins are answered without proof of the secret (CMPP, SMGP)",
    ),
    ("receipt-before-answer", Form::Word(Fault::ReceiptBeforeAnswer), "receipts at once, answers 300 ms later"),
    (
        "receipt-on-another-link",
        Form::Word(Fault::ReceiptOnAnotherLink),
        "receipts over any link but the text's; none if there is no other",
    ),
    ("short-receipt", Form::Word(Fault::ShortReceipt), "reports of 60 octets instead of 71 (CMPP 3.0)"),
    ("joined", Form::Word(Fault::Joined), "all that is to be said within 50 ms in one write"),
    ("halved", Form::Word(Fault::Halved), "each PDU in two writes, 10 ms apart"),
    ("short-active-test", Form::Word(Fault::ShortActiveTest), "ACTIVE_TEST_RESP of 12 octets (CMPP)"),
    ("silence", Form::Counted(Fault::Silence), "the first N parts are taken and never answered"),
    ("twice", Form::Word(Fault::Twice), "each receipt twice"),
    ("out-of-order", Form::Word(Fault::OutOfOrder), "answers of 50 ms in reverse"),
    (
        "close-when-full",
        Form::Counted(Fault::CloseWhenFull),
        "the first link on which --latency holds N answers back is closed",
    ),
    ("cut", Form::Counted(Fault::Cut), "the first N parts are taken and their connections cut (HTTP)"),
    ("garbage", Form::Counted(Fault::Garbage), "the first N parts are taken and answered with a web page (HTTP)"),
    ("server-error", Form::Counted(Fault::ServerError), "the first N parts are not taken but answered 500 (HTTP)"),
];

impl Fault {
    /// What can be asked for, a line each.
    pub fn help() -> String {
        let line = |(word, form, means): &(&str, Form, &str)| match form {
            Form::Word(_) => format!("{word}: {means}\n"),
            Form::Counted(_) => format!("{word}=N: {means}\n"),
        };
        WORDS.iter().map(line).collect()
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(said: &str) -> Result<Self, String> {
        let (word, number) = said.split_once('=').map_or((said, None), |(word, number)| (word, Some(number)));
        let Some((_, form, _)) = WORDS.iter().find(|(known, ..)| *known == word) else {
            let words = WORDS.map(|(word, ..)| word).join(", ");
            return Err(format!("expected one of {words}"));
        };
        match (form, number.map(str::parse)) {
            (Form::Word(fault), None) => Ok(*fault),
            (Form::Word(_), Some(_)) => Err(format!("expected {word} without a number")),
            (Form::Counted(fault), Some(Ok(number))) if number > 0 => Ok(fault(number)),
            (Form::Counted(_), _) => Err(format!("expected a number from 1, such as {word}=8")),
        }
    }
}

/// All that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// True if that one was asked for.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// True if the `nth` part of all, from 1, is not answered.
    pub(super) fn silences(&self, nth: u64) -> bool {
        self.0.iter().any(|fault| matches!(*fault, Fault::Silence(first) if nth <= first))
    }

    /// True if the connection of the `nth` part of all, from 1, is cut.
    pub(super) fn cuts(&self, nth: u64) -> bool {
        self.0.iter().any(|fault| matches!(*fault, Fault::Cut(first) if nth <= first))
    }

    /// True if the `nth` part of all, from 1, is answered with something else.
    pub(super) fn garbles(&self, nth: u64) -> bool {
        self.0.iter().any(|fault| matches!(*fault, Fault::Garbage(first) if nth <= first))
    }

    /// True if the `nth` part of all, from 1, is answered 500.
    pub(super) fn breaks(&self, nth: u64) -> bool {
        self.0.iter().any(|fault| matches!(*fault, Fault::ServerError(first) if nth <= first))
    }

    /// True if a link with so many answers held back is closed.
    pub(super) fn closes(&self, held_back: usize) -> bool {
        let full = |most| u64::try_from(held_back).is_ok_and(|held_back| held_back >= most);
        self.0.iter().any(|fault| matches!(*fault, Fault::CloseWhenFull(most) if full(most)))
    }
}

impl Shared {
    /// True if that fault was asked for; counts that it is played, too.
    pub(super) fn plays(&self, fault: Fault) -> bool {
        let plays = self.options.faults.has(fault);
        if plays {
            count(&self.counters.faults);
        }
        plays
    }

    /// A carrier's authenticator, or what it says instead.
    pub(super) fn authenticator(&self, right: [u8; 16]) -> [u8; 16] {
        if self.plays(Fault::WrongAuthenticator) { right.map(|octet| !octet) } else { right }
    }
}

/// In which pieces octets leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pieces {
    AsTheyCome,
    Joined,
    Halved,
}

/// Holds octets back that are to be written joined or in halves.
#[derive(Debug)]
pub(super) struct Gate {
    pieces: Pieces,
    /// Nothing leaves before; `None` while nothing waits.
    opens: Option<Mono>,
    /// Of the piece that is leaving, the octets still to go.
    piece: usize,
    /// Of the PDU that is leaving, the octets behind that piece.
    rest: usize,
}

impl Gate {
    pub(super) fn new(faults: &Faults) -> Self {
        let pieces = if faults.has(Fault::Halved) {
            Pieces::Halved
        } else if faults.has(Fault::Joined) {
            Pieces::Joined
        } else {
            Pieces::AsTheyCome
        };
        Self { pieces, opens: None, piece: 0, rest: 0 }
    }

    /// How many octets of what waits, whole PDUs at first, may be written now.
    pub(super) fn passes(&mut self, waiting: &[u8], now: Mono) -> usize {
        if waiting.is_empty() {
            return 0;
        }
        match self.pieces {
            Pieces::AsTheyCome => return waiting.len(),
            Pieces::Joined if now >= *self.opens.get_or_insert(now.plus(GATHERED_FOR)) => return waiting.len(),
            Pieces::Joined => return 0,
            Pieces::Halved if self.opens.is_some_and(|opens| now < opens) => return 0,
            Pieces::Halved => {}
        }
        if self.piece == 0 {
            self.piece = match (self.rest, waiting) {
                (0, &[a, b, c, d, ..]) => {
                    let whole = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                    let whole = whole.min(waiting.len());
                    self.rest = whole - whole / 2;
                    whole / 2
                }
                (0, few) => few.len(),
                (rest, _) => std::mem::take(&mut self.rest).min(rest),
            };
        }
        self.piece
    }

    /// So many octets were written; true if that was a piece of its own.
    pub(super) fn passed(&mut self, octets: usize, now: Mono) -> bool {
        match self.pieces {
            Pieces::AsTheyCome => false,
            Pieces::Joined => {
                self.opens = None;
                true
            }
            Pieces::Halved => {
                self.piece = self.piece.saturating_sub(octets);
                self.opens = (self.piece == 0).then(|| now.plus(HALF_TIME));
                self.piece == 0
            }
        }
    }

    /// When it opens, if it is shut.
    pub(super) fn opens(&self) -> Option<Mono> {
        self.opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_asked_for_by_their_words() {
        for (word, form, _) in WORDS {
            match form {
                Form::Word(fault) => {
                    assert_eq!(word.parse(), Ok(fault));
                    assert!(format!("{word}=3").parse::<Fault>().is_err(), "{word}");
                }
                Form::Counted(fault) => {
                    assert_eq!(format!("{word}=3").parse(), Ok(fault(3)));
                    for wrong in [word.to_owned(), format!("{word}=0"), format!("{word}=-1"), format!("{word}=")] {
                        let said = wrong.parse::<Fault>().unwrap_err();
                        assert!(said.contains(&format!("{word}=8")), "{said}");
                    }
                }
            }
            assert!(Fault::help().lines().any(|line| line.starts_with(word)), "{word}");
        }
        assert!("sloth".parse::<Fault>().unwrap_err().contains("silence"));
    }

    #[test]
    fn what_is_counted_ends_with_its_number() {
        let faults = Faults(vec![Fault::Twice, Fault::Silence(2), Fault::CloseWhenFull(3)]);
        assert_eq!([1, 2, 3].map(|nth| faults.silences(nth)), [true, true, false]);
        assert_eq!([2, 3, 4].map(|held_back| faults.closes(held_back)), [false, true, true]);
        assert!(!Faults::default().silences(1) && !Faults::default().closes(9));
    }

    /// The pieces in which PDUs of these lengths leave, with the milliseconds at which they do.
    fn pieces(faults: &[Fault], lengths: &[u8]) -> Vec<(u64, usize)> {
        let mut gate = Gate::new(&Faults(faults.to_vec()));
        let mut waiting: Vec<u8> = Vec::new();
        for &length in lengths {
            waiting.extend([0, 0, 0, length].into_iter().chain(std::iter::repeat_n(0xEE, usize::from(length) - 4)));
        }
        let mut left = Vec::new();
        let start = Mono(0);
        let mut now = start;
        while !waiting.is_empty() {
            match gate.passes(&waiting, now) {
                0 => now = gate.opens().unwrap(),
                octets => {
                    waiting.drain(..octets);
                    gate.passed(octets, now);
                    left.push((now.since(start).as_millis() as u64, octets));
                }
            }
        }
        left
    }

    #[test]
    fn octets_leave_as_they_come_joined_or_in_halves() {
        assert_eq!(pieces(&[Fault::Twice], &[12, 17]), [(0, 29)]);
        assert_eq!(pieces(&[Fault::Joined], &[12, 17]), [(50, 29)]);
        let halves = [(0, 6), (10, 6), (20, 8), (30, 9)];
        assert_eq!(pieces(&[Fault::Joined, Fault::Halved], &[12, 17]), halves);
    }

    #[test]
    fn a_half_that_is_not_taken_whole_goes_on_at_once() {
        let mut gate = Gate::new(&Faults(vec![Fault::Halved]));
        let pdu = [0, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8];
        let now = Mono(7);
        assert_eq!(gate.passes(&pdu, now), 6);
        assert!(!gate.passed(4, now));
        assert_eq!(gate.passes(&pdu[4..], now), 2);
        assert!(gate.passed(2, now));
        assert_eq!(gate.passes(&pdu[6..], now), 0);
        assert_eq!(gate.passes(&pdu[6..], gate.opens().unwrap()), 6);
    }
}
