//! From what a peer said to what it means for a recipient (RFC 5321 section 4.2, DESIGN section 5).
//!
//! The table of the peer's provider is asked first; what no row of it knows goes by the rules of the RFCs.
//!
//! **Promises.** Unknown is temporary. A refusal of the connection, the greeting or EHLO is never held against a recipient;
//! a refusal of MAIL or of the content is held against the message; only RCPT condemns a recipient.

use crate::model::{EnhancedStatus, Failure, Outcome, Peer, Relayed, Reply, Scope, Stage};
use crate::provider::{Class, Judgement, Provider};
use crate::wire::smtp::client::exchange::Answers;

/// No session with any host: what it means for all recipients.
#[derive(Clone, Debug)]
pub(super) struct Setback {
    pub(super) failure: Failure,
    /// It will not get better.
    pub(super) permanent: bool,
    /// How far we got.
    pub(super) peer: Option<Peer>,
}

impl Setback {
    pub(super) fn outcome(self) -> Outcome {
        if self.permanent { Outcome::Failed(self.failure) } else { Outcome::Delayed(self.failure) }
    }
}

/// How a transaction broke off.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) stage: Stage,
    pub(super) cause: String,
    /// All of the content had gone: the peer may have taken the mail.
    pub(super) answer_lost: bool,
}

/// What is known of the peer besides its answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// Who runs it.
    pub(super) provider: &'a Provider,
    /// The connection has TLS.
    pub(super) secured: bool,
    /// It offers DSN, so it was told what the sender wants to hear.
    pub(super) notifies: bool,
}

/// What the answers, and the loss if the connection broke, mean for the transaction's recipient number `n`.
pub(super) fn outcome(answers: &Answers, loss: Option<&Loss>, n: usize, peer: Standing<'_>) -> Outcome {
    if let Some(mail) = answers.mail.as_ref().filter(|r| r.code / 100 != 2) {
        return refused(peer.provider, mail, Stage::Mail, !peer.secured && mail.code == 530);
    }
    if let Some(rcpt) = answers.recipients.get(n) {
        let taken_before = (0..n).any(|earlier| answers.takes(earlier));
        if rcpt.code / 100 != 2 {
            return refused(peer.provider, rcpt, Stage::Recipient, is_too_many_recipients(rcpt, taken_before));
        }
        if let Some(data) = answers.data.as_ref().filter(|r| r.code != 354) {
            return refused(peer.provider, data, Stage::Data, data.code == 503);
        }
        match &answers.end {
            Some(end) if end.code / 100 == 2 => {
                return Outcome::Relayed(Relayed { reply: end.clone(), notifies: peer.notifies });
            }
            Some(end) => return refused(peer.provider, end, Stage::EndOfData, end.code == 503),
            None => {}
        }
    }
    // Without a loss it was the peer's 421 to somebody else's RCPT, or an answer out of step.
    if let Some(last) = answers.recipients.last().filter(|r| r.code == 421 && loss.is_none()) {
        return interrupted(peer.provider, last);
    }
    let (stage, cause) = match loss {
        Some(Loss { answer_lost: true, cause, .. }) => {
            (Stage::EndOfData, format!("the answer to the end of the mail was lost, so it may arrive twice: {cause}"))
        }
        Some(loss) => (loss.stage, loss.cause.clone()),
        None => (Stage::Mail, "the peer's replies are out of step with our commands".to_owned()),
    };
    Outcome::Delayed(Failure::without_reply(Scope::Connection, stage, EnhancedStatus::new(4, 4, 2), cause))
}

/// A refusal: failed if the table says so, or on 5yz where it says nothing, unless `for_now` knows better; else delayed.
pub fn refused(provider: &Provider, reply: &Reply, stage: Stage, for_now: bool) -> Outcome {
    let judgement = provider.judge(reply, stage);
    let failed = judgement.action.is_final() && !for_now;
    let scope = judgement.blames.unwrap_or_else(|| blamed(reply, stage));
    let failure = with_reply(reply, stage, scope, failed, &judgement);
    if failed { Outcome::Failed(failure) } else { Outcome::Delayed(failure) }
}

/// For those whose turn did not come because the peer hung up with a 421. What it held against the recipient before them is
/// not held against them.
fn interrupted(provider: &Provider, reply: &Reply) -> Outcome {
    let judgement = provider.judge(reply, Stage::Recipient);
    match judgement.blames {
        Some(Scope::Recipient) => {
            let nothing = Judgement { row: None, ..judgement };
            Outcome::Delayed(with_reply(reply, Stage::Recipient, Scope::Host, false, &nothing))
        }
        _ => refused(provider, reply, Stage::Recipient, true),
    }
}

/// Whom a refusal condemns by its code and its place.
fn blamed(reply: &Reply, stage: Stage) -> Scope {
    match (reply.code, stage) {
        (421 | 530, _) => Scope::Host,
        // Out of step: the commands and the answers do not fit together.
        (503, Stage::Data | Stage::EndOfData) | (200..=399, _) => Scope::Connection,
        (_, Stage::Recipient) => Scope::Recipient,
        _ => Scope::Message,
    }
}

/// A failure that carries a reply; its status is the peer's own where it gave one of the right class.
pub(super) fn with_reply(
    reply: &Reply,
    stage: Stage,
    scope: Scope,
    permanent: bool,
    judgement: &Judgement<'_>,
) -> Failure {
    let class = if permanent { 5 } else { 4 };
    let (subject, detail) = reply.enhanced.map_or((0, 0), |e| (e.subject, e.detail));
    let throttled = match judgement.row {
        // About connections, not about this mail: it may come again at once, over another.
        Some(row) => row.class == Class::Limit && row.retry_after.is_none(),
        None => asks_for_less(reply),
    };
    Failure {
        scope,
        stage,
        status: EnhancedStatus::new(class, subject, detail),
        reply: Some(reply.clone()),
        cause: None,
        throttled: !permanent && throttled,
        rule: judgement.row.map(|row| row.rule.clone()),
        retry_after: judgement.row.and_then(|row| row.retry_after).filter(|_| !permanent),
        measures: judgement.row.map(|row| row.measures.clone()),
    }
}

/// RFC 7504: the host, or the domain behind it, takes no mail at all.
pub(super) fn takes_no_mail(reply: &Reply) -> bool {
    matches!(reply.code, 521 | 556)
}

/// RFC 5321 section 4.5.3.1.10: 552 for too many recipients means 452. It also means a full mailbox; a peer that says
/// which is believed, and one that has taken recipients before in this transaction is taken to mean the number.
fn is_too_many_recipients(reply: &Reply, taken_before: bool) -> bool {
    let too_many = EnhancedStatus::new(5, 5, 3);
    reply.code == 552 && reply.enhanced.map_or(taken_before, |e| e == too_many)
}

/// Closing (421), overloaded (x.3.2, x.4.5), or its rate limits (x.7.28, x.7.650) speak of us, not of this mail.
fn asks_for_less(reply: &Reply) -> bool {
    let by_status = |e: EnhancedStatus| matches!((e.subject, e.detail), (3, 2) | (4, 5) | (7, 28) | (7, 650));
    reply.code == 421 || reply.enhanced.is_some_and(by_status)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::provider::Table;

    /// Nothing but the RFCs.
    fn unknown() -> &'static Provider {
        static TABLE: LazyLock<Table> = LazyLock::new(Table::default);
        TABLE.provider_of("mx.example")
    }

    fn clear() -> Standing<'static> {
        Standing { provider: unknown(), secured: false, notifies: true }
    }

    fn secured() -> Standing<'static> {
        Standing { provider: unknown(), secured: true, notifies: false }
    }

    fn reply(text: &str) -> Reply {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let enhanced = rest.split(' ').next().and_then(EnhancedStatus::parse);
        Reply { code: code.parse().unwrap(), enhanced, text: rest.to_owned() }
    }

    fn answers(mail: &str, recipients: &[&str], data: Option<&str>, end: Option<&str>) -> Answers {
        Answers {
            mail: Some(reply(mail)),
            recipients: recipients.iter().map(|r| reply(r)).collect(),
            data: data.map(reply),
            end: end.map(reply),
        }
    }

    /// Outcome, scope and stage in a word each.
    fn shown(outcome: &Outcome) -> String {
        let of = |word: &str, f: &Failure| format!("{word} {:?} {} {}", f.scope, f.stage.as_str(), f.status);
        match outcome {
            Outcome::Relayed(_) => "relayed".to_owned(),
            Outcome::Delayed(f) => of("delayed", f),
            Outcome::Failed(f) => of("failed", f),
        }
    }

    #[test]
    fn replies_mean_what_the_rfcs_say() {
        for (mail, rcpt, data, end, meaning) in [
            ("250", &["250"][..], Some("354"), Some("250 2.0.0 ok"), "relayed"),
            ("250", &["250"], None, Some("250"), "relayed"),
            ("450 4.7.1", &["503"], Some("503"), None, "delayed Message mail 4.7.1"),
            ("550 5.7.1", &["503"], Some("503"), None, "failed Message mail 5.7.1"),
            ("421 4.7.28", &[], None, None, "delayed Host mail 4.7.28"),
            ("530 5.7.0", &[], None, None, "delayed Host mail 4.7.0"),
            ("250", &["550 5.1.1"], Some("503"), None, "failed Recipient rcpt 5.1.1"),
            ("250", &["450"], Some("503"), None, "delayed Recipient rcpt 4.0.0"),
            ("250", &["552 5.2.2"], Some("503"), None, "failed Recipient rcpt 5.2.2"),
            ("250", &["552 5.5.3"], Some("503"), None, "delayed Recipient rcpt 4.5.3"),
            ("250", &["552"], Some("503"), None, "failed Recipient rcpt 5.0.0"),
            ("250", &["421"], None, None, "delayed Host rcpt 4.0.0"),
            ("250", &["354"], None, None, "delayed Connection rcpt 4.0.0"),
            ("250", &["250"], Some("451"), None, "delayed Message data 4.0.0"),
            ("250", &["250"], Some("554"), None, "failed Message data 5.0.0"),
            ("250", &["250"], Some("503"), None, "delayed Connection data 4.0.0"),
            ("250", &["250"], Some("250"), None, "delayed Connection data 4.0.0"),
            ("250", &["250"], Some("354"), Some("452"), "delayed Message end-of-data 4.0.0"),
            ("250", &["250"], Some("354"), Some("554 5.6.0"), "failed Message end-of-data 5.6.0"),
            ("250", &["250"], Some("354"), Some("421"), "delayed Host end-of-data 4.0.0"),
        ] {
            let outcome = outcome(&answers(mail, rcpt, data, end), None, 0, clear());
            assert_eq!(shown(&outcome), meaning, "{mail} {rcpt:?} {data:?} {end:?}");
        }
    }

    #[test]
    fn a_552_after_taken_recipients_is_their_number() {
        let answers = answers("250", &["250", "552 too many"], Some("354"), Some("250"));
        assert_eq!(shown(&outcome(&answers, None, 0, secured())), "relayed");
        assert_eq!(shown(&outcome(&answers, None, 1, secured())), "delayed Recipient rcpt 4.0.0");
    }

    #[test]
    fn a_421_speaks_for_those_behind_it() {
        let answers = answers("250", &["250", "550 5.1.1", "421 busy"], None, None);
        let of = |n| shown(&outcome(&answers, None, n, secured()));
        assert_eq!(of(0), "delayed Host rcpt 4.0.0");
        assert_eq!(of(1), "failed Recipient rcpt 5.1.1");
        assert_eq!(of(2), "delayed Host rcpt 4.0.0");
        assert_eq!(of(3), "delayed Host rcpt 4.0.0");
    }

    #[test]
    fn a_loss_spares_what_was_answered() {
        let loss = |answer_lost| Loss { stage: Stage::Data, cause: "gone".to_owned(), answer_lost };
        let half = answers("250", &["550 5.1.1", "250"], Some("354"), None);
        assert_eq!(shown(&outcome(&half, Some(&loss(false)), 0, secured())), "failed Recipient rcpt 5.1.1");
        assert_eq!(shown(&outcome(&half, Some(&loss(false)), 1, secured())), "delayed Connection data 4.4.2");
        let Outcome::Delayed(lost) = outcome(&half, Some(&loss(true)), 1, secured()) else {
            panic!("delayed expected")
        };
        assert_eq!((lost.scope, lost.stage), (Scope::Connection, Stage::EndOfData));
        assert!(lost.cause.unwrap().contains("lost"));
        assert_eq!(
            shown(&outcome(&Answers::default(), Some(&loss(false)), 0, secured())),
            "delayed Connection data 4.4.2"
        );
    }

    /// The outcome of one refusal in a transaction with a provider's host, with the rule and the pause.
    fn at(host: &str, mail: &str, rcpt: &str, end: Option<&str>) -> String {
        let table = Table::shipped();
        let standing = Standing { provider: table.provider_of(host), ..secured() };
        let outcome = outcome(&answers(mail, &[rcpt], end.map(|_| "354"), end), None, 0, standing);
        let (Outcome::Delayed(f) | Outcome::Failed(f)) = &outcome else { return shown(&outcome) };
        let (rule, pause) = (f.rule.as_ref().map_or("-", |r| &r.id), f.retry_after.map_or(0, |p| p.as_secs()));
        format!("{} {rule} {pause}", shown(&outcome))
    }

    #[test]
    fn a_provider_is_taken_to_mean_what_it_means() {
        for (host, mail, rcpt, end, meaning) in [
            ("mx3.qq.com", "250", "550 Ip frequency limited", None, "delayed Source rcpt 4.0.0 qq-rate-ip 60"),
            (
                "x.olc.protection.outlook.com",
                "550 5.7.1 part of their network is on our block list (S3150).",
                "503",
                None,
                "delayed Source mail 4.7.1 outlook-block-list 14400",
            ),
            (
                "163mx01.mxmail.netease.com",
                "250",
                "250",
                Some("554 HL:ITC 163 smtp3"),
                "delayed Source end-of-data 4.0.0 netease-day-ip 14400",
            ),
            ("mx3.qq.com", "250", "550 Mailbox not found", None, "failed Recipient rcpt 5.0.0 qq-recipient-bad 0"),
            // No row knows it: the RFCs.
            ("mx3.qq.com", "250", "550 no", None, "failed Recipient rcpt 5.0.0 - 0"),
            ("mx.example", "550 Ip blocked", "503", None, "failed Message mail 5.0.0 - 0"),
        ] {
            assert_eq!(at(host, mail, rcpt, end), meaning, "{mail} {rcpt} {end:?}");
        }
    }

    #[test]
    fn a_recipient_is_not_held_against_those_behind_it() {
        let table = Table::shipped();
        let standing = Standing { provider: table.provider_of("mx01.mail.icloud.com"), ..secured() };
        let last = "421 4.7.1 Messages to x deferred due to excessive volume";
        let answers = answers("250", &[last], None, None);
        let of = |n| outcome(&answers, None, n, standing);
        assert_eq!(shown(&of(0)), "delayed Recipient rcpt 4.7.1");
        assert_eq!(shown(&of(1)), "delayed Host rcpt 4.7.1");
        let Outcome::Delayed(failure) = of(1) else { panic!("delayed expected") };
        assert_eq!((failure.rule, failure.retry_after), (None, None));
    }
}
