//! What HTTP and SMPP ask of the layers below: who is this, take this, what became of that.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Class, ClientName, Envelope, MessageId, Money, Number, Responsibility, Secret, Submission};
use crate::policy::credentials::{Credentials, CredentialsError};
use crate::policy::opt_outs::{OptOuts, Wanted};
use crate::policy::texts::Ledger;
use crate::policy::{Client, Refusal};
use crate::queue::{AcceptError, Accepted, MessageView, Queue};
use crate::sms::Repertoire;

/// The layers below, as seen from here; a trait so that tests need neither disk nor argon2.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The proof that a yes is made from.
    type Accepted: Acceptance + Send + 'static;

    /// Takes responsibility for a message.
    fn accept(&self, submission: Submission) -> impl Future<Output = Result<Self::Accepted, AcceptError>> + Send;

    /// The yes to the same submission under the same idempotency key, if there was one.
    fn accepted_before(
        &self,
        envelope: &Envelope,
    ) -> impl Future<Output = Result<Option<Self::Accepted>, AcceptError>> + Send;

    /// May this text be sent, for all that its number has opted out of?
    fn may_send(&self, text: Wanted<'_>) -> Result<(), Refusal>;

    /// What texts have cost today.
    fn ledger(&self) -> &Ledger;

    /// Who would get a text first, and what it takes for a part there, if that is known.
    fn price(&self, to: &Number, class: Class, client: &ClientName) -> Option<PartPrice>;

    /// What the carrier knows to read who would get a text first.
    fn repertoire(&self, to: &Number, class: Class, client: &ClientName) -> Repertoire;

    /// What is known of a message of that client.
    fn message(&self, id: MessageId, client: &ClientName) -> impl Future<Output = Option<MessageView>> + Send;

    /// Checks a name and a password.
    fn password(
        &self,
        name: &str,
        password: &Secret,
        peer: IpAddr,
    ) -> impl Future<Output = Result<Arc<Client>, CredentialsError>> + Send;

    /// Checks an API key.
    fn api_key(&self, key: &Secret, peer: IpAddr)
    -> impl Future<Output = Result<Arc<Client>, CredentialsError>> + Send;
}

/// What a part of a text costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartPrice {
    /// The carrier that takes so much.
    pub carrier: Arc<str>,
    /// For one part.
    pub part: Money,
    /// In this currency.
    pub currency: Arc<str>,
}

/// A yes of the queue.
pub trait Acceptance: Responsibility {
    /// The same submission had been accepted before, under its idempotency key.
    fn replayed(&self) -> bool;
}

impl Acceptance for Accepted {
    fn replayed(&self) -> bool {
        Accepted::replayed(self)
    }
}

/// The real thing.
#[derive(Clone, Debug)]
pub struct Live {
    /// The queue.
    pub queue: Queue,
    /// Who the clients are.
    pub credentials: Credentials,
    /// Who wants no more texts.
    pub opt_outs: OptOuts,
    /// What texts have cost today.
    pub ledger: Ledger,
}

impl Backend for Live {
    type Accepted = Accepted;

    async fn accept(&self, submission: Submission) -> Result<Accepted, AcceptError> {
        self.queue.accept(submission).await
    }

    async fn accepted_before(&self, envelope: &Envelope) -> Result<Option<Accepted>, AcceptError> {
        self.queue.accepted_before(envelope).await
    }

    fn may_send(&self, text: Wanted<'_>) -> Result<(), Refusal> {
        self.opt_outs.may_send(text)
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn price(&self, to: &Number, class: Class, client: &ClientName) -> Option<PartPrice> {
        let routes = self.queue.routes();
        let (carrier, part) = routes.text.first(to, class, client)?;
        Some(PartPrice { carrier: carrier.clone(), part: part?, currency: routes.text.prices().currency().clone() })
    }

    fn repertoire(&self, to: &Number, class: Class, client: &ClientName) -> Repertoire {
        self.queue.routes().text.repertoire(to, class, client)
    }

    async fn message(&self, id: MessageId, client: &ClientName) -> Option<MessageView> {
        self.queue.message(id, Some(client)).await
    }

    async fn password(&self, name: &str, password: &Secret, peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        self.credentials.password(name, password, peer).await
    }

    async fn api_key(&self, key: &Secret, peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        self.credentials.api_key(key, peer).await
    }
}
