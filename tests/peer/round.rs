//! Made-up clusters, many at once in a control plane of their own.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::Value;

use super::cause::Case;
use super::choices::{Choice, pairwise, peer_arguments};
use super::compare::{Outcome, compare, compare_default};
use super::difference::Tally;
use super::generate;
use super::harness::{ADMIN, ControlPlane};
use super::meaning::{Answer, Route, View};
use super::object::Cluster;
use super::server::{Server, Snapshot};
use super::traefik::Traefik;
use super::waybill::{Library, options};

/// Clusters that share a control plane.
const TOGETHER: usize = 250;

/// Providers at work at once.
const PROVIDERS: usize = 2;

/// What the whole run came to.
pub struct Report {
    pub seed: u64,
    tally: Tally,
    clusters: usize,
    objects: usize,
    refused: usize,
    comparisons: usize,
    routers: usize,
    failures: Vec<String>,
}

impl Report {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            tally: Tally::default(),
            clusters: 0,
            objects: 0,
            refused: 0,
            comparisons: 0,
            routers: 0,
            failures: Vec::new(),
        }
    }

    fn take(&mut self, what: &str, outcome: &Outcome) {
        self.comparisons += 1;
        self.tally.add(&outcome.tally);
        for text in &outcome.unexplained {
            self.failures.push(format!("{what}: {text}"));
        }
    }

    /// Panics where anything differs that should not.
    pub fn check(&self) {
        let never = self.tally.never();
        assert!(self.failures.is_empty(), "{} unexplained differences:\n{}", self.failures.len(), self.failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
        assert!(never.is_empty(), "differences that no longer occur: {never:?}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} clusters of {} objects ({} refused by the API server), {} comparisons, {} routers",
            self.clusters, self.objects, self.refused, self.comparisons, self.routers
        )?;
        write!(f, "differences on purpose:\n{}", self.tally)?;
        writeln!(f, "{} unexplained differences", self.failures.len())
    }
}

/// A control plane with Traefik's provider beside it.
pub struct Place {
    pub plane: ControlPlane,
    pub server: Server,
    pub traefik: Traefik,
}

impl Place {
    pub async fn start() -> Self {
        let plane = ControlPlane::start().await;
        let traefik = Traefik {
            program: super::traefik::program(),
            endpoint: plane.url(),
            token: ADMIN.to_owned(),
            ca_file: plane.ca_file(),
        };
        let server = Server::new(plane.admin());
        Self { plane, server, traefik }
    }
}

/// Compares made-up clusters under every option set that can be tried on many at once.
pub async fn generated(report: &mut Report, count: usize) {
    let choices: Vec<Choice> = pairwise(report.seed).into_iter().filter(Choice::is_wide).collect();
    for first in (0..count).step_by(TOGETHER) {
        let begun = Instant::now();
        let numbers = first..(first + TOGETHER).min(count);
        let mut clusters: Vec<Cluster> = numbers.map(|number| generate::cluster(report.seed, number)).collect();
        let place = Place::start().await;
        for object in generate::fixed() {
            place.server.must_create(&object).await;
        }
        let created = place.server.fill(&mut clusters).await;
        report.clusters += clusters.len();
        report.objects += created.accepted;
        report.refused += created.refused.len();
        if first == 0 {
            for (title, reason) in created.refused.iter().take(10) {
                println!("refused: {title}: {reason}");
            }
        }
        let filled = begun.elapsed();
        wide(report, &place, &clusters, &choices).await;
        println!(
            "clusters {first} to {}: {:.1} s to fill, {:.1} s for {} option sets",
            first + clusters.len(),
            filled.as_secs_f64(),
            (begun.elapsed() - filled).as_secs_f64(),
            choices.len()
        );
    }
}

async fn wide(report: &mut Report, place: &Place, clusters: &[Cluster], choices: &[Choice]) {
    let everything = place.server.snapshot("").await;
    let mut answers = stream::iter(choices)
        .map(|choice| async move {
            let file = choice.file(clusters);
            let theirs = place.traefik.once(&peer_arguments(&file), None).await;
            (choice, file, theirs)
        })
        .buffered(PROVIDERS);
    while let Some((choice, file, theirs)) = answers.next().await {
        let snapshot = selected(place, &everything, &file).await;
        let library = Library::with(options(&file), &snapshot);
        compare_all(report, &choice.to_string(), clusters, &file, &theirs, &library);
    }
}

/// The snapshot with the Ingresses that the option `labelSelector` leaves.
pub async fn selected(place: &Place, everything: &Snapshot, file: &Value) -> Snapshot {
    let mut snapshot = everything.clone();
    if let Some(selector) = file["providers"]["kubernetesIngress"]["labelSelector"].as_str() {
        let kind = super::object::KINDS.iter().find(|kind| kind.name == "Ingress").copied().expect("a kind");
        snapshot.objects.insert("Ingress", place.server.list(kind, selector).await);
    }
    snapshot
}

fn compare_all(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    theirs: &Value,
    library: &Library,
) {
    let theirs = Answer::new(theirs);
    let ours = Answer::new(&library.answer());
    for stray in theirs.strays.iter().chain(&ours.strays) {
        report.failures.push(format!("{what}: {stray}"));
    }
    let nothing = View::default();
    for cluster in clusters {
        let case = Case::new(cluster, file);
        let theirs = theirs.clusters.get(&cluster.name).unwrap_or(&nothing);
        let ours = ours.clusters.get(&cluster.name).unwrap_or(&nothing);
        report.routers += theirs.routes.len();
        let outcome = compare(&case, theirs, ours);
        report.take(&format!("{} [{what}]", cluster.name), &outcome);
    }
    let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    for name in theirs.clusters.keys().chain(ours.clusters.keys()).filter(|name| !known.contains(&name.as_str())) {
        report.failures.push(format!("{what}: routing of no cluster: {name}"));
    }
    let all = Cluster {
        name: String::new(),
        namespaces: Vec::new(),
        objects: clusters.iter().flat_map(|cluster| cluster.objects.clone()).collect(),
    };
    let candidates: Vec<Route> =
        library.default_candidates().iter().filter_map(|candidate| Answer::new(candidate).default).collect();
    let outcome =
        compare_default(&Case::new(&all, file), theirs.default.as_ref(), ours.default.as_ref(), &candidates);
    report.take(&format!("default router [{what}]"), &outcome);
}
