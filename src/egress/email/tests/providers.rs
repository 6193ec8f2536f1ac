//! Providers' refusals, heard over a connection from hosts of their names: what must wait waits, and is not bounced.

use super::*;
use crate::egress::email::tls_policy::{TlsLevel, TlsPolicies, TlsRule};

/// What comes of a mail to a host of that name that follows the script, with the rule and the pause; and the metrics.
async fn refused(host: &str, script: &str) -> (String, String) {
    let there = Host::start(&[script]).await;
    let names = ZoneServer::start(Zone::new().mx("x.example", 10, host).a(host, [127, 0, 0, 1])).await.unwrap();
    // What is told in clear here is the same with TLS.
    let tls = TlsPolicies { default: TlsLevel::Off, ..TlsPolicies::default() };
    let options = Options { smtp_port: there.address.port(), tls, ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let mut courier = Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap()));
    let outcome = courier.carry(&mail(MAIL, &["a@x.example"])).await.remove(0);
    courier.close().await;
    there.finish().await;
    let (Outcome::Delayed(failure) | Outcome::Failed(failure)) = &outcome.outcome else { panic!("{outcome:?}") };
    let (rule, pause) = (failure.rule.as_ref().map(ToString::to_string), failure.retry_after.map(|p| p.as_secs()));
    let shown = format!("{} {} {}", shown(&outcome), rule.as_deref().unwrap_or("-"), pause.unwrap_or(0));
    (shown, egress.metrics.render())
}

#[tokio::test]
async fn what_a_provider_only_wants_later_is_not_bounced() {
    let envelope = hello("PIPELINING") + "C: MAIL\nC: RCPT\nC: DATA\n";
    let bye = "S: 503 no\nS: 503 no\nC: QUIT\nS: 221 bye";
    for (host, script, expected, provider, class) in [
        (
            "mx3.qq.com",
            format!("{envelope}S: 550 Ip frequency limited\n{bye}"),
            "delayed Source mail 4.0.0 qq-rate-ip (rate-ip) 60",
            "qq",
            "rate-ip",
        ),
        (
            "x-com.olc.protection.outlook.com",
            format!(
                "{envelope}S: 550-5.7.1 weren't sent. Part of their network\nS: 550 5.7.1 is blocked (S3150).\n{bye}"
            ),
            "delayed Source mail 4.7.1 outlook-block-list (block-ip) 14400",
            "outlook",
            "block-ip",
        ),
        (
            "163mx01.mxmail.netease.com",
            format!("{envelope}S: 250 ok\nS: 250 ok\nS: 354 go\nDATA\nS: 554 HL:ITC 163 smtp1\nC: QUIT\nS: 221 bye"),
            "delayed Source end-of-data 4.0.0 netease-day-ip (rate-ip) 14400",
            "netease",
            "rate-ip",
        ),
        (
            "mx00.t-online.de",
            "S: 554 IP=127.0.0.1 - A problem occurred. (BL)".to_owned(),
            "delayed Source connect 4.0.0 t-online-blocked (block-ip) 14400",
            "t-online",
            "block-ip",
        ),
        // Nobody's host: the code stands.
        ("mx.x.example", format!("{envelope}S: 550 Ip limited\n{bye}"), "failed Message mail 5.0.0 - 0", "any", "none"),
    ] {
        let (found, metrics) = refused(host, &script).await;
        assert_eq!(found, expected, "{host}");
        let counted = format!("postrider_replies_total{{class=\"{class}\",provider=\"{provider}\"}} 1");
        assert!(metrics.contains(&counted), "{host}: no {counted} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_fixed_next_hop_is_known_by_its_name() {
    let host = Host::start(&["S: 554 A problem occurred. (BL)"]).await;
    let names = ZoneServer::start(Zone::new().a("mx00.t-online.de", [127, 0, 0, 1])).await.unwrap();
    let egress = egress_with(options(), vec![names.address()], Arc::new(NoSigner));
    let hop = format!("mx00.t-online.de:{}", host.address.port());
    let mut courier = Slot::new(egress, MailHop::Fixed(hop.into()));
    let outcome = courier.carry(&mail(MAIL, &["a@x.example"])).await.remove(0);
    assert_eq!(shown(&outcome), "delayed Source connect 4.0.0");
    host.finish().await;
}

/// What comes of a mail for `x.example` to a host that offers no TLS.
async fn in_clear(host: &str, rules: Vec<TlsRule>) -> String {
    let script = hello("PIPELINING")
        + "C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nDATA\nS: 250 ok\nC: QUIT\nS: 221 bye";
    let there = Host::start(&[&script]).await;
    let names = ZoneServer::start(Zone::new().mx("x.example", 10, host).a(host, [127, 0, 0, 1])).await.unwrap();
    let tls = TlsPolicies { rules, ..TlsPolicies::default() };
    let options = Options { smtp_port: there.address.port(), tls, ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let mut courier = Slot::new(egress, MailHop::Mx(Domain::parse("x.example").unwrap()));
    let outcome = courier.carry(&mail(MAIL, &["a@x.example"])).await.remove(0);
    courier.close().await;
    match &outcome.outcome {
        Outcome::Delayed(failure) => format!("{} {}", shown(&outcome), failure.cause.as_deref().unwrap_or_default()),
        _ => shown(&outcome),
    }
}

#[tokio::test]
async fn who_wants_tls_gets_nothing_in_clear_unless_an_administrator_says_so() {
    let waits = in_clear("mx3.qq.com", Vec::new()).await;
    assert!(waits.starts_with("delayed Host tls 4.7.4"), "{waits}");
    assert!(waits.contains("the TLS policy required (provider table for qq) is not met by mx3.qq.com"), "{waits}");
    let rule = TlsRule { domains: vec!["x.example".to_owned()], level: TlsLevel::Opportunistic, hosts: Arc::default() };
    assert_eq!(in_clear("mx3.qq.com", vec![rule]).await, "relayed");
    assert_eq!(in_clear("mx.x.example", Vec::new()).await, "relayed");
}
