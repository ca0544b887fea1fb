//! What is published: the form that outputs have in a cluster (docs/published.md), and who writes it there.
//! Only the leader does, and no write starts that the lease does not allow (`requests.rs`).
//!
//! | file | theme |
//! | --- | --- |
//! | `requests.rs` | writes with a time-out, guarded |
//! | `error.rs` | why a write failed |
//! | `throttle.rs`, `rate.rs`, `backoff.rs` | when, how many, when again |
//! | `status_policy.rs`, `statuses.rs` | statuses of Ingresses: what to write, and writing it |

pub mod backoff;
pub mod error;
pub mod event_book;
pub mod events;
pub mod rate;
pub mod requests;
pub mod standing;
pub mod status_policy;
pub mod statuses;
pub mod throttle;
