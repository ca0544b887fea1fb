//! An Ingress gets its address when its routing is committed, and not before.

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams};

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with};
use super::refused::full;
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};

#[tokio::test]
async fn no_address_before_the_first_commit() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let quotas = full(&plane).await;
    plane.apply_objects(&shop_with([ingress("shop", "web", "web")])).await;
    let operator = plane.operator("only", &[FAST, ADDRESS]).await;
    operator.shows("waybill_publish_error{category=\"quota_exceeded\"}", 1.0).await;
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let address = async |name: &str| {
        let status = ingresses.get(name).await.unwrap().status.unwrap_or_default();
        let entries = status.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
        entries.into_iter().find_map(|entry| entry.ip)
    };
    // One that comes while commits fail: it is translated, and the next attempt fails as well.
    plane.apply_objects(&[ingress("shop", "later", "web")]).await;
    let failed = async || {
        let series = "waybill_writes_total{kind=\"routing_shard\",result=\"quota_exceeded\"}";
        operator.metric(series).await.unwrap_or_default()
    };
    let before = failed().await;
    eventually("three more attempts have failed", SOON, async || {
        let now = failed().await;
        if now >= before + 3.0 { Ok(()) } else { Err(format!("{before} {now}")) }
    })
    .await;
    for name in ["web", "later"] {
        assert_eq!(address(name).await, None, "{name}\n{}", operator.process.log_tail());
    }
    quotas.delete("tight", &DeleteParams::default()).await.unwrap();
    plane
        .eventually_published("waybill/waybill", "both are published", |document| {
            has_router(document, "shop", "web") && has_router(document, "shop", "later")
        })
        .await;
    for name in ["web", "later"] {
        eventually(&format!("{name} has its address"), SOON, async || match address(name).await {
            Some(ip) if ip == "192.0.2.1" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}
