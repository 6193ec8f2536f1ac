//! The library behind the program `postrider`.
//!
#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod dns;
pub mod egress;
pub mod event;
pub mod ingress;
pub mod limits;
pub mod mail;
pub mod model;
pub mod net;
pub mod peers;
pub mod policy;
pub mod provider;
pub mod queue;
pub mod relay;
pub mod route;
pub mod schedule;
pub mod sms;
pub mod storage;
pub mod wire;
