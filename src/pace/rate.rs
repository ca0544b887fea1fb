//! A token bucket.

use std::time::{Duration, Instant};

/// Limits how often something is done.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl Rate {
    /// Allows `per_second` on average, and up to `burst` at once after a quiet period. Both are at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, tokens: burst, at: None }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time to wait for the next token.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.tokens = self.left(now);
        self.at = Some(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second).max(Duration::from_millis(1)))
    }

    /// Whether so much time has passed since the last token that it is as good as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.left(now) >= self.burst
    }

    fn left(&self, now: Instant) -> f64 {
        let since = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.burst.min(self.tokens + since * self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_used() {
        let start = Instant::now();
        let mut now = start;
        let mut rate = Rate::new(200, 20);
        for _ in 0..10_000 {
            while let Err(wait) = rate.take(now) {
                now += wait;
            }
        }
        let seconds = (now - start).as_secs_f64();
        assert!((49.8..50.1).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_quiet_time_gives_no_more_than_the_burst() {
        let mut now = Instant::now();
        let mut rate = Rate::new(10, 3);
        assert!(rate.is_full(now) && rate.take(now).is_ok() && !rate.is_full(now));
        now += Duration::from_secs(100);
        assert!(rate.is_full(now));
        assert_eq!((0..10).filter(|_| rate.take(now).is_ok()).count(), 3);
    }
}
