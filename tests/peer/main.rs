//! The same objects, in the same API server, with the same options: does waybill give the routing that Traefik's own
//! Kubernetes Ingress provider gives?
//!
//! Made-up clusters and the inputs of the golden cases are put into a real API server, many at once and each in
//! namespaces of its own. Traefik's provider and waybill answer for a number of option sets that hold every pair of
//! values, and the answers are compared cluster by cluster and by meaning. Differences that are on purpose are listed
//! in `difference.rs`; the run fails on any other, and on a listed one that no longer occurs.
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `WAYBILL_PEER_CLUSTERS` | 300 | made-up clusters |
//! | `WAYBILL_PEER_SEED` | the time | what they are made from; printed |
//!
//! Each difference on purpose is shown by itself as well, Traefik's behaviour beside waybill's (`beside.rs`).
//!
//! A failing case is written to `target/peer-failures/`, cut down to what still fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod beside;
mod cause;
mod choices;
mod compare;
mod defaults;
mod difference;
mod excuses;
mod generate;
mod golden;
#[allow(unused_imports, reason = "what other tests need")]
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod kubectl;
mod meaning;
mod mutate;
mod narrow;
mod object;
mod owners;
mod place;
mod program;
mod random;
mod report;
mod requests;
mod server;
mod shrink;
mod skips;
mod traefik;
mod waybill;
mod wide;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use report::Report;

fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_routing_as_traefiks_own_provider() {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = number("WAYBILL_PEER_SEED", seconds);
    let clusters = number("WAYBILL_PEER_CLUSTERS", || 300) as usize;
    println!("WAYBILL_PEER_SEED={seed} WAYBILL_PEER_CLUSTERS={clusters}");
    let begun = Instant::now();
    let long = clusters >= 2000;
    let mut report = Report::default();
    let (changing, steps) = if long { (30, 100) } else { (10, 20) };
    // Each has a control plane of its own. The narrow option sets mostly wait for Traefik's own rate limit, and many
    // of the others for a process to start.
    let one_by_one = async {
        let mut report = golden::run().await;
        report.add(mutate::run(seed, changing, steps).await);
        report
    };
    let reports = tokio::join!(one_by_one, wide::run(seed, clusters), narrow::run(seed, !long));
    for part in [reports.0, reports.1, reports.2] {
        report.add(part);
    }
    println!("{report}in {:.0} s", begun.elapsed().as_secs_f64());
    report.check();
    if long {
        report.check_pairs();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_difference_on_purpose_by_itself() {
    let report = beside::run().await;
    report.check();
}
