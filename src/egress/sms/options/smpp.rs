//! What only SMPP knows of, in an account's settings.

use super::{Logins, OptionsError};
use crate::model::Secret;
use crate::wire::FieldError;
use crate::wire::smpp::{Bind, COctets, Version};

/// What only SMPP knows of.
#[derive(Clone, Debug)]
pub struct Smpp {
    /// What kind of system we are, at most 12 octets; mostly empty.
    pub system_type: String,
    /// Type of number of short codes and access numbers: 0 unknown (default), 3 network specific, 6 abbreviated.
    pub short_ton: u8,
    /// Numbering plan of these: 1 E.164 (default), 0 unknown.
    pub short_npi: u8,
    /// 3.4 or 5.0.
    pub version: Version,
    /// How a text that is too long for one part travels.
    pub long_texts: LongTexts,
    /// How the carrier is told until when a text may be delivered.
    pub validity: Validity,
    /// What its binds are for.
    pub logins: Logins,
}

impl Default for Smpp {
    fn default() -> Self {
        Self {
            system_type: String::new(),
            short_ton: 0,
            short_npi: 1,
            version: Version::V34,
            long_texts: LongTexts::Udh,
            validity: Validity::Relative,
            logins: Logins::Both,
        }
    }
}

/// How a text travels that is too long for one part. The limits of the alphabets are the same each way: where we write no header, the
/// carrier does, and it takes the same room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LongTexts {
    /// In parts, each with a user data header (3GPP TS 23.040 section 9.2.3.24.1): what every carrier takes.
    #[default]
    Udh,
    /// In parts whose places stand in `sar_msg_ref_num`, `sar_total_segments` and `sar_segment_seqnum` (P34 sections 5.3.2.22 to 24).
    Sar,
    /// As one message, in `message_payload` (P34 section 5.3.2.32), which the carrier cuts: one id, one receipt.
    Payload,
}

/// The form of `validity_period` (P34 section 7.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validity {
    /// A span from now, which needs no common clock.
    #[default]
    Relative,
    /// A time in UTC.
    Absolute,
    /// Not sent: the carrier's default holds, and a code may arrive late.
    Omitted,
}

impl Smpp {
    /// What is said in a bind request.
    pub(in crate::egress::sms) fn bind(&self, system_id: &str, password: &Secret) -> Result<Bind, OptionsError> {
        let too_long = |e: FieldError| OptionsError {
            option: e.field,
            expected: "fewer octets (15 in system_id, 64 in password, 12 in system_type) and no NUL",
        };
        Ok(Bind {
            system_id: COctets::new("system_id", system_id).map_err(too_long)?,
            password: COctets::new("password", password.expose()).map_err(too_long)?,
            system_type: COctets::new("system_type", &self.system_type).map_err(too_long)?,
            interface_version: self.version.octet(),
            ..Bind::default()
        })
    }
}
