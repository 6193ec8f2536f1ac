//! A command's end of the control socket: blocking, since a command has nothing else to do.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{RESPONSE_BYTES_MAX, Request, RequestLine, Response, VERSION, read_response};
use crate::queue::steer::Swept;

/// Why there is no answer.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody listens on that socket.
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket belongs to somebody else.
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// The relay says no.
    Refused {
        /// Why.
        why: String,
    },
    /// The answer cannot be understood.
    Protocol {
        /// Why.
        why: String,
    },
    /// The conversation broke off, or took too long.
    Io(io::Error),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { path } => {
                let directory = path.parent().unwrap_or(path);
                write!(f, "no relay is running on {}", directory.display())
            }
            Self::PermissionDenied { path } => {
                write!(f, "permission denied on {}: run this as the relay's user", path.display())
            }
            Self::Refused { why } => f.write_str(why),
            Self::Protocol { why } => write!(f, "the relay's answer cannot be understood: {why}"),
            Self::Io(error) if is_timeout(error) => {
                write!(f, "the relay did not answer within {} seconds", PATIENCE.as_secs())
            }
            Self::Io(error) => write!(f, "the relay's answer broke off: {error}"),
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Asks the relay that listens on the socket at `path`, in the name of `by`, and waits for its answer, at most half a minute.
///
/// # Errors
/// [`ControlError`]; a [`Response::Error`] comes as [`ControlError::Refused`].
pub fn call(path: &Path, by: Option<String>, request: &Request) -> Result<Response, ControlError> {
    call_telling(path, by, request, |_| {})
}

/// As [`call`], for what takes longer: `tell` is told how far the relay is, and it may take half a minute from one word to the
/// next.
///
/// # Errors
/// As [`call`].
pub fn call_telling(
    path: &Path,
    by: Option<String>,
    request: &Request,
    mut tell: impl FnMut(Swept),
) -> Result<Response, ControlError> {
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { path: path.to_owned() }
        }
        io::ErrorKind::PermissionDenied => ControlError::PermissionDenied { path: path.to_owned() },
        _ => ControlError::Io(error),
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(ControlError::Io)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(ControlError::Io)?;
    let mut line = serde_json::to_vec(&RequestLine { v: VERSION, by, request })
        .map_err(|e| ControlError::Protocol { why: e.to_string() })?;
    line.push(b'\n');
    stream.write_all(&line).map_err(ControlError::Io)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut reply = Vec::new();
        (&mut stream).take(RESPONSE_BYTES_MAX as u64).read_until(b'\n', &mut reply).map_err(ControlError::Io)?;
        if reply.last() != Some(&b'\n') {
            return Err(ControlError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        match read_response(&reply) {
            Ok(Response::Sweeping(swept)) => tell(swept),
            Ok(Response::Error { why }) => return Err(ControlError::Refused { why }),
            Ok(response) => return Ok(response),
            Err(why) => return Err(ControlError::Protocol { why }),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// How long to wait for the relay.
const PATIENCE: Duration = Duration::from_secs(30);
