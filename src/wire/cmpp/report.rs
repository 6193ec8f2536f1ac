//! Status reports: what a DELIVER with Registered_Delivery 1 brings as its content (C3 section 8.4.5.1).
//!
//! **Promises.** The layout follows the length of the content, 60 or 71 octets, and not the version of the link: some
//! gateways bring 60 on 3.0.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MsgId, Octets, Version};
use crate::wire::FieldError;
use crate::wire::gateway::octets::number;

/// A status report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What it is about: the Msg_Id of the SUBMIT_RESP.
    pub msg_id: MsgId,
    /// What became of it: `DELIVRD` and its like, or a code of the part of the network that failed.
    pub stat: Octets<7>,
    /// When it was submitted: `YYMMDDhhmm`, China's time.
    pub submit_time: Octets<10>,
    /// When it ended.
    pub done_time: Octets<10>,
    /// To whom it went.
    pub dest_terminal_id: Octets<32>,
    /// The message centre's number for it.
    pub smsc_sequence: u32,
}

/// Octets of Dest_terminal_Id.
const fn terminal_width(version: Version) -> usize {
    match version {
        Version::V2 => 21,
        Version::V3 => 32,
    }
}

/// Octets of a report.
pub const fn length(version: Version) -> usize {
    39 + terminal_width(version)
}

impl Report {
    /// Reads the content of a DELIVER.
    ///
    /// # Errors
    /// [`FieldError`] if it has neither of the two lengths.
    pub fn read(content: &Bytes) -> Result<Self, FieldError> {
        let version = match content.len() {
            60 => Version::V2,
            71 => Version::V3,
            _ => return Err(FieldError { field: "Msg_Length" }),
        };
        let body = &mut content.clone();
        Ok(Self {
            msg_id: MsgId::read(body)?,
            stat: Octets::read("Stat", body)?,
            submit_time: Octets::read("Submit_time", body)?,
            done_time: Octets::read("Done_time", body)?,
            dest_terminal_id: Octets::read_narrow("Dest_terminal_Id", terminal_width(version), body)?,
            smsc_sequence: number("SMSC_sequence", body)?,
        })
    }

    /// Writes it in the layout of a version.
    pub fn write(&self, version: Version) -> Bytes {
        let mut out = BytesMut::with_capacity(length(version));
        out.put_u64(self.msg_id.0);
        self.stat.put(&mut out);
        self.submit_time.put(&mut out);
        self.done_time.put(&mut out);
        self.dest_terminal_id.put_narrow(terminal_width(version), &mut out);
        out.put_u32(self.smsc_sequence);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        Report {
            msg_id: MsgId(0xBB53_A681_E240_0001),
            stat: Octets::new("Stat", "DELIVRD").unwrap(),
            submit_time: Octets::new("Submit_time", "2611240224").unwrap(),
            done_time: Octets::new("Done_time", "2611240225").unwrap(),
            dest_terminal_id: Octets::new("Dest_terminal_Id", "8613800138000").unwrap(),
            smsc_sequence: 0x0102_0304,
        }
    }

    #[test]
    fn the_octets_are_those_of_the_standard() {
        let head = b"\xBB\x53\xA6\x81\xE2\x40\x00\x01DELIVRD261124022426112402258613800138000";
        for (version, zeros) in [(Version::V2, 8), (Version::V3, 19)] {
            let mut expected = head.to_vec();
            expected.extend(vec![0; zeros]);
            expected.extend([1, 2, 3, 4]);
            assert_eq!(report().write(version), expected);
            assert_eq!(expected.len(), length(version));
            assert_eq!(Report::read(&expected.into()), Ok(report()));
        }
        assert_eq!((length(Version::V2), length(Version::V3)), (60, 71));
    }

    proptest! {
        #[test]
        fn any_content_of_the_right_length_is_read(content in proptest::collection::vec(any::<u8>(), 0..100)) {
            let right = [60, 71].contains(&content.len());
            prop_assert_eq!(Report::read(&content.into()).is_ok(), right);
        }

        #[test]
        fn both_lengths_are_read(content in proptest::collection::vec(any::<u8>(), 60), more: [u8; 11]) {
            prop_assert!(Report::read(&content.clone().into()).is_ok());
            prop_assert!(Report::read(&[&content[..], &more].concat().into()).is_ok());
        }
    }
}
