//! Names that mean no good: what a domain's DNS may say, and what becomes of its mail.
//!
//! [`NAMES`] is the table; `docs/hostile-peers.md` is made from it. Where a row says *relayed*, a host on 127.0.0.1 took the
//! mail; where it says anything else, nobody was dialled at all.

use super::*;
use crate::dns::zone::Trick;

type Make = fn(Zone) -> Zone;

/// The domain is `x.example`; `mx.example` is at 127.0.0.1, which the operator allows; `relay.example` are we.
#[rustfmt::skip]
const NAMES: &[(&str, Make, &str)] = &[
    ("no such name", |z| z, "failed Site dns 5.1.2"),
    ("no such name, by SOA", |z| z.negative_ttl(60), "failed Site dns 5.1.2"),
    ("SERVFAIL", |z| z.servfail("x.example"), "delayed Site dns 4.4.3"),
    ("no answer", |z| z.silent("x.example"), "delayed Site dns 4.4.3"),
    ("REFUSED", |z| z.trick("x.example", Trick::Refused), "delayed Site dns 4.4.3"),
    ("lame: a referral", |z| z.trick("x.example", Trick::Lame), "delayed Site dns 4.4.3"),
    ("a code nobody knows", |z| z.trick("x.example", Trick::OddCode), "delayed Site dns 4.4.3"),
    ("truncated, over TCP too", |z| z.trick("x.example", Trick::Truncated), "delayed Site dns 4.4.3"),
    ("the wrong id", |z| z.trick("x.example", Trick::WrongId), "delayed Site dns 4.4.3"),
    ("the wrong question", |z| z.trick("x.example", Trick::WrongQuestion), "delayed Site dns 4.4.3"),
    ("garbage", |z| z.trick("x.example", Trick::Garbage), "delayed Site dns 4.4.3"),
    ("records of another name", |z| z.trick("x.example", Trick::WrongOwner), "failed Site dns 5.1.2"),
    ("an alias", |z| z.cname("x.example", "y.example").mx("y.example", 1, "mx.example"), "relayed"),
    ("a chain of aliases", |z| chain(z, 12, "y.example").mx("y.example", 1, "mx.example"), "relayed"),
    ("a chain without end", |z| chain(z, 200, "y.example").mx("y.example", 1, "mx.example"), "delayed Site dns 4.4.3"),
    ("an alias of itself", |z| z.cname("x.example", "x.example"), "delayed Site dns 4.4.3"),
    ("aliases in a circle", |z| z.cname("x.example", "y.example").cname("y.example", "x.example"), "delayed Site dns 4.4.3"),
    ("an alias of nothing", |z| z.cname("x.example", "absent.example"), "failed Site dns 5.1.2"),
    ("an alias of an empty name", |z| z.cname("x.example", "y.example").bare("y.example"), "failed Site dns 5.1.2"),
    ("MX to an alias", |z| z.mx("x.example", 1, "alias.example").cname("alias.example", "mx.example"), "relayed"),
    ("MX to an alias of itself", |z| z.mx("x.example", 1, "alias.example").cname("alias.example", "alias.example"), "delayed Site dns 4.4.3"),
    ("MX to a name that is not", |z| z.mx("x.example", 1, "absent.example"), "delayed Host dns 4.4.4"),
    ("MX to a name without address", |z| z.mx("x.example", 1, "y.example").mx("y.example", 1, "mx.example"), "delayed Host dns 4.4.4"),
    ("MX to a name that fails", |z| z.mx("x.example", 1, "y.example").servfail("y.example"), "delayed Site dns 4.4.3"),
    ("MX to names that are not", |z| z.mx("x.example", 1, "absent.example").mx("x.example", 2, "gone.example"), "delayed Site dns 4.4.4"),
    ("MX to a bad name and a good one", |z| z.mx("x.example", 1, "absent.example").mx("x.example", 2, "mx.example"), "relayed"),
    ("MX to a failing name and a good one", |z| z.mx("x.example", 1, "y.example").silent("y.example").mx("x.example", 2, "mx.example"), "relayed"),
    ("MX to an address as text", |z| z.mx("x.example", 10, "127.0.0.1").a("127.0.0.1", [127, 0, 0, 1]), "delayed Host dns 4.4.4"),
    ("MX to an address as text and a host", |z| z.mx("x.example", 10, "127.0.0.1").mx("x.example", 20, "mx.example"), "relayed"),
    ("null MX", |z| z.mx("x.example", 0, ".").a("x.example", [127, 0, 0, 1]), "failed Site dns 5.1.10"),
    ("null MX beside others", |z| z.mx("x.example", 0, ".").mx("x.example", 10, "mx.example"), "relayed"),
    ("500 MX", |z| many(z).a("mx.example", [127, 0, 0, 1]), "relayed"),
    ("500 MX, none with an address", |z| (0..500).fold(z, |z, n| z.mx("x.example", n, &format!("absent{n}.example"))), "delayed Site dns 4.4.4"),
    ("no MX but an address", |z| z.a("x.example", [127, 0, 0, 1]), "relayed"),
    ("neither MX nor address", |z| z.bare("x.example"), "failed Site dns 5.1.2"),
    ("IPv6 only", |z| z.mx("x.example", 1, "six.example").aaaa("six.example", "::ffff:127.0.0.1"), "relayed"),
    ("ourselves", |z| z.mx("x.example", 1, "relay.example"), "failed Site dns 5.4.6"),
    ("ourselves, in capitals", |z| z.mx("x.example", 1, "RELAY.Example"), "failed Site dns 5.4.6"),
    ("ourselves first", |z| z.mx("x.example", 1, "relay.example").mx("x.example", 2, "mx.example"), "failed Site dns 5.4.6"),
    ("ourselves among equals", |z| z.mx("x.example", 1, "relay.example").mx("x.example", 1, "mx.example"), "failed Site dns 5.4.6"),
    ("ourselves behind a better", |z| z.mx("x.example", 1, "mx.example").mx("x.example", 2, "relay.example"), "relayed"),
    ("private", |z| at(z, "10.0.0.1"), "delayed Host dns 4.4.4"),
    ("another private", |z| at(z, "192.168.1.1"), "delayed Host dns 4.4.4"),
    ("loopback that is not allowed", |z| at(z, "127.0.0.2"), "delayed Host dns 4.4.4"),
    ("this host", |z| at(z, "0.0.0.0"), "delayed Host dns 4.4.4"),
    ("link-local", |z| at(z, "169.254.1.1"), "delayed Host dns 4.4.4"),
    ("cloud metadata", |z| at(z, "169.254.169.254"), "delayed Host dns 4.4.4"),
    ("carrier-grade NAT", |z| at(z, "100.64.0.1"), "delayed Host dns 4.4.4"),
    ("multicast", |z| at(z, "224.0.0.1"), "delayed Host dns 4.4.4"),
    ("broadcast", |z| at(z, "255.255.255.255"), "delayed Host dns 4.4.4"),
    ("IPv6 loopback", |z| at(z, "::1"), "delayed Host dns 4.4.4"),
    ("IPv6 link-local", |z| at(z, "fe80::1"), "delayed Host dns 4.4.4"),
    ("IPv6 private", |z| at(z, "fd00::1"), "delayed Host dns 4.4.4"),
    ("IPv4 in IPv6: mapped", |z| at(z, "::ffff:127.0.0.2"), "delayed Host dns 4.4.4"),
    ("IPv4 in IPv6: metadata", |z| at(z, "::ffff:169.254.169.254"), "delayed Host dns 4.4.4"),
    ("IPv4 in IPv6: NAT64", |z| at(z, "64:ff9b::127.0.0.2"), "delayed Host dns 4.4.4"),
    ("IPv4 in IPv6: 6to4", |z| at(z, "2002:7f00:2::1"), "delayed Host dns 4.4.4"),
    ("private without MX", |z| z.a("x.example", [10, 0, 0, 1]), "delayed Host dns 4.4.4"),
    ("localhost", |z| z.mx("x.example", 1, "localhost"), "relayed"),
    ("private and allowed", |z| at(at(z, "10.0.0.1"), "127.0.0.1"), "relayed"),
    ("a private host and a good one", |z| at(z, "10.0.0.1").mx("x.example", 9, "mx.example"), "relayed"),
];

/// A host at this address, in front of the others.
fn at(zone: Zone, address: &str) -> Zone {
    let zone = zone.mx("x.example", 5, "inside.example");
    match address.parse::<std::net::IpAddr>().unwrap() {
        std::net::IpAddr::V4(v4) => zone.a("inside.example", v4),
        std::net::IpAddr::V6(_) => zone.aaaa("inside.example", address),
    }
}

/// `x.example` is an alias of an alias of … `target`.
fn chain(zone: Zone, links: usize, target: &str) -> Zone {
    let name = |n: usize| if n == 0 { "x.example".to_owned() } else { format!("link{n}.example") };
    let last = |n: usize| if n + 1 == links { target.to_owned() } else { name(n + 1) };
    (0..links).fold(zone, |zone, n| zone.cname(&name(n), &last(n)))
}

fn many(zone: Zone) -> Zone {
    (0..500).fold(zone, |zone, n| {
        let name = format!("mx{n}.example");
        zone.mx("x.example", 10, &name).a(&name, [127, 0, 0, 1])
    })
}

fn allowing_one(port: u16) -> Options {
    Options { smtp_port: port, allow_private: vec!["127.0.0.1/32".parse().unwrap()], ..options() }
}

#[tokio::test]
async fn a_name_leads_to_a_host_or_to_a_reason() {
    for (name, make, outcome) in NAMES {
        let taken = hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye";
        let host = Host::start(&[&taken]).await;
        let zone = make(Zone::new().a("mx.example", [127, 0, 0, 1]));
        let names = ZoneServer::start(zone).await.unwrap();
        let egress = egress_with(allowing_one(host.address.port()), vec![names.address()], Arc::new(NoSigner));
        let mut courier = Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap()));
        let mail = mail(MAIL, &["a@x.example"]);
        let outcomes = tokio::time::timeout(Duration::from_secs(60), courier.carry(&mail)).await.expect("no end");
        assert_eq!(all_shown(&outcomes), [*outcome], "{name}");
        let dialled = u64::from(*outcome == "relayed");
        assert_eq!(egress.metrics.mail_connections_made.get(), dialled, "{name}");
        courier.close().await;
        if dialled == 1 {
            host.finish().await;
        }
        // MX twice, over TCP as well, and then two questions for each host that is tried; aliases are 8 at most each.
        assert!(names.questions() <= 60, "{name}: {} questions", names.questions());
    }
}

#[tokio::test]
async fn address_literals_are_judged_like_names() {
    for (domain, outcome) in [
        ("[127.0.0.1]", "delayed Host connect 4.4.1"),
        ("[10.0.0.1]", "failed Site route 5.7.1"),
        ("[169.254.169.254]", "failed Site route 5.7.1"),
        ("[IPv6:::1]", "failed Site route 5.7.1"),
        ("[IPv6:::ffff:10.0.0.1]", "failed Site route 5.7.1"),
    ] {
        // Port 9 is discard: nobody listens there.
        let outcome_seen = by_mx(Zone::new(), allowing_one(9), domain).await;
        assert_eq!(shown(&outcome_seen), outcome, "{domain}");
    }
}

/// A courier by MX whose look-ups can be aged.
fn by_mx_and_clock(names: &ZoneServer, options: Options) -> (Slot, Arc<MailEgress>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp(1)));
    let lookups = dns::Options {
        nameservers: vec![names.address()],
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..Default::default()
    };
    let egress = Arc::new(MailEgress::new(
        Arc::new(ArcSwap::from_pointee(options)),
        Resolver::new(&lookups, clock.clone()).unwrap(),
        Arc::new(Metrics::new()),
        clock.clone(),
        Arc::new(NoSigner),
    ));
    (Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap())), egress, clock)
}

#[tokio::test]
async fn a_name_that_turns_inside_leads_nowhere() {
    let refused = hello("PIPELINING") + "C: MAIL\nC: RCPT\nC: DATA\nS: 451 later\nS: 503 no\nS: 503 no\nCLOSE";
    let host = Host::start(&[&refused, &refused]).await;
    let outside = || Zone::new().mx("x.example", 1, "mx.example").a("mx.example", [127, 0, 0, 1]);
    let names = ZoneServer::start(outside()).await.unwrap();
    let (mut courier, egress, clock) = by_mx_and_clock(&names, allowing_one(host.address.port()));
    let mail = mail(MAIL, &["a@x.example"]);
    assert_eq!(all_shown(&courier.carry(&mail).await), ["delayed Message mail 4.0.0"]);
    // Between the look-up and the dial nothing is asked again: the address that was checked is the one dialled.
    names.serve(Zone::new().mx("x.example", 1, "mx.example").a("mx.example", [10, 0, 0, 1]));
    assert_eq!(all_shown(&courier.carry(&mail).await), ["delayed Message mail 4.0.0"]);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(all_shown(&courier.carry(&mail).await), ["delayed Host dns 4.4.4"]);
    assert_eq!(egress.metrics.mail_connections_made.get(), 2);
    host.finish().await;
}

#[tokio::test]
async fn an_outage_delays_and_never_fails() {
    let taken = hello("PIPELINING") + TAKEN + "CLOSE";
    let host = Host::start(&[&taken, &taken, &taken]).await;
    let known = || Zone::new().mx("x.example", 1, "mx.example").a("mx.example", [127, 0, 0, 1]);
    let names = ZoneServer::start(known()).await.unwrap();
    let (mut courier, _egress, clock) = by_mx_and_clock(&names, allowing_one(host.address.port()));
    let mail = mail(MAIL, &["a@x.example"]);
    assert_eq!(all_shown(&courier.carry(&mail).await), ["relayed"]);
    for trick in [Trick::ServFail, Trick::Silent, Trick::Refused, Trick::Lame, Trick::Garbage] {
        names.serve(Zone::new().trick("x.example", trick).trick("mx.example", trick));
        if trick == Trick::ServFail {
            assert_eq!(all_shown(&courier.carry(&mail).await), ["relayed"], "what is known goes on being used");
        }
        clock.advance(Duration::from_secs(3600));
        assert_eq!(all_shown(&courier.carry(&mail).await), ["delayed Site dns 4.4.3"], "{trick:?}");
    }
    names.serve(known());
    clock.advance(Duration::from_secs(2));
    assert_eq!(all_shown(&courier.carry(&mail).await), ["relayed"]);
    host.finish().await;
}
