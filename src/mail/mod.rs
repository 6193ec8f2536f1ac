//! Mail content: what ingress makes of it, what leaves, and the notifications we write ourselves.
//!
//! **What.** [`header`] walks header fields in place, [`prepare()`] makes a submitted mail ready for the queue, [`dkim`]
//! signs it, [`dsn`] reports its failure, [`tls_report()`] carries a report on TLS, [`compose()`] writes a mail out of the HTTP API's parts.
//!
//! **Promises.** Pure: no sockets, no disk, no clock; time is an argument. A client's bytes are never serialised anew: what
//! is not stripped goes out as it came. Work is linear in the bytes given; nothing panics on them.
//!
//! **Does not know** SMTP, the queue, configuration.
//!
//! **Fails how.** A typed error that says what is wrong, for the client to read.

pub mod compose;
mod directive;
pub mod dkim;
pub mod dsn;
mod from;
pub mod header;
pub mod prepare;
pub mod tls_report;
mod trace;

pub use compose::{Attachment, ComposeError, Message, compose};
pub use directive::Directives;
pub use from::{FromFault, from_domains};
pub use header::{body, header_section};
pub use prepare::{PrepareError, Prepared, prepare};
pub use tls_report::{TlsReportMail, tls_report};
pub use trace::Trace;
