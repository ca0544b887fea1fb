//! Limits log lines about objects, of which a tenant can have thousands.

use std::time::Instant;

use crate::pace::Rate;

/// Allows a number of lines per second, and a number at once. The others are counted.
#[derive(Debug)]
pub struct LineLimit {
    rate: Rate,
    left_out: u64,
}

impl LineLimit {
    /// Allows `per_second` on average.
    pub fn new(per_second: u32, at_once: u32) -> Self {
        Self { rate: Rate::new(per_second, at_once), left_out: 0 }
    }

    /// Whether a line may be logged now, and if so, how many were left out before it.
    pub fn allows(&mut self, now: Instant) -> Option<u64> {
        if self.rate.take(now).is_err() {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_that_are_left_out_are_counted() {
        let now = Instant::now();
        let mut limit = LineLimit::new(1, 2);
        let lines: Vec<_> = (0..5).map(|_| limit.allows(now)).collect();
        assert_eq!(lines, [Some(0), Some(0), None, None, None]);
        assert_eq!(limit.allows(now + Duration::from_secs(1)), Some(3));
    }
}
