//! A few made-up clusters under the option sets that cost Traefik's provider time: statuses, which it writes at 5 a
//! second, and lists of namespaces, for which it starts 5 watches a second.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::choices::{Choice, pairwise};
use super::difference::Difference;
use super::object::{Cluster, is, items, name, namespace, path, title};
use super::place::{Place, compare_all, differing, must_equal, sorted};
use super::report::Report;
use super::server::Snapshot;
use super::shrink;
use super::waybill::{Library, options};

/// How many clusters; every pair of values is to be tried on 5.
const CLUSTERS: usize = 6;

/// How long an operator may take from its start to its first routing and all statuses.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Time between two looks at what is published.
const PAUSE: Duration = Duration::from_millis(50);

/// Numbers of clusters that no wide round has.
const FIRST: usize = 1_000_000;

/// Of the narrow option sets as many as this are tried in the short form, with no more options set than that.
const FEW: usize = 3;
const FEW_SET: usize = 6;

/// Compares under all narrow option sets; or, where `few`, under some and each value of `ingressEndpoint` by itself.
pub async fn run(seed: u64, few: bool) -> Report {
    let begun = Instant::now();
    let mut choices: Vec<Choice> = pairwise(seed).into_iter().filter(|choice| !choice.is_wide()).collect();
    if few {
        choices.retain(|choice| choice.set() <= FEW_SET);
        choices.truncate(FEW);
        choices.extend(Choice::endpoints());
    }
    let mut report = Report::default();
    let (place, clusters) = Place::with_clusters(&mut report, seed, FIRST..FIRST + CLUSTERS).await;
    for choice in &choices {
        let file = choice.file(&clusters);
        mark_statuses(&place, &clusters).await;
        let theirs = place.theirs(&file).await;
        let snapshot = place.snapshot(&clusters, &file).await;
        let library = Library::with(options(&file), &snapshot);
        compare_all(&mut report, &choice.to_string(), &clusters, &file, &theirs, &library);
        let theirs_now = place.server.snapshot().await;
        compare_statuses(&mut report, &clusters, &file, &library, &theirs_now, &choice.to_string());
        mark_statuses(&place, &clusters).await;
        run_operator(&mut report, &place, &clusters, &file, &theirs, &library, &choice.to_string()).await;
    }
    println!(
        "{CLUSTERS} clusters with statuses or namespaces: {:.1} s for {} option sets",
        begun.elapsed().as_secs_f64(),
        choices.len()
    );
    shrink::write(&place, &clusters, &report).await;
    report
}

/// A status that nobody wants, so that it shows whether one was written; or one that is right for some option sets but
/// for its ports.
fn before(ingress: &Value) -> Value {
    if name(ingress).len().is_multiple_of(2) {
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 9, "protocol": "TCP"}]}]}})
    } else {
        json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.250"}]}})
    }
}

async fn mark_statuses(place: &Place, clusters: &[Cluster]) {
    for ingress in clusters.iter().flat_map(|cluster| cluster.of_kind("Ingress")) {
        let mut ingress = ingress.clone();
        ingress["status"] = before(&ingress);
        let written = place.server.replace_at(&format!("{}/status", path(&ingress)), &ingress).await;
        written.unwrap_or_else(|error| panic!("{}: {error}", title(&ingress)));
    }
}

/// The same through a running operator: what it publishes, and the statuses that it writes.
async fn run_operator(
    report: &mut Report,
    place: &Place,
    clusters: &[Cluster],
    file: &Value,
    theirs: &Value,
    library: &Library,
    what: &str,
) {
    let mut operator = place.program.run(&place.server, &place.traefik, file).await;
    let deadline = Instant::now() + PUBLISHED_WITHIN;
    let wanted = sorted(&library.answer());
    let mut published = Value::Null;
    let done = poll(deadline, async || {
        published = operator.published(&place.server).await.unwrap_or_default();
        sorted(&published) == wanted && !published.is_null()
    })
    .await;
    let what = format!("waybill run, {what}");
    if !done {
        let (differing, said) = (differing(&published, &library.answer()), operator.said());
        report.fail(&what, format!("waybill run publishes something else:\n{differing}\n{said}"), None, file);
    }
    must_equal(report, &what, clusters, file, (theirs, &published), library);
    let mut now = Snapshot::default();
    poll(deadline, async || {
        now = place.server.snapshot().await;
        let ingresses = clusters.iter().flat_map(|cluster| of_cluster(&now, cluster));
        ingresses.into_iter().all(|ingress| entries(&ingress["status"]) == wanted_entries(library, ingress))
    })
    .await;
    for cluster in clusters {
        for ingress in of_cluster(&now, cluster) {
            let (written, wanted) = (entries(&ingress["status"]), wanted_entries(library, ingress));
            if written != wanted {
                let text =
                    format!("status of {}\n  wanted: {wanted:?}\n  written: {written:?}", title(ingress));
                report.fail(&what, text, Some(cluster), file);
            }
        }
    }
    operator.end().await;
}

/// Tries until it is so; whether it came to be.
pub async fn poll(deadline: Instant, mut attempt: impl AsyncFnMut() -> bool) -> bool {
    loop {
        if attempt().await {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn wanted_entries(library: &Library, ingress: &Value) -> Vec<StatusEntry> {
    match library.wanted_status(namespace(ingress), name(ingress)) {
        Some(wanted) => entries(&json!({"loadBalancer": {"ingress": wanted}})),
        None => entries(&before(ingress)),
    }
}

fn compare_statuses(
    report: &mut Report,
    clusters: &[Cluster],
    file: &Value,
    library: &Library,
    now: &Snapshot,
    what: &str,
) {
    for cluster in clusters {
        for ingress in of_cluster(now, cluster) {
            let what = format!("{} [{what}]", cluster.name);
            compare_status(report, &what, cluster, file, library, (&before(ingress), ingress));
        }
    }
}

/// Compares the status of an Ingress as Traefik left it with what waybill wants, given what it was before.
pub fn compare_status(
    report: &mut Report,
    what: &str,
    cluster: &Cluster,
    file: &Value,
    library: &Library,
    (before, ingress): (&Value, &Value),
) {
    let (before, theirs) = (entries(before), entries(&ingress["status"]));
    let ours = match library.wanted_status(namespace(ingress), name(ingress)) {
        Some(wanted) => {
            report.statuses += 1;
            entries(&json!({"loadBalancer": {"ingress": wanted}}))
        }
        None => before.clone(),
    };
    if theirs == ours {
        return;
    }
    let addresses = |entries: &[StatusEntry]| -> Vec<_> {
        entries.iter().map(|(ip, hostname, _)| (*ip, hostname.clone())).collect()
    };
    if theirs == before && addresses(&theirs) == addresses(&ours) {
        // Traefik compares addresses alone.
        report.tally.note(Difference::StatusPorts);
    } else {
        let text = format!("status of {}\n  Traefik: {theirs:?}\n  waybill: {ours:?}", title(ingress));
        report.fail(what, text, Some(cluster), file);
    }
}

fn of_cluster<'a>(now: &'a Snapshot, cluster: &'a Cluster) -> impl Iterator<Item = &'a Value> {
    now.objects.values().flatten().filter(|object| {
        is(object, "Ingress") && cluster.namespaces.iter().any(|own| own == namespace(object))
    })
}

/// Address, host name and ports.
type StatusEntry = (Option<IpAddr>, String, Vec<String>);

/// The entries of a status, sorted.
fn entries(status: &Value) -> Vec<StatusEntry> {
    let mut entries: Vec<_> = items(status, "/loadBalancer/ingress")
        .iter()
        .map(|entry| {
            let ip = entry["ip"].as_str().and_then(|ip| ip.parse().ok());
            let ports = items(entry, "/ports").iter().map(super::meaning::canonical).collect();
            (ip, entry["hostname"].as_str().unwrap_or_default().to_owned(), ports)
        })
        .collect();
    entries.sort();
    entries
}
