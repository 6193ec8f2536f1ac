//! Status of a login, result of a SUBMIT: names and what to do about them (C3 sections 8.4.1.2, 8.4.3.2 and 8.7).
//!
//! **Promises.** A number nobody knows is temporary, and so is one that blames the account or our layout: no message is
//! given up for a mistake in the configuration, or for a number that we cannot read.

use std::fmt;

use crate::model::{EnhancedStatus, Scope};
use crate::wire::Meaning;

/// Status of a CONNECT_RESP.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectStatus(pub u32);

impl ConnectStatus {
    /// Logged in.
    pub const OK: Self = Self(0);
    /// The PDU is badly made.
    pub const BAD_STRUCTURE: Self = Self(1);
    /// Nobody of that name.
    pub const BAD_SOURCE: Self = Self(2);
    /// The authenticator is wrong.
    pub const NOT_AUTHENTIC: Self = Self(3);
    /// The version is too high.
    pub const VERSION_TOO_HIGH: Self = Self(4);
    /// Anything else.
    pub const OTHER: Self = Self(5);

    /// True if trying again soon cannot help, since somebody has to look.
    pub const fn is_credentials(self) -> bool {
        matches!(self.0, 2..=4)
    }
}

impl fmt::Display for ConnectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            0 => "logged in",
            1 => "structure of the message",
            2 => "unknown Source_Addr",
            3 => "authentication failed",
            4 => "version too high",
            _ => "other error",
        };
        write!(f, "status {} ({words})", self.0)
    }
}

impl fmt::Debug for ConnectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Result of a SUBMIT_RESP or a DELIVER_RESP.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubmitResult(pub u32);

impl SubmitResult {
    /// Taken.
    pub const OK: Self = Self(0);
    /// The PDU is badly made.
    pub const BAD_STRUCTURE: Self = Self(1);
    /// Too fast.
    pub const FLOW_CONTROL: Self = Self(8);
    /// 9 and above in a DELIVER_RESP: anything else.
    pub const OTHER: Self = Self(9);
    /// The content is too long.
    pub const TOO_LONG: Self = Self(6);
    /// Src_Id is not to be used.
    pub const BAD_SRC_ID: Self = Self(10);
    /// Msg_src is somebody else's.
    pub const BAD_MSG_SRC: Self = Self(11);
    /// A bad number.
    pub const BAD_DESTINATION: Self = Self(13);

    /// What to do about it, in the answer to a SUBMIT.
    pub const fn meaning(self) -> Meaning {
        match self.0 {
            0 => Meaning::Ok,
            8 => Meaning::Throttled,
            1 | 2 | 5 | 7 | 11 | 12 => Meaning::Account,
            9 | 13 => Meaning::Final(Scope::Recipient),
            4 | 6 | 10 => Meaning::Final(Scope::Message),
            _ => Meaning::Temporary,
        }
    }

    /// The enhanced status code (RFC 3463) under which it is reported.
    pub const fn enhanced(self) -> EnhancedStatus {
        let (class, subject, detail) = match (self.0, self.meaning()) {
            (_, Meaning::Ok) => (2, 0, 0),
            (_, Meaning::Throttled) => (4, 4, 5),
            (_, Meaning::Account) => (4, 3, 5),
            (13, _) => (5, 1, 1),
            (10, _) => (5, 1, 8),
            (4 | 6, _) => (5, 3, 4),
            (_, Meaning::Final(_)) => (5, 0, 0),
            (_, Meaning::Temporary) => (4, 3, 0),
        };
        EnhancedStatus::new(class, subject, detail)
    }

    /// The field or fault that it names.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "taken",
            1 => "structure of the message",
            2 => "command",
            3 => "sequence repeated",
            4 => "message length",
            5 => "fee code",
            6 => "message too long",
            7 => "service code",
            8 => "flow control",
            9 => "not served here",
            10 => "Src_Id",
            11 => "Msg_src",
            12 => "Fee_terminal_Id",
            13 => "Dest_terminal_Id",
            _ => "the gateway's own",
        }
    }
}

impl fmt::Display for SubmitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "result {} ({})", self.0, self.name())
    }
}

impl fmt::Debug for SubmitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (result, meaning) in [
            (0, Meaning::Ok),
            (1, Meaning::Account),
            (3, Meaning::Temporary),
            (6, Meaning::Final(Scope::Message)),
            (7, Meaning::Account),
            (8, Meaning::Throttled),
            (9, Meaning::Final(Scope::Recipient)),
            (13, Meaning::Final(Scope::Recipient)),
            (14, Meaning::Temporary),
            (101, Meaning::Temporary),
            (u32::MAX, Meaning::Temporary),
        ] {
            assert_eq!(SubmitResult(result).meaning(), meaning, "{result}");
        }
        assert_eq!(SubmitResult(8).to_string(), "result 8 (flow control)");
        assert_eq!(ConnectStatus(3).to_string(), "status 3 (authentication failed)");
    }

    #[test]
    fn class_of_the_enhanced_code_agrees_with_the_meaning() {
        for result in (0..0x200).map(SubmitResult) {
            let class = match result.meaning() {
                Meaning::Ok => 2,
                Meaning::Final(_) => 5,
                _ => 4,
            };
            assert_eq!(result.enhanced().class, class, "{result}");
        }
    }
}
