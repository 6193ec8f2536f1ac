//! Connections and TLS sessions that are used again: never for mail whose policy demands more than they have.

use super::*;

const STARTTLS: &str = "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n";
const BYE: &str = "C: QUIT\nS: 221 bye";

fn rule(domain: &str, level: TlsLevel, hosts: &[&str]) -> TlsRule {
    let hosts = hosts.iter().map(|h| HostPattern::parse(h).unwrap()).collect();
    TlsRule { domains: vec![domain.to_owned()], level, hosts }
}

/// All domains have one host, whose certificate is good, in its name, and vouched for.
struct Shared {
    host: Host,
    egress: Arc<MailEgress>,
    _names: ZoneServer,
}

/// `name` is the test's own: sessions with any certificate are kept by name, for the whole process.
async fn shared(name: &str, scripts: &[&str]) -> Shared {
    let own = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let host = Host::start_with("127.0.0.1:0".parse().unwrap(), scripts, Arc::new(server)).await;
    let mut zone = Zone::new().a(name, [127, 0, 0, 1]);
    for domain in ["any.example", "off.example", "required.example", "verified.example", "elsewhere.example"] {
        zone = zone.mx(domain, 10, name);
    }
    let names = ZoneServer::start(zone).await.unwrap();
    let authorities = Authorities::Pem(certificate.into_bytes().into());
    let tls = TlsPolicies { rules: rules(name), authorities, ..TlsPolicies::default() };
    let options = Options { smtp_port: host.address.port(), tls, ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    Shared { host, egress, _names: names }
}

fn rules(host: &str) -> Vec<TlsRule> {
    vec![
        rule("off.example", TlsLevel::Off, &[]),
        rule("required.example", TlsLevel::Required, &[]),
        rule("verified.example", TlsLevel::Verified, &[host]),
        rule("elsewhere.example", TlsLevel::Verified, &["*.elsewhere.example"]),
    ]
}

async fn to(courier: &mut MailCourier, domain: &str) -> RecipientOutcome {
    let hop = MailHop::Mx(Domain::parse(domain).unwrap());
    courier.carry(&mail(MAIL, &[&format!("a@{domain}")]), &hop).await.remove(0)
}

/// Outcome, in TLS or clear, and the policy.
fn told(outcome: &RecipientOutcome) -> String {
    let peer = outcome.peer.as_ref().unwrap();
    let how = if peer.tls.is_some() { "in TLS" } else { "in clear" };
    format!("{}, {how}, {}", shown(outcome), peer.tls_policy.as_deref().unwrap_or("none"))
}

#[tokio::test]
async fn a_connection_carries_no_mail_that_demands_more_than_it_has() {
    let clear = hello("STARTTLS PIPELINING") + TAKEN + TAKEN + BYE;
    let any = hello("STARTTLS") + STARTTLS + TAKEN + TAKEN + BYE;
    let verified = hello("STARTTLS") + STARTTLS + &TAKEN.repeat(4) + BYE;
    let Shared { host, egress, _names } = shared("mx.reused.example", &[&clear, &any, &verified]).await;
    let mut courier = MailCourier::new(egress.clone());
    for (domain, expected) in [
        ("off.example", "relayed, in clear, off (configured for off.example)"),
        // A connection in clear is as good as any where clear is allowed.
        ("any.example", "relayed, in clear, opportunistic (default)"),
        ("required.example", "relayed, in TLS, required (configured for required.example)"),
        ("any.example", "relayed, in TLS, opportunistic (default)"),
        // Encrypted is not verified.
        ("verified.example", "relayed, in TLS, verified (configured for verified.example)"),
        // What has more than it must serves everybody.
        ("off.example", "relayed, in TLS, off (configured for off.example)"),
        ("required.example", "relayed, in TLS, required (configured for required.example)"),
        ("any.example", "relayed, in TLS, opportunistic (default)"),
        // Verified, but not for a domain that names other hosts.
        ("elsewhere.example", "delayed Host tls 4.7.1, in clear, verified (configured for elsewhere.example)"),
    ] {
        assert_eq!(told(&to(&mut courier, domain).await), expected);
    }
    assert_eq!(egress.metrics.mail_connections_made.get(), 3);
    courier.close().await;
    assert_eq!(host.finish().await.len(), 3);
}

#[tokio::test]
async fn a_policy_that_is_raised_holds_for_connections_that_are_open() {
    let clear = hello("STARTTLS PIPELINING") + TAKEN + BYE;
    let verified = hello("STARTTLS") + STARTTLS + TAKEN + BYE;
    let Shared { host, egress, _names } = shared("mx.raised.example", &[&clear, &verified]).await;
    let mut courier = MailCourier::new(egress.clone());
    assert!(told(&to(&mut courier, "off.example").await).starts_with("relayed, in clear"));
    let mut options = (**egress.options.load()).clone();
    options.tls.rules[0].level = TlsLevel::Verified;
    egress.options.store(Arc::new(options));
    assert!(told(&to(&mut courier, "off.example").await).starts_with("relayed, in TLS, verified"));
    courier.close().await;
    host.finish().await;
}

#[tokio::test]
async fn sessions_are_resumed_within_each_policy_and_not_from_a_weaker_one() {
    let once = hello("STARTTLS") + STARTTLS + TAKEN + BYE;
    let Shared { host, egress, _names } = shared("mx.resumed.example", &[&*once; 6]).await;
    let options = egress.options.load_full();
    let mut kinds = Vec::new();
    for domain in
        ["any.example", "any.example", "verified.example", "verified.example", "required.example", "required.example"]
    {
        let mut courier = MailCourier::new(egress.clone());
        assert!(told(&to(&mut courier, domain).await).starts_with("relayed, in TLS"));
        kinds.push(courier.session.as_ref().unwrap().connection.handshake_kind().unwrap());
        courier.close().await;
    }
    use rustls::HandshakeKind::{Full, Resumed};
    // Required takes any certificate, as opportunistic does: one configuration, whose sessions they share.
    assert_eq!(kinds, [Full, Resumed, Full, Resumed, Resumed, Resumed]);
    let of = |authorities: &Authorities| egress.verifying.by(authorities).unwrap();
    let before = of(&options.tls.authorities);
    assert!(Arc::ptr_eq(&before, &of(&options.tls.authorities)), "made once");
    host.finish().await;
}
