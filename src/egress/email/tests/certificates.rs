//! Hosts whose certificate is bad, under each policy: does the mail go, and how.
//!
//! A later policy adds a column to [`Row`] and its mode to the test.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;

/// A certificate, and what becomes of the mail by policy.
struct Row {
    certificate: &'static str,
    made: fn() -> Identity,
    opportunistic: &'static str,
    off: &'static str,
}

/// A chain and the key of its first certificate.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The name in the certificates; the host is called by its address.
const NAME: &str = "mx.example.net";

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    // Outcome, and what the peer is described as; nothing is ever claimed of the certificate.
    let (opportunistic, off) = ("relayed, TLSv1.3", "relayed, in clear");
    let row = |certificate, made| Row { certificate, made, opportunistic, off };
    vec![
        row("good but for its authority, which nobody knows", || issued(|_| {}, "the authority", |chain| chain)),
        row("expired", || issued(|leaf| leaf.not_after = date_time_ymd(2001, 1, 1), "the authority", |chain| chain)),
        row("not yet valid", || issued(|leaf| leaf.not_before = date_time_ymd(2200, 1, 1), "the authority", |chain| chain)),
        row("of another name", || issued(|leaf| leaf.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())], "the authority", |chain| chain)),
        row("of no name", || issued(|leaf| leaf.subject_alt_names.clear(), "the authority", |chain| chain)),
        row("without its authority's", || issued(|_| {}, "the authority", |chain| chain[..1].to_vec())),
        row("followed by its chain in reverse order", || issued(|_| {}, "the authority", |mut chain| { chain[1..].reverse(); chain })),
        row("followed by strangers'", || issued(|_| {}, "the authority", |chain| [&chain[..1], &self_signed().chain].concat())),
        row("self-signed", self_signed),
        row("an authority's own", || issued(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "the authority", |chain| chain)),
        row("signed with SHA-1", || by_openssl(&["-sha1", "-addext", "subjectAltName=DNS:mx.example.net"], "sha1WithRSAEncryption")),
        row("of X.509 version 1", version_1),
    ]
}

/// A leaf below an intermediate authority below a root, and the chain in the order that it is sent in.
fn issued(
    change: impl FnOnce(&mut CertificateParams),
    authority: &str,
    order: impl FnOnce(Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>>,
) -> Identity {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{authority}, {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let ((root_params, root_key), (middle_params, middle_key)) = (authority("root"), authority("middle"));
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, root_key);
    let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(middle_params, middle_key);
    let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    change(&mut leaf);
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &middle_issuer).unwrap();
    let chain = order(vec![leaf.der().clone(), middle.der().clone(), root.der().clone()]);
    Identity { chain, key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap() }
}

fn self_signed() -> Identity {
    let own = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes()).unwrap();
    Identity { chain: vec![own.cert.der().clone()], key }
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
    Identity { chain, key: PrivateKeyDer::from_pem_file(dir.join("key")).unwrap() }
}

/// Sends whatever chain it is given: the usual way refuses what it cannot read itself.
fn server(identity: Identity) -> Arc<ServerConfig> {
    let key = aws_lc_rs::sign::any_supported_type(&identity.key).unwrap();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(identity.chain, key));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
}

#[tokio::test]
async fn mail_goes_to_a_host_with_a_bad_certificate_as_the_policy_says() {
    let bye = "C: QUIT\nS: 221 bye";
    let clear = hello("STARTTLS PIPELINING") + TAKEN + TAKEN + bye;
    let secured = hello("STARTTLS")
        + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n"
        + TAKEN
        + TAKEN
        + bye;
    for row in rows() {
        let tls = server((row.made)());
        for (policy, mode, expected) in
            [("opportunistic", TlsMode::Opportunistic, row.opportunistic), ("off", TlsMode::Off, row.off)]
        {
            let script = if expected.ends_with("in clear") { &clear } else { &secured };
            let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &[script], tls.clone()).await;
            let egress = egress(Options { tls: mode, ..options() });
            let mut courier = courier(&egress, &host);
            for _ in 0..2 {
                let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
                let described = outcomes[0].peer.as_ref().and_then(|peer| peer.tls.as_deref());
                let described = described.map_or("in clear", |tls| tls.split(' ').next().unwrap_or_default());
                assert_eq!(format!("{}, {described}", shown(&outcomes[0])), expected, "{}, {policy}", row.certificate);
            }
            assert_eq!(egress.metrics.mail_connections_made.get(), 1, "{}, {policy}", row.certificate);
            courier.close().await;
            host.finish().await;
        }
    }
}
