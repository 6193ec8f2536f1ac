//! One bound connection: parts out, answers and receipts in.
//!
//! **Promises.** Ends only after every part handed to it has its [`PartAnswer`]. What waits to be written is bounded; a
//! carrier that does not read is found out by being asked whether it lives. At most `receipts_max` receipts and messages from handsets are on their way to disk; at
//! that limit nothing is read until one is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::InboundError;
use super::carrier::{Phase, Shared};
use super::dial::Made;
use super::protocol::{Bound, Brought, DeliveryId, Event, FromHandset, Reaction, Verdict};
use super::slots::{Job, PartAnswer, Slot};
use crate::model::Receipt;
use crate::net::Stream;
use crate::wire::Meaning;

/// Octets waiting to be written at which nothing more is taken in.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// How long the carrier may take to answer that we want to part.
const UNBIND_TIMEOUT: Duration = Duration::from_secs(2);

/// How a link ended.
#[derive(Debug)]
pub(super) enum End {
    /// As asked, with nothing unanswered.
    Drained,
    /// Nothing was to be done over it.
    Spent,
    /// Otherwise.
    Broken(String),
}

/// A bound connection.
pub(super) struct Link<'a> {
    shared: &'a Arc<Shared>,
    /// Its number; none of one that the carrier has made.
    bind: Option<usize>,
    reader: ReadHalf<Stream>,
    writer: Writer,
    session: Box<dyn Bound>,
    out: BytesMut,
    /// Octets handed to the socket so far.
    written: u64,
    jobs: mpsc::Receiver<Job>,
    /// Of a link that only receives, the other end of `jobs`: nobody has it, and it stays open.
    _no_jobs: Option<mpsc::Sender<Job>>,
    unanswered: HashMap<u32, Unanswered>,
    receipts: JoinSet<(DeliveryId, Reaction)>,
}

/// Where octets go. TLS keeps what the socket does not take at once, until it is asked to pass it on.
struct Writer {
    half: WriteHalf<Stream>,
    keeps: bool,
    kept: bool,
}

impl Writer {
    fn new(half: WriteHalf<Stream>, keeps: bool) -> Self {
        Self { half, keeps, kept: false }
    }

    /// True while there is anything to do for it.
    fn has_work(&self, out: &BytesMut) -> bool {
        self.kept || !out.is_empty()
    }

    /// Writes some of it, or passes on what was kept; how many octets were taken out. May be dropped at any time.
    async fn work(&mut self, out: &mut BytesMut) -> std::io::Result<usize> {
        if out.is_empty() {
            self.half.flush().await?;
            self.kept = false;
            return Ok(0);
        }
        let taken = self.half.write_buf(out).await?;
        self.kept = self.keeps;
        Ok(taken)
    }

    /// Writes all of it.
    async fn say(&mut self, out: &mut BytesMut) -> std::io::Result<()> {
        self.half.write_all_buf(out).await?;
        self.half.flush().await
    }
}

/// A submitted part.
struct Unanswered {
    /// Octets of the link before the part's first.
    starts_at: u64,
    /// Gone once the answer is overdue.
    answer: Option<oneshot::Sender<PartAnswer>>,
    /// Held until the carrier answers, however late.
    _slot: Slot,
}

impl From<Result<(), InboundError>> for Reaction {
    fn from(taken: Result<(), InboundError>) -> Self {
        match taken {
            Ok(()) => Self::Taken,
            Err(InboundError::Busy) => Self::Busy,
            Err(InboundError::Unavailable) => Self::Unavailable,
        }
    }
}

/// What woke the link.
#[allow(clippy::large_enum_variant, reason = "one at a time, for one turn of the loop")]
enum Wake {
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Job(Option<Job>),
    Receipt(Option<(DeliveryId, Reaction)>),
    Phase,
    Time,
}

impl<'a> Link<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, bind: Option<usize>, made: Made) -> Self {
        let (no_jobs, jobs) = match bind {
            Some(bind) if made.session.submits() => (None, shared.slots.up(bind, shared.options.window, made.peer)),
            _ => {
                let (sender, jobs) = mpsc::channel(1);
                (Some(sender), jobs)
            }
        };
        let keeps = matches!(made.stream, Stream::Tls(_));
        let (reader, half) = tokio::io::split(made.stream);
        Self {
            shared,
            bind,
            reader,
            writer: Writer::new(half, keeps),
            session: made.session,
            out: BytesMut::new(),
            written: 0,
            jobs,
            _no_jobs: no_jobs,
            unanswered: HashMap::new(),
            receipts: JoinSet::new(),
        }
    }

    /// Serves the link until it breaks or is told to stop.
    pub(super) async fn serve(mut self, phase: &mut watch::Receiver<Phase>) -> End {
        let end = self.exchange(phase).await;
        // In this order: no new jobs, then an answer to each that came.
        match (self.bind, &end) {
            (Some(bind), End::Spent) => self.shared.slots.rest(bind),
            (Some(bind), _) => self.shared.slots.down(bind),
            (None, _) => {}
        }
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            let _ = job.answer.send(PartAnswer::NotSent);
        }
        let why = match &end {
            End::Drained | End::Spent => "the link was closed",
            End::Broken(why) => why,
        };
        for (_, unanswered) in self.unanswered.drain() {
            let Some(answer) = unanswered.answer else { continue };
            let sent = self.written > unanswered.starts_at;
            let _ = answer.send(if sent { PartAnswer::Lost(why.to_owned()) } else { PartAnswer::NotSent });
        }
        // Receipts under way may still become durable; unanswered, they will be brought again.
        self.receipts.detach_all();
        if matches!(end, End::Drained | End::Spent) {
            let _ = tokio::time::timeout(UNBIND_TIMEOUT, self.unbind()).await;
        }
        end
    }

    async fn exchange(&mut self, phase: &mut watch::Receiver<Phase>) -> End {
        loop {
            if let Err(why) = self.take_events() {
                // The carrier's unbind, or a nack, may have an answer waiting.
                let _ = tokio::time::timeout(UNBIND_TIMEOUT, self.writer.say(&mut self.out)).await;
                return End::Broken(why);
            }
            let now_phase = *phase.borrow();
            if now_phase == Phase::Closing {
                return End::Broken("closed before all answers had come".to_owned());
            }
            if now_phase == Phase::Draining && self.is_idle() {
                return End::Drained;
            }
            if self.session.is_spent() && self.is_idle() {
                return End::Spent;
            }
            let done = match self.wake(phase).await {
                Wake::Read(Ok(0)) => Err("the carrier closed the connection".to_owned()),
                Wake::Read(Ok(_)) | Wake::Phase => Ok(()),
                Wake::Read(Err(e)) | Wake::Written(Err(e)) => Err(e.to_string()),
                Wake::Written(Ok(octets)) => {
                    self.written += octets as u64;
                    Ok(())
                }
                Wake::Job(Some(job)) => {
                    self.submit(job);
                    Ok(())
                }
                Wake::Receipt(done) => {
                    if let Some((delivery, reaction)) = done {
                        self.session.answer_delivery(delivery, reaction, &mut self.out);
                    }
                    Ok(())
                }
                Wake::Job(None) => Err("the handle of the link is gone".to_owned()),
                Wake::Time => self.pass_time().await,
            };
            if let Err(why) = done {
                return End::Broken(why);
            }
        }
    }

    async fn wake(&mut self, phase: &mut watch::Receiver<Phase>) -> Wake {
        let room = self.out.len() < OUT_BYTES_MAX;
        let receipts_room = self.receipts.len() < self.shared.options.receipts_max;
        let has_work = self.writer.has_work(&self.out);
        let rest = self.session.wakeup().since(self.shared.clock.mono());
        tokio::select! {
            read = self.reader.read_buf(self.session.buffer()), if room && receipts_room => Wake::Read(read),
            written = self.writer.work(&mut self.out), if has_work => Wake::Written(written),
            job = self.jobs.recv(), if room => Wake::Job(job),
            Some(done) = self.receipts.join_next() => Wake::Receipt(done.ok()),
            changed = phase.changed() => {
                if changed.is_err() {
                    // The handle was dropped without a shutdown.
                    return Wake::Job(None);
                }
                Wake::Phase
            }
            // While we do not read, an answer may be here unread: no carrier is blamed for that.
            () = tokio::time::sleep(rest), if receipts_room => Wake::Time,
        }
    }

    fn is_idle(&self) -> bool {
        let is_said = !self.writer.has_work(&self.out);
        self.session.awaited() == 0 && self.receipts.is_empty() && is_said && self.jobs.is_empty()
    }

    /// Understands what has been read.
    fn take_events(&mut self) -> Result<(), String> {
        while self.receipts.len() < self.shared.options.receipts_max {
            let Some(event) = self.session.next(self.shared.clock.mono(), &mut self.out)? else { return Ok(()) };
            match event {
                Event::Answer { sequence, verdict, message_id, load } => {
                    self.heed(load);
                    self.answered(sequence, verdict, message_id);
                }
                Event::Delivery(delivery, brought) => self.take_delivery(delivery, brought),
                Event::Unreadable(why) => self.count_unreadable(&why),
                Event::Unbound => return Err("the carrier unbound".to_owned()),
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    /// The carrier may have said how full it is.
    fn heed(&self, load: Option<u8>) {
        let Some(load) = load else { return };
        self.shared.series.congestion.with_label_values(&[&*self.shared.options.name]).set(load.into());
        if self.shared.pace.loaded(load) {
            tracing::info!(carrier = %self.shared.options.name, load, "the carrier says that it is nearly full: slower");
        }
    }

    fn answered(&mut self, sequence: u32, verdict: Verdict, message_id: String) {
        if verdict.meaning == Meaning::Throttled {
            self.shared.pace.throttled(Duration::ZERO);
        }
        // The answer first, then its slot: whoever waits for the slot may have reason not to use it.
        let unanswered = self.unanswered.remove(&sequence);
        match unanswered {
            Some(Unanswered { answer: Some(answer), _slot, .. }) => {
                let _ = answer.send(PartAnswer::Answered { verdict, message_id });
            }
            _ => {
                let (carrier, status) = (&self.shared.options.name, verdict.words);
                tracing::warn!(%carrier, %status, %message_id, "an answer came too late");
                self.shared.series.late.inc();
            }
        }
    }

    fn submit(&mut self, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        let starts_at = self.written + self.out.len() as u64;
        match self.session.submit(&job.part, self.shared.clock.mono(), &mut self.out) {
            Ok(sequence) => {
                let unanswered = Unanswered { starts_at, answer: Some(job.answer), _slot: job.slot };
                self.unanswered.insert(sequence, unanswered);
            }
            Err(_full) => {
                let _ = job.answer.send(PartAnswer::NotSent);
            }
        }
    }

    async fn pass_time(&mut self) -> Result<(), String> {
        // What has arrived meanwhile comes first: an answer that lies in the socket is not overdue.
        match self.read_what_is_here().await {
            Some(Ok(0)) => return Err("the carrier closed the connection".to_owned()),
            Some(Ok(_)) => self.take_events()?,
            None => {}
            Some(Err(e)) => return Err(e.to_string()),
        }
        let overdue = self.session.tick(self.shared.clock.mono(), &mut self.out)?;
        for sequence in overdue {
            let Some(unanswered) = self.unanswered.get_mut(&sequence) else { continue };
            if let Some(answer) = unanswered.answer.take() {
                let _ = answer.send(PartAnswer::Lost("no answer in time".to_owned()));
            }
        }
        Ok(())
    }

    /// Reads without waiting; `None` if nothing is here.
    async fn read_what_is_here(&mut self) -> Option<std::io::Result<usize>> {
        tokio::select! {
            biased;
            // However much this task has done already: there must be no pause between a look and the blame.
            read = tokio::task::unconstrained(self.reader.read_buf(self.session.buffer())) => Some(read),
            () = std::future::ready(()) => None,
        }
    }

    fn take_delivery(&mut self, delivery: DeliveryId, brought: Brought) {
        let (shared, carrier) = (self.shared, &self.shared.options.name);
        let (id, state, words) = match brought {
            Brought::Receipt { id, state, words } => (id, state, words),
            Brought::Handset(read) => return self.take_handset(delivery, read),
            Brought::Unreadable => {
                self.count_unreadable("no id");
                return self.session.answer_delivery(delivery, Reaction::Refused, &mut self.out);
            }
        };
        let receipt = Receipt {
            carrier: Arc::clone(carrier),
            carrier_message_id: id.into(),
            state,
            text: words,
            received_at: shared.clock.now(),
        };
        let (inbound, name) = (Arc::clone(&shared.inbound), Arc::clone(carrier));
        let counted = shared.series.receipts.with_label_values(&[carrier, receipt.state.as_str()]);
        self.receipts.spawn(async move {
            let taken = inbound.receipt(receipt).await;
            if let Err(error) = &taken {
                tracing::warn!(carrier = %name, %error, "a receipt was put off");
            } else {
                counted.inc();
            }
            (delivery, taken.into())
        });
    }

    fn take_handset(&mut self, delivery: DeliveryId, read: FromHandset) {
        let (shared, carrier) = (self.shared, &self.shared.options.name);
        let message = read.message(carrier, shared.clock.now());
        let (inbound, name) = (Arc::clone(&shared.inbound), Arc::clone(carrier));
        self.receipts.spawn(async move {
            let taken = inbound.handset(message).await;
            if let Err(error) = &taken {
                tracing::warn!(carrier = %name, %error, "a message from a handset was put off");
            }
            (delivery, taken.into())
        });
    }

    fn count_unreadable(&self, why: &str) {
        let carrier = &self.shared.options.name;
        tracing::warn!(%carrier, %why, "a receipt that cannot be read was refused");
        self.shared.series.receipts.with_label_values(&[carrier, "unreadable"]).inc();
    }

    /// Parts with the carrier.
    async fn unbind(mut self) -> std::io::Result<()> {
        let mut closing = self.session.close(&mut self.out);
        loop {
            self.writer.say(&mut self.out).await?;
            if closing.is_over(&mut self.out) {
                self.writer.say(&mut self.out).await?;
                return self.writer.half.shutdown().await;
            }
            if self.reader.read_buf(closing.buffer()).await? == 0 {
                return Ok(());
            }
        }
    }
}
