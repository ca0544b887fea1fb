//! The inputs of the golden cases, as far as a real API server takes them: all in one control plane, each in
//! namespaces, with classes and with certificates of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::answers::compare_three;
use super::defaults::{Marker, Turn, one_by_one};
use super::generate::{base64, mark, unbase64};
use super::kubectl;
use super::narrow::compare_with_statuses;
use super::object::{Cluster, is, items, name, namespace, title};
use super::place::{Place, wants_default};
use super::report::Report;
use super::shrink;

/// Ten fewer than there are.
const FEWEST: usize = 523;

/// Looks at once.
const AT_ONCE: usize = 6;

/// The option that lists namespaces and whose lists can be joined.
const NAMESPACES: &str = "/providers/kubernetesIngress/crossProviderNamespaces";

const REFERENCES: &[&str] = &[
    "traefik.ingress.kubernetes.io/router.middlewares",
    "traefik.ingress.kubernetes.io/router.tls.options",
    "traefik.ingress.kubernetes.io/service.middlewares",
    "traefik.ingress.kubernetes.io/service.serverstransport",
];

const CLASS: &str = "kubernetes.io/ingress.class";

/// A golden case, made to live beside the others.
struct Case {
    /// The name of its folder.
    title: String,
    cluster: Cluster,
    /// They can't have names of their own and are there only while the case is looked at.
    nodes: Vec<Value>,
    file: Value,
    way: Way,
}

/// How a case is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// With all whose options were the same before they were made its own.
    Together(String),
    /// In turn with the others of these options, for it has a default backend.
    Turn(String),
    /// By itself.
    Alone,
}

/// Compares all cases that the API server takes.
pub async fn run() -> Report {
    let begun = Instant::now();
    let mut report = Report::default();
    let mut cases = read();
    let place = Place::start(Vec::new()).await;
    let mut clusters: Vec<Cluster> = cases.iter().map(|case| case.cluster.clone()).collect();
    let created = place.server.fill(&mut clusters).await;
    for (case, cluster) in cases.iter_mut().zip(clusters) {
        case.cluster = cluster;
    }
    let total = cases.len();
    cases.retain(|case| {
        let refusal = created.refused.iter().find(|(title, _)| {
            case.cluster.namespaces.iter().any(|space| title.contains(&format!(" {space}/")))
        });
        if let Some((title, reason)) = refusal {
            let text = format!(
                "the API server refuses {title}, so that the case proves nothing here; give it what the API server \
                 asks for, or call it offline-…: {reason:.300}"
            );
            report.fail(&case.title, text, None, &case.file);
        }
        refusal.is_none()
    });
    report.golden = cases.len();
    assert!(report.golden >= FEWEST, "only {} golden cases are compared with Traefik", report.golden);
    report.objects = created.accepted;
    report.refused = created.refused.len();
    let mut groups: BTreeMap<&Way, Vec<&Case>> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.way != Way::Alone) {
        groups.entry(&case.way).or_default().push(case);
    }
    let (turns, groups): (Vec<_>, Vec<_>) =
        groups.into_values().partition(|cases| matches!(cases[0].way, Way::Turn(_)));
    // It hands on the turns of one group at a time, and nobody else may see it.
    let marker = Marker::create(&place).await;
    for cases in turns {
        take_turns(&mut report, &place, &cases, &marker).await;
    }
    marker.remove(&place).await;
    let alone = cases.iter().filter(|case| case.way == Way::Alone && case.nodes.is_empty());
    let looks = groups.into_iter().chain(alone.map(|case| vec![case]));
    let mut reports = stream::iter(looks).map(|cases| look(&place, cases)).buffer_unordered(AT_ONCE);
    while let Some(one) = reports.next().await {
        report.add(one);
    }
    drop(reports);
    for case in cases.iter().filter(|case| !case.nodes.is_empty()) {
        let mut nodes = Vec::new();
        for node in &case.nodes {
            nodes.push(place.server.must_create(node).await);
        }
        report.add(look(&place, vec![case]).await);
        for node in &nodes {
            place.server.delete(node).await.unwrap_or_else(|error| panic!("{}: {error}", title(node)));
        }
    }
    let everything: Vec<Cluster> = cases.iter().map(|case| case.cluster.clone()).collect();
    kubectl::compare(&mut report, &place, "golden cases", &everything, &json!({})).await;
    println!("{} of {total} golden cases: {:.1} s", report.golden, begun.elapsed().as_secs_f64());
    for failure in &report.failures {
        if let Some(cluster) = &failure.cluster {
            shrink::save(failure, cluster, &failure.text);
        }
    }
    report
}

/// Looks at cases with one set of options.
async fn look(place: &Place, cases: Vec<&Case>) -> Report {
    let mut report = Report::default();
    let clusters: Vec<Cluster> = cases
        .iter()
        .map(|case| {
            let mut cluster = case.cluster.clone();
            cluster.objects.extend(case.nodes.iter().cloned());
            cluster
        })
        .collect();
    let mut file = merged(&cases);
    let options = &mut file["providers"]["kubernetesIngress"];
    let statuses = options["ingressEndpoint"].is_object();
    let selector = options["labelSelector"].as_str().map_or_else(String::new, |text| format!("{text},"));
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    options["labelSelector"] = format!("{selector}cluster in ({})", names.join(",")).into();
    if statuses {
        compare_with_statuses(&mut report, place, "", &clusters, &file).await;
    } else {
        compare_three(&mut report, place, "", &clusters, &file).await;
    }
    for failure in &mut report.failures {
        let case = cases.iter().find(|case| failure.what.starts_with(&format!("{} ", case.cluster.name)));
        match case {
            Some(case) => failure.what.clone_from(&case.title),
            None => failure.what = format!("{} under {file}", failure.what),
        }
    }
    report
}

/// Looks at cases with a default backend, one after the other.
async fn take_turns(report: &mut Report, place: &Place, cases: &[&Case], marker: &Marker) {
    let turns: Vec<Turn<'_>> = cases
        .iter()
        .map(|case| Turn {
            title: case.title.clone(),
            cluster: &case.cluster,
            ingresses: case.cluster.of_kind("Ingress").collect(),
        })
        .collect();
    let turns: Vec<&Turn<'_>> = turns.iter().collect();
    one_by_one(report, place, marker, &turns, &merged(cases)).await;
}

/// The options of cases that had the same: each names namespaces of its own.
fn merged(cases: &[&Case]) -> Value {
    let mut file = cases[0].file.clone();
    if let Some(list) = file.pointer_mut(NAMESPACES).and_then(Value::as_array_mut) {
        list.extend(cases.iter().skip(1).flat_map(|case| items(&case.file, NAMESPACES)).cloned());
    }
    file
}

/// All cases but those that say that no API server takes their input.
fn read() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("tests/golden")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| folder.join(name).join("input.yaml").exists() && !name.starts_with("offline-"))
        // Traefik knows no settings of a class.
        .filter(|name| !name.starts_with("class-parameters-"))
        .collect();
    names.sort();
    names.iter().enumerate().map(|(number, name)| case(&folder.join(name), name, number)).collect()
}

fn case(folder: &Path, title: &str, number: usize) -> Case {
    let yaml = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let input = yaml("input.yaml").unwrap_or_default();
    let documents: Vec<Option<Value>> =
        serde_saphyr::from_multiple(&input).unwrap_or_else(|error| panic!("{title}: {error}"));
    let file = yaml("options.yaml").unwrap_or_else(|| "{}".to_owned());
    let file: Value = serde_saphyr::from_str(&file).unwrap_or_else(|error| panic!("{title}: {error}"));
    let mut rewrite = Rewrite { name: format!("g{number}"), class: String::new() };
    let file = traefik_s(file);
    let before = file.to_string();
    let file = rewrite.file(file);
    let objects = documents.into_iter().flatten().flat_map(|document| match document["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![document],
    });
    let (nodes, mut objects): (Vec<Value>, Vec<Value>) = objects
        .filter(|object| super::object::kind(object).is_some_and(|kind| kind.name != "Namespace"))
        .partition(|object| is(object, "Node"));
    objects.iter_mut().for_each(|object| rewrite.object(object));
    let mut namespaces: Vec<String> =
        objects.iter().map(|object| namespace(object).to_owned()).filter(|name| !name.is_empty()).collect();
    namespaces.sort();
    namespaces.dedup();
    let cluster = Cluster { name: rewrite.name, namespaces, objects };
    let options = &file["providers"]["kubernetesIngress"];
    let own = ["ingressClass", "namespaces"].iter().any(|key| !options[key].is_null());
    let published = !options["ingressEndpoint"]["publishedService"].is_null();
    let (statuses, selected) = (!options["ingressEndpoint"].is_null(), !options["labelSelector"].is_null());
    let default = wants_default(&cluster);
    let way = if own || published || !nodes.is_empty() || default && (statuses || selected) {
        Way::Alone
    } else if default {
        Way::Turn(before)
    } else {
        Way::Together(before)
    };
    Case { title: title.to_owned(), cluster, nodes, file, way }
}

/// The options that Traefik has as well.
fn traefik_s(mut file: Value) -> Value {
    if let Some(sections) = file.as_object_mut() {
        sections.remove("operator");
    }
    if let Some(options) = file.pointer_mut("/providers/kubernetesIngress").and_then(Value::as_object_mut) {
        options.remove("reportNodeInternalIPs");
    }
    file
}

/// Gives what a case names names of its own: namespaces and classes begin with `{name}-`.
struct Rewrite {
    name: String,
    /// The option `ingressClass` as the case has it.
    class: String,
}

impl Rewrite {
    fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    fn file(&mut self, mut file: Value) -> Value {
        let Some(options) = file.pointer_mut("/providers/kubernetesIngress").and_then(Value::as_object_mut)
        else {
            return file;
        };
        for key in ["namespaces", "crossProviderNamespaces"] {
            for item in options.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                *item = self.own(item.as_str().unwrap_or_default()).into();
            }
        }
        if let Some(class) = options.get_mut("ingressClass") {
            self.class = class.as_str().unwrap_or_default().to_owned();
            *class = self.own(&self.class).into();
        }
        if let Some(published) =
            options.get_mut("ingressEndpoint").and_then(|end| end.get_mut("publishedService"))
        {
            *published = self.own(published.as_str().unwrap_or_default()).into();
        }
        file
    }

    fn object(&self, object: &mut Value) {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "IngressClass" {
            object["metadata"]["name"] = self.own(name(object)).into();
            // The API server would write a default class into the Ingresses of all cases.
            if let Some(annotations) =
                object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
            {
                annotations.remove("ingressclass.kubernetes.io/is-default-class");
            }
            return;
        }
        let space = Some(namespace(object)).filter(|space| !space.is_empty()).unwrap_or("default");
        object["metadata"]["namespace"] = self.own(space).into();
        let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        for (key, value) in annotations.into_iter().flatten() {
            let Some(text) = value.as_str() else { continue };
            if key == CLASS && !self.class.is_empty() && text == self.class {
                *value = self.own(text).into();
            } else if REFERENCES.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                *value = self.references(text).into();
            }
        }
        match kind.as_str() {
            "Ingress" => {
                object["metadata"]["labels"]["cluster"] = self.name.as_str().into();
                if let Some(class) = object.pointer_mut("/spec/ingressClassName") {
                    *class = self.own(class.as_str().unwrap_or_default()).into();
                }
            }
            "Service" => self.service(object),
            "Secret" => self.secret(object),
            _ => {}
        }
    }

    fn references(&self, text: &str) -> String {
        let items = text.split(',').map(|item| {
            let begin = item.len() - item.trim_start().len();
            if item.trim().ends_with("@kubernetescrd") {
                format!("{}{}-{}", &item[..begin], self.name, &item[begin..])
            } else {
                item.to_owned()
            }
        });
        items.collect::<Vec<_>>().join(",")
    }

    /// Cluster IPs and node ports are there once in an API server, so it may choose them itself.
    fn service(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        let address = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if address != "None" {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        if address.contains(':') {
            spec.insert("ipFamilies".to_owned(), json!(["IPv6"]));
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().and_then(|port| port.remove("nodePort"));
        }
        if let Some(external) = spec.get_mut("externalName") {
            let mut labels: Vec<String> =
                external.as_str().unwrap_or_default().split('.').map(str::to_owned).collect();
            let end = labels.iter().rposition(|label| label.eq_ignore_ascii_case("svc")).unwrap_or_default();
            if end >= 2 {
                labels[end - 1] = self.own(&labels[end - 1]);
                *external = labels.join(".").into();
            }
        }
    }

    fn secret(&self, object: &mut Value) {
        for key in ["tls.crt", "tls.key"] {
            let marked = mark(&self.name);
            if let Some(Value::String(text)) = object.get_mut("data").and_then(|data| data.get_mut(key)) {
                let mut bytes = unbase64(text);
                if !bytes.is_empty() {
                    bytes = with_mark(&String::from_utf8_lossy(&bytes), &marked).into_bytes();
                    *text = base64(&bytes);
                }
            }
            if let Some(Value::String(text)) = object.get_mut("stringData").and_then(|data| data.get_mut(key))
                && !text.is_empty()
            {
                *text = with_mark(text, &marked);
            }
        }
    }
}

/// The text with the mark inside each PEM block, since nothing else of it is published; at the end of a text without one.
fn with_mark(text: &str, mark: &str) -> String {
    const END: &str = "\n-----END ";
    if text.contains(END) { text.replace(END, &format!("\n{mark}{END}")) } else { format!("{text}{mark}") }
}
