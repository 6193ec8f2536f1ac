//! The carrier handle against a scripted CMPP gateway: what is CMPP's own. What the engine does is tested by SMPP.

use super::*;
use crate::wire::cmpp::{
    Body as Said, ConnectStatus, Deliver, Framer as Frames, MsgId, Octets, Pdu as Cmpp, Report, Submit, SubmitResult,
    Version,
};

const VERSIONS: [Version; 2] = [Version::V2, Version::V3];

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

    async fn connected(bench: &Bench, version: Version) -> Self {
        let mut gateway = Self::accept(&bench.listener, version).await;
        let connect = gateway.hear().await;
        let Said::Connect(said) = connect.body() else { panic!("{connect:?}") };
        assert_eq!((said.source_addr.to_string().as_str(), said.version), ("900001", version.octet()));
        gateway.say(&Cmpp::connect_resp(connect.sequence(), ConnectStatus::OK, [0; 16], version)).await;
        bench.carrier.permit().await;
        gateway
    }

    async fn hear(&mut self) -> Cmpp {
        self.hear_or_end().await.expect("the link ended")
    }

    async fn hear_or_end(&mut self) -> Option<Cmpp> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(Cmpp::decode(frame, self.version).unwrap());
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

    async fn say(&mut self, pdu: &Cmpp) {
        let mut octets = BytesMut::new();
        pdu.encode(self.version, &mut octets);
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn take(&mut self, sequence: u32, id: u64) {
        self.say(&Cmpp::submit_taken(sequence, &Simulated, MsgId(id))).await;
    }

    async fn refuse(&mut self, sequence: u32, result: u32) {
        self.say(&Cmpp::submit_refused(sequence, SubmitResult(result))).await;
    }

    /// Brings a report, in the layout of any version.
    async fn report(&mut self, sequence: u32, id: u64, stat: &str, layout: Version) {
        let stat = Octets::new("Stat", stat).unwrap();
        let content = Report { msg_id: MsgId(id), stat, ..Report::default() }.write(layout);
        let msg_id = MsgId(u64::from(sequence) + 1_000);
        self.say(&Cmpp::deliver(sequence, Deliver { msg_id, registered_delivery: 1, content, ..Deliver::default() }))
            .await;
    }

    /// Whatever the client had to say before this was asked has been said.
    async fn nothing_more_is_said(&mut self) {
        self.say(&Cmpp::active_test(77)).await;
        assert_eq!(self.hear().await, Cmpp::active_test_resp(77));
    }
}

async fn bench(version: Version, sink: Arc<Sink>, change: impl FnOnce(&mut Options)) -> Bench {
    Bench::with(sink, |o| {
        o.system_id = "900001".to_owned();
        o.source = Some(SenderId::parse("10690001").unwrap());
        o.protocol = Protocol::Cmpp(super::super::Cmpp { version, ..Default::default() });
        change(o);
    })
    .await
}

async fn connected(version: Version, change: impl FnOnce(&mut Options)) -> (Bench, Gateway) {
    let bench = bench(version, Sink::new(1_000, None), change).await;
    let gateway = Gateway::connected(&bench, version).await;
    (bench, gateway)
}

#[tokio::test]
async fn parts_leave_together_and_answers_find_theirs_in_any_order() {
    for version in VERSIONS {
        let (bench, mut gateway) = connected(version, |_| {}).await;
        let carried = bench.carry(three_parts());
        let mut heard = Vec::new();
        for number in 1..=3 {
            let (sequence, submit) = gateway.hear_submit().await;
            assert_eq!((submit.pk_total, submit.pk_number, submit.tp_udhi, submit.msg_fmt), (3, number, 1, 8));
            assert_eq!(submit.content[..6], [5, 0, 3, 9, 3, number]);
            assert_eq!(submit.src_id.to_string(), "10690001", "CMPP shows no names");
            assert_eq!(submit.destinations.iter().map(ToString::to_string).collect::<Vec<_>>(), ["8613800138000"]);
            assert!(submit.valid_time.to_string().ends_with("032+"), "{:?}", submit.valid_time);
            heard.push(sequence);
        }
        for (i, sequence) in heard.into_iter().enumerate().rev() {
            gateway.take(sequence, u64::MAX - i as u64).await;
        }
        let outcome = carried.await.unwrap();
        let last = "0 result 0 (taken) id 18446744073709551613";
        assert!(matches!(&outcome.outcome, Outcome::Relayed(r) if r.reply.to_string() == last), "{outcome:?}");
        let ids = ["18446744073709551615", "18446744073709551614", "18446744073709551613"];
        assert_eq!(parts(&outcome), ids.map(sent));
    }
}

#[tokio::test]
async fn flow_control_is_left_alone_for_a_while_and_a_bad_number_is_final() {
    for version in VERSIONS {
        let (bench, mut gateway) = connected(version, |_| {}).await;
        let carried = bench.carry(consignment("hello"));
        let (sequence, submit) = gateway.hear_submit().await;
        assert_eq!((submit.msg_fmt, submit.tp_udhi, submit.content.as_ref()), (0, 0, &b"hello"[..]));
        gateway.refuse(sequence, 8).await;
        let outcome = carried.await.unwrap();
        assert_eq!(parts(&outcome), [PartState::Waiting]);
        assert!(matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled && f.scope == Scope::Site));
        assert!(!bench.carrier.try_ready(), "paused");
        bench.carrier.permit().await;
        let carried = bench.carry(Consignment { progress: outcome.progress, ..consignment("hello") });
        let (sequence, _) = gateway.hear_submit().await;
        gateway.refuse(sequence, 13).await;
        let outcome = carried.await.unwrap();
        let Outcome::Failed(failure) = &outcome.outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.reply.as_ref().unwrap().to_string(), "13 result 13 (Dest_terminal_Id)");
        assert_eq!((parts(&outcome), failure.status.to_string().as_str()), (vec![PartState::Refused], "5.1.1"));
    }
}

#[tokio::test]
async fn a_report_is_answered_once_it_is_durable_and_not_before() {
    for version in VERSIONS {
        let sink = Sink::new(0, None);
        let bench = bench(version, Arc::clone(&sink), |_| {}).await;
        let mut gateway = Gateway::connected(&bench, version).await;
        // It may come before the answer to the part it is about, and in the layout of the other version.
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = gateway.hear_submit().await;
        gateway.report(1, 0xBB53_A681_E240_0001, "DELIVRD", Version::V2).await;
        gateway.take(sequence, 0xBB53_A681_E240_0001).await;
        assert_eq!(parts(&carried.await.unwrap()), [sent("13498315584936345601")]);
        gateway.nothing_more_is_said().await;
        assert!(sink.kept.lock().is_empty());
        sink.permits.add_permits(1);
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(1, MsgId(1_001), SubmitResult::OK));
        sink.permits.add_permits(1);
        gateway.report(2, 7, "MK:0012", Version::V3).await;
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(2, MsgId(1_002), SubmitResult::OK));
        let kept = sink.kept.lock().clone();
        let shown: Vec<_> = kept.iter().map(|r| (&*r.carrier_message_id, r.state, r.text.as_str())).collect();
        let first = ("13498315584936345601", ReceiptState::Delivered, "stat:DELIVRD");
        assert_eq!(shown, [first, ("7", ReceiptState::Unknown, "stat:MK:0012")]);
    }
}

#[tokio::test]
async fn what_is_not_kept_is_not_answered_yes() {
    for (error, result) in [(InboundError::Busy, 8), (InboundError::Unavailable, 9)] {
        let bench = bench(Version::V3, Sink::new(10, Some(error)), |_| {}).await;
        let mut gateway = Gateway::connected(&bench, Version::V3).await;
        gateway.report(1, 7, "DELIVRD", Version::V3).await;
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(1, MsgId(1_001), SubmitResult(result)));
        // From a handset; a report of no known length; a DELIVER whose length is wrong.
        gateway.say(&Cmpp::deliver(2, Deliver::default())).await;
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(2, MsgId(0), SubmitResult(result)));
        gateway.say(&Cmpp::deliver(3, Deliver { registered_delivery: 1, ..Deliver::default() })).await;
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(3, MsgId(0), SubmitResult::BAD_STRUCTURE));
        gateway.stream.write_all(b"\0\0\0\x15\0\0\0\x05\0\0\0\x04\0\0\0\0\0\0\0\x09x").await.unwrap();
        assert_eq!(gateway.hear().await, Cmpp::deliver_resp(4, MsgId(9), SubmitResult::BAD_STRUCTURE));
        assert!(bench.metric(r#"postrider_carrier_receipts_total{carrier="carrier",state="unreadable"} 2"#));
    }
}

#[tokio::test]
async fn refused_logins_are_tried_again_and_pdus_may_follow_at_once() {
    let bench = bench(Version::V3, Sink::new(10, None), |_| {}).await;
    for status in [ConnectStatus::NOT_AUTHENTIC, ConnectStatus::OTHER] {
        let mut gateway = Gateway::accept(&bench.listener, Version::V3).await;
        let connect = gateway.hear().await;
        gateway.say(&Cmpp::connect_resp(connect.sequence(), status, [0; 16], Version::V3)).await;
        assert!(gateway.hear_or_end().await.is_none());
        assert!(!bench.carrier.is_up());
    }
    let mut gateway = Gateway::accept(&bench.listener, Version::V3).await;
    let connect = gateway.hear().await;
    let mut octets = BytesMut::new();
    Cmpp::connect_resp(connect.sequence(), ConnectStatus::OK, [0; 16], Version::V3).encode(Version::V3, &mut octets);
    Cmpp::active_test(9).encode(Version::V3, &mut octets);
    for octet in octets {
        gateway.stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.hear().await, Cmpp::active_test_resp(9));
}

#[tokio::test]
async fn a_silent_gateway_is_asked_as_often_as_allowed_and_left() {
    let (bench, mut gateway) = connected(Version::V2, |o| {
        o.enquire_interval = Duration::from_millis(20);
        o.response_timeout = Duration::from_millis(50);
    })
    .await;
    for _ in 0..3 {
        let asked = gateway.hear().await;
        assert_eq!(asked, Cmpp::active_test(asked.sequence()));
    }
    assert!(gateway.hear_or_end().await.is_none(), "closed");
    Gateway::connected(&bench, Version::V2).await;
}

/// It says 13 octets and sends 16: what comes next cannot be found any more.
#[tokio::test]
async fn a_gateway_that_loses_its_place_loses_the_link() {
    let (bench, mut gateway) = connected(Version::V2, |_| {}).await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = gateway.hear_submit().await;
    gateway.stream.write_all(b"\0\0\0\x0D\x80\0\0\x08\0\0\0\x02\0\0\0\0").await.unwrap();
    gateway.take(sequence, 7).await;
    let outcome = carried.await.unwrap();
    assert_eq!(parts(&outcome), [PartState::Unanswered]);
    assert!(cause(&outcome).contains("length of"), "{}", cause(&outcome));
    assert!(gateway.hear_or_end().await.is_none(), "closed");
    Gateway::connected(&bench, Version::V2).await;
}

#[tokio::test]
async fn shutdown_waits_for_answers_and_terminates() {
    let (bench, mut gateway) = connected(Version::V3, |_| {}).await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = gateway.hear_submit().await;
    let carrier = Arc::clone(&bench.carrier);
    let stopped = tokio::spawn(async move { carrier.shutdown(Duration::from_secs(30)).await });
    while bench.carrier.try_ready() {
        tokio::task::yield_now().await;
    }
    gateway.take(sequence, 7).await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("7")]);
    let terminate = gateway.hear().await;
    assert_eq!(terminate, Cmpp::terminate(terminate.sequence()));
    gateway.say(&Cmpp::terminate_resp(terminate.sequence())).await;
    assert!(gateway.hear_or_end().await.is_none());
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_text_is_cut_as_cmpp_carries_it() {
    let (bench, mut gateway) = connected(Version::V3, |_| {}).await;
    let text = SmsText::new(&"é".repeat(71)).unwrap();
    assert_eq!(
        (sms::plan(&text).count, bench.carrier.planned(&text, 0).parts.len()),
        (1, 2),
        "there is no GSM alphabet"
    );
    let mut text = consignment(&"é".repeat(71));
    text.progress.as_mut().unwrap().parts = vec![PartState::Waiting; 2];
    let carried = bench.carry(text);
    for id in [1, 2] {
        let (sequence, submit) = gateway.hear_submit().await;
        assert_eq!(submit.msg_fmt, 8);
        gateway.take(sequence, id).await;
    }
    assert_eq!(parts(&carried.await.unwrap()), [sent("1"), sent("2")]);
}
