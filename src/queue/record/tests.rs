//! What is written reads back, and rubbish is refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::Kind;
use crate::model::{
    Address, BodyKind, CARRIERS_MAX, Class, EnhancedStatus, MailOrigin, Mailbox, Notify, Number, Origin,
    OriginalRecipient, PartState, Peer, Recipient, Reply, Ret, ReversePath, Rule, SenderId, TextOrigin, TextProgress,
    TlsWish,
};
use crate::queue::life::{Attempt, PartReceipt, State, Tally};
use crate::storage::Position;

fn envelope(origin: Origin, recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        id: MessageId::from_bytes([7; 16]),
        client: "shop".into(),
        class: Class::Marketing,
        campaign: Some("autumn".into()),
        tags: vec!["a".into(), "b".into()],
        client_ref: None,
        received_at: Timestamp(1),
        send_at: Some(Timestamp(2)),
        expires_at: Some(Timestamp(3)),
        idempotency: Some(Idempotency { key: "k".into(), fingerprint: [9; 32] }),
        origin,
        recipients,
    }
}

fn mail() -> Envelope {
    let to = |text: &str| Recipient {
        address: Address::Mailbox(Mailbox::parse(text).unwrap()),
        notify: Some(Notify { success: true, failure: false, delay: true }),
        original: Some(OriginalRecipient { kind: "rfc822".into(), xtext: "a+40b".into() }),
    };
    envelope(
        Origin::Mail(MailOrigin {
            reverse_path: ReversePath::Mailbox(Mailbox::parse("\"x y\"@example.com").unwrap()),
            body: BodyKind::EightBit,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("e".into()),
            tls: TlsWish::Required,
            body_hash: [3; 32],
            header_bytes: 77,
        }),
        vec![to("a@b"), to("\"+8613800138000\"@b"), to("+861380013800@example.com")],
    )
}

fn text() -> Envelope {
    let to = Recipient::new(Address::Number(Number::parse("+8613800138000").unwrap()));
    envelope(Origin::Text(TextOrigin { from: Some(SenderId::Short("10690001".into())) }), vec![to])
}

fn attempt(stage: Option<Stage>, outcome: Kind) -> Attempt {
    Attempt {
        time: Timestamp(5),
        outcome,
        stage,
        scope: stage.map(|s| SCOPES[STAGES.iter().position(|known| *known == s).unwrap() % SCOPES.len()]),
        status: EnhancedStatus::parse("4.7.1"),
        reply: Some(Reply { code: 550, enhanced: EnhancedStatus::parse("5.1.1"), text: "no\nsuch user".into() }),
        cause: Some("why".into()),
        throttled: true,
        rule: Some(Rule { id: "gmail-rate-ip".into(), class: "rate-ip".into() }),
        peer: Some(Peer {
            host: "mx".into(),
            address: "[::1]:25".parse().ok(),
            tls: Some("TLSv1.3".into()),
            source: Some("mta1".into()),
            tls_policy: Some("required (default)".into()),
        }),
        duration: Duration::from_millis(12),
    }
}

fn progress() -> TextProgress {
    let mut parts = vec![PartState::Waiting, PartState::Unanswered, PartState::Sent("id".into()), PartState::Refused];
    parts.extend(RECEIPT_STATES.map(|s| PartState::Received("id".into(), s)));
    let before = TextProgress { parts: parts.clone(), ..TextProgress::new("cucc-1".into(), 3, 0) };
    let before = Some(Box::new(before));
    TextProgress { parts, cut_by_carrier: 5, doubted: true, before, ..TextProgress::new("cmcc-1".into(), 200, 0) }
}

fn part_receipt() -> PartReceipt {
    let carrier = Some("cmcc-1".into());
    PartReceipt { part: 2, at: Timestamp(77), text: "stat:DELIVRD err:000".into(), carrier }
}

#[test]
fn accept_records_read_back() {
    for envelope in [mail(), text()] {
        let mut lives = vec![Life::new(Timestamp(4)); envelope.recipients.len()];
        lives[0].attempts.push(attempt(Some(Stage::Recipient), Kind::Delayed));
        lives[0].attempts_made = 3;
        lives[0].progress = Some(Box::new(progress()));
        lives[0].receipts = vec![part_receipt()];
        let payload = write_accept(&envelope, &lives);
        assert_eq!(read_accept(envelope.id, &payload).unwrap(), (envelope, lives));
    }
}

#[test]
fn every_state_stage_end_and_kind_reads_back() {
    let mut states =
        vec![State::Queued { due: Timestamp(1) }, State::Begun { at: Timestamp(2) }, State::Sent { at: Timestamp(3) }];
    states.extend(ENDS.map(|end| State::Ended { end, at: Timestamp(4) }));
    let mut changes: Vec<Change> = states
        .into_iter()
        .map(|state| Change {
            recipient: 2,
            sequence: 7,
            previous: Some(Position { segment: 1, offset: 2, length: 3 }),
            state,
            attempt: None,
            counts: false,
            tally: Some(Tally { attempts_made: 3, throttled: 1 }),
            progress: None,
            receipt: None,
        })
        .collect();
    let queued = State::Queued { due: Timestamp(1) };
    for (stage, kind) in STAGES.iter().cycle().zip(Kind::ALL) {
        let attempt = Some(attempt(Some(*stage), kind));
        let (progress, receipt) = (Some(progress().into()), Some(part_receipt().into()));
        let (sequence, previous, tally) = (1, None, Some(Tally::default()));
        changes.push(Change {
            recipient: 0,
            sequence,
            previous,
            state: queued,
            attempt,
            counts: true,
            tally,
            progress,
            receipt,
        });
    }
    assert_eq!(read_changes(&write_changes(&changes)).unwrap(), changes);
}

#[test]
fn keys_read_back() {
    let key = KeyRecord {
        client: "shop".into(),
        idempotency: Idempotency { key: "order-1".into(), fingerprint: [1; 32] },
        received_at: Timestamp(8),
    };
    assert_eq!(read_key(&write_key(&key)).unwrap(), key);
}

#[test]
fn another_version_is_refused_by_name() {
    let mut payload = write_accept(&text(), &[Life::new(Timestamp(4))]).to_vec();
    payload[0] = 9;
    assert_eq!(read_accept(MessageId::from_bytes([7; 16]), &payload), Err(RecordError { field: "version" }));
}

fn change_of(attempt: Attempt) -> Change {
    Change {
        recipient: 0,
        sequence: 1,
        previous: None,
        state: State::Queued { due: Timestamp(1) },
        attempt: Some(attempt),
        counts: true,
        tally: Some(Tally::default()),
        progress: None,
        receipt: None,
    }
}

#[test]
fn the_third_version_knows_no_sources_and_no_tls_policies() {
    let mut attempt = attempt(Some(Stage::Recipient), Kind::Delayed);
    attempt.rule = None;
    let peer = attempt.peer.as_mut().unwrap();
    (peer.source, peer.tls_policy) = (None, None);
    let change = change_of(attempt);
    let mut payload = write_changes(std::slice::from_ref(&change)).to_vec();
    // Behind the two stand duration, rule, counts, tally, progress and receipt.
    let two = payload.len() - 17;
    assert_eq!(payload.drain(two..two + 2).as_slice(), [0, 0]);
    payload[0] = 3;
    assert_eq!(read_changes(&payload).unwrap(), [change]);
}

#[test]
fn the_second_version_knows_no_rules() {
    let attempt = Attempt { rule: None, peer: None, ..attempt(Some(Stage::Recipient), Kind::Delayed) };
    let change = change_of(attempt);
    let mut payload = write_changes(std::slice::from_ref(&change)).to_vec();
    // Behind the rule stand counts, tally, progress and receipt.
    let rule = payload.len() - 7;
    assert_eq!(payload.remove(rule), 0);
    payload[0] = 2;
    assert_eq!(read_changes(&payload).unwrap(), [change]);
}

#[test]
fn the_fifth_version_knows_one_carrier_and_no_second_sending() {
    let progress = TextProgress::new("cmcc-1".into(), 200, 2);
    let receipt = PartReceipt { carrier: None, ..part_receipt() };
    let change = Change {
        progress: Some(Box::new(progress)),
        receipt: Some(Box::new(receipt)),
        attempt: None,
        ..change_of(attempt(None, Kind::Delayed))
    };
    let mut payload = write_changes(std::slice::from_ref(&change)).to_vec();
    // The receipt's carrier stands last; before the receipt, behind the parts, whether it was doubted, what was before, and into how
    // many parts a carrier cuts it.
    payload.truncate(payload.len() - 4);
    let receipt = 1 + 4 + 8 + 4 + "stat:DELIVRD err:000".len();
    let six = payload.len() - receipt - 6;
    assert_eq!(payload.drain(six..six + 6).as_slice(), [0; 6]);
    payload[0] = 5;
    assert_eq!(read_changes(&payload).unwrap(), [change]);
}

#[test]
fn a_chain_of_carriers_longer_than_any_is_refused() {
    let mut progress = TextProgress::new("c".into(), 1, 1);
    for _ in 0..CARRIERS_MAX {
        progress = TextProgress { before: Some(Box::new(progress)), ..TextProgress::new("c".into(), 1, 1) };
    }
    let change = Change { progress: Some(Box::new(progress)), ..change_of(attempt(None, Kind::Delayed)) };
    assert_eq!(read_changes(&write_changes(&[change])), Err(RecordError { field: "carriers" }));
}

#[test]
fn content_is_checked_again() {
    let bytes = Bytes::from_static;
    assert!(read_content(Channel::Email, bytes(b"a\r\n.\nb")).is_err());
    assert!(read_content(Channel::Sms, bytes(b"")).is_err());
    assert!(read_content(Channel::Sms, bytes(b"\xff")).is_err());
    let content = read_content(Channel::Email, bytes(b"a: b\r\n\r\n")).unwrap();
    assert_eq!(content_bytes(&content), bytes(b"a: b\r\n\r\n"));
}

proptest! {
    #[test]
    fn damaged_records_neither_panic_nor_allocate_wildly(at in 0usize..400, byte: u8, cut in 0usize..400, noise in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut payload = write_accept(&mail(), &vec![Life::new(Timestamp(4)); 3]).to_vec();
        let at = at % payload.len();
        payload[at] = byte;
        payload.truncate(cut.max(1));
        let _ = read_accept(MessageId::from_bytes([7; 16]), &payload);
        let _ = read_changes(&noise);
        let _ = read_key(&noise);
    }
}
