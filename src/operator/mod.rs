//! The running operator: watches feed the routing, controllers update it, and a leader's term publishes it.
//!
//! ```text
//! feeds, secrets ──events──▶ live ◀──keys── controllers
//!                             │
//!                             └──what changed──▶ leader: publisher, status_view, problems, class_publisher
//! ```
//!
//! [`run`] puts all of it together.

mod agents;
mod class_publisher;
mod controllers;
mod expiring;
pub mod feeds;
mod leader;
mod line_limit;
pub mod live;
mod own_watches;
mod pending;
mod problems;
mod publisher;
pub mod run;
mod secrets;
mod status_view;
mod tasks;
