//! The carrier handle against a scripted SGIP gateway: what is SGIP's own, above all the connections that it makes to us.

use std::collections::HashMap;
use std::net::SocketAddr;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::*;
use crate::model::Secret;
use crate::wire::sgip::{
    Bind, Body as Said, Deliver, Framer as Frames, Octets, Pdu as SgipPdu, REPORT_ALWAYS, Report, Sequence, SgipResult,
    command as commands, login_type,
};

/// The other end of a link, led by hand.
struct Gateway {
    stream: TcpStream,
    framer: Frames,
}

impl Gateway {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, framer: Frames::new() }
    }

    /// Takes a login.
    async fn bound(listener: &TcpListener) -> Self {
        let mut gateway = Self::new(listener.accept().await.unwrap().0);
        let bind = gateway.hear().await;
        let Said::Bind(said) = bind.body() else { panic!("{bind:?}") };
        assert_eq!((said.login_type, said.login_name.to_string().as_str()), (login_type::SP, "us"));
        assert_eq!(bind.sequence().node, 3_010_012_345);
        gateway.say(&SgipPdu::bind_resp(bind.sequence(), SgipResult::OK)).await;
        gateway
    }

    /// Comes to the relay, as that gateway.
    async fn calling(address: SocketAddr, name: &str, password: &str) -> (Self, SgipResult) {
        let mut gateway = Self::new(TcpStream::connect(address).await.unwrap());
        let bind = Bind {
            login_type: login_type::GATEWAY,
            login_name: Octets::new("n", name).unwrap(),
            login_password: Octets::new("p", password).unwrap(),
        };
        gateway.say(&SgipPdu::bind(own(1), bind)).await;
        let answer = gateway.hear().await;
        let Said::BindResp(result) = *answer.body() else { panic!("{answer:?}") };
        assert_eq!(answer.sequence(), own(1));
        (gateway, result)
    }

    async fn hear(&mut self) -> SgipPdu {
        self.hear_or_end().await.expect("the link ended")
    }

    async fn hear_or_end(&mut self) -> Option<SgipPdu> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(SgipPdu::decode(frame).unwrap());
            }
            if self.stream.read_buf(self.framer.buffer()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn hear_submit(&mut self) -> Sequence {
        let pdu = self.hear().await;
        let Said::Submit(submit) = pdu.body() else { panic!("{pdu:?}") };
        assert_eq!((submit.user_numbers.len(), submit.report_flag), (1, REPORT_ALWAYS));
        pdu.sequence()
    }

    async fn say(&mut self, pdu: &SgipPdu) {
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets);
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn take(&mut self, sequence: Sequence) {
        self.say(&SgipPdu::submit_taken(sequence, &Simulated)).await;
    }
}

fn own(counter: u32) -> Sequence {
    Sequence { node: 10_001, time: 1_127_000_000, counter }
}

fn sgip(change: impl FnOnce(&mut Sgip)) -> impl FnOnce(&mut Options) {
    move |options| {
        options.source = Some(SenderId::parse("10690001").unwrap());
        let mut account = Sgip { area_code: "010".to_owned(), corp_id: "12345".to_owned(), ..Sgip::default() };
        account.callback = Callback {
            listen: "127.0.0.1:0".parse().unwrap(),
            login: "smg".to_owned(),
            password: Secret::new("sesame"),
            from: vec!["127.0.0.0/8".parse().unwrap()],
            ..account.callback
        };
        change(&mut account);
        options.protocol = Protocol::Sgip(account);
    }
}

/// A listener for the gateway of a bench's carrier.
struct Door {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Door {
    fn of(bench: &Bench) -> Self {
        let carriers = HashMap::from([(bench.carrier.name().clone(), bench.carrier.clone())]);
        let carriers: Carriers = Arc::new(ArcSwap::from_pointee(carriers));
        let configured = "127.0.0.1:0".parse().unwrap();
        let listener = CallbackListener::bind(configured, carriers, SystemClock::shared(), &bench.metrics).unwrap();
        let (address, (stop, stopped)) = (listener.local_addr(), watch::channel(false));
        tokio::spawn(listener.run(stopped));
        Self { address, _stop: stop }
    }
}

fn refused(bench: &Bench, reason: &str) -> bool {
    bench.metric(&format!(r#"postrider_carrier_callbacks_refused_total{{reason="{reason}"}} 1"#))
}

#[tokio::test]
async fn what_is_submitted_here_is_reported_there_once_it_is_durable() {
    let sink = Sink::new(0, None);
    let bench = Bench::with(sink.clone(), sgip(|_| {})).await;
    let (mut gateway, door) = (Gateway::bound(&bench.listener).await, Door::of(&bench));
    bench.carrier.permit().await;
    let carrying = bench.carry(consignment("hello"));
    let sequence = gateway.hear_submit().await;
    gateway.take(sequence).await;
    let outcome = carrying.await.unwrap();
    assert_eq!(parts(&outcome), [sent(&sequence.to_string())]);

    let (mut caller, result) = Gateway::calling(door.address, "smg", "sesame").await;
    assert_eq!(result, SgipResult::OK);
    let report = Report { submit_sequence: sequence, ..Report::default() };
    caller.say(&SgipPdu::report(own(2), report)).await;
    let reply = Deliver { content: "TD".into(), ..Deliver::default() };
    caller.say(&SgipPdu::deliver(own(3), reply)).await;
    while sink.begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    // Nothing is answered while it is not durable: the first thing heard is the answer to something asked later.
    caller.say(&SgipPdu::bind(own(4), Bind::default())).await;
    assert_eq!(caller.hear().await, SgipPdu::bind_resp(own(4), SgipResult::BOUND_ALREADY));
    sink.permits.add_permits(2);
    let mut answers = [caller.hear().await, caller.hear().await];
    answers.sort_by_key(|answer| answer.sequence());
    assert_eq!(answers, [SgipPdu::report_resp(own(2), SgipResult::OK), SgipPdu::deliver_resp(own(3), SgipResult::OK)]);
    assert_eq!(&*sink.kept.lock()[0].carrier_message_id, sequence.to_string());
    assert_eq!(&sink.heard.lock()[0].octets[..], b"TD");
    // Half a report is refused, and the link goes on.
    let half = BytesMut::from(&[0u8, 0, 0, 21, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9][..]);
    caller.stream.write_all(&half).await.unwrap();
    assert_eq!(*caller.hear().await.body(), Said::ReportResp(SgipResult::BAD_PARAMETER));

    let stopping = tokio::spawn({
        let carrier = bench.carrier.clone();
        async move { carrier.shutdown(Duration::from_secs(5)).await }
    });
    for side in [&mut gateway, &mut caller] {
        let goodbye = side.hear().await;
        assert_eq!(goodbye.command_id(), commands::UNBIND);
        side.say(&SgipPdu::unbind_resp(goodbye.sequence())).await;
        assert!(side.hear_or_end().await.is_none());
    }
    stopping.await.unwrap();
    // A carrier that is stopped lets nobody in.
    assert_eq!(Gateway::calling(door.address, "smg", "sesame").await.1, SgipResult::TOO_MANY_CONNECTIONS);
}

#[tokio::test]
async fn a_receipt_that_cannot_be_kept_is_put_off() {
    let bench = Bench::with(Sink::new(1_000, Some(InboundError::Busy)), sgip(|_| {})).await;
    let door = Door::of(&bench);
    let (mut caller, _) = Gateway::calling(door.address, "smg", "sesame").await;
    caller.say(&SgipPdu::report(own(2), Report::default())).await;
    assert_eq!(caller.hear().await, SgipPdu::report_resp(own(2), SgipResult::BUSY));
}

#[tokio::test]
async fn only_the_carriers_gateway_is_let_in() {
    let bench = Bench::new(sgip(|account| account.callback.connections_max = 1)).await;
    let door = Door::of(&bench);
    for (name, password) in [("smg", "wrong"), ("else", "sesame"), ("us", ""), ("smg", "")] {
        let (mut caller, result) = Gateway::calling(door.address, name, password).await;
        assert_eq!(result, SgipResult::BAD_LOGIN, "{name}");
        assert!(caller.hear_or_end().await.is_none(), "and closed");
    }
    let (caller, result) = Gateway::calling(door.address, "smg", "sesame").await;
    assert_eq!(result, SgipResult::OK);
    assert!(bench.metric(r#"postrider_carrier_callbacks{carrier="carrier"} 1"#));
    assert_eq!(Gateway::calling(door.address, "smg", "sesame").await.1, SgipResult::TOO_MANY_CONNECTIONS);
    while !refused(&bench, "full") {
        tokio::task::yield_now().await;
    }
    drop(caller);
    while Gateway::calling(door.address, "smg", "sesame").await.1 != SgipResult::OK {}
}

#[tokio::test]
async fn who_comes_from_elsewhere_says_nothing_or_too_much_is_turned_away() {
    let bench = Bench::new(sgip(|account| account.callback.from = vec!["10.0.0.0/8".parse().unwrap()])).await;
    let door = Door::of(&bench);
    let mut stranger = Gateway::new(TcpStream::connect(door.address).await.unwrap());
    assert!(stranger.hear_or_end().await.is_none());
    assert!(refused(&bench, "address"));

    let bench = Bench::new(sgip(|account| {
        (account.callback.connections_max, account.callback.bind_timeout) = (1, Duration::from_millis(200));
    }))
    .await;
    let door = Door::of(&bench);
    let mut mute = Gateway::new(TcpStream::connect(door.address).await.unwrap());
    let mut second = Gateway::new(TcpStream::connect(door.address).await.unwrap());
    assert!(second.hear_or_end().await.is_none(), "as many wait as may");
    assert!(refused(&bench, "full"));
    assert!(mute.hear_or_end().await.is_none());
    assert!(refused(&bench, "silent"));
    // No memory is set aside for a PDU that cannot be.
    let mut huge = Gateway::new(TcpStream::connect(door.address).await.unwrap());
    huge.stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(huge.hear_or_end().await.is_none());
    assert!(refused(&bench, "login"));
}

#[tokio::test]
async fn a_link_without_work_is_ended_and_made_again_for_the_next_text() {
    let bench = Bench::new(sgip(|account| account.idle = Duration::from_millis(100))).await;
    for text in ["first", "second"] {
        let mut gateway = if text == "first" {
            Gateway::bound(&bench.listener).await
        } else {
            // Nobody comes until there is a text.
            let carrying = bench.carry(consignment(text));
            let mut gateway = Gateway::bound(&bench.listener).await;
            let sequence = gateway.hear_submit().await;
            gateway.take(sequence).await;
            assert_eq!(parts(&carrying.await.unwrap()), [sent(&sequence.to_string())]);
            gateway
        };
        let goodbye = gateway.hear().await;
        assert_eq!(goodbye.command_id(), commands::UNBIND);
        gateway.say(&SgipPdu::unbind_resp(goodbye.sequence())).await;
        assert!(gateway.hear_or_end().await.is_none());
        assert!(bench.carrier.is_up(), "it rests");
    }
}

#[tokio::test]
async fn a_gateway_that_brings_nothing_is_parted_with() {
    let bench = Bench::new(sgip(|account| account.callback.idle = Duration::from_millis(100))).await;
    let door = Door::of(&bench);
    let (mut caller, _) = Gateway::calling(door.address, "smg", "sesame").await;
    let goodbye = caller.hear().await;
    assert_eq!((goodbye.command_id(), goodbye.sequence().node), (commands::UNBIND, 3_010_012_345));
    caller.say(&SgipPdu::unbind_resp(goodbye.sequence())).await;
    assert!(caller.hear_or_end().await.is_none());
}
