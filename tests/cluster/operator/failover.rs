//! Two replicas: one leads, the other takes over.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams};
use waybill::publish::lease::Timings;

use super::objects::{ADDRESS, FAST, has_router, ingress, secret, shop_with, tls_ingress};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";

/// For a change to be published once there is a leader, on a busy machine.
const MARGIN: Duration = Duration::from_secs(2);

const LEADS: &str = "leader_election_master_status{name=\"waybill\"}";

const LEASE: Duration = Duration::from_secs(3);
const RENEW: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);

async fn replica(plane: &ControlPlane, name: &str) -> Operator {
    let flag =
        |name: &str, value: Duration| format!("--operator.leaderelection.{name}={}ms", value.as_millis());
    let lease = flag("leaseduration", LEASE);
    let renew = flag("renewdeadline", RENEW);
    let retry = flag("retryperiod", RETRY);
    plane.operator(name, &[FAST, ADDRESS, &lease, &renew, &retry]).await
}

/// Name and resourceVersion of everything that is published but the index.
async fn shards(plane: &ControlPlane) -> Vec<(String, String)> {
    let list = ListParams::default().labels("waybill.dev/output=waybill");
    let configmaps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(plane.admin(), "waybill");
    let configmaps = configmaps.list(&list).await.unwrap().items.into_iter().map(|item| item.metadata);
    let secrets = secrets.list(&list).await.unwrap().items.into_iter().map(|item| item.metadata);
    configmaps
        .chain(secrets)
        .map(|metadata| (metadata.name.unwrap(), metadata.resource_version.unwrap()))
        .filter(|(name, _)| name != "waybill")
        .collect()
}

#[tokio::test]
async fn a_killed_leader_is_followed_and_a_released_lease_taken_at_once() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", "kubernetes.io/tls", "QQ==", "QQ=="),
            tls_ingress("shop", "first", "web", &["tls"]),
        ]))
        .await;
    let first = replica(&plane, "first").await;
    first.leads().await;
    let (before, _) = plane
        .eventually_published(OUTPUT, "the first leader has published", |document| {
            has_router(document, "shop", "first")
        })
        .await;
    let mut second = replica(&plane, "second").await;
    second.ready().await;
    let following = second.metric(LEADS).await;
    assert_eq!(following, Some(0.0));
    let statuses_settle = async |ingress: &str| {
        let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
        eventually("the status is written", SOON, async || {
            let status = ingresses.get(ingress).await.unwrap().status.unwrap_or_default();
            status.load_balancer.unwrap_or_default().ingress.ok_or("not yet")
        })
        .await;
    };
    statuses_settle("first").await;

    // Killed in the middle of its work, and a change at the same time.
    let killed = Instant::now();
    first.process.signal(Signal::KILL);
    plane.apply_objects(&[ingress("shop", "second", "web")]).await;
    let (after, _) = plane
        .eventually_published(OUTPUT, "the second leader has published", |document| {
            has_router(document, "shop", "second")
        })
        .await;
    let took = killed.elapsed();
    let longest =
        Timings { lease_duration: LEASE, renew_deadline: RENEW, retry_period: RETRY }.longest_takeover();
    println!("published {took:.2?} after the leader was killed; the lease allows {longest:?}");
    assert!(took < longest + MARGIN, "{took:?}");
    assert!(after.generation > before.generation && after.epoch > before.epoch, "{before:?} {after:?}");
    statuses_settle("second").await;

    // A leader that finds everything as it should be: the index gets its epoch, and nothing else is written.
    let mut third = replica(&plane, "third").await;
    third.ready().await;
    let settled = plane.published(OUTPUT).await.unwrap().0;
    let shards_before = shards(&plane).await;
    let status_version = async || {
        let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
        let list = ingresses.list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|item| item.metadata.resource_version).collect::<Vec<_>>()
    };
    let statuses_before = status_version().await;
    let told = Instant::now();
    second.process.signal(Signal::TERM);
    third.leads().await;
    let took = told.elapsed();
    println!("another replica led {took:.2?} after SIGTERM");
    let status = second.process.ended(SOON).await;
    println!("the old leader ended {:.2?} after SIGTERM", told.elapsed());
    assert!(status.success(), "{}", second.process.log_tail());
    assert!(took < LEASE, "the lease was not given back: {took:?}");
    let (index, _) = eventually("the epoch is written", SOON, async || {
        let (index, document) = plane.published(OUTPUT).await.unwrap();
        if index.epoch > settled.epoch { Ok((index, document)) } else { Err(format!("{index:?}")) }
    })
    .await;
    assert_eq!(index.hash, settled.hash);
    // Whatever else it might write would have been written before a status of a new Ingress.
    plane.apply_objects(&[ingress("shop", "third", "web")]).await;
    statuses_settle("third").await;
    let (last, _) = plane.published(OUTPUT).await.unwrap();
    assert_eq!(last.generation, settled.generation + 2, "one for the epoch, one for the new Ingress");
    for shard in shards_before.iter().filter(|(name, _)| name.contains(".k-")) {
        assert!(shards(&plane).await.contains(shard), "{} was rewritten", shard.0);
    }
    let writes: Vec<_> = plane
        .requests_of("third")
        .into_iter()
        .filter(|event| event.is_write() && event.object_ref.resource != "leases")
        .map(|event| {
            let object = event.object_ref;
            // Shards are named after their content.
            let name = object.name.split_once(".r-").map_or(object.name.as_str(), |_| "a shard").to_owned();
            (event.verb, object.resource, name, object.subresource)
        })
        .collect();
    let expected = [
        ("update", "configmaps", "waybill", ""),
        ("create", "configmaps", "a shard", ""),
        ("update", "configmaps", "waybill", ""),
        ("patch", "ingresses", "third", "status"),
    ]
    .map(|(verb, resource, name, sub)| (verb.into(), resource.into(), name.into(), sub.into()));
    assert_eq!(writes, expected);
    assert!(status_version().await.starts_with(&statuses_before[..1]), "a right status was written again");

    // Idle, and without anybody to take over.
    let told = Instant::now();
    third.process.signal(Signal::TERM);
    let status = third.process.ended(SOON).await;
    println!("an idle leader ended {:.2?} after SIGTERM", told.elapsed());
    assert!(status.success(), "{}", third.process.log_tail());
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn a_leader_whose_lease_was_deleted_shows_that_it_leads_again() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "first", "web")])).await;
    let first = replica(&plane, "first").await;
    first.leads().await;
    let is_published = |name: &'static str| {
        let what = format!("{name} is published");
        let plane = &plane;
        async move {
            plane.eventually_published(OUTPUT, &what, |document| has_router(document, "shop", name)).await.0
        }
    };
    let before = is_published("first").await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), "waybill");
    leases.delete("waybill", &DeleteParams::default()).await.unwrap();
    first.shows("waybill_leases_lost_total", 1.0).await;
    first.shows(LEADS, 1.0).await;
    // The new term publishes only once all parts of the old one have ended.
    let after = eventually("the epoch is written", SOON, async || match plane.published(OUTPUT).await {
        Some((index, _)) if index.epoch > before.epoch => Ok(index),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(after.generation > before.generation);
    plane.apply_objects(&[ingress("shop", "second", "web")]).await;
    is_published("second").await;
    assert_eq!(first.metric(LEADS).await, Some(1.0));
    assert_eq!(first.metric("waybill_leases_lost_total").await, Some(1.0), "one term, not another one");
}
