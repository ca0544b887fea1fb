//! Earlier failures: which index is never accepted, which one has to wait, and for how long.

use std::time::{Duration, Instant};

use crate::pace::Backoff;

/// How long an older index than the accepted one has to persist before it is accepted. Meanwhile the operator can
/// replace an old index that somebody has restored.
pub const OLDER_STANDS: Duration = Duration::from_secs(10);

/// The first and the longest delay after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Attempts to accept an index, and to write. A version is the resourceVersion of an index.
#[derive(Debug)]
pub struct Attempts {
    /// The version that can never be accepted.
    refused: Option<String>,
    /// The version whose refusal was counted last.
    counted: Option<String>,
    /// The version whose shards could not be fetched, and when to try again.
    fetch_again: Option<(String, Instant)>,
    /// Since when every seen index has been older than the accepted one.
    older: Option<Instant>,
    failures: u32,
    backoff: Backoff,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            refused: None,
            counted: None,
            fetch_again: None,
            older: None,
            failures: 0,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }
}

impl Attempts {
    /// The number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Ends a series of failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    /// The newest index is the accepted one or newer than it, or has just been accepted.
    pub fn not_older(&mut self) {
        self.older = None;
    }

    /// Counts a failure, and returns the delay before the next attempt.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.next_wait()
    }

    /// Like [`Self::failed`], for the shards of an index. The delay is at least `retry_after`. A newer index does not have to
    /// wait.
    pub fn fetch_failed(&mut self, version: String, retry_after: Duration, now: Instant) -> Duration {
        let pause = retry_after + self.failed();
        self.fetch_again = Some((version, now + pause));
        pause
    }

    /// How long the shards of an index still have to wait.
    pub fn fetch_rests(&self, version: &str, now: Instant) -> Option<Duration> {
        let (_, at) = self.fetch_again.as_ref().filter(|(failed, _)| failed == version)?;
        at.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// How long an older index still has to wait. One that replaces it does not wait anew: where an operator counts from
    /// the beginning again, there may always be another.
    pub fn older_rests(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.older.get_or_insert(now);
        OLDER_STANDS.checked_sub(now.saturating_duration_since(since)).filter(|rest| !rest.is_zero())
    }

    /// Lets so much time go by for an older index.
    #[cfg(test)]
    pub fn let_pass(&mut self, time: Duration) {
        self.older = self.older.and_then(|since| since.checked_sub(time));
    }

    /// Never accepts this version.
    pub fn refuse(&mut self, version: String) {
        self.refused = Some(version);
    }

    /// Whether this version can never be accepted.
    pub fn is_refused(&self, version: &str) -> bool {
        self.refused.as_deref() == Some(version)
    }

    /// Whether to count a refusal of this version: once, however often its shards are fetched.
    pub fn counts(&mut self, version: &str) -> bool {
        let counts = self.counted.as_deref() != Some(version);
        if counts {
            self.counted = Some(version.to_owned());
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ_between_agents() {
        let pauses =
            |attempts: &mut Attempts| -> Vec<Duration> { (0..12).map(|_| attempts.failed()).collect() };
        let mut attempts = Attempts::default();
        let first = pauses(&mut attempts);
        for (pause, longest) in first.iter().zip([500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]) {
            let longest = Duration::from_millis(longest);
            assert!(*pause >= longest / 2 && *pause <= longest, "{pause:?} of {longest:?}");
        }
        assert_ne!(first, pauses(&mut Attempts::default()));
        attempts.succeeded();
        assert!(attempts.failed() <= FIRST_PAUSE);
    }

    #[test]
    fn shards_wait_as_long_as_the_api_server_asks_for_and_a_newer_index_does_not() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let asked = Duration::from_secs(7);
        let pause = attempts.fetch_failed("1".to_owned(), asked, now);
        assert!(pause > asked && pause <= asked + FIRST_PAUSE, "{pause:?}");
        assert_eq!(attempts.fetch_rests("1", now), Some(pause));
        assert_eq!(attempts.fetch_rests("1", now + pause), None);
        assert_eq!(attempts.fetch_rests("2", now), None);
    }

    #[test]
    fn an_older_index_has_to_stand() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(attempts.older_rests(now), Some(OLDER_STANDS));
        let later = now + OLDER_STANDS / 2;
        assert_eq!(attempts.older_rests(later), Some(OLDER_STANDS / 2));
        assert_eq!(attempts.older_rests(now + OLDER_STANDS), None);
        attempts.not_older();
        assert_eq!(attempts.older_rests(later + OLDER_STANDS), Some(OLDER_STANDS));
    }
}
