//! The simulator and our own client, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::egress::sms::{
    Carrier, Cmpp, HandsetMessage, Inbound, InboundError, Logins, Options as CarrierOptions, Protocol, Smgp, Taking,
};
use crate::event::metrics::Metrics;
use crate::model::{
    Address, AttemptBegun, Class, Consignment, Content, Envelope, Number, Origin, Outcome, PartState, Receipt,
    ReceiptState, Recipient, RecipientOutcome, SenderId, SmsText, TextOrigin, TextProgress,
};
use crate::sms;
use crate::wire::cmpp::Version;
use crate::wire::gateway::auth::NameForm;

mod faults;
mod smpp;

struct Begun;
impl AttemptBegun for Begun {}

/// Hands receipts and handsets' messages to the test; the first few are put off.
struct Sink {
    receipts: mpsc::Sender<Receipt>,
    handsets: mpsc::Sender<HandsetMessage>,
    put_off: AtomicU32,
}

impl Sink {
    fn is_put_off(&self) -> bool {
        self.put_off.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }
}

impl Inbound for Sink {
    fn receipt(&self, receipt: Receipt) -> Taking<'_> {
        Box::pin(async move {
            if self.is_put_off() {
                return Err(InboundError::Busy);
            }
            self.receipts.send(receipt).await.map_err(|_| InboundError::Unavailable)
        })
    }

    fn handset(&self, message: HandsetMessage) -> Taking<'_> {
        Box::pin(async move {
            if self.is_put_off() {
                return Err(InboundError::Busy);
            }
            self.handsets.send(message).await.map_err(|_| InboundError::Unavailable)
        })
    }
}

struct Bench {
    sim: Arc<CarrierSim>,
    carrier: Arc<Carrier>,
    receipts: mpsc::Receiver<Receipt>,
    handsets: mpsc::Receiver<HandsetMessage>,
    texts: mpsc::Receiver<ReceivedText>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Bench {
    async fn new(options: Options, put_off: u32, change: impl FnOnce(&mut CarrierOptions)) -> Self {
        let (received, texts) = mpsc::channel(1_000);
        let options = Options { received: Some(received), receipt_delay: Duration::ZERO, ..options };
        let sim = Arc::new(CarrierSim::bind(options).await.unwrap());
        let mut client = CarrierOptions {
            address: sim.local_addr().unwrap().to_string(),
            system_id: "us".to_owned(),
            password: Secret::new("secret"),
            reconnect_min: Duration::from_millis(1),
            reconnect_max: Duration::from_millis(5),
            throttle_pause: Duration::from_millis(10),
            ..CarrierOptions::default()
        };
        change(&mut client);
        let (sender, receipts) = mpsc::channel(1_000);
        let (heard, handsets) = mpsc::channel(1_000);
        let sink = Arc::new(Sink { receipts: sender, handsets: heard, put_off: AtomicU32::new(put_off) });
        let carrier = Carrier::start(client, SystemClock::shared(), &Metrics::new(), sink).unwrap();
        let (stop, running) = Self::run(&sim);
        Self { sim, carrier, receipts, handsets, texts, stop: Some(stop), running }
    }

    fn run(sim: &Arc<CarrierSim>) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let sim = Arc::clone(sim);
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            sim.run(stopped).await.unwrap();
        });
        (stop, running)
    }

    async fn restart(&mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
        let (stop, running) = Self::run(&self.sim);
        (self.stop, self.running) = (Some(stop), running);
    }

    async fn send(&self, text: &str) -> RecipientOutcome {
        self.carrier.permit().await;
        self.carrier.carry(&Begun, &consignment(text, None), None).await
    }

    async fn counted(&self, enough: impl Fn(&Counts) -> bool) -> Counts {
        loop {
            let counts = self.sim.counts();
            if enough(&counts) {
                return counts;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn consignment(text: &str, progress: Option<TextProgress>) -> Consignment {
    let text = SmsText::new(text).unwrap();
    let now = SystemClock::new().now();
    let parts = vec![PartState::Waiting; sms::plan(&text).count];
    let reference = fastrand::u8(..);
    let progress = progress.unwrap_or(TextProgress { parts, ..TextProgress::new("carrier".into(), reference, 0) });
    let envelope = Envelope {
        id: MessageId::new(now),
        client: "shop".into(),
        class: Class::Transactional,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: Timestamp(0),
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin: Origin::Text(TextOrigin { from: None }),
        recipients: vec![Recipient::new(Address::Number(Number::parse("+8613800138000").unwrap()))],
    };
    Consignment {
        envelope: Arc::new(envelope),
        content: Content::Text(text),
        recipients: vec![0],
        attempt: 1,
        progress: Some(progress),
    }
}

fn ids(outcome: &RecipientOutcome) -> Vec<String> {
    let parts = &outcome.progress.as_ref().unwrap().parts;
    let id = |part: &PartState| match part {
        PartState::Sent(id) => id.to_string(),
        other => panic!("{other:?}"),
    };
    parts.iter().map(id).collect()
}

#[tokio::test]
async fn seventy_one_characters_arrive_whole_and_both_receipts_are_matched() {
    for (form, tlvs) in [(IdForm::Decimal, false), (IdForm::HexThenDecimal, false), (IdForm::HexThenDecimal, true)] {
        let options = Options {
            ids: form,
            receipt_tlvs: tlvs,
            system_id: "us".to_owned(),
            password: Secret::new("secret"),
            latency: Duration::from_millis(5),
            ..Options::default()
        };
        let mut bench = Bench::new(options, 0, |_| {}).await;
        let text = format!("【商店】{}", "货".repeat(67));
        let outcome = bench.send(&text).await;
        assert!(matches!(outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
        let expected = ReceivedText { source: String::new(), destination: "8613800138000".to_owned(), text, parts: 2 };
        assert_eq!(bench.texts.recv().await, Some(expected));
        let mut open: Vec<String> = ids(&outcome).iter().map(|id| sms::receipt::id_key(id)).collect();
        assert_eq!(open.len(), 2);
        for _ in 0..2 {
            let receipt = bench.receipts.recv().await.unwrap();
            assert_eq!(receipt.state, ReceiptState::Delivered);
            let forms = sms::receipt::id_forms(&receipt.carrier_message_id);
            let before = open.len();
            open.retain(|id| !forms.contains(id));
            assert_eq!(open.len(), before - 1, "{forms:?} match one of {open:?}");
        }
        let counts = bench.counted(|c| c.receipts_acknowledged == 2).await;
        assert_eq!((counts.taken, counts.texts, counts.receipts_sent), (2, 1, 2));
    }
}

#[tokio::test]
async fn throttled_parts_go_later_and_nothing_is_lost() {
    let mut bench = Bench::new(Options { throttle_first: 3, ..Options::default() }, 0, |_| {}).await;
    let text = "好".repeat(67 * 4);
    let mut progress = None;
    for attempt in 1.. {
        bench.carrier.permit().await;
        let outcome = bench.carrier.carry(&Begun, &consignment(&text, progress), None).await;
        progress = outcome.progress;
        match outcome.outcome {
            Outcome::Relayed(_) => break,
            Outcome::Delayed(failure) => assert!(failure.throttled && attempt < 10),
            Outcome::Failed(failure) => panic!("{failure:?}"),
        }
    }
    assert_eq!(bench.texts.recv().await.unwrap().text, text);
    let counts = bench.sim.counts();
    assert_eq!((counts.throttled, counts.taken), (3, 4));
}

#[tokio::test]
async fn a_refusing_carrier_fails_the_text() {
    let bench = Bench::new(Options { refuse_share: 1.0, ..Options::default() }, 0, |_| {}).await;
    let outcome = bench.send("hello").await;
    assert!(matches!(outcome.outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(bench.sim.counts().refused, 1);
}

#[tokio::test]
async fn a_receipt_is_brought_again_until_it_is_taken() {
    let options = Options { receipt_retry: Duration::from_millis(5), undeliverable_share: 1.0, ..Options::default() };
    let mut bench = Bench::new(options, 3, |_| {}).await;
    let outcome = bench.send("hello").await;
    let receipt = bench.receipts.recv().await.unwrap();
    assert_eq!((receipt.state, &*receipt.carrier_message_id), (ReceiptState::Undeliverable, ids(&outcome)[0].as_str()));
    let counts = bench.counted(|c| c.receipts_acknowledged == 1).await;
    assert_eq!((counts.receipts_sent, counts.receipts_put_off), (4, 3));
}

#[tokio::test]
async fn a_receipt_is_brought_only_so_often() {
    let options = Options { receipt_retry: Duration::from_millis(1), receipt_tries_max: 4, ..Options::default() };
    let bench = Bench::new(options, u32::MAX, |_| {}).await;
    bench.send("hello").await;
    let counts = bench.counted(|c| c.receipts_given_up == 1).await;
    assert_eq!((counts.receipts_sent, counts.receipts_put_off), (4, 3));
}

#[tokio::test]
async fn a_receipt_survives_the_link_it_was_sent_on() {
    // The sink's channel is full, so the receipt stays unanswered when the link is cut.
    let options = Options { receipt_retry: Duration::from_millis(1), ..Options::default() };
    let mut bench = Bench::new(options, 0, |_| {}).await;
    let (full, mut receipts) = mpsc::channel(1);
    let (handsets, _none) = mpsc::channel(1);
    let sink = Arc::new(Sink { receipts: full.clone(), handsets, put_off: AtomicU32::new(0) });
    let client = bench.carrier.options().clone();
    bench.carrier.shutdown(Duration::from_secs(5)).await;
    bench.carrier = Carrier::start(client, SystemClock::shared(), &Metrics::new(), sink).unwrap();
    bench.send("one").await;
    bench.counted(|c| c.receipts_acknowledged == 1).await;
    bench.send("two").await;
    bench.counted(|c| c.receipts_sent == 2).await;
    bench.restart().await;
    bench.counted(|c| c.receipts_sent >= 3).await;
    let first = receipts.recv().await.unwrap();
    let second = receipts.recv().await.unwrap();
    assert_ne!(first.carrier_message_id, second.carrier_message_id);
    bench.counted(|c| c.receipts_acknowledged >= 2 || c.receipts_put_off >= 1).await;
}

#[tokio::test]
async fn strangers_are_not_bound() {
    let options = Options { system_id: "us".to_owned(), password: Secret::new("other"), ..Options::default() };
    let bench = Bench::new(options, 0, |_| {}).await;
    bench.counted(|c| c.binds_refused >= 2).await;
    assert!(!bench.carrier.is_up());
    assert_eq!(bench.sim.counts().binds, 0);
}

#[tokio::test]
async fn at_its_bound_the_simulator_says_so() {
    let options = Options { receipts_waiting_max: 0, ..Options::default() };
    let bench = Bench::new(options, 0, |_| {}).await;
    let outcome = bench.send("hello").await;
    assert!(matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled), "{outcome:?}");
    assert_eq!(bench.sim.counts().queue_full, 1);
}

#[tokio::test]
async fn many_texts_over_several_binds_all_arrive_once() {
    let options = Options { latency: Duration::from_millis(2), ..Options::default() };
    let mut bench = Bench::new(options, 0, |o| (o.binds, o.window) = (3, 5)).await;
    let mut carried = Vec::new();
    for i in 0..200 {
        let carrier = Arc::clone(&bench.carrier);
        carrier.permit().await;
        carried.push(tokio::spawn(async move {
            carrier.carry(&Begun, &consignment(&format!("text {i}"), None), None).await
        }));
    }
    for one in carried {
        assert!(matches!(one.await.unwrap().outcome, Outcome::Relayed(_)));
    }
    let mut texts = Vec::new();
    for _ in 0..200 {
        texts.push(bench.texts.recv().await.unwrap().text);
        bench.receipts.recv().await.unwrap();
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 200);
    let counts = bench.counted(|c| c.receipts_acknowledged == 200).await;
    assert_eq!((counts.submissions, counts.taken, counts.binds), (200, 200, 3));
}

/// Makes a client speak CMPP.
fn cmpp(version: Version) -> impl FnOnce(&mut CarrierOptions) {
    move |o| {
        o.system_id = "900001".to_owned();
        o.source = Some(SenderId::parse("10690001").unwrap());
        o.protocol = Protocol::Cmpp(Cmpp { version, ..Cmpp::default() });
    }
}

#[tokio::test]
async fn a_cmpp_client_is_told_by_its_first_octets_and_served_as_well() {
    for version in [Version::V2, Version::V3] {
        let options = Options {
            system_id: "900001".to_owned(),
            password: Secret::new("secret"),
            latency: Duration::from_millis(5),
            ..Options::default()
        };
        let mut bench = Bench::new(options, 1, cmpp(version)).await;
        let text = format!("【商店】{}", "货".repeat(67));
        let outcome = bench.send(&text).await;
        assert!(matches!(outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
        let (source, destination) = ("10690001".to_owned(), "8613800138000".to_owned());
        assert_eq!(bench.texts.recv().await, Some(ReceivedText { source, destination, text, parts: 2 }));
        let mut open = ids(&outcome);
        for _ in 0..2 {
            let receipt = bench.receipts.recv().await.unwrap();
            assert_eq!(receipt.state, ReceiptState::Delivered);
            open.retain(|id| **id != *receipt.carrier_message_id);
        }
        assert!(open.is_empty(), "one form of an id in answers and reports: {open:?}");
        let counts = bench.counted(|c| c.receipts_acknowledged == 2).await;
        assert_eq!((counts.taken, counts.texts, counts.binds, counts.receipts_put_off), (2, 1, 1, 1));
    }
}

#[tokio::test]
async fn cmpp_clients_are_throttled_refused_and_kept_out_as_well() {
    let bench =
        Bench::new(Options { throttle_first: 1, refuse_share: 1.0, ..Options::default() }, 0, cmpp(Version::V3));
    let bench = bench.await;
    assert!(matches!(bench.send("hello").await.outcome, Outcome::Delayed(f) if f.throttled));
    assert!(matches!(bench.send("hello").await.outcome, Outcome::Failed(_)));
    let counts = bench.sim.counts();
    assert_eq!((counts.throttled, counts.refused), (1, 1));
    for (system_id, password) in [("900001", "other"), ("900002", "secret")] {
        let options =
            Options { system_id: system_id.to_owned(), password: Secret::new(password), ..Options::default() };
        let bench = Bench::new(options, 0, cmpp(Version::V2)).await;
        bench.counted(|c| c.binds_refused >= 2).await;
        assert!(!bench.carrier.is_up());
    }
}

/// Makes a client speak SMGP.
fn smgp(logins: Logins, version: smgp::Version) -> impl FnOnce(&mut CarrierOptions) {
    move |o| {
        o.system_id = "1234".to_owned();
        o.source = Some(SenderId::parse("10690001").unwrap());
        o.binds = 2;
        o.protocol = Protocol::Smgp(Smgp { logins, version, name_form: NameForm::Padded, ..Smgp::default() });
    }
}

#[tokio::test]
async fn an_smgp_client_is_told_by_its_first_octets_and_served_as_well() {
    for (logins, version) in [(Logins::Both, smgp::Version::V13), (Logins::Split { receivers: 1 }, smgp::Version::V30)]
    {
        let options = Options {
            system_id: "1234".to_owned(),
            password: Secret::new("secret"),
            latency: Duration::from_millis(5),
            ..Options::default()
        };
        let mut bench = Bench::new(options, 1, smgp(logins, version)).await;
        let text = format!("【商店】{}", "货".repeat(67));
        let outcome = bench.send(&text).await;
        assert!(matches!(outcome.outcome, Outcome::Relayed(_)), "{outcome:?}");
        let (source, destination) = ("10690001".to_owned(), "8613800138000".to_owned());
        assert_eq!(bench.texts.recv().await, Some(ReceivedText { source, destination, text, parts: 2 }));
        let mut open = ids(&outcome);
        for _ in 0..2 {
            let receipt = bench.receipts.recv().await.unwrap();
            assert_eq!((receipt.state, receipt.text.as_str()), (ReceiptState::Delivered, "stat:DELIVRD err:000"));
            open.retain(|id| **id != *receipt.carrier_message_id);
        }
        assert!(open.is_empty(), "one form of an id in answers and reports: {open:?}");
        let counts = bench.counted(|c| c.receipts_acknowledged == 2 && c.binds == 2).await;
        assert_eq!((counts.taken, counts.texts, counts.receipts_put_off), (2, 1, 1));
    }
}

#[tokio::test]
async fn smgp_clients_are_throttled_refused_and_kept_out_as_well() {
    let options = Options { throttle_first: 1, refuse_share: 1.0, ..Options::default() };
    let bench = Bench::new(options, 0, smgp(Logins::Both, smgp::Version::V30)).await;
    assert!(matches!(bench.send("hello").await.outcome, Outcome::Delayed(f) if f.throttled));
    assert!(matches!(bench.send("hello").await.outcome, Outcome::Failed(_)));
    let counts = bench.sim.counts();
    assert_eq!((counts.throttled, counts.refused), (1, 1));
    for (system_id, password) in [("1234", "other"), ("1235", "secret")] {
        let options =
            Options { system_id: system_id.to_owned(), password: Secret::new(password), ..Options::default() };
        let bench = Bench::new(options, 0, smgp(Logins::Both, smgp::Version::V30)).await;
        bench.counted(|c| c.binds_refused >= 2).await;
        assert!(!bench.carrier.is_up());
    }
}

#[tokio::test]
async fn handsets_answer_and_are_brought_again_until_they_are_taken() {
    let long = "快递😀".repeat(30);
    for spoken in ["smpp", "cmpp2", "cmpp3", "smgp"] {
        let replies = vec!["+8613800138000=TD".parse().unwrap(), format!("8613800138000={long}").parse().unwrap()];
        let options = Options { replies, receipt_retry: Duration::from_millis(1), ..Options::default() };
        let mut bench = Bench::new(options, 2, |o| {
            let cmpp = |version| Protocol::Cmpp(Cmpp { version, ..Cmpp::default() });
            match spoken {
                "cmpp2" => o.protocol = cmpp(Version::V2),
                "cmpp3" => o.protocol = cmpp(Version::V3),
                "smgp" => return smgp(Logins::Both, smgp::Version::V30)(o),
                _ => return,
            }
            o.source = Some(SenderId::parse("10690001").unwrap());
        })
        .await;
        bench.send("hello").await;
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.push(bench.handsets.recv().await.unwrap());
        }
        assert!(heard.iter().all(|message| &*message.from == "+8613800138000"), "{heard:?}");
        heard.sort_by_key(|message| message.place.map(|place| place.number));
        assert_eq!(&heard[0].octets[..], b"TD");
        let octets = [&heard[1].octets[..], &heard[2].octets[..]].concat();
        assert_eq!(sms::Alphabet::Ucs2.words(&octets), Ok(long.clone()), "{spoken}");
        bench.counted(|counts| counts.replies_acknowledged == 3).await;
    }
}
