//! Which hosts and addresses of a domain are tried, and in which order.

use super::*;

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
async fn hosts_that_the_tls_policy_does_not_name_are_passed_over() {
    let host = Host::start(&[&(hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye")]).await;
    let mut zone = Zone::new().mx("x.example", 9, "good.x.example").a("good.x.example", [127, 0, 0, 1]);
    for n in 0..5 {
        zone = zone.mx("x.example", n, &format!("mx{n}.x.example")).a(&format!("mx{n}.x.example"), [127, 0, 0, 1]);
    }
    let hosts = Arc::new([HostPattern::parse("good.x.example").unwrap()]);
    let rule = TlsRule { domains: vec!["x.example".to_owned()], level: TlsLevel::Opportunistic, hosts };
    let tls = TlsPolicies { rules: vec![rule], ..TlsPolicies::default() };
    let two = Options { smtp_port: host.address.port(), hosts_per_attempt: 2, tls, ..options() };
    let outcome = by_mx(zone, two, "x.example").await;
    assert_eq!((shown(&outcome).as_str(), &*outcome.peer.unwrap().host), ("relayed", "good.x.example"));
    host.finish().await;
}

#[tokio::test]
async fn an_implicit_mx_is_the_domain_itself() {
    let host = Host::start(&[&(hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye")]).await;
    let zone = Zone::new().a("x.example", [127, 0, 0, 1]);
    let outcome = by_mx(zone, Options { smtp_port: host.address.port(), ..options() }, "x.example").await;
    assert_eq!(shown(&outcome), "relayed");
    host.finish().await;
}
