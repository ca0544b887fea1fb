//! One output in a real API server, written with the shipped rights.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use waybill::metrics::{WriteFailure, WriteKind, WriteResult};
use waybill::publish::PublishError;
use waybill::publish::outputs::delete_shards;
use waybill::publish::outputs::{Outcome, OwnKind, Seen};
use waybill::published::desired_output::DesiredOutput;
use waybill::published::salt::short_name;
use waybill::translate::pause::{PAUSED_ANNOTATION, Pause};

use crate::output::{Bench, MANY, begin};

#[tokio::test]
async fn a_small_output_is_committed_once_and_no_more() {
    let mut bench = Bench::new(3, 0).await;
    let report = bench.committed().await;
    assert_eq!(
        (report.generation, report.index, report.routing_shards, report.key_shards),
        (1, true, 2, 1),
        "{report:?}"
    );
    bench.assert_published().await;
    let writes = bench.writes();
    let created = |kind: &str| ("create".to_owned(), kind.to_owned(), 201);
    assert_eq!(writes.len(), 4, "{writes:?}");
    assert!(writes.contains(&created("secrets")), "{writes:?}");
    assert_eq!(writes.last(), Some(&created("configmaps")), "the index comes last");

    // Nothing is written for what is there already, whoever looks.
    for _ in 0..3 {
        assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
        assert!(!bench.watch().await);
    }
    assert_eq!(bench.writes().len(), 4);
    bench.set(1, "v2", false);
    let report = bench.committed().await;
    assert_eq!((report.generation, report.routing_shards, report.key_shards), (2, 1, 0));
    assert!(report.bytes < 8 * 1024, "{report:?}");
    bench.assert_published().await;
    assert_eq!(bench.term.requests.metrics().writes.get(WriteKind::Index, WriteResult::Success), 2);
}

#[tokio::test]
async fn a_large_output_has_several_shards_and_a_change_costs_one() {
    let mut bench = Bench::new(MANY, 0).await;
    let report = bench.committed().await;
    assert!(report.routing_shards > 1 && report.key_shards == 1, "{report:?}");
    bench.assert_published().await;
    let index = bench.index_object().await;
    assert_eq!(index.data.unwrap().keys().collect::<Vec<_>>(), ["index.json"]);
    let first = bench.writes().len();
    bench.set(7, "v2", false);
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (1, 0, true));
    assert!(report.bytes < 24_000, "{report:?}");
    assert_eq!(bench.writes().len(), first + 2);
    bench.assert_published().await;
    // Back to one shard of each section.
    for at in 3..MANY {
        bench.remove(at);
    }
    bench.committed().await;
    bench.assert_published().await;
    assert_eq!(bench.index().await.shards().count(), 2);
}

#[tokio::test]
async fn edits_and_deletions_are_put_back_and_foreign_fields_left_alone() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    // Foreign fields: nothing to do.
    bench.annotate("team.example/owner", Some("x")).await;
    let patch = serde_json::json!({"data": {"notes": "mine"}});
    let params = PatchParams::default();
    bench.config_maps().patch("out", &params, &Patch::Merge(&patch)).await.unwrap();
    assert!(bench.watch().await, "it has to look");
    assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
    assert!(!bench.watch().await, "and only once");

    // Ours: edited, emptied, deleted.
    for edit in
        [serde_json::json!({"data": {"index.json": "{}"}}), serde_json::json!({"data": {"index.json": null}})]
    {
        bench.config_maps().patch("out", &params, &Patch::Merge(&edit)).await.unwrap();
        assert!(bench.watch().await, "{edit}");
        let before = bench.writer.index().map_or(0, |index| index.generation);
        let report = bench.committed().await;
        assert!(report.index && report.routing_shards == 0 && report.generation > before, "{report:?}");
        bench.assert_published().await;
    }
    let index = bench.index_object().await;
    assert_eq!(index.data.as_ref().unwrap()["notes"], "mine");
    assert_eq!(index.metadata.annotations.as_ref().unwrap()["team.example/owner"], "x");

    let generation = bench.index().await.generation;
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    assert!(bench.watch().await);
    assert_eq!(bench.committed().await.generation, generation + 1, "it goes on counting");
    bench.assert_published().await;

    // Shards: those whose checksums were edited, one deleted, a key shard deleted.
    let shards = bench.shard_names().await;
    let edit = serde_json::json!({"metadata": {"annotations": {"waybill.dev/sha256": "0"}}});
    let keys = bench.secrets().list(&ListParams::default()).await.unwrap().items;
    let keys = keys[0].metadata.name.clone().unwrap();
    bench.config_maps().patch(&shards[1], &params, &Patch::Merge(&edit)).await.unwrap();
    assert!(bench.watch().await, "a checksum was edited");
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (1, 0, false), "{report:?}");
    bench.secrets().patch(&keys, &params, &Patch::Merge(&edit)).await.unwrap();
    assert!(bench.watch().await, "a key shard's checksum was edited");
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (0, 1, false), "{report:?}");
    bench.config_maps().delete(&shards[0], &DeleteParams::default()).await.unwrap();
    bench.config_maps().patch(&shards[1], &params, &Patch::Merge(&edit)).await.unwrap();
    bench.secrets().delete(&keys, &DeleteParams::default()).await.unwrap();
    bench.watch().await;
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (2, 1, false), "{report:?}");
    bench.assert_published().await;

    // Frozen by someone: made anew.
    let edit = serde_json::json!({"immutable": true});
    bench.config_maps().patch("out", &params, &Patch::Merge(&edit)).await.unwrap();
    bench.watch().await;
    bench.set(5, "v3", false);
    bench.committed().await;
    bench.assert_published().await;
}

#[tokio::test]
async fn a_strangers_object_of_a_wanted_name_is_never_touched() {
    let mut bench = Bench::new(1, 0).await;
    let stranger: ConfigMap = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "out"}, "data": {"index.json": "mine"},
    }))
    .unwrap();
    bench.config_maps().create(&PostParams::default(), &stranger).await.unwrap();
    let before = bench.index_object().await;
    let error = bench.commit().await.unwrap_err();
    assert!(matches!(error, PublishError::OutputNameTaken { .. }), "{error}");
    assert!(error.to_string().contains(&format!("ConfigMap {}", bench.output)), "{error}");
    assert_eq!(bench.index_object().await.metadata.resource_version, before.metadata.resource_version);

    // A shard's name.
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    bench.committed().await;
    let before = bench.index().await;
    bench.set(0, "v2", true);
    let desired = DesiredOutput::new(bench.table.declare(&bench.output));
    let name = format!("out.k-{}", short_name(before.salt, &desired.key_shards[0]));
    let stranger: Secret = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
    bench.secrets().create(&PostParams::default(), &stranger).await.unwrap();
    let error = bench.commit().await.unwrap_err();
    assert_eq!(error.category(), WriteFailure::NameTaken, "{error}");
    assert_eq!(bench.index().await, before, "nothing was committed");
    assert!(bench.secrets().get(&name).await.unwrap().data.is_none());
}

#[tokio::test]
async fn a_newer_format_is_not_written_over() {
    let mut bench = Bench::new(1, 0).await;
    bench.committed().await;
    let newer = serde_json::json!({"data": {"index.json": r#"{"formatVersion":2,"much":"else"}"#}});
    bench.config_maps().patch("out", &PatchParams::default(), &Patch::Merge(&newer)).await.unwrap();
    bench.watch().await;
    bench.set(0, "v2", false);
    let error = bench.commit().await.unwrap_err();
    assert!(matches!(error, PublishError::NewerFormat { found: 2, own: 1, .. }), "{error}");
    let (_term, mut next) = begin(bench.plane, &bench.output, "next", 0).await;
    assert_eq!(next.take_over().await.unwrap_err().category(), WriteFailure::NewerFormat);
    assert!(bench.index_object().await.data.unwrap()["index.json"].contains("much"));
}

#[tokio::test]
async fn epochs_grow_and_a_late_writer_changes_nothing() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let first = bench.index().await;
    let (term, mut second) = begin(bench.plane, &bench.output, "second", 0).await;
    second.take_over().await.unwrap();
    let taken = bench.index().await;
    assert!(taken.epoch > first.epoch && taken.generation == first.generation + 1, "{taken:?}");
    assert_eq!(
        (&taken.hash, taken.salt, &taken.shards, &taken.key_shards),
        (&first.hash, first.salt, &first.shards, &first.key_shards)
    );
    let metrics = term.requests.metrics();
    assert_eq!(metrics.writes.get(WriteKind::RoutingShard, WriteResult::Success), 0, "all shards were right");

    // The first one wakes up and goes on.
    bench.set(3, "late", false);
    let error = bench.commit().await.unwrap_err();
    assert!(matches!(error, PublishError::LeaseLost { .. }), "{error}");
    assert_eq!(bench.index().await, taken);
    // Its shard is named by nobody.
    assert!(bench.shard_names().await.iter().any(|name| !taken.shards.contains(&name["out.r-".len()..])));

    // The second one goes on without reading anything again.
    std::mem::swap(&mut bench.writer, &mut second);
    let report = bench.committed().await;
    assert_eq!(report.generation, taken.generation + 1);
    bench.assert_published().await;
    let (_term, mut third) = begin(bench.plane, &bench.output, "third", 0).await;
    third.take_over().await.unwrap();
    assert!(bench.index().await.epoch > taken.epoch);
}

#[tokio::test]
async fn garbage_goes_after_its_time_and_not_before() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let first: Vec<_> = bench.index().await.shards().collect();
    bench.set(7, "v2", false);
    bench.committed().await;
    let minute = Instant::now() + Duration::from_secs(61);
    assert_eq!(bench.collect_garbage(minute).await, 0, "one generation is not enough");
    bench.set(7, "v3", false);
    bench.committed().await;
    assert_eq!(bench.collect_garbage(Instant::now()).await, 0, "a minute has not passed");
    let minute = Instant::now() + Duration::from_secs(61);
    assert_eq!(bench.collect_garbage(minute).await, 1);
    let names = bench.shard_names().await;
    let gone = first.iter().filter(|short| !names.contains(&format!("out.r-{short}"))).count();
    assert_eq!(gone, 1);
    bench.assert_published().await;

    // A new leader knows of what the old one left.
    let (_term, mut next) = begin(bench.plane, &bench.output, "next", 0).await;
    next.take_over().await.unwrap();
    bench.writer = next;
    for version in ["v4", "v5"] {
        bench.set(9, version, false);
        bench.committed().await;
    }
    let minute = Instant::now() + Duration::from_secs(61);
    assert!(bench.collect_garbage(minute).await >= 1);
    bench.watch().await;
    bench.assert_published().await;
}

#[tokio::test]
async fn nothing_is_published_while_the_index_says_so() {
    let mut bench = Bench::new(1, 0).await;
    bench.committed().await;
    for (at, value, end) in [(0, "true", None), (1, "yes", Some("false"))] {
        bench.annotate(PAUSED_ANNOTATION, Some(value)).await;
        bench.watch().await;
        bench.set(0, &format!("v2-{at}"), false);
        let writes = bench.writes().len();
        let Ok(Outcome::Paused(pause)) = bench.commit().await else { panic!("{value} does not pause") };
        assert_eq!(pause == Pause::On, value == "true", "{pause:?}");
        assert_eq!(bench.writes().len(), writes);
        bench.annotate(PAUSED_ANNOTATION, end).await;
        assert!(bench.watch().await);
        bench.committed().await;
        bench.assert_published().await;
    }
}

/// The watches of ConfigMaps and Secrets are not in step: what the one has not said yet may be gone all the same.
#[tokio::test]
async fn an_index_that_is_put_back_names_no_shard_that_is_gone() {
    for held in [false, true] {
        let mut bench = Bench::new(MANY, if held { 30 } else { 0 }).await;
        bench.committed().await;
        if held {
            for at in 0..MANY / 2 {
                bench.remove(at);
            }
        }
        let index = bench.index_object().await;
        let keys = bench.secrets().list(&ListParams::default()).await.unwrap().items;
        let names = keys.into_iter().filter_map(|key| key.metadata.name);
        for name in names.filter(|name| name.starts_with("out.k-")) {
            bench.secrets().delete(&name, &DeleteParams::default()).await.unwrap();
        }
        bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
        assert!(bench.writer.observe(OwnKind::ConfigMap, Seen::Deleted(index.metadata)));
        if held {
            assert!(matches!(bench.commit().await, Ok(Outcome::Held(_))));
            let index = waybill::published::read::index(&bench.index_object().await);
            assert!(index.is_err(), "its key shards can't be had any more: {index:?}");
        } else {
            let report = bench.committed().await;
            assert_eq!((report.key_shards, report.index), (1, true), "{report:?}");
            bench.assert_published().await;
        }
    }
}

#[tokio::test]
async fn a_paused_output_keeps_the_shards_of_its_last_commit_whatever_its_index_says() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let (index, shards) = (bench.index().await, bench.shard_names().await);
    bench.annotate(PAUSED_ANNOTATION, Some("true")).await;
    let emptied = serde_json::json!({
        "formatVersion": 1, "epoch": index.epoch, "generation": index.generation + 5, "hash": "", "shards": "",
        "publishedAt": "", "keyShards": "", "counts": {"routers": 0, "services": 0, "certificates": 0},
    });
    let edit = serde_json::json!({"data": {"index.json": emptied.to_string()}});
    bench.config_maps().patch("out", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    assert!(bench.watch().await);
    assert!(matches!(bench.commit().await, Ok(Outcome::Paused(_))));
    assert_eq!(bench.collect_garbage(Instant::now() + Duration::from_secs(61)).await, 0);
    assert_eq!(bench.shard_names().await, shards);

    bench.annotate(PAUSED_ANNOTATION, None).await;
    bench.watch().await;
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.key_shards, report.index), (0, 0, true), "{report:?}");
    bench.assert_published().await;
}

/// Its DELETE names the resourceVersion that was known, and is refused. Whether the watch reports the edit before or
/// after that, the shard stays known, and is deleted another time.
#[tokio::test]
async fn a_shard_that_changed_before_its_deletion_is_kept_and_deleted_later() {
    let mut bench = Bench::new(1, 0).await;
    for version in ["v1", "v2", "v3"] {
        bench.set(0, version, false);
        bench.committed().await;
    }
    let mut garbage = bench.writer.take_garbage(Instant::now() + Duration::from_secs(61));
    for reported_before in [true, false] {
        let [((_, short), _)] = &garbage[..] else { panic!("{garbage:?}") };
        let name = format!("out.r-{short}");
        let edit = serde_json::json!({"metadata": {"annotations": {"team.example/owner": reported_before.to_string()}}});
        bench.config_maps().patch(&name, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        if reported_before {
            bench.watch().await;
        }
        let requests = bench.term.requests.clone();
        let collected = delete_shards(requests, bench.output.clone(), garbage).await;
        assert!(collected.deleted == 0 && collected.error.is_none(), "{collected:?}");
        bench.writer.collected(&collected);
        assert!(bench.shard_names().await.contains(&name), "another object than the one to delete");
        bench.watch().await;
        if !reported_before {
            // As far as the writer knows, it is a new one.
            bench.set(0, "v4", false);
            bench.committed().await;
        }
        garbage = bench.writer.take_garbage(Instant::now() + Duration::from_secs(61));
        assert!(garbage.iter().any(|((_, taken), _)| name.ends_with(&taken.to_string())), "{garbage:?}");
    }
    let count = garbage.len();
    let collected = delete_shards(bench.term.requests.clone(), bench.output.clone(), garbage).await;
    assert_eq!(collected.deleted, count, "{collected:?}");
    bench.assert_published().await;
}
