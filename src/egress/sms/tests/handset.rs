//! Messages from handsets: answered once they are durable.

use super::*;
use crate::sms::Alphabet;

#[tokio::test]
async fn a_handsets_message_is_answered_once_it_is_durable_and_not_before() {
    let sink = Sink::new(0, None);
    let bench = Bench::with(Arc::clone(&sink), |_| {}).await;
    let mut centre = Centre::bound(&bench.listener).await;
    let address = |ton, text| crate::wire::smpp::Address { ton, npi: 1, address: COctets::new("a", text).unwrap() };
    let message = ShortMessage {
        source: address(1, "8613800138000"),
        destination: address(0, "10690001"),
        data_coding: 8,
        short_message: vec![0x90, 0x00, 0x8B, 0xA2].into(),
        ..ShortMessage::default()
    };
    centre.say(&Pdu::deliver_sm(5, message)).await;
    while sink.begun.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    centre.nothing_more_is_said().await;
    assert!(sink.heard.lock().is_empty());
    sink.permits.add_permits(1);
    assert_eq!(centre.hear_delivery_answer().await, (5, 0));
    let heard = sink.heard.lock().remove(0);
    assert_eq!((&*heard.carrier, &*heard.from, &*heard.to), ("carrier", "+8613800138000", "10690001"));
    assert_eq!((heard.alphabet, heard.alphabet.words(&heard.octets).as_deref()), (Alphabet::Ucs2, Ok("退订")));
    assert_eq!(heard.number(), Number::parse("+8613800138000").ok());
}
