//! Statuses, the ConfigMap of what was accepted, and what kubectl shows of all that.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ValidationDirective};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use waybill::kubernetes::IngressClass;
use waybill::metrics::{Metrics, WriteKind, WriteResult};
use waybill::parameters::memory::{AcceptedParameters, Memory};
use waybill::parameters::resolve::{Found, Inputs, NamespaceLabels, Standing, resolve};
use waybill::parameters::resource::ClassCounts;
use waybill::parameters::status::{CountsKnown, Observed, Publication, status};
use waybill::parameters::{IngressClassParameters, IngressClassParametersStatus};
use waybill::publish::PublishError;
use waybill::publish::Requests;
use waybill::publish::lease::LeaseGuard;
use waybill::publish::statuses::class_statuses::{ClassWriter, Written};
use waybill::translate::settings::Settings;

use super::{object, plane, untyped};

fn writer(client: Client, namespace: &str, metrics: &Metrics) -> ClassWriter {
    let requests = Requests::new(client, LeaseGuard::without_lease(), metrics.clone());
    ClassWriter::new(requests, namespace, "waybill")
}

fn metrics() -> Metrics {
    Metrics::new("waybill").unwrap()
}

/// What a leader would say of an object that one class names.
fn observed(object: &IngressClassParameters, class: &str, spec: &Value) -> Observed {
    let class: IngressClass = serde_json::from_value(json!({
        "metadata": {"name": class},
        "spec": {"controller": "traefik.io/ingress-controller", "parameters": {
            "apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": object.name_any(),
        }},
    }))
    .unwrap();
    let inputs = Inputs {
        class: &class,
        controller_name: "traefik.io/ingress-controller",
        parameters: Found::Spec(spec),
        last_accepted: None,
        defaults: &Arc::new(Settings::default()),
    };
    let resolution = resolve(&inputs, NamespaceLabels::Unavailable).unwrap();
    Observed {
        generation: object.metadata.generation,
        accepted: resolution.verdict,
        classes: [(class.name_any().into(), resolution.standing)].into(),
        publication: Publication::Committed,
        counts: ClassCounts {
            ingresses: 12,
            routers: 14,
            services: 9,
            certificates: 3,
            problems: 2,
            shards: 1,
            agents: 3,
            updated_agents: 2,
        },
        known: CountsKnown { shards: true, agents: true },
    }
}

async fn create(client: Client, name: &str, spec: &Value) -> IngressClassParameters {
    let created = untyped(client).create(&PostParams::default(), &object(name, spec)).await.unwrap();
    created.try_parse().unwrap()
}

fn type_and_status(status: &IngressClassParametersStatus) -> Vec<(&str, &str)> {
    status.conditions.iter().map(|condition| (&*condition.type_, &*condition.status)).collect()
}

#[tokio::test]
async fn kubectl_shows_columns_and_explains_fields() {
    let plane = plane().await;
    let spec = json!({"output": {"name": "shown"}});
    let there = create(plane.admin(), "shown", &spec).await;
    let wanted = status(&observed(&there, "shown-class", &spec), None, Timestamp::now());
    let writer = writer(plane.admin(), "default", &metrics());
    let written = writer.write_status("shown", &wanted).await.unwrap();
    assert_eq!(written, Written::Done);

    let line = |arguments: &[&str]| -> Vec<Vec<String>> {
        let text = plane.kubectl_ok(arguments);
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let table = line(&["get", "icp", "shown"]);
    assert_eq!(
        table[0],
        ["NAME", "ACCEPTED", "PUBLISHED", "INGRESSES", "PROBLEMS", "AGENTS", "UP-TO-DATE", "AGE"]
    );
    assert_eq!(table[1][..7], ["shown", "True", "True", "12", "2", "3", "2"]);
    let wide = line(&["get", "waybill", "-o", "wide"]);
    assert_eq!(wide[0][7..9], ["CLASSES", "REASON"]);
    let row = wide.iter().find(|row| row[0] == "shown").unwrap();
    assert_eq!(row[7..9], [r#"["shown-class"]"#, "Accepted"]);

    for (field, words) in [
        ("ingressclassparameters", "name this object in spec.parameters"),
        ("ingressclassparameters.spec.precedence", "the order that the Ingress API promises"),
        ("ingressclassparameters.spec.precedence", "ENUM: Traefik Spec"),
        ("ingressclassparameters.spec.namespaces.selector.matchExpressions", "Further requirements"),
        ("ingressclassparameters.status.shards", "Shards of the output"),
        ("ingressclassparameters.status.conditions.lastTransitionTime", "last changed"),
    ] {
        let text = plane.kubectl_ok(&["explain", field]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{field}: {text}");
    }
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_strict_clients_are_told() {
    let plane = plane().await;
    let api = untyped(plane.admin());
    let spec = json!({"strictPrefixMatching": true, "colour": "red", "output": {"name": "a", "size": 7}});
    let kept = api.create(&PostParams::default(), &object("pruned", &spec)).await.unwrap();
    assert_eq!(kept.data["spec"], json!({"strictPrefixMatching": true, "output": {"name": "a"}}));
    let strict = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("someone").force()
    };
    let refusal = api.patch("strict", &strict, &Patch::Apply(object("strict", &spec))).await.unwrap_err();
    assert!(refusal.to_string().contains("spec.colour"), "{refusal}");
}

#[tokio::test]
async fn a_status_is_applied_over_an_edit_and_leaves_others_conditions() {
    let plane = plane().await;
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    let there = create(plane.admin(), "applied", &json!({})).await;
    let metrics = metrics();
    let writer = writer(plane.admin(), "default", &metrics);
    let said = observed(&there, "applied", &json!({}));
    let first = status(&said, None, Timestamp::from_second(1000).unwrap());
    writer.write_status("applied", &first).await.unwrap();
    let read = api.get("applied").await.unwrap();
    assert_eq!(read.status.as_ref(), Some(&first));
    assert_eq!(read.metadata.generation, there.metadata.generation, "a status is no new generation");

    // Someone edits ours and adds a condition of their own.
    let edit = json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "status": {"ingresses": 99, "conditions": [
            {"type": "Accepted", "status": "False", "reason": "Edited", "message": "",
             "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "Theirs", "status": "True", "reason": "Good", "message": "",
             "lastTransitionTime": "2020-01-01T00:00:00Z"},
        ]},
    });
    let params = PatchParams::apply("someone").force();
    api.patch_status("applied", &params, &Patch::Apply(edit)).await.unwrap();
    let edited = api.get("applied").await.unwrap().status.unwrap();
    assert_eq!((edited.counts.ingresses, type_and_status(&edited)[0]), (99, ("Accepted", "False")));

    let second = status(&said, Some(&edited), Timestamp::from_second(2000).unwrap());
    writer.write_status("applied", &second).await.unwrap();
    let read = api.get("applied").await.unwrap().status.unwrap();
    assert_eq!(read.counts.ingresses, 12);
    let mut conditions = type_and_status(&read);
    conditions.sort_unstable();
    assert_eq!(
        conditions,
        [("Accepted", "True"), ("Published", "True"), ("Ready", "True"), ("Theirs", "True")]
    );

    api.delete("applied", &DeleteParams::default()).await.unwrap();
    assert_eq!(writer.write_status("applied", &second).await.unwrap(), Written::Gone);
    assert!(api.get_opt("applied").await.unwrap().is_none(), "an apply to a status makes no object");
    assert_eq!(metrics.writes.get(WriteKind::ParametersStatus, WriteResult::Success), 2);
}

/// A spec whose every list is as long as may be, and the longest status.
#[tokio::test]
async fn the_largest_objects_pass() {
    let plane = plane().await;
    let list = |length: usize| -> Vec<String> { (0..256).map(|at| format!("{at:0>length$}")).collect() };
    let labels: Value = (0..32).map(|at| (format!("l{at}"), json!("v".repeat(63)))).collect();
    let requirements: Vec<Value> = (0..32)
        .map(|at| json!({"key": format!("{}/k{at}", "d".repeat(253)), "operator": "In", "values": list(63)}))
        .collect();
    let spec = json!({
        "output": {"name": "x".repeat(63), "namespace": "x".repeat(63)},
        "crossProviderNamespaces": list(63),
        "defaultEntryPoints": list(512),
        "defaultMiddlewares": list(512),
        "namespaces": {"selector": {"matchLabels": labels, "matchExpressions": requirements}},
    });
    let there = create(plane.admin(), "largest", &spec).await;
    let said = Observed {
        classes: (0..300).map(|at| (format!("{at:0>253}").into(), Standing::NotAccepted)).collect(),
        ..observed(&there, "largest", &spec)
    };
    let wanted = status(&said, None, Timestamp::now());
    assert_eq!(wanted.conditions[0].reason, "TooLarge", "and says so: it could not be remembered");
    let writer = writer(plane.admin(), "default", &metrics());
    assert_eq!(writer.write_status("largest", &wanted).await.unwrap(), Written::Done);
}

fn entry(spec: Value) -> AcceptedParameters {
    AcceptedParameters { uid: Some("u".to_owned()), spec: serde_json::from_value(spec).unwrap() }
}

#[tokio::test]
async fn what_was_accepted_is_put_back_when_it_is_edited_or_deleted() {
    let plane = plane().await;
    let namespace = plane.namespace("memory").await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), &namespace);
    let writer = writer(plane.admin(), &namespace, &metrics());
    let mut memory = Memory::default();
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Unchanged);
    assert!(maps.get_opt("waybill.classes").await.unwrap().is_none());

    memory.remember("public", entry(json!({"strictPrefixMatching": true})));
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Unchanged);
    let held = writer.read_memory().await.unwrap().unwrap();
    assert_eq!(Memory::decode(&held), (memory.clone(), Vec::new()));

    let edit = json!({
        "metadata": {"labels": {"team": "edge"}},
        "data": {"public": "{\"spec\":{\"strictPrefixMatching\":false}}", "more": "x"},
        "binaryData": {"blob": "AAAA"},
    });
    maps.patch("waybill.classes", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);
    let back = maps.get("waybill.classes").await.unwrap();
    assert_eq!(back.data, held.data);
    assert_eq!(back.binary_data, None);
    assert_eq!(back.metadata.labels.unwrap()["team"], "edge", "not ours, so it stays");

    maps.delete("waybill.classes", &DeleteParams::default()).await.unwrap();
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);
    assert_eq!(maps.get("waybill.classes").await.unwrap().data, held.data);

    memory.retain(|_| false);
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);
    assert!(maps.get("waybill.classes").await.unwrap().data.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn somebody_elses_config_map_of_that_name_is_left_alone() {
    let plane = plane().await;
    let namespace = plane.namespace("taken").await;
    plane
        .apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: waybill.classes, namespace: {namespace}}}\n\
             data: {{mine: 'yes'}}\n"
        ))
        .await;
    let mut memory = Memory::default();
    memory.remember("public", entry(json!({})));
    let refused = writer(plane.admin(), &namespace, &metrics()).write_memory(&memory).await;
    assert!(matches!(&refused, Err(PublishError::OutputNameTaken { .. })), "{refused:?}");
    let map = Api::<ConfigMap>::namespaced(plane.admin(), &namespace).get("waybill.classes").await.unwrap();
    assert_eq!(map.data.unwrap()["mine"], "yes");
}

/// As much as may be remembered is taken by the API server.
#[tokio::test]
async fn a_full_memory_fits_into_one_config_map() {
    let plane = plane().await;
    let namespace = plane.namespace("full").await;
    let list: Vec<String> = (0..256).map(|at| format!("{at:0>120}")).collect();
    let mut memory = Memory::default();
    for at in 0..60 {
        memory.remember(&format!("class-{at}"), entry(json!({"defaultMiddlewares": list.clone()})));
    }
    assert!(!memory.encode().left_out.is_empty());
    let writer = writer(plane.admin(), &namespace, &metrics());
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Unchanged);
}

/// The rights that are shipped, and no others.
#[tokio::test]
async fn the_shipped_rights_are_enough_and_reach_no_further() {
    let plane = plane().await;
    let folder = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    plane.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-k", &folder("crds")]);
    plane.kubectl_ok(&["apply", "-k", &folder("manifests")]);
    plane.kubectl_ok(&["apply", "-k", &folder("manifests/examples/two-classes")]);
    let token = plane.service_account_token("waybill", "waybill").await;
    let client = plane.client(&token);

    let api: Api<IngressClassParameters> = Api::all(client.clone());
    let listed = api.list(&Default::default()).await.unwrap();
    let public = listed.items.iter().find(|object| object.name_any() == "public").unwrap();
    let spec = serde_json::to_value(&public.spec).unwrap();
    let writer = writer(client.clone(), "waybill", &metrics());
    let wanted = status(&observed(public, "public", &spec), None, Timestamp::now());
    assert_eq!(wanted.conditions[0].status, "True", "{wanted:?}");
    assert_eq!(writer.write_status("public", &wanted).await.unwrap(), Written::Done);
    let edit = json!({"spec": {"strictPrefixMatching": true}});
    let refused = api.patch("public", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let mut memory = Memory::default();
    memory.remember("public", AcceptedParameters { uid: None, spec: public.spec.clone() });
    writer.write_memory(&memory).await.unwrap();
    memory.retain(|_| false);
    assert_eq!(writer.write_memory(&memory).await.unwrap(), Written::Done);

    for namespace in ["edge-public", "edge-internal"] {
        for (verb, resource, allowed) in [
            ("create", "configmaps", true),
            ("update", "configmaps", true),
            ("delete", "configmaps", true),
            ("create", "secrets", true),
            ("delete", "secrets", true),
            ("update", "secrets", false),
            ("create", "pods", false),
            ("create", "leases.coordination.k8s.io", false),
        ] {
            assert_eq!(plane.may(verb, resource, namespace), allowed, "{verb} {resource} in {namespace}");
        }
    }
    assert!(!plane.may("create", "configmaps", "default"), "no output is there");
}
