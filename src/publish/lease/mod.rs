//! Leader election on a Lease, and the guard that every write asks.
//!
//! The lease counts from when the last successful renewal was *sent*, on the monotonic clock. A leader
//! starts no write once `renewDeadline` has passed since then, and asks the API server to drop what takes
//! longer than the lease can be sure to last. Others take over no sooner than `leaseDuration` after they
//! saw the Lease change, by their own clock; nobody trusts another machine's.
//!
//! `Instant` is CLOCK_MONOTONIC on Linux. It runs on while a process is stopped (SIGSTOP, a frozen cgroup),
//! so a leader that wakes up finds its lease expired. It stands still while the whole machine sleeps; what
//! a leader writes then, before it learns the truth, fails on the index's resourceVersion and epoch.

mod elector;
pub mod fitness;
mod guard;
mod record;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

pub use elector::{Elector, LeaseHandle};
pub use guard::{LeaseGuard, WriteError, WritePermit};

/// The longest factor on the retry period between two attempts; the least is 1. They are client-go's.
const LONGEST_RETRY: f64 = 2.2;

/// When a lease is renewed, given up and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Timings that don't go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingsError {
    /// The lease would be up before its holder notices.
    #[error(
        "operator.leaderElection.leaseDuration: {lease:?} is not longer than renewDeadline ({renew:?}); set it to 1.5 times as much"
    )]
    LeaseDuration { lease: Duration, renew: Duration },
    /// A single missed renewal would lose the lease.
    #[error(
        "operator.leaderElection.renewDeadline: {renew:?} is not longer than 1.2 times retryPeriod ({retry:?}); set it to 5 times as much"
    )]
    RenewDeadline { renew: Duration, retry: Duration },
    /// The API server would be asked without a pause.
    #[error("operator.leaderElection.retryPeriod: {retry:?} is shorter than 100ms; 2s is usual")]
    RetryPeriod { retry: Duration },
    /// The Lease holds whole seconds in 31 bits.
    #[error("operator.leaderElection.leaseDuration: {lease:?} is not between 1s and 24h; 15s is usual")]
    Range { lease: Duration },
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
    /// Timings that go together, by client-go's rules.
    ///
    /// # Errors
    /// They don't; the error names the option.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingsError> {
        if retry_period < Duration::from_millis(100) {
            return Err(TimingsError::RetryPeriod { retry: retry_period });
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&lease_duration) {
            return Err(TimingsError::Range { lease: lease_duration });
        }
        if renew_deadline <= retry_period.mul_f64(1.2) {
            return Err(TimingsError::RenewDeadline { renew: renew_deadline, retry: retry_period });
        }
        if lease_duration <= renew_deadline {
            return Err(TimingsError::LeaseDuration { lease: lease_duration, renew: renew_deadline });
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// How long another replica may take at most to lead after the leader was killed.
    pub fn longest_takeover(&self) -> Duration {
        self.lease_duration + self.retry_period.mul_f64(LONGEST_RETRY)
    }

    /// How long one request about the Lease may take, so that a stalled connection leaves time to try on
    /// another one.
    fn attempt(&self) -> Duration {
        self.renew_deadline / 3
    }

    /// A pause before the next attempt.
    fn retry(&self) -> Duration {
        self.retry_period.mul_f64(1.0 + (LONGEST_RETRY - 1.0) * random())
    }
}

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Its namespace (`operator.namespace`).
    pub namespace: String,
    /// Its name (`operator.leaderElection.leaseName`).
    pub name: String,
    /// Who we are; no two processes may share it ([`identity`]).
    pub identity: String,
    pub timings: Timings,
}

/// The name of this process among all replicas, past ones included: `POD_NAME` or the host's name, and
/// eight random characters, since a container that is restarted keeps both.
pub fn identity(variables: &BTreeMap<String, String>) -> String {
    let known = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let host = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let name = known("POD_NAME").or_else(host).or_else(|| known("HOSTNAME"));
    format!("{}_{:08x}", name.as_deref().unwrap_or("waybill"), random_bits() >> 32)
}

/// The standard library seeds its hash maps from the system's randomness, which is good enough here.
fn random_bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Between 0 and 1.
fn random() -> f64 {
    (random_bits() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn timings_are_checked_and_the_option_named() {
        assert_eq!(Timings::new(ms(15_000), ms(10_000), ms(2_000)), Ok(Timings::default()));
        for (timings, wanted) in [
            (Timings::new(ms(10_000), ms(10_000), ms(2_000)), "leaseDuration"),
            (Timings::new(ms(15_000), ms(2_400), ms(2_000)), "renewDeadline"),
            (Timings::new(ms(15_000), ms(10_000), ms(0)), "retryPeriod"),
            (Timings::new(ms(900), ms(600), ms(200)), "leaseDuration"),
            (Timings::new(Duration::MAX, ms(600), ms(200)), "leaseDuration"),
        ] {
            let error = timings.unwrap_err().to_string();
            assert!(error.starts_with(&format!("operator.leaderElection.{wanted}: ")), "{error}");
        }
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
