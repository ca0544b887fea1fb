//! The salt in the names of an output's shards.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use waybill::metrics::{WriteKind, WriteResult};
use waybill::publish::PublishError;
use waybill::publish::outputs::Outcome;
use waybill::published::desired_output::DesiredOutput;
use waybill::published::index::{FORMAT_VERSION, Index};
use waybill::published::objects;
use waybill::published::salt::{Salt, short_name};
use waybill::table::{Counts, Digest, ShortDigest};

use crate::output::{Bench, MANY, begin};

/// An output whose first index has this salt.
async fn begun_with(salt: Option<Salt>) -> Bench {
    let mut bench = Bench::new(MANY, 0).await;
    let index = Index {
        format_version: FORMAT_VERSION,
        epoch: 1,
        generation: 1,
        awaited: 0,
        published_at: String::new(),
        salt,
        hash: String::new(),
        shards: String::new(),
        key_shards: String::new(),
        counts: Counts::default(),
        namespaces: None,
    };
    let object = objects::index(&bench.output, &index);
    bench.config_maps().create(&PostParams::default(), &object).await.unwrap();
    bench.committed().await;
    bench
}

fn routing_shards(bench: &mut Bench) -> Vec<Digest> {
    DesiredOutput::new(bench.table.declare(&bench.output)).routing_shards
}

#[tokio::test]
async fn every_leader_keeps_the_salt_and_renames_nothing() {
    let mut bench = begun_with(Salt::new().ok()).await;
    let (first, shards) = (bench.index().await, bench.shard_names().await);
    let names: Vec<ShortDigest> =
        routing_shards(&mut bench).iter().map(|digest| short_name(first.salt, digest)).collect();
    assert!(first.salt.is_some());
    assert_eq!(first.shards().collect::<Vec<_>>(), names);

    let (term, next) = begin(bench.plane, &bench.output, "second", 0).await;
    bench.writer = next;
    assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
    assert_eq!(term.requests.metrics().writes.get(WriteKind::RoutingShard, WriteResult::Success), 0);
    let second = bench.index().await;
    assert_eq!((second.salt, &second.shards), (first.salt, &first.shards));

    // An edited salt is put back.
    let params = PatchParams::default();
    let text = bench.index_object().await.data.unwrap()["index.json"].clone();
    for (from, to) in [("\"salt\":\"", "\"salt\":\"0"), ("\"salt\":", "\"pepper\":")] {
        let edit = serde_json::json!({"data": {"index.json": text.replacen(from, to, 1)}});
        bench.config_maps().patch("out", &params, &Patch::Merge(&edit)).await.unwrap();
        assert!(bench.watch().await, "{to}");
        let report = bench.committed().await;
        assert_eq!((report.routing_shards, report.key_shards, report.index), (0, 0, true), "{to}");
        bench.assert_published().await;
        assert_eq!(bench.index().await.salt, first.salt);
    }

    // Of an index that is spoilt, a new leader takes what can be read.
    let edit = serde_json::json!({"data": {"index.json": text.replacen("\"hash\":", "\"cash\":", 1)}});
    bench.config_maps().patch("out", &params, &Patch::Merge(&edit)).await.unwrap();
    let (_term, next) = begin(bench.plane, &bench.output, "third", 0).await;
    bench.writer = next;
    bench.committed().await;
    assert_eq!((bench.index().await.salt, bench.shard_names().await), (first.salt, shards));

    // Where there is no index, names begin anew, without a salt.
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    let (_term, next) = begin(bench.plane, &bench.output, "fourth", 0).await;
    bench.writer = next;
    bench.committed().await;
    assert_eq!(bench.index().await.salt, None);
    bench.assert_published().await;
}

#[tokio::test]
async fn what_was_begun_without_a_salt_goes_on_without() {
    let mut bench = begun_with(None).await;
    let mut terms = Vec::new();
    for leader in ["second", "third"] {
        bench.set(7, leader, false);
        bench.committed().await;
        let index = bench.index().await;
        let names: Vec<ShortDigest> = routing_shards(&mut bench).iter().map(Digest::short).collect();
        assert!(index.salt.is_none());
        assert_eq!(index.shards().collect::<Vec<_>>(), names);
        bench.assert_published().await;
        let (term, next) = begin(bench.plane, &bench.output, leader, 0).await;
        terms.push(term);
        bench.writer = next;
        assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
    }
}

/// Whether the writer knows that the name is taken or finds out: nothing that is there is deleted for it, and what was
/// committed can be read until all shards have another name.
#[tokio::test]
async fn two_texts_of_one_name_give_all_shards_new_names() {
    for known in [true, false] {
        let mut bench = begun_with(None).await;
        let before = bench.index().await;
        let old = routing_shards(&mut bench);
        bench.set(7, "v2", false);
        let new = routing_shards(&mut bench);
        let digest = new.into_iter().find(|digest| !old.contains(digest)).unwrap();
        // As if 2^30 tries had been made.
        let mut sum = digest.to_string();
        let last = if sum.pop() == Some('0') { '1' } else { '0' };
        sum.push(last);
        let other = Digest::try_from(&*sum).unwrap();
        let shard: ConfigMap = objects::routing_shard(&bench.output, None, &other, "{}\n").unwrap();
        let name = shard.metadata.name.clone().unwrap();
        assert_eq!(name, format!("out.r-{}", digest.short()));
        let there = bench.config_maps().create(&PostParams::default(), &shard).await.unwrap();
        if known {
            bench.watch().await;
        }

        let error = bench.commit().await.unwrap_err();
        assert!(matches!(error, PublishError::NameClash { .. }) && error.is_passing(), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        assert_eq!(bench.index().await, before);
        bench.read().await;
        let report = bench.committed().await;
        assert_eq!(report.routing_shards, old.len(), "{report:?}");
        let index = bench.index().await;
        assert!(index.salt.is_some());
        assert!(!index.shards().any(|short| before.shards().any(|old| old == short)));
        bench.assert_published().await;
        assert!(!bench.watch().await);
        assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged);
        assert_eq!(bench.config_maps().get(&name).await.unwrap().metadata.uid, there.metadata.uid);
        assert!(bench.writes().iter().all(|(verb, ..)| verb != "delete"), "{:?}", bench.writes());
    }
}
