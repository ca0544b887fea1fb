//! Writing to the cluster. Only the leader writes, and no write starts that its lease does not allow.
//!
//! ```text
//! outputs/   routing and certificates ─▶ index, shards, key shards
//! statuses/  addresses ─▶ statuses of Ingresses; verdicts ─▶ statuses of parameters
//! problems/  problems ─▶ Events
//! lease/     the Lease ─▶ LeaseGuard, which every write asks
//! ```
//!
//! All of them write through [`requests::Requests`], which asks the guard, bounds every request in time and counts it.

pub(crate) mod backoff;
pub mod error;
pub mod lease;
pub mod outputs;
pub mod problems;
pub(crate) mod rate;
pub mod requests;
pub mod statuses;
