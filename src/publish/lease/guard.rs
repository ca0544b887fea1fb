//! The guard: the right to write, and its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Timings;
use crate::kubernetes::request::with_timeout;

/// The longest timeout of a write, however long the lease.
const LONGEST: Duration = Duration::from_secs(10);

/// How much longer than the API server we wait for the answer that it gave up.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// One term of leadership. Once it has ended, it stays so: the next election creates another guard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeaseGuard(Arc<Term>);

#[derive(Debug)]
struct Term {
    /// `None` without an election.
    lease: Option<(u64, Timings)>,
    /// When the last successful renewal was sent; `None` once the term is over.
    renewed: Mutex<Option<Instant>>,
    writes: watch::Sender<usize>,
}

impl LeaseGuard {
    /// A term that began with a record sent at `sent`.
    pub(crate) fn begin(epoch: u64, timings: Timings, sent: Instant) -> Self {
        Self::new(Some((epoch, timings)), sent)
    }

    /// A term that lasts until it is ended.
    pub fn without_lease() -> Self {
        Self::new(None, Instant::now())
    }

    fn new(lease: Option<(u64, Timings)>, sent: Instant) -> Self {
        Self(Arc::new(Term { lease, renewed: Mutex::new(Some(sent)), writes: watch::Sender::new(0) }))
    }

    /// The term continues: a renewal sent at this time was confirmed.
    pub(super) fn renew(&self, sent: Instant) {
        if let Some(renewed) = self.0.renewed.lock().as_mut() {
            *renewed = sent.max(*renewed);
        }
    }

    /// No write may start any more. If this replica still holds the lease, the election starts again.
    pub fn end(&self) {
        *self.0.renewed.lock() = None;
    }

    /// Waits until no write is in progress. Returns whether that happened within the time.
    pub(super) async fn idle(&self, within: Duration) -> bool {
        let mut writes = self.0.writes.subscribe();
        // The sender lives in `self`, so this can't fail.
        tokio::time::timeout(within, writes.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// The Lease's transitions when this term began; `None` without an election.
    pub fn epoch(&self) -> Option<u64> {
        self.0.lease.map(|(epoch, _)| epoch)
    }

    /// The epoch to publish under, given that of the existing index. Ask once for each term and output.
    ///
    /// It is this term's epoch, unless the index has an equal or higher one: then the Lease was deleted, or there is no
    /// election (any more). The result is always higher than the existing epoch, so that readers can tell a new writer
    /// from the last one.
    pub fn epoch_over(&self, index: Option<u64>) -> u64 {
        let own = self.epoch().unwrap_or_default();
        index.map_or(own, |index| own.max(index.saturating_add(1)))
    }

    /// The last moment at which a write may start. It moves with every renewal. `None` once the term is over.
    pub fn write_deadline(&self) -> Option<Instant> {
        let renewed = (*self.0.renewed.lock())?;
        match self.0.lease {
            Some((_, timings)) => Some(renewed + timings.renew_deadline),
            None => Some(Instant::now() + LONGEST),
        }
    }

    /// Whether a write may start now.
    pub fn may_start_write(&self) -> bool {
        self.timeout_at(*self.0.renewed.lock(), Instant::now()).is_some()
    }

    /// The timeout of a write that starts now, in whole seconds, from one to ten: less than the time until another
    /// replica can have taken over. `None`: no write may start.
    fn timeout_at(&self, renewed: Option<Instant>, now: Instant) -> Option<Duration> {
        let renewed = renewed?;
        let Some((_, timings)) = self.0.lease else {
            return Some(LONGEST);
        };
        if now >= renewed + timings.renew_deadline {
            return None;
        }
        let left = (renewed + timings.lease_duration).saturating_duration_since(now);
        // The largest whole number that is less.
        let seconds = left.as_nanos().div_ceil(1_000_000_000).saturating_sub(1);
        let timeout = u64::try_from(seconds).map_or(LONGEST, Duration::from_secs).min(LONGEST);
        (!timeout.is_zero()).then_some(timeout)
    }

    /// The permission for one write. The lease is not released while it is held, so drop it when the answer arrives or
    /// the write is given up. `None`: no write may start.
    pub fn begin_write(&self) -> Option<WritePermit> {
        // Under the lock, so that `end` and `idle` see every permitted write.
        let renewed = self.0.renewed.lock();
        let timeout = self.timeout_at(*renewed, Instant::now())?;
        self.0.writes.send_modify(|count| *count += 1);
        Some(WritePermit { guard: self.clone(), timeout })
    }
}

/// The permission for one write, from now on and for [`WritePermit::timeout`].
#[derive(Debug)]
pub struct WritePermit {
    guard: LeaseGuard,
    timeout: Duration,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It may or may not have been executed.
    #[error("no answer within {}s", .0.as_secs())]
    Timeout(Duration),
    #[error("invalid request URL: {0}")]
    Uri(#[from] http::uri::InvalidUri),
}

impl WriteError {
    /// The status code of the API server's answer.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

impl WritePermit {
    /// Whole seconds, from one to ten.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one write that the API server drops after [`WritePermit::timeout`], and that is given up here a little
    /// later. It is not repeated.
    ///
    /// # Errors
    /// The API server's error, or a missing answer.
    pub async fn send<T: DeserializeOwned>(
        self,
        client: &Client,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, WriteError> {
        let request = with_timeout(request, self.timeout)?;
        answered(self.timeout + ANSWER_GRACE, client.request(request)).await
    }
}

/// The answer to a request, if it arrives in time.
pub(super) async fn answered<T>(
    within: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(within, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WriteError::Timeout(within)),
    }
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.guard.0.writes.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// What a guard allows so long after its last renewal was sent.
    fn allowed(timings: Timings, after: Duration) -> Option<Duration> {
        let sent = Instant::now();
        LeaseGuard::begin(1, timings, sent).timeout_at(Some(sent), sent + after)
    }

    #[test]
    fn a_write_is_over_before_anyone_else_can_lead() {
        let timings = Timings::default();
        for (after, wanted) in [
            (Duration::ZERO, Some(10)),
            (ms(4_999), Some(10)),
            (ms(5_000), Some(9)),
            (ms(5_001), Some(9)),
            (ms(9_999), Some(5)),
            (ms(10_000), None),
            (ms(14_000), None),
            (ms(60_000), None),
        ] {
            let timeout = allowed(timings, after);
            assert_eq!(timeout, wanted.map(Duration::from_secs), "after {after:?}");
            if let Some(timeout) = timeout {
                assert!(after + timeout < timings.lease_duration, "after {after:?}");
            }
        }
    }

    #[test]
    fn less_than_a_second_is_too_little() {
        let timings = Timings { lease_duration: ms(1_500), renew_deadline: ms(1_200), retry_period: ms(200) };
        assert_eq!(allowed(timings, ms(499)), Some(ms(1_000)));
        assert_eq!(allowed(timings, ms(500)), None, "a whole second is not less than what is left");
    }

    #[test]
    fn a_term_that_is_over_never_comes_back() {
        let guard = LeaseGuard::begin(1, Timings::default(), Instant::now());
        assert!(guard.may_start_write() && guard.write_deadline().is_some());
        guard.end();
        guard.renew(Instant::now());
        assert!(!guard.may_start_write());
        assert!(guard.begin_write().is_none());
        assert_eq!(guard.write_deadline(), None);
    }

    #[test]
    fn an_older_renewal_that_is_confirmed_late_takes_nothing_away() {
        let sent = Instant::now();
        let guard = LeaseGuard::begin(1, Timings::default(), sent);
        guard.renew(sent - ms(5_000));
        assert_eq!(guard.write_deadline(), Some(sent + ms(10_000)));
    }

    #[test]
    fn without_election_a_write_may_always_start() {
        let guard = LeaseGuard::without_lease();
        assert_eq!(
            (guard.epoch(), guard.timeout_at(*guard.0.renewed.lock(), Instant::now())),
            (None, Some(LONGEST))
        );
        assert!(guard.write_deadline().unwrap() > Instant::now());
        guard.end();
        assert!(guard.begin_write().is_none());
    }

    #[test]
    fn what_is_published_always_gets_a_higher_epoch() {
        let guard = LeaseGuard::begin(5, Timings::default(), Instant::now());
        assert_eq!([None, Some(3), Some(5), Some(9)].map(|index| guard.epoch_over(index)), [5, 5, 6, 10]);
        let guard = LeaseGuard::without_lease();
        assert_eq!([None, Some(0), Some(9)].map(|index| guard.epoch_over(index)), [0, 1, 10]);
    }

    #[tokio::test]
    async fn a_write_under_way_is_waited_for() {
        let guard = LeaseGuard::begin(1, Timings::default(), Instant::now());
        let (first, second) = (guard.begin_write().unwrap(), guard.begin_write().unwrap());
        guard.end();
        drop(first);
        assert!(!guard.idle(ms(100)).await);
        drop(second);
        assert!(guard.idle(ms(100)).await);
    }
}
