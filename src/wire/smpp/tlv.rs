//! Tags of the optional parameters that we know (P34 section 5.3.2).

/// `qos_time_to_live`: how long a message is worth anything, in seconds.
pub const QOS_TIME_TO_LIVE: u16 = 0x0017;
/// `receipted_message_id`.
pub const RECEIPTED_MESSAGE_ID: u16 = 0x001E;
/// `sar_msg_ref_num`: what the parts of a message share.
pub const SAR_MSG_REF_NUM: u16 = 0x020C;
/// `sar_total_segments`: how many parts there are.
pub const SAR_TOTAL_SEGMENTS: u16 = 0x020E;
/// `sar_segment_seqnum`: which part it is, from 1.
pub const SAR_SEGMENT_SEQNUM: u16 = 0x020F;
/// `message_payload`: a message too long for `short_message`.
pub const MESSAGE_PAYLOAD: u16 = 0x0424;
/// `congestion_state`: how full the side is that answers (SMPP 5.0).
pub const CONGESTION_STATE: u16 = 0x0428;
/// `message_state`.
pub const MESSAGE_STATE: u16 = 0x0427;
/// `sc_interface_version`.
pub const SC_INTERFACE_VERSION: u16 = 0x0210;
