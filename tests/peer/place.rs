//! A control plane with Traefik's provider beside it, and the comparison of what both make of its objects.

use serde_json::Value;

use super::cause::Case;
use super::choices::peer_arguments;
use super::compare::{compare, compare_default};
use super::generate;
use super::harness::{ADMIN, ControlPlane};
use super::meaning::{Answer, Route, View, canonical};
use super::object::{Cluster, KINDS, is};
use super::program::Program;
use super::report::Report;
use super::server::{Server, Snapshot};
use super::traefik::{Traefik, program};
use super::waybill::Library;

/// A control plane of its own; dropping it ends it.
pub struct Place {
    pub server: Server,
    pub traefik: Traefik,
    pub program: Program,
    /// Cluster-scoped objects and those of namespaces that belong to no cluster.
    pub fixed: Vec<Value>,
    plane: ControlPlane,
}

impl Place {
    /// Starts one with `fixed` in it.
    pub async fn start(fixed: Vec<Value>) -> Self {
        let program = tokio::task::spawn_blocking(program).await.expect("the provider builds");
        let plane = ControlPlane::start().await;
        let traefik =
            Traefik { program, endpoint: plane.url(), token: ADMIN.to_owned(), ca_file: plane.ca_file() };
        let server = Server::new(plane.admin());
        let mut created = Vec::new();
        for object in fixed {
            created.push(server.must_create(&object).await);
        }
        Self { server, traefik, program: Program::new(), fixed: created, plane }
    }

    /// Starts one with made-up clusters `numbers` in it.
    pub async fn with_clusters(
        report: &mut Report,
        seed: u64,
        numbers: std::ops::Range<usize>,
    ) -> (Self, Vec<Cluster>) {
        let extreme: Vec<String> = numbers
            .clone()
            .filter(|number| generate::is_extreme(*number))
            .map(|number| format!(" {}-", generate::cluster_name(number)))
            .collect();
        let mut clusters: Vec<Cluster> = numbers.map(|number| generate::cluster(seed, number)).collect();
        let place = Self::start(generate::fixed()).await;
        let created = place.server.fill(&mut clusters).await;
        for (title, reason) in &created.refused {
            let beyond = extreme.iter().any(|begin| title.contains(begin));
            assert!(!beyond, "the API server refuses {title:.100}: {reason:.1000}");
        }
        report.clusters += clusters.len();
        report.objects += created.accepted;
        report.refused += created.refused.len();
        (place, clusters)
    }

    /// What Traefik makes of the objects that are there now.
    pub async fn theirs(&self, file: &Value) -> Value {
        self.traefik.once(&peer_arguments(file)).await
    }

    /// What kubectl prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.kubectl_ok(arguments)
    }

    /// The objects of clusters and what is fixed, with the Ingresses that the option `labelSelector` leaves.
    pub async fn snapshot(&self, clusters: &[Cluster], file: &Value) -> Snapshot {
        let all = self.fixed.iter().chain(clusters.iter().flat_map(|cluster| &cluster.objects));
        let mut snapshot = Snapshot::of(all);
        if let Some(selector) = file["providers"]["kubernetesIngress"]["labelSelector"].as_str() {
            let kind = KINDS.iter().find(|kind| kind.name == "Ingress").copied().expect("a kind");
            snapshot.objects.insert("Ingress", self.server.list(kind, selector).await);
        }
        snapshot
    }
}

/// Compares two answers about clusters.
pub fn compare_all(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    theirs: &Value,
    library: &Library,
) {
    compare_answers(report, what, clusters, file, (theirs, library.answer()), library);
    for text in library.silent_skips() {
        report.fail(what, format!("left out without a problem: {text}"), None, file);
    }
}

/// As [`compare_all`] for an answer of waybill's that came another way than through the library.
pub fn compare_answers(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    (theirs, ours): (&Value, &Value),
    library: &Library,
) {
    let theirs = Answer::new(theirs);
    let ours = Answer::new(ours);
    for stray in theirs.strays.iter().chain(&ours.strays) {
        report.fail(what, stray.clone(), None, file);
    }
    let nothing = View::default();
    for cluster in clusters {
        let case = Case::new(cluster, file);
        let theirs = theirs.clusters.get(&cluster.name).unwrap_or(&nothing);
        let ours = ours.clusters.get(&cluster.name).unwrap_or(&nothing);
        report.routers += theirs.routes.len();
        report.certificates += theirs.certificates.len();
        let outcome = compare(&case, theirs, ours);
        report.take(&format!("{} [{what}]", cluster.name), outcome, Some(cluster), file);
    }
    let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    for name in theirs.clusters.keys().chain(ours.clusters.keys()) {
        if !known.contains(&name.as_str()) {
            report.fail(what, format!("routing of no cluster: {name}"), None, file);
        }
    }
    compare_defaults(report, what, clusters, file, &theirs, &ours, library);
}

/// Checks that another way to waybill gives what the library does, to the letter. If not, it is compared with
/// Traefik's answer by itself.
pub fn must_equal(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    (theirs, ours): (&Value, &Value),
    library: &Library,
) {
    report.answers += 1;
    if sorted(ours) == sorted(library.answer()) {
        return;
    }
    report.fail(what, "it differs from the library's answer".to_owned(), None, file);
    compare_answers(report, what, clusters, file, (theirs, ours), library);
}

/// An answer with sorted certificates and without empty sections.
pub fn sorted(answer: &Value) -> (Value, Value, Vec<String>) {
    let mut certificates: Vec<String> =
        answer["tls"]["certificates"].as_array().into_iter().flatten().map(canonical).collect();
    certificates.sort();
    let section = |name: &str| match &answer["http"][name] {
        Value::Null => Value::Object(serde_json::Map::new()),
        section => section.clone(),
    };
    (section("routers"), section("services"), certificates)
}

/// What of an answer is not in the other, one line each.
pub fn differing(ours: &Value, wanted: &Value) -> String {
    let mut lines = Vec::new();
    for (sign, some, other) in [("published", ours, wanted), ("wanted", wanted, ours)] {
        for section in ["routers", "services"] {
            for (key, value) in some["http"][section].as_object().into_iter().flatten() {
                if other["http"][section][key] != *value {
                    lines.push(format!("  {sign}: {section} {key}: {value}"));
                }
            }
        }
        let (some, other) = (sorted(some).2, sorted(other).2);
        lines
            .extend(some.iter().filter(|pair| !other.contains(pair)).map(|pair| format!("  {sign}: {pair}")));
    }
    lines.join("\n")
}

/// Compares the default routers. There is one in the whole API server.
fn compare_defaults(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    theirs: &Answer,
    ours: &Answer,
    library: &Library,
) {
    let candidates: Vec<Route> =
        library.default_candidates().iter().filter_map(|candidate| Answer::new(candidate).default).collect();
    if candidates.is_empty() && theirs.default.is_none() {
        return;
    }
    let all = Cluster {
        name: String::new(),
        namespaces: Vec::new(),
        objects: clusters.iter().flat_map(|cluster| cluster.objects.clone()).collect(),
    };
    let case = Case::new(&all, file);
    let outcome = compare_default(&case, theirs.default.as_ref(), ours.default.as_ref(), &candidates);
    // With a single cluster it is known whose fault it is.
    let cluster = if let [cluster] = clusters { Some(cluster) } else { None };
    report.take(&format!("default router [{what}]"), outcome, cluster, file);
}

/// Whether an Ingress of the cluster has no rules and a default backend.
pub fn wants_default(cluster: &Cluster) -> bool {
    cluster.objects.iter().any(is_default)
}

/// Whether an object is an Ingress without rules that has a default backend.
pub fn is_default(object: &Value) -> bool {
    is(object, "Ingress") && object["spec"]["rules"].is_null() && !object["spec"]["defaultBackend"].is_null()
}
