//! The operator from end to end: the real binary against a real API server, with the shipped rights.

mod addresses;
mod agents;
mod bad_input;
mod busy;
mod dependents;
mod failover;
mod filters;
mod knobs;
mod migration;
pub mod objects;
mod options;
mod put_back;
mod refused;
mod relist;
mod remade;
mod remade_secret;
mod scrape;
mod secrets;
mod secure_metrics;
mod status_waits;
mod takeover;
mod too_large;
mod traces;
mod two_installations;
mod uninstall;
mod upgrade;
mod ways;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams};

use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Signal, eventually};
use objects::{ADDRESS, class, has_router, ingress, namespace, router, service, slice};

/// Within this a single change is published with the throttle as shipped, by a debug build beside two other tests.
const PROMPT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn an_ingress_becomes_routing_an_address_and_events() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let mut operator = plane.operator("first", &[ADDRESS]).await;
    operator.leads().await;
    let mut templated = ingress("shop", "web", "web");
    templated["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/{{ env \"HOME\" }}/{%x%}".into();
    templated["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "ImplementationSpecific".into();
    let lost = ingress("shop", "lost", "nowhere");
    plane
        .apply_objects(&[
            namespace("shop"),
            class(),
            service("shop", "web"),
            slice("shop", "web", "10.1.0.1"),
            ingress("shop", "plain", "web"),
            templated,
            lost,
        ])
        .await;

    let (index, document) = plane
        .eventually_published("waybill/waybill", "both routers are published", |document| {
            document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 2)
        })
        .await;
    assert_eq!(document, plane.rendered(&[]));
    assert_eq!((index.counts.routers, index.counts.services), (2, 1));
    assert!(has_router(&document, "shop", "plain"), "{document:#}");

    // What Traefik's own reader of files makes of it.
    let parsed = plane.parsed("waybill/waybill").await;
    assert_eq!(parsed.len(), 2, "routers and services: {parsed:#?}");
    let rules: Vec<&str> = parsed
        .iter()
        .filter_map(|part| part["http"]["routers"].as_object())
        .flat_map(|routers| routers.values())
        .map(|router| router["rule"].as_str().unwrap())
        .collect();
    assert!(
        rules.contains(&r#"Host("web.example.com") && PathPrefix("/{{ env \"HOME\" }}/{%x%}")"#),
        "a template was run or lost: {rules:?}"
    );

    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    for name in ["plain", "lost"] {
        eventually(&format!("the status of {name} is written"), SOON, async || {
            let status = ingresses.get(name).await.unwrap().status.unwrap_or_default();
            let entries = status.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
            let ips: Vec<_> = entries.into_iter().filter_map(|entry| entry.ip).collect();
            if ips == ["192.0.2.1"] { Ok(()) } else { Err(format!("{ips:?}")) }
        })
        .await;
    }

    // An Event where its owner looks, once, and one that says when it is over.
    let describe = || plane.kubectl_ok(&["-n", "shop", "describe", "ingress", "lost"]);
    eventually("the Event of what is wrong is there", SOON, async || {
        let text = describe();
        if text.contains("ServiceNotFound") && text.contains("nowhere") { Ok(()) } else { Err(text) }
    })
    .await;
    let events: Api<Event> = Api::namespaced(plane.admin(), "shop");
    let all = events.list(&ListParams::default()).await.unwrap().items;
    // The API server writes Events of its own, about the addresses of Services.
    let ours = all.iter().filter(|event| event.reporting_component.as_deref() == Some("waybill"));
    let about: Vec<_> = ours.filter_map(|event| event.involved_object.name.as_deref()).collect();
    assert_eq!(about, ["lost"], "one problem, one Event");
    assert_eq!(operator.metric("waybill_problems{category=\"ServiceNotFound\"}").await, Some(1.0));
    plane.apply_objects(&[service("shop", "nowhere"), slice("shop", "nowhere", "10.1.0.2")]).await;
    eventually("a normal Event says that it is over", SOON, async || {
        let text = describe();
        if text.lines().any(|line| line.trim_start().starts_with("Normal")) { Ok(()) } else { Err(text) }
    })
    .await;
    operator.shows("waybill_problems{category=\"ServiceNotFound\"}", 0.0).await;

    // The throttle's two seconds and little else: waiting as long as elsewhere would hide a publish that takes 25 s.
    plane.apply_objects(&[ingress("shop", "prompt", "web")]).await;
    let changed = Instant::now();
    plane
        .eventually_published("waybill/waybill", "a change is published", |document| {
            has_router(document, "shop", "prompt")
        })
        .await;
    let took = changed.elapsed();
    assert!(took < PROMPT, "{took:?}");

    // What is deleted goes.
    ingresses.delete("plain", &Default::default()).await.unwrap();
    plane
        .eventually_published("waybill/waybill", "the router is gone", |document| {
            !document.to_string().contains(&router("shop", "plain")) && has_router(document, "shop", "lost")
        })
        .await;

    operator.process.signal(Signal::TERM);
    let status = operator.process.ended(Duration::from_secs(5)).await;
    assert!(status.success(), "{}", operator.process.log_tail());
    plane.assert_nothing_refused();
}
