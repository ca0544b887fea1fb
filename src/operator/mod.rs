//! What runs live: watches and controllers feed the routing, and a leader's term publishes it.

pub mod agents;
pub mod class_publisher;
pub mod controllers;
pub mod feeds;
pub mod leader;
pub mod live;
pub mod own_watches;
pub mod problems;
pub mod publisher;
pub mod run;
pub mod secrets;
pub mod status_view;
pub mod tasks;
