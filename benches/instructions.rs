//! How many instructions translation, table, shards and `render` take, counted by valgrind: a figure that does not depend
//! on what else the machine does, so that a test can hold it.
//!
//! Run by `make bench-instructions`. It starts itself under callgrind once for each phase, and only what is below
//! `measured` counts. More than a tenth above `benches/instructions.txt` fails; `--write` writes that file anew. The
//! counts are those of a debug build, which the tests have made anyway: enough to see work that was not there before,
//! and no measure of the release build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fault ends the measurement")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/stores.rs"]
mod stores;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use waybill::kubernetes::key::IngressKey;
use waybill::kubernetes::manifests::Manifests;
use waybill::offline;
use waybill::options;
use waybill::published::desired_output::DesiredOutput;
use waybill::published::objects;
use waybill::routing::Routing;
use waybill::traefik::document::Keys;
use waybill::translate::settings::Settings;
use waybill::translate::translate;
use waybill::watch::Scope;

/// Ingresses of the made-up cluster, and endpoint changes of a phase.
const COUNT: usize = 100;
const CHANGES: usize = 50;

/// A count may be this many times what it was.
const MOST: f64 = 1.1;

const BASELINE: &str = "benches/instructions.txt";

const PHASES: [&str; 4] = ["translate", "table", "shard", "render"];

/// What callgrind counts: everything in here, and nothing outside.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // Not the last call, or the function would be left before it.
    black_box(());
}

fn phase(name: &str) {
    let output = Settings::default().output;
    match name {
        // Every Ingress once.
        "translate" => {
            let settings = Arc::new(Settings::default());
            let routing = stores::routing(COUNT);
            measured(&mut || {
                for (key, ingress) in routing.stores().ingresses().iter() {
                    black_box(translate(&IngressKey(key.clone()), ingress, &settings, routing.stores()));
                }
            });
        }
        // From the event of an endpoint to the table.
        "table" => {
            let mut routing = stores::routing(COUNT);
            routing.reconcile_all();
            let slices: Vec<_> = (0..CHANGES).map(changed_slice).collect();
            measured(&mut || slices.iter().for_each(|slice| change(&mut routing, slice)));
        }
        // From the table to the objects that are written.
        "shard" => {
            let mut routing = stores::routing(COUNT);
            routing.reconcile_all();
            for number in 0..CHANGES {
                change(&mut routing, &changed_slice(number));
            }
            let declared = routing.table_mut().declare(&output);
            measured(&mut || {
                let desired = DesiredOutput::new(declared);
                for digest in &desired.routing_shards {
                    let document = declared.routing_shard(digest).unwrap().document();
                    black_box(objects::routing_shard(&output, None, digest, &document).unwrap());
                }
                black_box(declared.hash());
            });
        }
        // From the text of manifests to the routing.
        "render" => {
            let mut text = String::new();
            for object in cluster::objects(COUNT) {
                writeln!(text, "---\n{}", serde_saphyr::to_string(&object).unwrap()).unwrap();
            }
            let options = options::from_yaml_str("").unwrap().options;
            measured(&mut || {
                let mut manifests = Manifests::default();
                manifests.add(&Arc::from("cluster.yaml"), text.as_bytes());
                let mut routing = offline::routing(manifests, &options);
                black_box(routing.table_mut().declare(&options.settings.output).assembled(Keys::LeftOut));
            });
        }
        other => panic!("no phase is called {other}"),
    }
}

fn changed_slice(number: usize) -> waybill::kubernetes::EndpointSlice {
    stores::typed(cluster::endpoint_slice(number * 7 % COUNT, (number % 200 + 1) as u8))
}

fn change(routing: &mut Routing, slice: &waybill::kubernetes::EndpointSlice) {
    let touched = routing.stores_mut().apply_slice(&Scope::All, Event::Apply(slice.clone()));
    for key in routing.affected(&touched) {
        black_box(routing.reconcile(&key).unwrap());
    }
}

/// Runs a phase under callgrind and gives its count.
fn count(name: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*instructions::measured*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().unwrap())
        .arg(format!("--phase={name}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.filter(|total| *total > 0).unwrap_or_else(|| panic!("{name}: nothing was counted\n{said}"))
}

fn baseline() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(BASELINE).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

fn main() -> ExitCode {
    let mut write = false;
    for argument in std::env::args().skip(1) {
        match argument.strip_prefix("--phase=") {
            Some(name) => {
                phase(name);
                return ExitCode::SUCCESS;
            }
            None => write |= argument == "--write",
        }
    }
    assert!(Path::new(BASELINE).exists() || write, "{BASELINE} is missing; run from the repository");
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: there is no valgrind; install it from your system's packages");
        let in_ci = std::env::var("CI").is_ok_and(|text| text == "true");
        return if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let before = baseline();
    let mut now = String::from("# Instructions of each phase; written by make bench-instructions WRITE=1\n");
    let mut code = ExitCode::SUCCESS;
    for name in PHASES {
        let count = count(name);
        let _ = writeln!(now, "{name} {count}");
        let Some(known) = before.get(name) else {
            println!("{name:<10} {count:>12} instructions, not known before");
            continue;
        };
        let ratio = count as f64 / *known as f64;
        println!("{name:<10} {count:>12} instructions, {ratio:.3} of {known}");
        if ratio > MOST && !write {
            eprintln!(
                "{name} takes {:.0} % more than {BASELINE} says; if the change is worth that: make bench-instructions WRITE=1",
                (ratio - 1.0) * 100.0
            );
            code = ExitCode::FAILURE;
        }
    }
    if write {
        std::fs::write(BASELINE, now).unwrap();
    }
    code
}
