//! Operators: metrics, health and an API over HTTP, and the control socket that the commands speak to.
//!
//! **What.** [`http`] answers `/metrics`, `/healthz` and `/readyz` to whoever reaches its address. [`control`] steers the
//! running relay, through a unix socket whose file permissions decide who may; [`api`] does the same over HTTP for whoever
//! shows the token. [`Readiness`] is what the parts of the relay agree on when asked whether messages are accepted.
//!
//! **Does not know** how the relay is built: it sees metrics, readiness and [`control::Operator`].

pub mod api;
pub mod control;
pub mod http;
mod readiness;

pub use readiness::{Readiness, Reason};
