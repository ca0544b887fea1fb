//! The whole way at scale: operator, agent and a real Traefik on one machine, without requests; then a Traefik with its
//! own Kubernetes Ingress provider over the same cluster.

use std::process::Command;
use std::time::{Duration, Instant};

use super::harness::operator::{Operator, binary, get};
use super::harness::{ADMIN, ControlPlane, Process, eventually, free_port, tool};
use super::report::{Goal, Report, Sample};
use super::{cluster, process, rounds};

const PATIENCE: Duration = Duration::from_secs(120);

/// Megabytes and milliseconds that the agent may take.
const MEMORY_GOAL: f64 = 60.0;
const CPU_GOAL: f64 = 10.0;

/// CPU of the Traefik behind the agent, in relation to that of Traefik's own provider.
const TRAEFIK_CPU_GOAL: f64 = 1.1;

/// The pause between two looks into Traefik's API.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than `providers.providersThrottleDuration`, which is not what is measured: each change comes after a quiet time.
const QUIET: Duration = Duration::from_millis(2_100);

struct Edge {
    agent: Process,
    traefik: Traefik,
    port: u16,
}

/// A Traefik, and how its API names what its provider gave it.
struct Traefik {
    process: Process,
    api: u16,
    provider: &'static str,
}

impl Traefik {
    fn start(plane: &ControlPlane, provider: &'static str, api: u16, arguments: &[String]) -> Self {
        let mut command = Command::new(tool("traefik"));
        command
            .arg(format!("--entrypoints.web.address=127.0.0.1:{}", free_port()))
            .arg(format!("--entrypoints.websecure.address=127.0.0.1:{}", free_port()))
            .arg(format!("--entrypoints.traefik.address=127.0.0.1:{api}"))
            .args(["--api.insecure=true", "--api.dashboard=false"])
            .args(["--providers.providersthrottleduration=100ms"])
            .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
            .args(arguments)
            .env_clear();
        Self { process: plane.spawn(&format!("traefik-{provider}"), &mut command), api, provider }
    }

    /// Waits until its API shows the first server of a Service as a change made it.
    async fn shows(&self, number: usize, change: u8) {
        let url = rounds::urls(&[(number, change)].into()).remove(0);
        let namespace = cluster::namespace(number);
        let path = format!("/api/http/services/{namespace}-app-{number}-80@{}", self.provider);
        let begun = Instant::now();
        loop {
            let answer = get(self.api, &path).await;
            if answer.as_ref().is_ok_and(|(_, body)| body.contains(&url)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} does not show {url}: {answer:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Changes endpoints one after the other. Gives the seconds until each was loaded, and the CPU milliseconds for one.
    async fn changes(&self, plane: &ControlPlane, count: usize, changes: usize, first: u8) -> (Sample, f64) {
        let client = plane.admin();
        let mut seconds = Vec::new();
        let cpu = process::cpu_seconds(self.process.id());
        for change in 0..changes {
            tokio::time::sleep(QUIET).await;
            let (number, address) = (change * 7 % count, first + (change % 100) as u8);
            let begun = Instant::now();
            rounds::change_endpoint(&client, number, address).await;
            self.shows(number, address).await;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let cpu = process::cpu_seconds(self.process.id()) - cpu;
        (Sample::new(seconds), cpu * 1_000.0 / changes as f64)
    }
}

impl Edge {
    /// Starts agent and Traefik with an empty folder; gives the seconds until it is written, and until it is loaded.
    async fn start(plane: &ControlPlane, name: &str) -> (Self, f64, f64) {
        let folder = plane.folder().join(name);
        let token = plane.service_account_token("waybill", "traefik").await;
        let token_file = plane.folder().join(format!("{name}.token"));
        std::fs::write(&token_file, token).unwrap();
        let [port, api] = std::array::from_fn(|_| free_port());
        let mut command = Command::new(binary());
        command
            .args(["agent", "--output", "waybill/waybill", "--directory"])
            .arg(&folder)
            .arg(format!("--traefik-api=http://127.0.0.1:{api}"))
            .arg(format!("--metrics-address=127.0.0.1:{port}"))
            .arg(format!("--providers.kubernetesingress.endpoint={}", plane.url()))
            .arg(format!("--providers.kubernetesingress.token={}", token_file.display()))
            .arg(format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()))
            .env_clear()
            .env("POD_NAME", name);
        let begun = Instant::now();
        let agent = plane.spawn(&format!("agent-{name}"), &mut command);
        answers(port, "/startupz").await;
        let written = begun.elapsed().as_secs_f64();
        let provider = format!("--providers.file.directory={}", folder.join("dynamic").display());
        let traefik =
            Traefik::start(plane, "file", api, &[provider, "--providers.file.watch=true".to_owned()]);
        answers(port, "/readyz").await;
        (Self { agent, traefik, port }, written, begun.elapsed().as_secs_f64())
    }

    async fn metric(&self, series: &str) -> f64 {
        let (_, body) = get(self.port, "/metrics").await.unwrap();
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series}: {body}"))
    }

    /// The mean of a histogram, in seconds.
    async fn mean(&self, histogram: &str) -> f64 {
        self.metric(&format!("{histogram}_sum")).await / self.metric(&format!("{histogram}_count")).await
    }
}

async fn answers(port: u16, path: &str) {
    eventually(&format!("{path} answers 200"), PATIENCE, async || match get(port, path).await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Measures `changes` changes of an endpoint on either way; gives the goals that are missed.
pub async fn measure(plane: &ControlPlane, count: usize, changes: usize) -> Vec<String> {
    plane.install("manifests/examples/traefik");
    let (operator, _): (Operator, _) = rounds::start(plane, "edge-operator", count, &[]).await;
    let (edge, written, loaded) = Edge::start(plane, "edge").await;
    let fetched = edge.metric("waybill_agent_fetched_bytes_total").await;
    let agent_cpu = process::cpu_seconds(edge.agent.id());
    let (ours, our_cpu) = edge.traefik.changes(plane, count, changes, 3).await;
    let agent_cpu = (process::cpu_seconds(edge.agent.id()) - agent_cpu) * 1_000.0 / changes as f64;
    let fetched = (edge.metric("waybill_agent_fetched_bytes_total").await - fetched) / changes as f64;
    let to_disk = edge.mean("waybill_agent_commit_to_disk_seconds").await;
    let to_loaded = edge.mean("waybill_agent_disk_to_loaded_seconds").await;
    let writes = edge.metric("waybill_agent_writes_total").await;
    rounds::heartbeats(plane, &operator, 0).await;
    rounds::unused_slices(plane, &operator, 0).await;
    let reloads = edge.metric("waybill_agent_writes_total").await - writes;
    let memory = process::peak_megabytes(edge.agent.id());
    drop(edge);
    drop(operator);
    let (theirs, their_cpu) = own_provider(plane, count, changes).await;

    let mut report = Report::default();
    report.line(
        "change to loaded",
        "s",
        &ours,
        &[Goal::AtMost(theirs.median()), Goal::Beside("Traefik's own provider", theirs.median())],
    );
    report.line("own provider: change to loaded", "s", &theirs, &[]);
    let mut line = |what: &str, unit: &str, value: f64, goals: &[Goal]| {
        report.line(what, unit, &Sample::new(vec![value]), goals);
    };
    line("change to loaded, p99", "s", ours.quantile(0.99), &[]);
    line("own provider: p99", "s", theirs.quantile(0.99), &[]);
    line("of it, from commit to disk", "s", to_disk, &[]);
    line("of it, from disk to loaded", "s", to_loaded, &[]);
    line(
        "Traefik's CPU for a change",
        "ms",
        our_cpu,
        &[Goal::AtMost(their_cpu * TRAEFIK_CPU_GOAL), Goal::Beside("Traefik's own provider", their_cpu)],
    );
    line("own provider: Traefik's CPU", "ms", their_cpu, &[]);
    line("agent's CPU for a change", "ms", agent_cpu, &[Goal::AtMost(CPU_GOAL)]);
    line("bytes fetched for a change", "B", fetched, &[]);
    line("agent's peak memory", "MB", memory, &[Goal::AtMost(MEMORY_GOAL)]);
    line("reloads by heartbeats", "", reloads, &[Goal::AtMost(0.0)]);
    line("empty folder to written", "s", written, &[]);
    line("empty folder to loaded", "s", loaded, &[]);
    report.missed
}

/// The same changes with a Traefik that reads the cluster itself.
async fn own_provider(plane: &ControlPlane, count: usize, changes: usize) -> (Sample, f64) {
    let arguments = [
        format!("--providers.kubernetesingress.endpoint={}", plane.url()),
        format!("--providers.kubernetesingress.token={ADMIN}"),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ];
    let traefik = Traefik::start(plane, "kubernetes", free_port(), &arguments);
    traefik.shows(0, 3).await;
    traefik.changes(plane, count, changes, 101).await
}
