//! The whole way at scale: operator, agent and a real Traefik on one machine, without requests; then a Traefik with its
//! own Kubernetes Ingress provider over the same cluster.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::operator::{Operator, binary, get};
use super::harness::{ADMIN, ControlPlane, Process, eventually, free_port, tool};
use super::report::{Goal, Report, Sample};
use super::{cluster, fill, process, rounds};

const PATIENCE: Duration = Duration::from_secs(120);

/// Megabytes and milliseconds that the agent may take.
const MEMORY_GOAL: f64 = 60.0;
const CPU_GOAL: f64 = 10.0;

/// CPU of the Traefik behind the agent, in relation to that of Traefik's own provider.
const TRAEFIK_CPU_GOAL: f64 = 1.1;

/// CPU of Traefik for a generation in which half of the files differ, in relation to one in which one does; and how often
/// that is measured.
const MANY_FILES_GOAL: f64 = 1.2;
const MANY_FILES_TIMES: u8 = 5;

const FETCHED: &str = "waybill_agent_fetched_bytes_total";
const WRITES: &str = "waybill_agent_writes_total";

/// The pause between two looks into Traefik's API.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than `providers.providersThrottleDuration`, which is not what is measured: each change comes after a quiet time.
const QUIET: Duration = Duration::from_millis(2_100);

struct Edge {
    folder: PathBuf,
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

    /// Changes endpoints one after the other, and adds what each took.
    async fn changes(&self, plane: &ControlPlane, count: usize, addresses: Range<u8>, taken: &mut Taken) {
        let client = plane.admin();
        for (change, address) in addresses.enumerate() {
            let number = change * 7 % count;
            self.change(&[number], address, taken, async || {
                rounds::change_endpoint(&client, number, address).await;
            })
            .await;
        }
    }

    /// Waits until what `make` changes is loaded, and a little longer: each change comes after a quiet time.
    async fn change(&self, numbers: &[usize], address: u8, taken: &mut Taken, make: impl AsyncFn()) {
        let (begun, cpu) = (Instant::now(), process::cpu_seconds(self.process.id()));
        make().await;
        for number in numbers {
            self.shows(*number, address).await;
        }
        taken.seconds.push(begun.elapsed().as_secs_f64());
        tokio::time::sleep(QUIET).await;
        taken.cpu.push((process::cpu_seconds(self.process.id()) - cpu) * 1_000.0);
    }
}

/// Seconds until changes were loaded, and Traefik's CPU milliseconds for each.
#[derive(Default)]
struct Taken {
    seconds: Vec<f64>,
    cpu: Vec<f64>,
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
        (Self { folder, agent, traefik, port }, written, begun.elapsed().as_secs_f64())
    }

    async fn metric(&self, series: &str) -> f64 {
        let (_, body) = get(self.port, "/metrics").await.unwrap();
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series}: {body}"))
    }

    /// Names and texts of the files that Traefik reads.
    fn files(&self) -> BTreeSet<(PathBuf, String)> {
        let entries = std::fs::read_dir(self.folder.join("current")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
            .collect()
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

/// What the way through the agent came to.
#[derive(Default)]
struct Ours {
    taken: Taken,
    /// Changes that alter many files at once, and how many files at the least.
    many: Taken,
    many_files: usize,
    /// Of the agent: seconds and bytes for all changes, and the most memory.
    cpu: f64,
    fetched: f64,
    memory: Vec<f64>,
    to_disk: Vec<f64>,
    to_loaded: Vec<f64>,
    reloads: f64,
    written: Vec<f64>,
    loaded: Vec<f64>,
}

/// Measures `changes` changes of an endpoint on either way, half of them first on one and last on the other, so that a
/// machine that slows down or speeds up favours neither; gives the goals that are missed.
pub async fn measure(plane: &ControlPlane, count: usize, changes: usize) -> Vec<String> {
    plane.install("manifests/examples/traefik");
    let half = u8::try_from(changes.div_ceil(2)).unwrap().min(60);
    let (mut ours, mut theirs) = (Ours::default(), Taken::default());
    // Each block has addresses of its own, which no other endpoint of the slice has.
    behind_agent(plane, count, 3..3 + half, false, &mut ours).await;
    own_provider(plane, count, 63..63 + half, &mut theirs).await;
    own_provider(plane, count, 123..123 + half, &mut theirs).await;
    behind_agent(plane, count, 183..183 + half, true, &mut ours).await;

    let [our_time, our_cpu] = [ours.taken.seconds, ours.taken.cpu].map(Sample::new);
    let [their_time, their_cpu] = [theirs.seconds, theirs.cpu].map(Sample::new);
    let [many_time, many_cpu] = [ours.many.seconds, ours.many.cpu].map(Sample::new);
    let mean = |sum: f64| Sample::new(vec![sum / f64::from(2 * half)]);
    const PEER: &str = "Traefik's own provider";
    let beside = |median: f64, goal: f64| [Goal::AtMost(median * goal), Goal::Beside(PEER, median)];
    let mut report = Report::default();
    report.line("change to loaded", "s", &our_time, &beside(their_time.median(), 1.0));
    report.line("own provider: change to loaded", "s", &their_time, &[]);
    report.line("change to loaded, p99", "s", &Sample::new(vec![our_time.quantile(0.99)]), &[]);
    report.line("own provider: p99", "s", &Sample::new(vec![their_time.quantile(0.99)]), &[]);
    report.line("of it, from commit to disk", "s", &Sample::new(ours.to_disk), &[]);
    report.line("of it, from disk to loaded", "s", &Sample::new(ours.to_loaded), &[]);
    report.line("Traefik's CPU for a change", "ms", &our_cpu, &beside(their_cpu.median(), TRAEFIK_CPU_GOAL));
    report.line("own provider: Traefik's CPU", "ms", &their_cpu, &[]);
    let what = format!("Traefik's CPU, {} files at once", ours.many_files);
    let one = our_cpu.median();
    report.line(
        &what,
        "ms",
        &many_cpu,
        &[Goal::AtMost(one * MANY_FILES_GOAL), Goal::Beside("a single file", one)],
    );
    report.line("many files: pause over to loaded", "s", &many_time, &[]);
    report.line("agent's CPU for a change", "ms", &mean(ours.cpu * 1_000.0), &[Goal::AtMost(CPU_GOAL)]);
    report.line("bytes fetched for a change", "B", &mean(ours.fetched), &[]);
    report.line("agent's peak memory", "MB", &Sample::new(ours.memory), &[Goal::AtMost(MEMORY_GOAL)]);
    report.line("reloads by heartbeats", "", &Sample::new(vec![ours.reloads]), &[Goal::AtMost(0.0)]);
    report.line("empty folder to written", "s", &Sample::new(ours.written), &[]);
    report.line("empty folder to loaded", "s", &Sample::new(ours.loaded), &[]);
    report.missed
}

/// Operator, agent and Traefik; the last time with what is measured once.
async fn behind_agent(plane: &ControlPlane, count: usize, addresses: Range<u8>, last: bool, ours: &mut Ours) {
    let name = format!("edge-{}", addresses.start);
    let (operator, _): (Operator, _) = rounds::start(plane, &format!("operator-{name}"), count, &[]).await;
    let (edge, written, loaded) = Edge::start(plane, &name).await;
    let fetched = edge.metric(FETCHED).await;
    let cpu = process::cpu_seconds(edge.agent.id());
    let after = addresses.end;
    edge.traefik.changes(plane, count, addresses, &mut ours.taken).await;
    ours.cpu += process::cpu_seconds(edge.agent.id()) - cpu;
    ours.fetched += edge.metric(FETCHED).await - fetched;
    ours.to_disk.push(edge.mean("waybill_agent_commit_to_disk_seconds").await);
    ours.to_loaded.push(edge.mean("waybill_agent_disk_to_loaded_seconds").await);
    ours.written.push(written);
    ours.loaded.push(loaded);
    if last {
        let writes = edge.metric(WRITES).await;
        rounds::heartbeats(plane, &operator, 0).await;
        rounds::unused_slices(plane, &operator, 0).await;
        ours.reloads = edge.metric(WRITES).await - writes;
        for address in after..after + MANY_FILES_TIMES {
            many_files(plane, &operator, &edge, count, address, ours).await;
        }
    }
    ours.memory.push(process::peak_megabytes(edge.agent.id()));
}

/// One generation in which about half of the files differ: what changed while the output was paused.
async fn many_files(
    plane: &ControlPlane,
    operator: &Operator,
    edge: &Edge,
    count: usize,
    address: u8,
    ours: &mut Ours,
) {
    let client = plane.admin();
    let pause = async |value: Value| {
        let patch = json!({"metadata": {"annotations": {"waybill.dev/paused": value}}});
        let path = "/api/v1/namespaces/waybill/configmaps/waybill".to_owned();
        fill::write(&client, "PATCH", path, patch).await;
    };
    pause("true".into()).await;
    operator.shows("waybill_publish_paused", 1.0).await;
    // Of 64 files, keys that fall anywhere meet 32 with 44 of them, give or take a few.
    let numbers: Vec<usize> = (0..44).map(|at| at * 13 % count).collect();
    for number in &numbers {
        rounds::change_endpoint(&client, *number, address).await;
    }
    let before = edge.files();
    let taken = &mut ours.many;
    edge.traefik.change(&numbers, address, taken, async || pause(Value::Null).await).await;
    let files = edge.files().difference(&before).count();
    assert!(files >= 20, "only {files} files changed at once");
    ours.many_files = if ours.many_files == 0 { files } else { ours.many_files.min(files) };
}

/// The same changes with a Traefik that reads the cluster itself.
async fn own_provider(plane: &ControlPlane, count: usize, addresses: Range<u8>, theirs: &mut Taken) {
    let arguments = [
        format!("--providers.kubernetesingress.endpoint={}", plane.url()),
        format!("--providers.kubernetesingress.token={ADMIN}"),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ];
    let traefik = Traefik::start(plane, "kubernetes", free_port(), &arguments);
    eventually("its own provider has loaded the cluster", PATIENCE, async || {
        let last = count - 1;
        let path = format!("/api/http/services/{}-app-{last}-80@kubernetes", cluster::namespace(last));
        match get(traefik.api, &path).await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    traefik.changes(plane, count, addresses, theirs).await;
}
