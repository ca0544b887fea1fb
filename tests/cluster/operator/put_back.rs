//! What waybill owns is put back, and what it does not own is left alone.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::objects::{FAST, has_router, ingress, secret, shop_with, tls_ingress, with_paths};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};

const OUTPUT: &str = "waybill/waybill";

#[tokio::test]
async fn edits_and_deletions_are_put_back_and_strangers_left_alone() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let configmaps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "waybill");

    // Somebody else's ConfigMap has the name of the index.
    let theirs: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "waybill"}, "data": {"theirs": "yes"}})).unwrap();
    let theirs = configmaps.create(&PostParams::default(), &theirs).await.unwrap();
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", "kubernetes.io/tls", "QQ==", "QQ=="),
            tls_ingress("shop", "web", "web", &["tls"]),
        ]))
        .await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    operator.shows("waybill_problems{category=\"OutputNameTaken\"}", 1.0).await;
    operator.shows("waybill_publish_error{category=\"name_taken\"}", 1.0).await;
    let untouched = configmaps.get("waybill").await.unwrap();
    assert_eq!(untouched.metadata.resource_version, theirs.metadata.resource_version);
    eventually("an Event says so where its owner looks", SOON, async || {
        let text = plane.kubectl_ok(&["-n", "waybill", "describe", "configmap", "waybill"]);
        if text.contains("OutputNameTaken") { Ok(()) } else { Err(text) }
    })
    .await;
    // Once it is out of the way, all is well by itself.
    configmaps.delete("waybill", &DeleteParams::default()).await.unwrap();
    let right = |document: &serde_json::Value| has_router(document, "shop", "web");
    let (index, document) = plane.eventually_published(OUTPUT, "it is published", right).await;
    operator.shows("waybill_problems{category=\"OutputNameTaken\"}", 0.0).await;
    operator.shows("waybill_publish_error{category=\"name_taken\"}", 0.0).await;
    assert_eq!(document, plane.rendered(&[]));

    // The index edited: emptied, a key of somebody else's added.
    let edit = json!({"data": {"index.json": "{}", "note": "mine"}});
    configmaps.patch("waybill", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    eventually("the edit is put back", SOON, async || {
        let now = configmaps.get("waybill").await.unwrap();
        let data = now.data.unwrap();
        assert_eq!(data["note"], "mine", "foreign keys stay");
        if data["index.json"] == "{}" { Err("still empty") } else { Ok(()) }
    })
    .await;
    let (edited, document) = plane.published(OUTPUT).await.unwrap();
    assert_eq!(document, plane.rendered(&[]));
    assert!(edited.generation > index.generation);

    // Its label of the output changed: it is still ours, as its shards are.
    let edit = json!({"metadata": {"labels": {"waybill.dev/output": "other"}}});
    let shard = format!("waybill.r-{}", edited.shards().next().unwrap());
    for name in ["waybill", &shard] {
        configmaps.patch(name, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        eventually("the label is put back", SOON, async || match configmaps.get_opt(name).await.unwrap() {
            Some(map) if map.metadata.labels.as_ref().unwrap()["waybill.dev/output"] == "waybill" => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        })
        .await;
    }
    operator.shows("waybill_problems{category=\"OutputNameTaken\"}", 0.0).await;

    // The text: it is what the index stands for, and an edit is put back.
    let text = async || configmaps.get("waybill.text").await.unwrap();
    let routing = async || text().await.data.unwrap()["routing.yaml"].clone();
    let mut without_certificates = document.clone();
    without_certificates.as_object_mut().unwrap().remove("tls");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&routing().await).unwrap(), without_certificates);
    let edit = json!({"data": {"routing.yaml": "", "note": "mine"}, "metadata": {"labels": {"waybill.dev/part": "x"}}});
    configmaps.patch("waybill.text", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    // At most one write in 30 s.
    eventually("the text is put back", SOON * 3, async || {
        let now = text().await;
        let data = now.data.unwrap();
        assert_eq!(data["note"], "mine", "foreign keys stay");
        let labels = now.metadata.labels.unwrap();
        if data["routing.yaml"].is_empty() || labels["waybill.dev/part"] != "text" {
            Err("still as edited")
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&routing().await).unwrap(), without_certificates);

    // The index deleted: the generation goes on.
    configmaps.delete("waybill", &DeleteParams::default()).await.unwrap();
    let (deleted, document) = plane.eventually_published(OUTPUT, "the index is put back", right).await;
    assert_eq!(document, plane.rendered(&[]));
    assert!(deleted.generation > edited.generation, "{} {}", deleted.generation, edited.generation);

    // A key shard deleted.
    let list = ListParams::default().labels("waybill.dev/output=waybill");
    let shard = secrets.list(&list).await.unwrap().items.remove(0);
    let name = shard.metadata.name.unwrap();
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    let again = eventually("the key shard is put back", SOON, async || {
        secrets.get_opt(&name).await.unwrap().ok_or("it is gone")
    })
    .await;
    assert_eq!(again.data, shard.data);

    // A routing shard deleted, of several.
    let many: Vec<_> =
        (0..8).map(|at| with_paths(ingress("shop", &format!("many-{at}"), "web"), 100)).collect();
    plane.apply_objects(&many).await;
    let (sharded, _) = plane
        .eventually_published(OUTPUT, "all are published", |document| {
            document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 801)
        })
        .await;
    assert!(sharded.shards().count() > 1, "{sharded:?}");
    let name = format!("waybill.r-{}", sharded.shards().next().unwrap());
    configmaps.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the routing shard is put back", SOON, async || {
        configmaps.get_opt(&name).await.unwrap().ok_or("it is gone")
    })
    .await;
    let (last, document) = plane.published(OUTPUT).await.unwrap();
    assert_eq!(last.hash, sharded.hash);
    assert_eq!(document, plane.rendered(&[]));
    assert!(plane.parsed(OUTPUT).await.len() > 2);
    plane.assert_nothing_refused();
}
