//! The whole way at scale: operator, agent and a real Traefik on one machine, without requests.

use std::process::Command;
use std::time::{Duration, Instant};

use super::harness::operator::{Operator, binary, get};
use super::harness::{ControlPlane, Process, eventually, free_port, tool};
use super::report::{Goal, Report, Sample};
use super::{process, rounds};

const PATIENCE: Duration = Duration::from_secs(120);

/// Megabytes and milliseconds that the agent may take.
const MEMORY_GOAL: f64 = 60.0;
const CPU_GOAL: f64 = 10.0;

/// Seconds that Traefik's own provider takes at 10,000 Ingresses from a change to its API.
const TRAEFIK_SECONDS: f64 = 2.4;

struct Edge {
    agent: Process,
    traefik: Process,
    port: u16,
}

impl Edge {
    /// Starts agent and Traefik with an empty folder; gives the seconds until it is written, and until it is loaded.
    async fn start(plane: &ControlPlane, name: &str) -> (Self, f64, f64) {
        let folder = plane.folder().join(name);
        let token = plane.service_account_token("waybill", "traefik").await;
        let token_file = plane.folder().join(format!("{name}.token"));
        std::fs::write(&token_file, token).unwrap();
        let [port, web, api] = std::array::from_fn(|_| free_port());
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
        let mut command = Command::new(tool("traefik"));
        command
            .arg(format!("--entrypoints.web.address=127.0.0.1:{web}"))
            .arg(format!("--entrypoints.traefik.address=127.0.0.1:{api}"))
            .args(["--api.insecure=true", "--api.dashboard=false"])
            .arg(format!("--providers.file.directory={}", folder.join("dynamic").display()))
            .args(["--providers.file.watch=true", "--providers.providersthrottleduration=100ms"])
            .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
            .env_clear();
        let traefik = plane.spawn(&format!("traefik-{name}"), &mut command);
        answers(port, "/readyz").await;
        (Self { agent, traefik, port }, written, begun.elapsed().as_secs_f64())
    }

    async fn metric(&self, series: &str) -> f64 {
        let (_, body) = get(self.port, "/metrics").await.unwrap();
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series}: {body}"))
    }

    /// Waits until a generation after this one is loaded.
    async fn loads_after(&self, generation: f64) -> f64 {
        eventually("a later generation is loaded", PATIENCE, async || {
            let loaded = self.metric("waybill_agent_loaded_generation").await;
            if loaded > generation { Ok(loaded) } else { Err(loaded.to_string()) }
        })
        .await
    }
}

async fn answers(port: u16, path: &str) {
    eventually(&format!("{path} answers 200"), PATIENCE, async || match get(port, path).await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Measures `changes` changes of an endpoint, one after the other; gives the goals that are missed.
pub async fn measure(plane: &ControlPlane, count: usize, changes: usize) -> Vec<String> {
    plane.install("manifests/examples/traefik");
    let (operator, _): (Operator, _) = rounds::start(plane, "edge-operator", count, &[]).await;
    let (edge, written, loaded) = Edge::start(plane, "edge").await;
    let client = plane.admin();
    let mut walls = Vec::new();
    let mut generation = edge.metric("waybill_agent_loaded_generation").await;
    let fetched = edge.metric("waybill_agent_fetched_bytes_total").await;
    let (agent_cpu, traefik_cpu) =
        (process::cpu_seconds(edge.agent.id()), process::cpu_seconds(edge.traefik.id()));
    for change in 0..changes {
        let begun = Instant::now();
        rounds::change_endpoint(&client, change * 7 % count, (change % 200 + 1) as u8).await;
        generation = edge.loads_after(generation).await;
        walls.push(begun.elapsed().as_secs_f64());
        // The operator's throttle is not what is measured: the next change comes after a quiet time.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
    }
    let each = |seconds: f64| seconds * 1_000.0 / changes as f64;
    let agent_cpu = each(process::cpu_seconds(edge.agent.id()) - agent_cpu);
    let traefik_cpu = each(process::cpu_seconds(edge.traefik.id()) - traefik_cpu);
    let fetched = (edge.metric("waybill_agent_fetched_bytes_total").await - fetched) / changes as f64;
    let writes = edge.metric("waybill_agent_writes_total").await;
    rounds::heartbeats(plane, &operator, 0).await;
    rounds::unused_slices(plane, &operator, 0).await;
    let reloads = edge.metric("waybill_agent_writes_total").await - writes;

    let mut report = Report::default();
    let mut line = |what: &str, unit: &str, value: f64, goals: &[Goal]| {
        report.line(what, unit, &Sample::new(vec![value]), goals);
    };
    walls.sort_by(f64::total_cmp);
    let quantile = |part: f64| walls[((walls.len() - 1) as f64 * part).round() as usize];
    line("empty folder to written", "s", written, &[]);
    line("empty folder to loaded", "s", loaded, &[]);
    line("change to loaded, p50", "s", quantile(0.5), &[Goal::AtMost(TRAEFIK_SECONDS)]);
    line("change to loaded, p99", "s", quantile(0.99), &[]);
    line("agent's CPU for a change", "ms", agent_cpu, &[Goal::AtMost(CPU_GOAL)]);
    line("Traefik's CPU for a change", "ms", traefik_cpu, &[]);
    line("bytes fetched for a change", "B", fetched, &[]);
    line("agent's peak memory", "MB", process::peak_megabytes(edge.agent.id()), &[Goal::AtMost(MEMORY_GOAL)]);
    line("reloads by heartbeats", "", reloads, &[Goal::AtMost(0.0)]);
    report.missed
}
