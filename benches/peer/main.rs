//! Waybill and the whole Traefik side by side in one run: the same API server, the same made-up cluster, one after the
//! other, in alternating order over the rounds.
//!
//! `make bench-peer` runs it; it needs the tests' tools. Traefik runs with its Kubernetes Ingress provider and nothing
//! else, waybill as shipped. What a phase is to do is looked up in what each has loaded or published: a change that did
//! not arrive ends the run. The table is printed, kept as `target/bench-peer.json`, and goals that are missed make the
//! run fail.

#![allow(
    missing_docs,
    dead_code,
    reason = "a program, with modules of the load bench of which it uses a part"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fault ends the measurement")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../load/fill.rs"]
mod fill;
#[path = "../../tests/cluster/harness/mod.rs"]
mod harness;
#[path = "../load/process.rs"]
mod process;
#[path = "../load/report.rs"]
mod report;
#[path = "../load/rounds.rs"]
mod rounds;
mod subject;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use harness::ControlPlane;
use report::Sample;
use serde_json::json;
use subject::{Kind, Subject};

/// Figures, in the order of the table.
const FIGURES: [(&str, &str); 9] = [
    ("start", "s until everything is loaded"),
    ("start_cpu", "CPU s of it"),
    ("idle", "CPU ms a second when idle"),
    ("heartbeat", "CPU ms for a node's heartbeat, 10 a second"),
    ("unused", "CPU ms for a slice that nobody uses, 5 a second"),
    ("used_1", "CPU ms for an endpoint change, 1 a second"),
    ("used_20", "CPU ms for an endpoint change, 20 a second"),
    ("arrived", "s from the last change until it is loaded"),
    ("memory", "MB at most"),
];

/// What waybill may take of what Traefik takes, at 10,000 Ingresses and more.
const GOALS: [(&str, f64); 6] = [
    ("used_1", 1.0 / 150.0),
    ("used_20", 1.0 / 100.0),
    ("heartbeat", 1.0 / 400.0),
    ("unused", 1.0 / 400.0),
    ("memory", 1.0 / 8.0),
    ("start", 1.0 / 4.0),
];
const GOALS_FROM: usize = 10_000;

#[derive(Parser)]
struct Arguments {
    /// Ingresses in the made-up cluster; several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    ingresses: Vec<usize>,
    /// Times that each of the two is measured.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds for each phase of changes.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Figures of one subject, by name.
type Figures = BTreeMap<&'static str, Vec<f64>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut missed = Vec::new();
    let mut kept = Vec::new();
    for count in &arguments.ingresses {
        let [waybill, traefik] = runtime.block_on(measure(&arguments, *count));
        kept.push(json!({"ingresses": count, "waybill": waybill, "traefik": traefik}));
        missed.extend(table(*count, waybill, traefik));
    }
    let document = json!({"traefik": "3.7.13", "waybill": env!("CARGO_PKG_VERSION"), "runs": kept});
    std::fs::create_dir_all("target").unwrap();
    std::fs::write("target/bench-peer.json", format!("{document:#}\n")).unwrap();
    for goal in &missed {
        eprintln!("missed: {goal}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the medians of both and their ratio; gives the goals that are missed.
fn table(count: usize, mut waybill: Figures, mut traefik: Figures) -> Vec<String> {
    let mut missed = Vec::new();
    println!("\n| {count} Ingresses | waybill | Traefik | ratio |\n| --- | --- | --- | --- |");
    for (name, what) in FIGURES {
        let median = |figures: &mut Figures| Sample::new(figures.remove(name).unwrap_or_default()).median();
        let (ours, theirs) = (median(&mut waybill), median(&mut traefik));
        let ratio = if ours > 0.0 { format!("1 : {:.1}", theirs / ours) } else { "–".to_owned() };
        println!("| {what} | {ours:.2} | {theirs:.2} | {ratio} |");
        let goal = GOALS.iter().find(|(goal, _)| *goal == name).filter(|_| count >= GOALS_FROM);
        if let Some((_, goal)) = goal
            && (ours.is_nan() || theirs.is_nan() || ours > goal * theirs)
        {
            missed.push(format!(
                "{what} at {count} Ingresses: {ours:.2} to {theirs:.2}, 1 : {:.0} is the goal",
                1.0 / goal
            ));
        }
    }
    missed
}

async fn measure(arguments: &Arguments, count: usize) -> [Figures; 2] {
    let plane = ControlPlane::start().await;
    let (made, took) = fill::fill(&plane, count).await;
    println!("{count} Ingresses: {made} objects made in {:.0} s", took.as_secs_f64());
    plane.install("crds");
    plane.install("manifests");
    let mut figures = [Figures::new(), Figures::new()];
    let (mut generation, mut run) = (0, 0);
    for round in 0..arguments.rounds {
        let mut order = [Kind::Waybill, Kind::Traefik];
        if round % 2 == 1 {
            order.reverse();
        }
        for kind in order {
            let mut one = |name: &'static str, value: f64| {
                figures[kind as usize].entry(name).or_default().push(value);
            };
            run += 1;
            fill::delete_output(&plane).await;
            let begun = Instant::now();
            let subject = Subject::start(&plane, kind, round).await;
            subject.loaded(&plane, count).await;
            one("start", begun.elapsed().as_secs_f64());
            one("start_cpu", subject.cpu_seconds());
            tokio::time::sleep(Duration::from_secs(3)).await;
            one(
                "idle",
                spent(&subject, 10.0, async || tokio::time::sleep(Duration::from_secs(10)).await).await,
            );
            let beats = arguments.seconds * 10;
            one(
                "heartbeat",
                spent(&subject, beats as f64, async || heartbeats(&plane, beats, run).await).await,
            );
            let slices = arguments.seconds * 5;
            one("unused", spent(&subject, slices as f64, async || unused_slices(&plane, slices).await).await);
            for (name, rate) in [("used_1", 1), ("used_20", 20)] {
                let changes = arguments.seconds * rate;
                let before = subject.cpu_seconds();
                let changed = endpoints(&plane, count, generation, changes, rate).await;
                generation += changes;
                let last = Instant::now();
                subject.arrived(&plane, &changed).await;
                if rate == 1 {
                    one("arrived", last.elapsed().as_secs_f64());
                }
                // What is looked up is answered by Traefik itself, and not by waybill.
                one(
                    name,
                    (subject.cpu_seconds() - before - subject.cost_of_looking()) * 1_000.0 / changes as f64,
                );
            }
            one("memory", process::peak_megabytes(subject.id()));
            subject.stop().await;
        }
    }
    figures
}

/// CPU milliseconds for each of so many.
async fn spent(subject: &Subject, times: f64, work: impl AsyncFnOnce()) -> f64 {
    let before = subject.cpu_seconds();
    work().await;
    (subject.cpu_seconds() - before) * 1_000.0 / times
}

async fn at_rate(rate: u64, times: u64, change: impl AsyncFn(u64)) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate as u32);
    for number in 0..times {
        tick.tick().await;
        change(number).await;
    }
}

/// Heartbeats at times that no other run has: one that changes nothing is none.
async fn heartbeats(plane: &ControlPlane, times: u64, run: u64) {
    let client = plane.admin();
    at_rate(10, times, async |change| {
        let (day, hour, minute, second) = (run % 28 + 1, change / 3600, change / 60 % 60, change % 60);
        let time = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let ready =
            json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time});
        let path = format!("/api/v1/nodes/node-{}/status", change % 100);
        fill::write(&client, "PATCH", path, json!({"status": {"conditions": [ready]}})).await;
    })
    .await;
}

async fn unused_slices(plane: &ControlPlane, times: u64) {
    let client = plane.admin();
    let collection = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", cluster::namespace(0));
    let path = format!("{collection}/unused");
    let request = http::Request::get(&path).body(Vec::new()).unwrap();
    if client.request_text(request).await.is_err() {
        fill::write(&client, "POST", collection, fill::unused_slice(0, 0)).await;
    }
    at_rate(5, times, async |change| {
        let slice = fill::unused_slice(0, (change % 200 + 1) as u8);
        fill::write(&client, "PATCH", path.clone(), json!({"endpoints": slice["endpoints"]})).await;
    })
    .await;
}

/// Changes endpoints, and gives for each slice the last change.
async fn endpoints(
    plane: &ControlPlane,
    count: usize,
    first: u64,
    times: u64,
    rate: u64,
) -> BTreeMap<usize, u8> {
    let client = plane.admin();
    let changed = std::sync::Mutex::new(BTreeMap::new());
    at_rate(rate, times, async |change| {
        let number = (first + change) as usize * 7 % count;
        let address = ((first + change) % 200 + 3) as u8;
        changed.lock().unwrap().insert(number, address);
        rounds::change_endpoint(&client, number, address).await;
    })
    .await;
    changed.into_inner().unwrap()
}
