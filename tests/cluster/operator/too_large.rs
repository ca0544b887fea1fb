//! What is too large for an object costs its owner alone.

use serde_json::json;

use super::objects::{FAST, has_router, ingress, secret, service, shop_with, slice, tls_ingress};
use crate::harness::ControlPlane;

const OUTPUT: &str = "waybill/waybill";

#[tokio::test]
async fn a_huge_certificate_annotation_or_service_holds_up_nobody_else() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    // 250 kB that become six times as much, since the text is what a template engine would read.
    let mut braces = ingress("shop", "braces", "web");
    braces["metadata"]["annotations"] = json!({
        "traefik.ingress.kubernetes.io/router.middlewares": format!("m{}@file", "{".repeat(250_000)),
    });
    // As much as a Secret may hold.
    let chain = format!("{}\n", "QUFB".repeat(16)).repeat(15_000);
    let mut wide = slice("shop", "wide", "10.2.0.1");
    let slices: Vec<_> = (0..9)
        .map(|at| {
            let addresses = (1..=1_000)
                .map(|host| json!({"addresses": [format!("fd00:10:96:1234:5678:9abc:1{at:x}:{host:x}")]}));
            wide["metadata"]["name"] = format!("wide-{at}").into();
            wide["addressType"] = "IPv6".into();
            wide["endpoints"] = addresses.collect();
            wide.clone()
        })
        .collect();
    plane
        .apply_objects(&shop_with([
            service("shop", "wide"),
            secret("shop", "huge", "kubernetes.io/tls", &chain, "QQ=="),
            secret("shop", "good", "kubernetes.io/tls", "Z29vZA==", "QQ=="),
            tls_ingress("shop", "plain", "web", &["huge", "good"]),
            ingress("shop", "wide", "wide"),
            braces,
        ]))
        .await;
    plane.apply_objects(&slices).await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let (index, document) = plane
        .eventually_published(OUTPUT, "the rest is published", |document| {
            has_router(document, "shop", "plain")
        })
        .await;
    assert_eq!((index.counts.routers, index.counts.services, index.counts.certificates), (1, 1, 1));
    assert!(document["tls"].to_string().contains("Z29vZA=="));
    assert_eq!(document, plane.rendered(&[]));
    operator.shows("waybill_problems{category=\"EntryTooLarge\"}", 3.0).await;
    operator.shows("waybill_publish_error{category=\"too_large\"}", 0.0).await;
    for (name, field) in [
        ("plain", "spec.tls[0].secretName"),
        ("wide", "spec.rules[0].http.paths[0].backend.service.name"),
        ("braces", "metadata.annotations"),
    ] {
        crate::harness::eventually("its owner is told", crate::harness::operator::SOON, async || {
            let text = plane.kubectl_ok(&["-n", "shop", "describe", "ingress", name]);
            let told = text.lines().any(|line| line.contains("EntryTooLarge") && line.contains(field));
            if told { Ok(()) } else { Err(text.lines().rev().take(3).collect::<Vec<_>>().join("\n")) }
        })
        .await;
    }
}
