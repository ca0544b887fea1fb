//! Says in a Lease of the agent's own how far its proxy is, so that the operator writes an address into a status only
//! once requests to it are answered.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::source::{chain, jitter};
use super::state::{AgentState, Mark, Topic};
use crate::kubernetes::key::OutputKey;
use crate::published::agents::{self, AgentReport};

/// How often an agent reports, give or take a fifth.
const INTERVAL: Duration = Duration::from_secs(10);

/// All agents of an output together write at most so many reports a second.
const TOGETHER: f64 = 20.0;

/// A report counts for so many intervals.
const COUNTS_FOR: u32 = 3;

/// How often the agents are counted, and what dead ones left is removed.
const COUNT_EVERY: Duration = Duration::from_secs(600);

/// A report that ran out so long ago is nobody's.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Reports of one agent.
pub struct Reporter {
    leases: Api<Lease>,
    output: OutputKey,
    name: String,
    identity: String,
    /// Agents of the output, this one included.
    together: usize,
    counted: Option<Instant>,
    /// There may be a Lease of ours.
    there: bool,
}

impl Reporter {
    /// `identity` stays the same when the container is started anew: the pod's name.
    pub fn new(client: Client, output: OutputKey, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, output.namespace()),
            name: agents::lease_name(&output, &identity),
            output,
            identity,
            together: 1,
            counted: None,
            there: true,
        }
    }

    /// Reports for ever. `reached` says when there may be something new.
    pub async fn run(mut self, state: AgentState, mut reached: watch::Receiver<Option<Mark>>) {
        let mut next = Instant::now();
        loop {
            let mark = *reached.borrow_and_update();
            let urgent = mark.is_some_and(|mark| state.is_awaited(mark));
            if urgent || Instant::now() >= next {
                if urgent && self.together > 1 {
                    // Others report the same now.
                    tokio::time::sleep(self.spread().mul_f64(jitter())).await;
                }
                let done = self.report(state.reached()).await;
                if done.is_ok() {
                    state.reported(mark);
                }
                state.reason(
                    Topic::Report,
                    done.err().map(|reason| {
                        format!("the Lease {} can't be written, so statuses may wait: {reason}", self.name)
                    }),
                );
                next = Instant::now() + self.interval().mul_f64(0.8 + 0.4 * jitter());
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                changed = reached.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The agent ends, and with it its Lease.
    pub async fn end(client: Client, output: &OutputKey, identity: &str) {
        let leases: Api<Lease> = Api::namespaced(client, output.namespace());
        let name = agents::lease_name(output, identity);
        // It runs out by itself where it can't be deleted.
        let _ = tokio::time::timeout(Duration::from_secs(1), leases.delete(&name, &DeleteParams::default()))
            .await;
    }

    fn spread(&self) -> Duration {
        Duration::from_secs_f64(self.together as f64 / TOGETHER)
    }

    fn interval(&self) -> Duration {
        INTERVAL.max(self.spread())
    }

    async fn report(&mut self, mark: Option<Mark>) -> Result<(), String> {
        if self.counted.is_none_or(|at| at.elapsed() > COUNT_EVERY) {
            self.counted = Some(Instant::now());
            self.count().await?;
        }
        match mark {
            Some(mark) => {
                self.there = true;
                let lease = self.lease(mark);
                let parameters = PatchParams::apply("waybill-agent").force();
                answered(self.leases.patch(&self.name, &parameters, &Patch::Apply(&lease))).await.map(|_| ())
            }
            None if self.there => {
                let deleted = answered(self.leases.delete(&self.name, &DeleteParams::default())).await;
                let gone = deleted.as_ref().map_or_else(|error| error.contains("not found"), |_| true);
                self.there = !gone;
                if gone { Ok(()) } else { deleted.map(|_| ()) }
            }
            None => Ok(()),
        }
    }

    fn lease(&self, mark: Mark) -> Lease {
        let seconds = i32::try_from(self.interval().as_secs()).unwrap_or(i32::MAX / 4);
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
                lease_duration_seconds: Some(seconds.saturating_mul(COUNTS_FOR as i32)),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn count(&mut self) -> Result<(), String> {
        let list = answered(self.leases.list(&ListParams::default().labels(&agents::selector(&self.output))))
            .await?;
        let reports: Vec<AgentReport> = list.items.iter().filter_map(AgentReport::read).collect();
        let now = Timestamp::now();
        let age = |report: &AgentReport| now.duration_since(report.renewed).unsigned_abs();
        self.together = reports.iter().filter(|report| age(report) < report.counts_for).count().max(1);
        for lease in &list.items {
            let report = AgentReport::read(lease);
            if report.is_some_and(|report| age(&report) > REMOVE_AFTER + report.counts_for) {
                let _ = answered(self.leases.delete(&lease.name_any(), &DeleteParams::default())).await;
            }
        }
        Ok(())
    }
}

async fn answered<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?}")),
    }
}
