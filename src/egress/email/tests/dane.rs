//! Hosts with TLSA records in a signed zone: connections that are used again, records that change, and next hops that are fixed.

use aws_lc_rs::digest::{SHA256, digest};

use super::*;
use crate::dns::dnssec::Anchors;

const STARTTLS: &str = "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n";
const BYE: &str = "C: QUIT\nS: 221 bye";
const MX: &str = "mx.good.example";

/// A host in a signed zone, and who calls it. Its resolver's clock is turned by hand.
struct Signed {
    host: Host,
    egress: Arc<MailEgress>,
    names: ZoneServer,
    zone: Zone,
    clock: Arc<ManualClock>,
    /// Of its certificate.
    digest: Vec<u8>,
    /// Where its TLSA records stand.
    place: String,
}

async fn signed(scripts: &[&str], tls: TlsPolicies) -> Signed {
    let own = rcgen::generate_simple_self_signed(vec!["nobody.example".to_owned()]).unwrap();
    let digest = digest(&SHA256, own.cert.der()).as_ref().to_vec();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let host = Host::start_with("127.0.0.1:0".parse().unwrap(), scripts, Arc::new(server)).await;
    let port = host.address.port();
    let zone = Zone::new()
        .signed(".")
        .signed("example")
        .unsigned("plain.example")
        .mx("good.example", 10, MX)
        .mx("other.example", 10, MX)
        .mx("plain.example", 10, MX)
        .a(MX, [127, 0, 0, 1]);
    let names = ZoneServer::start(zone.clone()).await.unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1)));
    let lookups = dns::Options {
        nameservers: vec![names.address()],
        timeout: Duration::from_secs(5),
        attempts: 1,
        anchors: Anchors::parse(&zone.anchor()).unwrap(),
        ..Default::default()
    };
    let options = Options { smtp_port: port, dane: true, tls, ..options() };
    let egress = MailEgress::new(
        Arc::new(ArcSwap::from_pointee(options)),
        Resolver::new(&lookups, clock.clone()).unwrap(),
        Arc::new(Metrics::new()),
        clock.clone(),
        Arc::new(NoSigner),
    );
    let place = format!("_{port}._tcp.{MX}");
    Signed { host, egress: Arc::new(egress), names, zone, clock, digest, place }
}

impl Signed {
    /// From now on the host has this record, and what was looked up before is forgotten.
    fn publish(&self, fields: [u8; 3], data: &[u8]) {
        self.names.serve(self.zone.clone().tlsa(&self.place, fields, data));
        self.clock.advance(Duration::from_secs(3600));
    }

    fn digest_of_another(&self) -> Vec<u8> {
        self.digest.iter().map(|byte| !byte).collect()
    }
}

async fn to(courier: &mut MailCourier, hop: MailHop) -> String {
    let outcome = courier.carry(&mail(MAIL, &["a@good.example"]), &hop).await.remove(0);
    let peer = outcome.peer.as_ref().unwrap();
    let how = if peer.tls.is_some() { "in TLS" } else { "in clear" };
    format!("{}, {how}, {}", shown(&outcome), peer.tls_policy.as_deref().unwrap_or("none"))
}

fn by_mx(domain: &str) -> MailHop {
    MailHop::Mx(Domain::parse(domain).unwrap())
}

#[tokio::test]
async fn a_connection_serves_those_whose_records_it_was_made_by() {
    let any = hello("STARTTLS") + STARTTLS + TAKEN + BYE;
    let named = hello("STARTTLS") + STARTTLS + &TAKEN.repeat(4) + BYE;
    let refused = hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails";
    let signed = signed(&[&any, &named, &refused, &any, &refused], TlsPolicies::default()).await;
    let mut courier = MailCourier::new(signed.egress.clone());
    // No records: opportunistic, with whatever certificate.
    assert_eq!(to(&mut courier, by_mx("good.example")).await, "relayed, in TLS, opportunistic (default)");
    // Encrypted is not verified, so this takes another connection.
    signed.publish([3, 0, 1], &signed.digest);
    for domain in ["good.example", "good.example", "other.example"] {
        assert_eq!(to(&mut courier, by_mx(domain)).await, "relayed, in TLS, verified (dane)", "{domain}");
    }
    // Nobody vouches for the way of this one; the connection is more than it must be.
    assert_eq!(to(&mut courier, by_mx("plain.example")).await, "relayed, in TLS, opportunistic (default)");
    assert_eq!(signed.egress.metrics.mail_connections_made.get(), 2);
    // The records have changed; neither the connection nor the TLS session counts any more.
    signed.publish([3, 0, 1], &signed.digest_of_another());
    assert_eq!(to(&mut courier, by_mx("good.example")).await, "delayed Host tls 4.7.5, in clear, verified (dane)");
    // And again: none that can be used, and none that fit.
    signed.publish([0, 0, 1], &signed.digest);
    let unusable = to(&mut courier, by_mx("good.example")).await;
    assert_eq!(unusable, "relayed, in TLS, required (dane, unusable TLSA)");
    signed.publish([2, 1, 1], &signed.digest);
    assert_eq!(to(&mut courier, by_mx("good.example")).await, "delayed Host tls 4.7.5, in clear, verified (dane)");
    courier.close().await;
    assert_eq!(signed.host.finish().await.len(), 5);
}

#[tokio::test]
async fn what_the_administrator_demands_is_not_lowered_by_records() {
    let refused = hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails";
    let named = hello("STARTTLS") + STARTTLS + TAKEN + TAKEN + BYE;
    let rule = |domain: &str, level| TlsRule { domains: vec![domain.to_owned()], level, hosts: Arc::new([]) };
    let tls = TlsPolicies {
        default: TlsLevel::Verified,
        rules: vec![rule("other.example", TlsLevel::Required), rule("plain.example", TlsLevel::Dane)],
        ..TlsPolicies::default()
    };
    let signed = signed(&[&refused, &named], tls).await;
    let mut courier = MailCourier::new(signed.egress.clone());
    // Unusable records ask for less than the default does.
    signed.publish([1, 0, 1], &signed.digest);
    assert_eq!(to(&mut courier, by_mx("good.example")).await, "delayed Host tls 4.7.5, in clear, verified (default)");
    // Those that can be used stand in for authorities.
    signed.publish([3, 0, 1], &signed.digest);
    assert_eq!(to(&mut courier, by_mx("good.example")).await, "relayed, in TLS, verified (dane)");
    // A rule is what it says, whatever is published.
    signed.publish([3, 0, 1], &signed.digest_of_another());
    let by_rule = to(&mut courier, by_mx("other.example")).await;
    assert_eq!(by_rule, "relayed, in TLS, required (configured for other.example)");
    let demanded = to(&mut courier, by_mx("plain.example")).await;
    assert_eq!(demanded, "delayed Host tls 4.7.5, in clear, dane (configured for plain.example)");
    courier.close().await;
    signed.host.finish().await;
}

#[tokio::test]
async fn a_fixed_next_hop_with_a_name_has_records_too() {
    let named = hello("STARTTLS") + STARTTLS + TAKEN + TAKEN + BYE;
    let refused = hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails";
    let signed = signed(&[&named, &refused], TlsPolicies::default()).await;
    let mut courier = MailCourier::new(signed.egress.clone());
    let hop = MailHop::Fixed(format!("{MX}:{}", signed.host.address.port()).into());
    signed.publish([3, 0, 1], &signed.digest);
    for _ in 0..2 {
        assert_eq!(to(&mut courier, hop.clone()).await, "relayed, in TLS, verified (dane)");
    }
    signed.publish([3, 0, 1], &signed.digest_of_another());
    assert_eq!(to(&mut courier, hop).await, "delayed Host tls 4.7.5, in clear, verified (dane)");
    courier.close().await;
    signed.host.finish().await;
}
