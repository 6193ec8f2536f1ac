//! Tags of the optional parameters that we know (P34 section 5.3.2).

/// `receipted_message_id`.
pub const RECEIPTED_MESSAGE_ID: u16 = 0x001E;
/// `message_payload`: a message too long for `short_message`.
pub const MESSAGE_PAYLOAD: u16 = 0x0424;
/// `message_state`.
pub const MESSAGE_STATE: u16 = 0x0427;
/// `sc_interface_version`.
pub const SC_INTERFACE_VERSION: u16 = 0x0210;
