//! The two channels and the three classes of traffic.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// Mail, by SMTP.
    Email,
    /// A text, by a carrier's protocol.
    Sms,
}

impl Channel {
    /// The word used in configuration, API, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One word that sets priority, default expiry and retry, pool and rules. Ordered by urgency: `Otp` first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Verification codes: seconds count, the content is masked wherever it is shown.
    Otp,
    /// Order and parcel notices, receipts.
    #[default]
    Transactional,
    /// Campaigns.
    Marketing,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Otp, Self::Transactional, Self::Marketing];

    /// The word used in configuration, API, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Otp => "otp",
            Self::Transactional => "transactional",
            Self::Marketing => "marketing",
        }
    }

    /// Position in [`Class::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = NotAClass;

    fn from_str(text: &str) -> Result<Self, NotAClass> {
        Self::ALL.into_iter().find(|c| c.as_str().eq_ignore_ascii_case(text.trim())).ok_or(NotAClass)
    }
}

/// The word names no class.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAClass;

impl fmt::Display for NotAClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown class: expected otp, transactional or marketing")
    }
}

impl std::error::Error for NotAClass {}
