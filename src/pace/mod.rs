//! How often something is done: token buckets, growing delays, reminders. The caller provides the time.

mod backoff;
mod rate;
mod reminder;

use std::hash::{BuildHasher, Hasher, RandomState};

pub use backoff::Backoff;
pub use rate::Rate;
pub use reminder::Reminder;

/// 64 random bits. The standard library seeds its hash maps from the system's randomness, which is good enough for
/// delays and names, but not for secrets.
pub fn random_bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A random number from 0 to 1, without 1.
pub fn random() -> f64 {
    (random_bits() >> 11) as f64 / (1u64 << 53) as f64
}
