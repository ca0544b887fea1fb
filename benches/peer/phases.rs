//! What each of the two goes through.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::Figures;
use super::changes::{Changes, Wanted};
use super::harness::{ControlPlane, Part};
use super::subject::{Kind, OutOfTime, PEER_WITHIN, Subject};
use super::{cluster, fill, process, rounds};

/// Changes whose way into the index is timed one by one: without a throttle, and with the default one.
const TIMED: u32 = 100;
const TIMED_WITH_THROTTLE: u32 = 12;

/// Of `providersThrottleDuration`.
const DEFAULT_THROTTLE: Duration = Duration::from_secs(2);

/// However slow the machine is.
const COMMITS_WITHIN: Duration = Duration::from_secs(60);

/// CPU seconds of the API server so far.
pub fn api_seconds(plane: &ControlPlane) -> f64 {
    process::cpu_seconds(plane.id(Part::ApiServer))
}

pub struct Phases<'a> {
    pub plane: &'a ControlPlane,
    pub kind: Kind,
    pub count: usize,
    /// Of each phase of changes.
    pub seconds: u64,
    /// CPU seconds that a change of an endpoint costs the API server when nobody follows.
    pub bare: f64,
    pub figures: &'a mut Figures,
}

impl Phases<'_> {
    fn add(&mut self, name: &'static str, value: f64) {
        self.figures.entry(name).or_default().push(value);
    }

    /// Measures one subject. What the peer does not get to in its time is left out.
    pub async fn run(&mut self, changes: &mut Changes<'_>) {
        fill::delete_output(self.plane).await;
        let mut subject = Subject::start(self.plane, self.kind, "bench", &[]).await;
        let mut in_time = self.loaded(&subject, "start").await;
        if in_time.is_ok() {
            self.add("start_cpu", subject.cpu_seconds());
            // Traefik keeps nothing, so that every start is the first.
            if self.kind == Kind::Waybill {
                subject.stop().await;
                subject = Subject::start(self.plane, self.kind, "bench", &[]).await;
                in_time = self.loaded(&subject, "restart").await;
            }
        }
        if in_time.is_ok() {
            in_time = self.changes(&subject, changes).await;
        }
        if in_time.is_err() {
            let within = PEER_WITHIN.as_secs();
            let got = self.figures.keys().copied().collect::<Vec<_>>().join(", ");
            println!("{} Ingresses: Traefik was stopped after {within} s; measured are {got}", self.count);
        }
        self.add("memory", process::peak_megabytes(subject.id()));
        match self.kind {
            Kind::Traefik => subject.stop().await,
            Kind::Waybill => {
                self.add_takeover(subject, changes).await;
                let unthrottled = ["--providers.providersthrottleduration=0s"];
                let pause = |_| Duration::from_millis(50);
                self.add_committed("committed", changes, &unthrottled, TIMED, pause).await;
                // So that changes come at all times between one commit and when the next one may be.
                let pause = |change| DEFAULT_THROTTLE / TIMED_WITH_THROTTLE * change;
                self.add_committed("throttled", changes, &[], TIMED_WITH_THROTTLE, pause).await;
            }
        }
    }

    /// Adds the seconds until a subject that was just started has loaded everything.
    async fn loaded(&mut self, subject: &Subject, name: &'static str) -> Result<(), OutOfTime> {
        subject.loaded(self.plane, cluster::routers(0..self.count)).await?;
        self.add(name, subject.age().as_secs_f64());
        Ok(())
    }

    async fn changes(&mut self, subject: &Subject, changes: &mut Changes<'_>) -> Result<(), OutOfTime> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // CPU time is counted in hundredths of a second, which are much beside what these take.
        let idle = spent(subject, 20.0, async || tokio::time::sleep(Duration::from_secs(20)).await).await;
        self.add("idle", idle);
        let beats = self.seconds.max(20) * 10;
        let heartbeat = spent(subject, beats as f64, async || changes.heartbeats(beats).await).await;
        self.add("heartbeat", heartbeat);
        let slices = self.seconds.max(20) * 5;
        let unused = spent(subject, slices as f64, async || changes.unused_slices(slices).await).await;
        self.add("unused", unused);
        self.read(subject).await;
        for (name, rate) in [("used_1", 1), ("used_20", 20), ("used_200", 200)] {
            let times = self.seconds * rate;
            let (before_api, before_bytes) = (api_seconds(self.plane), subject.written_bytes().await);
            let looks =
                self.change(subject, name, times, async || changes.endpoints(times, rate).await).await?;
            if name == "used_1" && self.kind == Kind::Waybill {
                let bytes = subject.written_bytes().await;
                self.add("bytes", (bytes[0] - before_bytes[0]) / times as f64);
                self.add("text", (bytes[1] - before_bytes[1]) / times as f64);
            }
            if name == "used_20" {
                // Without the looks for what has arrived.
                let spent = api_seconds(self.plane) - before_api - looks;
                self.add("api", (spent / times as f64 - self.bare) * 1_000.0);
            }
        }
        let times = self.seconds;
        self.change(subject, "shared", times, async || changes.shared(times).await).await?;
        self.change(subject, "rollout", 1, async || changes.rollout().await).await?;
        self.change(subject, "annotation", times, async || changes.annotations(times, 1).await).await?;
        if self.count > cluster::LARGE_NAMESPACE {
            self.delete_namespace(subject, changes).await?;
        }
        Ok(())
    }

    /// Reads all that waybill has published, which takes seconds where there is much, so that a look for a change reads
    /// only what is new.
    async fn read(&self, subject: &Subject) {
        if self.kind == Kind::Waybill {
            subject.missing(self.plane, &Wanted::default()).await.expect("what is published");
        }
    }

    /// CPU milliseconds for each of `times` changes, once all of them are there. Gives the CPU seconds that looking for
    /// them cost the API server.
    async fn change(
        &mut self,
        subject: &Subject,
        name: &'static str,
        times: u64,
        make: impl AsyncFnOnce() -> Wanted,
    ) -> Result<f64, OutOfTime> {
        let before = subject.cpu_seconds();
        let wanted = make().await;
        let last = Instant::now();
        let looks = subject.arrived(self.plane, &wanted).await?;
        if name == "used_1" {
            self.add("arrived", last.elapsed().as_secs_f64());
        }
        let spent = subject.cpu_seconds() - before - looks.subject;
        self.add(name, spent * 1_000.0 / times as f64);
        Ok(looks.api)
    }

    async fn delete_namespace(&mut self, subject: &Subject, changes: &Changes<'_>) -> Result<(), OutOfTime> {
        let (begun, cpu) = (Instant::now(), subject.cpu_seconds());
        changes.delete_namespace().await;
        let gone = subject.loaded(self.plane, cluster::routers(cluster::LARGE_NAMESPACE..self.count)).await;
        let taken = (begun.elapsed().as_secs_f64(), subject.cpu_seconds() - cpu);
        changes.restore_namespace().await;
        gone?;
        self.add("deleted", taken.0);
        self.add("deleted_cpu", taken.1);
        subject.loaded(self.plane, cluster::routers(0..self.count)).await
    }

    /// Kills the leader beside a replica that follows, and waits for the replica's first commit.
    async fn add_takeover(&mut self, leader: Subject, changes: &mut Changes<'_>) {
        let follower = Subject::start(self.plane, self.kind, "bench-follower", &[]).await;
        follower.ready().await;
        self.read(&follower).await;
        let begun = Instant::now();
        leader.kill().await;
        let wanted = changes.endpoints(1, 1).await;
        if follower.arrived(self.plane, &wanted).await.is_ok() {
            self.add("takeover", begun.elapsed().as_secs_f64());
        }
        follower.stop().await;
    }

    /// Adds the milliseconds from each of some changes until the index that has it is there. A change is there once the
    /// API server has answered. Each has its commit before the next one is made, and a pause before it.
    async fn add_committed(
        &mut self,
        name: &'static str,
        changes: &mut Changes<'_>,
        flags: &[&str],
        times: u32,
        pause: impl Fn(u32) -> Duration,
    ) {
        let subject = Subject::start(self.plane, Kind::Waybill, "bench", flags).await;
        if subject.loaded(self.plane, cluster::routers(0..self.count)).await.is_err() {
            return;
        }
        let indices: Api<ConfigMap> = Api::namespaced(self.plane.admin(), "waybill");
        let index = watcher::Config::default().labels(rounds::INDICES);
        let mut versions = pin!(watcher(indices, index).applied_objects());
        for _ in rounds::indices(self.plane).await.unwrap() {
            versions.next().await.expect("a watch without end").unwrap();
        }
        for change in 0..times {
            tokio::time::sleep(pause(change)).await;
            // A commit that came since is not that of the change.
            while versions.next().now_or_never().is_some() {}
            changes.endpoints(1, 1).await;
            let answered = Instant::now();
            let committed = tokio::time::timeout(COMMITS_WITHIN, versions.next()).await;
            committed.expect("the change is committed").expect("a watch without end").unwrap();
            self.add(name, answered.elapsed().as_secs_f64() * 1_000.0);
        }
        subject.stop().await;
    }
}

/// CPU milliseconds for each of so many.
async fn spent(subject: &Subject, times: f64, work: impl AsyncFnOnce()) -> f64 {
    let before = subject.cpu_seconds();
    work().await;
    (subject.cpu_seconds() - before) * 1_000.0 / times
}
