//! The resolver against the name server of [`zone`].

use std::collections::BTreeSet;

use super::zone::{Trick, Zone, ZoneServer};
use super::*;
use crate::clock::{ManualClock, SystemClock, Timestamp};

fn zone() -> Zone {
    Zone::new()
        .mx("many.example", 20, "c.many.example")
        .mx("many.example", 10, "A.many.example")
        .mx("many.example", 10, "b.many.example")
        .mx("many.example", 30, "b.many.example")
        .a("implicit.example", [192, 0, 2, 1])
        .mx("null.example", 0, ".")
        .mx("half.example", 0, ".")
        .mx("half.example", 5, "mx.half.example")
        .servfail("broken.example")
        .silent("silent.example")
        .a("both.example", [192, 0, 2, 1])
        .a("both.example", [192, 0, 2, 2])
        .aaaa("both.example", "2001:db8::1")
        .cname("alias.example", "both.example")
        .mx("xn--fsqu00a.xn--55qx5d", 1, "mx.both.example")
}

fn asking(nameservers: Vec<SocketAddr>) -> Options {
    Options { nameservers, timeout: Duration::from_millis(250), attempts: 1, ..Options::default() }
}

async fn served() -> (ZoneServer, Resolver) {
    let server = ZoneServer::start(zone()).await.unwrap();
    let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
    (server, resolver)
}

async fn mx(resolver: &Resolver, domain: &str) -> Result<Mx, DnsError> {
    resolver.mx(&Domain::parse(domain).unwrap()).await
}

#[tokio::test]
async fn hosts_come_by_preference_and_only_once() {
    let (_server, resolver) = served().await;
    let Ok(Mx::Hosts(hosts)) = mx(&resolver, "many.example").await else { panic!("hosts expected") };
    let names: Vec<_> = hosts.iter().map(|h| (h.preference, h.name.as_str())).collect();
    let equal: BTreeSet<_> = names[..2].iter().copied().collect();
    assert_eq!(equal, [(10, "a.many.example"), (10, "b.many.example")].into());
    assert_eq!(names[2..], [(20, "c.many.example")]);
}

#[test]
fn equal_preferences_are_shuffled() {
    let host = |name: &str| MxHost { preference: 1, name: name.to_owned() };
    let firsts: std::collections::HashSet<_> =
        (0..200).map(|_| in_order(vec![host("a"), host("b")]).remove(0).name).collect();
    assert_eq!(firsts.len(), 2);
}

#[tokio::test]
async fn every_kind_of_answer_is_told_apart() {
    let (_server, resolver) = served().await;
    assert_eq!(mx(&resolver, "implicit.example").await, Ok(Mx::Implicit("implicit.example".to_owned())));
    assert_eq!(mx(&resolver, "null.example").await, Ok(Mx::Null));
    let only = Mx::Hosts(vec![MxHost { preference: 5, name: "mx.half.example".to_owned() }]);
    assert_eq!(mx(&resolver, "half.example").await, Ok(only));
    assert_eq!(mx(&resolver, "absent.example").await, Err(DnsError::NoSuchName));
    for domain in ["broken.example", "silent.example"] {
        let answer = mx(&resolver, domain).await;
        assert!(matches!(answer, Err(DnsError::Temporary(_))), "{domain}: {answer:?}");
    }
    let only = Mx::Hosts(vec![MxHost { preference: 1, name: "mx.both.example".to_owned() }]);
    assert_eq!(mx(&resolver, "例子.公司").await, Ok(only));
}

#[tokio::test]
async fn addresses_of_both_families_in_turn() {
    let (_server, resolver) = served().await;
    for host in ["both.example", "alias.example"] {
        let mut found: Vec<_> = resolver.addresses(host).await.unwrap().iter().map(IpAddr::to_string).collect();
        assert_eq!(found.remove(0), "2001:db8::1", "{host}");
        found.sort();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2"], "{host}");
    }
    assert_eq!(resolver.addresses("many.example").await, Err(DnsError::NoAddress));
    assert_eq!(resolver.addresses("absent.example").await, Err(DnsError::NoSuchName));
    assert_eq!(resolver.addresses("not a name..").await, Err(DnsError::NoSuchName));
    let broken = resolver.addresses("broken.example").await;
    assert!(matches!(broken, Err(DnsError::Temporary(_))), "{broken:?}");
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    let (server, resolver) = served().await;
    let (a, b) = tokio::join!(mx(&resolver, "null.example"), mx(&resolver, "null.example"));
    assert_eq!((a, b), (Ok(Mx::Null), Ok(Mx::Null)));
    assert_eq!(mx(&resolver, "null.example").await, Ok(Mx::Null));
    assert_eq!(server.questions(), 1);
}

#[tokio::test]
async fn a_dead_name_server_is_temporary() {
    let (server, resolver) = served().await;
    drop(server);
    let answer = mx(&resolver, "many.example").await;
    assert!(matches!(answer, Err(DnsError::Temporary(_))), "{answer:?}");
}

/// `implicit`, `null`, the hosts' names, or the error.
fn shown(mx: Result<Mx, DnsError>) -> String {
    match mx {
        Ok(Mx::Implicit(_)) => "implicit".to_owned(),
        Ok(Mx::Null) => "null".to_owned(),
        Ok(Mx::Hosts(hosts)) => hosts.into_iter().map(|h| h.name).collect::<Vec<_>>().join(" "),
        Err(DnsError::Temporary(_)) => "temporary".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_temporary_and_believed_by_nobody() {
    for trick in [
        Trick::ServFail,
        Trick::Silent,
        Trick::Refused,
        Trick::Lame,
        Trick::OddCode,
        Trick::Truncated,
        Trick::WrongId,
        Trick::WrongQuestion,
        Trick::Garbage,
    ] {
        let server = ZoneServer::start(Zone::new().trick("x.example", trick)).await.unwrap();
        let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
        let (mx, addresses) = tokio::join!(mx(&resolver, "x.example"), resolver.addresses("x.example"));
        assert!(matches!(&mx, Err(DnsError::Temporary(_))), "{trick:?}: {mx:?}");
        assert!(matches!(&addresses, Err(DnsError::Temporary(_))), "{trick:?}: {addresses:?}");
    }
}

#[tokio::test]
async fn records_of_another_name_are_none() {
    let server = ZoneServer::start(Zone::new().trick("x.example", Trick::WrongOwner)).await.unwrap();
    let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
    assert_eq!(shown(mx(&resolver, "x.example").await), "implicit");
    assert_eq!(resolver.addresses("x.example").await, Err(DnsError::NoAddress));
}

#[tokio::test]
async fn what_is_cut_over_udp_is_asked_for_over_tcp() {
    let many = (0..500).fold(Zone::new(), |zone, n| zone.mx("many.example", n / 10, &format!("mx{n}.many.example")));
    let server = ZoneServer::start(many).await.unwrap();
    let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
    let Ok(Mx::Hosts(hosts)) = mx(&resolver, "many.example").await else { panic!("hosts expected") };
    assert_eq!(hosts.len(), HOSTS_MAX);
    assert_eq!(hosts.iter().map(|host| host.preference).collect::<BTreeSet<_>>(), [0, 1, 2, 3].into());
    assert_eq!(server.questions_over_tcp(), 1);
}

#[tokio::test]
async fn aliases_are_followed_but_not_for_ever() {
    let mut zone = Zone::new()
        .cname("a.example", "b.example")
        .cname("b.example", "a.example")
        .cname("self.example", "self.example")
        .cname("nowhere.example", "absent.example")
        .cname("nothing.example", "bare.example")
        .bare("bare.example")
        .a("end.example", [192, 0, 2, 1]);
    for n in 0..40 {
        let target = if n == 39 { "end.example".to_owned() } else { format!("link{}.example", n + 1) };
        zone = zone.cname(&format!("link{n}.example"), &target);
    }
    let server = ZoneServer::start(zone).await.unwrap();
    let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
    let of = async |name| match resolver.addresses(name).await {
        Ok(addresses) => addresses.iter().map(IpAddr::to_string).collect(),
        Err(DnsError::Temporary(_)) => "temporary".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    for (name, found) in [
        ("link39.example", "192.0.2.1"),
        ("link33.example", "192.0.2.1"),
        ("a.example", "temporary"),
        ("self.example", "temporary"),
        ("link0.example", "192.0.2.1"),
        ("nowhere.example", "NoSuchName"),
        ("nothing.example", "NoAddress"),
        ("bare.example", "NoAddress"),
    ] {
        assert_eq!(of(name).await, found, "{name}");
    }
}

#[tokio::test]
async fn a_name_server_that_refuses_does_not_speak_for_the_others() {
    let refuses = ZoneServer::start(Zone::new().trick("x.example", Trick::Refused)).await.unwrap();
    let fails = ZoneServer::start(Zone::new().servfail("x.example")).await.unwrap();
    let good = ZoneServer::start(Zone::new().mx("x.example", 1, "mx.x.example")).await.unwrap();
    let asked = asking(vec![refuses.address(), fails.address(), good.address()]);
    for _ in 0..3 {
        let resolver = Resolver::new(&asked, SystemClock::shared()).unwrap();
        assert_eq!(shown(mx(&resolver, "x.example").await), "mx.x.example");
    }
}

#[tokio::test]
async fn answers_are_believed_within_bounds_and_failures_briefly() {
    let hour = Duration::from_secs(3600);
    let (short, long) = (Zone::new().ttl(0), Zone::new().ttl(u32::MAX));
    for (name, zone, held, gone) in [
        ("a TTL of 0", short.mx("x.example", 1, "mx.x.example"), Duration::from_secs(4), Duration::from_secs(5)),
        (
            "a TTL",
            Zone::new().ttl(60).mx("x.example", 1, "mx.x.example"),
            Duration::from_secs(59),
            Duration::from_secs(60),
        ),
        ("a TTL of ages", long.mx("x.example", 1, "mx.x.example"), 23 * hour, 24 * hour),
        ("no such name", Zone::new(), Duration::from_secs(4), Duration::from_secs(5)),
        ("no such name, SOA", Zone::new().negative_ttl(60), Duration::from_secs(59), Duration::from_secs(60)),
        ("no such name for ages", Zone::new().negative_ttl(86_400), hour / 5, hour / 4),
        ("no such record", Zone::new().bare("x.example").negative_ttl(86_400), hour / 5, hour / 4),
        ("failure", Zone::new().servfail("x.example"), Duration::from_secs(1), Duration::from_secs(2)),
        ("silence", Zone::new().silent("x.example"), Duration::from_secs(1), Duration::from_secs(2)),
    ] {
        let server = ZoneServer::start(zone).await.unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(1)));
        let resolver = Resolver::new(&asking(vec![server.address()]), clock.clone()).unwrap();
        let first = mx(&resolver, "x.example").await;
        let asked = server.questions();
        server.serve(Zone::new().mx("x.example", 1, "changed.example"));
        clock.advance(held);
        assert_eq!(mx(&resolver, "x.example").await, first, "{name}");
        assert_eq!(server.questions(), asked, "{name}: from memory");
        clock.advance(gone - held);
        assert_eq!(shown(mx(&resolver, "x.example").await), "changed.example", "{name}");
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let zone = (0..50).fold(Zone::new(), |zone, n| {
        zone.mx(&format!("d{n}.example"), 1, "mx.example").a(&format!("h{n}.example"), [192, 0, 2, 1])
    });
    let server = ZoneServer::start(zone).await.unwrap();
    let few = Options { cache_answers: 20, ..asking(vec![server.address()]) };
    let resolver = Resolver::new(&few, SystemClock::shared()).unwrap();
    for n in 0..50 {
        assert_eq!(shown(mx(&resolver, &format!("d{n}.example")).await), "mx.example");
        resolver.addresses(&format!("h{n}.example")).await.unwrap();
        assert!(resolver.shared.mx.len() <= 10 && resolver.shared.addresses.len() <= 10);
    }
}

#[tokio::test]
async fn an_address_is_no_name() {
    let server = ZoneServer::start(Zone::new().a("192.0.2.1", [127, 0, 0, 1])).await.unwrap();
    let resolver = Resolver::new(&asking(vec![server.address()]), SystemClock::shared()).unwrap();
    assert_eq!(resolver.addresses("192.0.2.1").await, Err(DnsError::NoSuchName));
    assert_eq!(server.questions(), 0);
}
