//! Options that narrow what is watched, shown by the requests in the audit log.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::objects::{ADDRESS, FAST, annotated, class, has_router, ingress, namespace, service, slice};
use crate::harness::operator::{SOON, binary};
use crate::harness::{AuditEvent, ControlPlane, eventually};

const OUTPUT: &str = "waybill/waybill";

/// The resources that requests without a namespace were for.
fn cluster_wide(requests: &[AuditEvent]) -> BTreeSet<&str> {
    let without = requests.iter().filter(|event| event.object_ref.namespace.is_empty());
    without.map(|event| event.object_ref.resource.as_str()).collect()
}

#[tokio::test]
async fn some_namespaces_work_with_roles_alone() {
    let plane = ControlPlane::start().await;
    for name in ["team-a", "team-b", "team-c"] {
        let ingress = annotated(name, "web", "web");
        plane
            .apply_objects(&[namespace(name), service(name, "web"), slice(name, "web", "10.1.0.1"), ingress])
            .await;
    }
    plane.install("manifests/namespaced");
    let roles = plane.kubectl_ok(&["get", "clusterrolebindings", "-o", "json"]);
    assert!(!roles.contains("\"waybill\""), "no right in the whole cluster is shipped");

    // The options are the shipped ones.
    let token = plane.service_account_token("waybill", "waybill").await;
    let token_file = plane.folder().join("token");
    std::fs::write(&token_file, token).unwrap();
    let options = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/namespaced/waybill.yaml");
    let mut command = Command::new(binary());
    command.arg("run").arg(format!("--configFile={}", options.display())).args([
        FAST.to_owned(),
        "--providers.kubernetesingress.ingressendpoint.ip=192.0.2.1".to_owned(),
        format!("--providers.kubernetesingress.endpoint={}", plane.url()),
        format!("--providers.kubernetesingress.token={}", token_file.display()),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ]);
    command.env_clear();
    let operator = plane.operator_by("roles", command);
    operator.leads().await;
    let (_, document) = plane
        .eventually_published(OUTPUT, "both teams' routes are published", |document| {
            has_router(document, "team-a", "web") && has_router(document, "team-b", "web")
        })
        .await;
    assert!(!has_router(&document, "team-c", "web"), "{document:#}");
    let flags = [
        "--providers.kubernetesingress.namespaces=team-a,team-b",
        "--providers.kubernetesingress.disableclusterscoperesources=true",
    ];
    assert_eq!(document, plane.rendered(&flags));
    // A problem, so that an Event is written; and a status.
    plane.apply_objects(&[annotated("team-a", "lost", "nowhere")]).await;
    eventually("status and Event are there", SOON, async || {
        let text = plane.kubectl_ok(&["-n", "team-a", "describe", "ingress", "lost"]);
        if text.contains("ServiceNotFound") && text.contains("192.0.2.1") { Ok(()) } else { Err(text) }
    })
    .await;
    let requests = plane.requests_of("roles");
    assert!(requests.len() > 10);
    assert_eq!(cluster_wide(&requests), BTreeSet::new());
    let namespaces: BTreeSet<_> = requests.iter().map(|event| event.object_ref.namespace.as_str()).collect();
    assert_eq!(namespaces, BTreeSet::from(["team-a", "team-b", "waybill"]));
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn classes_are_not_read_without_lookup_and_the_selector_is_sent() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let labelled = |name: &str, label: &str| {
        let mut ingress = annotated("shop", name, "web");
        ingress["metadata"]["labels"] = json!({"tier": label});
        ingress
    };
    // Without lookup only the annotation counts.
    let mut classed = ingress("shop", "classed", "web");
    classed["metadata"]["labels"] = json!({"tier": "front"});
    plane
        .apply_objects(&[
            namespace("shop"),
            service("shop", "web"),
            slice("shop", "web", "10.1.0.1"),
            labelled("front", "front"),
            labelled("back", "back"),
            class(),
            classed,
        ])
        .await;
    let flags = [
        "--providers.kubernetesingress.labelselector=tier in (front)",
        "--providers.kubernetesingress.disableingressclasslookup=true",
        "--providers.kubernetesingress.ingressclass=traefik",
    ];
    let operator = plane.operator("select", &[FAST, ADDRESS, flags[0], flags[1], flags[2]]).await;
    operator.leads().await;
    let (_, document) = plane
        .eventually_published(OUTPUT, "the selected one is published", |document| {
            has_router(document, "shop", "front")
        })
        .await;
    assert!(!has_router(&document, "shop", "back"), "{document:#}");
    assert_eq!(document, plane.rendered(&flags));
    let address = async |name: &str, wanted: &str| {
        let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        eventually(&format!("{name} has the address {wanted:?}"), SOON, async || {
            let found = plane.kubectl_ok(&["-n", "shop", "get", "ingress", name, "-o", path]);
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    };
    address("front", "192.0.2.1").await;
    // It loses its label, and the other gets it.
    plane.apply_objects(&[labelled("front", "back"), labelled("back", "front")]).await;
    let (_, document) = plane
        .eventually_published(OUTPUT, "the labels count", |document| {
            has_router(document, "shop", "back") && !has_router(document, "shop", "front")
        })
        .await;
    assert_eq!(document, plane.rendered(&flags));
    address("back", "192.0.2.1").await;
    address("front", "").await;

    let requests = plane.requests_of("select");
    let of = |resource: &str| -> Vec<&AuditEvent> {
        let of = |event: &&AuditEvent| event.object_ref.resource == resource && !event.is_write();
        requests.iter().filter(of).collect()
    };
    assert!(of("ingressclasses").is_empty(), "{:#?}", of("ingressclasses"));
    assert!(!of("ingresses").is_empty());
    for request in of("ingresses") {
        let uri = request.uri.replace('+', "%20");
        assert!(
            uri.contains("labelSelector=tier%20in%20%28front%29")
                || uri.contains("labelSelector=tier%3Dfront"),
            "{}",
            request.uri
        );
    }
    // The label is for Ingresses alone.
    assert!(of("services").iter().all(|request| !request.uri.contains("labelSelector")));
    plane.assert_nothing_refused();
}
