//! One connection of the simulated carrier, whatever it speaks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::faults::{ANSWER_LAG, Fault, GATHERED_FOR, Gate};
use super::receipts::{Spoken, Waiting};
use super::talk::{Over, Said, Submission, Talk, Verdict};
use super::{ReceivedText, Shared, count, http};
use crate::clock::Mono;
use crate::model::ReceiptState;

/// How long a connection may stay without a bind.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers held back at which reading stops.
const ANSWERS_MAX: usize = 8_192;
/// Octets waiting to be written at which reading stops.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Receipts unanswered at a time: that of CMPP and SMGP; SGIP has twice that, and SMPP sets none.
const RECEIPTS_WINDOW: usize = 16;
/// Highest sequence number: SMPP's, and enough for the others.
const SEQUENCE_MAX: u32 = 0x7FFF_FFFF;

/// The first octet of TLS (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// The number of links that we make ourselves: no texts come over them.
const CALLS: u64 = u64::MAX;

/// Serves a connection that a client has made until either side ends it; `link` is its number.
pub(super) async fn serve(stream: TcpStream, link: u64, shared: Arc<Shared>) {
    // A method of HTTP begins with a letter, the length of a PDU with 0.
    let mut first = [0];
    let Ok(Ok(1)) = tokio::time::timeout(BIND_TIMEOUT, stream.peek(&mut first)).await else { return };
    // Answers must not wait for each other's acknowledgement.
    let _ = stream.set_nodelay(true);
    match (first[0], shared.options.tls.clone()) {
        (TLS_HANDSHAKE, Some(config)) => {
            let securing = tokio::time::timeout(BIND_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
            if let Ok(Ok(secured)) = securing {
                run(secured, link, Talk::new(), BytesMut::new(), shared).await;
            }
        }
        (first, _) if first.is_ascii_alphabetic() => http::serve(stream, link, shared).await,
        _ => run(stream, link, Talk::new(), BytesMut::new(), shared).await,
    }
}

/// The same, of one that we have made to a client of SGIP.
pub(super) async fn call(stream: TcpStream, shared: Arc<Shared>) {
    let mut out = BytesMut::new();
    let talk = Talk::calling(&shared, &mut out);
    let _ = stream.set_nodelay(true);
    run(stream, CALLS, talk, out, shared).await;
}

async fn run<S>(stream: S, link: u64, talk: Talk, out: BytesMut, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let opened = shared.clock.mono();
    let mut connection = Connection {
        link,
        reader,
        writer,
        unflushed: false,
        talk,
        gate: Gate::new(&shared.options.faults),
        out,
        answers: VecDeque::new(),
        bind_deadline: opened.plus(BIND_TIMEOUT),
        outstanding: Outstanding { shared: Arc::clone(&shared), by_sequence: HashMap::new() },
        last_sequence: 0,
        shared,
    };
    // However it ended, what is left to say is said, and receipts without an answer go back.
    let _ = connection.exchange().await;
    if link == CALLS && !connection.talk.is_bound() {
        count(&connection.shared.counters.calls_refused);
    }
    let Connection { mut writer, mut out, .. } = connection;
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        writer.write_all_buf(&mut out).await?;
        writer.shutdown().await
    })
    .await;
}

impl Shared {
    /// Why the `nth` part of all is not taken.
    pub(super) fn judge(&self, nth: u64, spoken: Spoken) -> Option<Verdict> {
        let (options, counters) = (&self.options, &self.counters);
        if nth <= options.throttle_first || fastrand::f64() < options.throttle_share {
            count(&counters.throttled);
            return Some(Verdict::Throttled);
        }
        if fastrand::f64() < options.refuse_share {
            count(&counters.refused);
            return Some(Verdict::Refused);
        }
        if self.receipts.of(spoken).is_full() {
            count(&counters.queue_full);
            return Some(Verdict::QueueFull);
        }
        None
    }
}

struct Connection<S> {
    link: u64,
    shared: Arc<Shared>,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// TLS may have kept some of what was written.
    unflushed: bool,
    talk: Talk,
    gate: Gate,
    out: BytesMut,
    /// Answers held back, with the time each is due.
    answers: VecDeque<(Mono, Bytes)>,
    bind_deadline: Mono,
    outstanding: Outstanding,
    last_sequence: u32,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection<S> {
    async fn exchange(&mut self) -> Result<(), Over> {
        let shared = Arc::clone(&self.shared);
        loop {
            while let Some(said) = self.talk.next(&shared, &mut self.out)? {
                self.act(said).await?;
            }
            // Registered before looking, so that no receipt is missed.
            let added = shared.receipts.of(self.talk.spoken()).added();
            tokio::pin!(added);
            added.as_mut().enable();
            let now = shared.clock.mono();
            if !self.talk.is_bound() && now >= self.bind_deadline {
                return Err(Over);
            }
            self.release_answers(now);
            self.bring_receipts(now);
            let passes = self.gate.passes(&self.out, now);
            let rest = self.wakeup(now);
            let room = self.answers.len() < ANSWERS_MAX && self.out.len() < OUT_BYTES_MAX;
            tokio::select! {
                read = self.reader.read_buf(self.talk.buffer()), if room => {
                    if read.map_err(|_| Over)? == 0 {
                        return Err(Over);
                    }
                }
                written = write(&mut self.writer, &self.out[..passes]), if passes > 0 || self.unflushed => {
                    let octets = written.map_err(|_| Over)?;
                    self.unflushed = octets > 0;
                    self.out.advance(octets);
                    if octets > 0 && self.gate.passed(octets, shared.clock.mono()) {
                        count(&shared.counters.faults);
                    }
                }
                () = added => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn act(&mut self, said: Said) -> Result<(), Over> {
        match said {
            Said::Submission(sequence, submission) => {
                let nth = self.shared.counters.submissions.fetch_add(1, Ordering::Relaxed) + 1;
                let answer = match self.shared.judge(nth, self.talk.spoken()) {
                    None => self.take(sequence, submission).await,
                    Some(verdict) => self.talk.refused(&self.shared, sequence, verdict),
                };
                if self.shared.options.faults.silences(nth) {
                    count(&self.shared.counters.faults);
                } else {
                    self.hold_back(answer)?;
                }
            }
            Said::Impossible(sequence, verdict) => {
                let answer = self.talk.refused(&self.shared, sequence, verdict);
                self.hold_back(answer)?;
            }
            Said::ReceiptAnswered { sequence, taken } => self.outstanding.answered(sequence, taken),
            Said::Unbind(sequence) => {
                // What was held back is said first.
                self.release_answers(Mono(u64::MAX));
                self.talk.unbound(sequence, &mut self.out);
                return Err(Over);
            }
            Said::Nothing => {}
        }
        Ok(())
    }

    /// Holds the answer to a part back until it is due.
    fn hold_back(&mut self, answer: Bytes) -> Result<(), Over> {
        let (options, shared) = (&self.shared.options, &self.shared);
        let mut latency = options.latency;
        for (fault, least) in [(Fault::ReceiptBeforeAnswer, ANSWER_LAG), (Fault::OutOfOrder, GATHERED_FOR)] {
            latency = if options.faults.has(fault) { latency.max(least) } else { latency };
        }
        self.answers.push_back((shared.clock.mono().plus(latency), answer));
        if options.faults.closes(self.answers.len()) && !shared.has_closed.swap(true, Ordering::Relaxed) {
            count(&shared.counters.faults);
            return Err(Over);
        }
        Ok(())
    }

    /// Takes a part; the answer to it.
    async fn take(&mut self, sequence: u32, submission: Submission) -> Bytes {
        let shared = &self.shared;
        let (id, answer) = self.talk.taken(shared, sequence);
        count(&shared.counters.taken);
        let whole = shared.assembly.lock().take(&submission);
        if let Some(text) = whole {
            count(&shared.counters.texts);
            self.reply(&submission, &text);
            if let Some(received) = &shared.options.received {
                // Nobody listens any more: the text is counted all the same.
                let _ = received.send(text).await;
            }
        }
        if submission.wants_receipt {
            let (options, now) = (&shared.options, shared.clock.mono());
            let undeliverable = fastrand::f64() < options.undeliverable_share;
            let early = shared.plays(Fault::ReceiptBeforeAnswer);
            let receipt = Waiting {
                spoken: self.talk.spoken(),
                link: self.link,
                due: if early { now } else { now.plus(options.latency).plus(options.receipt_delay) },
                id,
                tries: 0,
                state: if undeliverable { ReceiptState::Undeliverable } else { ReceiptState::Delivered },
                submitted: shared.clock.now(),
                source: submission.source,
                destination: submission.destination,
                reply: None,
                url: None,
            };
            let receipts = shared.receipts.of(receipt.spoken);
            if shared.plays(Fault::Twice) {
                receipts.put(receipt.clone());
            }
            receipts.put(receipt);
        }
        answer
    }

    /// The handset that got a whole text may have something to say.
    fn reply(&self, last: &Submission, text: &ReceivedText) {
        let shared = &self.shared;
        for reply in shared.options.replies.iter().filter(|reply| reply.number == text.destination) {
            let reference = u8::try_from(shared.ids.fetch_add(1, Ordering::Relaxed) & 0xFF).unwrap_or_default();
            for part in reply.parts(reference) {
                shared.receipts.of(self.talk.spoken()).put(Waiting {
                    spoken: self.talk.spoken(),
                    link: self.link,
                    due: shared.clock.mono().plus(shared.options.latency).plus(shared.options.receipt_delay),
                    id: shared.ids.fetch_add(1, Ordering::Relaxed).into(),
                    tries: 0,
                    state: ReceiptState::Delivered,
                    submitted: shared.clock.now(),
                    source: last.source.clone(),
                    destination: last.destination.clone(),
                    reply: Some(part),
                    url: None,
                });
            }
        }
    }

    fn release_answers(&mut self, now: Mono) {
        let is_due = self.answers.front().is_some_and(|(due, _)| *due <= now);
        if is_due && self.answers.len() > 1 && self.shared.plays(Fault::OutOfOrder) {
            // Those that are not due yet make the disorder.
            self.answers.drain(..).rev().for_each(|(_, answer)| self.out.extend_from_slice(&answer));
        }
        while self.answers.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, answer)) = self.answers.pop_front() {
                self.out.extend_from_slice(&answer);
            }
        }
    }

    /// The link whose receipts are not brought here.
    fn not_of(&self) -> Option<u64> {
        self.shared.options.faults.has(Fault::ReceiptOnAnotherLink).then_some(self.link)
    }

    fn may_bring(&self) -> bool {
        self.talk.may_receive() && self.outstanding.by_sequence.len() < RECEIPTS_WINDOW
    }

    fn bring_receipts(&mut self, now: Mono) {
        while self.may_bring() {
            let Some(receipt) = self.shared.receipts.of(self.talk.spoken()).take(now, self.not_of()) else { return };
            self.last_sequence = if self.last_sequence >= SEQUENCE_MAX { 1 } else { self.last_sequence + 1 };
            let at = self.shared.clock.now();
            self.talk.bring(&self.shared, self.last_sequence, &receipt, at, &mut self.out);
            if receipt.reply.is_none() {
                count(&self.shared.counters.receipts_sent);
            }
            self.outstanding.by_sequence.insert(self.last_sequence, receipt);
            let _ = self.shared.plays(Fault::ReceiptOnAnotherLink);
        }
    }

    /// How long nothing happens unless somebody speaks.
    fn wakeup(&self, now: Mono) -> Duration {
        let answer = self.answers.front().map(|(due, _)| *due);
        let receipts = self.shared.receipts.of(self.talk.spoken());
        let receipt = if self.may_bring() { receipts.next_due(self.not_of()) } else { None };
        let gate = self.gate.opens().filter(|opens| *opens > now);
        let bind = if self.talk.is_bound() { None } else { Some(self.bind_deadline) };
        let first = [answer, receipt, bind, gate].into_iter().flatten().min();
        first.map_or(Duration::from_secs(3_600), |first| first.since(now))
    }
}

/// Writes some of it; what was written before leaves for good where there is nothing more. May be dropped at any time.
async fn write(writer: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> std::io::Result<usize> {
    if octets.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(octets).await
}

/// Receipts sent on this connection and not answered. Dropped, they go back to wait, also when the task is aborted.
struct Outstanding {
    shared: Arc<Shared>,
    by_sequence: HashMap<u32, Waiting>,
}

impl Outstanding {
    fn answered(&mut self, sequence: u32, taken: bool) {
        let Some(receipt) = self.by_sequence.remove(&sequence) else { return };
        if taken {
            let counters = &self.shared.counters;
            count(if receipt.reply.is_some() {
                &counters.replies_acknowledged
            } else {
                &counters.receipts_acknowledged
            });
        } else {
            self.put_off(receipt);
        }
    }

    fn put_off(&self, mut receipt: Waiting) {
        let (options, counters) = (&self.shared.options, &self.shared.counters);
        receipt.tries += 1;
        if receipt.tries >= options.receipt_tries_max {
            count(&counters.receipts_given_up);
            return;
        }
        count(if receipt.reply.is_some() { &counters.replies_put_off } else { &counters.receipts_put_off });
        receipt.due = self.shared.clock.mono().plus(options.receipt_retry);
        self.shared.receipts.of(receipt.spoken).put(receipt);
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        for (_, receipt) in std::mem::take(&mut self.by_sequence) {
            self.put_off(receipt);
        }
    }
}
