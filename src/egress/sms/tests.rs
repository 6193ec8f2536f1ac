//! The carrier handle against a scripted message centre that behaves badly in every way we know.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::event::metrics::Metrics;
use crate::model::{
    Address, AttemptBegun, Class, Consignment, Content, Envelope, MessageId, Number, Origin, Outcome, PartState,
    ReceiptState, Recipient, RecipientOutcome, Responsibility, Scope, SenderId, SmsText, Stage, TextOrigin,
    TextProgress,
};
use crate::sms;
use crate::wire::smpp::{Body, COctets, CommandStatus, Framer, Pdu, ShortMessage, command, esm_class};

mod cmpp;
mod handset;
mod sgip;
pub(super) mod sink;
mod smgp;
mod smpp;

use sink::{Simulated, Sink};

pub(super) struct Begun;
impl AttemptBegun for Begun {}

/// The other end of a link, led by hand.
struct Centre {
    stream: TcpStream,
    framer: Framer,
}

impl Centre {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, framer: Framer::new() }
    }

    async fn bound(listener: &TcpListener) -> Self {
        let mut centre = Self::accept(listener).await;
        let bind = centre.hear().await;
        assert_eq!(bind.command_id(), command::BIND_TRANSCEIVER);
        centre.say(&Pdu::bind_resp(bind.command_id(), bind.sequence(), CommandStatus::OK, COctets::default())).await;
        centre
    }

    async fn hear(&mut self) -> Pdu {
        self.hear_or_end().await.expect("the link ended")
    }

    async fn hear_or_end(&mut self) -> Option<Pdu> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(Pdu::decode(frame).unwrap());
            }
            if self.stream.read_buf(self.framer.buffer()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn hear_submit(&mut self) -> (u32, ShortMessage) {
        let pdu = self.hear().await;
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::SubmitSm(message) => (sequence, message),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, pdu: &Pdu) {
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets);
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn take(&mut self, sequence: u32, id: &str) {
        self.say(&Pdu::submit_sm_taken(sequence, &Simulated, COctets::new("id", id).unwrap())).await;
    }

    async fn refuse(&mut self, sequence: u32, status: u32) {
        self.say(&Pdu::submit_sm_refused(sequence, CommandStatus(status))).await;
    }

    /// Whatever the client had to say before this was asked has been said.
    async fn nothing_more_is_said(&mut self) {
        self.say(&Pdu::enquire_link(77)).await;
        let next = self.hear().await;
        assert_eq!((next.command_id(), next.sequence()), (command::ENQUIRE_LINK | command::RESPONSE, 77));
    }

    async fn bring(&mut self, sequence: u32, esm_class: u8, text: &str) {
        let message = ShortMessage { esm_class, short_message: text.to_owned().into(), ..ShortMessage::default() };
        self.say(&Pdu::deliver_sm(sequence, message)).await;
    }

    async fn hear_delivery_answer(&mut self) -> (u32, u32) {
        let answer = self.hear().await;
        assert_eq!(answer.command_id(), command::DELIVER_SM | command::RESPONSE);
        (answer.sequence(), answer.status().0)
    }
}

struct Bench {
    listener: TcpListener,
    carrier: Arc<Carrier>,
    metrics: Metrics,
}

impl Bench {
    async fn new(change: impl FnOnce(&mut Options)) -> Self {
        Self::with(Sink::new(1_000, None), change).await
    }

    async fn with(sink: Arc<Sink>, change: impl FnOnce(&mut Options)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = Options {
            address: listener.local_addr().unwrap().to_string(),
            system_id: "us".to_owned(),
            reconnect_min: Duration::from_millis(1),
            reconnect_max: Duration::from_millis(5),
            throttle_pause: Duration::from_millis(300),
            ..Options::default()
        };
        change(&mut options);
        let metrics = Metrics::new();
        let carrier = Carrier::start(options, SystemClock::shared(), &metrics, sink).unwrap();
        Self { listener, carrier, metrics }
    }

    async fn bound(change: impl FnOnce(&mut Options)) -> (Self, Centre) {
        let bench = Self::new(change).await;
        let centre = Centre::bound(&bench.listener).await;
        bench.carrier.permit().await;
        (bench, centre)
    }

    fn carry(&self, consignment: Consignment) -> JoinHandle<RecipientOutcome> {
        let carrier = Arc::clone(&self.carrier);
        tokio::spawn(async move { carrier.carry(&Begun, &consignment, None).await })
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|l| l == line)
    }
}

pub(super) fn consignment(text: &str) -> Consignment {
    let now = SystemClock::new().now();
    let text = SmsText::new(text).unwrap();
    let parts = vec![PartState::Waiting; sms::plan(&text).count];
    let envelope = Envelope {
        id: MessageId::new(now),
        client: "shop".into(),
        class: Class::Otp,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: now,
        send_at: None,
        expires_at: Some(now.plus(Duration::from_secs(300))),
        idempotency: None,
        origin: Origin::Text(TextOrigin { from: Some(SenderId::parse("Shop").unwrap()) }),
        recipients: vec![Recipient::new(Address::Number(Number::parse("+8613800138000").unwrap()))],
    };
    Consignment {
        envelope: Arc::new(envelope),
        content: Content::Text(text),
        recipients: vec![0],
        attempt: 1,
        progress: Some(TextProgress { parts, ..TextProgress::new("carrier".into(), 9, 0) }),
    }
}

fn three_parts() -> Consignment {
    consignment(&"好".repeat(180))
}

fn parts(outcome: &RecipientOutcome) -> Vec<PartState> {
    outcome.progress.clone().unwrap().parts
}

fn sent(id: &str) -> PartState {
    PartState::Sent(id.into())
}

fn cause(outcome: &RecipientOutcome) -> String {
    match &outcome.outcome {
        Outcome::Delayed(failure) => failure.cause.clone().unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn parts_leave_together_and_answers_find_theirs_in_any_order() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let carried = bench.carry(three_parts());
    let mut heard = Vec::new();
    for number in 1..=3 {
        let (sequence, message) = centre.hear_submit().await;
        assert_eq!(message.short_message[..6], [5, 0, 3, 9, 3, number]);
        assert_eq!((message.esm_class, message.data_coding, message.registered_delivery), (0x40, 8, 1));
        assert_eq!((message.source.ton, message.source.npi, message.source.address.to_string()), (5, 0, "Shop".into()));
        let to = &message.destination;
        assert_eq!((to.ton, to.npi, to.address.to_string()), (1, 1, "8613800138000".into()));
        let validity = message.validity_period.to_string();
        assert!(validity.starts_with("0000000004") && validity.ends_with("000R"), "under five minutes: {validity}");
        heard.push(sequence);
    }
    for (i, sequence) in heard.into_iter().enumerate().rev() {
        centre.take(sequence, &format!("id{i}")).await;
    }
    let outcome = carried.await.unwrap();
    assert!(matches!(&outcome.outcome, Outcome::Relayed(r) if r.reply.to_string() == "0 ESME_ROK (0x00) id id2"));
    assert_eq!(parts(&outcome), [sent("id0"), sent("id1"), sent("id2")]);
    assert_eq!(outcome.peer.as_ref().unwrap().address, Some(bench.listener.local_addr().unwrap()));
    assert!(bench.metric(r#"postrider_carrier_parts_total{carrier="carrier",result="sent"} 3"#));
    assert!(bench.metric(r#"postrider_carrier_window_used{carrier="carrier"} 0"#));
    assert!(bench.metric(r#"postrider_carrier_up{carrier="carrier"} 1"#));
}

#[tokio::test]
async fn the_window_is_never_exceeded() {
    let (bench, mut centre) = Bench::bound(|o| o.window = 2).await;
    let carried = bench.carry(consignment(&"好".repeat(67 * 5)));
    let mut unanswered = vec![centre.hear_submit().await.0, centre.hear_submit().await.0];
    for _ in 0..3 {
        centre.nothing_more_is_said().await;
        assert!(!bench.carrier.try_ready());
        centre.take(unanswered.remove(0), "x").await;
        unanswered.push(centre.hear_submit().await.0);
    }
    centre.nothing_more_is_said().await;
    for sequence in unanswered {
        centre.take(sequence, "x").await;
    }
    assert!(matches!(carried.await.unwrap().outcome, Outcome::Relayed(_)));
}

#[tokio::test]
async fn only_waiting_parts_are_sent() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let mut again = three_parts();
    again.progress.as_mut().unwrap().parts = vec![sent("a"), PartState::Waiting, sent("c")];
    let carried = bench.carry(again);
    let (sequence, message) = centre.hear_submit().await;
    assert_eq!(message.short_message[5], 2);
    centre.take(sequence, "b").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("a"), sent("b"), sent("c")]);
    centre.nothing_more_is_said().await;
}

#[tokio::test]
async fn a_link_that_closes_mid_window_leaves_unknown_what_left_and_waiting_what_did_not() {
    let (bench, mut centre) = Bench::bound(|o| o.window = 2).await;
    let carried = bench.carry(three_parts());
    let (first, _) = centre.hear_submit().await;
    centre.hear_submit().await;
    centre.take(first, "a").await;
    centre.hear_submit().await;
    drop(centre);
    let outcome = carried.await.unwrap();
    assert_eq!(parts(&outcome), [sent("a"), PartState::Unanswered, PartState::Unanswered]);
    assert!(cause(&outcome).starts_with("answer lost: "), "{}", cause(&outcome));
    assert!(matches!(&outcome.outcome, Outcome::Delayed(f) if f.stage == Stage::Submit && !f.throttled));
    assert!(bench.metric(r#"postrider_answers_lost_total{channel="sms"} 1"#), "one attempt, one loss");
    assert!(bench.metric(r#"postrider_carrier_parts_total{carrier="carrier",result="unanswered"} 2"#));

    // A new link is made; of the next text only the first part leaves before it breaks as well.
    let mut centre = Centre::bound(&bench.listener).await;
    bench.carrier.permit().await;
    let carried = bench.carry(consignment(&"好".repeat(67 * 4)));
    let (first, _) = centre.hear_submit().await;
    let (second, _) = centre.hear_submit().await;
    assert_ne!(first, second);
    drop(centre);
    use PartState::{Unanswered, Waiting};
    assert_eq!(parts(&carried.await.unwrap()), [Unanswered, Unanswered, Waiting, Waiting]);
}

#[tokio::test]
async fn a_part_that_waits_for_its_turn_goes_over_another_bind_when_its_own_breaks() {
    let bench = Bench::new(|o| (o.binds, o.window) = (2, 1)).await;
    let mut one = Centre::bound(&bench.listener).await;
    let mut other = Centre::bound(&bench.listener).await;
    bench.carrier.permit().await;
    let carried = bench.carry(three_parts());
    let ((first, _), (second, _)) = (one.hear_submit().await, other.hear_submit().await);
    one.take(first, "a").await;
    let (third, _) = one.hear_submit().await;
    other.take(second, "b").await;
    one.take(third, "c").await;
    assert!(matches!(carried.await.unwrap().outcome, Outcome::Relayed(_)));
    // One bind gone, the carrier is still up and carries.
    drop(one);
    let again = Centre::accept(&bench.listener).await;
    assert!(bench.carrier.is_up());
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = other.hear_submit().await;
    other.take(sequence, "d").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("d")]);
    drop(again);
}

#[tokio::test]
async fn answers_to_other_sequence_numbers_complete_nothing() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    centre.take(sequence + 1, "wrong").await;
    centre.refuse(0, 0x0B).await;
    centre.say(&Pdu::generic_nack(0, CommandStatus(0x03))).await;
    centre.take(sequence, "right").await;
    centre.take(sequence, "twice").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("right")]);
    centre.nothing_more_is_said().await;
}

#[tokio::test]
async fn pdus_cut_anywhere_are_put_together() {
    let bench = Bench::new(|_| {}).await;
    let mut centre = Centre::accept(&bench.listener).await;
    let bind = centre.hear().await;
    let mut octets = BytesMut::new();
    Pdu::bind_resp(bind.command_id(), bind.sequence(), CommandStatus::OK, COctets::default()).encode(&mut octets);
    // A receipt right behind the bind's answer, in the same octets.
    Pdu::deliver_sm(
        1,
        ShortMessage { esm_class: 4, short_message: "id:1 stat:DELIVRD".into(), ..ShortMessage::default() },
    )
    .encode(&mut octets);
    for octet in octets {
        centre.stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(centre.hear_delivery_answer().await, (1, 0));
}

#[tokio::test]
async fn a_length_that_cannot_be_true_ends_the_link() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let carried = bench.carry(consignment("hello"));
    centre.hear_submit().await;
    centre.stream.write_all(&[0xFF; 16]).await.unwrap();
    let outcome = carried.await.unwrap();
    assert_eq!(parts(&outcome), [PartState::Unanswered]);
    assert!(cause(&outcome).contains("command_length 4294967295"), "{}", cause(&outcome));
    assert!(centre.hear_or_end().await.is_none(), "closed");
    Centre::bound(&bench.listener).await;
}

#[tokio::test]
async fn silence_makes_a_part_unknown_and_a_late_answer_frees_its_slot() {
    let (bench, mut centre) = Bench::bound(|o| {
        o.window = 1;
        o.response_timeout = Duration::from_millis(700);
    })
    .await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    let outcome = carried.await.unwrap();
    assert_eq!(parts(&outcome), [PartState::Unanswered]);
    assert_eq!(cause(&outcome), "answer lost: no answer in time");
    assert!(!bench.carrier.try_ready(), "the slot is taken as long as the carrier may still answer");
    centre.take(sequence, "late").await;
    bench.carrier.permit().await;
    assert!(bench.metric(r#"postrider_carrier_parts_total{carrier="carrier",result="answered-late"} 1"#));
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    centre.take(sequence, "in time").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("in time")]);
}

#[tokio::test]
async fn a_silent_carrier_is_asked_and_left() {
    let (bench, mut centre) = Bench::bound(|o| {
        o.enquire_interval = Duration::from_millis(20);
        o.response_timeout = Duration::from_millis(100);
    })
    .await;
    let asked = centre.hear().await;
    assert_eq!(asked.command_id(), command::ENQUIRE_LINK);
    centre.say(&Pdu::enquire_link_resp(asked.sequence())).await;
    assert_eq!(centre.hear().await.command_id(), command::ENQUIRE_LINK, "asked again after the next silence");
    assert!(centre.hear_or_end().await.is_none(), "closed");
    Centre::bound(&bench.listener).await;
}

#[tokio::test]
async fn refused_and_unanswered_binds_are_tried_again() {
    let bench = Bench::new(|o| o.bind_timeout = Duration::from_millis(200)).await;
    for status in [0x0E, 0x05, 0x08] {
        let mut centre = Centre::accept(&bench.listener).await;
        let bind = centre.hear().await;
        centre
            .say(&Pdu::bind_resp(bind.command_id(), bind.sequence(), CommandStatus(status), COctets::default()))
            .await;
        assert!(centre.hear_or_end().await.is_none());
        assert!(!bench.carrier.is_up());
    }
    let mut silent = Centre::accept(&bench.listener).await;
    silent.hear().await;
    assert!(silent.hear_or_end().await.is_none(), "given up");
    let mut babbling = Centre::accept(&bench.listener).await;
    babbling.hear().await;
    babbling.bring(1, 4, "id:1").await;
    assert!(babbling.hear_or_end().await.is_none(), "a receipt is no answer to a bind");
    let _bound = Centre::bound(&bench.listener).await;
    bench.carrier.permit().await;
    assert!(bench.carrier.is_up());
}

#[tokio::test]
async fn a_throttled_carrier_is_left_alone_for_a_while() {
    for status in [0x58, 0x14] {
        let (bench, mut centre) = Bench::bound(|_| {}).await;
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = centre.hear_submit().await;
        centre.refuse(sequence, status).await;
        let outcome = carried.await.unwrap();
        assert_eq!(parts(&outcome), [PartState::Waiting]);
        assert!(
            matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled && f.scope == Scope::Site),
            "{outcome:?}"
        );
        assert!(!bench.carrier.try_ready(), "paused");
        bench.carrier.permit().await;
        let carried = bench.carry(Consignment { progress: outcome.progress, ..consignment("hello") });
        let (sequence, _) = centre.hear_submit().await;
        centre.take(sequence, "a").await;
        assert_eq!(parts(&carried.await.unwrap()), [sent("a")]);
        assert!(bench.metric(r#"postrider_carrier_parts_total{carrier="carrier",result="throttled"} 1"#));
    }
}

#[tokio::test]
async fn a_refused_part_stops_the_rest_and_fails_the_text() {
    let (bench, mut centre) = Bench::bound(|o| o.window = 1).await;
    let carried = bench.carry(three_parts());
    let (sequence, _) = centre.hear_submit().await;
    centre.refuse(sequence, 0x0B).await;
    let outcome = carried.await.unwrap();
    let Outcome::Failed(failure) = &outcome.outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.reply.as_ref().unwrap().to_string(), "11 ESME_RINVDSTADR (0x0B)");
    assert_eq!((failure.scope, failure.status.to_string().as_str()), (Scope::Recipient, "5.1.1"));
    // What could not be complete any more was not sent.
    assert_eq!(parts(&outcome), [PartState::Refused, PartState::Waiting, PartState::Waiting]);
    centre.nothing_more_is_said().await;
}

#[tokio::test]
async fn nothing_is_carried_while_down_expired_or_misplanned() {
    let bench = Bench::new(|_| {}).await;
    let outcome = bench.carrier.carry(&Begun, &consignment("hello"), None).await;
    assert_eq!(cause(&outcome), "no bind of the carrier is up");
    assert_eq!(parts(&outcome), [PartState::Waiting]);

    let mut centre = Centre::bound(&bench.listener).await;
    bench.carrier.permit().await;
    let mut late = consignment("hello");
    Arc::make_mut(&mut late.envelope).expires_at = Some(Timestamp(1));
    assert_eq!(cause(&bench.carrier.carry(&Begun, &late, None).await), "expired before it was sent");
    let mut foreign = consignment("hello");
    foreign.progress.as_mut().unwrap().carrier = "other".into();
    assert_eq!(cause(&bench.carrier.carry(&Begun, &foreign, None).await), "the text's parts belong to carrier other");
    let mut misplanned = three_parts();
    misplanned.progress.as_mut().unwrap().parts.pop();
    let outcome = bench.carrier.carry(&Begun, &misplanned, None).await;
    assert_eq!(cause(&outcome), "the text was planned as 2 parts and needs 3");
    let mut unplanned = three_parts();
    unplanned.progress = None;
    assert_eq!(cause(&bench.carrier.carry(&Begun, &unplanned, None).await), "the text's parts were not planned");
    centre.nothing_more_is_said().await;
}

#[tokio::test]
async fn a_receipt_is_answered_once_it_is_durable_and_not_before() {
    let sink = Sink::new(0, None);
    let bench = Bench::with(Arc::clone(&sink), |o| o.receipts_max = 2).await;
    let mut centre = Centre::bound(&bench.listener).await;
    bench.carrier.permit().await;
    // It may come before the answer to the part it is about.
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    centre.bring(1, esm_class::RECEIPT, "id:A7 stat:DELIVRD err:000").await;
    centre.take(sequence, "a7").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("a7")]);
    centre.nothing_more_is_said().await;

    // Two at a time go to disk together; the third is not read before one is done.
    centre.bring(2, esm_class::RECEIPT, "id:A8 stat:UNDELIV err:011").await;
    centre.bring(3, esm_class::INTERMEDIATE, "id:A9 stat:DELIVRD").await;
    while sink.begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert!(sink.kept.lock().is_empty());
    sink.permits.add_permits(1);
    assert_eq!(centre.hear_delivery_answer().await.1, 0);
    sink.permits.add_permits(2);
    let mut answered = vec![centre.hear_delivery_answer().await, centre.hear_delivery_answer().await];
    answered.sort_unstable();
    assert!(answered.iter().all(|(_, status)| *status == 0), "{answered:?}");
    let mut kept = sink.kept.lock().clone();
    kept.sort_by(|a, b| a.carrier_message_id.cmp(&b.carrier_message_id));
    let shown: Vec<_> = kept.iter().map(|r| (&*r.carrier_message_id, r.state, r.text.as_str(), &*r.carrier)).collect();
    assert_eq!(
        shown,
        [
            ("A7", ReceiptState::Delivered, "stat:DELIVRD err:000", "carrier"),
            ("A8", ReceiptState::Undeliverable, "stat:UNDELIV err:011", "carrier"),
            ("A9", ReceiptState::Underway, "stat:DELIVRD", "carrier"),
        ]
    );
    assert!(bench.metric(r#"postrider_carrier_receipts_total{carrier="carrier",state="delivered"} 1"#));
}

#[tokio::test]
async fn what_is_not_kept_is_not_answered_yes() {
    for (error, status) in [(InboundError::Busy, 0x64), (InboundError::Unavailable, 0x08)] {
        let bench = Bench::with(Sink::new(10, Some(error)), |_| {}).await;
        let mut centre = Centre::bound(&bench.listener).await;
        centre.bring(1, esm_class::RECEIPT, "id:1 stat:DELIVRD").await;
        assert_eq!(centre.hear_delivery_answer().await, (1, status));
        // From a handset; a receipt nobody could match.
        centre.bring(2, 0, "STOP").await;
        assert_eq!(centre.hear_delivery_answer().await, (2, status));
        centre.bring(3, esm_class::RECEIPT, "stat:DELIVRD").await;
        assert_eq!(centre.hear_delivery_answer().await, (3, 0x65));
        assert!(bench.metric(r#"postrider_carrier_receipts_total{carrier="carrier",state="unreadable"} 1"#));
    }
}

#[tokio::test]
async fn shutdown_waits_for_answers_and_unbinds() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    let carrier = Arc::clone(&bench.carrier);
    let stopped = tokio::spawn(async move { carrier.shutdown(Duration::from_secs(30)).await });
    while bench.carrier.try_ready() {
        tokio::task::yield_now().await;
    }
    let refused = bench.carrier.carry(&Begun, &consignment("too late"), None).await;
    assert_eq!(cause(&refused), "the carrier's links are being closed");
    centre.nothing_more_is_said().await;
    centre.take(sequence, "a").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("a")]);
    let unbind = centre.hear().await;
    assert_eq!(unbind.command_id(), command::UNBIND);
    centre.say(&Pdu::unbind_resp(unbind.sequence())).await;
    assert!(centre.hear_or_end().await.is_none());
    stopped.await.unwrap();
    assert!(!bench.carrier.is_up());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    let carried = bench.carry(consignment("hello"));
    centre.hear_submit().await;
    bench.carrier.shutdown(Duration::from_millis(20)).await;
    assert_eq!(parts(&carried.await.unwrap()), [PartState::Unanswered]);
    assert!(centre.hear_or_end().await.is_none());
}

#[tokio::test]
async fn the_carriers_own_unbind_is_answered() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    centre.say(&Pdu::unbind(5)).await;
    let answer = centre.hear().await;
    assert_eq!((answer.command_id(), answer.sequence()), (command::UNBIND | command::RESPONSE, 5));
    assert!(centre.hear_or_end().await.is_none());
    Centre::bound(&bench.listener).await;
}

#[tokio::test]
async fn a_dropped_handle_closes_its_links() {
    let (bench, mut centre) = Bench::bound(|_| {}).await;
    drop(bench.carrier);
    assert!(centre.hear_or_end().await.is_none());
}

#[tokio::test]
async fn only_allowed_addresses_are_dialled() {
    let sink = Sink::new(0, None);
    let bench = Bench::with(sink, |o| o.allow = vec!["192.0.2.0/24".parse().unwrap()]).await;
    let refused = super::dial::connect(bench.carrier.options()).await.unwrap_err();
    assert!(refused.ends_with("has no address that may be dialled"), "{refused}");
    let allowed = Options { allow: vec!["127.0.0.0/8".parse().unwrap()], ..bench.carrier.options().clone() };
    assert!(super::dial::connect(&allowed).await.is_ok());
}
