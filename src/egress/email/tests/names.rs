//! By MX: which hosts and addresses are tried, in which order, and what names that lead nowhere mean.

use super::*;

/// Carries a mail to `domain` by MX.
async fn by_mx(zone: Zone, options: Options, domain: &str) -> RecipientOutcome {
    let names = ZoneServer::start(zone).await.unwrap();
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let mut courier = Slot::new(egress, MailHop::Mx(Domain::parse(domain).unwrap()));
    let outcome = courier.carry(&mail(MAIL, &["a@x.example"])).await.remove(0);
    courier.close().await;
    outcome
}

#[tokio::test]
async fn hosts_and_addresses_are_walked_in_order() {
    let taken = hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye";
    let refuses = Host::start(&["S: 554 5.7.1 not you"]).await;
    let port = refuses.address.port();
    let takes = Host::start_at(([127, 0, 0, 3], port).into(), &[&taken]).await;
    let zone = Zone::new()
        .mx("x.example", 10, "mx1.x.example")
        .mx("x.example", 20, "mx2.x.example")
        .mx("x.example", 30, "mx3.x.example")
        .mx("x.example", 40, "mx4.x.example")
        .a("mx1.x.example", [127, 0, 0, 1])
        .a("mx2.x.example", [10, 0, 0, 1])
        // Nobody listens at the first of these two.
        .a("mx4.x.example", [127, 0, 0, 2])
        .a("mx4.x.example", [127, 0, 0, 3]);
    let outcome = by_mx(zone, Options { smtp_port: port, ..options() }, "x.example").await;
    assert_eq!(shown(&outcome), "relayed");
    let peer = outcome.peer.unwrap();
    assert_eq!((peer.host.as_str(), peer.address), ("mx4.x.example", Some(([127, 0, 0, 3], port).into())));
    refuses.finish().await;
    takes.finish().await;
}

#[tokio::test]
async fn the_walk_is_bounded() {
    let host = Host::start(&["S: 554 no", "S: 554 no", "S: 554 no"]).await;
    let mut zone = Zone::new();
    for n in 0..5 {
        zone = zone.mx("x.example", n, &format!("mx{n}.x.example")).a(&format!("mx{n}.x.example"), [127, 0, 0, 1]);
    }
    let three = Options { smtp_port: host.address.port(), hosts_per_attempt: 3, ..options() };
    let outcome = by_mx(zone, three, "x.example").await;
    assert_eq!(shown(&outcome), "delayed Site connect 4.0.0");
    assert_eq!(outcome.peer.unwrap().host, "mx2.x.example");
    assert_eq!(host.finish().await.len(), 3);
}

#[tokio::test]
async fn an_implicit_mx_is_the_domain_itself() {
    let host = Host::start(&[&(hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye")]).await;
    let zone = Zone::new().a("x.example", [127, 0, 0, 1]);
    let outcome = by_mx(zone, Options { smtp_port: host.address.port(), ..options() }, "x.example").await;
    assert_eq!(shown(&outcome), "relayed");
    host.finish().await;
}

#[tokio::test]
async fn names_that_lead_nowhere() {
    let zone = || {
        Zone::new()
            .mx("null.example", 0, ".")
            .servfail("broken.example")
            .silent("silent.example")
            .mx("own.example", 10, "relay.example")
            .mx("own.example", 20, "mx.own.example")
            .a("mx.own.example", [127, 0, 0, 1])
            .mx("dangling.example", 10, "absent.dangling.example")
            .mx("alone.example", 10, "mx.alone.example")
            .mx("mx.alone.example", 10, "other.example")
            .mx("inside.example", 10, "mx.inside.example")
            .a("mx.inside.example", [10, 0, 0, 1])
            .cname("bare.example", "empty.example")
            .mx("relay.example", 5, "relay.example")
    };
    for (domain, outcome) in [
        ("null.example", "failed Site dns 5.1.10"),
        ("absent.example", "failed Site dns 5.1.2"),
        ("broken.example", "delayed Site dns 4.4.3"),
        ("silent.example", "delayed Site dns 4.4.3"),
        ("own.example", "failed Site dns 5.4.6"),
        ("relay.example", "failed Site dns 5.4.6"),
        ("dangling.example", "delayed Host dns 4.4.4"),
        ("alone.example", "delayed Host dns 4.4.4"),
        ("inside.example", "delayed Host dns 4.4.4"),
        ("[127.0.0.1]", "delayed Host connect 4.4.1"),
        ("[10.0.0.1]", "failed Site route 5.7.1"),
        ("[IPv6:::1]", "failed Site route 5.7.1"),
    ] {
        // Port 9 is discard: nobody listens there.
        let outcome_seen = by_mx(zone(), Options { smtp_port: 9, ..options() }, domain).await;
        assert_eq!(shown(&outcome_seen), outcome, "{domain}");
    }
}
