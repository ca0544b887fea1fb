//! Writes one output to the cluster, and decides when and whether to write it.
//!
//! ```text
//! table ─▶ Snapshot ─▶ OutputWriter ─ shards, then the index ─▶ API server ─ watches ─▶ OutputWriter::observe
//!   Throttle: when        Withdrawal: whether       delete_shards, write_text: beside the commits
//! ```

mod held_index;
mod refusal;
mod shards;
mod snapshot;
mod throttle;
mod upkeep;
mod withdrawal;
mod writer;

pub(crate) use refusal::{GIVE_UP, Refusals, refusal_problem, refused};
pub(crate) use throttle::Throttle;
pub use upkeep::delete_shards;
pub(crate) use upkeep::{Collected, GarbageSchedule, TextFound, TextSchedule, text_problem, write_text};
pub(crate) use withdrawal::index_subject;
pub use withdrawal::{CONFIRM_ANNOTATION, Withdrawal};
pub use writer::{Outcome, OutputWriter, OwnKind, Report, Seen};
