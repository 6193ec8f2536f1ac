//! One connection of the simulated carrier.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::receipts::Waiting;
use super::{IdForm, Shared, Simulated, count};
use crate::clock::Mono;
use crate::model::{MessageId, ReceiptState};
use crate::wire::smpp::{
    Bind, Body, COctets, CommandStatus, Framer, Pdu, PduError, SEQUENCE_MAX, ShortMessage, command,
};

/// How long a connection may stay without a bind.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers held back at which reading stops.
const ANSWERS_MAX: usize = 8_192;
/// Octets waiting to be written at which reading stops.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Receipts unanswered at a time.
const RECEIPTS_WINDOW: usize = 32;

/// Serves a connection until either side ends it.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let opened = shared.clock.mono();
    let mut connection = Connection {
        reader,
        writer,
        framer: Framer::new(),
        out: BytesMut::new(),
        answers: VecDeque::new(),
        bound_by: None,
        bind_deadline: opened.plus(BIND_TIMEOUT),
        receipts: Outstanding { shared: Arc::clone(&shared), by_sequence: HashMap::new() },
        last_sequence: 0,
        shared,
    };
    // However it ended, what is left to say is said, and receipts without an answer go back.
    let _ = connection.exchange().await;
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.writer.write_all_buf(&mut connection.out)).await;
}

struct Connection {
    shared: Arc<Shared>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    framer: Framer,
    out: BytesMut,
    /// Answers held back, with the time each is due.
    answers: VecDeque<(Mono, Pdu)>,
    /// The command that bound it.
    bound_by: Option<u32>,
    bind_deadline: Mono,
    receipts: Outstanding,
    last_sequence: u32,
}

/// Receipts sent on this connection and not answered. Dropped, they go back to wait, also when the task is aborted.
struct Outstanding {
    shared: Arc<Shared>,
    by_sequence: HashMap<u32, Waiting>,
}

/// The connection is over.
struct Over;

impl Connection {
    async fn exchange(&mut self) -> Result<(), Over> {
        let shared = Arc::clone(&self.shared);
        loop {
            while let Some(frame) = self.framer.next_frame().map_err(|_| Over)? {
                self.receive(Pdu::decode(frame)).await?;
            }
            // Registered before looking, so that no receipt is missed.
            let added = shared.receipts.added();
            tokio::pin!(added);
            added.as_mut().enable();
            let now = shared.clock.mono();
            if self.bound_by.is_none() && now >= self.bind_deadline {
                return Err(Over);
            }
            self.release_answers(now);
            self.bring_receipts(now);
            let rest = self.wakeup(now);
            let room = self.answers.len() < ANSWERS_MAX && self.out.len() < OUT_BYTES_MAX;
            tokio::select! {
                read = self.reader.read_buf(self.framer.buffer()), if room => {
                    if read.map_err(|_| Over)? == 0 {
                        return Err(Over);
                    }
                }
                written = self.writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written.map_err(|_| Over)?;
                }
                () = added => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn receive(&mut self, pdu: Result<Pdu, PduError>) -> Result<(), Over> {
        let pdu = match pdu {
            Ok(pdu) => pdu,
            Err(e) => {
                if e.command_id & command::RESPONSE == 0 {
                    Pdu::generic_nack(e.sequence, CommandStatus::INVALID_COMMAND_LENGTH).encode(&mut self.out);
                }
                return Ok(());
            }
        };
        let (command_id, sequence, status) = (pdu.command_id(), pdu.sequence(), pdu.status());
        let response = pdu.is_response();
        match pdu.into_body() {
            Body::Bind(bind) => self.bind(command_id, sequence, &bind),
            Body::SubmitSm(message) => self.submit(sequence, message).await,
            Body::DeliverSmResp => self.receipts.answered(sequence, status),
            Body::GenericNack => self.receipts.answered(sequence, CommandStatus::SYSTEM_ERROR),
            Body::EnquireLink => Pdu::enquire_link_resp(sequence).encode(&mut self.out),
            Body::Unbind => {
                // What was held back is said first.
                self.release_answers(Mono(u64::MAX));
                Pdu::unbind_resp(sequence).encode(&mut self.out);
                return Err(Over);
            }
            _ if response => {}
            _ => Pdu::generic_nack(sequence, CommandStatus::INVALID_COMMAND_ID).encode(&mut self.out),
        }
        Ok(())
    }

    fn bind(&mut self, command_id: u32, sequence: u32, bind: &Bind) {
        let options = &self.shared.options;
        let status = if self.bound_by.is_some() {
            CommandStatus::ALREADY_BOUND
        } else if options.system_id.is_empty() {
            CommandStatus::OK
        } else if bind.system_id.as_bytes() != options.system_id.as_bytes() {
            CommandStatus::INVALID_SYSTEM_ID
        } else if !options.password.matches(bind.password.as_bytes()) {
            CommandStatus::INVALID_PASSWORD
        } else {
            CommandStatus::OK
        };
        if status == CommandStatus::OK {
            self.bound_by = Some(command_id);
            count(&self.shared.counters.binds);
        } else {
            count(&self.shared.counters.binds_refused);
        }
        let name = COctets::new("system_id", "simulator").unwrap_or_default();
        Pdu::bind_resp(command_id, sequence, status, name).encode(&mut self.out);
    }

    async fn submit(&mut self, sequence: u32, message: ShortMessage) {
        let may_submit = matches!(self.bound_by, Some(command::BIND_TRANSCEIVER | command::BIND_TRANSMITTER));
        let answer = if may_submit {
            match self.judge() {
                CommandStatus::OK => self.take(sequence, message).await,
                refusal => Pdu::submit_sm_refused(sequence, refusal),
            }
        } else {
            Pdu::submit_sm_refused(sequence, CommandStatus::INVALID_BIND_STATUS)
        };
        self.answers.push_back((self.shared.clock.mono().plus(self.shared.options.latency), answer));
    }

    /// Whether this submission is taken.
    fn judge(&self) -> CommandStatus {
        let (options, counters) = (&self.shared.options, &self.shared.counters);
        let before = counters.submissions.fetch_add(1, Ordering::Relaxed);
        if before < options.throttle_first || fastrand::f64() < options.throttle_share {
            count(&counters.throttled);
            return CommandStatus::THROTTLED;
        }
        if fastrand::f64() < options.refuse_share {
            count(&counters.refused);
            return options.refuse_status;
        }
        if self.shared.receipts.is_full() {
            count(&counters.queue_full);
            return CommandStatus::MESSAGE_QUEUE_FULL;
        }
        CommandStatus::OK
    }

    async fn take(&mut self, sequence: u32, message: ShortMessage) -> Pdu {
        let shared = &self.shared;
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        count(&shared.counters.taken);
        let whole = shared.assembly.lock().take(&message);
        if let Some(text) = whole {
            count(&shared.counters.texts);
            if let Some(received) = &shared.options.received {
                // Nobody listens any more: the text is counted all the same.
                let _ = received.send(text).await;
            }
        }
        if message.registered_delivery & 1 != 0 {
            let undeliverable = fastrand::f64() < shared.options.undeliverable_share;
            shared.receipts.put(Waiting {
                due: shared.clock.mono().plus(shared.options.latency).plus(shared.options.receipt_delay),
                id,
                tries: 0,
                state: if undeliverable { ReceiptState::Undeliverable } else { ReceiptState::Delivered },
                submitted: shared.clock.now(),
                source: message.source,
                destination: message.destination,
            });
        }
        let written = match shared.options.ids {
            IdForm::Decimal => id.to_string(),
            IdForm::HexThenDecimal => format!("{id:X}"),
        };
        let simulated = Simulated(MessageId::from_bytes(u128::from(id).to_be_bytes()));
        Pdu::submit_sm_taken(sequence, &simulated, COctets::new("message_id", &written).unwrap_or_default())
    }

    fn release_answers(&mut self, now: Mono) {
        while self.answers.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, answer)) = self.answers.pop_front() {
                answer.encode(&mut self.out);
            }
        }
    }

    fn may_bring(&self) -> bool {
        matches!(self.bound_by, Some(command::BIND_TRANSCEIVER | command::BIND_RECEIVER))
            && self.receipts.by_sequence.len() < RECEIPTS_WINDOW
    }

    fn bring_receipts(&mut self, now: Mono) {
        while self.may_bring() {
            let Some(receipt) = self.shared.receipts.take(now) else { return };
            self.last_sequence = if self.last_sequence >= SEQUENCE_MAX { 1 } else { self.last_sequence + 1 };
            let options = &self.shared.options;
            let message = receipt.message(options.ids, options.receipt_tlvs, self.shared.clock.now());
            Pdu::deliver_sm(self.last_sequence, message).encode(&mut self.out);
            self.receipts.by_sequence.insert(self.last_sequence, receipt);
            count(&self.shared.counters.receipts_sent);
        }
    }

    /// How long nothing happens unless somebody speaks.
    fn wakeup(&self, now: Mono) -> Duration {
        let answer = self.answers.front().map(|(due, _)| *due);
        let receipt = if self.may_bring() { self.shared.receipts.next_due() } else { None };
        let bind = if self.bound_by.is_none() { Some(self.bind_deadline) } else { None };
        let first = [answer, receipt, bind].into_iter().flatten().min();
        first.map_or(Duration::from_secs(3_600), |first| first.since(now))
    }
}

impl Outstanding {
    fn answered(&mut self, sequence: u32, status: CommandStatus) {
        let Some(receipt) = self.by_sequence.remove(&sequence) else { return };
        if status == CommandStatus::OK {
            count(&self.shared.counters.receipts_acknowledged);
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
        count(&counters.receipts_put_off);
        receipt.due = self.shared.clock.mono().plus(options.receipt_retry);
        self.shared.receipts.put(receipt);
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        for (_, receipt) in std::mem::take(&mut self.by_sequence) {
            self.put_off(receipt);
        }
    }
}
