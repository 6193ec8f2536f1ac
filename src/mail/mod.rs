//! Mail content: what ingress makes of it, what leaves, and the notifications we write ourselves. Pure.

pub mod prepare;

pub use prepare::{Directives, PrepareError, Prepared, Trace, prepare};
