//! One Ingress in, one fragment of routing out. Pure: no I/O, no clock, no waiting.

pub mod fragment;
pub mod lookup;
pub mod name;
pub mod problem;
pub mod settings;
