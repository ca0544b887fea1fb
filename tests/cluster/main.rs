//! What needs a real API server. `harness` starts one; every file beside it tries one part of waybill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

mod alerts;
mod check;
mod classes;
mod client;
mod control_plane;
mod dead_watch;
mod events;
mod image;
mod invalid_objects;
mod lease;
mod manifests;
mod once;
mod operator;
mod output;
mod parameters;
mod publish;
mod publish_faults;
mod publish_labels;
mod publish_salt;
mod show;
mod statuses;
mod term;
mod tools;
mod traffic;
mod withdrawals;
