//! Options that change how the program works and not what it publishes, each by what it does.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with, with_paths};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";

async fn plane() -> ControlPlane {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "first", "web")])).await;
    plane
}

async fn published(plane: &ControlPlane, name: &str) -> u64 {
    let what = format!("{name} is published");
    let has = |document: &Value| has_router(document, "shop", name);
    plane.eventually_published(OUTPUT, &what, has).await.0.generation
}

async fn end(mut operator: Operator) {
    operator.process.signal(Signal::TERM);
    let status = operator.process.ended(SOON).await;
    assert!(status.success(), "{}", operator.process.log_tail());
}

async fn lease_names(plane: &ControlPlane) -> Vec<String> {
    let leases: Api<Lease> = Api::namespaced(plane.admin(), "waybill");
    let leases = leases.list(&ListParams::default()).await.unwrap();
    leases.items.into_iter().filter_map(|lease| lease.metadata.name).collect()
}

#[tokio::test]
async fn the_lease_has_its_name_or_there_is_none_and_lines_are_json_where_that_is_said() {
    let plane = plane().await;
    let alone = plane.operator("alone", &[FAST, "--operator.leaderelection.enabled=false"]).await;
    published(&plane, "first").await;
    assert!(lease_names(&plane).await.is_empty(), "a Lease without election");
    // The Leases of agents are only listed and watched.
    let reads = ["list", "watch"];
    let mut asked =
        plane.requests_of("alone").into_iter().filter(|event| event.object_ref.resource == "leases");
    assert!(asked.all(|event| reads.contains(&event.verb.as_str())), "a request for a Lease of its own");
    let before = plane.published(OUTPUT).await.unwrap().0;
    end(alone).await;

    // A replica that elects takes over what one without election wrote.
    let named = plane
        .operator("named", &[FAST, "--operator.leaderelection.leasename=edge", "--operator.logformat=json"])
        .await;
    named.shows("leader_election_master_status{name=\"edge\"}", 1.0).await;
    assert_eq!(lease_names(&plane).await, ["edge"]);
    plane.apply_objects(&[ingress("shop", "second", "web"), ingress("shop", "lost", "nowhere")]).await;
    published(&plane, "second").await;
    let after = plane.published(OUTPUT).await.unwrap().0;
    assert!(after.epoch >= before.epoch && after.generation > before.generation, "{before:?} {after:?}");
    let log = named.process.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    end(named).await;
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn the_throttles_and_rates_hold() {
    let plane = plane().await;
    // At most one configuration in three seconds, however fast events come and commits may follow.
    let operator =
        plane.operator("events", &[FAST, "--providers.kubernetesingress.throttleduration=3s"]).await;
    operator.leads().await;
    let before = published(&plane, "first").await;
    let begun = Instant::now();
    for at in 0..20 {
        plane.apply_objects(&[ingress("shop", &format!("event-{at}"), "web")]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let commits = published(&plane, "event-19").await - before;
    let most = begun.elapsed().as_secs() / 3 + 2;
    assert!((1..=most).contains(&commits), "{commits} commits in {:?}", begun.elapsed());
    end(operator).await;

    // What is written is on average so many bytes a second, after a burst of 8 seconds' worth: the throttle stretches.
    let operator = plane.operator("bytes", &[FAST, "--operator.publishbytespersecond=512"]).await;
    operator.leads().await;
    plane.apply_objects(&[with_paths(ingress("shop", "large", "web"), 100)]).await;
    eventually("the large one is published", SOON, async || {
        let (_, document) = plane.published(OUTPUT).await.ok_or("no index")?;
        if document.to_string().contains("shop-large-") { Ok(()) } else { Err("not yet") }
    })
    .await;
    plane.apply_objects(&[ingress("shop", "waits", "web")]).await;
    eventually("the throttle stretches", SOON, async || {
        let stretch = operator.metric("waybill_publish_throttle_stretch_seconds").await;
        if stretch.is_some_and(|seconds| seconds > 1.0) { Ok(()) } else { Err(format!("{stretch:?}")) }
    })
    .await;
    end(operator).await;

    // Statuses: one a second after the first few.
    let operator = plane.operator("statuses", &[FAST, ADDRESS, "--operator.statusrate=2"]).await;
    operator.leads().await;
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let all = ingresses.list(&ListParams::default()).await.unwrap().items.len();
    let begun = Instant::now();
    let written = async || {
        let metric = operator.metric("waybill_writes_total{kind=\"ingress_status\",result=\"success\"}");
        metric.await.unwrap_or_default() as usize
    };
    eventually("the first status is written", SOON, async || {
        if written().await > 0 { Ok(()) } else { Err("none yet") }
    })
    .await;
    let first = Instant::now();
    eventually("all statuses are written", SOON, async || {
        let now = written().await;
        if now >= all { Ok(()) } else { Err(format!("{now} of {all}")) }
    })
    .await;
    let took = first.elapsed();
    println!("{all} statuses in {took:.1?}, after {:.1?}", first - begun);
    assert!(all >= 20 && took >= Duration::from_secs(all as u64 / 2 - 4), "{all} statuses in {took:?}");
    end(operator).await;
    plane.assert_nothing_refused();
}
