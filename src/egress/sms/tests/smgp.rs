//! The carrier handle against a scripted SMGP gateway: what is SMGP's own. What the engine does is tested by SMPP.

use super::*;
use crate::wire::smgp::{
    Body as Said, Deliver, Framer as Frames, LoginMode, MsgId, Octets, Parts, Pdu as Smgp, Report, Status, Submit,
    Version,
};

const VERSIONS: [Version; 2] = [Version::V13, Version::V30];

/// An id that is no BCD: some gateways make such.
fn id(last: u8) -> MsgId {
    MsgId([0, 0xFF, 0x1A, b' ', 0, 0, 0, 0, 0, last])
}

/// As it is kept.
fn kept(last: u8) -> String {
    format!("00ff1a200000000000{last:02x}")
}

/// The other end of a link, led by hand. It never proves that it knows the secret: no login fails for that.
struct Gateway {
    stream: TcpStream,
    framer: Frames,
    version: Version,
}

impl Gateway {
    async fn accept(listener: &TcpListener, version: Version) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, framer: Frames::new(), version }
    }

    /// Takes a login, and says what it is for.
    async fn logged_in(bench: &Bench, version: Version) -> (Self, LoginMode) {
        let mut gateway = Self::accept(&bench.listener, version).await;
        let login = gateway.hear().await;
        let Said::Login(said) = login.body() else { panic!("{login:?}") };
        assert_eq!((said.client_id.to_string().as_str(), said.client_version), ("12345678", version.octet()));
        gateway.say(&Smgp::login_resp(login.sequence(), Status::OK, [0; 16], version)).await;
        (gateway, LoginMode::of_octet(said.login_mode).unwrap())
    }

    async fn hear(&mut self) -> Smgp {
        self.hear_or_end().await.expect("the link ended")
    }

    async fn hear_or_end(&mut self) -> Option<Smgp> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(Smgp::decode(frame, self.version).unwrap());
            }
            if self.stream.read_buf(self.framer.buffer()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn hear_submit(&mut self) -> (u32, Submit) {
        let pdu = self.hear().await;
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Said::Submit(submit) => (sequence, submit),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, pdu: &Smgp) {
        let mut octets = BytesMut::new();
        pdu.encode(self.version, &mut octets);
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn take(&mut self, sequence: u32, id: MsgId) {
        self.say(&Smgp::submit_taken(sequence, &Simulated, id)).await;
    }

    async fn refuse(&mut self, sequence: u32, status: u32) {
        self.say(&Smgp::submit_refused(sequence, Status(status))).await;
    }

    /// Brings a report, under a MsgID of its own.
    async fn report(&mut self, sequence: u32, about: MsgId, stat: &str) {
        let stat = Octets::new("stat", stat).unwrap();
        let content = Report { msg_id: about, stat, ..Report::default() }.write();
        let deliver = Deliver { msg_id: id(0xEE), is_report: 1, content, ..Deliver::default() };
        self.say(&Smgp::deliver(sequence, deliver)).await;
    }

    /// Whatever the client had to say before this was asked has been said.
    async fn nothing_more_is_said(&mut self) {
        self.say(&Smgp::active_test(77)).await;
        assert_eq!(self.hear().await, Smgp::active_test_resp(77));
    }
}

async fn bench(version: Version, sink: Arc<Sink>, change: impl FnOnce(&mut Options)) -> Bench {
    bench_of(super::super::Smgp { version, ..Default::default() }, sink, change).await
}

async fn bench_of(account: super::super::Smgp, sink: Arc<Sink>, change: impl FnOnce(&mut Options)) -> Bench {
    Bench::with(sink, |o| {
        o.system_id = "12345678".to_owned();
        o.source = Some(SenderId::parse("10690001").unwrap());
        o.protocol = Protocol::Smgp(account);
        change(o);
    })
    .await
}

async fn logged_in(version: Version) -> (Bench, Gateway) {
    let bench = bench(version, Sink::new(1_000, None), |_| {}).await;
    let (gateway, mode) = Gateway::logged_in(&bench, version).await;
    assert_eq!(mode, LoginMode::Both);
    bench.carrier.permit().await;
    (bench, gateway)
}

#[tokio::test]
async fn parts_say_which_they_are_and_ids_of_any_octets_are_kept_in_hex() {
    for version in VERSIONS {
        let (bench, mut gateway) = logged_in(version).await;
        let carried = bench.carry(three_parts());
        let mut heard = Vec::new();
        for pk_number in 1..=3 {
            let (sequence, submit) = gateway.hear_submit().await;
            assert_eq!((submit.parts, submit.msg_format), (Parts { tp_udhi: 1, pk_total: 3, pk_number }, 8));
            assert_eq!(submit.content[..6], [5, 0, 3, 9, 3, pk_number]);
            assert_eq!(submit.src_term_id.to_string(), "10690001", "SMGP shows no names");
            assert_eq!(submit.destinations.iter().map(ToString::to_string).collect::<Vec<_>>(), ["8613800138000"]);
            assert!(submit.valid_time.to_string().ends_with("032+"), "{:?}", submit.valid_time);
            heard.push((sequence, pk_number));
        }
        for (sequence, number) in heard.into_iter().rev() {
            gateway.take(sequence, id(number)).await;
        }
        let outcome = carried.await.unwrap();
        assert!(matches!(&outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
        assert_eq!(parts(&outcome), [1, 2, 3].map(|number| sent(&kept(number))));
    }
}

#[tokio::test]
async fn a_busy_gateway_is_left_alone_for_a_while_and_a_bad_number_is_final() {
    for busy in [1, 75] {
        let (bench, mut gateway) = logged_in(Version::V30).await;
        let carried = bench.carry(consignment("hello"));
        let (sequence, submit) = gateway.hear_submit().await;
        assert_eq!((submit.msg_format, submit.parts, &submit.content[..]), (0, Parts::default(), &b"hello"[..]));
        gateway.refuse(sequence, busy).await;
        let outcome = carried.await.unwrap();
        assert_eq!(parts(&outcome), [PartState::Waiting]);
        assert!(matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled && f.scope == Scope::Site));
        assert!(!bench.carrier.try_ready(), "paused");
        bench.carrier.permit().await;
        let carried = bench.carry(Consignment { progress: outcome.progress, ..consignment("hello") });
        let (sequence, _) = gateway.hear_submit().await;
        gateway.refuse(sequence, 47).await;
        let outcome = carried.await.unwrap();
        let Outcome::Failed(failure) = &outcome.outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.reply.as_ref().unwrap().to_string(), "47 status 47 (DestTermID)");
        assert_eq!((parts(&outcome), failure.status.to_string().as_str()), (vec![PartState::Refused], "5.1.1"));
    }
}

#[tokio::test]
async fn hours_and_accounts_that_forbid_sending_delay_and_do_not_slow_down() {
    let (bench, mut gateway) = logged_in(Version::V30).await;
    for (status, scope) in [(74, Scope::Recipient), (76, Scope::Host), (43, Scope::Host), (200, Scope::Recipient)] {
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = gateway.hear_submit().await;
        gateway.refuse(sequence, status).await;
        let outcome = carried.await.unwrap();
        assert!(matches!(&outcome.outcome, Outcome::Delayed(f) if !f.throttled && f.scope == scope), "{outcome:?}");
        assert!(bench.carrier.try_ready());
    }
}

#[tokio::test]
async fn a_report_is_answered_once_it_is_durable_and_not_before() {
    let sink = Sink::new(0, None);
    let bench = bench(Version::V30, Arc::clone(&sink), |_| {}).await;
    let (mut gateway, _) = Gateway::logged_in(&bench, Version::V30).await;
    bench.carrier.permit().await;
    // It may come before the answer to the part it is about.
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = gateway.hear_submit().await;
    gateway.report(1, id(1), "DELIVRD").await;
    gateway.take(sequence, id(1)).await;
    assert_eq!(parts(&carried.await.unwrap()), [sent(&kept(1))]);
    gateway.nothing_more_is_said().await;
    assert!(sink.kept.lock().is_empty());
    sink.permits.add_permits(1);
    assert_eq!(gateway.hear().await, Smgp::deliver_resp(1, id(0xEE), Status::OK), "under the id of the DELIVER");
    let receipt = sink.kept.lock().remove(0);
    assert_eq!((receipt.carrier_message_id.to_string(), receipt.state), (kept(1), ReceiptState::Delivered));
}

#[tokio::test]
async fn what_is_not_kept_is_not_answered_yes() {
    for error in [InboundError::Busy, InboundError::Unavailable] {
        let bench = bench(Version::V30, Sink::new(10, Some(error)), |_| {}).await;
        let (mut gateway, _) = Gateway::logged_in(&bench, Version::V30).await;
        gateway.report(1, id(1), "DELIVRD").await;
        assert_eq!(gateway.hear().await, Smgp::deliver_resp(1, id(0xEE), Status::BUSY));
        // From a handset; a report in which nothing stands; a DELIVER that is cut off.
        gateway.say(&Smgp::deliver(2, Deliver { msg_id: id(2), ..Deliver::default() })).await;
        assert_eq!(gateway.hear().await, Smgp::deliver_resp(2, id(2), Status::BUSY));
        gateway.say(&Smgp::deliver(3, Deliver { is_report: 1, ..Deliver::default() })).await;
        assert_eq!(gateway.hear().await, Smgp::deliver_resp(3, MsgId::default(), Status::BAD_STRUCTURE));
        let half = [&b"\0\0\0\x17\0\0\0\x03\0\0\0\x04"[..], &id(9).0, b"x"].concat();
        gateway.stream.write_all(&half).await.unwrap();
        assert_eq!(gateway.hear().await, Smgp::deliver_resp(4, id(9), Status::BAD_STRUCTURE));
        assert!(bench.metric(r#"postrider_carrier_receipts_total{carrier="carrier",state="unreadable"} 2"#));
    }
}

#[tokio::test]
async fn refused_logins_are_tried_again_and_pdus_may_follow_at_once() {
    let bench = bench(Version::V30, Sink::new(10, None), |_| {}).await;
    for status in [Status::NOT_AUTHENTIC, Status::BAD_LOGIN_MODE, Status::BUSY] {
        let mut gateway = Gateway::accept(&bench.listener, Version::V30).await;
        let login = gateway.hear().await;
        gateway.say(&Smgp::login_resp(login.sequence(), status, [0; 16], Version::V30)).await;
        assert!(gateway.hear_or_end().await.is_none());
        assert!(!bench.carrier.is_up());
    }
    let mut gateway = Gateway::accept(&bench.listener, Version::V30).await;
    let login = gateway.hear().await;
    let mut octets = BytesMut::new();
    Smgp::login_resp(login.sequence(), Status::OK, [0; 16], Version::V30).encode(Version::V30, &mut octets);
    Smgp::active_test(9).encode(Version::V30, &mut octets);
    for octet in octets {
        gateway.stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.hear().await, Smgp::active_test_resp(9));
}

/// Two logins, as some carriers want it: what is sent and what is reported have a link each.
#[tokio::test]
async fn one_login_receives_and_the_other_sends() {
    let account = super::super::Smgp { logins: Logins::Split { receivers: 1 }, ..Default::default() };
    let sink = Sink::new(10, None);
    let bench = bench_of(account, Arc::clone(&sink), |o| o.binds = 2).await;
    let logins = [Gateway::logged_in(&bench, Version::V30).await, Gateway::logged_in(&bench, Version::V30).await];
    let (mut sending, mut receiving) = match logins {
        [(sending, LoginMode::Send), (receiving, LoginMode::Receive)]
        | [(receiving, LoginMode::Receive), (sending, LoginMode::Send)] => (sending, receiving),
        other => panic!("{:?}", other.map(|(_, mode)| mode)),
    };
    bench.carrier.permit().await;
    for number in 1..=3 {
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = sending.hear_submit().await;
        sending.take(sequence, id(number)).await;
        assert_eq!(parts(&carried.await.unwrap()), [sent(&kept(number))]);
        receiving.report(u32::from(number), id(number), "DELIVRD").await;
        assert_eq!(receiving.hear().await, Smgp::deliver_resp(number.into(), id(0xEE), Status::OK));
    }
    assert_eq!(sink.kept.lock().len(), 3);
    // Without the one that sends, the carrier is down, whatever the other does.
    drop(sending);
    while bench.carrier.is_up() {
        tokio::task::yield_now().await;
    }
    receiving.nothing_more_is_said().await;
    let (sending, mode) = Gateway::logged_in(&bench, Version::V30).await;
    bench.carrier.permit().await;
    assert_eq!(mode, LoginMode::Send);
    // Both say goodbye.
    let carrier = Arc::clone(&bench.carrier);
    let stopped = tokio::spawn(async move { carrier.shutdown(Duration::from_secs(30)).await });
    let exit = receiving.hear().await;
    assert_eq!(exit, Smgp::exit(exit.sequence()));
    receiving.say(&Smgp::exit_resp(exit.sequence())).await;
    assert!(receiving.hear_or_end().await.is_none());
    drop(sending);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_text_is_cut_as_smgp_carries_it() {
    let (bench, mut gateway) = logged_in(Version::V30).await;
    let text = SmsText::new(&"a".repeat(141)).unwrap();
    assert_eq!(
        (sms::plan(&text).count, bench.carrier.planned(&text, 0).parts.len()),
        (1, 2),
        "140 octets in any alphabet"
    );
    let mut text = consignment(&"a".repeat(141));
    text.progress.as_mut().unwrap().parts = vec![PartState::Waiting; 2];
    let carried = bench.carry(text);
    for (number, octets) in [(1, 140), (2, 13)] {
        let (sequence, submit) = gateway.hear_submit().await;
        assert_eq!((submit.msg_format, submit.content.len()), (0, octets));
        gateway.take(sequence, id(number)).await;
    }
    assert_eq!(parts(&carried.await.unwrap()), [sent(&kept(1)), sent(&kept(2))]);
}
