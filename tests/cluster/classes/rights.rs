//! Rights that only some classes need, and the definition of parameters: they may go and come back while replicas run,
//! and none of them is out of the election for it.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::json;

use super::*;

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
