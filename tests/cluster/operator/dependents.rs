//! A change re-translates the Ingresses that it touches and no other, and alters nothing else.

use std::collections::BTreeMap;

use serde_json::json;

use super::objects::{FAST, class, ingress, namespace, node, secret, service, slice, tls_ingress, urls};
use crate::harness::ControlPlane;
use crate::harness::operator::Operator;

const OUTPUT: &str = "waybill/waybill";

fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(trigger, count)| ((*trigger).to_owned(), *count)).collect()
}

/// Translations and generation since the last call.
struct Since {
    translations: BTreeMap<String, u64>,
    generation: u64,
}

impl Since {
    async fn now(plane: &ControlPlane, operator: &Operator) -> Self {
        let generation = plane.published(OUTPUT).await.unwrap().0.generation;
        Self { translations: operator.translations().await, generation }
    }

    async fn changed(&mut self, plane: &ControlPlane, operator: &Operator) -> (BTreeMap<String, u64>, u64) {
        let now = Self::now(plane, operator).await;
        let mut more = now.translations.clone();
        for (trigger, before) in &self.translations {
            *more.get_mut(trigger).unwrap() -= before;
        }
        more.retain(|_, count| *count > 0);
        let generations = now.generation - self.generation;
        *self = now;
        (more, generations)
    }
}

/// Each kind of object is changed twice: where nobody uses it, and then where one does. News of one kind arrive in
/// order, so when the second has been published the first has been seen.
#[tokio::test]
async fn a_change_touches_those_who_use_the_object_and_no_other() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let mut by_node = service("shop", "by-node");
    by_node["spec"]["type"] = "NodePort".into();
    by_node["metadata"]["annotations"] = json!({"traefik.ingress.kubernetes.io/service.nodeportlb": "true"});
    plane
        .apply_objects(&[
            namespace("shop"),
            class(),
            service("shop", "one"),
            slice("shop", "one", "10.1.0.1"),
            service("shop", "two"),
            slice("shop", "two", "10.1.0.2"),
            service("shop", "unused"),
            slice("shop", "unused", "10.1.0.3"),
            by_node,
            node("n1", "InternalIP", "10.9.0.1"),
            secret("shop", "used", "kubernetes.io/tls", "QQ==", "QQ=="),
            secret("shop", "unused", "kubernetes.io/tls", "QQ==", "QQ=="),
            secret("shop", "other", "Opaque", "QQ==", "QQ=="),
            ingress("shop", "a", "one"),
            ingress("shop", "b", "one"),
            tls_ingress("shop", "c", "two", &["used"]),
            ingress("shop", "d", "by-node"),
        ])
        .await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let (_, document) = plane
        .eventually_published(OUTPUT, "all four are published", |document| {
            document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 4)
        })
        .await;
    assert_eq!(document, plane.rendered(&[]));
    let mut since = Since::now(&plane, &operator).await;
    assert_eq!(since.translations, counts(&[]), "the first pass is the only one");

    // Slices.
    plane.apply_objects(&[slice("shop", "unused", "10.1.1.3"), slice("shop", "nobody", "10.1.1.4")]).await;
    plane.apply_objects(&[slice("shop", "one", "10.1.1.1")]).await;
    plane
        .eventually_published(OUTPUT, "the endpoint is published", |document| {
            urls(document, "shop", "one") == ["http://10.1.1.1:8080"]
        })
        .await;
    assert_eq!(since.changed(&plane, &operator).await, (counts(&[("endpointslice", 2)]), 1));

    // Services: a label is not read, an annotation of somebody else's neither.
    let mut labelled = service("shop", "one");
    labelled["metadata"]["labels"] = json!({"team": "a"});
    labelled["metadata"]["annotations"] = json!({"example.com/note": "x"});
    let mut unused = service("shop", "unused");
    unused["spec"]["ports"][0]["port"] = 81.into();
    plane.apply_objects(&[labelled, unused]).await;
    let mut sticky = service("shop", "two");
    sticky["metadata"]["annotations"] =
        json!({"traefik.ingress.kubernetes.io/service.passhostheader": "false"});
    plane.apply_objects(&[sticky]).await;
    plane
        .eventually_published(OUTPUT, "the Service's annotation is published", |document| {
            document["http"]["services"]["shop-two-80"]["loadBalancer"]["passHostHeader"] == false
        })
        .await;
    assert_eq!(since.changed(&plane, &operator).await, (counts(&[("service", 1)]), 1));

    // Nodes: a heartbeat.
    let mut beat = node("n1", "InternalIP", "10.9.0.1");
    beat["status"]["conditions"] =
        json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
    plane.apply_objects(&[beat]).await;
    plane.apply_objects(&[node("n1", "InternalIP", "10.9.0.2")]).await;
    plane
        .eventually_published(OUTPUT, "the node's address is published", |document| {
            urls(document, "shop", "by-node").iter().any(|url| url.contains("10.9.0.2"))
        })
        .await;
    assert_eq!(since.changed(&plane, &operator).await, (counts(&[("node", 1)]), 1));

    // Secrets.
    plane
        .apply_objects(&[
            secret("shop", "other", "Opaque", "Qg==", "Qg=="),
            secret("shop", "unused", "kubernetes.io/tls", "Qg==", "Qg=="),
            secret("shop", "used", "kubernetes.io/tls", "Qg==", "Qg=="),
        ])
        .await;
    plane
        .eventually_published(OUTPUT, "the certificate is published", |document| {
            document["tls"].to_string().contains("Qg==")
        })
        .await;
    assert_eq!(since.changed(&plane, &operator).await, (counts(&[("secret", 1)]), 1));

    // Classes: one that nobody names.
    let mut other = class();
    other["metadata"]["name"] = "other".into();
    plane.apply_objects(&[other, ingress("shop", "e", "two")]).await;
    plane
        .eventually_published(OUTPUT, "the new Ingress is published", |document| {
            super::objects::has_router(document, "shop", "e")
        })
        .await;
    assert_eq!(since.changed(&plane, &operator).await, (counts(&[("ingress", 1)]), 1));
    assert_eq!(plane.published(OUTPUT).await.unwrap().1, plane.rendered(&[]));
    plane.assert_nothing_refused();
}
