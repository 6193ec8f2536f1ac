//! Domains that share their hosts: told apart by name, carried over one connection.

use super::*;

fn zone() -> Zone {
    let mut zone = Zone::new()
        .mx("own.example", 10, "mx.own.example")
        .mx("backup.example", 10, "mx.own.example")
        .mx("backup.example", 20, "mx.example")
        .mx("null.example", 0, ".")
        .a("implicit.example", [127, 0, 0, 1])
        .servfail("broken.example")
        .mx("loop.example", 10, "relay.example")
        .a("mx.example", [127, 0, 0, 1])
        .a("mx.own.example", [127, 0, 0, 1]);
    for domain in ["one.example", "two.example"] {
        zone = zone.mx(domain, 10, "mx.example");
    }
    zone
}

fn by(domain: &str) -> MailHop {
    MailHop::Mx(Domain::parse(domain).unwrap())
}

#[tokio::test]
async fn domains_with_the_same_hosts_have_one_name() {
    let names = ZoneServer::start(zone()).await.unwrap();
    let egress = egress_with(options(), vec![names.address()], Arc::new(NoSigner));
    let mut sites = Vec::new();
    for domain in ["one.example", "two.example", "own.example", "backup.example"] {
        let located = egress.locate(&Domain::parse(domain).unwrap()).await;
        sites.push(located.site.unwrap());
    }
    assert_eq!(sites, ["mx mx.example", "mx mx.example", "mx mx.own.example", "mx mx.example, mx.own.example"]);
    let mut keeps = Vec::new();
    for domain in ["null.example", "implicit.example", "absent.example", "loop.example", "broken.example"] {
        let located = egress.locate(&Domain::parse(domain).unwrap()).await;
        assert_eq!(located.site, None, "{domain}");
        keeps.push(located.keep);
    }
    assert!(
        keeps[4] < keeps[0] && keeps[..4].iter().all(|keep| *keep == keeps[0]),
        "what failed is asked again sooner"
    );
}

#[tokio::test]
async fn a_connection_serves_all_domains_that_prefer_its_host_and_no_other() {
    // one, two and one again over the first; own is at another host, which is backup's best as well.
    let first = hello("PIPELINING") + TAKEN + TAKEN + TAKEN + "C: QUIT\nS: 221 bye";
    let second = hello("PIPELINING") + TAKEN + TAKEN + "C: QUIT\nS: 221 bye";
    let third = hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye";
    let host = Host::start(&[&first, &second, &third]).await;
    let names = ZoneServer::start(zone()).await.unwrap();
    let options = Options { smtp_port: host.address.port(), ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let mut courier = MailCourier::new(egress.clone());
    let mut hosts = Vec::new();
    for domain in ["one.example", "two.example", "one.example", "own.example", "backup.example", "implicit.example"] {
        let to = format!("a@{domain}");
        let outcomes = courier.carry(&mail(MAIL, &[&to]), &by(domain)).await;
        assert_eq!(all_shown(&outcomes), ["relayed"], "{domain}");
        hosts.push(outcomes[0].peer.as_ref().unwrap().host.clone());
    }
    courier.close().await;
    let expected = ["mx.example", "mx.example", "mx.example", "mx.own.example", "mx.own.example", "implicit.example"];
    assert_eq!(hosts, expected);
    assert_eq!((egress.metrics.mail_connections_made.get(), egress.metrics.mail_connections.get()), (3, 0));
    host.finish().await;
}
