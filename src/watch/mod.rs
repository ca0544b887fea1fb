//! What is known of the cluster, and how it gets to know it.

mod apply;
pub mod collection;
pub mod controllers;
pub mod decode;
pub mod feeds;
pub mod fetch;
pub mod gone;
pub mod live;
pub mod mirror;
pub mod namespaces;
pub mod nodes;
pub mod pem;
pub mod queue;
pub mod secrets;
pub mod slices;
pub mod stores;
pub mod strip;
pub mod touched;
mod unread;
