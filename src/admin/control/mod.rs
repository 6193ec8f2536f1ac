//! The control socket: how `postrider queue`, `explain`, `pause` and their like reach the running relay.
//!
//! **What.** A unix socket, `control.sock` in the data directory, mode 0600: file permissions decide who may. One JSON
//! object a line in each direction, any number of requests on a connection; what takes long tells how far it is before it
//! answers:
//!
//! ```text
//! → {"v":1,"request":{"op":"explain","what":"lin@example.com","most":5}}
//! ← {"v":1,"response":{"kind":"messages","messages":[…]}}
//! ```
//!
//! **Promises.** A relay and a command of different versions say so instead of misunderstanding each other. Lines,
//! connections and waiting are bounded on both sides.
//!
//! **Does not know** what a request does: that is [`Operator`]'s, which the relay implements.

mod answer;
mod client;
mod protocol;
mod server;
#[cfg(test)]
pub(super) mod tests;

pub use answer::{Unserved, answer};
pub use client::{ControlError, call, call_telling};
pub(super) use protocol::RESPONSE_BYTES_MAX;
pub use protocol::{ListenerStatus, OptOutOrder, Request, Response, Status};
pub use server::{ControlSocket, Operator};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "control.sock";
