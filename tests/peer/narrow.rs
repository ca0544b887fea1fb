//! A few made-up clusters under the option sets that cost Traefik's provider time: statuses, which it writes at 5 a
//! second, and lists of namespaces, for which it starts 5 watches a second.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::{compare_two, must_be_published};
use super::choices::{Choice, pairwise};
use super::difference::Difference;
use super::object::{Cluster, is, items, name, namespace, path, title};
use super::place::Place;
use super::program::poll;
use super::report::Report;
use super::server::Snapshot;
use super::shrink;
use super::waybill::Library;

/// How many clusters; every pair of values is to be tried on 5.
const CLUSTERS: usize = 6;

/// How long an operator may take to write all statuses once its routing is published.
const STATUSES_WITHIN: Duration = Duration::from_secs(30);

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
    let (place, mut clusters) = Place::with_clusters(&mut report, seed, FIRST..FIRST + CLUSTERS).await;
    for ingress in clusters.iter_mut().flat_map(|cluster| &mut cluster.objects) {
        if is(ingress, "Ingress") {
            ingress["status"] = before(ingress);
        }
    }
    for choice in &choices {
        let file = choice.file(&clusters);
        compare_with_statuses(&mut report, &place, &choice.to_string(), &clusters, &file).await;
        report.tried(choice, clusters.len());
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

/// Compares the three answers and the statuses that Traefik and `waybill run` write. Each finds the statuses that the
/// clusters' Ingresses have here.
pub async fn compare_with_statuses(
    report: &mut Report,
    place: &Place,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
) {
    put_statuses(place, clusters).await;
    let (theirs, library) = compare_two(report, place, what, clusters, file).await;
    compare_statuses(report, place, what, clusters, file, &library).await;
    put_statuses(place, clusters).await;
    run_operator(report, place, clusters, file, &theirs, &library, what).await;
}

/// Compares the statuses that are there now, as Traefik left them, with those that waybill wants.
pub async fn compare_statuses(
    report: &mut Report,
    place: &Place,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    library: &Library,
) {
    let now = place.server.snapshot().await;
    for cluster in clusters {
        for ingress in of_cluster(&now, cluster) {
            let what = format!("{} [{what}]", cluster.name);
            compare_status(report, &what, cluster, file, library, ingress);
        }
    }
}

async fn put_statuses(place: &Place, clusters: &[Cluster]) {
    for ingress in clusters.iter().flat_map(|cluster| cluster.of_kind("Ingress")) {
        let written = place.server.replace_at(&format!("{}/status", path(ingress)), ingress).await;
        written.unwrap_or_else(|error| panic!("{}: {error}", title(ingress)));
    }
}

/// The status that an Ingress had before anybody wrote one.
fn status_before(cluster: &Cluster, ingress: &Value) -> Vec<StatusEntry> {
    let before = cluster.find("Ingress", namespace(ingress), name(ingress));
    entries(before.map_or(&Value::Null, |before| &before["status"]))
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
    let published = operator.settled(&place.server, library.answer()).await;
    must_be_published(report, what, clusters, file, (theirs, &published), library, &operator.said());
    let deadline = Instant::now() + STATUSES_WITHIN;
    let mut now = Snapshot::default();
    poll(deadline, async || {
        now = place.server.snapshot().await;
        clusters.iter().all(|cluster| {
            of_cluster(&now, cluster)
                .all(|ingress| entries(&ingress["status"]) == wanted_entries(library, cluster, ingress))
        })
    })
    .await;
    for cluster in clusters {
        for ingress in of_cluster(&now, cluster) {
            let (written, wanted) = (entries(&ingress["status"]), wanted_entries(library, cluster, ingress));
            if written != wanted {
                let text =
                    format!("status of {}\n  wanted: {wanted:?}\n  written: {written:?}", title(ingress));
                report.fail(&format!("waybill run, {what}"), text, Some(cluster), file);
            }
        }
    }
    operator.end().await;
}

fn wanted_entries(library: &Library, cluster: &Cluster, ingress: &Value) -> Vec<StatusEntry> {
    match library.wanted_status(namespace(ingress), name(ingress)) {
        Some(wanted) => entries(&json!({"loadBalancer": {"ingress": wanted}})),
        None => status_before(cluster, ingress),
    }
}

/// Compares the status of an Ingress as Traefik left it with what waybill wants, given what it was before.
fn compare_status(
    report: &mut Report,
    what: &str,
    cluster: &Cluster,
    file: &Value,
    library: &Library,
    ingress: &Value,
) {
    let (before, theirs) = (status_before(cluster, ingress), entries(&ingress["status"]));
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
