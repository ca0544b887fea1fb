//! The operator under load: the release binary against a real API server that holds a made-up cluster.
//!
//! `make load` runs it at 10,000 Ingresses; `cargo bench --bench load -- --ingresses 50000` at any other number.
//! Needs the tests' tools (`make tools`). The cluster is that of `support/cluster.rs`: N Ingresses, Services and
//! EndpointSlices of three addresses, N/5 TLS Secrets, N/2 other Secrets of 20 KB, 100 Nodes.
//!
//! | line | what is measured | against |
//! | --- | --- | --- |
//! | first commit | from the start of the process to the index in the API server | listing and decoding the same Ingresses, Services, EndpointSlices, TLS Secrets and classes with the same client and page size, all kinds at once: 1.5 times that, 1.2 times above 10,000 |
//! | memory | VmHWM of the process | the goals below |
//! | CPU | user and system time of the process for each change, idle time included | 8 ms for a changed endpoint; `make bench-peer` measures it beside Traefik |
//! | bytes | `waybill_written_bytes_total` for each change | 6 KiB; 16 KiB above 10,000 |
//! | etcd | what is put into it in five minutes of 20 changes a second, by its own count, without the changes themselves | 60 MB |
//! | other Secrets | what N/2 of them cost: VmHWM after a start with five times as many, less that without any, a fifth of it (`--other-secrets`) | 5 MB at 10,000 |
//! | statuses | written in a second, over all seconds in which there are some to write, after the first burst | `operator.statusRate` |
//!
//! Every figure is taken several times, and the least, the median and the greatest are printed: wall times depend on
//! what else the machine does, CPU times far less. A phase in which changes were not committed ends the run, and a
//! median that misses a goal makes it fail at its end.

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fault ends the measurement")]

#[path = "../support/cluster.rs"]
mod cluster;
mod edge;
mod fill;
#[path = "../../tests/cluster/harness/mod.rs"]
mod harness;
mod process;
mod report;
mod rounds;
mod tracing;

use std::process::ExitCode;

use clap::Parser;
use harness::ControlPlane;
use report::{Goal, Report, Sample};

/// CPU milliseconds for a changed endpoint, one a second.
const ENDPOINT_GOAL: f64 = 8.0;

/// Megabytes that etcd may be given to keep in five minutes of 20 changes a second.
const GROWTH_GOAL: f64 = 60.0;

/// Megabytes that 5,000 Secrets of 20 KB may cost.
const SECRETS_GOAL: f64 = 5.0;

#[derive(Parser)]
struct Arguments {
    /// Ingresses in the made-up cluster.
    #[arg(long, default_value_t = 10_000)]
    ingresses: usize,
    /// Times that everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Endpoint changes in a round, one a second.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// `operator.statusRate` for the statuses.
    #[arg(long, default_value_t = 200)]
    status_rate: u32,
    /// Seconds for which statuses are counted in a round.
    #[arg(long, default_value_t = 20)]
    status_seconds: u64,
    /// Seconds for which 20 endpoints change a second in a round.
    #[arg(long, default_value_t = 40)]
    busy_seconds: u64,
    /// Measures what the Secrets that nobody names cost in memory too. Takes as many more starts as there are rounds.
    #[arg(long)]
    other_secrets: bool,
    /// Measures the whole way instead: operator, agent and a real Traefik.
    #[arg(long)]
    edge: bool,
    /// Measures what traces cost instead: CPU for a changed endpoint at 20 a second, with a collector and without.
    #[arg(long, conflicts_with = "edge")]
    tracing: bool,
    /// A profiler and its arguments to run the operator under, as one argument; `{pid}` is its process id.
    #[arg(long)]
    attach: Option<String>,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let missed = runtime.block_on(measure(&arguments));
    for goal in &missed {
        eprintln!("missed: {goal}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures, prints, and gives the goals that are missed.
async fn measure(arguments: &Arguments) -> Vec<String> {
    let count = arguments.ingresses;
    let plane = ControlPlane::start().await;
    let (made, took) = fill::fill(&plane, count).await;
    println!("{count} Ingresses: {made} objects made in {:.0} s", took.as_secs_f64());

    plane.install("crds");
    plane.install("manifests");
    if arguments.edge {
        return edge::measure(&plane, count, arguments.changes).await;
    }

    if arguments.tracing {
        return tracing::measure(&plane, arguments).await;
    }

    let (mut wall, mut cpu, mut start_memory, mut change_memory) = (vec![], vec![], vec![], vec![]);
    let (mut list_wall, mut list_cpu) = (vec![], vec![]);
    let (mut idle, mut used, mut unused, mut heartbeat, mut bytes) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..arguments.rounds {
        let listed = rounds::list(&plane, count).await;
        list_wall.push(listed.wall);
        list_cpu.push(listed.cpu);
        let (mut operator, started) = rounds::start(&plane, &format!("load-{round}"), count, &[]).await;
        wall.push(started.wall);
        cpu.push(started.cpu);
        start_memory.push(process::peak_megabytes(operator.process.id()));
        let profiler = arguments.attach.as_ref().map(|attach| process::attach(attach, operator.process.id()));
        idle.push(rounds::idle(&operator).await);
        unused.push(rounds::unused_slices(&plane, &operator, round).await);
        heartbeat.push(rounds::heartbeats(&plane, &operator, round).await);
        let changed = rounds::endpoints(&plane, &operator, round, arguments.changes, count).await;
        used.push(changed.cpu);
        bytes.push(changed.bytes);
        drop(profiler);
        change_memory.push(process::peak_megabytes(operator.process.id()));
        rounds::stop(&mut operator).await;
    }
    let statuses = rounds::statuses(&plane, count, arguments.status_rate, arguments.status_seconds).await;

    let growth = rounds::growth(&plane, count, arguments.busy_seconds, arguments.rounds).await;

    let other_secrets = if arguments.other_secrets {
        Some(rounds::memory_of_other_secrets(&plane, count, arguments.rounds).await)
    } else {
        None
    };

    let [list_wall, list_cpu] = [list_wall, list_cpu].map(Sample::new);
    let wall = Sample::new(wall);
    let (first, memory, bytes_goal) =
        if count > 10_000 { (1.2, 600.0, 16_384.0) } else { (1.5, 200.0, 6_144.0) };
    let mut report = Report::default();
    report.line("list and decode, wall", "s", &list_wall, &[]);
    report.line("list and decode, CPU", "s", &list_cpu, &[]);
    report.line(
        "first commit, wall",
        "s",
        &wall,
        &[Goal::Beside("listing", list_wall.median()), Goal::AtMost(first * list_wall.median())],
    );
    report.line("first commit, CPU", "s", &Sample::new(cpu), &[Goal::Beside("listing", list_cpu.median())]);
    report.line("peak memory after the start", "MB", &Sample::new(start_memory), &[Goal::AtMost(memory)]);
    report.line("peak memory under change", "MB", &Sample::new(change_memory), &[Goal::AtMost(memory)]);
    if let Some(other_secrets) = other_secrets {
        report.line("memory for other Secrets", "MB", &other_secrets, &[Goal::AtMost(SECRETS_GOAL)]);
    }
    report.line("CPU when idle, a second", "ms", &Sample::new(idle), &[]);
    report.line("CPU for a changed endpoint", "ms", &Sample::new(used), &[Goal::AtMost(ENDPOINT_GOAL)]);
    report.line("CPU for a slice nobody uses", "ms", &Sample::new(unused), &[]);
    report.line("CPU for a node's heartbeat", "ms", &Sample::new(heartbeat), &[]);
    report.line("bytes for a changed endpoint", "B", &Sample::new(bytes), &[Goal::AtMost(bytes_goal)]);
    report.line("etcd in 5 min of 20 changes/s", "MB", &growth, &[Goal::AtMost(GROWTH_GOAL)]);
    let rate = f64::from(arguments.status_rate);
    report.line(
        "statuses a second",
        "",
        &statuses,
        &[Goal::AtLeast(0.95 * rate), Goal::Beside("operator.statusRate", rate)],
    );
    report.missed
}
