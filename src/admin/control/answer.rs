//! What an [`Operator`] makes of a [`Request`]: the same whichever way it came, by the control socket or by HTTP.
//!
//! **Promises.** What is asked for is bounded here, so no answer lists more than its bounds.
//!
//! **Does not know** who may ask, nor how answers travel.
//!
//! **Fails how.** [`Unserved`]; its words are for the operator.

use std::fmt;

use super::protocol::{Request, Response};
use super::server::Operator;
use crate::policy::opt_outs::OptOut;
use crate::queue::steer::Swept;
use crate::queue::steering::SteerError;

/// Why a request was not served. Nothing was changed, but for [`SteerError::EndNotKept`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unserved {
    /// An order was not carried out.
    Order(SteerError),
    /// What it asked for cannot be done, a reason a line.
    Cannot(String),
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(error) => error.fmt(f),
            Self::Cannot(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unserved {}

impl From<SteerError> for Unserved {
    fn from(error: SteerError) -> Self {
        Self::Order(error)
    }
}

/// Serves a request for `by`; `tell` hears how far a sweep is. Blocks.
///
/// # Errors
/// [`Unserved`].
pub fn answer<O: Operator + ?Sized>(
    operator: &O,
    request: Request,
    by: &str,
    tell: &mut dyn FnMut(Swept),
) -> Result<Response, Unserved> {
    let held = |held| {
        operator.hold(held, by);
        Response::Held { held }
    };
    Ok(match request {
        Request::Queue { lanes } => Response::Queue(operator.queue(lanes.min(LANES_MAX))),
        Request::Explain { what, most } => {
            Response::Messages { messages: operator.explain(&what, most.min(MESSAGES_MAX)) }
        }
        Request::Pause => held(true),
        Request::Resume => held(false),
        Request::Flush { selector } => Response::Flushed { recipients: operator.flush(selector, by)? },
        Request::Order { order } => Response::Rule { rule: operator.order(order, by)? },
        Request::EndRule { action, which } => Response::Rule { rule: operator.end_rule(&action, which, by)? },
        Request::Rules => Response::Rules { rules: operator.rules() },
        Request::Sweep { sentence } => Response::Swept(operator.sweep(sentence, by, tell)?),
        Request::Warmup => Response::Warmup { sources: operator.warmup() },
        Request::ResetWarmup { source, provider, day } => {
            let reset = operator.reset_warmup(&source, provider.as_deref(), day, by);
            Response::Warmup { sources: reset.map_err(Unserved::Cannot)? }
        }
        Request::TlsReports { domains } => Response::TlsReports(operator.tls_reports(domains.min(DOMAINS_MAX))),
        Request::SendTlsReports => {
            Response::TlsReportsDue { reports: operator.send_tls_reports(by).map_err(Unserved::Cannot)? }
        }
        Request::OptOuts { number, most } => {
            let (opt_outs, total) =
                operator.opt_outs(number.as_deref(), most.min(OPT_OUTS_MAX)).map_err(Unserved::Cannot)?;
            Response::OptOuts { opt_outs, total }
        }
        Request::AddOptOut { entry } => {
            opt_outs(operator.add_opt_out(entry, by).map_err(Unserved::Cannot)?.into_iter().collect())
        }
        Request::RemoveOptOuts { number, whom, class } => {
            opt_outs(operator.remove_opt_outs(&number, whom, class, by).map_err(Unserved::Cannot)?)
        }
        Request::Ported { number, most } => {
            let (numbers, total) =
                operator.ported(number.as_deref(), most.min(OPT_OUTS_MAX)).map_err(Unserved::Cannot)?;
            Response::Ported { numbers, total }
        }
        Request::ForgetPorted { number } => {
            let known = operator.forget_ported(&number, by).map_err(Unserved::Cannot)?;
            let numbers: Vec<_> = known.into_iter().collect();
            Response::Ported { total: numbers.len() as u64, numbers }
        }
        Request::Reload => Response::Reloaded { notes: operator.reload().map_err(Unserved::Cannot)? },
        Request::Status => Response::Status(operator.status()),
    })
}

fn opt_outs(opt_outs: Vec<OptOut>) -> Response {
    let total = opt_outs.len() as u64;
    Response::OptOuts { opt_outs, total }
}

/// Most entries of the list of opt-outs, or ported numbers, in one answer.
const OPT_OUTS_MAX: usize = 100_000;
/// Most lanes in one answer.
pub(super) const LANES_MAX: usize = 10_000;
/// Most domains in one answer.
const DOMAINS_MAX: usize = 10_000;
/// Most messages in one answer.
const MESSAGES_MAX: usize = 1_000;
