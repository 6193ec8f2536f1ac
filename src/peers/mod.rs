//! Embedded test ends: mail sink, carrier simulator, load generator.
pub mod arrivals;
pub mod carrier;
pub mod load;
pub mod mail_sink;
