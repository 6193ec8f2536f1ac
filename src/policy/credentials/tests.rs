//! The checker as its callers see it, on a clock that stands still.

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::model::Channel;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// A hash that takes a moment, not 50 ms.
fn cheap(password: &str) -> Secret {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    Secret::new(argon2.hash_password(password.as_bytes()).unwrap().to_string())
}

fn client(name: &str, password: Option<Secret>, keys: &[&str]) -> Client {
    let hash = |key: &&str| digest::digest(&digest::SHA256, key.as_bytes()).as_ref().try_into().unwrap();
    Client { password, api_keys: keys.iter().map(hash).collect(), channels: vec![Channel::Email], ..Client::bare(name) }
}

struct Fixture {
    clock: Arc<ManualClock>,
    clients: Arc<ArcSwap<Clients>>,
    credentials: Credentials,
}

fn fixture(options: Options) -> Fixture {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
    let clients = Clients::new([
        client("shop", Some(cheap("right")), &["key-1", "key-2"]),
        client("keys-only", None, &["key-3"]),
        client("broken", Some(Secret::new("$argon2id$nonsense")), &[]),
    ]);
    let clients = Arc::new(ArcSwap::from_pointee(clients));
    let credentials = Credentials::with_options(clients.clone(), clock.clone(), options);
    Fixture { clock, clients, credentials }
}

impl Fixture {
    async fn ask(&self, name: &str, password: &str, peer: IpAddr) -> Result<String, CredentialsError> {
        let client = self.credentials.password(name, &Secret::new(password), peer).await?;
        Ok(client.name.to_string())
    }

    fn remembered(&self) -> usize {
        self.credentials.checker.right.lock().len()
    }
}

#[tokio::test]
async fn the_right_password_is_right_and_nothing_else_is() {
    let f = fixture(Options::default());
    assert_eq!(f.ask("shop", "right", PEER).await, Ok("shop".to_owned()));
    for (name, password) in
        [("shop", "wrong"), ("shop", ""), ("nobody", "right"), ("keys-only", ""), ("broken", "right")]
    {
        assert_eq!(f.ask(name, password, PEER).await, Err(CredentialsError::Bad), "{name} {password}");
    }
    assert_eq!(f.remembered(), 1, "only what was right is remembered");
}

#[tokio::test]
async fn what_was_right_is_remembered_until_it_is_old_or_the_password_changes() {
    let f = fixture(Options::default());
    f.ask("shop", "right", PEER).await.unwrap();
    // With all slots taken only what is remembered can be answered.
    let slots = f.credentials.checker.slots.clone();
    let all = slots.acquire_many(u32::try_from(slots.available_permits()).unwrap()).await.unwrap();
    assert!(f.ask("shop", "right", ELSEWHERE).await.is_ok());
    drop(all);
    f.clients.store(Arc::new(Clients::new([client("shop", Some(cheap("new")), &[])])));
    assert_eq!(f.ask("shop", "right", PEER).await, Err(CredentialsError::Bad));
    assert!(f.ask("shop", "new", PEER).await.is_ok());
    let tag = f.credentials.checker.tag(f.clients.load().named("shop").unwrap(), &Secret::new("new"));
    assert!(f.credentials.checker.remembers(&tag));
    f.clock.advance(Duration::from_secs(300));
    assert!(!f.credentials.checker.remembers(&tag));
}

#[tokio::test]
async fn failures_hold_up_their_network_and_no_other() {
    let f = fixture(Options::default());
    for _ in 0..4 {
        assert_eq!(f.ask("shop", "wrong", PEER).await, Err(CredentialsError::Bad));
    }
    assert_eq!(f.ask("shop", "right", PEER).await, Err(CredentialsError::Limited), "not even the right one is checked");
    assert_eq!(f.ask("shop", "right", ELSEWHERE).await, Ok("shop".to_owned()), "a stranger cannot lock a client out");
    assert_eq!(f.ask("shop", "right", PEER).await, Ok("shop".to_owned()), "now it is remembered");
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.ask("shop", "wrong", PEER).await, Err(CredentialsError::Bad));
    assert_eq!(f.ask("shop", "wrong", PEER).await, Err(CredentialsError::Limited));
    f.clock.advance(Duration::from_secs(2));
    assert_eq!(f.ask("shop", "wrong", PEER).await, Err(CredentialsError::Bad));
}

#[tokio::test]
async fn guessing_names_holds_up_the_network_too() {
    let patience = Patience { network_failures_free: 5, ..Patience::default() };
    let f = fixture(Options { patience, ..Options::default() });
    for i in 0..6 {
        assert_eq!(f.ask(&format!("name-{i}"), "x", PEER).await, Err(CredentialsError::Bad));
    }
    assert_eq!(f.ask("another", "x", PEER).await, Err(CredentialsError::Limited));
}

#[tokio::test]
async fn a_full_pool_says_so_and_those_who_waited_share_one_check() {
    let f = fixture(Options { slots: 1, waiting_max: 2, ..Options::default() });
    let busy = f.credentials.checker.slots.clone().acquire_owned().await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let credentials = f.credentials.clone();
            tokio::spawn(async move { credentials.password("shop", &Secret::new("right"), PEER).await.is_ok() })
        })
        .collect();
    while f.credentials.checker.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.ask("shop", "other", PEER).await, Err(CredentialsError::Busy));
    drop(busy);
    for task in waiting {
        assert!(task.await.unwrap());
    }
    assert_eq!(f.credentials.checker.waiting.available_permits(), 3);
}

#[tokio::test]
async fn queued_guesses_are_cut_short_by_the_failures_before_them() {
    let f = fixture(Options { slots: 1, ..Options::default() });
    let guesses = (0..20).map(|i| {
        let credentials = f.credentials.clone();
        tokio::spawn(async move { credentials.password("shop", &Secret::new(format!("guess {i}")), PEER).await.err() })
    });
    let mut answers = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        answers.push(guess.await.unwrap());
    }
    let checked = answers.iter().filter(|a| **a == Some(CredentialsError::Bad)).count();
    assert_eq!(checked, 4, "three free and the one that brings the delay: {answers:?}");
}

#[tokio::test]
async fn api_keys_name_their_client() {
    let f = fixture(Options::default());
    let ask = async |key: &str| f.credentials.api_key(&Secret::new(key), PEER).await.map(|c| c.name.to_string());
    assert_eq!(ask("key-1").await, Ok("shop".to_owned()));
    assert_eq!(ask("key-2").await, Ok("shop".to_owned()));
    assert_eq!(ask("key-3").await, Ok("keys-only".to_owned()));
    for _ in 0..21 {
        assert_eq!(ask("key-4").await, Err(CredentialsError::Bad));
    }
    assert_eq!(ask("key-4").await, Err(CredentialsError::Limited));
    assert_eq!(ask("key-1").await, Ok("shop".to_owned()), "a right key always passes");
}

#[tokio::test]
async fn nobody_to_compare_with_costs_a_check_too() {
    let f = fixture(Options::default());
    f.clients.store(Arc::default());
    assert_eq!(f.ask("shop", "right", PEER).await, Err(CredentialsError::Bad));
    assert!(f.credentials.checker.decoy.get().is_some_and(Option::is_some));
}
