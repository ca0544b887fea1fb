//! What failed before: which index is not taken any more, which waits, and how long.

use std::time::{Duration, Instant};

use super::source::jitter;
use super::state::Mark;

/// An index that is older than what was taken has to be the true one for so long before it is taken: the operator
/// replaces one that was put back by hand.
pub const OLDER_STANDS: Duration = Duration::from_secs(10);

/// The pauses after a failure: the first, and the longest. A pause takes between half of it and all of it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Versions are resourceVersions of the index.
#[derive(Debug, Default)]
pub struct Attempts {
    /// It can never be taken.
    refused: Option<String>,
    /// Its refusal was counted last.
    counted: Option<String>,
    /// Its shards could not be fetched, and when they are asked for again.
    fetch_again: Option<(String, Instant)>,
    /// An older index than the one that was taken, and since when.
    older: Option<(Mark, Instant)>,
    failures: u32,
}

impl Attempts {
    /// How many failures there were since something succeeded.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Something succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// An index was taken.
    pub fn taken(&mut self) {
        self.older = None;
    }

    /// Something failed. Gives the time after which to try again.
    pub fn failed(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.5 + jitter() / 2.0)
    }

    /// Shards of an index could not be fetched, and the API server asks for `retry_after`. A newer index is not kept
    /// waiting.
    pub fn fetch_failed(&mut self, version: String, retry_after: Duration, now: Instant) -> Duration {
        let pause = retry_after + self.failed();
        self.fetch_again = Some((version, now + pause));
        pause
    }

    /// How long the shards of an index have to wait yet.
    pub fn fetch_rests(&self, version: &str, now: Instant) -> Option<Duration> {
        let (_, at) = self.fetch_again.as_ref().filter(|(failed, _)| failed == version)?;
        at.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// How long an older index has to wait yet.
    pub fn older_rests(&mut self, mark: Mark, now: Instant) -> Option<Duration> {
        let same = self.older.filter(|(older, _)| *older == mark);
        let (_, since) = *self.older.insert(same.unwrap_or((mark, now)));
        OLDER_STANDS.checked_sub(now.saturating_duration_since(since)).filter(|rest| !rest.is_zero())
    }

    /// An index can never be taken.
    pub fn refuse(&mut self, version: String) {
        self.refused = Some(version);
    }

    /// Whether an index can never be taken.
    pub fn is_refused(&self, version: &str) -> bool {
        self.refused.as_deref() == Some(version)
    }

    /// Whether a refusal of an index has to be counted: once, however often its shards are asked for.
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
        let mark = |generation| Mark { epoch: 1, generation };
        assert_eq!(attempts.older_rests(mark(4), now), Some(OLDER_STANDS));
        let later = now + OLDER_STANDS / 2;
        assert_eq!(attempts.older_rests(mark(4), later), Some(OLDER_STANDS / 2));
        assert_eq!(attempts.older_rests(mark(3), later), Some(OLDER_STANDS), "another one begins anew");
        assert_eq!(attempts.older_rests(mark(3), later + OLDER_STANDS), None);
        attempts.taken();
        assert_eq!(attempts.older_rests(mark(3), later + OLDER_STANDS), Some(OLDER_STANDS));
    }
}
