//! Peers that want what they may not have.

use super::*;

#[tokio::test]
async fn a_stranger_relays_nothing() {
    for auth in [AuthMode::Optional, AuthMode::None] {
        let relay = Relay::start(Listener { auth, ..strangers() }, options()).await;
        let mut talk = relay.greeted().await;
        talk.ask("MAIL FROM:<a@shop.example>", "550 5.7.1 Relaying denied").await;
        talk.ask("MAIL FROM:<>", "550 5.7.1 ").await;
        talk.ask("RCPT TO:<c@d.example>", "503 5.5.1 ").await;
        assert_eq!(relay.refused("relay"), 2);
    }
    let relay = Relay::start(Listener { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..trusting() }, options()).await;
    relay.greeted().await.ask("MAIL FROM:<a@shop.example>", "530 5.7.0 ").await;
}

#[tokio::test]
async fn a_client_sends_as_its_own_domains_only() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let reply = talk.ask("MAIL FROM:<a@bank.example>", "550 5.7.1 ").await;
    assert!(reply.contains("(sender-not-allowed)"), "{reply}");
    talk.mail(
        "From: a@bank.example\r\n\r\n",
        "550 5.7.1 client shop may not send as bank.example (sender-not-allowed)",
    )
    .await;
    talk.ask("MAIL FROM:<>", "250 2.1.0 ").await;
    talk.ask("RCPT TO:<c@d.example>", "250 ").await;
    talk.ask("DATA", "354 ").await;
    talk.ask("From: a@bank.example\r\n\r\n.", "550 5.7.1 ").await;
    assert!(relay.taken().is_empty());
    assert_eq!(relay.refused("policy"), 3);
}

#[tokio::test]
async fn a_client_of_the_other_channel_sends_no_mail() {
    let relay = Relay::start(Listener { trusted_client: Some("texts".into()), ..trusting() }, options()).await;
    let mut talk = relay.greeted().await;
    talk.ask("MAIL FROM:<a@shop.example>", "550 5.7.1 client texts may not send by email (channel-not-allowed)").await;
}

#[tokio::test]
async fn guessing_passwords_ends_the_connection_and_then_holds_up_the_network() {
    let listener = Listener { plaintext_auth: true, ..strangers() };
    let relay = Relay::start(listener, options()).await;
    let wrong = "AUTH PLAIN AHNob3AAd3Jvbmc=";
    let mut talk = relay.greeted().await;
    for _ in 0..3 {
        talk.ask(wrong, "535 5.7.8 ").await;
    }
    talk.expect("421 4.7.0 ").await;
    talk.expect_end().await;
    let mut talk = relay.greeted().await;
    talk.ask(wrong, "535 5.7.8 ").await;
    talk.ask("AUTH PLAIN AHNob3AAcmlnaHQ=", "454 4.7.0 ").await;
    talk.ask("MAIL FROM:<a@shop.example>", "530 5.7.0 ").await;
    assert_eq!(relay.shared.metrics.credentials_checked.with_label_values(&["limited"]).get(), 1);
}

#[tokio::test]
async fn commands_injected_before_tls_are_not_heard_inside_it() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    // One write, so one segment: both lines reach the relay's buffer together (CVE-2011-0411).
    talk.send(b"STARTTLS\r\nEHLO injected.example\r\n").await;
    talk.expect("220 2.0.0 ").await;
    let mut talk = relay.secure(talk).await;
    talk.ask("MAIL FROM:<a@shop.example>", "503 5.5.1 Bad sequence of commands: EHLO first").await;
}

#[tokio::test]
async fn a_smuggled_message_stays_part_of_the_first() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let smuggled =
        "From: a@shop.example\r\n\r\nx\n.\r\nMAIL FROM:<boss@shop.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    talk.mail(smuggled, "554 5.6.0 bare LF in message data at byte 25").await;
    talk.ask("NOOP", "250 ").await;
    assert!(relay.taken().is_empty());
    assert_eq!(relay.refused("content"), 1);
}

#[tokio::test]
async fn listeners_that_would_be_unsafe_are_not_bound() {
    let (shared, _) = shared(options());
    let open = Listener { address: "0.0.0.0:0".parse().unwrap(), plaintext_auth: true, ..strangers() };
    assert_eq!(SmtpServer::bind(open, shared.clone()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    shared.tls.store(None);
    let implicit = Listener { tls: TlsMode::Implicit, ..strangers() };
    assert_eq!(SmtpServer::bind(implicit, shared.clone()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(SmtpServer::bind(strangers(), shared).is_ok());
}
