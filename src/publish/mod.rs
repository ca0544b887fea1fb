//! What is wanted against what is there, written by the leader alone.

pub mod lease;
