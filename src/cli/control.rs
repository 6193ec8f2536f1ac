//! How commands reach the running relay: the control socket in its data directory.

use std::path::PathBuf;

use super::{Failure, output};
use crate::admin::control::{self, Request, Response};
use crate::config::Config;

/// Which relay is meant.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The relay's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The relay's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Which {
    /// Asks the relay.
    pub(super) fn ask(&self, request: &Request) -> Result<Response, Failure> {
        control::call(&self.socket()?, request).map_err(Failure::failed)
    }

    /// The configuration is read for its `data_dir` only: who may use the socket need not be allowed to read keys.
    fn socket(&self) -> Result<PathBuf, Failure> {
        let data_dir = match (&self.data_dir, &self.config) {
            (Some(dir), _) => dir.clone(),
            (None, Some(file)) => Config::data_dir(file).map_err(Failure::failed)?,
            (None, None) => return Err(Failure::Usage("say --config FILE or --data-dir DIR".to_owned())),
        };
        Ok(data_dir.join(control::SOCKET_NAME))
    }

    /// Holds sending or lets it go on, and says how it is now.
    pub(super) fn hold(&self, held: bool) -> Result<(), Failure> {
        match self.ask(if held { &Request::Pause } else { &Request::Resume })? {
            Response::Held { held: true } => Ok(output::print("paused: messages are accepted and kept, none is sent")?),
            Response::Held { held: false } => Ok(output::print("sending")?),
            other => Err(unexpected(&other)),
        }
    }
}

/// An answer to another question.
pub(super) fn unexpected(response: &Response) -> Failure {
    let kind = match response {
        Response::Queue(_) => "a queue",
        Response::Messages { .. } => "messages",
        Response::Held { .. } => "held or not",
        Response::Flushed { .. } => "a flush",
        Response::Reloaded { .. } => "a reload",
        Response::Status(_) => "a status",
        Response::Error { why } => why,
    };
    Failure::Failed(format!("the relay answered another question: {kind}"))
}
