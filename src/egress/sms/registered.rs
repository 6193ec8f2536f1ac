//! Texts registered with a carrier: which of them a text is.
//!
//! **Does not know** what a carrier makes of it.

use std::sync::Arc;

use crate::sms::Template;

/// A text registered with a carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// The text, without a signature.
    pub template: Template,
    /// What the carrier calls it.
    pub id: Arc<str>,
    /// The signature that goes with it, without brackets; `None`: the text's own.
    pub signature: Option<Arc<str>>,
}

/// What is said of a text that is none of them.
pub(super) const FITS_NONE: &str = "not sent: the text fits no [[carrier.template]] of the account";

impl Registered {
    /// The first of them that a text with this signature and these words is, and what its variables hold.
    pub(super) fn of<'r, 't>(
        all: &'r [Self],
        signature: Option<&str>,
        body: &'t str,
    ) -> Option<(&'r Self, Vec<(&'r str, &'t str)>)> {
        let signed = |registered: &&Self| match (&registered.signature, signature) {
            (Some(registered), Some(signature)) => **registered == *signature,
            _ => true,
        };
        let mut fitting = all.iter().filter(signed);
        fitting.find_map(|registered| Some((registered, registered.template.values(body)?)))
    }
}
