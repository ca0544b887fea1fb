//! A term of leadership. It begins with the guard from the election, and ends when no write may start any more.
//!
//! ```text
//! Live ──pending──▶ publisher ──commits──▶ ConfigMaps, Secrets
//!                       └──▶ statuses of Ingresses, once their output is committed
//! Live ──problems─▶ problems ──▶ Events
//! Live ──classes──▶ class publisher ──▶ stored settings of classes, statuses of their parameters
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::Client;
use tokio::runtime::Handle;

use crate::metrics::Metrics;
use crate::operator::agents::AgentTotals;
use crate::operator::class_publisher::ClassPublisher;
use crate::operator::expiring::count_expiring;
use crate::operator::live::{Live, Phase};
use crate::operator::problems::ProblemReports;
use crate::operator::publisher::{Pace, Publisher};
use crate::operator::status_view::Statuses;
use crate::operator::tasks::{RunError, Tasks};
use crate::options::Options;
use crate::publish::Requests;
use crate::publish::field_manager;
use crate::publish::lease::{LeaseGuard, LeaseHandle};
use crate::publish::outputs::index_subject;
use crate::publish::problems::Events;
use crate::publish::statuses::class_statuses::ClassWriter;
use crate::publish::statuses::writer::StatusWriter;
use crate::serve::Health;

/// How often a leader that may not write yet checks whether it still leads.
const LOOK: Duration = Duration::from_millis(100);

/// Leads, term by term.
pub struct Leader {
    pub client: Client,
    pub live: Arc<Live>,
    pub lease: LeaseHandle,
    pub metrics: Metrics,
    pub health: Health,
    pub identity: String,
    pub options: Arc<Options>,
}

impl Leader {
    /// Runs until `stop` is done and the last term is over.
    ///
    /// # Errors
    /// A part of a term that panicked.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.lease.changes();
        loop {
            let guard = changes.borrow_and_update().clone();
            if let Some(guard) = guard {
                self.live.set_leading(true);
                self.term(guard).await?;
                self.live.set_leading(false);
                self.metrics.clear_leaders();
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = &mut stop => return Ok(()),
            }
        }
    }

    /// Works until the guard allows no more writes. Nothing is written before every watch has listed.
    async fn term(&self, guard: LeaseGuard) -> Result<(), RunError> {
        let over = async {
            while guard.may_start_write() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = self.live.reached(Phase::Synced) => {}
            () = over => {
                // The lease might still be renewed, and then nobody would publish.
                guard.end();
                return Ok(());
            }
        }
        let options = &self.options;
        let events = Events::new(index_subject(&options.settings.output));
        let problems =
            Arc::new(ProblemReports::new(events.clone(), Arc::clone(&self.live), self.metrics.clone()));
        let manager = field_manager(&options.namespace, &options.leader_election.lease_name);
        let statuses = Statuses::new(Arc::clone(&self.live), Arc::clone(&problems), manager.clone(), options);
        let statuses = Arc::new(statuses);
        let requests = Requests::new(self.client.clone(), guard.clone(), self.metrics.clone());
        let pace = Pace {
            distance: options.providers_throttle_duration.max(options.throttle_duration),
            bytes_per_second: options.publish_bytes_per_second,
            max_withdrawal: options.max_withdrawal.unwrap_or_default(),
        };
        let agent_totals = AgentTotals::default();
        let classes = ClassPublisher::new(
            ClassWriter::new(
                requests.clone(),
                options.namespace.as_str(),
                options.leader_election.lease_name.as_str(),
            ),
            Arc::clone(&self.live),
            Arc::clone(&problems),
            requests.clone(),
            agent_totals.clone(),
        );
        let writer = StatusWriter::new(
            requests.clone(),
            &manager,
            Arc::clone(&statuses),
            Arc::clone(&statuses.queue),
            options.status_rate,
        );
        let publisher = Publisher::new(
            self.client.clone(),
            Arc::clone(&self.live),
            requests.clone(),
            Arc::clone(&problems),
            statuses,
            agent_totals,
            pace,
        );
        self.live.all_problems_pending();
        let heartbeat = self.health.heartbeat("publisher");
        let identity = self.identity.clone();
        let here = &Handle::current();
        // These tasks do not end by themselves. They are ended here, before the next term starts.
        let mut following = Tasks::default();
        following.spawn("problems", here, problems.follow().map(Ok));
        let counting = count_expiring(Arc::clone(&self.live), self.metrics.clone());
        following.spawn("certificates", here, counting.map(Ok));
        let mut parts = Tasks::default();
        parts.spawn("publisher", here, publisher.run(heartbeat).map(Ok));
        parts.spawn("statuses", here, writer.run().map(Ok));
        if !options.class.lookup_disabled {
            parts.spawn("class publisher", here, classes.run().map(Ok));
        }
        parts.spawn("events", here, async move {
            events.run(requests, &identity).await;
            Ok(())
        });
        loop {
            let ended = tokio::select! {
                ended = parts.next() => ended,
                ended = following.next() => ended,
            };
            match ended {
                Some((_, result)) => result?,
                None => break,
            }
            // Parts end with the term. If one ends too early, all of them end.
            guard.end();
        }
        following.stop().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::kubernetes::manifests::Manifests;
    use crate::publish::lease::{Elector, Timings};
    use crate::{offline, options};

    #[tokio::test]
    async fn a_term_that_ends_before_the_first_lists_is_not_renewed() {
        let nobody = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, tower::BoxError>(Response::new(Body::empty()))
        });
        let metrics = Metrics::new("x").unwrap();
        let options = Arc::new(options::from_yaml_str("").unwrap().options);
        let routing = offline::routing(Manifests::default(), &options);
        let leader = Leader {
            client: Client::new(nobody, "default"),
            live: Arc::new(Live::new(routing, metrics.clone())),
            lease: Elector::without_election(metrics.clone()).1,
            metrics,
            health: Health::default(),
            identity: "first".to_owned(),
            options,
        };
        let timings = Timings::default();
        let guard = LeaseGuard::begin(1, timings, Instant::now() - timings.renew_deadline);
        assert!(!guard.may_start_write() && guard.write_deadline().is_some(), "a late renewal would count");
        leader.term(guard.clone()).await.unwrap();
        assert_eq!(guard.write_deadline(), None);
    }
}
