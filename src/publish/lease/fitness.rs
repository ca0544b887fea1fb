//! Decides whether this replica is fit to lead. A leader with dead watches would publish an old state while its Lease,
//! renewed on another connection, looks healthy.

use std::time::{Duration, Instant};

use super::LeaseHandle;
use crate::metrics::{Label, Metrics, WatchKind};

/// The limits after which a watch counts as dead, and as alive again.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A watch that was silent for longer is dead.
    pub dead_after: Duration,
    /// After one was dead, all have to be heard from within this time. It is longer than the silence of a working
    /// watch.
    pub live_within: Duration,
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dead_after: Duration::from_secs(60),
            live_within: Duration::from_secs(35),
            look: Duration::from_millis(500),
        }
    }
}

/// Whether watches of a kind count. Those of published objects run only on the leader, so nobody knows whether they
/// would work on another replica. A leader that gave up would end them, so they could never recover.
fn counts(kind: WatchKind) -> bool {
    !matches!(kind, WatchKind::OwnConfigMap | WatchKind::OwnSecret | WatchKind::Lease | WatchKind::AgentLease)
}

/// Keeps the replica out of the election until everything is `listed`, and while a watch is dead. If all replicas are
/// out, nobody leads, and what is published stays, until one has all its watches again. Returns a future that ends only
/// by being dropped; the replica is out from this call on.
pub fn keep_fit(
    lease: LeaseHandle,
    metrics: Metrics,
    listed: impl Future<Output = ()>,
    limits: Limits,
) -> impl Future<Output = ()> {
    let takes_part = move |fit: bool, metrics: &Metrics| {
        metrics.candidate.set(f64::from(u8::from(fit)));
        lease.set_candidate(fit);
    };
    takes_part(false, &metrics);
    async move {
        listed.await;
        takes_part(true, &metrics);
        watch_over(metrics, takes_part, limits).await;
    }
}

async fn watch_over(metrics: Metrics, takes_part: impl Fn(bool, &Metrics), limits: Limits) {
    let mut fit = true;
    loop {
        let quietest = metrics.watch_age.quietest(counts, Instant::now());
        let age = quietest.map_or(Duration::ZERO, |(_, age)| age);
        if let Some(now) = judge(fit, age, &limits) {
            fit = now;
            takes_part(fit, &metrics);
            match quietest {
                Some((kind, _)) if !fit => tracing::warn!(
                    kind = kind.as_str(),
                    seconds = age.as_secs(),
                    "a watch is dead; this replica does not lead until all of its watches are alive again"
                ),
                _ => tracing::info!("all watches are alive again; this replica takes part in the election"),
            }
        }
        tokio::time::sleep(limits.look).await;
    }
}

/// The new verdict, if it changed. Between the limits, the last one holds.
fn judge(fit: bool, quietest: Duration, limits: &Limits) -> Option<bool> {
    match fit {
        true if quietest > limits.dead_after => Some(false),
        false if quietest <= limits.live_within => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dead_has_to_live_and_not_only_to_be_less_dead() {
        let limits = Limits::default();
        let seconds = Duration::from_secs;
        for (fit, age, wanted) in [
            (true, 0, None),
            (true, 60, None),
            (true, 61, Some(false)),
            (false, 61, None),
            (false, 36, None),
            (false, 35, Some(true)),
            (false, 0, Some(true)),
        ] {
            assert_eq!(judge(fit, seconds(age), &limits), wanted, "{fit} {age}");
        }
        assert!(limits.live_within > seconds(u64::from(crate::operator::feeds::WATCH_SECONDS)));
    }

    #[test]
    fn a_watch_that_only_leaders_have_does_not_count() {
        let other = |kind: &&WatchKind| !counts(**kind);
        let own: Vec<_> = WatchKind::ALL.iter().filter(other).map(|kind| kind.as_str()).collect();
        assert_eq!(own, ["own_configmaps", "own_secrets", "leases", "agent_leases"]);
    }
}
