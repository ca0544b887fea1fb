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
#[path = "../support/mixed.rs"]
mod cluster;
#[path = "../load/fill.rs"]
mod fill;
#[path = "../../tests/cluster/harness/mod.rs"]
mod harness;
mod phases;
#[path = "../load/process.rs"]
mod process;
#[path = "../load/report.rs"]
mod report;
#[path = "../load/rounds.rs"]
mod rounds;
mod subject;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use changes::Changes;
use clap::Parser;
use harness::{ControlPlane, eventually};
use phases::Phases;
use report::Sample;
use serde_json::{Value, json};
use subject::Kind;

/// Figures, in the order of the table.
const FIGURES: [(&str, &str); 22] = [
    ("start", "s until everything is loaded"),
    ("start_cpu", "CPU s of it"),
    ("restart", "s until a restart has found that nothing is to be done"),
    ("idle", "CPU ms a second when idle"),
    ("heartbeat", "CPU ms for a node's heartbeat, 10 a second"),
    ("unused", "CPU ms for a slice that nobody uses, 5 a second"),
    ("used_1", "CPU ms for an endpoint change, 1 a second"),
    ("arrived", "s from the last of these until it is loaded"),
    ("bytes", "bytes of commits for one of these"),
    ("text", "bytes of the text for one of these, at most one in 30 s"),
    ("used_20", "CPU ms for an endpoint change, 20 a second"),
    ("api", "CPU ms of the API server for one of these, beyond the change itself"),
    ("used_200", "CPU ms for an endpoint change, 200 a second"),
    ("shared", "CPU ms for an endpoint change of a Service that 500 Ingresses share, 1 a second"),
    ("rollout", "CPU ms for a rollout of 20 endpoints, 2 a second"),
    ("annotation", "CPU ms for a changed annotation of an Ingress, 1 a second"),
    ("deleted", "s until 1,000 deleted Ingresses are gone"),
    ("deleted_cpu", "CPU s of it"),
    ("takeover", "s from the death of the leader until the next one has committed a change"),
    ("committed", "ms from a change until it is committed, without throttle"),
    ("throttled", "ms from a change until it is committed, at the default throttle"),
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

/// What waybill may take at the most, at 10,000 Ingresses and at 100,000.
const LIMITS: [(&str, f64, f64); 7] = [
    ("idle", 2.0, 2.0),
    ("annotation", 8.0, 8.0),
    ("bytes", 6.0 * 1024.0, 16.0 * 1024.0),
    ("api", 15.0, 15.0),
    ("committed", 12.0, 18.0),
    ("memory", f64::INFINITY, 600.0),
    // A lease of 15 s, and two to notice.
    ("takeover", 17.0, 17.0),
];

/// Milliseconds from a change to its commit that 99 of 100 changes take at the most, without throttle.
const SLOWEST_COMMIT: f64 = 50.0;

const GOALS_FROM: usize = 10_000;
const LARGE: usize = 100_000;

/// How much more an event may cost in the largest cluster than in the smallest.
const GROWTH: f64 = 1.5;

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
    /// Outputs that the Ingresses are spread over; several have an IngressClass each.
    #[arg(long, default_value_t = 1)]
    outputs: usize,
    /// Measures waybill alone, where memory does not suffice for Traefik.
    #[arg(long)]
    alone: bool,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Figures of one subject, by name.
type Figures = BTreeMap<&'static str, Vec<f64>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cluster::OUTPUTS.set(arguments.outputs.max(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut missed = Vec::new();
    let mut kept = Vec::new();
    for count in &arguments.ingresses {
        let [waybill, traefik] = runtime.block_on(measure(&arguments, *count));
        kept.push(json!({"ingresses": count, "waybill": waybill, "traefik": traefik}));
        missed.extend(table(*count, waybill, traefik, arguments.alone));
    }
    missed.extend(growth(&kept));
    let document = json!({"traefik": "3.7.13", "waybill": env!("CARGO_PKG_VERSION"), "runs": kept});
    std::fs::create_dir_all("target").unwrap();
    std::fs::write("target/bench-peer.json", format!("{document:#}\n")).unwrap();
    for goal in &missed {
        eprintln!("missed: {goal}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares what an event costs in the smallest and in the largest cluster.
fn growth(kept: &[Value]) -> Option<String> {
    let cost = |run: &Value| {
        let values = run["waybill"]["used_20"].as_array()?;
        Some(Sample::new(values.iter().filter_map(Value::as_f64).collect()).median())
    };
    let (first, last) = (kept.first()?, kept.last()?);
    let grown = cost(last)? / cost(first)?;
    let sizes = [first, last].map(|run| run["ingresses"].as_u64().unwrap_or_default());
    if sizes[0] < sizes[1] {
        println!(
            "\nan endpoint change at {} Ingresses costs {grown:.2} × what it costs at {}",
            sizes[1], sizes[0]
        );
    }
    (grown > GROWTH).then(|| format!("an endpoint change costs {grown:.2} × as much; {GROWTH} × is the goal"))
}

/// Prints the medians of both and their ratio; gives the goals that are missed.
fn table(count: usize, mut waybill: Figures, mut traefik: Figures, alone: bool) -> Vec<String> {
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
        if ["committed", "throttled"].contains(&name) {
            let slowest = sample[0].quantile(0.99);
            println!("| the same, p99 | {} | – | – |", shown(slowest));
            if name == "committed" && count >= GOALS_FROM && above(slowest, SLOWEST_COMMIT) {
                missed.push(format!(
                    "the same, p99, at {count} Ingresses: {slowest:.2}, at most {SLOWEST_COMMIT:.0}"
                ));
            }
        }
        if count < GOALS_FROM {
            continue;
        }
        // Where the peer was left out, or at sizes that it does not reach in its time, there is nothing to compare with.
        if let Some((_, goal)) = RATIOS.iter().find(|(goal, _)| *goal == name)
            && above(ours, goal * theirs)
            && !(theirs.is_nan() && (alone || count > GOALS_FROM))
        {
            missed.push(format!(
                "{what} at {count} Ingresses: {ours:.2} to {theirs:.2}, 1 : {:.0} is the goal",
                1.0 / goal
            ));
        }
        let limit = |(_, limit, large): &(&str, f64, f64)| if count < LARGE { *limit } else { *large };
        if let Some(limit) = LIMITS.iter().find(|(goal, ..)| *goal == name).map(limit)
            && above(ours, limit)
        {
            missed.push(format!("{what} at {count} Ingresses: {ours:.2}, at most {limit:.0} is the goal"));
        }
    }
    missed
}

/// Makes IngressClassParameters, as soon as their definition is in use, and the classes that name them.
async fn make_classes(plane: &ControlPlane, classes: Vec<(Value, Value)>) {
    let client = plane.admin();
    for (parameters, class) in classes {
        eventually("parameters can be made", Duration::from_secs(60), async || {
            let path = "/apis/waybill.dev/v1alpha1/ingressclassparameters";
            let body = serde_json::to_vec(&parameters).unwrap();
            let request =
                http::Request::post(path).header("content-type", "application/json").body(body).unwrap();
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        fill::write(&client, "POST", "/apis/networking.k8s.io/v1/ingressclasses".to_owned(), class).await;
    }
}

async fn measure(arguments: &Arguments, count: usize) -> [Figures; 2] {
    let plane = ControlPlane::start().await;
    let (made, took) = fill::fill(&plane, count).await;
    println!("{count} Ingresses: {made} objects made in {:.0} s", took.as_secs_f64());
    plane.install("crds");
    plane.install("manifests");
    make_classes(&plane, cluster::classes()).await;
    let mut figures = [Figures::new(), Figures::new()];
    let mut changes = Changes { plane: &plane, client: plane.admin(), count, made: 0, rollouts: 0 };
    let before = phases::api_seconds(&plane);
    changes.endpoints(arguments.seconds * 20, 20).await;
    let bare = (phases::api_seconds(&plane) - before) / (arguments.seconds * 20) as f64;

    for round in 0..arguments.rounds {
        let mut order = [Kind::Waybill, Kind::Traefik];
        if round % 2 == 1 {
            order.reverse();
        }
        for kind in order {
            if arguments.alone && kind == Kind::Traefik {
                continue;
            }
            let figures = &mut figures[kind as usize];
            let seconds = arguments.seconds;
            Phases { plane: &plane, kind, count, seconds, bare, figures }.run(&mut changes).await;
        }
    }
    figures
}
