//! How commands reach the running relay: the control socket in its data directory.

use std::path::PathBuf;

use serde_json::json;

use super::{Failure, output};
use crate::admin::control::{self, Request, Response};
use crate::config::Config;
use crate::queue::steer::Swept;
use crate::queue::steering::{self, Rule, Selector};

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
        control::call(&self.socket()?, by(), request).map_err(Failure::failed)
    }

    /// Asks for something that takes longer, and is told how far it is.
    pub(super) fn ask_telling(&self, request: &Request, tell: impl FnMut(Swept)) -> Result<Response, Failure> {
        control::call_telling(&self.socket()?, by(), request, tell).map_err(Failure::failed)
    }

    /// Asks for what a rule answers.
    pub(super) fn rule(&self, request: &Request) -> Result<Rule, Failure> {
        match self.ask(request)? {
            Response::Rule { rule } => Ok(rule),
            other => Err(unexpected(&other)),
        }
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
    pub(super) fn hold(&self, held: bool, json: bool) -> Result<(), Failure> {
        match self.ask(if held { &Request::Pause } else { &Request::Resume })? {
            Response::Held { held } if json => Ok(output::print_json(&json!({ "held": held }))?),
            Response::Held { held: true } => Ok(output::print("paused: messages are accepted and kept, none is sent")?),
            Response::Held { held: false } => Ok(output::print("sending")?),
            other => Err(unexpected(&other)),
        }
    }
}

/// Who asks: not proved, but of use beside a user id that may be root's.
fn by() -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
}

/// The request that ends a rule by its number or its selector; `None` if neither is given.
pub(super) fn end_of(action: &str, id: Option<u64>, selector: Selector) -> Result<Option<Request>, Failure> {
    let which = match (id, selector.is_empty()) {
        (Some(_), false) => return Err(Failure::Usage("say a rule's number or its selector, not both".to_owned())),
        (Some(id), true) => steering::Which::Id(id),
        (None, false) => steering::Which::Selector(selector),
        (None, true) => return Ok(None),
    };
    Ok(Some(Request::EndRule { action: action.to_owned(), which }))
}

/// An answer to another question.
pub(super) fn unexpected(response: &Response) -> Failure {
    let kind = match response {
        Response::Queue(_) => "a queue",
        Response::Messages { .. } => "messages",
        Response::Held { .. } => "held or not",
        Response::Flushed { .. } => "a flush",
        Response::Rule { .. } => "a rule",
        Response::Rules { .. } => "rules",
        Response::Warmup { .. } => "a warm-up",
        Response::Sweeping(_) | Response::Swept(_) => "a sweep",
        Response::TlsReports(_) | Response::TlsReportsDue { .. } => "TLS reports",
        Response::OptOuts { .. } => "opt-outs",
        Response::Ported { .. } => "ported numbers",
        Response::Reloaded { .. } => "a reload",
        Response::Status(_) => "a status",
        Response::Error { why } => why,
    };
    Failure::Failed(format!("the relay answered another question: {kind}"))
}
