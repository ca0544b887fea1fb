//! One output in the cluster: commit, put back, garbage.

pub mod held_index;
pub mod refusal;
pub mod shards;
pub mod snapshot;
pub mod throttle;
pub mod upkeep;
pub mod withdrawal;
pub mod writer;
