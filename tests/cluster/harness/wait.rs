//! Waiting for what is to happen. The only place that sleeps.

use std::fmt::Display;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Tries until it works, and panics with the last reason when it has not within the time. An attempt that
/// hangs is given up with the time.
pub async fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    let mut last = "the first attempt did not end".to_owned();
    loop {
        let left = within.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left.max(PAUSE), attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => last = reason.to_string(),
            Err(_) => {}
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}; last: {last}");
        tokio::time::sleep(PAUSE).await;
    }
}
