//! What a client speaks, told from its first octets, and the carrier's side of that.
//!
//! **Promises.** Nothing here decides what becomes of a text: [`Talk`] reads what a client says and writes what it is answered.
//! Logins, questions whether we live and everything that is not a text are dealt with at once.

mod gateway;
mod message_centre;
mod smg;
mod smgw;

use bytes::{Bytes, BytesMut};

use self::gateway::Gateway;
use self::message_centre::MessageCentre;
use self::smg::Smg;
use self::smgw::Smgw;
use super::handsets::ReplyPart;
use super::receipts::{Spoken, Waiting};
use super::{Shared, Simulated};
use crate::clock::Timestamp;
use crate::sms::Concatenation;
use crate::wire::gateway::auth::NameForm;
use crate::wire::smpp::Version;

/// Octets after which SMPP, CMPP, SMGP and SGIP can be told apart.
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
    /// Its place among others, where that stands beside the octets.
    pub(super) place: Option<Concatenation>,
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
    /// SMGP.
    Smgp(Smgw),
    /// SGIP, either way round.
    Sgip(Smg),
}

impl Talk {
    pub(super) fn new() -> Self {
        Self::Unknown(BytesMut::new())
    }

    /// On a connection that we have made to a client of SGIP; asks to be bound.
    pub(super) fn calling(shared: &Shared, out: &mut BytesMut) -> Self {
        Self::Sgip(Smg::calling(shared, out))
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
            Self::Smgp(smgw) => smgw.buffer(),
            Self::Sgip(smg) => smg.buffer(),
        }
    }

    /// The next thing said; `None` until more octets come.
    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        if let Self::Unknown(octets) = self {
            if octets.len() < TELLING_OCTETS {
                return Ok(None);
            }
            *self = match told(octets) {
                Spoken::Smpp | Spoken::Http => Self::Smpp(MessageCentre::new(octets)),
                Spoken::Cmpp => Self::Cmpp(Gateway::new(octets)),
                Spoken::Smgp => Self::Smgp(Smgw::new(octets)),
                Spoken::Sgip => Self::Sgip(Smg::called(octets)),
            };
        }
        match self {
            Self::Unknown(_) => Ok(None),
            Self::Smpp(centre) => centre.next(shared, out),
            Self::Cmpp(gateway) => gateway.next(shared, out),
            Self::Smgp(smgw) => smgw.next(shared, out),
            Self::Sgip(smg) => smg.next(shared, out),
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Smpp(centre) => centre.is_bound(),
            Self::Cmpp(gateway) => gateway.is_bound(),
            Self::Smgp(smgw) => smgw.is_bound(),
            Self::Sgip(smg) => smg.is_bound(),
        }
    }

    /// True if receipts may be brought here.
    pub(super) fn may_receive(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Smpp(centre) => centre.may_receive(),
            Self::Cmpp(gateway) => gateway.is_bound(),
            Self::Smgp(smgw) => smgw.may_receive(),
            Self::Sgip(smg) => smg.may_receive(),
        }
    }

    pub(super) fn spoken(&self) -> Spoken {
        match self {
            Self::Unknown(_) | Self::Smpp(_) => Spoken::Smpp,
            Self::Cmpp(_) => Spoken::Cmpp,
            Self::Smgp(_) => Spoken::Smgp,
            Self::Sgip(_) => Spoken::Sgip,
        }
    }

    /// An id for the next part, and the answer that it was taken under it.
    pub(super) fn taken(&self, shared: &Shared, sequence: u32) -> (u128, Bytes) {
        let (id, answer) = match self {
            Self::Cmpp(gateway) => gateway.taken(shared, sequence),
            Self::Smgp(smgw) => smgw.taken(shared, sequence),
            Self::Sgip(smg) => return smg.taken(),
            Self::Smpp(centre) => message_centre::taken(shared, centre.version(), sequence),
            Self::Unknown(_) => message_centre::taken(shared, Version::default(), sequence),
        };
        (id.into(), answer)
    }

    /// The answer that a part was not taken.
    pub(super) fn refused(&self, shared: &Shared, sequence: u32, verdict: Verdict) -> Bytes {
        match self {
            Self::Cmpp(gateway) => gateway.refused(shared, sequence, verdict),
            Self::Smgp(smgw) => smgw.refused(shared, sequence, verdict),
            Self::Sgip(smg) => smg.refused(shared, verdict),
            Self::Smpp(centre) => message_centre::refused(shared, centre.version(), sequence, verdict),
            Self::Unknown(_) => message_centre::refused(shared, Version::default(), sequence, verdict),
        }
    }

    /// Brings a receipt.
    pub(super) fn bring(&self, shared: &Shared, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
        if let Some(reply) = &receipt.reply {
            return self.bring_reply(shared, sequence, receipt, reply, out);
        }
        match self {
            Self::Cmpp(gateway) => gateway.bring(shared, sequence, receipt, now, out),
            Self::Smgp(smgw) => smgw.bring(shared, sequence, receipt, now, out),
            Self::Sgip(smg) => smg.bring(sequence, receipt, now, out),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::bring(shared, sequence, receipt, now, out),
        }
    }

    /// Brings what the handset at the receipt's destination says.
    fn bring_reply(&self, shared: &Shared, sequence: u32, to: &Waiting, reply: &ReplyPart, out: &mut BytesMut) {
        match self {
            Self::Cmpp(gateway) => gateway.bring_reply(shared, sequence, to, reply, out),
            Self::Smgp(smgw) => smgw.bring_reply(shared, sequence, to, reply, out),
            Self::Sgip(smg) => smg.bring_reply(shared, sequence, to, reply, out),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::bring_reply(sequence, to, reply, out),
        }
    }

    /// Answers that a client wants to part.
    pub(super) fn unbound(&self, sequence: u32, out: &mut BytesMut) {
        match self {
            Self::Cmpp(gateway) => gateway.terminated(sequence, out),
            Self::Smgp(smgw) => smgw.exited(sequence, out),
            Self::Sgip(smg) => smg.unbound(out),
            Self::Unknown(_) | Self::Smpp(_) => message_centre::unbound(sequence, out),
        }
    }
}

/// Told from the first PDU's header. All open with a length and a command, and 1 is CONNECT, LOGIN and BIND as well as
/// `bind_receiver`. Behind it stands a gateway's sequence number, which is not 0, or SMPP's status, which is in every request.
/// CONNECT has 39 octets, LOGIN 42, BIND 61.
fn told(octets: &[u8]) -> Spoken {
    match octets {
        [_, _, _, _, 0, 0, 0, 1, 0, 0, 0, 0, ..] => Spoken::Smpp,
        [0, 0, 0, 42, 0, 0, 0, 1, _, _, _, _, ..] => Spoken::Smgp,
        [0, 0, 0, 61, 0, 0, 0, 1, _, _, _, _, ..] => Spoken::Sgip,
        [_, _, _, _, 0, 0, 0, 1, _, _, _, _, ..] => Spoken::Cmpp,
        _ => Spoken::Smpp,
    }
}

/// True if one of the two forms in which a client may hash its name makes its authenticator.
fn knows_the_secret(made: impl Fn(NameForm) -> bool) -> bool {
    [NameForm::Bare, NameForm::Padded].into_iter().any(made)
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{cmpp, sgip, smgp, smpp};

    #[test]
    fn the_first_octets_tell_what_is_spoken() {
        for command in [smpp::command::BIND_RECEIVER, smpp::command::BIND_TRANSMITTER, smpp::command::BIND_TRANSCEIVER]
        {
            let bind = written(|out| smpp::Pdu::bind(command, 1, smpp::Bind::default()).encode(out));
            assert_eq!(told(&bind), Spoken::Smpp, "{command}");
        }
        // As long as a LOGIN.
        let name = smpp::COctets::new("system_id", "x".repeat(15).as_str()).unwrap();
        let named = |system_type| smpp::Bind { system_id: name.clone(), system_type, ..smpp::Bind::default() };
        let bind = named(smpp::COctets::new("system_type", "xxxx").unwrap());
        let bind = written(|out| smpp::Pdu::bind(smpp::command::BIND_RECEIVER, 1, bind).encode(out));
        assert_eq!((bind.len(), told(&bind)), (42, Spoken::Smpp));

        let connect = cmpp::Connect {
            source_addr: cmpp::Octets::default(),
            authenticator_source: [0; 16],
            version: 0x20,
            timestamp: cmpp::time::LoginTime(0),
        };
        let connect = cmpp::Pdu::connect(1, connect);
        assert_eq!(told(&written(|out| connect.encode(cmpp::Version::V2, out))), Spoken::Cmpp);
        let login = smgp::Login {
            client_id: smgp::Octets::default(),
            authenticator_client: [0; 16],
            login_mode: 2,
            timestamp: smgp::time::LoginTime(0),
            client_version: 0x30,
        };
        let login = smgp::Pdu::login(1, login);
        assert_eq!(told(&written(|out| login.encode(smgp::Version::V30, out))), Spoken::Smgp);
        let sequence = sgip::Sequence { node: 3_010_012_345, time: 1_127_000_000, counter: 1 };
        let bind = sgip::Pdu::bind(sequence, sgip::Bind::default());
        assert_eq!(told(&written(|out| bind.encode(out))), Spoken::Sgip);
        assert_eq!((told(&[0; 12]), told(&[])), (Spoken::Smpp, Spoken::Smpp));
    }
}
