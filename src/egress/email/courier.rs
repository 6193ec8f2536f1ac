//! A courier: one connection slot, of one destination or of several that share their hosts.
//!
//! **Promises.** [`MailCourier::carry`] returns one outcome for each recipient of the consignment, in its order. The
//! connection is kept for the next mail while the peer allows it, the mail's domain prefers that host, and its TLS policy
//! demands no more than the connection has. A kept connection is looked at before it is used, and a mail that it fails before
//! taking anything goes over a fresh one within the same attempt.

use std::sync::Arc;
use std::time::Duration;

use super::MailEgress;
use super::hosts;
use super::options::Options;
use super::session::{Session, Way, rest_for};
use super::sources::Pool;
use super::tls_rpt::watch::Watched;
use super::transaction::{Ended, Load, transact};
use super::verdict::{Setback, Standing, outcome};
use crate::clock::Mono;
use crate::mail::{from_domains, header_section};
use crate::model::Consignment;
use crate::model::{
    Address, BodyKind, Content, Domain, EnhancedStatus, Envelope, Failure, MailData, MailOrigin, Mailbox, Outcome,
    Peer, RecipientIndex, RecipientOutcome, ReversePath, Scope, Stage, TlsWish,
};
use crate::route::MailHop;
use crate::schedule::{SiteId, SourceShares};
use crate::wire::smtp::client::dialogue::Idle;
use crate::wire::smtp::client::exchange::{Plan, Transfer};
use crate::wire::smtp::client::{Capabilities, MailCommand, RcptCommand, sent_bytes};

/// Carries mail, one at a time.
#[derive(Debug)]
pub struct MailCourier {
    egress: Arc<MailEgress>,
    pub(super) session: Option<Session>,
    /// Mails over one connection, if there is a limit.
    messages_max: Option<u32>,
    /// What each source may do, where several send to the same site.
    shares: Option<Arc<SourceShares>>,
    /// The site of the schedule that it works for, if there is one.
    of: Option<SiteId>,
    /// What sources were answered after which others were tried, since somebody asked.
    blamed: Vec<RecipientOutcome>,
    /// Connections tried since somebody asked.
    dialled: u32,
}

/// A mail of a consignment, ready to go.
struct Parcel<'a> {
    envelope: &'a Envelope,
    origin: &'a MailOrigin,
    data: &'a MailData,
    signature: Option<MailData>,
    bytes: u64,
    /// The reverse-path or the header section needs SMTPUTF8.
    utf8: bool,
}

/// One recipient of it.
#[derive(Clone, Copy)]
struct Addressee<'a> {
    index: RecipientIndex,
    mailbox: &'a Mailbox,
    command: RcptCommand<'a>,
}

/// What has become of a consignment's recipients so far.
struct Ledger<'a> {
    egress: &'a MailEgress,
    began: Mono,
    outcomes: Vec<RecipientOutcome>,
}

impl Ledger<'_> {
    fn enter(&mut self, recipient: RecipientIndex, outcome: Outcome, peer: Option<&Peer>) {
        let duration = self.egress.clock.mono().since(self.began);
        let peer = peer.cloned();
        self.outcomes.push(RecipientOutcome { recipient, outcome, peer, progress: None, duration });
    }

    /// No session for these.
    fn enter_all(&mut self, group: &[Addressee<'_>], setback: &Setback) {
        let outcome = setback.clone().outcome();
        group.iter().for_each(|a| self.enter(a.index, outcome.clone(), setback.peer.as_ref()));
    }
}

impl MailCourier {
    /// A courier without a connection yet.
    pub fn new(egress: Arc<MailEgress>) -> Self {
        Self { egress, session: None, messages_max: None, shares: None, of: None, blamed: Vec::new(), dialled: 0 }
    }

    /// How many mails its next connections may carry, if its site has a limit of its own.
    pub fn allow(&mut self, messages_max: Option<u32>) {
        self.messages_max = messages_max;
    }

    /// The site that it works for, and what each source may do there from now on, where several send to it.
    pub fn share(&mut self, of: SiteId, shares: Option<Arc<SourceShares>>) {
        (self.of, self.shares) = (Some(of), shares);
    }

    /// What sources were answered after which others were tried, since this was asked last. About no recipient.
    pub fn take_blamed(&mut self) -> Vec<RecipientOutcome> {
        std::mem::take(&mut self.blamed)
    }

    /// How many connections it has tried to make since this was asked last.
    pub fn take_dialled(&mut self) -> u32 {
        std::mem::take(&mut self.dialled)
    }

    /// True while a connection is kept for the next mail.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Carries a mail by way of `hop` to those of its recipients that the consignment names; one outcome for each of them.
    pub async fn carry(&mut self, consignment: &Consignment, hop: &MailHop) -> Vec<RecipientOutcome> {
        let egress = self.egress.clone();
        let options = egress.options.load_full();
        let outcomes = Vec::with_capacity(consignment.recipients.len());
        let mut ledger = Ledger { egress: &egress, began: egress.clock.mono(), outcomes };
        let addressees = addressees(consignment, &mut ledger);
        match parcel(&egress, consignment).await {
            Ok(parcel) => {
                let pool = options.sources.pool_of(&consignment.envelope, || authors(&parcel));
                let whole_lane = options.sources.takes_whole_lane(pool, &consignment.envelope);
                for group in addressees.chunks(options.recipients_per_transaction.max(1)) {
                    self.deliver(&options, hop, (pool, whole_lane), &parcel, group, &mut ledger).await;
                }
                let unfinished = ledger.outcomes.iter().any(|o| matches!(o.outcome, Outcome::Delayed(_)));
                if let Some(signature) = parcel.signature.as_ref().filter(|_| unfinished) {
                    egress.signing.keep_for_retry(consignment.envelope.id, signature, egress.clock.mono());
                }
            }
            Err(failure) => {
                for addressee in &addressees {
                    ledger.enter(addressee.index, Outcome::Delayed(failure.clone()), None);
                }
            }
        }
        let mut outcomes = ledger.outcomes;
        let place = |o: &RecipientOutcome| consignment.recipients.iter().position(|r| *r == o.recipient);
        if outcomes.iter().zip(&consignment.recipients).any(|(o, r)| o.recipient != *r) {
            outcomes.sort_by_cached_key(place);
        }
        outcomes
    }

    /// Takes leave of the peer; bounded by the QUIT timeout.
    pub async fn close(mut self) {
        let quit = self.egress.options.load().timeouts.quit;
        if let Some(session) = self.session.take() {
            session.quit(true, quit).await;
        }
    }

    /// One transaction, over the kept connection or a fresh one; from another source those for whom this one is blamed.
    async fn deliver(
        &mut self,
        options: &Options,
        hop: &MailHop,
        (pool, whole_lane): (&Pool, bool),
        parcel: &Parcel<'_>,
        group: &[Addressee<'_>],
        ledger: &mut Ledger<'_>,
    ) {
        // Whoever does not fit is entered at once and leaves the group, also for a second try over a fresh connection.
        let mut group = group.to_vec();
        let tls = match self.egress.tls_policy(options, hop, parcel.origin).await {
            Ok(policy) => policy,
            Err(setback) => return ledger.enter_all(&group, &setback),
        };
        let shares = self.shares.clone();
        let way = Way { hop, pool, whole_lane, shares: shares.as_ref(), of: self.of, tls: &tls, watched: None };
        while !group.is_empty() {
            let mut session = match self.ready_session(options, way).await {
                Some(session) => session,
                None => match self.open(options, way, parcel.envelope).await {
                    Ok(session) => session,
                    Err(setback) => return ledger.enter_all(&group, &setback),
                },
            };
            let Some(idle) = session.idle.take() else { continue };
            group = fitting(parcel, idle.capabilities(), &group, &session.peer, ledger);
            if group.is_empty() {
                session.idle = Some(idle);
                self.session = Some(session);
                return;
            }
            let (source, towards) = (&session.from.source, &session.towards);
            let in_turn = self.egress.roster.turn(source, towards).await;
            let asked = if in_turn { group.len() } else { 0 };
            let grant = self.egress.warmup.reserve(source, towards, asked).await;
            if grant.count() == 0 {
                // Others were quicker; the next look finds a source that still may, or none.
                session.idle = Some(idle);
                session.quit(false, options.timeouts.quit).await;
                continue;
            }
            let later = group.split_off(grant.count().min(group.len()));
            let notifies = idle.capabilities().dsn;
            let ended = self.attempt(&mut session, idle, options, parcel, &group).await;
            if session.carried > 0 && ended.never_began() {
                tracing::debug!(host = session.peer.host, "the kept connection was dead, taking a fresh one");
                grant.give_back();
                group.extend(later);
                continue;
            }
            let outcomes = self.judge(options, &session, &ended, notifies, group.len());
            if ended.never_reached() {
                grant.give_back()
            } else {
                grant.settle(&outcomes)
            }
            group = self.conclude(pool, &session, &group, outcomes, ledger);
            group.extend(later);
            if group.is_empty() {
                self.keep(session, options).await;
            } else {
                session.quit(false, options.timeouts.quit).await;
            }
        }
    }

    /// What a transaction's answers mean for each of its recipients.
    fn judge(&self, options: &Options, session: &Session, ended: &Ended, notifies: bool, of: usize) -> Vec<Outcome> {
        let provider = options.providers.provider_of(&session.peer.host);
        let standing = Standing { provider, secured: session.peer.tls.is_some(), notifies };
        if ended.loss.as_ref().is_some_and(|loss| loss.answer_lost) {
            self.egress.answers_lost.inc();
        }
        let outcomes: Vec<_> = (0..of).map(|n| outcome(&ended.answers, ended.loss.as_ref(), n, standing)).collect();
        for outcome in &outcomes {
            if let Outcome::Delayed(failure) | Outcome::Failed(failure) = outcome
                && failure.reply.is_some()
            {
                let class = failure.rule.as_ref().map_or("none", |rule| &rule.class);
                self.egress.count_refusal(provider, class);
            }
        }
        outcomes
    }

    /// Enters what has become of a transaction's recipients. Those who are left may be given the mail from another source:
    /// this one was blamed, and rests.
    fn conclude<'a>(
        &mut self,
        pool: &Pool,
        session: &Session,
        group: &[Addressee<'a>],
        outcomes: Vec<Outcome>,
        ledger: &mut Ledger<'_>,
    ) -> Vec<Addressee<'a>> {
        let blamed = |outcome: &Outcome| match outcome {
            Outcome::Delayed(failure) => rest_for(failure),
            _ => None,
        };
        let span = outcomes.iter().filter_map(blamed).max();
        let (source, towards) = (&session.from.source, &session.towards);
        let again = span.is_some_and(|span| self.egress.roster.rest(pool, source, towards, span));
        let mut left = Vec::new();
        for (addressee, outcome) in group.iter().zip(outcomes) {
            if again && blamed(&outcome).is_some() {
                if left.is_empty() {
                    let duration = self.egress.clock.mono().since(ledger.began);
                    self.blamed.push(about_source(outcome, Some(session.peer.clone()), duration));
                }
                left.push(*addressee);
            } else {
                ledger.enter(addressee.index, outcome, Some(&session.peer));
            }
        }
        left
    }

    async fn open(&mut self, options: &Options, way: Way<'_>, envelope: &Envelope) -> Result<Session, Setback> {
        let watched = Watched::of(envelope, way.hop, way.tls);
        let way = Way { watched: watched.as_ref(), ..way };
        let opened = Session::open(&self.egress, options, way, &mut self.blamed).await;
        if !matches!(&opened, Err(setback) if setback.failure.is_ours()) {
            self.dialled = self.dialled.saturating_add(1);
        }
        opened
    }

    async fn attempt(
        &self,
        session: &mut Session,
        idle: Idle,
        options: &Options,
        parcel: &Parcel<'_>,
        group: &[Addressee<'_>],
    ) -> Ended {
        let peer = *idle.capabilities();
        let utf8 = parcel.utf8 || group.iter().any(|a| needs_utf8(a.mailbox));
        let commands: Vec<_> = group.iter().map(|a| a.command).collect();
        let mail = MailCommand {
            reverse_path: &parcel.origin.reverse_path,
            size: parcel.bytes,
            body: parcel.origin.body,
            smtputf8: utf8,
            require_tls: parcel.origin.tls == TlsWish::Required,
            ret: parcel.origin.ret,
            envid: parcel.origin.envid.as_deref(),
        };
        let transfer = transfer(&peer, parcel.bytes, options);
        let load = Load { signature: parcel.signature.as_ref(), data: parcel.data, bytes: parcel.bytes };
        let plan = Plan { mail, recipients: &commands, transfer };
        transact(session, idle, plan, load, &options.timeouts).await
    }

    /// The kept session, if it leads where the mail goes, is alive, and the peer has been brought back to its initial state.
    async fn ready_session(&mut self, options: &Options, way: Way<'_>) -> Option<Session> {
        let Way { hop, pool, tls, .. } = way;
        let mut session = self.session.take()?;
        session.towards.shares = way.shares.cloned();
        if !self.egress.roster.may_go_on(pool, &session.from.source, &session.towards) {
            session.quit(false, options.timeouts.quit).await;
            return None;
        }
        if session.hop != *hop {
            if !hosts::prefers(&self.egress, options, hop, &session, tls.asks_dnssec()).await {
                session.quit(false, options.timeouts.quit).await;
                return None;
            }
            session.hop = hop.clone();
        }
        let tls = self.egress.policy_at(options, way, &session.peer.host).await;
        if !tls.is_some_and(|tls| session.enters(&self.egress, options, &tls)) {
            session.quit(false, options.timeouts.quit).await;
            return None;
        }
        if session.connection.is_stale().await {
            return None;
        }
        let mut out = Vec::new();
        let idle = match session.idle.take()?.reset(&mut out) {
            Err(idle) => idle,
            Ok(asked) => {
                session.connection.renew();
                session.connection.say(&out, options.timeouts.hello).await.ok()?;
                let reply = session.connection.reply(options.timeouts.hello).await.ok()?;
                asked.on_reply(reply).ok()?
            }
        };
        session.idle = Some(idle);
        Some(session)
    }

    /// Keeps the connection for the next mail, unless it is of no further use or has carried its share.
    async fn keep(&mut self, mut session: Session, options: &Options) {
        if session.carried > 0 {
            self.egress.metrics.mail_connections_reused.inc();
        }
        session.carried += 1;
        if session.idle.is_none() {
            return;
        }
        if self.messages_max.is_some_and(|most| session.carried >= most) {
            session.quit(false, options.timeouts.quit).await;
            return;
        }
        self.session = Some(session);
    }
}

/// An answer that says something of a source, and nothing of a recipient.
pub(super) fn about_source(outcome: Outcome, peer: Option<Peer>, duration: Duration) -> RecipientOutcome {
    RecipientOutcome { recipient: 0, outcome, peer, progress: None, duration }
}

/// The mail with its signature.
///
/// The failure is the same for all recipients and never final: it is ours.
async fn parcel<'a>(egress: &MailEgress, consignment: &'a Consignment) -> Result<Parcel<'a>, Failure> {
    let envelope = &consignment.envelope;
    let (Some(origin), Content::Mail(data)) = (envelope.mail(), &consignment.content) else {
        let why = "a text was handed to a mail courier";
        return Err(Failure::without_reply(Scope::Message, Stage::Route, EnhancedStatus::new(4, 3, 5), why));
    };
    let again = consignment.attempt > 1 || consignment.recipients.len() < envelope.recipients.len();
    let now = egress.clock.mono();
    let signature = egress.signing.signature(envelope, data, again, now).await.map_err(|error| {
        let why = format!("the mail cannot be signed: {error}");
        Failure::without_reply(Scope::Message, Stage::Route, EnhancedStatus::new(4, 7, 5), why)
    })?;
    let header = data.bytes().get(..origin.header_bytes as usize).unwrap_or(data.bytes());
    let wide_path = matches!(&origin.reverse_path, ReversePath::Mailbox(m) if needs_utf8(m));
    let utf8 = wide_path || (origin.smtputf8 && !header.is_ascii());
    let bytes = sent_bytes(signature.as_ref(), data);
    Ok(Parcel { envelope, origin, data, signature, bytes, utf8 })
}

/// The domains of the mail's author. It was checked when it came in; what cannot be read now names none.
fn authors(parcel: &Parcel<'_>) -> Vec<Domain> {
    from_domains(header_section(parcel.data, parcel.origin.header_bytes)).unwrap_or_default()
}

/// The consignment's recipients; one that is no mailbox, or none at all, is delayed: that is our own mistake.
fn addressees<'a>(consignment: &'a Consignment, ledger: &mut Ledger<'_>) -> Vec<Addressee<'a>> {
    let mut addressees = Vec::with_capacity(consignment.recipients.len());
    for index in &consignment.recipients {
        let recipient = consignment.envelope.recipients.get(*index as usize);
        match recipient.map(|r| (r, &r.address)) {
            Some((recipient, Address::Mailbox(mailbox))) => {
                let (notify, original) = (recipient.notify, recipient.original.as_ref());
                let command = RcptCommand { forward_path: mailbox, notify, original };
                addressees.push(Addressee { index: *index, mailbox, command });
            }
            _ => {
                let why = "the recipient is no mailbox";
                let failure = Failure::without_reply(Scope::Recipient, Stage::Route, EnhancedStatus::new(4, 3, 5), why);
                ledger.enter(*index, Outcome::Delayed(failure), None);
            }
        }
    }
    addressees
}

/// The addressees this peer can be given the mail for; the others fail here, with the extension that it lacks.
fn fitting<'a>(
    parcel: &Parcel<'_>,
    peer: &Capabilities,
    group: &[Addressee<'a>],
    at: &Peer,
    ledger: &mut Ledger<'_>,
) -> Vec<Addressee<'a>> {
    let missing = if peer.size_max.is_some_and(|most| parcel.bytes > most) {
        Some((EnhancedStatus::new(5, 3, 4), "the mail is larger than the host takes (SIZE)"))
    } else if parcel.utf8 && !peer.smtputf8 {
        Some((EnhancedStatus::new(5, 6, 7), "the mail needs SMTPUTF8, which the host does not offer"))
    } else if parcel.origin.body == BodyKind::EightBit && !peer.eight_bit_mime {
        Some((EnhancedStatus::new(5, 6, 3), "the mail needs 8BITMIME, which the host does not offer"))
    } else {
        None
    };
    let mut fitting = Vec::with_capacity(group.len());
    for addressee in group {
        let failure = match missing {
            Some((status, why)) => Failure::without_reply(Scope::Message, Stage::Mail, status, why),
            None if needs_utf8(addressee.mailbox) && !peer.smtputf8 => {
                let why = "the address needs SMTPUTF8, which the host does not offer";
                Failure::without_reply(Scope::Recipient, Stage::Recipient, EnhancedStatus::new(5, 6, 7), why)
            }
            None => {
                fitting.push(*addressee);
                continue;
            }
        };
        ledger.enter(addressee.index, Outcome::Failed(failure), Some(at));
    }
    fitting
}

/// Domains can be written in A-labels; local parts cannot.
fn needs_utf8(mailbox: &Mailbox) -> bool {
    !mailbox.local().is_ascii()
}

fn transfer(peer: &Capabilities, bytes: u64, options: &Options) -> Transfer {
    match (peer.chunking, peer.pipelining) {
        (true, true) if bytes <= options.chunk_at_once_bytes_max => Transfer::ChunkAtOnce(bytes),
        (true, _) => Transfer::Chunk(bytes),
        (false, _) => Transfer::Data,
    }
}
