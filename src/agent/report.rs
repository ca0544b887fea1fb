//! Reports the generation that the proxy has loaded, in a Lease of the agent. The operator then writes an address into
//! a status only once requests to it are answered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::source::jitter;
use super::state::{AgentState, Mark, Topic};
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::with_causes;
use crate::published::agents;

/// How often an agent reports, give or take a fifth.
const INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of reports a second from all agents of an output together.
const TOGETHER: f64 = 20.0;

/// The number of intervals for which a report is valid.
const COUNTS_FOR: u32 = 3;

/// How often the agents are counted, and the Leases of dead ones are removed.
const COUNT_EVERY: Duration = Duration::from_secs(600);

/// A Lease belongs to a dead agent if its report is unchanged for this long after it expired.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// The page size for lists of Leases. Anyone who may write Leases can make each as large as etcd allows, 1.5 MB.
const PAGE: u32 = 10;

/// The maximum number of Leases that are counted, and removed after one count.
const COUNTED: usize = 10_000;
const REMOVED: usize = 20;

/// The first delay after a report that failed. It is doubled up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The last seen state of the Lease of any agent of the output.
struct SeenLease {
    renewed: Option<MicroTime>,
    /// When this state was seen first. The clocks of other machines do not matter.
    since: Instant,
}

/// The time of the next report.
struct Schedule {
    due: Instant,
    /// Not before this time, even if statuses wait.
    earliest: Instant,
    /// When to report for statuses that wait.
    urgent: Option<Instant>,
    failures: u32,
    /// No report of a loaded generation has been tried yet.
    first: bool,
}

/// The reports of one agent.
pub struct Reporter {
    leases: Api<Lease>,
    output: OutputKey,
    name: String,
    identity: String,
    /// The number of agents of the output, including this one.
    together: usize,
    counted: Option<Instant>,
    seen: HashMap<String, SeenLease>,
    /// The content of our Lease, if it exists. Unknown at the start.
    told: Option<Option<Mark>>,
}

impl Reporter {
    /// `identity` stays the same after a restart of the container: the pod's name.
    pub fn new(client: Client, output: OutputKey, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, output.namespace()),
            name: agents::lease_name(&output, &identity),
            output,
            identity,
            together: 1,
            counted: None,
            seen: HashMap::new(),
            told: None,
        }
    }

    /// Reports forever. `reached` signals that there may be something new.
    pub async fn run(mut self, state: AgentState, mut reached: watch::Receiver<Option<Mark>>) {
        let mut schedule = Schedule::new(Instant::now());
        loop {
            let mark = *reached.borrow_and_update();
            if is_urgent(self.told, mark, state.awaited()) {
                // All agents learn of it at the same time.
                let window = spread(self.together.saturating_sub(1));
                schedule.urgent.get_or_insert_with(|| Instant::now() + window.mul_f64(jitter()));
            } else {
                schedule.urgent = None;
            }
            if mark.is_some() {
                schedule.has_mark(Instant::now());
                if self.told.flatten().is_some() {
                    // Statuses wait for this agent already.
                    state.reported();
                }
            }
            if schedule.next() <= Instant::now() {
                let done = self.report(mark).await;
                if mark.is_some() {
                    state.reported();
                }
                schedule.reported(done.is_ok(), self.together);
                state.reason(
                    Topic::Report,
                    done.err().map(|reason| {
                        format!("the Lease {} can't be written, so statuses may wait: {reason}", self.name)
                    }),
                );
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(schedule.next().into()) => {}
                changed = reached.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Deletes the agent's Lease when the agent ends.
    pub async fn end(client: Client, output: &OutputKey, identity: &str) {
        let leases: Api<Lease> = Api::namespaced(client, output.namespace());
        let name = agents::lease_name(output, identity);
        // If it can't be deleted, it expires by itself.
        let _ = tokio::time::timeout(Duration::from_secs(1), leases.delete(&name, &DeleteParams::default()))
            .await;
    }

    async fn report(&mut self, mark: Option<Mark>) -> Result<(), String> {
        if self.counted.is_none_or(|at| at.elapsed() > COUNT_EVERY) {
            self.counted = Some(Instant::now());
            if let Err(reason) = self.count().await {
                tracing::info!("the other agents can't be counted: {reason}");
            }
        }
        match mark {
            Some(mark) => {
                // Even if this fails, the Lease may exist.
                self.told.get_or_insert(None);
                let lease = self.lease(mark);
                let parameters = PatchParams::apply("waybill-agent").force();
                answered(self.leases.patch(&self.name, &parameters, &Patch::Apply(&lease))).await?;
                self.told = Some(Some(mark));
            }
            None if self.told != Some(None) => {
                let deleted = answered(self.leases.delete(&self.name, &DeleteParams::default())).await;
                match deleted {
                    Err(ReportFailure::Api(kube::Error::Api(status))) if status.code == 404 => {}
                    deleted => drop(deleted?),
                }
                self.told = Some(None);
            }
            None => {}
        }
        Ok(())
    }

    fn lease(&self, mark: Mark) -> Lease {
        let seconds = i32::try_from((interval(self.together) * COUNTS_FOR).as_secs()).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.output.namespace().to_owned()),
                labels: Some(agents::labels(&self.output)),
                annotations: Some(agents::annotations(mark.epoch, mark.generation)),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Counts the agents that have reported since the last count, and removes the Leases of dead ones.
    async fn count(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let mut seen = HashMap::new();
        let mut dead = Vec::new();
        let mut parameters = ListParams::default().labels(&agents::selector(&self.output)).limit(PAGE);
        loop {
            let page = answered(self.leases.list(&parameters)).await?;
            for lease in page.items {
                let spec = lease.spec.as_ref();
                let renewed = spec.and_then(|spec| spec.renew_time.clone());
                let before = self.seen.get(&lease.name_any()).filter(|before| before.renewed == renewed);
                let since = before.map_or(now, |before| before.since);
                let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
                let counts_for = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
                if now.saturating_duration_since(since) > counts_for.saturating_add(REMOVE_AFTER) {
                    dead.push((lease.name_any(), lease.resource_version()));
                }
                seen.insert(lease.name_any(), SeenLease { renewed, since });
            }
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() || seen.len() >= COUNTED {
                break;
            }
        }
        self.together = seen.values().filter(|one| one.since == now).count().max(1);
        self.seen = seen;
        for (name, resource_version) in dead.into_iter().take(REMOVED) {
            let preconditions = Preconditions { resource_version, uid: None };
            let parameters = DeleteParams::default().preconditions(preconditions);
            // Another agent may have deleted it.
            let _ = answered(self.leases.delete(&name, &parameters)).await;
        }
        Ok(())
    }
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { due: now, earliest: now, urgent: None, failures: 0, first: true }
    }

    /// There is something to report. The first report is sent at once, however many other agents there are, because
    /// statuses wait for an agent only from its first report on.
    fn has_mark(&mut self, now: Instant) {
        if std::mem::take(&mut self.first) && self.failures == 0 {
            self.due = now;
        }
    }

    fn next(&self) -> Instant {
        self.urgent.map_or(self.due, |urgent| self.due.min(urgent.max(self.earliest)))
    }

    /// A report has finished.
    fn reported(&mut self, done: bool, together: usize) {
        let now = Instant::now();
        let interval = interval(together);
        self.failures = if done { 0 } else { self.failures.saturating_add(1) };
        self.earliest = now + spread(together);
        self.due = self.earliest.max(now + interval.mul_f64(0.8 + 0.4 * jitter()));
        if !done {
            let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(8)).min(interval);
            self.earliest = self.earliest.max(now + pause.mul_f64(0.5 + jitter()));
            self.due = self.due.min(self.earliest);
        }
        self.urgent = None;
    }
}

/// Whether to report out of turn: the proxy has got or lost its routing, or has loaded a generation that statuses wait
/// for.
fn is_urgent(told: Option<Option<Mark>>, reached: Option<Mark>, awaited: Option<Mark>) -> bool {
    let told = told.flatten();
    told.is_some() != reached.is_some() || (reached >= awaited && told < awaited)
}

/// The interval in which this many agents may report once each.
fn spread(agents: usize) -> Duration {
    Duration::from_secs_f64(agents as f64 / TOGETHER)
}

fn interval(together: usize) -> Duration {
    INTERVAL.max(spread(together))
}

#[derive(Debug, thiserror::Error)]
enum ReportFailure {
    #[error("{}", with_causes(.0))]
    Api(kube::Error),
    #[error("no answer within {ANSWER_WITHIN:?}")]
    NoAnswer,
}

impl From<ReportFailure> for String {
    fn from(failure: ReportFailure) -> Self {
        failure.to_string()
    }
}

async fn answered<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReportFailure> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer.map_err(ReportFailure::Api),
        Err(_) => Err(ReportFailure::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(generation: u64) -> Option<Mark> {
        Some(Mark { epoch: 2, generation })
    }

    #[test]
    fn what_statuses_wait_for_is_reported_at_once() {
        let before = Some(Mark { epoch: 1, generation: 9 });
        for (told, reached, awaited, urgent) in [
            (None, None, None, false),
            (None, mark(5), None, true),
            (Some(mark(4)), None, mark(4), true),
            (Some(None), None, mark(4), false),
            (Some(mark(4)), mark(5), mark(4), false),
            (Some(mark(4)), mark(5), mark(5), true),
            (Some(mark(3)), mark(6), mark(5), true),
            (Some(mark(3)), mark(4), mark(5), false),
            (Some(before), mark(10), mark(4), true),
        ] {
            assert_eq!(is_urgent(told, reached, awaited), urgent, "{told:?} {reached:?} {awaited:?}");
        }
    }

    #[test]
    fn all_agents_together_write_at_most_20_times_a_second() {
        for (together, seconds) in [(1, 10), (200, 10), (1_000, 50), (10_000, 500)] {
            assert_eq!(interval(together).as_secs(), seconds);
        }
        // Also while statuses wait all the time.
        for together in [1, 2, 1_000] {
            let now = Instant::now();
            let mut schedule = Schedule::new(now);
            schedule.reported(true, together);
            schedule.urgent = Some(Instant::now());
            let pause = schedule.next().saturating_duration_since(now).as_secs_f64();
            assert!(pause >= together as f64 / TOGETHER, "{together}: {pause}");
        }
    }

    #[test]
    fn the_first_report_of_a_mark_waits_for_no_other_agent() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        // That there is no mark yet.
        schedule.reported(true, 1_000);
        assert!(schedule.next() > now + Duration::from_secs(40));
        schedule.has_mark(now);
        assert_eq!(schedule.next(), now);
        schedule.reported(true, 1_000);
        schedule.has_mark(now);
        assert!(schedule.next() > now + Duration::from_secs(40), "the second takes its turn");

        let mut refused = Schedule::new(now);
        refused.reported(false, 1_000);
        refused.has_mark(now);
        assert!(refused.next() > now, "a failure is waited out");
    }

    #[test]
    fn a_report_that_fails_is_tried_again_after_a_pause_that_grows() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        for (shortest, longest) in [(0.5, 1.6), (1.0, 3.1), (2.0, 6.1), (4.0, 12.1), (5.0, 15.1), (5.0, 15.1)]
        {
            schedule.reported(false, 1);
            schedule.urgent = Some(Instant::now());
            let pause = schedule.next().saturating_duration_since(Instant::now()).as_secs_f64();
            assert!(pause > shortest - 0.1 && pause < longest, "{pause}");
        }
    }
}
