//! What happens at each limit, and what a reload changes.

use super::*;

#[tokio::test]
async fn connections_are_limited_in_all_and_per_peer() {
    let relay = Relay::start(strangers(), Options { connections_per_peer_max: 1, ..options() }).await;
    let first = relay.greeted().await;
    let mut second = relay.connect().await;
    second.expect("421 relay.example Service not available: too many connections from your address").await;
    second.expect_end().await;
    assert_eq!(relay.shared.metrics.smtp_connections_taken.with_label_values(&["refused"]).get(), 1);
    drop(first);
    while relay.shared.metrics.smtp_connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    relay.greeted().await;

    let relay =
        Relay::start(trusting(), Options { connections_max: 1, connections_per_peer_max: 0, ..options() }).await;
    let _trusted = relay.greeted().await;
    relay.connect().await.expect("421 relay.example Service not available: too many connections\r\n").await;
}

#[tokio::test]
async fn messages_and_recipients_are_limited() {
    let relay = Relay::start(trusting(), Options { messages_max: 2, recipients_max: 1, ..options() }).await;
    let mut talk = relay.greeted().await;
    talk.mail("From: a@shop.example\r\n\r\n", "250 ").await;
    talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
    talk.ask("RCPT TO:<c@d.example>", "250 ").await;
    talk.ask("RCPT TO:<e@d.example>", "452 4.5.3 ").await;
    talk.ask("RSET", "250 ").await;
    talk.mail("From: a@shop.example\r\n\r\n", "250 ").await;
    talk.ask("MAIL FROM:<a@shop.example>", "421 4.7.0 ").await;
    talk.expect_end().await;
}

#[tokio::test]
async fn message_bytes_are_limited_for_one_and_for_all() {
    let small = Options { message_bytes_max: 50_000, receiving_bytes_max: 60_000, ..options() };
    let relay = Relay::start(trusting(), small).await;
    let mut talk = relay.greeted().await;
    talk.ask("MAIL FROM:<a@shop.example> SIZE=50001", "552 5.3.4 ").await;
    talk.mail(&"x\r\n".repeat(20_000), "552 5.3.4 message larger than 50000 bytes").await;
    assert_eq!(relay.refused("size"), 2);

    // Two messages half-way, each within its limit, together beyond the sum: the second one has to go.
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut talk = relay.greeted().await;
        talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
        talk.ask("RCPT TO:<c@d.example>", "250 ").await;
        talk.ask("DATA", "354 ").await;
        talk.send("From: a@shop.example\r\n".repeat(2_000).as_bytes()).await;
        while relay.shared.connections.receiving_bytes() < 40_000 {
            tokio::task::yield_now().await;
        }
        begun.push(talk);
    }
    begun[1].expect("421 4.3.1 ").await;
    begun[0].ask("\r\n.", "250 2.0.0 ").await;
    drop(begun);
    while relay.shared.metrics.smtp_connections.get() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(relay.shared.connections.receiving_bytes(), 0);
}

#[tokio::test]
async fn a_silent_peer_and_one_that_sends_octet_by_octet_are_shown_out() {
    let relay = Relay::start(trusting(), Options { command_timeout: Duration::from_millis(200), ..options() }).await;
    let mut silent = relay.greeted().await;
    let mut slow = relay.greeted().await;
    let mut sent = 0;
    // Octets go on coming, faster than the timeout; the command never ends.
    while tokio::time::timeout(Duration::from_millis(20), slow.stream.fill_buf()).await.is_err() {
        sent += 1;
        assert!(sent < 500, "still connected");
        slow.send(b"N").await;
    }
    slow.expect("421 4.4.2 ").await;
    silent.expect("421 4.4.2 ").await;
    silent.expect_end().await;
}

#[tokio::test]
async fn message_data_that_stops_or_trickles_is_cut_off() {
    let idle = Options { data_idle_timeout: Duration::from_millis(100), ..options() };
    let relay = Relay::start(trusting(), idle).await;
    let begin = async |relay: &Relay| {
        let mut talk = relay.greeted().await;
        talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
        talk.ask("RCPT TO:<c@d.example>", "250 ").await;
        talk.ask("DATA", "354 ").await;
        talk
    };
    begin(&relay).await.expect("421 4.4.2 Timeout").await;

    let window = Duration::from_millis(200);
    let relay = Relay::start(trusting(), Options { data_window: window, data_rate_min: 1_000, ..options() }).await;
    let mut talk = begin(&relay).await;
    while tokio::time::timeout(Duration::from_millis(20), talk.stream.fill_buf()).await.is_err() {
        talk.send(b"x").await;
    }
    talk.expect("421 4.4.2 Message data comes too slowly").await;
    assert!(relay.taken().is_empty());
}

#[tokio::test]
async fn a_reload_is_felt() {
    let relay = Relay::start(Listener { plaintext_auth: true, ..strangers() }, options()).await;
    let mut talk = relay.greeted().await;
    talk.ask("AUTH PLAIN AHNob3AAcmlnaHQ=", "235 ").await;
    talk.ask("MAIL FROM:<a@shop.example>", "250 ").await;
    talk.ask("RSET", "250 ").await;
    relay.shared.clients.store(Arc::default());
    relay.shared.options.store(Arc::new(Options { message_bytes_max: 77, ..options() }));
    relay.shared.tls.store(None);
    talk.ask("MAIL FROM:<a@shop.example>", "530 5.7.0 ").await;
    let mut talk = relay.connect().await;
    talk.expect("220 ").await;
    let offer = talk.ask("EHLO t", "250 ").await;
    assert!(offer.contains("250-SIZE 77\r\n") && !offer.contains("STARTTLS"), "{offer}");
}
