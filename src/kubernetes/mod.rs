//! Everything that knows how to reach Kubernetes objects, live or in files.

pub mod client;
pub mod key;
mod layer;
pub mod lean;
pub mod manifests;
pub mod request;
mod watch;
pub mod well_known;
