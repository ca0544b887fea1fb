//! A watch that is too old (410) has to list again, and what vanished in between was never deleted for it.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams};

use super::objects::{FAST, has_router, secret, shop_with, tls_ingress};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Part, eventually};

const OUTPUT: &str = "waybill/waybill";

/// A lease that outlives a restart of the API server, so that it is the same term.
const PATIENT: [&str; 3] = [
    "--operator.leaderelection.leaseduration=300s",
    "--operator.leaderelection.renewdeadline=200s",
    "--operator.leaderelection.retryperiod=1s",
];

#[tokio::test]
async fn an_output_that_vanished_while_its_watches_were_down_is_put_back() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", "kubernetes.io/tls", "QQ==", "QQ=="),
            tls_ingress("shop", "web", "web", &["tls"]),
        ]))
        .await;
    let [lease, deadline, period] = PATIENT;
    let operator = plane.operator("only", &[FAST, lease, deadline, period]).await;
    operator.leads().await;
    let right = |document: &serde_json::Value| has_router(document, "shop", "web");
    let (before, document) = plane.eventually_published(OUTPUT, "it is published", right).await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "waybill");
    let ours = ListParams::default().labels("waybill.dev/output");
    let uid = async || secrets.list(&ours).await.unwrap().items.remove(0).metadata.uid;
    let names = maps.list(&ours).await.unwrap().items.into_iter().map(|map| map.metadata.name.unwrap());
    let mut keys: Vec<String> = names.map(|name| format!("configmaps/waybill/{name}")).collect();
    assert!(keys.contains(&"configmaps/waybill/waybill".to_owned()), "{keys:?}");
    let key_shards = secrets.list(&ours).await.unwrap().items;
    keys.extend(
        key_shards.into_iter().map(|shard| format!("secrets/waybill/{}", shard.metadata.name.unwrap())),
    );
    let first = uid().await;

    plane.kill(Part::ApiServer);
    plane.erase(&keys).await;
    plane.revive(Part::ApiServer).await;
    let (after, again) = plane.eventually_published(OUTPUT, "all of it is put back", right).await;
    assert_eq!(
        (&again, &after.hash, after.epoch),
        (&document, &before.hash, before.epoch),
        "in the same term"
    );
    assert!(after.generation > before.generation, "{before:?} {after:?}");
    assert_ne!(uid().await, first, "the key shard was gone");
    assert_eq!(operator.metric("leader_election_master_status{name=\"waybill\"}").await, Some(1.0));
    // It could not go on where it was.
    let errors = operator.sum("waybill_watch_errors_total{kind=\"own_").await;
    assert!(errors >= 1.0, "{errors}");
    eventually("the text is put back", SOON * 2, async || maps.get("waybill.text").await).await;
}
