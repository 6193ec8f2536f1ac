//! What tests of CMPP in need; the server itself is tried by `tests/e2e/cmpp_server.rs`, with clients that others wrote.

use crate::model::{Channel, Secret};
use crate::policy::{BindTerms, Client, CmppTerms, SmppTerms};

/// A client that may log in as 900001.
pub(super) fn client() -> Client {
    let (sp_id, secret) = ("900001".into(), Secret::new("888888"));
    Client {
        name: "shop".into(),
        password: None,
        api_keys: Vec::new(),
        channels: vec![Channel::Sms],
        senders: Vec::new(),
        numbers: Vec::new(),
        countries: vec!["+86".to_owned()],
        signatures: Vec::new(),
        templates_only: false,
        bounces: true,
        transliterate: false,
        daily_spend: None,
        smpp: SmppTerms::default(),
        cmpp: Some(CmppTerms { sp_id, secret, terms: BindTerms::default() }),
    }
}
