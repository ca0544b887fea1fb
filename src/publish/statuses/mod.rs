//! Statuses of Ingresses, and of the parameters of classes.
//!
//! ```text
//! queue of Ingresses ─▶ StatusWriter ─ asks StatusPolicy what to do ─▶ status.loadBalancer of each Ingress
//! ClassPublisher ─▶ ClassWriter ─▶ status of each IngressClassParameters, ConfigMap of accepted settings
//! ```

pub mod class_statuses;
pub mod policy;
pub mod writer;
