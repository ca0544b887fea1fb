//! Writing to the cluster. Only the leader writes, and no write starts that its lease does not allow.

pub mod backoff;
pub mod error;
pub mod lease;
pub mod outputs;
pub mod problems;
pub mod rate;
pub mod requests;
pub mod statuses;
