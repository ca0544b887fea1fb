//! Statuses of Ingresses and of classes: what to write, and writing it.

pub mod class_statuses;
pub mod policy;
pub mod writer;
