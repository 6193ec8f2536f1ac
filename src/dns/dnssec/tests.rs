//! Validation against the signed zones of [`zone`](super::super::zone).

use hickory_resolver::proto::rr::rdata::{CNAME, TXT};

use super::super::zone::{Flaw, Trick, Zone, ZoneServer};
use super::*;
use crate::clock::{ManualClock, SharedClock, SystemClock, Timestamp};

/// The root, `example`, `good.example` and `bad.example` are signed, `plain.example` is not.
fn zone() -> Zone {
    Zone::new()
        .signed(".")
        .signed("example")
        .signed("good.example")
        .signed("bad.example")
        .unsigned("plain.example")
        .mx("good.example", 10, "mx.good.example")
        .a("mx.good.example", [192, 0, 2, 1])
        .aaaa("mx.good.example", "2001:db8::1")
        .tlsa("_25._tcp.mx.good.example", [3, 1, 1], &[7; 32])
        .a("implicit.good.example", [192, 0, 2, 2])
        .mx("null.good.example", 0, ".")
        .cname("alias.good.example", "mx.good.example")
        .cname("out.good.example", "mx.plain.example")
        .cname("in.plain.example", "mx.good.example")
        .mx("elsewhere.good.example", 10, "mx.plain.example")
        .trick("_25._tcp.implicit.good.example", Trick::ServFail)
        .mx("plain.example", 10, "mx.plain.example")
        .a("mx.plain.example", [192, 0, 2, 3])
        .tlsa("_25._tcp.mx.plain.example", [3, 1, 1], &[7; 32])
        .mx("forged.bad.example", 10, "mx.good.example")
        .flawed("forged.bad.example", Flaw::Forged)
        .mx("expired.bad.example", 10, "mx.good.example")
        .flawed("expired.bad.example", Flaw::Expired)
        .mx("bare.bad.example", 10, "mx.good.example")
        .flawed("bare.bad.example", Flaw::Missing)
        .bare("mx.bad.example")
        .flawed("mx.bad.example", Flaw::Forged)
}

async fn served_with(zone: Zone, anchors: &str, clock: SharedClock) -> (ZoneServer, Resolver) {
    let server = ZoneServer::start(zone).await.unwrap();
    let options = Options {
        nameservers: vec![server.address()],
        timeout: Duration::from_secs(5),
        attempts: 1,
        anchors: Anchors::parse(anchors).unwrap(),
        ..Options::default()
    };
    let resolver = Resolver::new(&options, clock).unwrap();
    (server, resolver)
}

async fn served() -> (ZoneServer, Resolver) {
    let zone = zone();
    let anchor = zone.anchor();
    served_with(zone, &anchor, SystemClock::shared()).await
}

fn shown<T: fmt::Debug>(of: Result<T, DnsError>, words: impl Fn(T) -> String) -> String {
    match of {
        Ok(found) => words(found),
        Err(DnsError::Temporary(_)) => "temporary".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

async fn mx(resolver: &Resolver, domain: &str) -> String {
    let found = resolver.vouched_mx(&Domain::parse(domain).unwrap()).await;
    shown(found, |Vouched { answer, secure }| {
        let what = match answer {
            Mx::Hosts(hosts) => hosts.into_iter().map(|host| host.name).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        };
        format!("{what}, {}", if secure { "secure" } else { "insecure" })
    })
}

async fn host(resolver: &Resolver, host: &str) -> String {
    let found = resolver.vouched_addresses(host).await;
    shown(found, |found| format!("{} at {}", found.addresses.len(), found.tlsa_bases.join(" ")))
}

#[tokio::test]
async fn mx_records_are_vouched_for_or_not() {
    let (_server, resolver) = served().await;
    for (domain, expected) in [
        ("good.example", "mx.good.example, secure"),
        ("Implicit.good.example", "Implicit(\"implicit.good.example\"), secure"),
        ("null.good.example", "Null, secure"),
        ("elsewhere.good.example", "mx.plain.example, secure"),
        ("absent.good.example", "NoSuchName"),
        ("plain.example", "mx.plain.example, insecure"),
        ("absent.plain.example", "NoSuchName"),
        ("mx.plain.example", "Implicit(\"mx.plain.example\"), insecure"),
        ("forged.bad.example", "Bogus"),
        ("expired.bad.example", "Bogus"),
        ("bare.bad.example", "Bogus"),
        // That there is none is forged.
        ("mx.bad.example", "Bogus"),
    ] {
        assert_eq!(mx(&resolver, domain).await, expected, "{domain}");
        assert_eq!(mx(&resolver, domain).await, expected, "{domain}, kept");
    }
}

#[tokio::test]
async fn tlsa_records_stand_where_dnssec_leads() {
    let (_server, resolver) = served().await;
    for (name, expected) in [
        ("mx.good.example", "2 at mx.good.example"),
        ("MX.good.example.", "2 at mx.good.example"),
        ("alias.good.example", "2 at mx.good.example alias.good.example"),
        // The alias is certain, where it leads is not.
        ("out.good.example", "1 at out.good.example"),
        ("in.plain.example", "2 at "),
        ("mx.plain.example", "1 at "),
        ("absent.good.example", "NoSuchName"),
        ("good.example", "NoAddress"),
        ("mx.bad.example", "Bogus"),
        ("192.0.2.1", "NoSuchName"),
    ] {
        assert_eq!(host(&resolver, name).await, expected, "{name}");
        assert_eq!(host(&resolver, name).await, expected, "{name}, kept");
    }
}

#[tokio::test]
async fn tlsa_records_count_if_they_are_vouched_for() {
    let (server, resolver) = served().await;
    let long = format!("{}.example", "a".repeat(63));
    for (base, expected) in [
        ("mx.good.example", format!("3 1 1 {}", "07".repeat(32))),
        ("alias.good.example", String::new()),
        ("mx.plain.example", String::new()),
        ("implicit.good.example", "temporary".to_owned()),
        // That there are none is forged.
        ("mx.bad.example", "Bogus".to_owned()),
        (&*format!("{long}.{long}.{long}.{long}"), String::new()),
    ] {
        let words = |found: Arc<[Tlsa]>| found.iter().map(Tlsa::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(resolver.tlsa(base, 25).await, words), expected, "{base}");
    }
    let asked = server.questions();
    assert_eq!(resolver.tlsa("mx.good.example", 25).await.unwrap().len(), 1);
    assert_eq!(server.questions(), asked, "kept");
    assert_eq!(resolver.tlsa("mx.good.example", 26).await.unwrap().len(), 0);
}

#[tokio::test]
async fn more_records_than_anybody_needs_are_cut() {
    let mut zone = Zone::new().signed(".").tlsa("_25._tcp.mx.example", [3, 0, 0], &vec![1; TLSA_BYTES_MAX + 1]);
    for n in 0..100 {
        zone = zone.tlsa("_25._tcp.mx.example", [3, 1, 1], &[n; 32]);
    }
    let anchor = zone.anchor();
    let (_server, resolver) = served_with(zone, &anchor, SystemClock::shared()).await;
    let found = resolver.tlsa("mx.example", 25).await.unwrap();
    assert_eq!(found.len(), TLSA_MAX);
    assert!(found.iter().all(|record| record.data.len() == 32));
}

#[tokio::test]
async fn name_servers_that_hand_nothing_through_are_found_out_and_asked_again_later() {
    let clock = Arc::new(ManualClock::at(Timestamp(1)));
    let signed = zone();
    let (server, resolver) = served_with(Zone::new(), &signed.anchor(), clock.clone()).await;
    let (a, b) = tokio::join!(resolver.validates(), resolver.validates());
    assert!(!a && !b && !resolver.validates().await);
    let asked = server.questions();
    server.serve(signed.clone());
    assert!(!resolver.validates().await);
    assert_eq!(server.questions(), asked);
    clock.advance(UNSUPPORTED_KEPT);
    assert!(resolver.validates().await);
    // Whoever has handed them through has to go on.
    server.serve(Zone::new().mx("good.example", 10, "mx.stranger.example"));
    clock.advance(UNSUPPORTED_KEPT);
    assert!(resolver.validates().await);
    assert_eq!(mx(&resolver, "good.example").await, "Bogus");
}

#[tokio::test]
async fn keys_of_strangers_prove_nothing() {
    let (_server, resolver) = served_with(zone(), &zone().anchor(), SystemClock::shared()).await;
    assert!(!resolver.validates().await);
    assert_eq!(mx(&resolver, "good.example").await, "Bogus");
    assert_eq!(mx(&resolver, "plain.example").await, "Bogus");
}

#[tokio::test]
async fn a_host_that_answers_nothing_else_is_no_forgery() {
    // Asked for its name servers, it fails; its zone is unsigned all the same.
    let (server, resolver) = served().await;
    server.serve_but(RecordType::NS, "mx.plain.example");
    assert_eq!(host(&resolver, "mx.plain.example").await, "1 at ");
    server.serve_but(RecordType::NS, "mx.good.example");
    assert_eq!(host(&resolver, "mx.good.example").await, "2 at mx.good.example");
    server.serve_but(RecordType::NS, "bare.bad.example");
    assert_eq!(mx(&resolver, "bare.bad.example").await, "Bogus");
}

#[test]
fn what_somebody_else_has_signed_says_nothing_of_a_name() {
    let name = |text: &str| fully_qualified(text).unwrap();
    let secure = |owner: &str, data: RData| {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = Proof::Secure;
        record
    };
    let alias = |owner, target| secure(owner, RData::CNAME(CNAME(name(target))));
    let address = |owner, last| secure(owner, RData::from(IpAddr::from([192, 0, 2, last])));
    let answers = [
        address("mx.attacker.example", 1),
        alias("MX.good.example", "a.good.example"),
        address("good.example", 2),
        address("a.good.example", 3),
        alias("b.attacker.example", "c.attacker.example"),
        secure("a.good.example", RData::TXT(TXT::new(vec![]))),
    ];
    let shown = |owner: &str| {
        let records = belonging(&answers, &name(owner), RecordType::A);
        records.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown("mx.good.example"), "a.good.example. 192.0.2.3");
    assert_eq!(shown("good.example"), "192.0.2.2");
    assert_eq!(shown("victim.example"), "");
    let circle = [alias("a.example", "b.example"), alias("b.example", "a.example")];
    assert_eq!(belonging(&circle, &name("a.example"), RecordType::A).len(), ALIASES_MAX);
}

#[tokio::test]
async fn signed_records_of_a_stranger_are_not_taken_for_those_that_were_asked_for() {
    // Whoever is on the way adds records of a zone of its own, which is signed.
    let zone = zone().mx("stranger.example", 0, "mx.stranger.example").a("mx.stranger.example", [192, 0, 2, 66]);
    let zone = zone.smuggled("good.example", "stranger.example").smuggled("mx.good.example", "mx.stranger.example");
    let anchor = zone.anchor();
    let (_server, resolver) = served_with(zone, &anchor, SystemClock::shared()).await;
    assert_eq!(mx(&resolver, "good.example").await, "mx.good.example, secure");
    let found = resolver.vouched_addresses("mx.good.example").await.unwrap();
    assert!(!found.addresses.contains(&IpAddr::from([192, 0, 2, 66])), "{found:?}");
}
