//! Msg_Id (C3 section 8.4.3.2): what a gateway calls a message, in the answer to it and in its report.

use std::fmt;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use super::time::LoginTime;
use crate::clock::Timestamp;
use crate::wire::FieldError;

/// 64 bits: month 4, day 5, hour 5, minute 6, second 6, gateway 22, sequence 16. No year.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MsgId(pub u64);

/// What stands in a [`MsgId`] of a gateway that keeps to the standard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23, China's time.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// The gateway's code, 22 bits.
    pub gateway: u32,
    /// Counts within a second.
    pub sequence: u16,
}

impl MsgId {
    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        body.try_get_u64().map(Self).map_err(|_| FieldError { field: "Msg_Id" })
    }

    /// Puts it together; of each field the bits that have room count.
    pub const fn new(fields: Fields) -> Self {
        Self(
            ((fields.month as u64) & 0xF) << 60
                | ((fields.day as u64) & 0x1F) << 55
                | ((fields.hour as u64) & 0x1F) << 50
                | ((fields.minute as u64) & 0x3F) << 44
                | ((fields.second as u64) & 0x3F) << 38
                | ((fields.gateway as u64) & 0x3F_FFFF) << 16
                | fields.sequence as u64,
        )
    }

    /// Takes it apart. Values may be nonsense: gateways may count as they like.
    pub const fn fields(self) -> Fields {
        Fields {
            month: (self.0 >> 60) as u8 & 0xF,
            day: (self.0 >> 55) as u8 & 0x1F,
            hour: (self.0 >> 50) as u8 & 0x1F,
            minute: (self.0 >> 44) as u8 & 0x3F,
            second: (self.0 >> 38) as u8 & 0x3F,
            gateway: (self.0 >> 16) as u32 & 0x3F_FFFF,
            sequence: self.0 as u16,
        }
    }
}

/// In decimal, as gateways' own tools show it. The one form under which it is kept.
impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MsgId({:#018X})", self.0)
    }
}

/// Ids that a gateway gives, none of them twice within a year as long as the clock is not put back: not even over a crash, since
/// those of the second in which it started are left to whoever ran before.
#[derive(Debug)]
pub struct Series {
    started: u64,
    last: Mutex<(u64, u32)>,
}

/// Ids of one second.
const IDS_A_SECOND: u32 = 0x1_0000;

impl Series {
    /// Of a gateway that starts now.
    pub fn new(now: Timestamp) -> Self {
        Self { started: now.seconds(), last: Mutex::new((0, 0)) }
    }

    /// The next one; `None` if there is none (left) in this second.
    pub fn next(&self, gateway: u32, now: Timestamp) -> Option<MsgId> {
        let second = now.seconds();
        if second <= self.started {
            return None;
        }
        let mut last = self.last.lock();
        if second > last.0 {
            *last = (second, 0);
        }
        let sequence = u16::try_from(last.1).ok().filter(|_| second == last.0 && last.1 < IDS_A_SECOND)?;
        last.1 += 1;
        // MMDDhhmmss as digits of a number.
        let digits = LoginTime::at(now).0;
        let pair = |position: u32| u8::try_from(digits / 100_u32.pow(position) % 100).unwrap_or_default();
        Some(MsgId::new(Fields {
            month: pair(4),
            day: pair(3),
            hour: pair(2),
            minute: pair(1),
            second: pair(0),
            gateway,
            sequence,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_that_of_the_standard() {
        let fields = Fields { month: 11, day: 22, hour: 20, minute: 58, second: 26, gateway: 123_456, sequence: 1 };
        assert_eq!(MsgId::new(fields), MsgId(0xBB53_A681_E240_0001));
        assert_eq!(MsgId(0xBB53_A681_E240_0001).fields(), fields);
        assert_eq!(MsgId(0xBB53_A681_E240_0001).to_string(), "13498315584936345601");
    }

    proptest! {
        #[test]
        fn nothing_of_an_id_is_lost(id: u64) {
            prop_assert_eq!(MsgId::new(MsgId(id).fields()), MsgId(id));
        }
    }

    #[test]
    fn a_series_gives_none_twice_and_none_of_the_second_it_started_in() {
        let start = Timestamp::from_seconds(1_795_780_800);
        let series = Series::new(start);
        assert_eq!(series.next(7, start), None);
        let then = Timestamp::from_seconds(1_795_780_801);
        let first = series.next(7, then).unwrap();
        let fields = Fields { month: 11, day: 27, hour: 20, minute: 0, second: 1, gateway: 7, sequence: 0 };
        assert_eq!(first.fields(), fields);
        let all: std::collections::HashSet<MsgId> = std::iter::from_fn(|| series.next(7, then)).collect();
        assert_eq!((all.len(), all.contains(&first)), (0xFFFF, false));
        assert_eq!(series.next(7, then), None, "the second has no more");
        assert_eq!(series.next(7, start), None, "nor has one before it");
        assert!(series.next(7, Timestamp::from_seconds(1_795_780_802)).is_some());
    }
}
