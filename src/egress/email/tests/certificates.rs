//! Hosts whose certificate is bad, under each policy: does the mail go, and how.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;
use crate::net::testing::{self, Chain};

/// A certificate, and what becomes of the mail where it must be verified.
struct Row {
    certificate: &'static str,
    made: fn() -> Identity,
    /// Why it is not taken; empty if it is.
    objection: &'static str,
}

/// A chain and the key of its first certificate.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The authority that it should lead to, PEM.
    root: Option<String>,
}

/// The name in the certificates, and of the host.
const NAME: &str = "mx.example.net";

const UNKNOWN: &str = "its certificate comes from no trusted authority";

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |certificate, objection, made| Row { certificate, made, objection };
    vec![
        row("good", "", || issued(|_| {}, "the authority", |chain| chain)),
        row("good but for its authority, which nobody knows", UNKNOWN, || Identity { root: None, ..issued(|_| {}, "the authority", |chain| chain) }),
        row("of a wildcard", "", || issued(|leaf| leaf.subject_alt_names = vec![rcgen::SanType::DnsName("*.example.net".try_into().unwrap())], "the authority", |chain| chain)),
        row("of a wildcard above", "is not in its name", || issued(|leaf| leaf.subject_alt_names = vec![rcgen::SanType::DnsName("*.net".try_into().unwrap())], "the authority", |chain| chain)),
        row("expired", "has expired", || issued(|leaf| leaf.not_after = date_time_ymd(2001, 1, 1), "the authority", |chain| chain)),
        row("not yet valid", "is not valid yet", || issued(|leaf| leaf.not_before = date_time_ymd(2200, 1, 1), "the authority", |chain| chain)),
        row("of another name", "is not in its name", || issued(|leaf| leaf.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())], "the authority", |chain| chain)),
        row("of no name", "is not in its name", || issued(|leaf| leaf.subject_alt_names.clear(), "the authority", |chain| chain)),
        row("of an authority that only bears the name", "is not signed by the authority that it names", || Identity { root: issued(|_| {}, "the authority", |chain| chain).root, ..issued(|_| {}, "the authority", |chain| chain) }),
        row("without its authority's", UNKNOWN, || issued(|_| {}, "the authority", |chain| chain[..1].to_vec())),
        row("followed by its chain in reverse order", "", || issued(|_| {}, "the authority", |mut chain| { chain[1..].reverse(); chain })),
        row("followed by strangers'", UNKNOWN, || issued(|_| {}, "the authority", |chain| [&chain[..1], &self_signed().chain].concat())),
        row("self-signed", UNKNOWN, self_signed),
        row("an authority's own", "is not acceptable", || issued(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "the authority", |chain| chain)),
        row("signed with SHA-1", "its certificate", || by_openssl(&["-sha1", "-addext", "subjectAltName=DNS:mx.example.net"], "sha1WithRSAEncryption")),
        row("of X.509 version 1", "is not acceptable", version_1),
    ]
}

/// A leaf below an intermediate authority below a root, and the chain in the order that it is sent in.
fn issued(
    change: impl FnOnce(&mut CertificateParams),
    authority: &str,
    order: impl FnOnce(Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>>,
) -> Identity {
    let Chain { root, middle, leaf, leaf_key } = testing::chain(authority, NAME, change);
    let chain = order(vec![leaf.der().clone(), middle.der().clone(), root.der().clone()]);
    let key = PrivateKeyDer::from_pem_slice(leaf_key.serialize_pem().as_bytes()).unwrap();
    Identity { chain, key, root: Some(root.pem()) }
}

fn self_signed() -> Identity {
    let own = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes()).unwrap();
    Identity { chain: vec![own.cert.der().clone()], key, root: None }
}

/// What rcgen does not make. `shows` is what the certificate must say of itself, or the row would prove nothing.
fn by_openssl(arguments: &[&str], shows: &str) -> Identity {
    let dir = tempfile::tempdir().unwrap();
    let request =
        ["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=mx.example.net", "-keyout", "key", "-out", "crt"];
    let key: &[&str] = if arguments.contains(&"-newkey") { &[] } else { &["-newkey", "rsa:2048"] };
    openssl(dir.path(), &[&request[..], key, arguments].concat());
    read(dir.path(), shows)
}

/// A certificate made of a request without extensions is of version 1.
fn version_1() -> Identity {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    openssl(
        path,
        &[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=mx.example.net",
            "-keyout",
            "key",
            "-out",
            "csr",
        ],
    );
    openssl(path, &["x509", "-req", "-in", "csr", "-signkey", "key", "-days", "30", "-out", "crt"]);
    read(path, "Version: 1 ")
}

fn openssl(dir: &std::path::Path, arguments: &[&str]) -> String {
    let run = Command::new("openssl").args(arguments).current_dir(dir).output();
    let run = run.expect("openssl (tests/setup installs it)");
    assert!(run.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

fn read(dir: &std::path::Path, shows: &str) -> Identity {
    let text = openssl(dir, &["x509", "-in", "crt", "-noout", "-text"]);
    assert!(text.contains(shows), "no {shows} in {text}");
    let chain = vec![CertificateDer::from_pem_file(dir.join("crt")).unwrap()];
    Identity { chain, key: PrivateKeyDer::from_pem_file(dir.join("key")).unwrap(), root: None }
}

/// Sends whatever chain it is given: the usual way refuses what it cannot read itself.
fn server(identity: Identity) -> Arc<ServerConfig> {
    let key = aws_lc_rs::sign::any_supported_type(&identity.key).unwrap();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(identity.chain, key));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
}

/// Who vouches: the row's authority, or somebody else.
fn authorities(identity: &Identity) -> Authorities {
    let root = identity.root.clone().unwrap_or_else(|| issued(|_| {}, "others", |chain| chain).root.unwrap());
    Authorities::Pem(root.into_bytes().into())
}

/// A courier to [`NAME`], which stands at this host.
async fn by_name(host: &Host, level: TlsLevel, authorities: Authorities) -> (Slot, Arc<MailEgress>, ZoneServer) {
    let zone = Zone::new().mx("x.example", 10, NAME).a(NAME, [127, 0, 0, 1]);
    let names = ZoneServer::start(zone).await.unwrap();
    let tls = TlsPolicies { default: level, authorities, ..TlsPolicies::default() };
    let options = Options { tls, smtp_port: host.address.port(), ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    (Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap())), egress, names)
}

fn secured() -> String {
    hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n"
}

const BYE: &str = "C: QUIT\nS: 221 bye";

/// Outcome, what it went in, and the cause if it did not.
fn told(outcome: &RecipientOutcome) -> (String, String) {
    let described = outcome.peer.as_ref().and_then(|peer| peer.tls.as_deref());
    let described = described.map_or("in clear", |tls| tls.split(' ').next().unwrap_or_default());
    match &outcome.outcome {
        Outcome::Relayed(_) => (format!("relayed, {described}"), String::new()),
        Outcome::Delayed(f) | Outcome::Failed(f) => (shown(outcome), f.cause.clone().unwrap_or_default()),
    }
}

#[tokio::test]
async fn mail_goes_to_a_host_with_a_bad_certificate_as_the_policy_says() {
    let clear = hello("STARTTLS PIPELINING") + TAKEN + TAKEN + BYE;
    let secured = secured() + TAKEN + TAKEN + BYE;
    let broken = hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails";
    for row in rows() {
        for level in [TlsLevel::Off, TlsLevel::Opportunistic, TlsLevel::Required, TlsLevel::Verified] {
            let objects = level == TlsLevel::Verified && !row.objection.is_empty();
            let scripts = match level {
                TlsLevel::Off => vec![clear.as_str()],
                _ if objects => vec![broken.as_str(); 2],
                _ => vec![secured.as_str()],
            };
            let expected = match level {
                TlsLevel::Off => "relayed, in clear",
                _ if objects => "delayed Host tls 4.7.5",
                // Nothing is ever claimed of a certificate that nobody asks for.
                _ => "relayed, TLSv1.3",
            };
            let identity = (row.made)();
            let trusted = authorities(&identity);
            let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &scripts, server(identity)).await;
            let (mut courier, egress, _names) = by_name(&host, level, trusted).await;
            let at = format!("{}, {}", row.certificate, level.as_str());
            for _ in 0..2 {
                let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
                let (outcome, cause) = told(&outcomes[0]);
                assert_eq!(outcome, expected, "{at}: {cause}");
                assert!(!objects || cause.contains(row.objection), "{at}: {cause}");
                let policy = outcomes[0].peer.as_ref().unwrap().tls_policy.clone().unwrap();
                assert_eq!(*policy, format!("{} (default)", level.as_str()));
            }
            assert_eq!(egress.metrics.mail_connections_made.get() as usize, scripts.len(), "{at}");
            courier.close().await;
            host.finish().await;
        }
    }
}

#[tokio::test]
async fn a_host_without_tls_gets_nothing_where_tls_is_demanded() {
    let no_offer = hello("PIPELINING");
    let refuses = hello("STARTTLS PIPELINING") + "C: STARTTLS\nS: 454 4.7.0 not now";
    let hangs_up = hello("STARTTLS PIPELINING") + "C: STARTTLS\nCLOSE";
    let nonsense = hello("STARTTLS PIPELINING") + "C: STARTTLS\nS: 220 go\nHEAR\nS: not TLS at all\nSTALL";
    for (script, expected, why) in [
        (no_offer, "delayed Host tls 4.7.4", "it does not offer STARTTLS"),
        (refuses, "delayed Host tls 4.7.4", "it refuses STARTTLS (454 4.7.0 not now)"),
        (hangs_up, "delayed Host tls 4.7.5", "its TLS handshake fails (the peer closed the connection)"),
        (nonsense, "delayed Host tls 4.7.5", "its TLS handshake fails (received corrupt message"),
    ] {
        for level in [TlsLevel::Required, TlsLevel::Verified] {
            // Twice: a broken host is not remembered, nor tried in clear.
            let host = Host::start(&[&script, &script]).await;
            let trusted = authorities(&issued(|_| {}, "the authority", |chain| chain));
            let (mut courier, egress, _names) = by_name(&host, level, trusted).await;
            for _ in 0..2 {
                let (outcome, cause) = told(&courier.carry(&mail(MAIL, &["a@x.example"])).await[0]);
                assert_eq!(outcome, expected, "{cause}");
                let policy = format!("the TLS policy {} (default) is not met by {NAME}: {why}", level.as_str());
                assert!(cause.starts_with(&policy), "{cause}");
            }
            courier.close().await;
            host.finish().await;
            assert!(!egress.tls_is_broken(NAME));
            let unmet = egress.metrics.mail_tls.with_label_values(&[level.as_str(), "default", "unmet"]);
            assert_eq!(unmet.get(), 2);
        }
    }
}

#[tokio::test]
async fn a_fixed_next_hop_is_verified_by_its_address_or_name() {
    for (name, expected) in [("127.0.0.1", "relayed, TLSv1.3"), (NAME, "delayed Host tls 4.7.5")] {
        let identity = issued(
            |leaf| leaf.subject_alt_names = CertificateParams::new(vec![name.to_owned()]).unwrap().subject_alt_names,
            "the authority",
            |chain| chain,
        );
        let trusted = authorities(&identity);
        let script = match expected {
            "relayed, TLSv1.3" => secured() + TAKEN + BYE,
            _ => hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails",
        };
        let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &[&script], server(identity)).await;
        let hops = HashMap::from([(host.address.to_string().into(), TlsLevel::Verified)]);
        let tls = TlsPolicies { hops, authorities: trusted, ..TlsPolicies::default() };
        let mut courier = courier(&egress(Options { tls, ..options() }), &host);
        let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
        let (outcome, cause) = told(&outcomes[0]);
        assert_eq!(outcome, expected, "{cause}");
        let policy = outcomes[0].peer.as_ref().unwrap().tls_policy.clone().unwrap();
        assert_eq!(&*policy, "verified (configured for the route)");
        courier.close().await;
        host.finish().await;
    }
}

#[tokio::test]
async fn where_nobody_is_trusted_nothing_goes_and_the_cause_says_so() {
    let (mut courier, _egress, _names) = {
        let host = Host::start(&[]).await;
        by_name(&host, TlsLevel::Verified, Authorities::Pem(Arc::new([]))).await
    };
    let (outcome, cause) = told(&courier.carry(&mail(MAIL, &["a@x.example"])).await[0]);
    assert_eq!(outcome, "delayed Host tls 4.7.5");
    assert!(cause.contains("no certificate authority is trusted"), "{cause}");
}
