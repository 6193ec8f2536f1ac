//! The relay's end of the control socket.
//!
//! **Promises.** The socket appears under its name with its permissions set and ready to answer, all at once; a stale one
//! is replaced, a live one and a file that is no socket are left alone. It is removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::answer;
use super::protocol::{
    OptOutOrder, RESPONSE_BYTES_MAX, RequestLine, Response, ResponseLine, Status, VERSION, read_request,
};
use crate::egress::email::TlsReportsView;
use crate::egress::email::WarmupView;
use crate::ingress::http::listen::told_to_stop;
use crate::model::Class;
use crate::policy::opt_outs::{OptOut, Whom};
use crate::queue::MessageView;
use crate::queue::steer::{RuleView, Sentence, Swept};
use crate::queue::steering::{Order, Rule, Selector, SteerError, Which};
use crate::queue::view::QueueView;
use crate::route::PortedNumber;

/// What an operator may do. All calls come on threads that may block.
pub trait Operator: Send + Sync + 'static {
    /// What waits; at most `lanes_max` lanes.
    fn queue(&self, lanes_max: usize) -> QueueView;

    /// Messages that match an id or an address, newest first, at most `most`.
    fn explain(&self, what: &str, most: usize) -> Vec<MessageView>;

    /// Stops sending (`true`) or lets it go on.
    fn hold(&self, held: bool, by: &str);

    /// Makes what waits for a retry due now; returns how many recipients.
    ///
    /// # Errors
    /// What is wrong with the selector.
    fn flush(&self, selector: Selector, by: &str) -> Result<u64, SteerError>;

    /// Makes a rule.
    ///
    /// # Errors
    /// Why it is not in force.
    fn order(&self, order: Order, by: &str) -> Result<Rule, SteerError>;

    /// Ends a rule that was made by the command `action`.
    ///
    /// # Errors
    /// Why it was not ended for good.
    fn end_rule(&self, action: &str, which: Which, by: &str) -> Result<Rule, SteerError>;

    /// The rules in force.
    fn rules(&self) -> Vec<RuleView>;

    /// Ends what waits without an attempt, and tells how far it is.
    ///
    /// # Errors
    /// What is wrong with the sentence.
    fn sweep(&self, sentence: Sentence, by: &str, tell: &mut dyn FnMut(Swept)) -> Result<Swept, SteerError>;

    /// How far sources are warmed up.
    fn warmup(&self) -> Vec<WarmupView>;

    /// Puts a source on a day of its plan, towards one provider or all; returns how far it is then.
    ///
    /// # Errors
    /// If it is no source with a plan, or no provider.
    fn reset_warmup(&self, source: &str, provider: Option<&str>, day: u32, by: &str)
    -> Result<Vec<WarmupView>, String>;

    /// What became of TLS with mail hosts since the day began; at most `domains_max` domains.
    fn tls_reports(&self, domains_max: usize) -> TlsReportsView;

    /// Ends the period that is counted and has its reports sent, and those that wait; returns how many.
    ///
    /// # Errors
    /// Why none will be sent.
    fn send_tls_reports(&self, by: &str) -> Result<u64, String>;

    /// Who has opted out of texts, of one number or of the first by number; at most `most` entries, and how many fit in all.
    ///
    /// # Errors
    /// If it is no number.
    fn opt_outs(&self, number: Option<&str>, most: usize) -> Result<(Vec<OptOut>, u64), String>;

    /// Puts a number on the list of opt-outs; the entry, if it was not there.
    ///
    /// # Errors
    /// Why it is not on the list.
    fn add_opt_out(&self, order: OptOutOrder, by: &str) -> Result<Option<OptOut>, String>;

    /// Takes a number's entries off the list, all of them or those that are named; what that was.
    ///
    /// # Errors
    /// Why they are not off the list.
    fn remove_opt_outs(
        &self,
        number: &str,
        whom: Option<Whom>,
        class: Option<Class>,
        by: &str,
    ) -> Result<Vec<OptOut>, String>;

    /// What carriers say of numbers' networks, of one number or of the newest; at most `most`, and how many there are.
    ///
    /// # Errors
    /// If it is no number.
    fn ported(&self, number: Option<&str>, most: usize) -> Result<(Vec<PortedNumber>, u64), String>;

    /// Forgets what is known of a number's network; what that was.
    ///
    /// # Errors
    /// Why it is not forgotten.
    fn forget_ported(&self, number: &str, by: &str) -> Result<Option<PortedNumber>, String>;

    /// Reads the configuration again; returns what cannot change without a restart, a sentence each.
    ///
    /// # Errors
    /// All that is wrong with the new configuration; the old one stays in force.
    fn reload(&self) -> Result<Vec<String>, String>;

    /// How the relay is.
    fn status(&self) -> Status;
}

/// The control socket, listening.
#[derive(Debug)]
pub struct ControlSocket<O: ?Sized> {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    operator: Arc<O>,
}

impl<O: Operator + ?Sized> ControlSocket<O> {
    /// Creates the socket at `path`; to be called within a tokio runtime, by the holder of the data directory's lock.
    ///
    /// # Errors
    /// `AddrInUse` if somebody answers there, `AlreadyExists` if something else than a socket has the name,
    /// `InvalidInput` if the path is too long for a socket; and what the operating system says.
    pub fn bind(path: &Path, operator: Arc<O>) -> io::Result<Self> {
        make_room(path)?;
        let fresh = path.with_extension("new");
        remove_if_there(&fresh)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&fresh).map_err(|_| too_long(&fresh))?)?;
        // Nobody can connect before listen, so there is no moment at which others than the owner could.
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket.into())?;
        std::fs::rename(&fresh, path)?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok(Self { listener, path: path.to_owned(), inode, operator })
    }

    /// Answers until `shutdown` turns true, then removes the socket.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let taken = tokio::select! {
                biased;
                () = told_to_stop(&mut shutdown) => break,
                taken = take(&self.listener, &places) => taken,
            };
            while connections.try_join_next().is_some() {}
            match taken {
                Ok((stream, place)) => {
                    let operator = self.operator.clone();
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, operator).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control connection could not be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
        // Whoever is still silent then is cut off.
        let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// Takes a connection once there is a place for it; until then the commands wait.
async fn take(listener: &UnixListener, places: &Arc<Semaphore>) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Answers the requests of one connection.
async fn converse<O: Operator + ?Sized>(stream: UnixStream, operator: Arc<O>) -> io::Result<()> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX);
        let read = timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let request =
            if whole { read_request(&line) } else { Err("a request line is too long, or broke off".to_owned()) };
        let response = match request {
            Ok(RequestLine { by, request, .. }) => {
                let (operator, by) = (operator.clone(), named(by, uid));
                // One place: what its reader is too slow for is not told.
                let (told, mut tell) = mpsc::channel(1);
                let answered = tokio::task::spawn_blocking(move || {
                    let mut tell = |swept| drop(told.try_send(Response::Sweeping(swept)));
                    let answered = answer(&*operator, request, &by, &mut tell);
                    answered.unwrap_or_else(|unserved| Response::Error { why: unserved.to_string() })
                });
                while let Some(response) = tell.recv().await {
                    timeout(IDLE, writer.write_all(&response_line(response)?)).await??;
                }
                answered.await.map_err(io::Error::other)?
            }
            Err(why) => Response::Error { why },
        };
        timeout(IDLE, writer.write_all(&response_line(response)?)).await??;
        if !whole {
            return Ok(());
        }
    }
}

pub(super) fn response_line(response: Response) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&ResponseLine { v: VERSION, response })?;
    if line.len() >= RESPONSE_BYTES_MAX {
        let why = "the answer is too long: ask for less".to_owned();
        line = serde_json::to_vec(&ResponseLine { v: VERSION, response: Response::Error { why } })?;
    }
    line.push(b'\n');
    Ok(line)
}

/// Who asks: the name that the command gave and the user id that the kernel knows.
fn named(by: Option<String>, uid: Option<u32>) -> String {
    let by = by.unwrap_or_default();
    let by: String = by.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    match (by.is_empty(), uid) {
        (true, Some(uid)) => format!("uid {uid}"),
        (false, Some(uid)) => format!("{by} (uid {uid})"),
        (_, None) => by,
    }
}

/// Refuses to displace anything but a dead socket.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let why = format!("{} is in the way and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    if StdUnixStream::connect(path).is_ok() {
        let why = format!("another relay answers on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn too_long(path: &Path) -> io::Error {
    let why = format!("{} is too long for a socket: choose a shorter data_dir", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Longest request line, line end included.
pub(super) const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a name that a command gives itself.
const NAME_CHARS_MAX: usize = 64;
/// Most connections at once.
pub(super) const CONNECTIONS_MAX: usize = 16;
/// Connections the kernel keeps for us.
const BACKLOG: i32 = 16;
/// How long a connection may be silent, and how long an answer may wait for its reader.
const IDLE: Duration = Duration::from_secs(30);
/// Time for answers in flight at the end.
const DRAIN: Duration = Duration::from_secs(1);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
