//! Default backends, one after the other. An API server has one default router, so of the many Ingresses that want to
//! be it only one shows at a time: a label hands the turn from Ingress to Ingress, while a provider and an operator
//! that select that label go on.
//!
//! With each turn a marker changes: an Ingress whose host names the turn. All Ingresses come through one watch, in
//! order, so an answer that holds the marker of a turn holds the turn.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::must_be_published;
use super::choices::peer_arguments;
use super::object::{Cluster, is, title};
use super::place::{Place, compare_all, is_default};
use super::program::Operator;
use super::report::Report;
use super::traefik::Running;
use super::waybill::{Library, options};

/// How long Traefik's provider may take to answer to a turn.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// The namespace of the marker, and the name of its cluster.
const MARKER: &str = "turn";

const SELECTOR: &str = "turn=now";

/// Ingresses of a cluster that are looked at together.
pub struct Turn<'a> {
    /// What a difference is reported under.
    pub title: String,
    pub cluster: &'a Cluster,
    pub ingresses: Vec<&'a Value>,
}

/// Looks at every default backend of made-up clusters, each under one of the option sets.
pub async fn run(report: &mut Report, place: &Place, clusters: &[Cluster]) {
    let files = [
        json!({}),
        json!({"core": {"defaultRuleSyntax": "v2"}, "providers": {"kubernetesIngress": {
            "allowEmptyServices": true, "allowExternalNameServices": true, "allowCrossNamespace": true,
            "strictPrefixMatching": true}}}),
    ];
    let marker = Marker::create(place).await;
    let turns: Vec<Turn<'_>> = clusters
        .iter()
        .flat_map(|cluster| {
            let ingresses = cluster.objects.iter().filter(|object| is_default(object));
            ingresses.map(move |ingress| Turn { title: title(ingress), cluster, ingresses: vec![ingress] })
        })
        .collect();
    for (number, file) in files.iter().enumerate() {
        let turns: Vec<&Turn<'_>> = turns.iter().skip(number).step_by(files.len()).collect();
        one_by_one(report, place, &marker, &turns, file).await;
    }
    marker.remove(place).await;
}

/// What shows that an answer holds a turn.
pub struct Marker {
    cluster: Cluster,
}

impl Marker {
    /// Puts its objects into the API server.
    pub async fn create(place: &Place) -> Self {
        let meta = |name: &str| json!({"namespace": MARKER, "name": name});
        let mut slice = meta(MARKER);
        slice["labels"] = json!({"kubernetes.io/service-name": MARKER});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MARKER}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(MARKER), "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice, "addressType": "IPv4",
                   "ports": [{"name": "", "port": 80}], "endpoints": [{"addresses": ["10.9.0.1"]}]}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(MARKER), "spec": {"rules": [
                {"host": "first.turn.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": MARKER, "port": {"number": 80}}}}]}}]}}),
        ];
        let mut created = Vec::new();
        for object in &objects {
            created.push(place.server.must_create(object).await);
        }
        created.remove(0);
        Self {
            cluster: Cluster {
                name: MARKER.to_owned(),
                namespaces: vec![MARKER.to_owned()],
                objects: created,
            },
        }
    }

    /// Takes its objects out of the API server again.
    pub async fn remove(self, place: &Place) {
        for object in &self.cluster.objects {
            place.server.delete(object).await.unwrap_or_else(|error| panic!("{}: {error}", title(object)));
        }
    }

    /// Its cluster at the turn that `host` names.
    async fn set(&self, place: &Place, host: &str) -> Cluster {
        let mut cluster = self.cluster.clone();
        for ingress in cluster.objects.iter_mut().filter(|object| is(object, "Ingress")) {
            ingress["spec"]["rules"][0]["host"] = host.into();
            *ingress = labelled(place, ingress).await;
        }
        cluster
    }
}

/// Compares turn by turn what the followers of the label make of it.
pub async fn one_by_one(
    report: &mut Report,
    place: &Place,
    marker: &Marker,
    turns: &[&Turn<'_>],
    file: &Value,
) {
    let mut file = file.clone();
    file["providers"]["kubernetesIngress"]["labelSelector"] = SELECTOR.into();
    let mut traefik = place.traefik.start(&peer_arguments(&file));
    let mut operator = place.program.run(&place.server, &place.traefik, &file).await;
    for (number, turn) in turns.iter().enumerate() {
        let mut cluster = turn.cluster.clone();
        cluster.objects.retain(|object| !is(object, "Ingress"));
        for ingress in &turn.ingresses {
            cluster.objects.push(labelled(place, ingress).await);
        }
        let host = format!("{number}.turn.example");
        let clusters = [cluster, marker.set(place, &host).await];
        take_turn(report, place, turn, &clusters, &file, &host, (&mut traefik, &mut operator)).await;
        for ingress in &turn.ingresses {
            let restored = place.server.replace(ingress).await;
            restored.unwrap_or_else(|error| panic!("{}: {error}", title(ingress)));
        }
    }
    operator.end().await;
}

async fn take_turn(
    report: &mut Report,
    place: &Place,
    turn: &Turn<'_>,
    clusters: &[Cluster],
    file: &Value,
    host: &str,
    (traefik, operator): (&mut Running, &mut Operator),
) {
    report.turns += 1;
    let Some(theirs) = answer(traefik, host).await else {
        let text =
            format!("no answer to a turn within {ANSWERED_WITHIN:?}; the provider says: {}", traefik.said());
        report.fail(&turn.title, text, Some(turn.cluster), file);
        return;
    };
    let library = Library::with(options(file), &place.snapshot(clusters, file).await);
    compare_all(report, &turn.title, clusters, file, &theirs, &library);
    let published = operator.settled(&place.server, library.answer()).await;
    let said = operator.said();
    must_be_published(report, &turn.title, clusters, file, (&theirs, &published), &library, &said);
}

/// Traefik's first answer with a router of the marker.
async fn answer(traefik: &mut Running, host: &str) -> Option<Value> {
    let deadline = Instant::now() + ANSWERED_WITHIN;
    let rule = format!("Host(\"{host}\")");
    loop {
        let theirs = traefik.newest.borrow_and_update().clone();
        let routers = theirs["http"]["routers"].as_object();
        let holds = |router: &Value| router["rule"].as_str().is_some_and(|text| text.starts_with(&rule));
        if routers.is_some_and(|routers| routers.values().any(holds)) {
            return Some(theirs);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::timeout(left, traefik.newest.changed()).await.ok()?.ok()?;
    }
}

async fn labelled(place: &Place, ingress: &Value) -> Value {
    let mut ingress = ingress.clone();
    ingress["metadata"]["labels"]["turn"] = "now".into();
    let written = place.server.replace(&ingress).await;
    written.unwrap_or_else(|error| panic!("{}: {error}", title(&ingress)))
}
