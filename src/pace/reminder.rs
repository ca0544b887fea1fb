//! Repeats a message, but not too often.

use std::time::{Duration, Instant};

/// When a message about something that lasts is due again.
#[derive(Clone, Debug)]
pub struct Reminder {
    every: Duration,
    last: Option<Instant>,
}

impl Reminder {
    /// Due at once, and then after `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether the message is due. If so, the next one is due after the interval.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// The matter is over. If it comes back, the message is due at once.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_at_once_after_the_interval_and_when_the_matter_comes_back() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut reminder = Reminder::new(minute);
        assert!(reminder.is_due(start));
        assert!(!reminder.is_due(start + minute / 2));
        assert!(reminder.is_due(start + minute));
        assert!(!reminder.is_due(start + minute));
        reminder.reset();
        assert!(reminder.is_due(start + minute));
    }
}
