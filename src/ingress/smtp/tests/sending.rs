//! Mail that is taken, and what is made of it.

use super::*;
use crate::model::{Class, Content};

fn content(submission: &Submission) -> String {
    match &submission.content {
        Content::Mail(data) => String::from_utf8(data.bytes().to_vec()).unwrap(),
        Content::Text(_) => panic!("a text"),
    }
}

#[tokio::test]
async fn a_trusted_peer_acts_as_its_client() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let reply = talk.mail("From: a@shop.example\r\nX-Postrider-Class: otp\r\n\r\n..dot\r\n", "250 2.0.0 ").await;
    let taken = relay.taken();
    let envelope = &taken[0].envelope;
    assert_eq!(reply, format!("250 2.0.0 Ok: queued as {}\r\n", envelope.id));
    assert_eq!((&*envelope.client, envelope.class), ("shop", Class::Otp));
    assert_eq!(envelope.mail().unwrap().reverse_path.to_string(), "a@shop.example");
    assert_eq!(envelope.recipients.iter().map(|r| r.address.to_string()).collect::<Vec<_>>(), ["c@d.example"]);
    let content = content(&taken[0]);
    assert!(content.ends_with("\r\n\r\n.dot\r\n"), "{content}");
    let trace = format!(
        "Received: from Some(\"client.example\") (127.0.0.1) by relay.example with ESMTP id {} tls None for Some(c@d.example)\r\n",
        envelope.id
    );
    assert!(content.starts_with(&trace), "{content}");
    talk.ask("QUIT", "221 ").await;
    talk.expect_end().await;
    relay.stopped().await;
}

#[tokio::test]
async fn a_client_authenticates_inside_tls() {
    let relay = Relay::start(strangers(), options()).await;
    let mut clear = relay.connect().await;
    clear.expect("220 ").await;
    let offer = clear.ask("EHLO client.example", "250 ").await;
    assert!(offer.contains("250-STARTTLS\r\n") && !offer.contains("AUTH"), "{offer}");
    clear.ask("AUTH PLAIN AHNob3AAcmlnaHQ=", "538 5.7.11 ").await;
    clear.ask("MAIL FROM:<a@shop.example>", "530 5.7.0 ").await;

    let (mut talk, offer) = relay.secured().await;
    assert!(offer.contains("250-AUTH PLAIN LOGIN\r\n") && !offer.contains("STARTTLS"), "{offer}");
    talk.ask("MAIL FROM:<a@shop.example>", "530 5.7.0 ").await;
    talk.ask("AUTH PLAIN AHNob3AAcmlnaHQ=", "235 2.7.0 ").await;
    talk.mail("From: a@shop.example\r\n\r\n", "250 2.0.0 ").await;
    let content = content(&relay.taken()[0]);
    assert!(content.contains(" with ESMTPSA id ") && content.contains("tls Some(\"TLSv1.3 TLS13_"), "{content}");
    assert_eq!(relay.shared.metrics.credentials_checked.with_label_values(&["ok"]).get(), 1);
}

#[tokio::test]
async fn implicit_tls_begins_at_once() {
    let relay = Relay::start(Listener { tls: TlsMode::Implicit, ..trusting() }, options()).await;
    let mut talk = relay.secure(relay.connect().await).await;
    talk.expect("220 ").await;
    let offer = talk.ask("EHLO client.example", "250 ").await;
    assert!(!offer.contains("STARTTLS"), "{offer}");
    talk.mail("From: a@shop.example\r\n\r\n", "250 2.0.0 ").await;
    assert!(content(&relay.taken()[0]).contains(" with ESMTPS id "));
}

#[tokio::test]
async fn a_pipelined_group_with_chunks_is_one_write() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let message = "From: a@shop.example\r\n\r\nbody\r\n";
    let group = format!(
        "MAIL FROM:<a@shop.example> SMTPUTF8\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\nBDAT {} LAST\r\n{message}QUIT\r\n",
        message.len()
    );
    talk.send(group.as_bytes()).await;
    for start in ["250 2.1.0 ", "250 2.1.5 ", "250 2.1.5 ", "250 2.0.0 Ok: queued as ", "221 2.0.0 "] {
        talk.expect(start).await;
    }
    let taken = relay.taken();
    assert_eq!(taken[0].envelope.recipients.len(), 2);
    assert!(!taken[0].envelope.mail().unwrap().smtputf8, "asked for and not needed");
    let content = content(&taken[0]);
    assert!(content.contains(" with UTF8SMTP id ") && content.contains(" for None\r\n"), "{content}");
}

#[tokio::test]
async fn a_large_mail_arrives_whole() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let body = "0123456789abcdef\r\n".repeat(30_000);
    talk.mail(&format!("From: a@shop.example\r\n\r\n{body}"), "250 2.0.0 ").await;
    assert!(content(&relay.taken()[0]).ends_with(&format!("\r\n\r\n{body}")));
}

#[tokio::test]
async fn a_key_marks_what_was_submitted() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    for body in ["one", "one", "two"] {
        let message = format!("From: a@shop.example\r\nX-Postrider-Idempotency-Key: k\r\n\r\n{body}\r\n");
        talk.mail(&message, "250 ").await;
    }
    let taken = relay.taken();
    let marks: Vec<_> = taken.iter().map(|s| s.envelope.idempotency.as_ref().unwrap().fingerprint).collect();
    assert_eq!(marks[0], marks[1]);
    assert_ne!(marks[1], marks[2]);
}

#[tokio::test]
async fn what_the_queue_and_the_header_say_no_to_has_its_reply() {
    let relay = Relay::start(trusting(), options()).await;
    let mut talk = relay.greeted().await;
    let message = "From: a@shop.example\r\n\r\n";
    for (no, reply) in [
        (
            AcceptError::NoSpace { retry_after: Duration::from_secs(7) },
            "452 4.3.1 Insufficient system storage; try again in 7 s\r\n",
        ),
        (AcceptError::Full { retry_after: Duration::from_secs(7) }, "452 4.3.1 Queue full; try again in 7 s\r\n"),
        (AcceptError::Unavailable, "451 4.3.0 "),
        (AcceptError::KeyReused, "550 5.6.0 "),
        (AcceptError::NoRoute { address: "c@d.example".to_owned() }, "550 5.1.2 No route to c@d.example\r\n"),
    ] {
        *relay.shared.accept.no.lock() = Some(no);
        talk.mail(message, reply).await;
    }
    talk.mail("Bad: header\r\n\r\n", "554 5.6.0 Bad header section: there is a Bad field\r\n").await;
    let hops = submit::Refused::from(PrepareError::TooManyHops { hops: 101 });
    assert_eq!((hops.reply.code(), hops.reply.status().to_string().as_str()), (554, "5.4.6"));
    for reason in ["full", "unavailable", "key-reused", "no-route", "header"] {
        assert_eq!(relay.refused(reason), 1, "{reason}");
    }
}
