//! Writing to the cluster. Only the leader writes, and no write starts that its lease does not allow.
//!
//! ```text
//! outputs/   routing and certificates ─▶ index, shards, key shards
//! statuses/  addresses ─▶ statuses of Ingresses; verdicts ─▶ statuses of parameters
//! problems/  problems ─▶ Events
//! lease/     the Lease ─▶ LeaseGuard, which every write asks
//! ```
//!
//! All of them write through [`Requests`], which asks the guard, bounds every request in time and counts it.

mod error;
mod later;
pub mod lease;
pub mod outputs;
pub mod problems;
mod requests;
pub mod statuses;

pub use error::PublishError;
pub(crate) use requests::MANAGER;
pub use requests::Requests;
pub(crate) use statuses::policy::field_manager;
