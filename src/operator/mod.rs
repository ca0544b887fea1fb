//! What runs live: watches and controllers feed the routing, and a leader's term publishes it.

pub mod class_publisher;
pub mod controllers;
pub mod deleted_secrets;
pub mod feeds;
pub mod fetch;
pub mod live;
pub mod own_watches;
pub mod problems;
pub mod publisher;
pub mod status_view;
