//! SMTP, sans-I/O: the server's and the client's half.

pub mod client;
pub mod server;
