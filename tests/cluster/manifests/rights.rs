//! The shipped roles grant what is used, and nothing else: everything that the API server's audit log shows is granted,
//! and everything that is granted is in the log once every reason for it has been given.

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;

use serde_json::{Value, json};

use super::{documents, kustomize, root};
use crate::harness::operator::{Operator, SOON, binary};
use crate::harness::{AuditEvent, ControlPlane, Process, Signal, eventually};
use crate::operator::objects::{ADDRESS, FAST, ingress, namespace, secret, shop_with, tls_ingress};

const OWN: &str = "system:serviceaccount:waybill:waybill";
const AGENT: &str = "system:serviceaccount:edge-public:traefik";

/// Without a ClusterRole, this is how a leader learns that an output was refused because its namespace is gone.
const ASKED_ANYWAY: (&str, &str) = ("list", "namespaces");

/// A verb on a resource in a namespace, or in all of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    namespace: Option<String>,
    group: String,
    /// With the subresource, as `ingresses/status`.
    resource: String,
    verb: String,
}

impl fmt::Debug for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, group, resource, verb } = self;
        write!(f, "{verb} {resource}.{group} in {}", namespace.as_deref().unwrap_or("the cluster"))
    }
}

impl Right {
    /// Whether it is what `used` needed.
    fn covers(&self, used: &Self) -> bool {
        let wider = Self { namespace: None, ..used.clone() };
        *self == *used || *self == wider
    }
}

fn strings(value: &Value) -> impl Iterator<Item = String> + Clone + '_ {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned))
}

/// What the documents grant to a service account.
fn granted(documents: &[Value], user: &str) -> BTreeSet<Right> {
    let (namespace, name) = user.rsplit_once(':').unwrap();
    let namespace = namespace.rsplit_once(':').unwrap().1;
    let is_subject = |subject: &Value| subject["name"] == name && subject["namespace"] == namespace;
    let mut rights = BTreeSet::new();
    for binding in documents.iter().filter(|one| one["roleRef"].is_object()) {
        if !binding["subjects"].as_array().unwrap().iter().any(is_subject) {
            continue;
        }
        let place = &binding["metadata"]["namespace"];
        let is_role = |one: &&Value| {
            one["kind"] == binding["roleRef"]["kind"]
                && one["metadata"]["name"] == binding["roleRef"]["name"]
                && (one["kind"] == "ClusterRole" || one["metadata"]["namespace"] == *place)
        };
        let role = documents.iter().find(is_role).unwrap_or_else(|| panic!("no role for {binding:#}"));
        for rule in role["rules"].as_array().unwrap() {
            assert!(rule["resourceNames"].is_null() && rule["nonResourceURLs"].is_null(), "{rule:#}");
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    rights.extend(strings(&rule["verbs"]).map(|verb| Right {
                        namespace: place.as_str().map(str::to_owned),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb,
                    }));
                }
            }
        }
    }
    assert!(!rights.is_empty(), "nothing is granted to {user}");
    rights
}

/// What a request needs. One that applies an object which is not there needs the right to create it too.
fn needed_by(event: &AuditEvent) -> Vec<Right> {
    let object = &event.object_ref;
    let subresource = Some(format!("/{}", object.subresource)).filter(|_| !object.subresource.is_empty());
    let right = |verb: &str| Right {
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        group: object.api_group.clone(),
        resource: object.resource.clone() + &subresource.clone().unwrap_or_default(),
        verb: verb.to_owned(),
    };
    let created = event.verb == "patch" && event.code() == 201;
    [Some(right(&event.verb)), created.then(|| right("create"))].into_iter().flatten().collect()
}

/// Waits until a user has used all that it may, and checks that it used nothing else.
async fn all_is_used(plane: &ControlPlane, user: &str, documents: &[Value]) {
    let granted = granted(documents, user);
    let used = async || -> BTreeSet<Right> {
        let events = plane.audit().into_iter();
        let events =
            events.filter(|event| event.user.username == user && !event.object_ref.resource.is_empty());
        events.flat_map(|event| needed_by(&event)).collect()
    };
    eventually(&format!("{user} uses all that it may"), SOON, async || {
        let used = used().await;
        let unused: Vec<_> =
            granted.iter().filter(|right| !used.iter().any(|used| right.covers(used))).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("{unused:#?}")) }
    })
    .await;
    let mut used = used().await;
    used.retain(|used| (&*used.verb, &*used.resource) != ASKED_ANYWAY);
    used.retain(|used| !granted.iter().any(|right| right.covers(used)));
    assert!(used.is_empty(), "{user} uses what is not granted: {used:#?}");
}

fn installed(kustomizations: &[&str]) -> Vec<Value> {
    kustomizations.iter().flat_map(|folder| documents(&kustomize(&root().join(folder)))).collect()
}

/// What makes an operator use its rights on the objects of an output and of a tenant, beside what it does by itself.
async fn provoke(plane: &ControlPlane, outputs: &[&str], tenants: &[&str], flags: &[&str]) -> Operator {
    let mut operator = plane.operator("first", flags).await;
    operator.leads().await;
    // A shard whose labels are gone is looked at, deleted and made anew.
    for namespace in outputs {
        for kind in ["configmaps", "secrets"] {
            let shards = "waybill.dev/part in (routing,keys)";
            let list = ["-n", namespace, "get", kind, "-l", shards, "-o", "name"];
            eventually(&format!("{namespace} has shards in {kind}"), SOON, async || {
                if plane.kubectl_ok(&list).is_empty() { Err("none") } else { Ok(()) }
            })
            .await;
            plane.kubectl_ok(&["-n", namespace, "label", kind, "-l", shards, "waybill.dev/part-"]);
            eventually(&format!("the labels in {namespace} are back"), SOON, async || {
                if plane.kubectl_ok(&list).is_empty() { Err("no shard") } else { Ok(()) }
            })
            .await;
        }
    }
    // Problems of an Ingress and of an output, which the next leader reports again.
    plane.kubectl_ok(&["-n", "waybill", "annotate", "configmap", "waybill", "waybill.dev/paused=true"]);
    for namespace in tenants.iter().chain(&["waybill"]) {
        eventually(&format!("there is an Event in {namespace}"), SOON, async || {
            let events = ["-n", namespace, "get", "events.events.k8s.io", "-o", "name"];
            if plane.kubectl_ok(&events).is_empty() { Err("none") } else { Ok(()) }
        })
        .await;
    }
    stopped(&mut operator.process).await;
    let operator = plane.operator("second", flags).await;
    operator.leads().await;
    operator
}

async fn stopped(process: &mut Process) {
    process.signal(Signal::TERM);
    process.ended(SOON).await;
}

fn of_class(mut ingress: Value, name: &str, class: &str) -> Value {
    ingress["metadata"]["name"] = name.into();
    ingress["spec"]["ingressClassName"] = class.into();
    ingress
}

fn misspelt(mut ingress: Value) -> Value {
    ingress["metadata"]["annotations"] = json!({"traefik.ingress.kubernetes.io/router.prority": "1"});
    ingress
}

#[tokio::test]
async fn every_right_in_the_whole_cluster_is_needed() {
    let kustomizations = ["manifests", "manifests/examples/two-classes"];
    let plane = ControlPlane::start().await;
    plane.install("crds");
    for kustomization in kustomizations {
        plane.install(kustomization);
    }
    let selectors = root().join("manifests/components/namespace-selectors/clusterrole.yaml");
    let selectors = std::fs::read_to_string(selectors).unwrap();
    plane.apply(&selectors).await;
    let tls = |name: &str| tls_ingress("shop", name, "web", &["tls", "opaque"]);
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", "kubernetes.io/tls", "dGxz", "S0VZ"),
            secret("shop", "opaque", "Opaque", "b3BhcXVl", "S0VZ"),
            tls("own"),
            of_class(tls("public"), "public", "public"),
            of_class(tls("internal"), "internal", "internal"),
            misspelt(ingress("shop", "misspelt", "web")),
        ]))
        .await;
    let by_label = json!({"spec": {"namespaces": {"names": null, "selector": {}}}}).to_string();
    plane.kubectl_ok(&["patch", "icp", "internal", "--type=merge", "-p", &by_label]);
    let _operator =
        provoke(&plane, &["waybill", "edge-public", "edge-internal"], &["shop"], &[FAST, ADDRESS]).await;

    let token = plane.folder().join("agent.token");
    std::fs::write(&token, plane.service_account_token("edge-public", "traefik").await).unwrap();
    let mut command = Command::new(binary());
    command.args(["agent", "--output=edge-public/public", "--metrics-address=127.0.0.1:0", "--directory"]);
    command.arg(plane.folder().join("agent")).env_clear().env("POD_NAME", "proxy");
    plane.reached_by(&mut command, &token);
    let mut agent = plane.spawn("agent", &mut command);
    eventually("the agent reports", SOON, async || {
        let leases = ["-n", "edge-public", "get", "leases", "-o", "name"];
        if plane.kubectl_ok(&leases).is_empty() { Err(agent.log_tail()) } else { Ok(()) }
    })
    .await;
    stopped(&mut agent).await;

    let mut all = installed(&kustomizations);
    all.extend(documents(&selectors));
    all_is_used(&plane, OWN, &all).await;
    all_is_used(&plane, AGENT, &all).await;
}

#[tokio::test]
async fn every_right_in_some_namespaces_is_needed() {
    let plane = ControlPlane::start().await;
    plane.apply_objects(&[namespace("team-a"), namespace("team-b")]).await;
    plane.install("manifests/namespaced");
    let mut objects = shop_with([
        secret("shop", "tls", "kubernetes.io/tls", "dGxz", "S0VZ"),
        secret("shop", "opaque", "Opaque", "b3BhcXVl", "S0VZ"),
        tls_ingress("shop", "web", "web", &["tls", "opaque"]),
        misspelt(ingress("shop", "misspelt", "web")),
    ]);
    // The shop is that of each team.
    objects.retain(|object| object["metadata"]["namespace"] == "shop");
    for team in ["team-a", "team-b"] {
        for object in &mut objects {
            object["metadata"]["namespace"] = team.into();
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("ingressClassName");
            }
        }
        plane.apply_objects(&objects).await;
    }
    let options = root().join("manifests/namespaced/waybill.yaml");
    let options = format!("--configFile={}", options.display());
    let _operator = provoke(&plane, &["waybill"], &["team-a", "team-b"], &[FAST, ADDRESS, &options]).await;
    all_is_used(&plane, OWN, &installed(&["manifests/namespaced"])).await;
    plane.assert_nothing_refused();
}
