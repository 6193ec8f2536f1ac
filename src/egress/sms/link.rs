//! One bound connection: parts out, answers and receipts in.
//!
//! **Promises.** Ends only after every part handed to it has its [`PartAnswer`]. What waits to be written is bounded; a
//! carrier that does not read is found out by `enquire_link`. At most `receipts_max` receipts are on their way to disk; at
//! that limit nothing is read until one is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::InboundError;
use super::carrier::{Phase, Shared};
use super::dial::Made;
use super::slots::{Job, PartAnswer, Slot};
use crate::model::{Receipt, ReceiptState};
use crate::sms::{self, receipt};
use crate::wire::smpp::session::{Bound, Event, Transceiver};
use crate::wire::smpp::{CommandStatus, Framer, Meaning, ShortMessage, esm_class, tlv};

/// Octets waiting to be written at which nothing more is taken in.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// How long the carrier may take to answer our `unbind`.
const UNBIND_TIMEOUT: Duration = Duration::from_secs(2);

/// How a link ended.
#[derive(Debug)]
pub(super) enum End {
    /// As asked, with nothing unanswered.
    Drained,
    /// Otherwise.
    Broken(String),
}

/// A bound connection.
pub(super) struct Link<'a> {
    shared: &'a Arc<Shared>,
    bind: usize,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    framer: Framer,
    session: Bound<Transceiver>,
    out: BytesMut,
    /// Octets handed to the socket so far.
    written: u64,
    jobs: mpsc::Receiver<Job>,
    unanswered: HashMap<u32, Unanswered>,
    receipts: JoinSet<(u32, CommandStatus)>,
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

/// What woke the link.
#[allow(clippy::large_enum_variant, reason = "one at a time, for one turn of the loop")]
enum Wake {
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Job(Option<Job>),
    Receipt(Option<(u32, CommandStatus)>),
    Phase,
    Time,
}

impl<'a> Link<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, bind: usize, made: Made) -> Self {
        let jobs = shared.slots.up(bind, shared.options.window, made.peer);
        let (reader, writer) = made.stream.into_split();
        Self {
            shared,
            bind,
            reader,
            writer,
            framer: made.framer,
            session: made.session,
            out: BytesMut::new(),
            written: 0,
            jobs,
            unanswered: HashMap::new(),
            receipts: JoinSet::new(),
        }
    }

    /// Serves the link until it breaks or is told to stop.
    pub(super) async fn serve(mut self, phase: &mut watch::Receiver<Phase>) -> End {
        let end = self.exchange(phase).await;
        // In this order: no new jobs, then an answer to each that came.
        self.shared.slots.down(self.bind);
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            let _ = job.answer.send(PartAnswer::NotSent);
        }
        let why = match &end {
            End::Drained => "the link was closed",
            End::Broken(why) => why,
        };
        for (_, unanswered) in self.unanswered.drain() {
            let Some(answer) = unanswered.answer else { continue };
            let sent = self.written > unanswered.starts_at;
            let _ = answer.send(if sent { PartAnswer::Lost(why.to_owned()) } else { PartAnswer::NotSent });
        }
        // Receipts under way may still become durable; unanswered, they will be brought again.
        self.receipts.detach_all();
        if matches!(end, End::Drained) {
            let _ = tokio::time::timeout(UNBIND_TIMEOUT, self.unbind()).await;
        }
        end
    }

    async fn exchange(&mut self, phase: &mut watch::Receiver<Phase>) -> End {
        loop {
            if let Err(why) = self.take_frames() {
                // The carrier's unbind, or a nack, may have an answer waiting.
                let _ = tokio::time::timeout(UNBIND_TIMEOUT, self.writer.write_all_buf(&mut self.out)).await;
                return End::Broken(why);
            }
            let now_phase = *phase.borrow();
            if now_phase == Phase::Closing {
                return End::Broken("closed before all answers had come".to_owned());
            }
            if now_phase == Phase::Draining && self.is_idle() {
                return End::Drained;
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
                    if let Some((sequence, status)) = done {
                        self.session.answer_delivery(sequence, status, &mut self.out);
                    }
                    Ok(())
                }
                Wake::Job(None) => Err("the handle of the link is gone".to_owned()),
                Wake::Time => self.pass_time(),
            };
            if let Err(why) = done {
                return End::Broken(why);
            }
        }
    }

    async fn wake(&mut self, phase: &mut watch::Receiver<Phase>) -> Wake {
        let room = self.out.len() < OUT_BYTES_MAX;
        let receipts_room = self.receipts.len() < self.shared.options.receipts_max;
        let rest = self.session.wakeup().since(self.shared.clock.mono());
        tokio::select! {
            read = self.reader.read_buf(self.framer.buffer()), if room && receipts_room => Wake::Read(read),
            written = self.writer.write_buf(&mut self.out), if !self.out.is_empty() => Wake::Written(written),
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
        self.session.awaited() == 0 && self.receipts.is_empty() && self.out.is_empty() && self.jobs.is_empty()
    }

    /// Understands what has been read.
    fn take_frames(&mut self) -> Result<(), String> {
        while self.receipts.len() < self.shared.options.receipts_max {
            let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(()) };
            let now = self.shared.clock.mono();
            match self.session.receive(frame, now, &mut self.out).map_err(|e| e.to_string())? {
                Event::Answer { sequence, status, message_id, .. } => {
                    if status.meaning() == Meaning::Throttled {
                        self.shared.pace.throttled();
                    }
                    // The answer first, then its slot: whoever waits for the slot may have reason not to use it.
                    let unanswered = self.unanswered.remove(&sequence);
                    match unanswered {
                        Some(Unanswered { answer: Some(answer), _slot, .. }) => {
                            let _ = answer.send(PartAnswer::Answered { status, message_id });
                        }
                        _ => {
                            let carrier = &self.shared.options.name;
                            tracing::warn!(%carrier, %status, %message_id, "an answer came too late");
                            self.shared.series.late.inc();
                        }
                    }
                }
                Event::Delivery { sequence, message } => self.take_delivery(sequence, &message),
                Event::Unbound => return Err("the carrier unbound".to_owned()),
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    fn submit(&mut self, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        let starts_at = self.written + self.out.len() as u64;
        match self.session.submit_sm(job.message, self.shared.clock.mono(), &mut self.out) {
            Ok(sequence) => {
                let unanswered = Unanswered { starts_at, answer: Some(job.answer), _slot: job.slot };
                self.unanswered.insert(sequence, unanswered);
            }
            Err(_full) => {
                let _ = job.answer.send(PartAnswer::NotSent);
            }
        }
    }

    fn pass_time(&mut self) -> Result<(), String> {
        // What has arrived meanwhile comes first: an answer that lies in the socket is not overdue.
        match self.reader.try_read_buf(self.framer.buffer()) {
            Ok(0) => return Err("the carrier closed the connection".to_owned()),
            Ok(_) => self.take_frames()?,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.to_string()),
        }
        let overdue = self.session.tick(self.shared.clock.mono(), &mut self.out).map_err(|e| e.to_string())?;
        for sequence in overdue {
            let Some(unanswered) = self.unanswered.get_mut(&sequence) else { continue };
            if let Some(answer) = unanswered.answer.take() {
                let _ = answer.send(PartAnswer::Lost("no answer in time".to_owned()));
            }
        }
        Ok(())
    }

    fn take_delivery(&mut self, sequence: u32, message: &ShortMessage) {
        let carrier = &self.shared.options.name;
        if !message.is_receipt() {
            // Nobody keeps what handsets send yet; the carrier shall.
            tracing::warn!(%carrier, "a message from a handset was put off");
            self.shared.series.receipts.with_label_values(&[carrier, "handset-message"]).inc();
            self.session.answer_delivery(sequence, CommandStatus::TEMPORARY_APPLICATION_ERROR, &mut self.out);
            return;
        }
        let Some(receipt) = read_receipt(self.shared, message) else {
            tracing::warn!(%carrier, "a receipt without an id was refused");
            self.shared.series.receipts.with_label_values(&[carrier, "unreadable"]).inc();
            self.session.answer_delivery(sequence, CommandStatus::PERMANENT_APPLICATION_ERROR, &mut self.out);
            return;
        };
        let (inbound, name) = (Arc::clone(&self.shared.inbound), Arc::clone(carrier));
        let counted = self.shared.series.receipts.with_label_values(&[carrier, receipt.state.as_str()]);
        self.receipts.spawn(async move {
            let status = match inbound.receipt(receipt).await {
                Ok(()) => {
                    counted.inc();
                    CommandStatus::OK
                }
                Err(error) => {
                    tracing::warn!(carrier = %name, %error, "a receipt was put off");
                    match error {
                        InboundError::Busy => CommandStatus::TEMPORARY_APPLICATION_ERROR,
                        InboundError::Unavailable => CommandStatus::SYSTEM_ERROR,
                    }
                }
            };
            (sequence, status)
        });
    }

    async fn unbind(mut self) -> std::io::Result<()> {
        let unbinding = self.session.unbind(&mut self.out);
        loop {
            self.writer.write_all_buf(&mut self.out).await?;
            while let Ok(Some(frame)) = self.framer.next_frame() {
                if unbinding.receive(&frame, &mut self.out) {
                    self.writer.write_all_buf(&mut self.out).await?;
                    return self.writer.shutdown().await;
                }
            }
            if self.reader.read_buf(self.framer.buffer()).await? == 0 {
                return Ok(());
            }
        }
    }
}

fn read_receipt(shared: &Shared, message: &ShortMessage) -> Option<Receipt> {
    let mut octets = message.octets();
    if message.esm_class & esm_class::UDHI != 0 {
        octets = sms::split_header(octets)?.1;
    }
    let wide = (message.data_coding == 8).then(|| sms::decode(8, octets));
    let text = wide.as_deref().map_or(octets, str::as_bytes);
    let tlv_state = message.tlv(tlv::MESSAGE_STATE).and_then(|value| value.first().copied());
    let read = receipt::parse(text, message.tlv(tlv::RECEIPTED_MESSAGE_ID), tlv_state)?;
    // An intermediate notification is no verdict, whatever state it names.
    let intermediate = message.esm_class & esm_class::TYPE == esm_class::INTERMEDIATE;
    Some(Receipt {
        carrier: Arc::clone(&shared.options.name),
        carrier_message_id: read.id.into(),
        state: if intermediate { ReceiptState::Underway } else { read.state },
        text: read.words,
        received_at: shared.clock.now(),
    })
}
