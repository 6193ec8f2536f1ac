//! AUTH PLAIN (RFC 4616) and LOGIN, as an exchange of lines (RFC 4954 section 4).
//!
//! **Promises.** What comes out is a name and a [`Secret`]; nothing else of the exchange is kept or shown. A broken
//! exchange has one reply and the connection goes on.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::command::Mechanism;
use super::reply::NegativeReply;
use crate::model::Secret;

/// What the client says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The authentication identity: a client's name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// What an exchange is waiting for.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN's only message.
    Plain,
    /// LOGIN's name.
    LoginName,
    /// LOGIN's password.
    LoginPassword {
        /// The name it is for.
        name: String,
    },
}

/// What comes of one line.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask with this 334 text and wait.
    Ask(&'static str, Exchange),
    /// Complete.
    Done(Identity),
    /// Over.
    Fail(NegativeReply),
}

/// Base64 of `Username:` and of `Password:`.
const ASK_NAME: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Padding is what clients most often get wrong, and it cannot be misread.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Begins with AUTH's own argument.
pub(super) fn begin(mechanism: Mechanism, initial: Option<&str>) -> Step {
    let exchange = match mechanism {
        Mechanism::Plain => Exchange::Plain,
        Mechanism::Login => Exchange::LoginName,
    };
    match (initial, &exchange) {
        // RFC 4954 section 4: "=" is an initial response of no octets.
        (Some("="), _) => exchange.decoded(String::new()),
        (Some(initial), _) => exchange.line(initial),
        (None, Exchange::Plain) => Step::Ask("", exchange),
        (None, _) => Step::Ask(ASK_NAME, exchange),
    }
}

impl Exchange {
    /// Goes on with a line of the client's.
    pub(super) fn line(self, line: &str) -> Step {
        if line == "*" {
            return Step::Fail(NegativeReply::new(501, (7, 0), "Authentication cancelled"));
        }
        match BASE64.decode(line).ok().and_then(|octets| String::from_utf8(octets).ok()) {
            Some(text) => self.decoded(text),
            None => Step::Fail(NegativeReply::new(501, (5, 2), "Cannot decode response: expected base64 of UTF-8")),
        }
    }

    fn decoded(self, text: String) -> Step {
        match self {
            Self::Plain => plain(&text),
            Self::LoginName => Step::Ask(ASK_PASSWORD, Self::LoginPassword { name: text }),
            Self::LoginPassword { name } => Step::Done(Identity { name, password: Secret::new(text) }),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`. Nobody may act for another, so an authorization identity must be the same.
fn plain(message: &str) -> Step {
    let mut fields = message.split('\0');
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(acting), Some(name), Some(password), None) if acting.is_empty() || acting == name => {
            Step::Done(Identity { name: name.to_owned(), password: Secret::new(password) })
        }
        (Some(_), Some(_), Some(_), None) => {
            Step::Fail(NegativeReply::new(535, (7, 8), "May not act for another identity"))
        }
        _ => Step::Fail(NegativeReply::new(501, (5, 2), "Malformed PLAIN message")),
    }
}
