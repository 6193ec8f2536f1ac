//! What a client speaks, told from its first octets, and the carrier's side of that.
//!
//! **Promises.** Nothing here decides what becomes of a text: [`Talk`] reads what a client says and writes what it is answered.
//! Logins, questions whether we live and everything that is not a text are dealt with at once.

mod gateway;
mod message_centre;

use bytes::{Bytes, BytesMut};

use self::gateway::Gateway;
use self::message_centre::MessageCentre;
use super::receipts::{Spoken, Waiting};
use super::{Shared, Simulated};
use crate::clock::Timestamp;

/// Octets after which SMPP and CMPP can be told apart.
const TELLING_OCTETS: usize = 12;
/// Octets read at once while they cannot.
const FIRST_READ: usize = 4_096;

/// One end of a text. Type and plan of its number are SMPP's.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Party {
    pub(super) ton: u8,
    pub(super) npi: u8,
    pub(super) number: String,
}

/// A part that a client submits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Submission {
    pub(super) source: Party,
    pub(super) destination: Party,
    /// In the numbers of [`crate::sms::decode`].
    pub(super) coding: u8,
    /// The octets start with a user data header.
    pub(super) udhi: bool,
    pub(super) octets: Bytes,
    pub(super) wants_receipt: bool,
}

/// What a client has said that the carrier has to decide on.
pub(super) enum Said {
    /// A part, to be answered under this sequence number.
    Submission(u32, Submission),
    /// A part that cannot be taken, to be answered so.
    Impossible(u32, Verdict),
    /// A receipt was answered.
    ReceiptAnswered { sequence: u32, taken: bool },
    /// It wants to part; to be answered under this sequence number.
    Unbind(u32),
    /// Nothing to decide.
    Nothing,
}

/// How a part is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Throttled,
    Refused,
    QueueFull,
    NotBound,
    BadlyMade,
}

/// The connection is over.
pub(super) struct Over;

/// What a connection speaks.
pub(super) enum Talk {
    /// Not known yet.
    Unknown(BytesMut),
    /// SMPP.
    Smpp(MessageCentre),
    /// CMPP.
    Cmpp(Gateway),
}

impl Talk {
    pub(super) fn new() -> Self {
        Self::Unknown(BytesMut::new())
    }

    /// Where the next read goes.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        match self {
            Self::Unknown(octets) => {
                octets.reserve(FIRST_READ);
                octets
            }
            Self::Smpp(centre) => centre.buffer(),
            Self::Cmpp(gateway) => gateway.buffer(),
        }
    }

    /// The next thing said; `None` until more octets come.
    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        if let Self::Unknown(octets) = self {
            if octets.len() < TELLING_OCTETS {
                return Ok(None);
            }
            *self =
                if is_cmpp(octets) { Self::Cmpp(Gateway::new(octets)) } else { Self::Smpp(MessageCentre::new(octets)) };
        }
        match self {
            Self::Unknown(_) => Ok(None),
            Self::Smpp(centre) => centre.next(shared, out),
            Self::Cmpp(gateway) => gateway.next(shared, out),
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Smpp(centre) => centre.is_bound(),
            Self::Cmpp(gateway) => gateway.is_bound(),
        }
    }

    /// True if receipts may be brought here.
    pub(super) fn may_receive(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Smpp(centre) => centre.may_receive(),
            Self::Cmpp(gateway) => gateway.is_bound(),
        }
    }

    pub(super) fn spoken(&self) -> Spoken {
        match self {
            Self::Unknown(_) | Self::Smpp(_) => Spoken::Smpp,
            Self::Cmpp(_) => Spoken::Cmpp,
        }
    }

    /// An id for the next part, and the answer that it was taken under it.
    pub(super) fn taken(&self, shared: &Shared, sequence: u32) -> (u64, Bytes) {
        match self {
            Self::Cmpp(gateway) => gateway.taken(shared, sequence),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::taken(shared, sequence),
        }
    }

    /// The answer that a part was not taken.
    pub(super) fn refused(&self, shared: &Shared, sequence: u32, verdict: Verdict) -> Bytes {
        match self {
            Self::Cmpp(gateway) => gateway.refused(shared, sequence, verdict),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::refused(shared, sequence, verdict),
        }
    }

    /// Brings a receipt.
    pub(super) fn bring(&self, shared: &Shared, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
        match self {
            Self::Cmpp(gateway) => gateway.bring(shared, sequence, receipt, now, out),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::bring(shared, sequence, receipt, now, out),
        }
    }

    /// Answers that a client wants to part.
    pub(super) fn unbound(&self, sequence: u32, out: &mut BytesMut) {
        match self {
            Self::Cmpp(gateway) => gateway.terminated(sequence, out),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::unbound(sequence, out),
        }
    }
}

/// Both open with a length and a command, and 1 is CONNECT as well as `bind_receiver`. Behind it stands CMPP's sequence number,
/// which is not 0, or SMPP's status, which is in every request.
fn is_cmpp(octets: &[u8]) -> bool {
    matches!(octets, [_, _, _, _, 0, 0, 0, 1, sequence @ ..] if sequence.iter().take(4).any(|&octet| octet != 0))
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{cmpp, smpp};

    #[test]
    fn the_first_octets_tell_what_is_spoken() {
        for command in [smpp::command::BIND_RECEIVER, smpp::command::BIND_TRANSMITTER, smpp::command::BIND_TRANSCEIVER]
        {
            let bind = written(|out| smpp::Pdu::bind(command, 1, smpp::Bind::default()).encode(out));
            assert!(!is_cmpp(&bind), "{command}");
        }
        let connect = cmpp::Connect {
            source_addr: cmpp::Octets::default(),
            authenticator_source: [0; 16],
            version: 0x20,
            timestamp: cmpp::time::LoginTime(0),
        };
        let connect = cmpp::Pdu::connect(1, connect);
        assert!(is_cmpp(&written(|out| connect.encode(cmpp::Version::V2, out))));
        assert!(!is_cmpp(&[0; 12]) && !is_cmpp(&[]));
    }
}
