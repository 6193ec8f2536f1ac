//! What clients that bind have in common, whatever they speak: SMPP's ESMEs and CMPP's SPs submit texts over links that stay, and
//! are brought receipts and what handsets answer.
//!
//! **What.** [`Server`] accepts connections; `link` drives what a [`Protocol`] says over each; `part` is a submission in the engine's
//! words, `taking` hands texts to the queue, joining long ones, [`outbox`] keeps what is to be brought. `presence` knows what a
//! client has going on over all its binds.
//!
//! **Promises.** Nobody submits without a bind; a refusal never says which names there are. A yes only from the queue's proof, or the
//! journal's for a part of a long text. What `POST /v1/sms` refuses is refused here. Connections, binds, windows, rates, parts,
//! receipts and every wait have limits in [`Options`] and [`BindTerms`](crate::policy::BindTerms).
//!
//! **Shutdown.** The listener closes first; submissions under way get their answer, then the peer is asked to unbind; after
//! [`Options::drain_timeout`] what is left is cut off. What was cut off had no yes, so its client still has it.
//!
//! **Does not know** PDUs, nor how texts are stored or sent on.

mod kept;
mod link;
mod options;
pub mod outbox;
mod part;
mod presence;
mod server;
mod taking;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

pub(super) use self::link::{End, Entered, GivenId, Parted, Parting, Protocol, Said, Session, Wire};
pub use self::options::Options;
pub use self::outbox::Outbox;
pub(super) use self::outbox::Speaks;
pub(super) use self::part::{Ground, Part, Party, Rejected, Wish, time};
#[cfg(test)]
pub(super) use self::part::{Line, words};
pub(super) use self::presence::BindSlot;
use self::presence::Presences;
pub use self::server::{Listener, Server};
use crate::clock::SharedClock;
use crate::event::log::EventLog;
use crate::event::metrics::{Metrics, SmppMetrics};
use crate::ingress::backend::Live;
use crate::ingress::slots::Slots;
use crate::policy::credentials::CredentialsError;
use crate::policy::texts::Caps;
use crate::policy::{BindTerms, Client, Clients};
use crate::storage::Disk;
use crate::storage::joining::PartsWaiting;
use crate::wire::cmpp::MsgId;
use crate::wire::cmpp::msg_id::Series;

/// What the server works with.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The clients; may be swapped.
    pub clients: Arc<ArcSwap<Clients>>,
    /// Queue, credentials and opt-outs.
    pub live: Live,
    /// What numbers have been sent lately.
    pub caps: Caps,
    /// What clients are to be brought.
    pub outbox: Arc<Outbox>,
    /// Where parts that do not become whole are told.
    pub events: EventLog,
    /// The certificate, if there is one; may be swapped.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

/// What all listeners of a protocol have in common.
pub struct Shared {
    pub(super) speaks: Speaks,
    pub(super) options: Arc<ArcSwap<Options>>,
    pub(super) clients: Arc<ArcSwap<Clients>>,
    pub(super) live: Live,
    caps: Caps,
    pub(super) outbox: Arc<Outbox>,
    pub(super) events: EventLog,
    pub(super) tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) parts: PartsWaiting<Part>,
    pub(super) slots: Slots,
    pub(super) presences: Presences,
    /// Gives CMPP's ids.
    pub(super) ids: Series,
}

/// How long it is waited for a second that has ids left.
const ID_PAUSE: Duration = Duration::from_millis(20);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("speaks", &self.speaks).finish_non_exhaustive()
    }
}

impl Shared {
    /// Reads the parts that wait from the file at `parts`. Blocks. Connections are counted over all listeners that share the
    /// result.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn open(
        speaks: Speaks,
        disk: Arc<dyn Disk>,
        parts: &Path,
        options: Arc<ArcSwap<Options>>,
        parties: Parties,
    ) -> io::Result<Arc<Self>> {
        let parts = PartsWaiting::open(disk, parts, options.load().joining_max)?;
        let Parties { clients, live, caps, outbox, events, tls, metrics, clock } = parties;
        let (slots, presences) = (Slots::default(), Presences::default());
        let ids = Series::new(clock.now());
        let shared = Self {
            speaks,
            options,
            clients,
            live,
            caps,
            outbox,
            events,
            tls,
            metrics,
            clock,
            parts,
            slots,
            presences,
            ids,
        };
        Ok(Arc::new(shared))
    }

    /// Looks after parts that wait, for as long as the server lives.
    pub fn keep_up(shared: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        taking::keep_up(Arc::downgrade(shared))
    }

    /// Who came of a check of credentials, which is counted.
    pub(super) fn checked(
        &self,
        checked: Result<Arc<Client>, CredentialsError>,
        peer: SocketAddr,
    ) -> Option<Arc<Client>> {
        let result = match &checked {
            Ok(_) => "ok",
            Err(CredentialsError::Bad) => "bad",
            Err(CredentialsError::Limited) => "limited",
            Err(CredentialsError::Busy) => "busy",
        };
        self.metrics.credentials_checked.with_label_values(&[result]).inc();
        if checked.is_err() {
            tracing::info!(%peer, result, speaks = self.speaks.name(), "bind refused");
        }
        checked.ok()
    }

    /// A client's bind, if it may have one more.
    pub(super) fn bind(&self, client: &Client, terms: &BindTerms, peer: SocketAddr) -> Option<BindSlot> {
        let slot = self.presences.of(&client.name, self.metrics()).bind(terms);
        if slot.is_none() {
            let speaks = self.speaks.name();
            tracing::info!(%peer, client = %client.name, speaks, "bind refused: it has as many as it may");
        }
        slot
    }

    /// The next Msg_Id; waits for the next second, where one has given all that it has.
    pub(super) async fn msg_id(&self, gateway: u32) -> MsgId {
        loop {
            if let Some(id) = self.ids.next(gateway, self.clock.now()) {
                return id;
            }
            tokio::time::sleep(ID_PAUSE).await;
        }
    }

    /// What its protocol counts.
    pub(super) fn metrics(&self) -> &SmppMetrics {
        self.speaks.metrics(&self.metrics)
    }
}
