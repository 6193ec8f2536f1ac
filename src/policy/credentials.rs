//! Checking who a client is, without letting strangers spend our CPU.
//!
//! **Promises.** At most `slots` argon2 checks run at a time and at most `waiting_max` wait; beyond that the answer is
//! [`CredentialsError::Busy`]. A password found right is remembered for a few minutes, so that an application's next
//! connections cost a hash and not 50 ms of CPU; what is remembered is an HMAC under a key of this process. An unknown name
//! costs as much as a known one. All tables are bounded.
//!
//! **After failures** attempts are refused unchecked for a while that doubles each time ([`CredentialsError::Limited`]),
//! counted twice: for a name *from one network* (IPv4 /24, IPv6 /64), and for the network whatever the name. There is no
//! limit on a name alone: with one, a stranger could lock a client out from anywhere. Two rules keep a network's failures
//! from its good clients: what is remembered as right is asked first, and a name that was right from that network lately is
//! not held up by the network's count. Guessing from many networks at once is slowed by the slots only; against that stands
//! the cost of argon2.
//!
//! **API keys** are random, so a fast hash serves, and a right key always passes; wrong ones count for the network.
//!
//! **Fails how.** A stored hash that cannot be read is logged, and no password is right for it.

mod failures;
mod generations;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use aws_lc_rs::{digest, hmac};
use parking_lot::Mutex;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio::sync::Semaphore;

use super::{Client, Clients};
use crate::clock::{Mono, SharedClock};
use crate::model::Secret;
pub use failures::Patience;
use failures::{Failures, Network, Pair};
use generations::Generations;

/// Why no client came of some credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialsError {
    /// Unknown name or key, or wrong password: never said which.
    Bad,
    /// This peer or this name failed too often lately; try again later.
    Limited,
    /// The pool that checks passwords is full; try again later.
    Busy,
}

/// Bounds of the checker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Password checks at a time. Default: half the processors, at least one.
    pub slots: usize,
    /// Checks that may wait for a slot. Default 64.
    pub waiting_max: usize,
    /// How long a password found right is remembered. Default 5 minutes.
    pub remember: Duration,
    /// How many are remembered. Default 10,000.
    pub remembered_max: usize,
    /// What follows failures.
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slots: (processors / 2).max(1),
            waiting_max: 64,
            remember: Duration::from_secs(300),
            remembered_max: 10_000,
            patience: Patience::default(),
        }
    }
}

/// Checks names with passwords, and API keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    clients: Arc<ArcSwap<Clients>>,
    checker: Arc<Checker>,
}

#[derive(Debug)]
struct Checker {
    clock: SharedClock,
    remember: Duration,
    /// Keys what is remembered; new in every process.
    key: hmac::Key,
    right: Mutex<Generations<[u8; 32], Mono>>,
    failures: Mutex<Failures>,
    slots: Arc<Semaphore>,
    waiting: Semaphore,
    /// A hash for names that have none, should no client have one.
    decoy: OnceLock<Option<String>>,
}

impl Credentials {
    /// A checker over a table of clients that may be swapped while it runs.
    pub fn new(clients: Arc<ArcSwap<Clients>>, clock: SharedClock) -> Self {
        Self::with_options(clients, clock, Options::default())
    }

    /// The same with other bounds.
    pub fn with_options(clients: Arc<ArcSwap<Clients>>, clock: SharedClock, options: Options) -> Self {
        let checker = Checker {
            clock,
            remember: options.remember,
            key: process_key(),
            right: Mutex::new(Generations::new(options.remembered_max, options.remember)),
            failures: Mutex::new(Failures::new(options.patience)),
            slots: Arc::new(Semaphore::new(options.slots)),
            waiting: Semaphore::new(options.slots + options.waiting_max),
            decoy: OnceLock::new(),
        };
        Self { clients, checker: Arc::new(checker) }
    }

    /// Checks a name and a password that `peer` sent.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn password(&self, name: &str, password: &Secret, peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        let checker = &self.checker;
        let clients = self.clients.load_full();
        let client = clients.named(name).filter(|c| c.password.is_some()).cloned();
        let network = Network::of(peer);
        let pair = checker.pair(name, network);
        let tag = client.as_ref().map(|client| checker.tag(client, password));

        let known = |tag: Option<[u8; 32]>| client.clone().filter(|_| tag.is_some_and(|tag| checker.remembers(&tag)));
        if let Some(client) = known(tag) {
            return Ok(client);
        }
        checker.admit(&pair, network)?;
        let _place = checker.waiting.try_acquire().map_err(|_| CredentialsError::Busy)?;
        let slot = checker.slots.clone().acquire_owned().await.map_err(|_| CredentialsError::Busy)?;
        // Those who waited may find that one before them was right, or that it failed once too often.
        if let Some(client) = known(tag) {
            return Ok(client);
        }
        checker.admit(&pair, network)?;

        // The check goes on and is counted even if the peer hangs up meanwhile.
        let (checker, known, password) = (self.checker.clone(), client.clone(), password.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let right = checker.verify(known.as_deref(), &clients, &password);
            checker.record(right.then_some(tag).flatten(), pair, network);
            right
        });
        // A panic in there would be our bug; the client is told to try again.
        let right = checked.await.map_err(|_| CredentialsError::Busy)?;
        client.filter(|_| right).ok_or(CredentialsError::Bad)
    }

    /// Checks an API key that `peer` sent.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn api_key(&self, key: &Secret, peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        self.owner_of(key).ok_or_else(|| self.wrong_key(peer))
    }

    /// Checks what a client of that name shows where one field has to do for passwords and API keys.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn password_or_key(
        &self,
        name: &str,
        secret: &Secret,
        peer: IpAddr,
    ) -> Result<Arc<Client>, CredentialsError> {
        match self.owner_of(secret).filter(|owner| *owner.name == *name) {
            Some(client) => Ok(client),
            None => self.password(name, secret, peer).await,
        }
    }

    /// Takes note of whether whoever said a name proved to know its secret, where that does not travel: `client` if so.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn proof(
        &self,
        name: &str,
        client: Option<Arc<Client>>,
        peer: IpAddr,
    ) -> Result<Arc<Client>, CredentialsError> {
        let (checker, network) = (&self.checker, Network::of(peer));
        let pair = checker.pair(name, network);
        checker.admit(&pair, network)?;
        let (now, mut failures) = (checker.clock.mono(), checker.failures.lock());
        match client {
            Some(client) => {
                failures.right(pair, now);
                Ok(client)
            }
            None => {
                failures.wrong(pair, network, now);
                Err(CredentialsError::Bad)
            }
        }
    }

    /// Whose API key it is. Not counted.
    fn owner_of(&self, key: &Secret) -> Option<Arc<Client>> {
        let hash = digest::digest(&digest::SHA256, key.expose().as_bytes());
        let clients = self.clients.load();
        // All keys are looked at, whichever is right: time tells nothing.
        let (mut found, mut place) = (0_u64, 1_u64);
        let mut owners = Vec::new();
        for client in clients.iter() {
            for known in &client.api_keys {
                found.conditional_assign(&place, known.ct_eq(hash.as_ref()));
                owners.push(client);
                place += 1;
            }
        }
        let owner = found.checked_sub(1).and_then(|place| owners.get(usize::try_from(place).ok()?));
        owner.map(|client| Arc::clone(client))
    }

    /// Counts a key that `peer` sent and that is nobody's, for its network.
    pub fn wrong_key(&self, peer: IpAddr) -> CredentialsError {
        self.checker.wrong_key(Network::of(peer))
    }
}

impl Checker {
    /// A name from a network, for the table of failures.
    fn pair(&self, name: &str, network: Network) -> Pair {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"pair");
        context.update(&network.octets());
        context.update(name.as_bytes());
        let mut pair = [0; 16];
        pair.copy_from_slice(&context.sign().as_ref()[..16]);
        pair
    }

    /// What is remembered of a right password. The stored hash goes in, so that a new password ends the old one at once.
    fn tag(&self, client: &Client, password: &Secret) -> [u8; 32] {
        let stored = client.password.as_ref().map_or("", Secret::expose);
        let mut context = hmac::Context::with_key(&self.key);
        for field in [&*client.name, stored, password.expose()] {
            context.update(&(field.len() as u64).to_le_bytes());
            context.update(field.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    fn remembers(&self, tag: &[u8; 32]) -> bool {
        let now = self.clock.mono();
        self.right.lock().find(tag, now).is_some_and(|since| now.since(since) < self.remember)
    }

    fn admit(&self, pair: &Pair, network: Network) -> Result<(), CredentialsError> {
        let admitted = self.failures.lock().admits(pair, network, self.clock.mono());
        if admitted { Ok(()) } else { Err(CredentialsError::Limited) }
    }

    /// argon2, for a client or for nobody; takes as long either way.
    fn verify(&self, client: Option<&Client>, clients: &Clients, password: &Secret) -> bool {
        let own = client.and_then(|c| c.password.as_ref());
        let stored = own
            .or_else(|| clients.iter().find_map(|c| c.password.as_ref()))
            .map(Secret::expose)
            .or_else(|| self.decoy.get_or_init(decoy).as_deref());
        let Some(stored) = stored else { return false };
        let right = match PasswordHash::new(stored) {
            Ok(hash) => Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok(),
            Err(e) => {
                tracing::error!(client = ?client.map(|c| &c.name), error = %e, "stored password hash cannot be read");
                false
            }
        };
        right && own.is_some()
    }

    fn record(&self, right: Option<[u8; 32]>, pair: Pair, network: Network) {
        let now = self.clock.mono();
        match right {
            Some(tag) => {
                self.failures.lock().right(pair, now);
                self.right.lock().set(tag, now, now);
            }
            None => self.failures.lock().wrong(pair, network, now),
        }
    }

    fn wrong_key(&self, network: Network) -> CredentialsError {
        let now = self.clock.mono();
        let mut failures = self.failures.lock();
        if !failures.admits_network(network, now) {
            return CredentialsError::Limited;
        }
        failures.wrong_network(network, now);
        CredentialsError::Bad
    }
}

/// # Panics
/// If the system gives no random bytes: at start, and TLS could not run either.
fn process_key() -> hmac::Key {
    hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new()).expect("random bytes from the system")
}

fn decoy() -> Option<String> {
    Argon2::default().hash_password(b"nobody has this password").ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests;
