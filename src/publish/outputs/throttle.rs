//! Decides when to publish: at once after a quiet period, otherwise so that commits keep their minimum distance and
//! their limit of bytes per second.

use std::time::{Duration, Instant};

/// How much may be written at once before the rate limit applies: this many seconds' worth.
const BURST_SECONDS: u64 = 8;

/// No change waits longer than this for the rate limit alone.
const LONGEST_STRETCH: Duration = Duration::from_secs(30);

/// Decides when the next commit of one output is due. Leading-edge: the first change after a quiet period is committed
/// at once, later ones wait until the minimum time since the last commit has passed, and none is lost. Repeated changes
/// postpone nothing, so a steady stream can't block it.
///
/// Every call takes the time as a parameter, so that tests need not wait.
#[derive(Clone, Debug)]
pub struct Throttle {
    distance: Duration,
    /// Bytes per second; 0 for no limit.
    rate: u64,
    /// Start of the last attempt.
    last: Option<Instant>,
    /// Since when there has been something to publish.
    pending: Option<Instant>,
    /// Not before this, after a failure.
    retry_at: Option<Instant>,
    /// Bytes that the rate limit still has to work off, at `level_at`.
    level: u64,
    level_at: Option<Instant>,
}

impl Throttle {
    /// `distance` is the minimum time between two commits (`providersThrottleDuration`), `rate` bytes per second
    /// (`operator.publishBytesPerSecond`), 0 for no limit.
    pub fn new(distance: Duration, rate: u64) -> Self {
        Self { distance, rate, last: None, pending: None, retry_at: None, level: 0, level_at: None }
    }

    /// There is something to publish.
    pub fn changed(&mut self, now: Instant) {
        self.pending.get_or_insert(now);
    }

    /// When to publish; `None` if there is nothing to publish. A past time means now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let since = self.pending?;
        let distance = self.distance + self.stretch(now);
        // Several outputs take turns by this time, so it must not move on while one waits.
        let due = self.last.map_or(since, |last| last + distance);
        Some(self.retry_at.map_or(due, |retry| due.max(retry)))
    }

    /// A commit starts with all changes until now.
    pub fn started(&mut self, now: Instant) {
        self.last = Some(now);
        self.pending = None;
        self.retry_at = None;
    }

    /// The commit succeeded and wrote this number of bytes.
    pub fn wrote(&mut self, now: Instant, bytes: u64) {
        self.level = self.level_now(now).saturating_add(bytes);
        self.level_at = Some(now);
    }

    /// The commit failed: the changes remain, to be tried again after `wait`.
    pub fn failed(&mut self, now: Instant, wait: Duration) {
        self.pending.get_or_insert(now);
        self.retry_at = Some(now + wait);
    }

    /// What the rate limit adds to the distance, counted from the last commit.
    pub fn stretch(&self, now: Instant) -> Duration {
        let (Some(last), true) = (self.last, self.rate > 0) else { return Duration::ZERO };
        let above = self.level_now(now).saturating_sub(self.rate.saturating_mul(BURST_SECONDS));
        if above == 0 {
            return Duration::ZERO;
        }
        let wait = Duration::from_secs_f64(above as f64 / self.rate as f64);
        let from_last = now.saturating_duration_since(last) + wait;
        from_last.saturating_sub(self.distance).min(LONGEST_STRETCH)
    }

    fn level_now(&self, now: Instant) -> u64 {
        let since = self.level_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.level.saturating_sub((since.as_secs_f64() * self.rate as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_first_change_goes_out_at_once_and_the_next_keeps_its_distance() {
        let start = Instant::now();
        let mut throttle = Throttle::new(MS(2_000), 0);
        assert_eq!(throttle.due(start), None);
        throttle.changed(start);
        assert_eq!(throttle.due(start), Some(start));
        throttle.started(start);
        assert_eq!(throttle.due(start), None);

        throttle.changed(start);
        assert_eq!(throttle.due(start + MS(10)), Some(start + MS(2_000)));
        // More of them move nothing.
        for at in 0..1_990 {
            throttle.changed(start + MS(10 + at));
            assert_eq!(throttle.due(start + MS(10 + at)), Some(start + MS(2_000)));
        }
        throttle.started(start + MS(2_000));

        // After a quiet time: at once.
        let later = start + MS(10_000);
        throttle.changed(later);
        assert!(throttle.due(later).is_some_and(|due| due <= later));
    }

    /// Others that hang are due again and again, and whoever has been due for longest goes first.
    #[test]
    fn what_was_never_tried_has_waited_since_its_first_change() {
        let start = Instant::now();
        let (mut new, mut hanging) = (Throttle::new(MS(2_000), 0), Throttle::new(MS(2_000), 0));
        hanging.changed(start);
        hanging.started(start);
        new.changed(start + MS(10));
        hanging.failed(start + MS(10_000), MS(500));
        new.changed(start + MS(20_000));
        let now = start + MS(20_000);
        assert_eq!(new.due(now), Some(start + MS(10)));
        assert_eq!([&hanging, &new].map(|one| one.due(now)).into_iter().min(), Some(new.due(now)));
    }

    #[test]
    fn a_change_during_a_commit_is_not_lost() {
        let start = Instant::now();
        let mut throttle = Throttle::new(MS(100), 0);
        throttle.changed(start);
        throttle.started(start);
        throttle.changed(start);
        throttle.wrote(start + MS(50), 1);
        assert_eq!(throttle.due(start + MS(50)), Some(start + MS(100)));
    }

    #[test]
    fn a_failure_keeps_the_change_and_its_backoff() {
        let start = Instant::now();
        let mut throttle = Throttle::new(MS(100), 0);
        throttle.changed(start);
        throttle.started(start);
        throttle.failed(start + MS(20), MS(500));
        assert_eq!(throttle.due(start + MS(30)), Some(start + MS(520)));
        throttle.started(start + MS(520));
        assert_eq!(throttle.due(start + MS(520)), None);
    }

    /// 100 kB a commit at 10 kB a second: over a long time the rate holds, and no wait is above the longest.
    #[test]
    fn bytes_above_the_rate_stretch_the_distance() {
        let start = Instant::now();
        let mut now = start;
        let mut throttle = Throttle::new(MS(2_000), 10_000);
        let mut bytes = 0;
        let mut longest = Duration::ZERO;
        while now < start + Duration::from_secs(600) {
            throttle.changed(now);
            let due = throttle.due(now).unwrap_or(now).max(now);
            longest = longest.max(due - now);
            now = due;
            throttle.started(now);
            now += MS(20);
            throttle.wrote(now, 100_000);
            bytes += 100_000;
        }
        let rate = f64::from(bytes) / (now - start).as_secs_f64();
        assert!((9_000.0..11_000.0).contains(&rate), "{rate}");
        assert!(longest <= Duration::from_secs(13), "{longest:?}");
    }

    #[test]
    fn a_burst_within_its_bounds_stretches_nothing_and_a_huge_one_not_for_ever() {
        let start = Instant::now();
        let mut throttle = Throttle::new(MS(2_000), 1_000_000);
        throttle.changed(start);
        throttle.started(start);
        throttle.wrote(start, 8_000_000);
        assert_eq!(throttle.stretch(start), Duration::ZERO);
        throttle.wrote(start, u64::MAX);
        assert_eq!(throttle.stretch(start), LONGEST_STRETCH);
        throttle.changed(start);
        assert_eq!(throttle.due(start), Some(start + MS(2_000) + LONGEST_STRETCH));
    }
}
