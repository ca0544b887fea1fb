//! Which namespaces may use a class.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use super::*;
use crate::harness::Signal;

async fn label(plane: &ControlPlane, namespace: &str, value: Option<&str>) {
    let api: Api<Namespace> = Api::all(plane.admin());
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": value}}}));
    api.patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until shop is admitted and team-a is not.
async fn changed_places(plane: &ControlPlane) {
    plane
        .eventually_published(INTERNAL, "shop is in and team-a is out", |document| {
            has_router(document, "shop", "web") && !has_router(document, "team-a", "tool")
        })
        .await;
}

#[tokio::test]
async fn a_list_of_names_admits_and_shuts_out() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "internal")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    let document = published(&plane, INTERNAL, "team-a", "tool").await;
    assert!(!has_router(&document, "shop", "web"));
    event(&plane, "shop", "web", "NamespaceNotAdmitted", &["internal", "shop"]).await;
    metric(&operator, "waybill_problems{category=\"NamespaceNotAdmitted\"}", 1.0).await;
    patch_parameters(&plane, "internal", json!({"namespaces": {"names": ["shop"]}})).await;
    changed_places(&plane).await;
    event(&plane, "team-a", "tool", "NamespaceNotAdmitted", &["internal", "team-a"]).await;
    patch_parameters(&plane, "internal", json!({"namespaces": {"names": []}})).await;
    plane.eventually_published(INTERNAL, "it is empty", |document| *document == json!({})).await;
    assert!(refused(&plane).is_empty());
}

#[tokio::test]
async fn a_selector_needs_a_right_and_follows_labels() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "internal")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    label(&plane, "shop", Some("edge")).await;
    let first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, INTERNAL, "team-a", "tool").await;

    // Without the right what was accepted last applies.
    let selector = json!({"namespaces": {"names": null, "selector": {"matchLabels": {"team": "edge"}}}});
    patch_parameters(&plane, "internal", selector).await;
    condition(&plane, "internal", "Accepted", "False", "NamespacesUnavailable").await;
    event(&plane, "default", "internal", "NamespacesUnavailable", &["Namespaces"]).await;
    let (_, document) = plane.published(INTERNAL).await.unwrap();
    assert!(has_router(&document, "team-a", "tool") && !has_router(&document, "shop", "web"));

    // With it, labels decide.
    let component =
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/namespace-selectors/clusterrole.yaml");
    plane.kubectl_ok(&["apply", "-f", component]);
    changed_places(&plane).await;
    condition(&plane, "internal", "Accepted", "True", "Accepted").await;
    event(&plane, "team-a", "tool", "NamespaceNotAdmitted", &["internal"]).await;
    label(&plane, "team-a", Some("edge")).await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    label(&plane, "shop", None).await;
    plane
        .eventually_published(INTERNAL, "shop is shut out", |document| !has_router(document, "shop", "web"))
        .await;
    let (index, document) = plane.published(INTERNAL).await.unwrap();
    assert_eq!(document, rendered(&plane, INTERNAL, KINDS));

    // A restart is no moment in which it is blank: it commits nothing of the class before labels are there.
    let mut first = first;
    first.process.signal(Signal::TERM);
    first.process.ended(SOON).await;
    let second = plane.operator("second", QUICK).await;
    second.leads().await;
    seen(&plane, "marker").await;
    let (after, document) = plane.published(INTERNAL).await.unwrap();
    assert!(has_router(&document, "team-a", "tool"));
    assert_eq!(after.generation, index.generation + 1, "the new leader's epoch alone");

    // Watched only while there is a selector.
    let age = "waybill_watch_age_seconds{kind=\"namespaces\"}";
    assert!(second.metric(age).await.is_some());
    patch_parameters(&plane, "internal", json!({"namespaces": {"selector": null, "names": ["shop"]}})).await;
    published(&plane, INTERNAL, "shop", "web").await;
    eventually("namespaces are no longer watched", SOON, async || match second.metric(age).await {
        None => Ok(()),
        Some(age) => Err(age),
    })
    .await;
}
