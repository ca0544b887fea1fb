//! What is published: the form that outputs have in a cluster (docs/published.md), and who writes it there.
//! Only the leader writes, and no write starts that its lease does not allow.
//!
//! | file | theme |
//! | --- | --- |
//! | `wanted.rs`, `index.rs`, `objects.rs` | what an output needs, and its form as objects |
//! | `read.rs` | the reading side |
//! | `lease/` | who leads, and until when it may write |
//! | `requests.rs`, `error.rs`, `refusal.rs` | writes under the lease, why one failed, and what of that is to be told |
//! | `throttle.rs`, `rate.rs`, `backoff.rs` | when, how many, when again |
//! | `writer.rs` | one output in the cluster: commit, put back, garbage |
//! | `shards.rs`, `held_index.rs`, `withdrawal.rs` | what the writer knows to be there; what it must not remove |
//! | `status_policy.rs`, `statuses.rs` | statuses of Ingresses: what to write, and writing it |
//! | `class_statuses.rs` | what is written about classes: their parameters' status, what was accepted last |
//! | `standing.rs`, `event_text.rs`, `event_book.rs`, `events.rs` | problems that stand: their Events, which to write when, and writing them |

pub mod backoff;
pub mod class_statuses;
pub mod class_term;
pub mod error;
pub mod event_book;
pub mod event_text;
pub mod events;
pub mod held_index;
pub mod index;
pub mod lease;
pub mod objects;
pub mod own;
pub mod problems;
pub mod rate;
pub mod read;
pub mod refusal;
pub mod requests;
pub mod shards;
pub mod snapshot;
pub mod standing;
pub mod status_policy;
pub mod statuses;
pub mod term;
pub mod throttle;
pub mod view;
pub mod wanted;
pub mod withdrawal;
pub mod writer;

#[cfg(test)]
mod tests;
