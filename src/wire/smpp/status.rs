//! `command_status`: names and what to do about them (P34 section 5.1.3; from 0x100 on P50 section 4.7.6).
//!
//! **Promises.** A status nobody knows is temporary: no message is given up for a number we cannot read.

use std::fmt;

use crate::model::{EnhancedStatus, Scope};
use crate::wire::Meaning;

/// A PDU's `command_status`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandStatus(pub u32);

impl CommandStatus {
    /// No error.
    pub const OK: Self = Self(0x00);
    /// Message length is invalid.
    pub const INVALID_MESSAGE_LENGTH: Self = Self(0x01);
    /// Command length is invalid.
    pub const INVALID_COMMAND_LENGTH: Self = Self(0x02);
    /// Command id is invalid.
    pub const INVALID_COMMAND_ID: Self = Self(0x03);
    /// Incorrect bind status for the command.
    pub const INVALID_BIND_STATUS: Self = Self(0x04);
    /// Already bound.
    pub const ALREADY_BOUND: Self = Self(0x05);
    /// System error.
    pub const SYSTEM_ERROR: Self = Self(0x08);
    /// Invalid source address.
    pub const INVALID_SOURCE: Self = Self(0x0A);
    /// Invalid destination address.
    pub const INVALID_DESTINATION: Self = Self(0x0B);
    /// Bind failed.
    pub const BIND_FAILED: Self = Self(0x0D);
    /// Invalid password.
    pub const INVALID_PASSWORD: Self = Self(0x0E);
    /// Invalid system id.
    pub const INVALID_SYSTEM_ID: Self = Self(0x0F);
    /// Message queue full.
    pub const MESSAGE_QUEUE_FULL: Self = Self(0x14);
    /// Invalid service type.
    pub const INVALID_SERVICE_TYPE: Self = Self(0x15);
    /// Invalid `esm_class`.
    pub const INVALID_ESM_CLASS: Self = Self(0x43);
    /// `submit_sm` failed.
    pub const SUBMIT_FAILED: Self = Self(0x45);
    /// Invalid `replace_if_present_flag`.
    pub const INVALID_REPLACE_FLAG: Self = Self(0x54);
    /// Invalid scheduled delivery time.
    pub const INVALID_SCHEDULE: Self = Self(0x61);
    /// Invalid validity period.
    pub const INVALID_EXPIRY: Self = Self(0x62);
    /// No such predefined message.
    pub const INVALID_DEFAULT_MESSAGE: Self = Self(0x63);
    /// Throttling: allowed message limits exceeded.
    pub const THROTTLED: Self = Self(0x58);
    /// Temporary application error of the receiver.
    pub const TEMPORARY_APPLICATION_ERROR: Self = Self(0x64);
    /// Permanent application error of the receiver.
    pub const PERMANENT_APPLICATION_ERROR: Self = Self(0x65);

    /// An optional parameter that is not allowed.
    pub const PARAMETER_NOT_ALLOWED: Self = Self(0xC1);
    /// An expected optional parameter is missing.
    pub const MISSING_PARAMETER: Self = Self(0xC3);
    /// Invalid value of an optional parameter.
    pub const INVALID_PARAMETER: Self = Self(0xC4);

    /// What to do about it.
    pub const fn meaning(self) -> Meaning {
        match self.0 {
            0x00 => Meaning::Ok,
            0x14 | 0x58 => Meaning::Throttled,
            0x04 | 0x05 | 0x0D | 0x0E | 0x0F => Meaning::Account,
            // The service, or what was asked for, is not the account's to use.
            0x100 | 0x101 => Meaning::Account,
            0x0B | 0x45 | 0x65 | 0x66 | 0x106 => Meaning::Final(Scope::Recipient),
            // 0x103: what the text says does not suit the service; 0x104: its alphabet is not carried.
            0x01 | 0x0A | 0x33 | 0x43 | 0x61 | 0x62 | 0x103..=0x105 => Meaning::Final(Scope::Message),
            _ => Meaning::Temporary,
        }
    }

    /// The enhanced status code (RFC 3463) under which it is reported.
    pub const fn enhanced(self) -> EnhancedStatus {
        let (class, subject, detail) = match (self.0, self.meaning()) {
            (_, Meaning::Ok) => (2, 0, 0),
            (_, Meaning::Throttled) => (4, 4, 5),
            (0x0B, _) => (5, 1, 1),
            (0x0A, _) => (5, 1, 8),
            (0x01, _) => (5, 3, 4),
            (0x66 | 0x103, _) => (5, 7, 1),
            (0x104, _) => (5, 6, 1),
            (_, Meaning::Final(_)) => (5, 0, 0),
            (_, Meaning::Temporary | Meaning::Account) => (4, 3, 0),
        };
        EnhancedStatus::new(class, subject, detail)
    }

    /// True if the same may succeed later.
    pub const fn is_temporary(self) -> bool {
        matches!(self.meaning(), Meaning::Throttled | Meaning::Temporary)
    }

    /// True if a bind was refused for who we are: trying again soon cannot help, somebody has to look.
    pub const fn is_credentials(self) -> bool {
        matches!(self.0, 0x0D..=0x0F)
    }

    /// The standard's name without its `ESME_` prefix, or `status` for one it does not define.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x00 => "ROK",
            0x01 => "RINVMSGLEN",
            0x02 => "RINVCMDLEN",
            0x03 => "RINVCMDID",
            0x04 => "RINVBNDSTS",
            0x05 => "RALYBND",
            0x06 => "RINVPRTFLG",
            0x07 => "RINVREGDLVFLG",
            0x08 => "RSYSERR",
            0x0A => "RINVSRCADR",
            0x0B => "RINVDSTADR",
            0x0C => "RINVMSGID",
            0x0D => "RBINDFAIL",
            0x0E => "RINVPASWD",
            0x0F => "RINVSYSID",
            0x11 => "RCANCELFAIL",
            0x13 => "RREPLACEFAIL",
            0x14 => "RMSGQFUL",
            0x15 => "RINVSERTYP",
            0x33 => "RINVNUMDESTS",
            0x34 => "RINVDLNAME",
            0x40 => "RINVDESTFLAG",
            0x42 => "RINVSUBREP",
            0x43 => "RINVESMCLASS",
            0x44 => "RCNTSUBDL",
            0x45 => "RSUBMITFAIL",
            0x48 => "RINVSRCTON",
            0x49 => "RINVSRCNPI",
            0x50 => "RINVDSTTON",
            0x51 => "RINVDSTNPI",
            0x53 => "RINVSYSTYP",
            0x54 => "RINVREPFLAG",
            0x55 => "RINVNUMMSGS",
            0x58 => "RTHROTTLED",
            0x61 => "RINVSCHED",
            0x62 => "RINVEXPIRY",
            0x63 => "RINVDFTMSGID",
            0x64 => "RX_T_APPN",
            0x65 => "RX_P_APPN",
            0x66 => "RX_R_APPN",
            0x67 => "RQUERYFAIL",
            0xC0 => "RINVOPTPARSTREAM",
            0xC1 => "ROPTPARNOTALLWD",
            0xC2 => "RINVPARLEN",
            0xC3 => "RMISSINGOPTPARAM",
            0xC4 => "RINVOPTPARAMVAL",
            0xFE => "RDELIVERYFAILURE",
            0xFF => "RUNKNOWNERR",
            0x100 => "RSERTYPUNAUTH",
            0x101 => "RPROHIBITED",
            0x102 => "RSERTYPUNAVAIL",
            0x103 => "RSERTYPDENIED",
            0x104 => "RINVDCS",
            0x105 => "RINVSRCADDRSUBUNIT",
            0x106 => "RINVDSTADDRSUBUNIT",
            _ => "status",
        }
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "status" => write!(f, "command_status 0x{:08X}", self.0),
            name => write!(f, "ESME_{name} (0x{:02X})", self.0),
        }
    }
}

impl fmt::Debug for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (status, meaning) in [
            (0x00, Meaning::Ok),
            (0x58, Meaning::Throttled),
            (0x14, Meaning::Throttled),
            (0x08, Meaning::Temporary),
            (0x64, Meaning::Temporary),
            (0x0E, Meaning::Account),
            (0x05, Meaning::Account),
            (0x0B, Meaning::Final(Scope::Recipient)),
            (0x0A, Meaning::Final(Scope::Message)),
            (0x66, Meaning::Final(Scope::Recipient)),
            (0x100, Meaning::Account),
            (0x102, Meaning::Temporary),
            (0x103, Meaning::Final(Scope::Message)),
            (0x106, Meaning::Final(Scope::Recipient)),
            (0x10D, Meaning::Temporary),
            (0x0000_0400, Meaning::Temporary),
            (u32::MAX, Meaning::Temporary),
        ] {
            assert_eq!(CommandStatus(status).meaning(), meaning, "{status:#x}");
        }
    }

    #[test]
    fn class_of_the_enhanced_code_agrees_with_the_meaning() {
        for status in (0..0x200).map(CommandStatus) {
            let class = match status.meaning() {
                Meaning::Ok => 2,
                Meaning::Final(_) => 5,
                _ => 4,
            };
            assert_eq!(status.enhanced().class, class, "{status}");
        }
        assert_eq!(CommandStatus(0x58).to_string(), "ESME_RTHROTTLED (0x58)");
        assert_eq!(CommandStatus(0x103).to_string(), "ESME_RSERTYPDENIED (0x103)");
        assert_eq!(CommandStatus(0x401).to_string(), "command_status 0x00000401");
    }
}
