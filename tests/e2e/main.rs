//! Black box: the real binary against programs written by others, one module per behaviour.
//!
//! `tests/run` installs those programs; where one is missing, the tests that need it fail and say so. Nothing here leaves
//! loopback, and every relay, zone and peer is a test's own, so that tests run side by side.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod support;

mod admin_api;
mod carrier_faults;
mod cmpp;
mod cmpp_server;
mod codes;
mod configuration;
mod crash;
mod dane;
mod encodings;
mod faults;
mod full_disk;
mod http_carriers;
mod interop;
mod lifecycle;
mod mail;
mod pacing;
mod peers;
mod power_cut;
mod refusals;
mod replies;
mod retries;
mod routing;
mod rules;
mod sgip;
mod shelf;
mod signatures;
mod sites;
mod smgp;
mod smpp_links;
mod smpp_server;
mod sources;
mod spool;
mod steering;
mod texts;
mod tls_policies;
mod tls_reports;
mod warmup;
