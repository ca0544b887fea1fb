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

mod changes;
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
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use changes::Changes;
use clap::Parser;
use futures::StreamExt as _;
use harness::{ControlPlane, Part};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use report::Sample;
use serde_json::json;
use subject::{Kind, Subject};

/// Figures, in the order of the table.
const FIGURES: [(&str, &str); 14] = [
    ("start", "s until everything is loaded"),
    ("start_cpu", "CPU s of it"),
    ("restart", "s until a restart has found that nothing is to be done"),
    ("idle", "CPU ms a second when idle"),
    ("heartbeat", "CPU ms for a node's heartbeat, 10 a second"),
    ("unused", "CPU ms for a slice that nobody uses, 5 a second"),
    ("used_1", "CPU ms for an endpoint change, 1 a second"),
    ("used_20", "CPU ms for an endpoint change, 20 a second"),
    ("used_200", "CPU ms for an endpoint change, 200 a second"),
    ("annotation", "CPU ms for a changed annotation of an Ingress, 1 a second"),
    ("arrived", "s from the last change until it is loaded"),
    ("api", "CPU ms of the API server for an endpoint change, beyond the change itself"),
    ("committed", "ms from a change until it is committed, without throttle"),
    ("memory", "MB at most"),
];

/// What waybill may take of what Traefik takes, at 10,000 Ingresses and more.
const RATIOS: [(&str, f64); 6] = [
    ("used_1", 1.0 / 150.0),
    ("used_20", 1.0 / 100.0),
    ("heartbeat", 1.0 / 400.0),
    ("unused", 1.0 / 400.0),
    ("memory", 1.0 / 8.0),
    ("start", 1.0 / 4.0),
];

/// What waybill may take at the most, at 10,000 Ingresses.
const LIMITS: [(&str, f64); 4] = [("idle", 2.0), ("annotation", 8.0), ("api", 15.0), ("committed", 12.0)];
const GOALS_FROM: usize = 10_000;

/// Changes whose way into the index is timed one by one, and the pause between them.
const TIMED: usize = 100;
const TIMED_PAUSE: Duration = Duration::from_millis(50);

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
    // What was not measured has missed its goal.
    let above = |figure: f64, limit: f64| figure.is_nan() || limit.is_nan() || figure > limit;
    let shown = |figure: f64| if figure.is_nan() { "–".to_owned() } else { format!("{figure:.2}") };
    for (name, what) in FIGURES {
        let sample = |figures: &mut Figures| Sample::new(figures.remove(name).unwrap_or_default());
        let sample = [&mut waybill, &mut traefik].map(sample);
        let [ours, theirs] = [sample[0].median(), sample[1].median()];
        let ratio =
            if ours > 0.0 && theirs > 0.0 { format!("1 : {:.1}", theirs / ours) } else { "–".to_owned() };
        println!("| {what} | {} | {} | {ratio} |", shown(ours), shown(theirs));
        if name == "committed" {
            println!("| the same, p99 | {} | – | – |", shown(sample[0].quantile(0.99)));
        }
        if count < GOALS_FROM {
            continue;
        }
        let goal =
            |goals: &[(&str, f64)]| goals.iter().find(|(goal, _)| *goal == name).map(|(_, value)| *value);
        if let Some(goal) = goal(&RATIOS)
            && above(ours, goal * theirs)
        {
            missed.push(format!(
                "{what} at {count} Ingresses: {ours:.2} to {theirs:.2}, 1 : {:.0} is the goal",
                1.0 / goal
            ));
        }
        if let Some(limit) = goal(&LIMITS)
            && above(ours, limit)
        {
            missed.push(format!("{what} at {count} Ingresses: {ours:.2}, at most {limit:.0} is the goal"));
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
    let mut changes = Changes { plane: &plane, count, made: 0 };
    // What a change costs the API server when nobody follows.
    let api = || process::cpu_seconds(plane.id(Part::ApiServer));
    let before = api();
    changes.endpoints(arguments.seconds * 20, 20).await;
    let bare = (api() - before) / (arguments.seconds * 20) as f64;

    for round in 0..arguments.rounds {
        let mut order = [Kind::Waybill, Kind::Traefik];
        if round % 2 == 1 {
            order.reverse();
        }
        for kind in order {
            let mut one = |name: &'static str, value: f64| {
                figures[kind as usize].entry(name).or_default().push(value);
            };
            fill::delete_output(&plane).await;
            let (subject, seconds) = started(&plane, kind, count).await;
            one("start", seconds);
            one("start_cpu", subject.cpu_seconds());
            let (subject, seconds) = match kind {
                Kind::Waybill => {
                    subject.stop().await;
                    started(&plane, kind, count).await
                }
                // It keeps nothing, so that every start is the first.
                Kind::Traefik => (subject, f64::NAN),
            };
            if !seconds.is_nan() {
                one("restart", seconds);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let idle = async || tokio::time::sleep(Duration::from_secs(10)).await;
            one("idle", spent(&subject, 10.0, idle).await);
            let beats = arguments.seconds * 10;
            one("heartbeat", spent(&subject, beats as f64, async || changes.heartbeats(beats).await).await);
            let slices = arguments.seconds * 5;
            one("unused", spent(&subject, slices as f64, async || changes.unused_slices(slices).await).await);
            for (name, rate) in [("used_1", 1), ("used_20", 20), ("used_200", 200), ("annotation", 1)] {
                let times = arguments.seconds * rate;
                let (before, before_api) = (subject.cpu_seconds(), api());
                let wanted = match name {
                    "annotation" => changes.annotations(times, rate).await,
                    _ => changes.endpoints(times, rate).await,
                };
                let last = Instant::now();
                let cost = subject.arrived(&plane, &wanted).await;
                if name == "used_1" {
                    one("arrived", last.elapsed().as_secs_f64());
                }
                // Without the looks for what has arrived: they cost both.
                if name == "used_20" {
                    let spent = api() - before_api - cost.api;
                    one("api", (spent / times as f64 - bare) * 1_000.0);
                }
                let spent = subject.cpu_seconds() - before - cost.subject;
                one(name, spent * 1_000.0 / times as f64);
            }
            one("memory", process::peak_megabytes(subject.id()));
            subject.stop().await;
            if kind == Kind::Waybill {
                for milliseconds in committed(&mut changes).await {
                    one("committed", milliseconds);
                }
            }
        }
    }
    figures
}

/// A subject that has loaded everything, and the seconds until it had.
async fn started(plane: &ControlPlane, kind: Kind, count: usize) -> (Subject, f64) {
    let begun = Instant::now();
    let subject = Subject::start(plane, kind, &[]).await;
    subject.loaded(plane, count).await;
    (subject, begun.elapsed().as_secs_f64())
}

/// Milliseconds from changes, one by one, until the index that has them is there. Without a throttle, each is committed by
/// itself.
async fn committed(changes: &mut Changes<'_>) -> Vec<f64> {
    let plane = changes.plane;
    let subject = Subject::start(plane, Kind::Waybill, &["--providers.providersthrottleduration=0s"]).await;
    subject.loaded(plane, changes.count).await;
    let indices: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let index = watcher::Config::default().fields("metadata.name=waybill");
    let mut versions = pin!(watcher(indices, index).applied_objects());
    let mut next =
        async || versions.next().await.expect("a watch without end").unwrap().metadata.resource_version;
    let mut last = next().await;
    let mut taken = Vec::new();
    for _ in 0..TIMED {
        tokio::time::sleep(TIMED_PAUSE).await;
        let begun = Instant::now();
        changes.endpoints(1, 1).await;
        loop {
            let version = next().await;
            if version != last {
                last = version;
                break;
            }
        }
        taken.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    subject.stop().await;
    taken
}

/// CPU milliseconds for each of so many.
async fn spent(subject: &Subject, times: f64, work: impl AsyncFnOnce()) -> f64 {
    let before = subject.cpu_seconds();
    work().await;
    (subject.cpu_seconds() - before) * 1_000.0 / times
}
