//! Result of an answer and error code of a report: names and what to do about them.
//!
//! **Promises.** A number nobody knows is temporary, and so is one that blames the account or our layout: no message is
//! given up for a mistake in the configuration, or for a number that we cannot read.

use std::fmt;

use crate::model::{EnhancedStatus, Scope};
use crate::wire::Meaning;

/// Result of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SgipResult(pub u8);

impl SgipResult {
    /// Done.
    pub const OK: Self = Self(0);
    /// Name or password is wrong.
    pub const BAD_LOGIN: Self = Self(1);
    /// A second BIND on one link.
    pub const BOUND_ALREADY: Self = Self(2);
    /// As many links as there may be.
    pub const TOO_MANY_CONNECTIONS: Self = Self(3);
    /// Not the way round in which a link is made.
    pub const BAD_LOGIN_TYPE: Self = Self(4);
    /// A field is badly made.
    pub const BAD_PARAMETER: Self = Self(5);
    /// A bad number.
    pub const BAD_NUMBER: Self = Self(6);
    /// Busy: slower, and again.
    pub const BUSY: Self = Self(11);

    /// What to do about it, in the answer to a SUBMIT.
    pub const fn meaning(self) -> Meaning {
        match self.0 {
            0 => Meaning::Ok,
            11 => Meaning::Throttled,
            1..=5 => Meaning::Account,
            6 => Meaning::Final(Scope::Recipient),
            8 => Meaning::Final(Scope::Message),
            _ => Meaning::Temporary,
        }
    }

    /// The enhanced status code (RFC 3463) under which it is reported.
    pub const fn enhanced(self) -> EnhancedStatus {
        let (class, subject, detail) = match (self.0, self.meaning()) {
            (_, Meaning::Ok) => (2, 0, 0),
            (_, Meaning::Throttled) => (4, 4, 5),
            (_, Meaning::Account) => (4, 3, 5),
            (6, _) => (5, 1, 1),
            (8, _) => (5, 3, 4),
            (_, Meaning::Final(_)) => (5, 0, 0),
            (_, Meaning::Temporary) => (4, 3, 0),
        };
        EnhancedStatus::new(class, subject, detail)
    }

    /// True in the answer to a BIND if trying again soon cannot help, since somebody has to look.
    pub const fn is_credentials(self) -> bool {
        matches!(self.0, 1 | 4)
    }

    /// The field or fault that it names.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "ok",
            1 => "login failed",
            2 => "bound already",
            3 => "too many connections",
            4 => "login type",
            5 => "format of a parameter",
            6 => "bad number",
            7 => "message id",
            8 => "message length",
            9 => "sequence number",
            10 => "GNS",
            11 => "busy",
            _ => "the gateway's own",
        }
    }
}

impl fmt::Display for SgipResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "result {} ({})", self.0, self.name())
    }
}

impl fmt::Debug for SgipResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the ErrorCode of a REPORT means; `None` for one that S12 does not know.
pub const fn error_name(code: u8) -> Option<&'static str> {
    Some(match code {
        21 => "unreachable",
        22 | 23 => "routing",
        24 => "charge number",
        25 => "out of coverage",
        26 => "memory of the handset",
        27 => "no texts supported",
        28 => "error of the handset",
        29 => "unknown user",
        30 => "not offered",
        31 => "bad device",
        32 => "system error",
        33 => "queue of the message centre full",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings_and_their_enhanced_codes() {
        for (results, meaning, class) in [
            (&[0][..], Meaning::Ok, 2),
            (&[11], Meaning::Throttled, 4),
            (&[1, 2, 3, 4, 5], Meaning::Account, 4),
            (&[6], Meaning::Final(Scope::Recipient), 5),
            (&[8], Meaning::Final(Scope::Message), 5),
            (&[7, 9, 10, 12, 20, 255], Meaning::Temporary, 4),
        ] {
            for &result in results {
                let result = SgipResult(result);
                assert_eq!((result.meaning(), result.enhanced().class), (meaning, class), "{result}");
            }
        }
        assert_eq!(SgipResult::BUSY.to_string(), "result 11 (busy)");
        assert_eq!((error_name(0), error_name(21), error_name(34)), (None, Some("unreachable"), None));
    }
}
