//! Leader election on a Lease, and the guard that every write asks.
//!
//! The lease counts from when the last successful renewal was *sent*, on the monotonic clock. A leader
//! starts no write once `renewDeadline` has passed since then, and asks the API server to drop what takes
//! longer than the lease can be sure to last. Others take over no sooner than `leaseDuration` after they
//! saw the Lease change, by their own clock; nobody trusts another machine's.
//!
//! `Instant` is CLOCK_MONOTONIC on Linux. It runs on while a process is stopped (SIGSTOP, a frozen cgroup),
//! so a leader that wakes up finds its lease expired. It stands still while the whole machine sleeps; what
//! a leader writes after that, before it notices, fails because of the index's resourceVersion and epoch.

mod elector;
mod fitness;
mod guard;
mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::pace::{random, random_bits};

pub use elector::{Elector, LeaseHandle};
pub use fitness::{Limits, keep_fit};
pub use guard::LeaseGuard;
pub(super) use guard::WriteError;

/// The largest factor on the retry period between two attempts; the smallest is 1. Both are client-go's.
const LONGEST_RETRY: f64 = 2.2;

/// When a lease is renewed, given up and taken. The options are checked: `retry_period` × 1.2 < `renew_deadline` <
/// `lease_duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl Timings {
    /// The longest time until another replica leads after the leader was killed.
    pub fn longest_takeover(&self) -> Duration {
        self.lease_duration + self.retry_period.mul_f64(LONGEST_RETRY)
    }

    /// Timeout of one request about the Lease, so that a stalled connection leaves time to try another one.
    fn attempt(&self) -> Duration {
        self.renew_deadline / 3
    }

    /// The delay before the next attempt.
    fn retry(&self) -> Duration {
        self.retry_period.mul_f64(1.0 + (LONGEST_RETRY - 1.0) * random())
    }
}

/// The Lease, and our identity.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    pub namespace: String,
    pub name: String,
    /// Our identity, which no two processes may share ([`identity`]).
    pub identity: String,
    pub timings: Timings,
}

/// The name of this process, unique among all replicas including past ones: `POD_NAME` or the host's name, and eight
/// random characters, since a restarted container keeps both.
pub fn identity(variables: &BTreeMap<String, String>) -> String {
    let known = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let host = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let name = known("POD_NAME").or_else(host).or_else(|| known("HOSTNAME"));
    format!("{}_{:08x}", name.as_deref().unwrap_or("waybill"), random_bits() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn retries_are_spread_over_their_range() {
        let timings = Timings::default();
        let pauses: Vec<Duration> = (0..1_000).map(|_| timings.retry()).collect();
        assert!(pauses.iter().all(|pause| (ms(2_000)..=ms(4_400)).contains(pause)));
        assert!(
            pauses.iter().any(|pause| *pause < ms(2_300)) && pauses.iter().any(|pause| *pause > ms(4_100))
        );
        assert_eq!(timings.longest_takeover(), ms(19_400));
    }

    #[test]
    fn a_restarted_pod_is_someone_else() {
        let variables = BTreeMap::from([("POD_NAME".to_owned(), "waybill-0".to_owned())]);
        let (first, second) = (identity(&variables), identity(&variables));
        assert!(first.starts_with("waybill-0_") && first != second, "{first} {second}");
        assert!(identity(&BTreeMap::new()).len() > "_01234567".len());
    }
}
