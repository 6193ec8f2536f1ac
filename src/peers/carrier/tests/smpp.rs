//! SMPP with what accounts may want otherwise: inside TLS, by 5.0, long texts in other ways.

use super::*;
use crate::egress::sms::{LongTexts, Smpp, Tls};
use crate::net::Authorities;
use crate::net::testing::{Chain, chain};
use crate::net::tls::server_config;
use crate::wire::smpp::Version;

/// What a simulator needs to be called in the chain's name, and who vouches for it.
fn secured(chain: &Chain) -> (Options, Authorities) {
    let certificates = [chain.leaf.pem(), chain.middle.pem()].concat();
    let config = server_config(certificates.as_bytes(), chain.leaf_key.serialize_pem().as_bytes()).unwrap();
    let authorities = Authorities::Pem(chain.root.pem().into_bytes().into());
    (Options { tls: Some(Arc::new(config)), ..Options::default() }, authorities)
}

fn with(tls: Tls) -> impl FnOnce(&mut CarrierOptions) {
    move |o| o.tls = Some(tls)
}

#[tokio::test]
async fn texts_and_receipts_travel_inside_tls() {
    let (options, authorities) = secured(&chain("tls", "smpp.example.com", |_| {}));
    let tls = Tls { authorities, name: Some("smpp.example.com".to_owned()), ..Tls::default() };
    let mut bench = Bench::new(options, 0, with(tls)).await;
    let outcome = bench.send(&"快递".repeat(60)).await;
    assert!(matches!(outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
    let peer = outcome.peer.unwrap();
    assert!(peer.tls.is_some_and(|tls| tls.starts_with("TLSv1.3 ")), "{:?}", peer.host);
    assert_eq!(bench.texts.recv().await.unwrap().parts, 2);
    for _ in 0..2 {
        assert_eq!(bench.receipts.recv().await.unwrap().state, ReceiptState::Delivered);
    }
    bench.counted(|c| c.receipts_acknowledged == 2).await;
    bench.carrier.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn who_cannot_show_the_right_certificate_is_told_nothing() {
    let made = chain("tls", "smpp.example.com", |_| {});
    let strange = Authorities::Pem(chain("other", "smpp.example.com", |_| {}).root.pem().into_bytes().into());
    let right = || Some("smpp.example.com".to_owned());
    let own = secured(&made).1;
    for (authorities, name) in [(own.clone(), Some("other.example.com".to_owned())), (own, None), (strange, right())] {
        let tls = Tls { authorities, name: name.clone(), verify: true };
        let bench = Bench::new(secured(&made).0, 0, with(tls)).await;
        let counts = bench.counted(|c| c.connections >= 3).await;
        assert!(!bench.carrier.is_up() && counts.binds + counts.binds_refused == 0, "{name:?}");
    }
    // Any certificate will do where nobody looks.
    let bench = Bench::new(secured(&made).0, 0, with(Tls { verify: false, ..Tls::default() })).await;
    assert!(matches!(bench.send("hello").await.outcome, Outcome::Relayed(_)));
    // And one who speaks in clear only is not spoken to.
    let bench = Bench::new(Options::default(), 0, with(Tls { verify: false, ..Tls::default() })).await;
    let counts = bench.counted(|c| c.connections >= 3).await;
    assert!(!bench.carrier.is_up() && counts.binds == 0);
}

#[tokio::test]
async fn long_texts_arrive_however_they_travel() {
    let text = format!("【商店】{}", "货".repeat(167));
    for (long_texts, parts, answers) in [(LongTexts::Udh, 3, 3), (LongTexts::Sar, 3, 3), (LongTexts::Payload, 1, 1)] {
        let set = |o: &mut CarrierOptions| o.protocol = Protocol::Smpp(Smpp { long_texts, ..Smpp::default() });
        let mut bench = Bench::new(Options::default(), 0, set).await;
        let planned = bench.carrier.planned(&SmsText::new(&text).unwrap(), 0).parts.len();
        assert_eq!(planned, answers);
        bench.carrier.permit().await;
        let progress = TextProgress::new("carrier".into(), 7, planned);
        let outcome = bench.carrier.carry(&Begun, &consignment(&text, Some(progress)), None).await;
        assert!(matches!(outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
        let received = bench.texts.recv().await.unwrap();
        assert_eq!((received.text, received.parts), (text.clone(), parts), "{long_texts:?}");
        for _ in 0..answers {
            assert_eq!(bench.receipts.recv().await.unwrap().state, ReceiptState::Delivered);
        }
    }
}

#[tokio::test]
async fn a_carrier_that_is_full_says_so_to_who_understands_it() {
    for (version, slowed) in [(Version::V34, false), (Version::V50, true)] {
        let options = Options { congestion: Some(100), ..Options::default() };
        let set = |o: &mut CarrierOptions| {
            (o.rate, o.protocol) = (Some(1_000.0), Protocol::Smpp(Smpp { version, ..Smpp::default() }));
        };
        let bench = Bench::new(options, 0, set).await;
        assert!(matches!(bench.send("hello").await.outcome, Outcome::Relayed(_)));
        assert_eq!(bench.carrier.is_slowed(), slowed, "{version:?}");
    }
}
