//! The whole way: a real API server, `waybill run` and `waybill agent` under the shipped rights, a real Traefik, and
//! requests that have to be answered by the right backend.
//!
//! An API server refuses loopback addresses in an EndpointSlice, so all of it runs in a network namespace whose loopback
//! has more addresses. The program starts itself anew in one, which needs no rights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../book/blocks.rs"]
mod blocks;
#[path = "../cluster/harness/mod.rs"]
mod harness;

mod classes;
mod client;
mod conformance;
mod faults;
mod folder;
mod include;
mod load;
mod objects;
mod pages;
mod proxies;
mod routes;
mod served;
mod size;
mod skew;
mod stand_in;
mod text;
mod world;

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Set in the namespace.
const INSIDE: &str = "WAYBILL_E2E_INSIDE";

/// Backends are below the first and the third, load balancers below the second, ClusterIPs are in the fourth.
const ADDRESSES: &str = "if ! command -v ip >/dev/null; then echo 'e2e: ip of iproute2 is needed' >&2; exit 1; fi; \
    ip link set lo up && ip route add local 10.99.0.0/16 dev lo && \
    ip route add local 203.0.113.0/24 dev lo && ip -6 address add fd99::6/128 dev lo nodad && ip route add local 10.96.0.0/16 dev lo";

type Scenario = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

const SCENARIOS: &[Scenario] = &[
    ("routes", || Box::pin(routes::every_request_reaches_its_backend())),
    ("certificates", || Box::pin(routes::each_host_has_its_own_certificate())),
    ("text", || Box::pin(text::what_tenants_write_stays_text())),
    ("load", || Box::pin(load::no_request_is_lost_while_things_change())),
    ("served", || Box::pin(served::an_address_means_that_requests_are_answered())),
    ("faults", || Box::pin(faults::whatever_dies_what_is_loaded_stays())),
    ("folder", || Box::pin(folder::a_folder_that_can_t_be_written_blanks_nothing())),
    ("include", || Box::pin(include::a_file_that_traefik_refuses_is_taken_back())),
    ("classes", || Box::pin(classes::an_ingress_moves_between_two_classes())),
    ("conformance", || Box::pin(conformance::every_rule_of_the_ingress_api_holds())),
    ("skew", || Box::pin(skew::old_and_new_understand_each_other())),
    ("pages", || Box::pin(pages::every_command_does_what_its_page_shows())),
    ("proxies", || Box::pin(proxies::neither_tenants_nor_rollouts_take_them_away())),
    ("size", || Box::pin(size::an_output_grows_and_becomes_empty())),
];

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let myself = std::env::current_exe().unwrap();
        let script = format!("{ADDRESSES} && exec \"$0\" \"$@\"");
        let error = Command::new("unshare")
            .args(["--map-root-user", "--net", "--mount", "sh", "-c", &script])
            .arg(myself)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        eprintln!("e2e: unshare of util-linux is needed to make a network namespace: {error}");
        return ExitCode::FAILURE;
    }
    // What cargo test hands on besides names, as --nocapture, is of no meaning here.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let begun = Instant::now();
        // A panic costs no other scenario.
        let passed = catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario()))).is_ok();
        let result = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {result} ({:.1} s)", begun.elapsed().as_secs_f64());
        if !passed {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("\ntest result: ok");
        ExitCode::SUCCESS
    } else {
        println!("\ntest result: FAILED. {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
