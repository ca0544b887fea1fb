//! `operator.maxWithdrawal` at a real API server: what is held, what is not, and what stays published meanwhile.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use waybill::publish::outputs::Outcome;
use waybill::publish::outputs::{CONFIRM_ANNOTATION, Withdrawal};
use waybill::published::index::Index;

use crate::output::{Bench, MANY, begin};

/// Routers of each namespace but the first.
const FEW: usize = 5;
const NAMESPACES: [&str; 4] = ["shop", "b", "c", "d"];

/// An output of four namespaces; the first has many routers.
async fn shared_output() -> Bench {
    let mut bench = Bench::new(300, 30).await;
    for namespace in &NAMESPACES[1..] {
        for at in 0..FEW {
            bench.set_in(namespace, at, "v1");
        }
    }
    bench.committed().await;
    bench
}

async fn held(bench: &mut Bench) -> Withdrawal {
    match bench.commit().await {
        Ok(Outcome::Held(held)) => held,
        other => panic!("it has to be held: {other:?}"),
    }
}

async fn elect(bench: &mut Bench) {
    let (term, writer) = begin(bench.plane, &bench.output, "next", 30).await;
    (bench.term, bench.writer) = (term, writer);
}

/// Everything of every namespace goes.
fn remove_all(bench: &mut Bench) {
    for namespace in NAMESPACES {
        for at in 0..300 {
            bench.remove_in(namespace, at);
        }
    }
}

async fn confirm(bench: &mut Bench, held: &Withdrawal) {
    bench.annotate(CONFIRM_ANNOTATION, Some(&held.confirmation())).await;
    assert!(bench.watch().await);
    bench.committed().await;
    bench.assert_published().await;
}

fn routing(index: &Index) -> (&str, &str, &str, usize) {
    (&index.hash, &index.shards, &index.key_shards, index.counts.routers)
}

#[tokio::test]
async fn a_large_withdrawal_is_held_until_this_very_one_is_confirmed() {
    for count in [100, MANY] {
        let mut bench = Bench::new(count, 30).await;
        bench.committed().await;
        // A new leader knows from the index what is published.
        let (_term, writer) = begin(bench.plane, &bench.output, "next", 30).await;
        bench.writer = writer;
        for at in 0..count / 2 {
            bench.remove(at);
        }
        let Ok(Outcome::Held(held)) = bench.commit().await else { panic!("{count}: it has to be held") };
        assert_eq!((held.removed, held.of), (count / 2, count));
        assert_eq!(bench.read().await.index.counts.routers, count);
        assert!(held.problem(&bench.output).remedy.contains(&held.confirmation()));

        for wrong in ["true", "1:1", &format!("{}:{}", held.generation, held.removed - 1)] {
            bench.annotate(CONFIRM_ANNOTATION, Some(wrong)).await;
            bench.watch().await;
            assert!(matches!(bench.commit().await, Ok(Outcome::Held(_))), "{wrong}");
        }
        bench.annotate(CONFIRM_ANNOTATION, Some(&held.confirmation())).await;
        assert!(bench.watch().await);
        bench.committed().await;
        bench.assert_published().await;
        let annotations = bench.index_object().await.metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key(CONFIRM_ANNOTATION), "{annotations:?}");
        // Small ones pass.
        bench.remove(count - 1);
        bench.committed().await;
    }
}

#[tokio::test]
async fn a_tenant_who_withdraws_everything_holds_up_nobody() {
    for elected in [false, true] {
        let mut bench = shared_output().await;
        for at in 0..300 {
            bench.remove(at);
        }
        bench.set_in("b", 0, "v2");
        if elected {
            elect(&mut bench).await;
        }
        bench.committed().await;
        bench.assert_published().await;
        let index = bench.index().await;
        assert_eq!(index.counts.routers, 3 * FEW);
        let namespaces = index.namespaces.unwrap();
        assert!(!namespaces.contains_key("shop") && namespaces["b"] == FEW, "{namespaces:?}");

        // What hits all others as well is held.
        remove_all(&mut bench);
        let held = held(&mut bench).await;
        assert_eq!((held.removed, held.of, held.hit), (3 * FEW, 3 * FEW, Some((3, 3))));
        confirm(&mut bench, &held).await;
    }
}

#[tokio::test]
async fn an_index_that_is_deleted_or_spoilt_lets_nothing_through() {
    let mut bench = shared_output().await;
    let before = bench.index().await;
    remove_all(&mut bench);
    let spoilt = |text: &str| Some(json!({"data": {"index.json": text}}));
    let emptied = json!({
        "formatVersion": 1, "epoch": before.epoch, "generation": before.generation, "hash": "", "shards": "",
        "publishedAt": "", "keyShards": "", "counts": {"routers": 0, "services": 0, "certificates": 0},
    });
    let harms = [None, spoilt("nonsense"), spoilt(&emptied.to_string()), Some(json!({"data": null}))];
    for (harm, after_hold) in harms.iter().flat_map(|harm| [(harm, false), (harm, true)]) {
        if after_hold {
            held(&mut bench).await;
        }
        let generation = bench.index().await.generation;
        match harm {
            None => drop(bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap()),
            Some(edit) => drop(
                bench.config_maps().patch("out", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap(),
            ),
        }
        assert!(bench.watch().await, "{harm:?}");
        let held = held(&mut bench).await;
        let after = bench.index().await;
        assert_eq!(routing(&after), routing(&before), "{harm:?}");
        assert!(after.generation > generation && after.generation == held.generation, "{harm:?} {after:?}");
        assert_eq!(bench.read().await.index, after, "a reader gets all of it");
        let writes = bench.writes().len();
        assert_eq!(self::held(&mut bench).await, held);
        assert_eq!(bench.writes().len(), writes, "it is put back once");
    }

    // A shard that is still wanted is put back as well.
    for at in [0, 100, 200] {
        bench.set(at, "v1", true);
    }
    let keys = bench.secrets().list(&ListParams::default()).await.unwrap().items;
    let names = keys.iter().filter_map(|key| key.metadata.name.clone());
    for name in names.filter(|name| name.contains(".k-")) {
        bench.secrets().delete(&name, &DeleteParams::default()).await.unwrap();
    }
    bench.watch().await;
    let held = held(&mut bench).await;
    assert_eq!(routing(&bench.read().await.index), routing(&before));
    confirm(&mut bench, &held).await;
}

#[tokio::test]
async fn a_new_leader_without_an_index_goes_by_the_shards_that_are_left() {
    for deleted in [true, false] {
        let mut bench = shared_output().await;
        let shards = bench.shard_names().await;
        if deleted {
            bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
        } else {
            let edit = json!({"data": {"index.json": "nonsense"}});
            bench.config_maps().patch("out", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        }
        remove_all(&mut bench);
        for _ in 0..2 {
            elect(&mut bench).await;
            let held = held(&mut bench).await;
            assert_eq!((held.removed, held.of, held.hit), (300 + 3 * FEW, 300 + 3 * FEW, None));
            let minute = Instant::now() + Duration::from_secs(61);
            assert_eq!(bench.collect_garbage(minute).await, 0, "they are all that is known");
            assert_eq!(bench.shard_names().await, shards);
        }
        // There is an index to annotate, and no reader takes it for one.
        let index = bench.index_object().await;
        assert!(waybill::published::read::index(&index).is_err(), "{index:?}");
        bench.watch().await;
        let held = held(&mut bench).await;
        confirm(&mut bench, &held).await;
    }

    // A new leader that wants what is there writes the index at once.
    let mut bench = shared_output().await;
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    elect(&mut bench).await;
    bench.committed().await;
    bench.assert_published().await;
}

#[tokio::test]
async fn without_its_shards_a_held_output_has_an_index_to_annotate() {
    let mut bench = shared_output().await;
    remove_all(&mut bench);
    let all = ListParams::default().labels("waybill.dev/output");
    bench.config_maps().delete_collection(&DeleteParams::default(), &all).await.unwrap();
    bench.watch().await;
    let held = held(&mut bench).await;
    assert_eq!(held.removed, 300 + 3 * FEW);
    assert!(waybill::published::read::index(&bench.index_object().await).is_err());
    confirm(&mut bench, &held).await;
}

#[tokio::test]
async fn an_output_that_no_class_has_is_held_too() {
    let mut bench = shared_output().await;
    let before = bench.index().await;
    remove_all(&mut bench);
    bench.retired = true;
    let first = held(&mut bench).await;
    bench.config_maps().delete("out", &DeleteParams::default()).await.unwrap();
    bench.watch().await;
    let held = held(&mut bench).await;
    assert_eq!(held.removed, first.removed);
    assert_eq!(routing(&bench.index().await), routing(&before));
    confirm(&mut bench, &held).await;
}
