//! Everything that knows how to reach Kubernetes objects, live or in files.

pub mod client;
pub mod key;
mod layer;
pub mod lean;
pub mod manifests;
pub(crate) mod name;
pub mod request;
mod watch;
