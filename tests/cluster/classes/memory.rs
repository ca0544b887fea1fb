//! The ConfigMap of what was accepted last.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;
use crate::harness::Signal;

#[tokio::test]
async fn an_edit_or_a_deletion_is_undone_and_lifts_no_restriction() {
    let plane = plane().await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    let second = plane.operator("second", QUICK).await;
    second.ready().await;
    let api: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let held = eventually("both classes are remembered", SOON, async || {
        match api.get_opt("waybill.classes").await.unwrap() {
            Some(map) if map.data.as_ref().is_some_and(|data| data.len() == 3) => Ok(map),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let put_back = async || {
        eventually("it is put back", SOON, async || match api.get_opt("waybill.classes").await.unwrap() {
            Some(map) if map.data == held.data && map.metadata.labels == held.metadata.labels => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };

    // With nothing but the memory to go by.
    delete_parameters(&plane, "internal").await;
    event(&plane, "default", "internal", "InvalidParameters", &["last accepted"]).await;
    let lifted = json!({"data": {"internal": r#"{"spec":{}}"#, "more": "x"}, "metadata": {"labels": {"waybill.dev/part": null}}});
    api.patch("waybill.classes", &PatchParams::default(), &Patch::Merge(lifted)).await.unwrap();
    // Without the label it is no longer watched, and not ours to write: it is looked at, and told of.
    let warned = async || match first.process.log() {
        log if log.contains("waybill.classes") => Ok(()),
        log => Err(log),
    };
    eventually("it is told of", SOON, warned).await;
    let labelled = json!({"metadata": {"labels": {"waybill.dev/part": "classes"}}});
    api.patch("waybill.classes", &PatchParams::default(), &Patch::Merge(labelled)).await.unwrap();
    put_back().await;
    let lifted = json!({"data": {"internal": r#"{"spec":{}}"#, "more": "x"}});
    api.patch("waybill.classes", &PatchParams::default(), &Patch::Merge(lifted)).await.unwrap();
    put_back().await;
    api.delete("waybill.classes", &DeleteParams::default()).await.unwrap();
    put_back().await;

    // Deleted while nobody leads: the one that takes over still knows.
    first.process.signal(Signal::KILL);
    api.delete("waybill.classes", &DeleteParams::default()).await.unwrap();
    second.leads().await;
    put_back().await;
    plane.apply(&ingress("shop", "sneaky", "internal")).await;
    event(&plane, "shop", "sneaky", "NamespaceNotAdmitted", &["internal"]).await;
    let (_, document) = plane.published(INTERNAL).await.unwrap();
    assert!(has_router(&document, "team-a", "tool") && !has_router(&document, "shop", "sneaky"));
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}
