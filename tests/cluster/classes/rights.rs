//! Rights that only some classes need, and the definition of parameters: they may go and come back while replicas run,
//! and none of them is out of the election for it.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::json;

use super::*;
use crate::harness::Signal;

/// A watch ends after 30 s, and only the next one is refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// Waits until the API server has refused the watches of a kind to each replica, and until each replica counts the
/// kind as looked after all the same: its age grows no more.
async fn refused_and_well(plane: &ControlPlane, replicas: &[Operator], kind: &str, code: u16) {
    let age = format!("waybill_watch_age_seconds{{kind=\"{kind}\"}}");
    for (at, replica) in replicas.iter().enumerate() {
        eventually("its watch is refused", REFUSED_WITHIN, async || {
            let asked = plane.requests_of(NAMES[at]);
            let refused = |event: &AuditEvent| event.object_ref.resource == kind && event.code() == code;
            if asked.iter().any(refused) { Ok(()) } else { Err(format!("{}", asked.len())) }
        })
        .await;
        let mut before = f64::MAX;
        eventually("its age grows no more", SOON, async || {
            let now = replica.metric(&age).await.ok_or("no age")?;
            // A watch that works is told of 30 s after it began, or sooner.
            let back = now < before && before != f64::MAX && before < 20.0;
            before = now;
            if back { Ok(()) } else { Err("it grows") }
        })
        .await;
        assert_eq!(replica.metric("waybill_candidate").await, Some(1.0), "{}", replica.process.log_tail());
    }
}

const NAMES: [&str; 2] = ["first", "second"];

#[tokio::test]
async fn optional_rights_and_the_definition_may_go_and_come_back() {
    let plane = plane().await;
    let namespaces =
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/namespace-selectors/clusterrole.yaml");
    plane.kubectl_ok(&["apply", "-f", namespaces]);
    plane.kubectl_ok(&["label", "namespace", "team-a", "team=edge"]);
    patch_parameters(
        &plane,
        "internal",
        json!({"namespaces": {"names": null, "selector": {"matchLabels": {"team": "edge"}}}}),
    )
    .await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let mut replicas = Vec::new();
    for name in NAMES {
        replicas.push(plane.operator(name, QUICK).await);
    }
    for replica in &replicas {
        replica.ready().await;
    }
    published(&plane, INTERNAL, "team-a", "tool").await;

    // The rights.
    let roles: Api<ClusterRole> = Api::all(plane.admin());
    let bindings: Api<ClusterRoleBinding> = Api::all(plane.admin());
    let whole = roles.get("waybill").await.unwrap();
    let mut less = whole.clone();
    let named =
        |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name == "ingressclassparameters");
    less.rules.as_mut().unwrap().retain(|rule| !named(&rule.resources));
    assert_ne!(less.rules, whole.rules);
    let changed = roles.replace("waybill", &Default::default(), &less).await.unwrap();
    bindings.delete("waybill-namespaces", &DeleteParams::default()).await.unwrap();
    refused_and_well(&plane, &replicas, "ingressclassparameters", 403).await;
    refused_and_well(&plane, &replicas, "namespaces", 403).await;
    plane.apply(&ingress("team-a", "without", "internal")).await;
    published(&plane, INTERNAL, "team-a", "without").await;
    let mut back = whole;
    back.metadata.resource_version = changed.metadata.resource_version;
    roles.replace("waybill", &Default::default(), &back).await.unwrap();
    plane.kubectl_ok(&["apply", "-f", namespaces]);
    plane.kubectl_ok(&["label", "namespace", "shop", "team=edge"]);
    plane.apply(&ingress("shop", "web", "internal")).await;
    published(&plane, INTERNAL, "shop", "web").await;

    // The definition, with all objects.
    plane.kubectl_ok(&["delete", "-k", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")]);
    refused_and_well(&plane, &replicas, "ingressclassparameters", 404).await;
    plane.apply(&ingress("team-a", "later", "internal")).await;
    published(&plane, INTERNAL, "team-a", "later").await;
    plane.install("crds");
    let parameters: Api<IngressClassParameters> = Api::all(plane.admin());
    eventually("the kind is served", SOON, async || parameters.list(&ListParams::default()).await).await;
    plane.install("manifests/examples/two-classes");
    patch_parameters(&plane, "internal", json!({"namespaces": {"names": ["shop"], "selector": null}})).await;
    plane
        .eventually_published(INTERNAL, "the new parameters are read", |document| {
            has_router(document, "shop", "web") && !has_router(document, "team-a", "tool")
        })
        .await;
    for replica in &replicas {
        assert_eq!(replica.metric("waybill_candidate").await, Some(1.0));
    }
}

#[tokio::test]
async fn a_leader_that_may_not_read_labels_leaves_what_is_published_by_them() {
    let plane = plane().await;
    let namespaces =
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/namespace-selectors/clusterrole.yaml");
    plane.kubectl_ok(&["apply", "-f", namespaces]);
    plane.kubectl_ok(&["label", "namespace", "team-a", "team=edge"]);
    let selector = json!({"namespaces": {"names": null, "selector": {"matchLabels": {"team": "edge"}}}});
    patch_parameters(&plane, "internal", selector).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let mut first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    let own = json!([{"hostname": "internal.example.com"}]);
    address(&plane, "team-a", "tool", &own).await;
    condition(&plane, "internal", "Accepted", "True", "Accepted").await;
    first.process.signal(Signal::TERM);
    first.process.ended(SOON).await;
    let (before, document) = plane.published(INTERNAL).await.unwrap();

    let bindings: Api<ClusterRoleBinding> = Api::all(plane.admin());
    bindings.delete("waybill-namespaces", &DeleteParams::default()).await.unwrap();
    plane.may_no_longer("list", "namespaces", "default").await;
    let second = plane.operator("second", QUICK).await;
    // It waits for the right at first.
    eventually("the second one leads", 2 * SOON, async || {
        let leads = second.metric("leader_election_master_status{name=\"waybill\"}").await;
        if leads == Some(1.0) { Ok(()) } else { Err(format!("{leads:?}\n{}", second.process.log_tail())) }
    })
    .await;
    metric(&second, "waybill_publish_paused", 1.0).await;
    metric(&second, "waybill_ingressclasses{settings=\"not_accepted\"}", 1.0).await;
    let said = condition(&plane, "internal", "Accepted", "False", "NamespacesUnavailable").await;
    assert!(said.contains("what is published stays as it is for internal"), "{said}");
    condition(&plane, "internal", "Published", "False", "NamespacesUnavailable").await;
    event(&plane, "edge-internal", "internal", "NamespacesUnavailable", &["the published routing stays"])
        .await;
    event(&plane, "default", "internal", "NamespacesUnavailable", &[INTERNAL]).await;
    plane.apply(&ingress("team-a", "more", "internal")).await;
    // The others go on.
    seen(&plane, "marker").await;
    let (after, stays) = plane.published(INTERNAL).await.unwrap();
    assert_eq!((stays, after.counts), (document, before.counts));
    address(&plane, "team-a", "tool", &own).await;

    plane.kubectl_ok(&["apply", "-f", namespaces]);
    published(&plane, INTERNAL, "team-a", "more").await;
    address(&plane, "team-a", "more", &own).await;
    condition(&plane, "internal", "Ready", "True", "Ready").await;
    metric(&second, "waybill_publish_paused", 0.0).await;
}
