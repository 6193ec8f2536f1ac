//! Certificates against TLSA records, first by the verifier alone, then in handshakes.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::testing;
use super::super::tls::{self, Flaw, Trouble};
use super::*;

/// The name that is called, and that which it was found by.
const BASE: &str = "mx.example.net";
const ASKED: &str = "example.net";

/// A root, an authority below it, and a host's certificate below that.
struct Chain {
    root: CertificateDer<'static>,
    middle: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    leaf_key: KeyPair,
}

fn chain(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Chain {
    let testing::Chain { root, middle, leaf, leaf_key } = testing::chain("the authority", name, change);
    Chain { root: root.der().clone(), middle: middle.der().clone(), leaf: leaf.der().clone(), leaf_key }
}

/// The record that names a certificate.
fn naming(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Association {
    let key = ParsedCertificate::try_from(certificate).unwrap().subject_public_key_info();
    let selected = if selector == 0 { certificate.as_ref() } else { key.as_ref() };
    let data = match matching {
        0 => selected.to_vec(),
        1 => digest(&SHA256, selected).as_ref().to_vec(),
        _ => digest(&SHA512, selected).as_ref().to_vec(),
    };
    Association::parse(usage, selector, matching, &data).unwrap()
}

/// What a certificate that was sent with others is worth: `ok`, or what is wrong with it.
fn judged(records: &[Association], sent: &[&CertificateDer<'static>]) -> String {
    tls::install_provider();
    let associations = Associations::new(records.iter().cloned()).unwrap();
    let names = [BASE, ASKED].into_iter().map(|name| ServerName::try_from(name).unwrap()).collect();
    let verifier = Verifier { associations, names, provider: provider() };
    let others: Vec<_> = sent[1..].iter().map(|certificate| (*certificate).clone()).collect();
    let called = ServerName::try_from("another.name.example").unwrap();
    match verifier.verify_server_cert(sent[0], &others, &called, &[], UnixTime::now()) {
        Ok(_) => "ok".to_owned(),
        Err(error) => match tls::trouble(&std::io::Error::other(error)) {
            Trouble::Certificate(flaw, _) => format!("{flaw:?}"),
            other => format!("{other:?}"),
        },
    }
}

#[test]
fn each_kind_of_record_names_its_certificate_and_no_other() {
    let own = chain(BASE, |_| {});
    let other = chain(BASE, |_| {});
    let sent = [&own.leaf, &own.middle, &own.root];
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let of = |usage, certificate| judged(&[naming(usage, selector, matching, certificate)], &sent);
            assert_eq!(of(3, &own.leaf), "ok", "3 {selector} {matching}");
            assert_eq!(of(3, &other.leaf), "NotNamed", "3 {selector} {matching} another's");
            // DANE-EE names the host's own certificate only, DANE-TA one above it only.
            assert_eq!(of(3, &own.middle), "NotNamed", "3 {selector} {matching} of the authority");
            assert_eq!(of(2, &own.leaf), if (selector, matching) == (0, 0) { "NotTrusted" } else { "NotNamed" });
            assert_eq!(of(2, &own.middle), "ok", "2 {selector} {matching}");
            assert_eq!(of(2, &own.root), "ok", "2 {selector} {matching} of the root");
            let stranger = of(2, &other.root);
            assert!(["NotNamed", "NotTrusted"].contains(&&*stranger), "2 {selector} {matching} another's: {stranger}");
        }
    }
}

#[test]
fn an_authority_vouches_for_names_and_dates_and_a_certificate_of_its_own_for_itself() {
    let expired = chain(BASE, |leaf| leaf.not_after = date_time_ymd(2001, 1, 1));
    let future = chain(BASE, |leaf| leaf.not_before = date_time_ymd(2200, 1, 1));
    let renamed = chain("other.example", |_| {});
    let nameless = chain(BASE, |leaf| leaf.subject_alt_names.clear());
    let domain = chain(ASKED, |_| {});
    let authority = chain(BASE, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for (words, own, by_authority) in [
        ("expired", &expired, "Expired"),
        ("not yet valid", &future, "Expired"),
        ("in another name", &renamed, "HostMismatch"),
        ("without a name", &nameless, "HostMismatch"),
        ("in the name of the domain that was asked for", &domain, "ok"),
        ("an authority's", &authority, "Other"),
    ] {
        let sent = [&own.leaf, &own.middle];
        assert_eq!(judged(&[naming(3, 1, 1, &own.leaf)], &sent), "ok", "{words}");
        assert_eq!(judged(&[naming(2, 0, 1, &own.middle)], &sent), by_authority, "{words}");
        // One that fits is enough.
        let both = [naming(2, 0, 1, &own.middle), naming(3, 1, 1, &own.leaf)];
        assert_eq!(judged(&both, &sent), "ok", "{words}");
    }
}

#[test]
fn an_authority_has_to_be_sent_unless_the_record_holds_it_whole() {
    let own = chain(BASE, |_| {});
    let without_root = [&own.leaf, &own.middle];
    assert_eq!(judged(&[naming(2, 0, 1, &own.root)], &without_root), "NotNamed");
    assert_eq!(judged(&[naming(2, 1, 0, &own.root)], &without_root), "NotNamed");
    assert_eq!(judged(&[naming(2, 0, 0, &own.root)], &without_root), "ok");
    // A chain that is cut, and one of somebody else's.
    assert_eq!(judged(&[naming(2, 0, 1, &own.root)], &[&own.leaf, &own.root]), "NotTrusted");
    let other = chain(BASE, |_| {});
    assert_ne!(judged(&[naming(2, 0, 1, &other.root)], &[&own.leaf, &other.middle, &other.root]), "ok");
}

#[test]
fn what_is_no_certificate_is_none() {
    let own = chain(BASE, |_| {});
    let junk = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert_eq!(judged(&[naming(3, 1, 1, &own.leaf)], &[&junk]), "NotNamed");
    assert_eq!(judged(&[naming(2, 1, 1, &own.middle)], &[&junk, &own.middle]), "Other");
    assert_eq!(judged(&[naming(2, 1, 1, &own.middle)], &[&own.leaf, &junk]), "NotNamed");
    // Not even an anchor that is none harms.
    let anchor = Association::parse(2, 0, 0, &junk).unwrap();
    assert_eq!(judged(&[anchor], &[&own.leaf, &own.middle]), "NotNamed");
}

#[test]
fn only_the_strongest_digest_counts_and_the_bytes_always() {
    let (own, other) = (chain(BASE, |_| {}), chain(BASE, |_| {}));
    let sent = [&own.leaf];
    for (words, records, expected) in [
        ("a weaker one is not believed", [naming(3, 1, 1, &own.leaf), naming(3, 1, 2, &other.leaf)], "NotNamed"),
        ("the stronger one is", [naming(3, 1, 1, &other.leaf), naming(3, 1, 2, &own.leaf)], "ok"),
        ("another selector is another matter", [naming(3, 0, 1, &own.leaf), naming(3, 1, 2, &other.leaf)], "ok"),
        ("another usage too", [naming(3, 1, 1, &own.leaf), naming(2, 1, 2, &other.root)], "ok"),
        ("the bytes", [naming(3, 1, 0, &own.leaf), naming(3, 1, 2, &other.leaf)], "ok"),
        ("beside the bytes", [naming(3, 1, 1, &own.leaf), naming(3, 1, 0, &other.leaf)], "ok"),
    ] {
        assert_eq!(judged(&records, &sent), expected, "{words}");
    }
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    for (fields, bytes, usable) in [
        ([3, 1, 1], 32, true),
        ([2, 0, 2], 64, true),
        ([3, 0, 0], 1, true),
        ([0, 1, 1], 32, false),
        ([1, 1, 1], 32, false),
        ([4, 1, 1], 32, false),
        ([255, 1, 1], 32, false),
        ([3, 2, 1], 32, false),
        ([3, 255, 1], 32, false),
        ([3, 1, 3], 32, false),
        ([3, 1, 255], 32, false),
        ([3, 1, 1], 31, false),
        ([3, 1, 1], 64, false),
        ([3, 1, 2], 32, false),
        ([3, 1, 0], 0, false),
    ] {
        let [usage, selector, matching] = fields;
        assert_eq!(
            Association::parse(usage, selector, matching, &vec![1; bytes]).is_some(),
            usable,
            "{fields:?} {bytes}"
        );
    }
    assert_eq!(Associations::new([]), None);
}

#[test]
fn one_configuration_for_the_same_records_and_a_bound_for_all() {
    let own = chain(BASE, |_| {});
    let vouching = Vouching::default();
    let of = |records: &[Association], names: &[&str]| {
        vouching.by(&Associations::new(records.iter().cloned()).unwrap(), names).unwrap()
    };
    let (end, anchor) = (naming(3, 1, 1, &own.leaf), naming(2, 0, 1, &own.root));
    let first = of(&[end.clone(), anchor.clone()], &[BASE, ASKED]);
    assert!(Arc::ptr_eq(&first, &of(&[anchor.clone(), end.clone(), end.clone()], &["EXAMPLE.net.", BASE])));
    assert!(!Arc::ptr_eq(&first, &of(&[end.clone(), anchor], &[BASE, "other.example"])));
    // Without an authority names do not matter.
    assert!(Arc::ptr_eq(&of(std::slice::from_ref(&end), &[BASE]), &of(std::slice::from_ref(&end), &["other.example"])));
    let wanted = of(std::slice::from_ref(&end), &[BASE]);
    for n in 0..u32::try_from(3 * CONFIGURATIONS_MAX).unwrap() {
        let other = Association::parse(3, 1, 0, &n.to_be_bytes()).unwrap();
        of(&[other], &[]);
        assert!(Arc::ptr_eq(&wanted, &of(std::slice::from_ref(&end), &[BASE])), "{n}");
    }
    let generations = vouching.0.lock();
    assert!(generations.young.len() + generations.old.len() <= 2 * CONFIGURATIONS_MAX);
    assert!(!Arc::ptr_eq(&first, &configuration_kept(&generations, &first)));
}

/// Any configuration but this one: it has gone.
fn configuration_kept(generations: &Generations, gone: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut all = generations.young.values().chain(generations.old.values());
    assert!(all.clone().all(|config| !Arc::ptr_eq(config, gone)));
    all.next().unwrap().clone()
}

/// Shakes hands with a host that has this certificate; how, or why not.
async fn shaken(config: Arc<ClientConfig>, acceptor: &TlsAcceptor) -> Result<rustls::HandshakeKind, Trouble> {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let connector = TlsConnector::from(config);
    let name = ServerName::try_from(BASE).unwrap();
    let serving = async {
        let mut server = acceptor.accept(server).await?;
        server.write_all(b"x").await?;
        server.flush().await?;
        Ok::<_, std::io::Error>(server)
    };
    let connecting = async {
        let mut client = connector.connect(name, client).await?;
        client.read_exact(&mut [0; 1]).await?;
        Ok::<_, std::io::Error>(client.get_ref().1.handshake_kind().unwrap())
    };
    let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(connecting, serving) });
    both.await.unwrap().0.map_err(|error| tls::trouble(&error))
}

fn acceptor(own: &Chain, key: &KeyPair) -> TlsAcceptor {
    tls::install_provider();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    // Not checked against each other here: a thief has the certificate and not its key.
    let certified = rustls::sign::CertifiedKey::new(vec![own.leaf.clone(), own.middle.clone()], signing);
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn sessions_are_resumed_under_the_same_records_only() {
    let own = chain(BASE, |_| {});
    let acceptor = acceptor(&own, &own.leaf_key);
    let vouching = Vouching::default();
    let by = |record: Association| vouching.by(&Associations::new([record]).unwrap(), &[BASE]).unwrap();
    use rustls::HandshakeKind::{Full, Resumed};
    let before = naming(3, 1, 1, &own.leaf);
    assert_eq!(shaken(by(before.clone()), &acceptor).await, Ok(Full));
    assert_eq!(shaken(by(before), &acceptor).await, Ok(Resumed));
    // The records have changed: nothing is taken for granted.
    let changed = naming(3, 1, 1, &chain(BASE, |_| {}).leaf);
    let refused = shaken(by(changed), &acceptor).await;
    assert!(matches!(refused, Err(Trouble::Certificate(Flaw::NotNamed, _))), "{refused:?}");
    assert_eq!(shaken(by(naming(3, 1, 2, &own.leaf)), &acceptor).await, Ok(Full));
}

#[tokio::test]
async fn a_certificate_without_its_key_is_of_no_use() {
    let own = chain(BASE, |_| {});
    let thief = acceptor(&own, &KeyPair::generate().unwrap());
    for record in [naming(3, 0, 1, &own.leaf), naming(2, 0, 1, &own.middle)] {
        let config = Vouching::default().by(&Associations::new([record]).unwrap(), &[BASE]).unwrap();
        let refused = shaken(config, &thief).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}

proptest! {
    #[test]
    fn no_record_panics_and_none_is_met_by_chance(
        records in proptest::collection::vec((0..5u8, 0..3u8, 0..4u8, proptest::collection::vec(any::<u8>(), 0..70)), 0..12),
        certificate in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let usable = records.iter().filter_map(|(u, s, m, data)| Association::parse(*u, *s, *m, data));
        if let Some(associations) = Associations::new(usable) {
            let provider = provider();
            let verifier = Verifier { associations, names: Vec::new(), provider };
            let name = ServerName::try_from(BASE).unwrap();
            let certificate = CertificateDer::from(certificate);
            let met = verifier.verify_server_cert(&certificate, std::slice::from_ref(&certificate), &name, &[], UnixTime::now());
            let same = records.iter().any(|(.., data)| **data == *certificate);
            prop_assert!(met.is_err() || same);
        }
    }
}
