//! Stopping.

use super::*;

#[tokio::test]
async fn idle_sessions_are_told_and_a_message_in_hand_gets_its_reply_first() {
    let relay = Relay::start(trusting(), options()).await;
    let mut idle = relay.greeted().await;
    let mut busy = relay.greeted().await;
    let mut receiving = relay.greeted().await;
    for talk in [&mut busy, &mut receiving] {
        talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
        talk.ask("RCPT TO:<c@d.example>", "250 ").await;
        talk.ask("DATA", "354 ").await;
    }
    // The queue is at it: it has the message and has not said yes.
    let fake = relay.shared.accept.clone();
    let all = fake.gate.acquire_many(1_000).await.unwrap();
    busy.send(b"From: a@shop.example\r\n\r\n.\r\n").await;
    while fake.taken.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    relay.stop.send(true).unwrap();
    idle.expect("421 4.3.2 ").await;
    idle.expect_end().await;
    assert!(!relay.running.is_finished(), "there are messages in hand");
    drop(all);
    busy.expect("250 2.0.0 ").await;
    busy.expect("421 4.3.2 ").await;
    receiving.send(b"From: a@shop.example\r\n\r\n.\r\n").await;
    receiving.expect("250 2.0.0 ").await;
    receiving.expect("421 4.3.2 ").await;
    drop((idle, busy, receiving));
    let address = relay.address;
    relay.running.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_deadline() {
    let relay = Relay::start(trusting(), Options { drain_timeout: Duration::from_millis(100), ..options() }).await;
    let mut talk = relay.greeted().await;
    talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
    talk.ask("RCPT TO:<c@d.example>", "250 ").await;
    talk.ask("DATA", "354 ").await;
    let metrics = relay.shared.metrics.clone();
    relay.stopped().await;
    assert_eq!(metrics.smtp_connections.get(), 0);
    talk.expect_end().await;
}

#[tokio::test]
async fn a_peer_that_never_pauses_is_stopped_between_messages() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    relay.shared.accept.gate.forget_permits(1_000);
    talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
    talk.ask("RCPT TO:<c@d.example>", "250 ").await;
    talk.ask("DATA", "354 ").await;
    talk.send(b"From: a@shop.example\r\n\r\n.\r\nMAIL FROM:<a@shop.example>\r\nNOOP\r\n").await;
    while relay.taken().is_empty() {
        tokio::task::yield_now().await;
    }
    relay.stop.send(true).unwrap();
    relay.shared.accept.gate.add_permits(1);
    talk.expect("250 2.0.0 ").await;
    talk.expect("421 4.3.2 ").await;
    talk.expect_end().await;
}
