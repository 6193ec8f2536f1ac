//! What an SMPP account may want otherwise: its version, how full its carrier is, how long texts travel, who sends and who receives.

use super::*;
use crate::wire::smpp::{Version, tlv};

fn account(change: impl FnOnce(&mut Smpp)) -> Protocol {
    let mut account = Smpp::default();
    change(&mut account);
    Protocol::Smpp(account)
}

/// A centre that is bound to by 5.0, and says the same.
async fn of_version_5(change: impl FnOnce(&mut Options)) -> (Bench, Centre) {
    let bench = Bench::new(|o| {
        o.protocol = account(|a| a.version = Version::V50);
        change(o);
    })
    .await;
    let mut centre = Centre::accept(&bench.listener).await;
    let bind = centre.hear().await;
    let answer = Pdu::bind_resp(bind.command_id(), bind.sequence(), CommandStatus::OK, COctets::default());
    assert!(matches!(bind.body(), Body::Bind(bind) if bind.interface_version == 0x50), "{bind:?}");
    centre.say(&answer.with_version(Version::V50)).await;
    bench.carrier.permit().await;
    (bench, centre)
}

#[tokio::test]
async fn a_carrier_that_says_it_is_nearly_full_is_sent_less() {
    let (bench, mut centre) = of_version_5(|o| o.rate = Some(1_000.0)).await;
    for (percent, slowed) in [(50, false), (85, false), (95, true)] {
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = centre.hear_submit().await;
        let taken = Pdu::submit_sm_taken(sequence, &Simulated, COctets::new("id", "a").unwrap());
        centre.say(&taken.with_congestion_state(percent)).await;
        assert!(matches!(carried.await.unwrap().outcome, Outcome::Relayed(_)), "{percent}");
        assert_eq!(bench.carrier.is_slowed(), slowed, "{percent}");
    }
}

#[tokio::test]
async fn a_refusal_may_say_how_full_the_carrier_is() {
    let (bench, mut centre) = of_version_5(|o| o.rate = Some(1_000.0)).await;
    let carried = bench.carry(consignment("hello"));
    let (sequence, _) = centre.hear_submit().await;
    centre.say(&Pdu::submit_sm_refused(sequence, CommandStatus(0x102)).with_congestion_state(100)).await;
    let Outcome::Delayed(failure) = carried.await.unwrap().outcome else { panic!() };
    assert_eq!(failure.reply.unwrap().text, "ESME_RSERTYPUNAVAIL (0x102)");
    assert!(bench.carrier.is_slowed());
}

#[tokio::test]
async fn places_of_parts_may_stand_beside_them() {
    let (bench, mut centre) = Bench::bound(|o| o.protocol = account(|a| a.long_texts = LongTexts::Sar)).await;
    let carried = bench.carry(three_parts());
    for number in 1..=3 {
        let (sequence, message) = centre.hear_submit().await;
        let told = |tag| message.tlv(tag).unwrap();
        assert_eq!((told(tlv::SAR_MSG_REF_NUM), told(tlv::SAR_TOTAL_SEGMENTS)), (&[0, 9][..], &[3][..]));
        assert_eq!(told(tlv::SAR_SEGMENT_SEQNUM), [number]);
        let octets = if number == 3 { 2 * (180 - 2 * 67) } else { 2 * 67 };
        assert_eq!((message.esm_class, message.short_message.len()), (0, octets));
        centre.take(sequence, &format!("id{number}")).await;
    }
    assert_eq!(parts(&carried.await.unwrap()), [sent("id1"), sent("id2"), sent("id3")]);
    // A short one has no place to tell.
    let carried = bench.carry(consignment("hello"));
    let (sequence, message) = centre.hear_submit().await;
    assert!(message.tlvs.is_empty());
    centre.take(sequence, "id4").await;
    carried.await.unwrap();
}

#[tokio::test]
async fn a_long_text_may_travel_whole_and_takes_the_turns_of_its_parts() {
    const RATE: u32 = 10;
    let change = |o: &mut Options| {
        o.rate = Some(f64::from(RATE));
        o.protocol = account(|a| a.long_texts = LongTexts::Payload);
    };
    let (bench, mut centre) = Bench::bound(change).await;
    let text = SmsText::new(&"好".repeat(180)).unwrap();
    assert_eq!((sms::plan(&text).count, bench.carrier.planned(&text, 0).parts.len()), (3, 1));
    let mut long = three_parts();
    long.progress.as_mut().unwrap().parts = vec![PartState::Waiting];
    let clock = SystemClock::new();
    let started = clock.mono();
    let carried = bench.carry(long);
    let (sequence, message) = centre.hear_submit().await;
    // Two more turns after the first, less what may be made up for.
    let took = clock.mono().since(started);
    assert!(took >= Duration::from_millis(150), "{took:?}");
    assert!(message.short_message.is_empty() && message.esm_class == 0);
    assert_eq!(sms::decode(message.data_coding, message.octets()), "好".repeat(180));
    centre.take(sequence, "whole").await;
    assert_eq!(parts(&carried.await.unwrap()), [sent("whole")]);
}

#[tokio::test]
async fn receivers_bring_and_transmitters_take() {
    let logins = Logins::Split { receivers: 2 };
    let sink = Sink::new(10, None);
    let set = |o: &mut Options| (o.binds, o.protocol) = (3, account(|a| a.logins = logins));
    let bench = Bench::with(Arc::clone(&sink), set).await;
    let (mut receiving, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut centre = Centre::accept(&bench.listener).await;
        let bind = centre.hear().await;
        assert!(!bench.carrier.is_up() || !sending.is_empty(), "only one that sends makes it up");
        let answer = Pdu::bind_resp(bind.command_id(), bind.sequence(), CommandStatus::OK, COctets::default());
        centre.say(&answer).await;
        match bind.command_id() {
            command::BIND_RECEIVER => receiving.push(centre),
            command::BIND_TRANSMITTER => sending.push(centre),
            other => panic!("{other:#x}"),
        }
    }
    assert_eq!((receiving.len(), sending.len()), (2, 1));
    bench.carrier.permit().await;
    for (number, centre) in receiving.iter_mut().enumerate() {
        let carried = bench.carry(consignment("hello"));
        let (sequence, _) = sending[0].hear_submit().await;
        sending[0].take(sequence, &format!("{number}")).await;
        assert_eq!(parts(&carried.await.unwrap()), [sent(&format!("{number}"))]);
        centre.bring(9, esm_class::RECEIPT, &format!("id:{number} stat:DELIVRD")).await;
        assert_eq!(centre.hear_delivery_answer().await, (9, 0));
    }
    assert_eq!(sink.kept.lock().len(), 2);
    drop(sending);
    while bench.carrier.is_up() {
        tokio::task::yield_now().await;
    }
    receiving[1].nothing_more_is_said().await;
}
