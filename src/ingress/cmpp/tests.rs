//! What tests of CMPP in need; the server itself is tried by `tests/e2e/cmpp_server.rs`, with clients that others wrote.

use crate::model::{Channel, Secret};
use crate::policy::{BindTerms, Client, CmppTerms};

/// A client that may log in as 900001.
pub(super) fn client() -> Client {
    let (sp_id, secret) = ("900001".into(), Secret::new("888888"));
    Client {
        channels: vec![Channel::Sms],
        countries: vec!["+86".to_owned()],
        cmpp: Some(CmppTerms { sp_id, secret, terms: BindTerms::default() }),
        ..Client::bare("shop")
    }
}
