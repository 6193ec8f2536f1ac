//! Couriers against scripted hosts on loopback: how mail should go. How it should not stands in the modules.

mod certificates;
mod dane;
mod hostile;
mod names;
mod providers;
mod sites;
mod sources;
mod tls_reports;
mod tls_reuse;
mod walks;
mod warmup;

use std::time::Duration;

use bytes::Bytes;

use super::script::{Host, Transcript};
use super::*;
use crate::clock::{ManualClock, SystemClock, Timestamp};
use crate::dns;
use crate::dns::zone::{Zone, ZoneServer};
use crate::model::{
    Address, BodyKind, Class, Consignment, Content, Domain, Envelope, MailData, MailOrigin, Mailbox, MessageId, Origin,
    Outcome, Recipient, RecipientOutcome, ReversePath, Scope, TlsWish,
};
use crate::net::Authorities;
use crate::route::MailHop;

const MAIL: &[u8] = b"Subject: x\r\n\r\n.dot\r\nbody\r\n";
const STUFFED: &str = r"Subject: x\r\n\r\n..dot\r\nbody\r\n.\r\n";
const PLAIN: &str = r"Subject: x\r\n\r\n.dot\r\nbody\r\n";

/// Greeting and EHLO with those extensions.
fn hello(extensions: &str) -> String {
    let lines: String = extensions.split_whitespace().map(|e| format!("S: 250-{e}\n")).collect();
    format!("S: 220 mx ready\nC: EHLO relay.example\nS: 250-mx at your service\n{lines}S: 250 HELP\n")
}

/// A pipelined mail to one recipient, taken.
const TAKEN: &str = "C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nDATA\nS: 250 2.0.0 queued\n";

fn mail(content: &[u8], recipients: &[&str]) -> Consignment {
    let header_bytes = memchr::memmem::find(content, b"\r\n\r\n").map_or(content.len(), |at| at + 4);
    let origin = MailOrigin {
        reverse_path: ReversePath::Mailbox(Mailbox::parse("shop@example.com").unwrap()),
        body: if content.is_ascii() { BodyKind::SevenBit } else { BodyKind::EightBit },
        smtputf8: true,
        ret: None,
        envid: None,
        tls: TlsWish::None,
        body_hash: [0; 32],
        header_bytes: u32::try_from(header_bytes).unwrap(),
    };
    let envelope = Envelope {
        id: MessageId::new(Timestamp(1)),
        client: "shop".into(),
        class: Class::default(),
        campaign: None,
        tags: vec![],
        client_ref: None,
        received_at: Timestamp(1),
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin: Origin::Mail(origin),
        recipients: recipients.iter().map(|r| Recipient::new(Address::Mailbox(Mailbox::parse(r).unwrap()))).collect(),
    };
    Consignment {
        content: Content::Mail(MailData::new(Bytes::copy_from_slice(content)).unwrap()),
        recipients: (0..u32::try_from(recipients.len()).unwrap()).collect(),
        envelope: Arc::new(envelope),
        attempt: 1,
        progress: None,
    }
}

fn options() -> Options {
    Options {
        hostname: "relay.example".to_owned(),
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        // Long enough for a busy machine; scripts that stall set their own.
        timeouts: Timeouts::all(Duration::from_secs(20)),
        ..Options::default()
    }
}

fn egress_with(options: Options, nameservers: Vec<std::net::SocketAddr>, signer: Arc<dyn Sign>) -> Arc<MailEgress> {
    let nameservers = if nameservers.is_empty() { vec!["127.0.0.1:9".parse().unwrap()] } else { nameservers };
    let lookups = dns::Options { nameservers, timeout: Duration::from_millis(300), attempts: 1, ..Default::default() };
    Arc::new(MailEgress::new(
        Arc::new(ArcSwap::from_pointee(options)),
        Resolver::new(&lookups, SystemClock::shared()).unwrap(),
        Arc::new(Metrics::new()),
        Arc::new(ManualClock::at(Timestamp(1))),
        signer,
    ))
}

fn egress(options: Options) -> Arc<MailEgress> {
    egress_with(options, vec![], Arc::new(NoSigner))
}

/// A courier with the one way that its mails go.
struct Slot {
    courier: MailCourier,
    hop: MailHop,
}

impl Slot {
    fn new(egress: Arc<MailEgress>, hop: MailHop) -> Self {
        Self { courier: MailCourier::new(egress), hop }
    }

    async fn carry(&mut self, consignment: &Consignment) -> Vec<RecipientOutcome> {
        self.courier.carry(consignment, &self.hop).await
    }

    fn is_connected(&self) -> bool {
        self.courier.is_connected()
    }

    async fn close(self) {
        self.courier.close().await;
    }
}

fn courier(egress: &Arc<MailEgress>, host: &Host) -> Slot {
    Slot::new(egress.clone(), MailHop::Fixed(host.address.to_string().into()))
}

/// `relayed`, or outcome, scope, stage and status.
fn shown(outcome: &RecipientOutcome) -> String {
    let of = |word: &str, f: &crate::model::Failure| format!("{word} {:?} {} {}", f.scope, f.stage.as_str(), f.status);
    match &outcome.outcome {
        Outcome::Relayed(_) => "relayed".to_owned(),
        Outcome::Delayed(f) => of("delayed", f),
        Outcome::Failed(f) => of("failed", f),
    }
}

fn all_shown(outcomes: &[RecipientOutcome]) -> Vec<String> {
    outcomes.iter().map(shown).collect()
}

/// Carries one mail to `recipients` over a host with this dialogue.
async fn carried(
    options: Options,
    dialogues: &[&str],
    content: &[u8],
    recipients: &[&str],
) -> (Vec<String>, Transcript) {
    let host = Host::start(dialogues).await;
    let egress = egress(options);
    let mut courier = courier(&egress, &host);
    let outcomes = courier.carry(&mail(content, recipients)).await;
    let order: Vec<_> = outcomes.iter().map(|o| o.recipient).collect();
    assert_eq!(order, (0..u32::try_from(recipients.len()).unwrap()).collect::<Vec<_>>(), "one outcome each, in order");
    courier.close().await;
    assert_eq!(egress.metrics.mail_connections.get(), 0, "no connection is left open or uncounted");
    (all_shown(&outcomes), host.finish().await)
}

#[tokio::test]
async fn a_pipelined_mail_is_carried_byte_identical() {
    let script = hello("PIPELINING SIZE") + TAKEN + "C: QUIT\nS: 221 bye";
    let (outcomes, heard) = carried(options(), &[&script], MAIL, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
    let size = MAIL.len();
    assert_eq!(
        heard[0][1..],
        [&format!("MAIL FROM:<shop@example.com> SIZE={size}"), "RCPT TO:<a@x.example>", "DATA", STUFFED, "QUIT"]
    );
}

#[tokio::test]
async fn a_mail_goes_step_by_step_without_pipelining_and_with_helo() {
    let script = "S: 220 old\nC: EHLO\nS: 502 what\nC: HELO relay.example\nS: 250 old\nC: MAIL FROM:<shop@example.com>\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nDATA\nS: 250 ok\nC: QUIT\nS: 221 bye";
    let (outcomes, heard) = carried(options(), &[script], MAIL, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
    assert_eq!(heard[0][5], STUFFED);
}

#[tokio::test]
async fn a_connection_is_reused_and_closed_after_its_share() {
    let first = hello("PIPELINING") + TAKEN + TAKEN + "C: QUIT\nS: 221 bye";
    let second = hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye";
    let host = Host::start(&[&first, &second]).await;
    let egress = egress(options());
    let mut courier = courier(&egress, &host);
    courier.courier.allow(Some(2));
    for connected in [true, false, true] {
        assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
        assert_eq!(courier.is_connected(), connected);
    }
    courier.close().await;
    assert_eq!(host.finish().await.len(), 2);
    assert_eq!(egress.metrics.mail_connections_made.get(), 2);
    assert_eq!(egress.metrics.mail_connections_reused.get(), 1);
}

#[tokio::test]
async fn a_stale_connection_costs_no_attempt() {
    let taken = hello("PIPELINING") + TAKEN;
    let ends = [
        ("closed while idle", "CLOSE"),
        ("said 421 while idle", "S: 421 idle too long\nCLOSE"),
        ("reset while idle", "RESET"),
        ("hung up on MAIL", "C: MAIL\nCLOSE"),
        ("said 421 to MAIL", "C: MAIL\nS: 421 enough\nCLOSE"),
    ];
    for (name, end) in ends {
        let host = Host::start(&[&(taken.clone() + end), &(taken.clone() + "C: QUIT\nS: 221 bye")]).await;
        let egress = egress(options());
        let mut courier = courier(&egress, &host);
        for _ in 0..2 {
            assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"], "{name}");
        }
        courier.close().await;
        assert_eq!(host.finish().await.len(), 2, "{name}");
        assert_eq!(egress.answers_lost.get(), 0, "{name}");
    }
}

#[tokio::test]
async fn refusals_of_some_recipients_and_of_all() {
    let three = "C: MAIL\nC: RCPT\nC: RCPT\nC: RCPT\nC: DATA\nS: 250 ok\n";
    let to = ["a@x.example", "b@x.example", "c@x.example"];
    let bye = "C: QUIT\nS: 221 bye";
    let failed = "failed Recipient rcpt 5.1.1";
    let delayed = "delayed Recipient rcpt 4.2.2";

    let some = "S: 550 5.1.1 no\nS: 250 ok\nS: 452 4.2.2 full\nS: 354 go\nDATA\nS: 250 ok\n";
    let (outcomes, _) = carried(options(), &[&(hello("PIPELINING") + three + some + bye)], MAIL, &to).await;
    assert_eq!(outcomes, [failed, "relayed", delayed]);

    let none = "S: 550 5.1.1 no\nS: 550 5.1.1 no\nS: 452 4.2.2 full\nS: 354 go\nDATA\nS: 554 no valid recipients\n";
    let (outcomes, heard) = carried(options(), &[&(hello("PIPELINING") + three + none + bye)], MAIL, &to).await;
    assert_eq!(outcomes, [failed, failed, delayed]);
    assert_eq!(heard[0][6], r".\r\n", "a lone dot, not the mail");
}

#[tokio::test]
async fn after_a_refusal_the_peer_is_reset_before_the_next_mail() {
    let refused = "C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\nS: 503 nobody\nC: RSET\nS: 250 ok\n";
    let script = hello("PIPELINING") + refused + TAKEN + "C: QUIT\nS: 221 bye";
    let host = Host::start(&[&script]).await;
    let mut courier = courier(&egress(options()), &host);
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["failed Recipient rcpt 5.1.1"]);
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    courier.close().await;
    host.finish().await;
}

#[tokio::test]
async fn what_the_host_cannot_take_fails_with_the_reason() {
    let bye = "C: QUIT\nS: 221 bye";
    let eight = "Subject: x\r\n\r\ncaf\u{e9}\r\n".as_bytes();
    let utf8 = "Subject: caf\u{e9}\r\n\r\nx\r\n".as_bytes();
    for (offered, content, outcome) in [
        ("SIZE_10", MAIL, "failed Message mail 5.3.4"),
        ("PIPELINING", eight, "failed Message mail 5.6.3"),
        ("8BITMIME", utf8, "failed Message mail 5.6.7"),
    ] {
        let script = hello(offered).replace("SIZE_10", "SIZE 10") + bye;
        let (outcomes, _) = carried(options(), &[&script], content, &["a@x.example"]).await;
        assert_eq!(outcomes, [outcome], "{offered}");
    }
    let script = hello("PIPELINING") + TAKEN + bye;
    let to = ["\u{7528}\u{6237}@x.example", "a@x.example"];
    let (outcomes, heard) = carried(options(), &[&script], MAIL, &to).await;
    assert_eq!(outcomes, ["failed Recipient rcpt 5.6.7", "relayed"]);
    assert_eq!(heard[0][2], "RCPT TO:<a@x.example>");

    let script = hello("PIPELINING 8BITMIME SMTPUTF8") + TAKEN + bye;
    let (outcomes, heard) = carried(options(), &[&script], utf8, &to[..1]).await;
    assert_eq!(outcomes, ["relayed"]);
    assert_eq!(heard[0][1], "MAIL FROM:<shop@example.com> BODY=8BITMIME SMTPUTF8");
}

#[tokio::test]
async fn chunking_takes_one_round_trip() {
    let bye = "C: QUIT\nS: 221 bye";
    let once = "C: MAIL\nC: RCPT\nC: RCPT\nC: BDAT 26 LAST\nS: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 250 taken\n";
    let to = ["a@x.example", "b@x.example"];
    let script = hello("PIPELINING CHUNKING") + once + bye;
    let (outcomes, heard) = carried(options(), &[&script], MAIL, &to).await;
    assert_eq!(outcomes, ["failed Recipient rcpt 5.1.1", "relayed"]);
    assert_eq!(heard[0][5], PLAIN);

    let large = Options { chunk_at_once_bytes_max: 0, ..options() };
    let twice = "C: MAIL\nC: RCPT\nC: RCPT\nS: 250 ok\nS: 250 ok\nS: 250 ok\nC: BDAT 26 LAST\nS: 250 taken\n";
    let (outcomes, _) = carried(large, &[&(hello("PIPELINING CHUNKING") + twice + bye)], MAIL, &to).await;
    assert_eq!(outcomes, ["relayed", "relayed"]);

    let refused =
        "C: MAIL\nC: RCPT\nC: RCPT\nC: BDAT 26 LAST\nS: 250 ok\nS: 550 5.1.1 no\nS: 450 4.2.1 no\nS: 503 nobody\nSTALL";
    let (outcomes, _) = carried(options(), &[&(hello("PIPELINING CHUNKING") + refused)], MAIL, &to).await;
    assert_eq!(outcomes, ["failed Recipient rcpt 5.1.1", "delayed Recipient rcpt 4.2.1"]);
}

#[tokio::test]
async fn many_recipients_go_in_several_transactions() {
    let script = hello("PIPELINING")
        + &TAKEN.replace("C: RCPT\n", "C: RCPT\nC: RCPT\n").replacen("S: 250 ok\n", "S: 250 ok\nS: 250 ok\n", 1)
        + TAKEN
        + "C: QUIT\nS: 221 bye";
    let some = Options { recipients_per_transaction: 2, ..options() };
    let (outcomes, _) = carried(some, &[&script], MAIL, &["a@x.example", "b@x.example", "c@x.example"]).await;
    assert_eq!(outcomes, ["relayed", "relayed", "relayed"]);
}

#[tokio::test]
async fn starttls_is_used_with_any_certificate() {
    let script = hello("STARTTLS")
        + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n"
        + TAKEN
        + "C: QUIT\nS: 221 bye";
    let host = Host::start(&[&script]).await;
    let mut courier = courier(&egress(options()), &host);
    let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&outcomes), ["relayed"]);
    let tls = outcomes[0].peer.as_ref().unwrap().tls.clone().unwrap();
    assert!(tls.starts_with("TLSv1.3 TLS13_"), "{tls}");
    courier.close().await;
    assert_eq!(host.finish().await[0][5], "DATA");
}

#[tokio::test]
async fn a_kept_tls_connection_is_reused_and_seen_dead() {
    let secured = hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250 PIPELINING\n" + TAKEN;
    let host = Host::start(&[&(secured.clone() + TAKEN + "CLOSE"), &(secured + "C: QUIT\nS: 221 bye")]).await;
    let egress = egress(options());
    let mut courier = courier(&egress, &host);
    for _ in 0..3 {
        assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    }
    courier.close().await;
    host.finish().await;
    assert_eq!(egress.metrics.mail_connections_made.get(), 2);
}

#[tokio::test]
async fn a_dead_tls_connection_that_chunks_is_no_lost_answer() {
    let taken = "C: MAIL\nC: RCPT\nC: BDAT\nS: 250 ok\nS: 250 ok\nS: 250 taken\n";
    let secured = hello("STARTTLS")
        + "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\nS: 250-mx\nS: 250-CHUNKING\nS: 250 PIPELINING\n"
        + taken;
    let idle_end = secured.clone() + "S: 421 idle too long\nSTALL";
    let host = Host::start(&[&idle_end, &(secured + "C: QUIT\nS: 221 bye")]).await;
    let egress = egress(options());
    let mut courier = courier(&egress, &host);
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"]);
    courier.close().await;
    host.finish().await;
    assert_eq!(egress.answers_lost.get(), 0);
}

#[tokio::test]
async fn broken_tls_falls_back_to_clear_and_is_remembered() {
    let offers = hello("PIPELINING STARTTLS");
    let clear = offers.clone() + TAKEN + "C: QUIT\nS: 221 bye";
    for broken in
        ["C: STARTTLS\nS: 220 go\nS: not TLS at all\nSTALL", "C: STARTTLS\nCLOSE", "C: STARTTLS\nS: 220 go\nRESET"]
    {
        // Bytes in one packet with the 220 are another matter: the script sends these in two.
        let broken = broken.replace("220 go\nS: not", "220 go\nHEAR\nS: not");
        let host = Host::start(&[&(offers.clone() + &broken), &clear, &clear]).await;
        let egress = egress(options());
        for _ in 0..2 {
            let mut courier = courier(&egress, &host);
            let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
            assert_eq!(all_shown(&outcomes), ["relayed"], "{broken}");
            assert_eq!(outcomes[0].peer.as_ref().unwrap().tls, None);
            courier.close().await;
        }
        host.finish().await;
    }
}

#[tokio::test]
async fn a_refused_starttls_goes_on_in_clear() {
    let script = hello("PIPELINING STARTTLS") + "C: STARTTLS\nS: 454 not now\n" + TAKEN + "C: QUIT\nS: 221 bye";
    let (outcomes, _) = carried(options(), &[&script], MAIL, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
    let never = Options { tls: TlsPolicies { default: TlsLevel::Off, ..TlsPolicies::default() }, ..options() };
    let script = hello("PIPELINING STARTTLS") + TAKEN + "C: QUIT\nS: 221 bye";
    let (outcomes, _) = carried(never, &[&script], MAIL, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
}

struct FakeSigner(std::sync::atomic::AtomicUsize, &'static [u8]);

impl Sign for FakeSigner {
    fn applies(&self, _envelope: &Envelope, _data: &MailData) -> bool {
        true
    }

    fn sign(&self, _envelope: &Envelope, _data: &MailData) -> Result<Bytes, SignError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if self.1.is_empty() { Err(SignError("no key".to_owned())) } else { Ok(Bytes::from_static(self.1)) }
    }
}

#[tokio::test]
async fn the_signature_goes_in_front_and_is_kept_for_the_retry() {
    let refused = TAKEN.replace("S: 250 2.0.0 queued", "S: 451 later");
    let script = hello("PIPELINING") + &refused + TAKEN + "C: QUIT\nS: 221 bye";
    let host = Host::start(&[&script]).await;
    let signer = Arc::new(FakeSigner(0.into(), b"DKIM-Signature: v=1\r\n"));
    let egress = egress_with(options(), vec![], signer.clone());
    let mut courier = courier(&egress, &host);
    let mut consignment = mail(MAIL, &["a@x.example"]);
    assert_eq!(all_shown(&courier.carry(&consignment).await), ["delayed Message end-of-data 4.0.0"]);
    consignment.attempt = 2;
    assert_eq!(all_shown(&courier.carry(&consignment).await), ["relayed"]);
    courier.close().await;
    let heard = host.finish().await;
    for at in [4, 8] {
        assert_eq!(heard[0][at], format!(r"DKIM-Signature: v=1\r\n{STUFFED}"));
    }
    assert_eq!(signer.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_mail_that_cannot_be_signed_is_delayed_and_not_sent() {
    for bad in [&b""[..], b"no line end", b"bare\nLF\r\n"] {
        let egress = egress_with(options(), vec![], Arc::new(FakeSigner(0.into(), bad)));
        let mut courier = Slot::new(egress, MailHop::Fixed("127.0.0.1:9".into()));
        let outcomes = courier.carry(&mail(MAIL, &["a@x.example", "b@x.example"])).await;
        assert_eq!(all_shown(&outcomes), ["delayed Message route 4.7.5", "delayed Message route 4.7.5"]);
    }
}

/// Carries a mail to `domain` by MX.
async fn by_mx(zone: Zone, options: Options, domain: &str) -> RecipientOutcome {
    let names = ZoneServer::start(zone).await.unwrap();
    let egress = egress_with(options, vec![names.address()], Arc::new(NoSigner));
    let mut courier = Slot::new(egress, MailHop::Mx(Domain::parse(domain).unwrap()));
    let outcome = courier.carry(&mail(MAIL, &["a@x.example"])).await.remove(0);
    courier.close().await;
    outcome
}

#[tokio::test]
async fn a_text_and_a_missing_recipient_are_our_own_mistakes() {
    let mut consignment = mail(MAIL, &["a@x.example"]);
    consignment.recipients = vec![7];
    let mut courier = Slot::new(egress(options()), MailHop::Fixed("127.0.0.1:9".into()));
    assert_eq!(all_shown(&courier.carry(&consignment).await), ["delayed Recipient route 4.3.5"]);
    let mut courier = Slot::new(egress(options()), MailHop::Fixed("nowhere".into()));
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["delayed Site route 4.3.5"]);
}

#[tokio::test]
async fn a_large_mail_of_dots_arrives_whole() {
    let content = [b"Subject: x\r\n\r\n".to_vec(), b".\r\n..a\r\n".repeat(60_000)].concat();
    let script = hello("PIPELINING") + TAKEN + "C: QUIT\nS: 221 bye";
    let (outcomes, heard) = carried(options(), &[&script], &content, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
    let expected = format!(r"Subject: x\r\n\r\n{}.\r\n", r"..\r\n...a\r\n".repeat(60_000));
    assert!(heard[0][4] == expected);
}

#[tokio::test]
async fn broken_tls_is_forgotten_in_time_and_bounded() {
    let clock = Arc::new(ManualClock::at(Timestamp(1)));
    let (options, resolver) = (
        ArcSwap::from_pointee(options()),
        Resolver::new(
            &dns::Options { nameservers: vec!["127.0.0.1:9".parse().unwrap()], ..Default::default() },
            clock.clone(),
        ),
    );
    let metrics = Arc::new(Metrics::new());
    let egress = MailEgress::new(Arc::new(options), resolver.unwrap(), metrics, clock.clone(), Arc::new(NoSigner));
    for n in 0..=BROKEN_TLS_MAX {
        egress.remember_broken_tls(&format!("mx{n}"));
    }
    assert!(egress.tls_is_broken("mx0"));
    assert!(!egress.tls_is_broken(&format!("mx{BROKEN_TLS_MAX}")), "full");
    clock.advance(BROKEN_TLS_KEPT);
    assert!(!egress.tls_is_broken("mx0"));
    egress.remember_broken_tls("new");
    assert!(egress.tls_is_broken("new"));
    assert_eq!(egress.broken_tls.lock().len(), 1);
}
