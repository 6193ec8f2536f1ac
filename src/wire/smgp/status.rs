//! Status of a login, a SUBMIT and a DELIVER: names and what to do about them.
//!
//! **Promises.** A number nobody knows is temporary, and so is one that blames the account or our layout: no message is
//! given up for a mistake in the configuration, or for a number that we cannot read.

use std::fmt;

use crate::model::{EnhancedStatus, Scope};
use crate::wire::Meaning;

/// Status of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Done.
    pub const OK: Self = Self(0);
    /// The gateway is busy: slower, and again.
    pub const BUSY: Self = Self(1);
    /// Not in M3: what gateways say of a LoginMode that the account was not set up for.
    pub const BAD_LOGIN_MODE: Self = Self(3);
    /// The PDU is badly made.
    pub const BAD_STRUCTURE: Self = Self(10);
    /// A command that makes no sense here.
    pub const BAD_COMMAND: Self = Self(11);
    /// The authenticator is wrong.
    pub const NOT_AUTHENTIC: Self = Self(21);
    /// A bad number.
    pub const BAD_DESTINATION: Self = Self(47);

    /// What to do about it, in the answer to a SUBMIT. The day's volume (75) is used up for all messages alike, so the whole
    /// account slows down; hours at which sending is forbidden (74) may be forbidden to some messages only.
    pub const fn meaning(self) -> Meaning {
        match self.0 {
            0 => Meaning::Ok,
            1 | 75 => Meaning::Throttled,
            2 | 3 | 10 | 11 | 20..=22 | 30..=35 | 40 | 43..=45 | 48 | 49 | 69 | 73 | 76 => Meaning::Account,
            47 => Meaning::Final(Scope::Recipient),
            36 | 46 => Meaning::Final(Scope::Message),
            _ => Meaning::Temporary,
        }
    }

    /// The enhanced status code (RFC 3463) under which it is reported.
    pub const fn enhanced(self) -> EnhancedStatus {
        let (class, subject, detail) = match (self.0, self.meaning()) {
            (_, Meaning::Ok) => (2, 0, 0),
            (_, Meaning::Throttled) => (4, 4, 5),
            (_, Meaning::Account) => (4, 3, 5),
            (47, _) => (5, 1, 1),
            (46, _) => (5, 1, 8),
            (36, _) => (5, 3, 4),
            (_, Meaning::Final(_)) => (5, 0, 0),
            (74, _) => (4, 7, 1),
            (_, Meaning::Temporary) => (4, 3, 0),
        };
        EnhancedStatus::new(class, subject, detail)
    }

    /// True in the answer to a login if trying again soon cannot help, since somebody has to look.
    pub const fn is_credentials(self) -> bool {
        matches!(self.0, 3 | 20..=22 | 76)
    }

    /// The field or fault that it names.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "ok",
            1 => "busy",
            2 => "too many connections",
            3 => "LoginMode does not fit the account",
            10 => "structure of the message",
            11 => "command",
            12 => "sequence repeated",
            20 => "IP address",
            21 => "authentication failed",
            22 => "version too high",
            30 => "MsgType",
            31 => "Priority",
            32 => "FeeType",
            33 => "FeeCode",
            34 => "MsgFormat",
            35 => "format of a time",
            36 => "MsgLength",
            37 => "validity is over",
            38 => "QueryType",
            39 => "routing",
            40 => "FixedFee",
            41 => "UpdateType",
            42 => "RouteID",
            43 => "ServiceID",
            44 => "ValidTime",
            45 => "AtTime",
            46 => "SrcTermID",
            47 => "DestTermID",
            48 => "ChargeTermID",
            49 => "SP code",
            58 => "no route",
            69 => "SP id",
            73 => "MServiceID",
            74 => "sending forbidden at this hour",
            75 => "daily volume exceeded",
            76 => "account expired",
            _ => "the gateway's own",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} ({})", self.0, self.name())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (statuses, meaning) in [
            (&[0][..], Meaning::Ok),
            (&[1, 75], Meaning::Throttled),
            (&[2, 3, 10, 11, 20, 21, 22, 76], Meaning::Account),
            (&[30, 31, 32, 33, 34, 35, 40, 43, 44, 45, 48, 49], Meaning::Account),
            (&[36, 46], Meaning::Final(Scope::Message)),
            (&[47], Meaning::Final(Scope::Recipient)),
            (&[4, 12, 37, 38, 39, 41, 42, 58, 74, 128, 255, 513, u32::MAX], Meaning::Temporary),
        ] {
            for &status in statuses {
                assert_eq!(Status(status).meaning(), meaning, "{status}");
            }
        }
        assert_eq!(Status(75).to_string(), "status 75 (daily volume exceeded)");
        let looked_at: Vec<_> = (0..300).filter(|&status| Status(status).is_credentials()).collect();
        assert_eq!(looked_at, [3, 20, 21, 22, 76]);
    }

    #[test]
    fn class_of_the_enhanced_code_agrees_with_the_meaning() {
        for status in (0..0x200).map(Status) {
            let class = match status.meaning() {
                Meaning::Ok => 2,
                Meaning::Final(_) => 5,
                _ => 4,
            };
            assert_eq!(status.enhanced().class, class, "{status}");
        }
    }
}
