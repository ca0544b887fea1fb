//! Objects of an output that lost their labels, and those that never had any.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use waybill::metrics::WriteFailure;
use waybill::publish::PublishError;
use waybill::publish::outputs::Outcome;

use crate::output::{Bench, MANY, begin};

async fn relabel(bench: &Bench, secret: bool, name: &str, labels: serde_json::Value) {
    let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": labels}}));
    if secret {
        bench.secrets().patch(name, &PatchParams::default(), &patch).await.unwrap();
    } else {
        bench.config_maps().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// A shard is put back under its labels, whichever of them is gone, since nobody else's object can be it.
#[tokio::test]
async fn a_shard_gets_its_labels_back() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let shards = bench.shard_names().await;
    let list = ListParams::default();
    let keys = bench.secrets().list(&list).await.unwrap().items.remove(0).metadata.name.unwrap();
    let all_gone = serde_json::json!({
        "app.kubernetes.io/managed-by": null, "waybill.dev/output": null, "waybill.dev/part": null,
    });
    relabel(&bench, false, &shards[0], all_gone.clone()).await;
    relabel(&bench, false, &shards[1], serde_json::json!({"waybill.dev/part": "keys"})).await;
    relabel(&bench, true, &keys, all_gone).await;
    let before = bench.index().await;
    assert!(bench.watch().await, "it has to look");
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (2, 1, false), "{report:?}");
    assert_eq!(bench.index().await, before);
    // Who goes by the labels finds all of it again.
    let labelled = ListParams::default()
        .labels(&format!("app.kubernetes.io/managed-by=waybill,waybill.dev/output={}", bench.output.name()));
    let found = bench.config_maps().list(&labelled.clone().labels("waybill.dev/part=routing")).await.unwrap();
    assert_eq!(found.items.len(), shards.len());
    assert_eq!(bench.secrets().list(&labelled).await.unwrap().items.len(), 1);
    bench.assert_published().await;
    assert!(!bench.watch().await);
    assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
}

/// The name and the sum alone prove nothing: what can be changed, or holds more, is somebody else's.
#[tokio::test]
async fn what_only_looks_like_a_shard_is_left_alone() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let name = bench.shard_names().await.remove(0);
    let shard = bench.config_maps().get(&name).await.unwrap();
    let strangers = [
        ("not immutable", serde_json::json!({"immutable": null})),
        ("more in it", serde_json::json!({"data": {"mine": "x"}})),
        ("other content", serde_json::json!({"binaryData": {"routing.yaml.gz": "AAAA"}})),
        ("another sum", serde_json::json!({"metadata": {"annotations": {"waybill.dev/sha256": "0"}}})),
    ];
    for (what, change) in strangers {
        let mut object = serde_json::to_value(&shard).unwrap();
        let metadata = &shard.metadata;
        object["metadata"] = serde_json::json!({"name": metadata.name, "annotations": metadata.annotations});
        json_patch(&mut object, &change);
        let object: ConfigMap = serde_json::from_value(object).unwrap();
        bench.config_maps().delete(&name, &DeleteParams::default()).await.unwrap();
        let theirs = bench.config_maps().create(&PostParams::default(), &object).await.unwrap();
        assert!(bench.watch().await, "{what}");
        let error = bench.commit().await.unwrap_err();
        let PublishError::OutputNameTaken { taken, .. } = &error else { panic!("{what}: {error}") };
        assert_eq!(taken.subject.to_string(), format!("ConfigMap {}/{name}", bench.output.namespace()));
        assert_eq!(Some(&taken.uid), theirs.metadata.uid.as_ref(), "{what}");
        let now = bench.config_maps().get(&name).await.unwrap();
        assert_eq!(now.metadata.resource_version, theirs.metadata.resource_version, "{what}");
    }
    bench.config_maps().delete(&name, &DeleteParams::default()).await.unwrap();
    bench.watch().await;
    bench.committed().await;
    bench.assert_published().await;
}

fn json_patch(object: &mut serde_json::Value, change: &serde_json::Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match (object.get_mut(key), value) {
            (Some(inner), serde_json::Value::Object(_)) => json_patch(inner, value),
            _ => object[key] = value.clone(),
        }
    }
}

/// The index that this leader wrote is put back; one that a leader finds without labels can't be told from a
/// stranger's, and the remedy says how it becomes ours again.
#[tokio::test]
async fn an_index_without_labels_is_ours_only_for_who_knew_it_before() {
    let mut bench = Bench::new(3, 0).await;
    bench.committed().await;
    let part_gone = serde_json::json!({"waybill.dev/part": null, "team": "x"});
    relabel(&bench, false, "out", part_gone.clone()).await;
    // It leaves the watch.
    assert!(bench.watch().await);
    let report = bench.committed().await;
    assert!(report.index, "{report:?}");
    let labels = bench.index_object().await.metadata.labels.unwrap();
    assert_eq!((labels["waybill.dev/part"].as_str(), labels["team"].as_str()), ("index", "x"));
    bench.assert_published().await;

    relabel(&bench, false, "out", part_gone).await;
    let (_term, mut next) = begin(bench.plane, &bench.output, "next", 0).await;
    let error = next.take_over().await.unwrap_err();
    assert_eq!(error.category(), WriteFailure::NameTaken, "{error}");
    let text = error.to_string();
    let command = text.split_once("lost its labels: kubectl ").unwrap_or_else(|| panic!("{text}")).1;
    let arguments: Vec<&str> = command.split(' ').collect();
    bench.plane.kubectl_ok(&arguments);
    next.take_over().await.unwrap();

    // One that was deleted and made by a stranger is another object.
    let index = bench.index_object().await;
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    let theirs = ConfigMap { metadata: Default::default(), ..index };
    let mut theirs = ConfigMap { immutable: None, ..theirs };
    theirs.metadata.name = Some("out".into());
    bench.config_maps().create(&PostParams::default(), &theirs).await.unwrap();
    std::mem::swap(&mut bench.writer, &mut next);
    bench.watch().await;
    assert_eq!(bench.commit().await.unwrap_err().category(), WriteFailure::NameTaken);
}
