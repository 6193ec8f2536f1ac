//! What is counted of sessions with hosts of every sort, under each kind of policy.

use super::*;

/// The host, and the name in its certificate unless a case says otherwise.
const NAME: &str = "mx.example.net";

/// A host, what is known of its domain's policy, and what is to be counted.
struct Case {
    what: &'static str,
    /// Mode of a policy of MTA-STS, and the host that it names; empty: there is no policy.
    policy: [&'static str; 2],
    scripts: Vec<String>,
    /// The name in the certificate.
    certified: &'static str,
    trusted: bool,
    /// What becomes of the mail.
    outcome: &'static str,
    /// Policy type, sessions that succeeded and failed, result type and reason of the failure.
    counted: &'static str,
}

fn secured() -> String {
    hello("STARTTLS")
        + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-inside.example at your service\nS: 250 PIPELINING\n"
        + TAKEN
}

fn fails() -> String {
    hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS fails"
}

fn clear() -> String {
    hello("PIPELINING") + TAKEN
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let case = |what, policy, scripts: &[String], certified, trusted, outcome, counted| {
        Case { what, policy, scripts: scripts.to_vec(), certified, trusted, outcome, counted }
    };
    let answers = |reply: &str| hello("STARTTLS PIPELINING") + "C: STARTTLS\n" + reply;
    let nonsense = answers("S: 220 go\nHEAR\nS: not TLS at all\nSTALL");
    const NONE: [&str; 2] = ["", ""];
    const OTHER: &str = "mx.other.example";
    const UNKNOWN: &str = "sts 0 1 certificate-not-trusted (its certificate is not signed by the authority that it names)";
    const MISMATCH: &str = "sts 0 1 certificate-host-mismatch (its certificate is not in its name)";
    const UNNAMED: &str = "sts 0 1 validation-failure (the policy names other mail hosts)";
    vec![
        case("no policy, TLS", NONE, &[secured()], OTHER, false, "relayed", "no-policy-found 1 0"),
        case("no policy, no TLS", NONE, &[clear()], NAME, true, "relayed", "no-policy-found 0 1 starttls-not-supported"),
        case("no policy, STARTTLS refused", NONE, &[answers("S: 454 no\n") + TAKEN], NAME, true, "relayed", "no-policy-found 0 1 starttls-not-supported"),
        case("no policy, TLS broken", NONE, &[nonsense, clear()], NAME, true, "relayed", "no-policy-found 0 1 validation-failure (its TLS handshake fails (received corrupt message of type InvalidContentType))"),
        case("no policy, hangs up", NONE, &[answers("CLOSE"), clear()], NAME, true, "relayed", "no-policy-found 0 1 validation-failure (the peer closed the connection)"),
        case("no policy, injection", NONE, &[answers("S: 220 go\nS: 250 injected\nSTALL")], NAME, true, "delayed Host tls 4.4.2", "no-policy-found 0 1 validation-failure (the peer answered what it had not been asked)"),
        case("too busy", NONE, &[answers("S: 421 busy")], NAME, true, "delayed Host tls 4.0.0", ""),
        case("no greeting", NONE, &["CLOSE".to_owned()], NAME, true, "delayed Host connect 4.4.2", ""),
        case("testing, all well", ["testing", NAME], &[secured()], NAME, true, "relayed", "sts 1 0"),
        case("testing, unknown authority", ["testing", NAME], &[secured()], NAME, false, "relayed", UNKNOWN),
        case("testing, wrong name", ["testing", NAME], &[secured()], OTHER, true, "relayed", MISMATCH),
        case("testing, no TLS", ["testing", NAME], &[clear()], NAME, true, "relayed", "sts 0 1 starttls-not-supported"),
        case("testing, another host", ["testing", "*.other.example"], &[secured()], NAME, true, "relayed", UNNAMED),
        case("enforce, all well", ["enforce", "*.example.net"], &[secured()], NAME, true, "relayed", "sts 1 0"),
        case("enforce, unknown authority", ["enforce", NAME], &[fails()], NAME, false, "delayed Host tls 4.7.5", UNKNOWN),
        case("enforce, wrong name", ["enforce", NAME], &[fails()], OTHER, true, "delayed Host tls 4.7.5", MISMATCH),
        case("enforce, no TLS", ["enforce", NAME], &[hello("PIPELINING")], NAME, true, "delayed Host tls 4.7.4", "sts 0 1 starttls-not-supported"),
        case("enforce, another host", ["enforce", OTHER], &[], NAME, true, "delayed Host tls 4.7.1", UNNAMED),
        case("a policy of none", ["none", NAME], &[secured()], OTHER, false, "relayed", "no-policy-found 1 0"),
    ]
}

/// The relay's end, a zone, and the file with the policy.
struct World {
    courier: Slot,
    egress: Arc<MailEgress>,
    _names: ZoneServer,
    _dir: tempfile::TempDir,
}

async fn world(host: &Host, [mode, mx]: [&str; 2], zone: Zone, level: TlsLevel, authorities: Authorities) -> World {
    let zone = zone.mx("x.example", 10, NAME).a(NAME, [127, 0, 0, 1]);
    let names = ZoneServer::start(zone).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mta-sts.json");
    if !mode.is_empty() {
        let kept = format!(
            r#"{{"version":1,"policies":[{{"domain":"x.example","id":"1","mode":"{mode}","max_age":86400,"mx":["{mx}"],"fetched":"1970-01-01T00:00:00Z"}}]}}"#
        );
        std::fs::write(&file, kept).unwrap();
    }
    let tls = TlsPolicies { default: level, authorities, ..TlsPolicies::default() };
    let mta_sts = Some(MtaStsOptions { file: Some(file), ..MtaStsOptions::default() });
    let options = Options { tls, mta_sts, smtp_port: host.address.port(), ..options() };
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let courier = Slot::new(egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap()));
    World { courier, egress, _names: names, _dir: dir }
}

impl World {
    /// What was counted, a line for each policy and failure.
    fn counted(&self) -> String {
        let view = self.egress.tls_reports().view(&self.egress.tls_report_options(), 10);
        let results = view.domains.iter().flat_map(|domain| &domain.policies);
        let line = |result: &PolicyResult| {
            let (policy, sum) = (&result.policy, &result.summary);
            assert_eq!(policy.policy_domain, "x.example");
            assert_eq!(policy.policy_string.is_empty(), policy.policy_type == PolicyType::NoPolicyFound);
            let mut line = format!(
                "{} {} {}",
                policy.policy_type.as_str(),
                sum.total_successful_session_count,
                sum.total_failure_session_count
            );
            for failure in &result.failure_details {
                line.push_str(&format!(" {}", failure.result_type.as_str()));
                line.extend(failure.failure_reason_code.iter().map(|why| format!(" ({why})")));
            }
            line
        };
        results.map(line).collect::<Vec<_>>().join("; ")
    }
}

fn certified(name: &str, trusted: bool) -> (Arc<rustls::ServerConfig>, Authorities) {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let own = made(name);
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let authority = if trusted { certificate } else { made("ca.example").cert.pem() };
    (Arc::new(server), Authorities::Pem(authority.into_bytes().into()))
}

#[tokio::test]
async fn each_session_is_counted_once_under_the_policy_that_applied() {
    for case in cases() {
        let (server, authorities) = certified(case.certified, case.trusted);
        let scripts: Vec<&str> = case.scripts.iter().map(String::as_str).collect();
        let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &scripts, server).await;
        let mut world = world(&host, case.policy, Zone::new(), TlsLevel::Opportunistic, authorities).await;
        let outcomes = world.courier.carry(&mail(MAIL, &["a@x.example"])).await;
        assert_eq!(
            (shown(&outcomes[0]).as_str(), world.counted().as_str()),
            (case.outcome, case.counted),
            "{}",
            case.what
        );
        drop(world.courier);
        host.finish().await;
    }
}

#[tokio::test]
async fn a_failure_says_who_met_whom() {
    let (server, authorities) = certified(NAME, false);
    let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &[&(secured() + TAKEN)], server).await;
    let mut world = world(&host, ["testing", NAME], Zone::new(), TlsLevel::Opportunistic, authorities).await;
    // Two mails over one connection are one session.
    for _ in 0..2 {
        assert_eq!(all_shown(&world.courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    }
    let view = world.egress.tls_reports().view(&world.egress.tls_report_options(), 10);
    let detail = serde_json::to_value(&view.domains[0].policies[0]).unwrap();
    assert_eq!(
        detail,
        serde_json::json!({
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: mx.example.net", "max_age: 86400"],
                "policy-domain": "x.example",
                "mx-host": ["mx.example.net"],
            },
            "summary": { "total-successful-session-count": 0, "total-failure-session-count": 1 },
            "failure-details": [{
                "result-type": "certificate-not-trusted",
                "sending-mta-ip": "127.0.0.1",
                "receiving-mx-hostname": "mx.example.net",
                "receiving-mx-helo": "inside.example",
                "receiving-ip": "127.0.0.1",
                "failed-session-count": 1,
                "failure-reason-code": "its certificate is not signed by the authority that it names",
            }],
        })
    );
    let counted = world.egress.metrics.tls_rpt_sessions.with_label_values(&["sts", "certificate-not-trusted"]);
    assert_eq!(counted.get(), 1);
    drop(world.courier);
    host.finish().await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_fetched_is_a_failure_of_its_own() {
    let (server, authorities) = certified(NAME, true);
    let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &[&secured()], server).await;
    // There is no host of the policy's.
    let zone = Zone::new().txt("_mta-sts.x.example", "v=STSv1; id=1;");
    let mut world = world(&host, ["", ""], zone, TlsLevel::Opportunistic, authorities).await;
    assert_eq!(all_shown(&world.courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    let view = world.egress.tls_reports().view(&world.egress.tls_report_options(), 10);
    let results = &view.domains[0].policies;
    assert_eq!(results[0].failure_details[0].result_type, ResultType::StsPolicyFetchError);
    assert_eq!(results[0].policy.policy_type, PolicyType::Sts);
    assert_eq!(
        (results[1].policy.policy_type, results[1].summary.total_successful_session_count),
        (PolicyType::NoPolicyFound, 1)
    );
    drop(world.courier);
    host.finish().await;
}

#[tokio::test]
async fn nobody_is_told_of_reports_themselves_nor_of_what_the_administrator_turned_off() {
    let (server, authorities) = certified(NAME, false);
    let host = Host::start_with("127.0.0.1:0".parse().unwrap(), &[&secured(), &clear()], server).await;
    // A report goes whatever the domain enforces.
    let mut world = world(&host, ["enforce", NAME], Zone::new(), TlsLevel::Opportunistic, authorities).await;
    let mut report = mail(MAIL, &["a@x.example"]);
    let envelope = Arc::make_mut(&mut report.envelope);
    envelope.client = REPORTS_CLIENT.into();
    let Origin::Mail(origin) = &mut envelope.origin else { unreachable!() };
    origin.tls = TlsWish::NotRequired;
    assert_eq!(all_shown(&world.courier.carry(&report).await), ["relayed"]);
    assert_eq!(world.counted(), "");
    let mut off = (*world.egress.options.load_full()).clone();
    off.tls.default = TlsLevel::Off;
    world.egress.options.store(Arc::new(off));
    let mut other = Slot::new(world.egress.clone(), MailHop::Mx(Domain::parse("x.example").unwrap()));
    assert_eq!(all_shown(&other.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    assert_eq!(world.counted(), "");
    drop((world.courier, other));
    host.finish().await;
}

/// A host that answers every request with this status; what it is asked is sent on.
async fn collector(status: &'static str) -> (std::net::SocketAddr, String, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let own = rcgen::generate_simple_self_signed(vec!["r.example".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = Arc::new(crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, asked) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(server.clone()).accept(tcp).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"report") {
                request.push(stream.read_u8().await.unwrap());
            }
            let _ = heard.send(request).await;
            let answer = format!("HTTP/1.1 {status}\r\nLocation: https://r.example/x\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, certificate, asked)
}

#[tokio::test]
async fn a_report_is_handed_over_and_the_answer_says_whether_to_try_again() {
    let stranger = || rcgen::generate_simple_self_signed(vec!["r.example".to_owned()]).unwrap().cert.pem();
    for (status, verified_by, private, expected) in [
        ("201 Created", "", true, Ok(())),
        ("200 OK", "its own", true, Ok(())),
        ("200 OK", "a stranger", true, Err((true, "r.example: its certificate"))),
        ("200 OK", "", false, Err((true, "is not a public address"))),
        ("503 Busy", "", true, Err((true, "r.example answers 503"))),
        ("429 Too Many", "", true, Err((true, "r.example answers 429"))),
        ("404 No", "", true, Err((false, "r.example answers 404"))),
        ("301 Moved", "", true, Err((false, "r.example answers 301"))),
    ] {
        let (address, certificate, mut asked) = collector(status).await;
        let names = ZoneServer::start(Zone::new().a("r.example", [127, 0, 0, 1])).await.unwrap();
        let authorities = match verified_by {
            "" => None,
            "its own" => Some(Authorities::Pem(certificate.into_bytes().into())),
            _ => Some(Authorities::Pem(stranger().into_bytes().into())),
        };
        let mut options = options();
        options.tls_reports.authorities = authorities;
        if !private {
            options.allow_private.clear();
        }
        let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
        let record = format!("v=TLSRPTv1; rua=https://r.example:{}/v1?x", address.port());
        let Some(Destination::Https(url)) = parsed_tls_rpt(&record).unwrap().pop() else { panic!("{record}") };
        let handed = egress.upload_report(&url, b"report".to_vec()).await;
        let at = format!("{status}, verified by {verified_by:?}: {handed:?}");
        match (handed, expected) {
            (Ok(()), Ok(())) => {
                let request = String::from_utf8(asked.recv().await.unwrap()).unwrap().to_lowercase();
                assert!(request.starts_with("post /v1?x http/1.1\r\n"), "{request}");
                let host = format!("\r\nhost: r.example:{}\r\n", address.port());
                for field in
                    [host.as_str(), "\r\ncontent-type: application/tlsrpt+gzip\r\n", "\r\ncontent-length: 6\r\n"]
                {
                    assert!(request.contains(field), "{field:?}: {request}");
                }
            }
            (Err(e), Err((again, why))) => assert!(e.again == again && e.to_string().contains(why), "{at}"),
            _ => panic!("{at}"),
        }
    }
}
