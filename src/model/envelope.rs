//! What goes with a message from acceptance to its end.

use std::fmt;
use std::sync::Arc;

use super::{Address, Channel, Class, MailData, MessageId, ReversePath, SenderId, SmsText};
use crate::clock::Timestamp;

/// The configured name of a client: who submitted.
pub type ClientName = Arc<str>;

/// Position of a recipient in [`Envelope::recipients`]; stable for the life of the message.
pub type RecipientIndex = u32;

/// A message on its way into the queue.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Everything but the content.
    pub envelope: Envelope,
    /// The content.
    pub content: Content,
}

/// What is to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A mail, as it will go out, trace fields included and signatures not.
    Mail(MailData),
    /// A text.
    Text(SmsText),
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Mail(d) => d.len(),
            Self::Text(t) => t.as_str().len(),
        }
    }

    /// True if there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Everything about a message but its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Its name for life.
    pub id: MessageId,
    /// Who submitted it.
    pub client: ClientName,
    /// Priority and rules.
    pub class: Class,
    /// The client's campaign word.
    pub campaign: Option<Arc<str>>,
    /// The client's tags.
    pub tags: Vec<Arc<str>>,
    /// The client's own reference.
    pub client_ref: Option<Arc<str>>,
    /// When it was received.
    pub received_at: Timestamp,
    /// Not to be sent before this time.
    pub send_at: Option<Timestamp>,
    /// After this time it is not sent any more. `None` until the queue applies its class's default.
    pub expires_at: Option<Timestamp>,
    /// The key under which a repeated submission is recognised.
    pub idempotency: Option<Idempotency>,
    /// What is particular to the channel.
    pub origin: Origin,
    /// Whom it goes to: at least one.
    pub recipients: Vec<Recipient>,
}

impl Envelope {
    /// How it travels.
    pub fn channel(&self) -> Channel {
        match self.origin {
            Origin::Mail(_) => Channel::Email,
            Origin::Text(_) => Channel::Sms,
        }
    }

    /// The mail half, if it is a mail.
    pub fn mail(&self) -> Option<&MailOrigin> {
        match &self.origin {
            Origin::Mail(m) => Some(m),
            Origin::Text(_) => None,
        }
    }

    /// The text half, if it is a text.
    pub fn text(&self) -> Option<&TextOrigin> {
        match &self.origin {
            Origin::Text(t) => Some(t),
            Origin::Mail(_) => None,
        }
    }
}

/// The sender's side, by channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A mail.
    Mail(MailOrigin),
    /// A text.
    Text(TextOrigin),
}

/// A mail's sender's side: the MAIL command and what ingress worked out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailOrigin {
    /// Where notifications go.
    pub reverse_path: ReversePath,
    /// The content's kind (RFC 6152).
    pub body: BodyKind,
    /// SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// RET (RFC 3461 section 4.3).
    pub ret: Option<Ret>,
    /// ENVID, still xtext-encoded (RFC 3461 section 4.4).
    pub envid: Option<Arc<str>>,
    /// What the sender wants of TLS on the way (RFC 8689).
    pub tls: TlsWish,
    /// SHA-256 of the body in relaxed canonical form (RFC 6376 section 3.4.4), taken at ingress.
    pub body_hash: [u8; 32],
    /// Bytes of the content before the body: the header section and the empty line that ends it.
    pub header_bytes: u32,
}

/// What a mail's content may hold (RFC 6152, RFC 3030).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyKind {
    /// US-ASCII.
    #[default]
    SevenBit,
    /// Octets above 127 in lines.
    EightBit,
}

/// What a mail's sender wants of TLS on its way (RFC 8689).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsWish {
    /// Nothing: policies hold.
    #[default]
    None,
    /// `REQUIRETLS`: every host on the way has a certificate that proves its name and promises the same; else the mail
    /// fails.
    Required,
    /// `TLS-Required: No`: it had better arrive than be secret, whatever the recipient's domain publishes.
    NotRequired,
}

impl TlsWish {
    /// All wishes, with the words for them; nothing has none.
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("requiretls", Self::Required), ("tls-required: no", Self::NotRequired)];

    /// Its word.
    pub fn as_str(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(_, wish)| *wish == self).map(|(word, _)| *word)
    }
}

/// How much of a failed mail its notification returns (RFC 3461 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ret {
    /// The whole mail.
    Full,
    /// Its header section.
    Headers,
}

/// A text's sender's side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextOrigin {
    /// The sender shown, or the carrier's default.
    pub from: Option<SenderId>,
}

/// One recipient and what the sender wants to hear about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// Where it goes.
    pub address: Address,
    /// NOTIFY (RFC 3461 section 4.1); `None` if the client said nothing.
    pub notify: Option<Notify>,
    /// ORCPT (RFC 3461 section 4.2).
    pub original: Option<OriginalRecipient>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    pub fn new(address: Address) -> Self {
        Self { address, notify: None, original: None }
    }
}

/// When a notification is wanted (RFC 3461 section 4.1). All false is `NEVER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On permanent failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

impl Notify {
    /// `NOTIFY=NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
}

/// The recipient the message was first addressed to (RFC 3461 section 4.2): `rfc822;user+40example.com`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginalRecipient {
    /// `addr-type`, mostly `rfc822`.
    pub kind: Arc<str>,
    /// The address, still xtext-encoded.
    pub xtext: Arc<str>,
}

/// A client's own key for a submission: the same key with the same content is the same message.
#[derive(Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key as given.
    pub key: Arc<str>,
    /// SHA-256 of what was submitted under it.
    pub fingerprint: [u8; 32],
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idempotency({})", self.key)
    }
}
