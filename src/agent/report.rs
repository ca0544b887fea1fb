//! Reports the generation that the proxy has loaded, in a Lease of the agent. The operator then writes an address into
//! a status only once requests to it are answered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use tokio::sync::watch;

use super::state::{AgentState, Topic};
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::with_causes;
use crate::pace::random;
use crate::published::agents;
use crate::published::index::CommitId;

/// How often an agent reports, give or take a fifth.
const INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of reports a second from all agents of a namespace together.
const TOGETHER: f64 = 20.0;

/// The number of intervals for which a report is valid.
const COUNTS_FOR: u32 = 3;

/// How often an agent counts all of them.
const COUNT_EVERY: Duration = Duration::from_secs(600);

/// A Lease that is unchanged for this long belongs to a dead agent. With [`COUNTED`] agents, each writes its Lease six
/// times in this time.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// The page size for lists of Leases. Anyone who may write Leases can make each as large as etcd allows, 1.5 MB.
const PAGE: u32 = 10;

/// The maximum number of Leases that are counted or listed, and that are removed at a time.
const COUNTED: usize = 10_000;
const REMOVED: usize = 20;

/// The first delay after a report that failed. It is doubled up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// resourceVersions of Leases by their names.
type LeaseVersions = HashMap<String, String>;

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
    /// The number of agents of the namespace, including this one.
    together: usize,
    counted: Option<Instant>,
    /// The Leases of all agents of the output, and when they were listed. `None` unless it is this agent's turn to remove
    /// the Leases of dead ones.
    listed: Option<(Instant, LeaseVersions)>,
    /// The content of our Lease, if it exists. Unknown at the start.
    told: Option<Option<CommitId>>,
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
            listed: None,
            told: None,
        }
    }

    /// Reports forever. `reached` signals that there may be something new.
    pub async fn run(mut self, state: AgentState, mut reached: watch::Receiver<Option<CommitId>>) {
        let mut schedule = Schedule::new(Instant::now());
        loop {
            let commit = *reached.borrow_and_update();
            if is_urgent(self.told, commit, state.awaited()) {
                // All agents learn of it at the same time.
                let window = spread(self.together.saturating_sub(1));
                schedule.urgent.get_or_insert_with(|| Instant::now() + window.mul_f64(random()));
            } else {
                schedule.urgent = None;
            }
            if commit.is_some() {
                if commit != Some(CommitId::NOTHING) {
                    schedule.has_loaded(Instant::now());
                }
                if self.told.flatten().is_some() {
                    // Statuses wait for this agent already.
                    state.reported();
                }
            }
            if schedule.next() <= Instant::now() {
                self.look_around().await;
                // Meanwhile there may be more to report.
                let commit = *reached.borrow_and_update();
                let done = self.report(commit).await;
                if commit.is_some() {
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

    async fn report(&mut self, commit: Option<CommitId>) -> Result<(), String> {
        match commit {
            Some(commit) => {
                // Even if this fails, the Lease may exist.
                self.told.get_or_insert(None);
                let lease = self.lease(commit);
                let parameters = PatchParams::apply("waybill-agent").force();
                answered(self.leases.patch(&self.name, &parameters, &Patch::Apply(&lease))).await?;
                self.told = Some(Some(commit));
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

    fn lease(&self, commit: CommitId) -> Lease {
        let seconds = i32::try_from((interval(self.together) * COUNTS_FOR).as_secs()).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.output.namespace().to_owned()),
                labels: Some(agents::labels(&self.output)),
                annotations: Some(agents::annotations(commit)),
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

    /// Counts the agents and removes the Leases of dead ones, if that is due.
    async fn look_around(&mut self) {
        if self.counted.is_some_and(|at| at.elapsed() <= COUNT_EVERY) {
            return;
        }
        self.counted = Some(Instant::now());
        let counted = self.count().await;
        let done = if counted.is_ok() { self.tidy().await } else { counted };
        if let Err(reason) = done {
            tracing::info!("the other agents can't be counted: {reason}");
        }
    }

    /// Fetches one Lease and the number of remaining ones. Nearly all Leases in the namespace of an output belong to its
    /// agents. If each agent listed all of them, the cost would grow with the square of their number.
    async fn count(&mut self) -> Result<(), ReportFailure> {
        let page = answered(self.leases.list_metadata(&ListParams::default().limit(1))).await?;
        let is_whole = page.metadata.continue_.is_none_or(|token| token.is_empty());
        // If the API server leaves the number out, the last count stays.
        if let Some(more) = page.metadata.remaining_item_count.or(is_whole.then_some(0)) {
            let more = usize::try_from(more).unwrap_or_default();
            self.together = page.items.len().saturating_add(more).clamp(1, COUNTED);
        }
        Ok(())
    }

    /// Removes Leases that did not change between two lists. On average, one of all agents starts this per
    /// [`COUNT_EVERY`].
    async fn tidy(&mut self) -> Result<(), ReportFailure> {
        let due = match &self.listed {
            Some((at, _)) => at.elapsed() >= REMOVE_AFTER,
            None => random() * (self.together as f64) < 1.0,
        };
        if !due {
            return Ok(());
        }
        let found = self.list().await?;
        let Some((_, before)) = self.listed.take() else {
            self.listed = Some((Instant::now(), found));
            return Ok(());
        };
        let dead = found.into_iter().filter(|(name, version)| before.get(name) == Some(version));
        for (name, version) in dead.take(REMOVED) {
            let preconditions = Preconditions { resource_version: Some(version), uid: None };
            let parameters = DeleteParams::default().preconditions(preconditions);
            // Another agent may have deleted it.
            let _ = answered(self.leases.delete(&name, &parameters)).await;
        }
        Ok(())
    }

    async fn list(&self) -> Result<LeaseVersions, ReportFailure> {
        let mut found = LeaseVersions::new();
        let mut parameters = ListParams::default().labels(&agents::selector(&self.output)).limit(PAGE);
        loop {
            let page = answered(self.leases.list_metadata(&parameters)).await?;
            let metadata = page.items.into_iter().map(|lease| lease.metadata);
            found.extend(metadata.filter_map(|lease| lease.name.zip(lease.resource_version)));
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() || found.len() >= COUNTED {
                return Ok(found);
            }
        }
    }
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { due: now, earliest: now, urgent: None, failures: 0, first: true }
    }

    /// There is something to report. The first report is sent at once, however many other agents there are, because
    /// statuses wait for an agent only from its first report on.
    fn has_loaded(&mut self, now: Instant) {
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
        self.due = self.earliest.max(now + interval.mul_f64(0.8 + 0.4 * random()));
        if !done {
            let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(8)).min(interval);
            self.earliest = self.earliest.max(now + pause.mul_f64(0.5 + random()));
            self.due = self.due.min(self.earliest);
        }
        self.urgent = None;
    }
}

/// Whether to report out of turn: the proxy has got or lost its routing, or has loaded a generation that statuses wait
/// for.
fn is_urgent(told: Option<Option<CommitId>>, reached: Option<CommitId>, awaited: Option<CommitId>) -> bool {
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
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use http::{Method, Request, Response};
    use kube::client::Body;

    use super::*;

    fn commit(generation: u64) -> Option<CommitId> {
        Some(CommitId::new(2, generation))
    }

    #[test]
    fn what_statuses_wait_for_is_reported_at_once() {
        let before = Some(CommitId::new(1, 9));
        for (told, reached, awaited, urgent) in [
            (None, None, None, false),
            (None, commit(5), None, true),
            (Some(commit(4)), None, commit(4), true),
            (Some(None), None, commit(4), false),
            (Some(commit(4)), commit(5), commit(4), false),
            (Some(commit(4)), commit(5), commit(5), true),
            (Some(commit(3)), commit(6), commit(5), true),
            (Some(commit(3)), commit(4), commit(5), false),
            (Some(before), commit(10), commit(4), true),
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
        // That there is no commit yet.
        schedule.reported(true, 1_000);
        assert!(schedule.next() > now + Duration::from_secs(40));
        schedule.has_loaded(now);
        assert_eq!(schedule.next(), now);
        schedule.reported(true, 1_000);
        schedule.has_loaded(now);
        assert!(schedule.next() > now + Duration::from_secs(40), "the second takes its turn");

        let mut refused = Schedule::new(now);
        refused.reported(false, 1_000);
        refused.has_loaded(now);
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

    /// An API server with Leases by name; it counts requests.
    #[derive(Default)]
    struct FakeApi {
        leases: Mutex<BTreeMap<String, u64>>,
        lists: AtomicUsize,
    }

    impl FakeApi {
        fn answer(&self, request: &Request<Body>) -> serde_json::Value {
            let mut leases = self.leases.lock();
            if request.method() == Method::DELETE {
                leases.remove(request.uri().path().rsplit('/').next().unwrap());
                return serde_json::json!({"kind": "Status", "status": "Success"});
            }
            self.lists.fetch_add(1, Ordering::Relaxed);
            let query: BTreeMap<_, _> =
                form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
            let limit = query["limit"].parse().unwrap();
            let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
            let items: Vec<_> = leases
                .iter()
                .skip(from)
                .take(limit)
                .map(|(name, version)| {
                    serde_json::json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
                })
                .collect();
            let rest = leases.len() - from - items.len();
            let next = if rest > 0 { (from + limit).to_string() } else { String::new() };
            // As the API server does it: with a selector it does not count.
            let rest = (rest > 0 && !query.contains_key("labelSelector")).then_some(rest);
            serde_json::json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "items": items,
                "metadata": {"continue": next, "remainingItemCount": rest},
            })
        }
    }

    fn reporter(api: &Arc<FakeApi>) -> Reporter {
        let api = Arc::clone(api);
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = Response::new(Body::from(api.answer(&request).to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        Reporter::new(Client::new(service, "edge"), OutputKey::new("edge", "edge"), "a".to_owned())
    }

    #[tokio::test]
    async fn a_thousand_agents_count_one_another_with_few_requests() {
        let api = Arc::new(FakeApi::default());
        *api.leases.lock() = (0..1_000).map(|at| (format!("edge.a-{at}"), at)).collect();
        for _ in 0..1_000 {
            let mut reporter = reporter(&api);
            reporter.look_around().await;
            assert_eq!(reporter.together, 1_000);
            reporter.look_around().await;
        }
        // One each, and 100 of the one, or the few, whose turn it is to look through them.
        let lists = api.lists.load(Ordering::Relaxed);
        assert!((1_000..2_500).contains(&lists), "{lists}");
    }

    #[tokio::test]
    async fn what_dead_agents_left_is_removed() {
        let api = Arc::new(FakeApi::default());
        let names = |api: &FakeApi| api.leases.lock().keys().cloned().collect::<Vec<_>>();
        let mut reporter = reporter(&api);
        reporter.look_around().await;
        assert_eq!(reporter.together, 1, "itself");
        *api.leases.lock() = (0..15).map(|at| (format!("edge.a-{at:02}"), at)).collect();
        reporter.listed = None;
        reporter.tidy().await.unwrap();
        reporter.tidy().await.unwrap();
        assert_eq!(names(&api).len(), 15, "not before an hour has gone by");
        for live in 2..15 {
            *api.leases.lock().get_mut(&format!("edge.a-{live:02}")).unwrap() += 100;
        }
        api.leases.lock().insert("edge.a-99".to_owned(), 1);
        let (at, _) = reporter.listed.as_mut().unwrap();
        *at = at.checked_sub(REMOVE_AFTER).unwrap();
        reporter.tidy().await.unwrap();
        assert_eq!(names(&api)[..1], ["edge.a-02"]);
        assert_eq!(names(&api).len(), 14);
    }
}
