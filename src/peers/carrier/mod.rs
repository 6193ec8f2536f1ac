//! A carrier to try things with: an SMPP 3.4 and 5.0 message centre, a gateway of CMPP 2.0 and 3.0, of SMGP 3.0 and 1.3 and of SGIP
//! 1.2, and an endpoint of HTTP, on real sockets.
//!
//! **What.** Tells from a client's first octets what it speaks, takes binds and texts, puts long texts together, hands each whole text to whoever asked for it, and sends
//! delivery receipts and what handsets answer, all as slowly, forgetfully, grumpily or [wrongly](Fault) as its [`Options`] say. Behind
//! `postrider sink`, the sandbox
//! and the tests.
//!
//! **Promises.** Speaks by the book, unless asked not to, to well-behaved peers and survives the others. Everything it keeps is bounded: at a
//! bound it answers "message queue full" ("flow control" in CMPP, "busy" in SMGP and SGIP) or stops reading. A receipt is brought again until it is taken,
//! at most [`Options::receipt_tries_max`] times. It keeps everything in memory, and its yes is worth as much; it is no
//! part of the relay.
//!
//! **Does not know** disk, or anything of the relay but the wire.

mod assembly;
mod connection;
mod faults;
mod handsets;
mod http;
mod receipts;
mod talk;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::assembly::Assembly;
pub use self::faults::{Fault, Faults};
pub use self::handsets::Reply;
use self::receipts::{AllReceipts, Spoken};
use crate::clock::{SharedClock, SystemClock};
use crate::model::{MessageId, Responsibility, Secret};
use crate::wire::cmpp::SubmitResult;
use crate::wire::sgip::SgipResult;
use crate::wire::smgp;
use crate::wire::smpp::CommandStatus;

/// How the simulated carrier behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub address: String,
    /// The one system id that may bind; empty: any, with any password.
    pub system_id: String,
    /// Its password.
    pub password: Secret,
    /// With it clients may begin TLS, whatever they speak inside but HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long the answer to each part is held back.
    pub latency: Duration,
    /// The first so many submissions are answered "throttled".
    pub throttle_first: u64,
    /// The share of submissions answered "throttled": 0 to 1.
    pub throttle_share: f64,
    /// The share of submissions refused: 0 to 1.
    pub refuse_share: f64,
    /// What refused submissions are answered in SMPP.
    pub refuse_status: CommandStatus,
    /// What refused submissions are answered in CMPP.
    pub refuse_result: SubmitResult,
    /// What refused submissions are answered in SMGP.
    pub refuse_smgp_status: smgp::Status,
    /// What refused submissions are answered in SGIP.
    pub refuse_sgip_result: SgipResult,
    /// Where receipts and handsets' messages go in SGIP; without it they wait.
    pub sgip_callback: Option<SgipCallback>,
    /// How long after its answer a part's receipt is sent.
    pub receipt_delay: Duration,
    /// The share of receipts that say undeliverable: 0 to 1.
    pub undeliverable_share: f64,
    /// How message ids are written in SMPP; CMPP's and SMGP's are numbers.
    pub ids: IdForm,
    /// How full it says it is, in percent, to clients that speak SMPP 5.0.
    pub congestion: Option<u8>,
    /// SMPP's receipts also carry `receipted_message_id` and `message_state`.
    pub receipt_tlvs: bool,
    /// Pause before a receipt that was not taken is brought again.
    pub receipt_retry: Duration,
    /// Times a receipt is brought at most.
    pub receipt_tries_max: u32,
    /// Most receipts waiting; at the limit submissions are answered "message queue full".
    pub receipts_waiting_max: usize,
    /// Most connections at a time; more are closed at once.
    pub connections_max: usize,
    /// What handsets answer to texts.
    pub replies: Vec<Reply>,
    /// What it does wrong.
    pub faults: Faults,
    /// Where each whole text goes; while it has no room, reading stops.
    pub received: Option<mpsc::Sender<ReceivedText>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".to_owned(),
            system_id: String::new(),
            password: Secret::new(""),
            tls: None,
            latency: Duration::ZERO,
            throttle_first: 0,
            throttle_share: 0.0,
            refuse_share: 0.0,
            refuse_status: CommandStatus::INVALID_DESTINATION,
            refuse_result: SubmitResult::BAD_DESTINATION,
            refuse_smgp_status: smgp::Status::BAD_DESTINATION,
            refuse_sgip_result: SgipResult::BAD_NUMBER,
            sgip_callback: None,
            receipt_delay: Duration::from_millis(200),
            undeliverable_share: 0.0,
            ids: IdForm::Decimal,
            congestion: None,
            receipt_tlvs: false,
            receipt_retry: Duration::from_secs(1),
            receipt_tries_max: 20,
            receipts_waiting_max: 100_000,
            connections_max: 64,
            replies: Vec::new(),
            faults: Faults::default(),
            received: None,
        }
    }
}

/// A client's own listener, to which a gateway of SGIP comes.
#[derive(Clone, Debug)]
pub struct SgipCallback {
    /// `host:port`.
    pub address: String,
    /// The name that is said there, at most 16 octets.
    pub login: String,
    /// The password, at most 16 octets.
    pub password: Secret,
}

/// How message ids are written in answers and in receipts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdForm {
    /// Decimal in both.
    #[default]
    Decimal,
    /// Hexadecimal in the answer, decimal with leading zeros in the receipt, as some carriers do.
    HexThenDecimal,
}

/// A text as the handset would show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedText {
    /// Who it says it is from; empty for the carrier's own number.
    pub source: String,
    /// The number it went to, without `+`.
    pub destination: String,
    /// The words.
    pub text: String,
    /// How many parts it came in.
    pub parts: usize,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the simulator has seen so far.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        struct Counters {
            $($name: AtomicU64,)*
        }

        impl Counters {
            fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Connections taken.
    connections,
    /// Binds answered yes.
    binds,
    /// Binds refused.
    binds_refused,
    /// Binds to clients' own listeners (SGIP) that were answered yes.
    calls,
    /// Those that were refused, or came to nothing.
    calls_refused,
    /// Parts received on bound connections.
    submissions,
    /// Parts answered yes.
    taken,
    /// Submissions answered "throttled".
    throttled,
    /// Submissions refused.
    refused,
    /// Submissions put off because too many receipts waited.
    queue_full,
    /// Whole texts.
    texts,
    /// Receipts sent.
    receipts_sent,
    /// Receipts answered yes.
    receipts_acknowledged,
    /// Receipts answered otherwise, or cut off.
    receipts_put_off,
    /// Receipts, and parts of replies, brought as often as allowed, in vain.
    receipts_given_up,
    /// Parts of replies answered yes.
    replies_acknowledged,
    /// Parts of replies answered otherwise, or cut off.
    replies_put_off,
    /// Times that something was done wrong on purpose.
    faults,
}

/// A running or ready carrier simulator.
#[derive(Debug)]
pub struct CarrierSim {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    clock: SharedClock,
    counters: Counters,
    receipts: AllReceipts,
    assembly: Mutex<Assembly>,
    ids: AtomicU64,
    /// A link was closed on purpose.
    has_closed: AtomicBool,
}

/// The simulator's responsibility for a text: it has it in memory, and that is all it claims.
#[derive(Debug)]
struct Simulated(MessageId);

impl Responsibility for Simulated {
    fn message_id(&self) -> MessageId {
        self.0
    }
}

impl CarrierSim {
    /// Listens; nothing is accepted until [`CarrierSim::run`].
    ///
    /// # Errors
    /// The operating system's.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(&options.address).await?;
        let receipts = AllReceipts::new(options.receipts_waiting_max);
        let shared = Shared {
            options,
            clock: SystemClock::shared(),
            counters: Counters::default(),
            receipts,
            assembly: Mutex::new(Assembly::default()),
            has_closed: AtomicBool::new(false),
            ids: AtomicU64::new(fastrand::u64(0x1000_0000..0x8000_0000)),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Serves until `shutdown` completes; then all connections are closed. Receipts that wait are kept for the next run.
    ///
    /// # Errors
    /// None that accepting a single connection brings; those are waited out.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        tokio::pin!(shutdown);
        let (mut connections, mut calls) = (JoinSet::new(), JoinSet::new());
        if let Some(callback) = self.shared.options.sgip_callback.clone() {
            calls.spawn(call_back(callback, Arc::clone(&self.shared)));
        }
        let by_http = Arc::clone(&self.shared);
        calls.spawn(async move { match http::call_back(by_http).await {} });
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < self.shared.options.connections_max => {
                        let link = self.shared.counters.connections.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(connection::serve(stream, link, Arc::clone(&self.shared)));
                    }
                    Ok(_) => {}
                    // Out of descriptors, mostly: others must close first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

/// How long nobody is called again.
const CALL_PAUSE: Duration = Duration::from_millis(200);

/// Goes to a client of SGIP whenever there is something for it.
async fn call_back(callback: SgipCallback, shared: Arc<Shared>) {
    loop {
        shared.receipts.of(Spoken::Sgip).due(&shared.clock).await;
        match TcpStream::connect(&callback.address).await {
            Ok(stream) => connection::call(stream, Arc::clone(&shared)).await,
            Err(_) => count(&shared.counters.calls_refused),
        }
        tokio::time::sleep(CALL_PAUSE).await;
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
