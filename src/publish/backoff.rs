//! Growing waits between attempts.

use std::time::Duration;

/// Waits that double from the first to the longest. Each is shortened by up to a quarter at random, so that what failed at
/// the same time is not retried at the same time.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    noise: u64,
}

impl Backoff {
    /// The first and the longest wait.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // std's random seed is good enough here.
        let noise = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8) | 1;
        Self { first, longest, next: first, noise }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full.saturating_mul(2).min(self.longest);
        // xorshift64
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        full - full.mul_f64((self.noise % 1024) as f64 / 4096.0)
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
