//! Growing delays between attempts.

use std::time::Duration;

use super::random;

/// Delays that double from the first to the longest. Each is shortened by up to a quarter at random, so that
/// simultaneous failures are not retried simultaneously.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// The first and the longest delay.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The delay before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full.saturating_mul(2).min(self.longest);
        full - full.mul_f64(random() / 4.0)
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for full in [1, 2, 4, 8, 10, 10] {
            let wait = backoff.next_wait();
            let full = Duration::from_secs(full);
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{wait:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }
}
