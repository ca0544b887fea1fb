//! Publishing while the API server refuses, or requests and answers are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use tokio::sync::watch;
use waybill::metrics::{Label as _, WriteFailure, WriteKind, WriteResult};
use waybill::publish::PublishError;
use waybill::publish::outputs::delete_shards;
use waybill::publish::outputs::{Outcome, OutputWriter};

use crate::harness::{self};
use crate::term::Term;

use crate::output::{Bench, MANY, begin};

#[tokio::test]
async fn a_quota_that_refuses_a_shard_leaves_the_last_commit_whole() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let before = bench.index().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(bench.plane.admin(), bench.output.namespace());
    let quota = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "tight"}, "spec": {"hard": {"count/configmaps": "3"}},
    }))
    .unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // No controller runs that would count.
    let status = serde_json::json!({
        "status": {"hard": {"count/configmaps": "3"}, "used": {"count/configmaps": "3"}},
    });
    quotas.patch_status("tight", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    bench.set(7, "v2", false);
    let error = harness::eventually("the quota counts", Duration::from_secs(20), async || {
        match bench.commit().await {
            Err(error) => Ok(error),
            Ok(outcome) => {
                bench.set(7, &format!("v{}", bench.index().await.generation + 10), false);
                Err(format!("{outcome:?}"))
            }
        }
    })
    .await;
    assert_eq!(error.category(), WriteFailure::QuotaExceeded, "{error}");
    let after = bench.index().await;
    assert!(after.generation >= before.generation);
    let read = bench.read().await;
    assert_eq!(read.index.counts.routers, MANY, "a reader still gets a whole");

    quotas.delete("tight", &DeleteParams::default()).await.unwrap();
    harness::eventually("it is made good", Duration::from_secs(20), async || bench.commit().await).await;
    bench.assert_published().await;
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It never arrives.
    RequestLost,
    /// The API server says so.
    Refused(u16),
}

/// A client on which the write number `nth`, from 0, has this fate; all others go through.
fn failing(client: Client, nth: usize, fate: Fate) -> Client {
    let count = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, count) = (client.clone(), Arc::clone(&count));
        async move {
            let lost = || Err::<_, tower::BoxError>("the connection broke".into());
            let hit = request.method() != http::Method::GET && count.fetch_add(1, Ordering::SeqCst) == nth;
            match (hit, fate) {
                (true, Fate::RequestLost) => lost(),
                (true, Fate::Refused(code)) => {
                    let status = serde_json::json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                        "message": "injected", "reason": "InternalError",
                    });
                    let body = Body::from(serde_json::to_vec(&status)?);
                    Ok(http::Response::builder().status(code).body(body)?)
                }
                (lose, _) => {
                    let answer = client.send(request).await?;
                    if lose { lost() } else { Ok(answer) }
                }
            }
        }
    });
    Client::new(service, "default")
}

/// Whichever write fails in whichever way: readers have a whole at all times, and the next attempts make it good.
#[tokio::test]
async fn any_write_may_fail_at_any_point() {
    let refused = [403, 413, 422, 429, 500, 503].map(Fate::Refused);
    for fate in [Fate::AnswerLost, Fate::RequestLost].into_iter().chain(refused) {
        let mut bench = Bench::new(MANY, 0).await;
        bench.committed().await;
        let before = bench.index().await;
        // The new leader's index, two shards with routers, a key shard, the index.
        for nth in 0..5 {
            let term = Term::begin_with(bench.plane, bench.output.namespace(), "unlucky", |client| {
                failing(client, nth, fate)
            })
            .await;
            bench.writer = OutputWriter::new(bench.output.clone(), term.requests.clone(), 0);
            bench.term = term;
            for at in 0..40 {
                bench.set(at, &format!("{fate:?}-{nth}"), at == 0);
            }
            let mut attempts = 0;
            while let Err(error) = bench.commit().await {
                attempts += 1;
                assert!(attempts < 4, "{fate:?} {nth}: {error}");
                assert!(!matches!(error, PublishError::LeaseLost { .. }), "{error}");
                // Between two commits a reader has the one or the other.
                let read = bench.read().await;
                assert_eq!(read.index.counts.routers, MANY);
            }
            let writes = &bench.term.requests.metrics().writes;
            let failed = WriteKind::ALL.iter().flat_map(|kind| {
                let fine = [WriteResult::Success, WriteResult::Unchanged];
                let results = WriteResult::ALL.iter().filter(move |result| !fine.contains(result));
                results.map(|result| writes.get(*kind, *result))
            });
            assert!(failed.sum::<u64>() >= 1, "{fate:?} {nth}: nothing failed");
            bench.assert_published().await;
            bench.watch().await;
            assert_eq!(bench.commit().await.unwrap(), Outcome::Unchanged, "{fate:?} {nth}");
        }
        let after = bench.index().await;
        assert!(after.epoch >= before.epoch + 5 && after.generation >= before.generation + 10, "{after:?}");
    }
}

/// A client whose first DELETE arrives only once the gate is open, whether or not anybody still waits for the answer.
/// `sent` counts DELETEs.
fn with_a_late_deletion(client: Client, gate: watch::Receiver<bool>, sent: Arc<AtomicUsize>) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, mut gate, sent) = (client.clone(), gate.clone(), Arc::clone(&sent));
        async move {
            let late = request.method() == http::Method::DELETE && sent.fetch_add(1, Ordering::SeqCst) == 0;
            let arriving = tokio::spawn(async move {
                if late {
                    let _ = gate.wait_for(|open| *open).await;
                }
                client.send(request).await
            });
            Ok::<_, tower::BoxError>(arriving.await??)
        }
    });
    Client::new(service, "default")
}

/// A shard is garbage, and its DELETE under way; then an index names it again, by this leader or the next. The DELETE
/// arrives after that.
#[tokio::test]
async fn a_late_deletion_hits_no_shard_that_is_named_again() {
    for by_the_next in [false, true] {
        let mut bench = Bench::new(MANY, 0).await;
        let (open, gate) = watch::channel(false);
        let sent = Arc::new(AtomicUsize::new(0));
        let term = Term::begin_with(bench.plane, bench.output.namespace(), "late", |client| {
            with_a_late_deletion(client, gate, Arc::clone(&sent))
        })
        .await;
        bench.writer = OutputWriter::new(bench.output.clone(), term.requests.clone(), 0);
        let late = term.requests.clone();
        let _term = std::mem::replace(&mut bench.term, term);
        bench.committed().await;
        let first = bench.index().await;
        for version in ["v2", "v3"] {
            bench.set(7, version, false);
            bench.committed().await;
        }
        let garbage = bench.writer.take_garbage(Instant::now() + Duration::from_secs(61));
        let [((_, short), shard)] = &garbage[..] else { panic!("{garbage:?}") };
        assert!(first.shards().any(|named| named == *short));
        let (name, uid) = (format!("out.r-{short}"), shard.uid.clone());
        let deletion = tokio::spawn(delete_shards(late, bench.output.clone(), garbage));
        harness::eventually("the DELETE is under way", Duration::from_secs(20), async || {
            if sent.load(Ordering::SeqCst) == 1 { Ok(()) } else { Err("not yet") }
        })
        .await;

        let mut terms = Vec::new();
        if by_the_next {
            let (term, writer) = begin(bench.plane, &bench.output, "next", 0).await;
            terms.push(std::mem::replace(&mut bench.term, term));
            bench.writer = writer;
        }
        bench.set(7, "v1", false);
        bench.committed().await;
        assert_eq!(bench.index().await.shards, first.shards, "all shards are those of the beginning");
        let named = bench.config_maps().get(&name).await.unwrap();
        assert_ne!(named.metadata.uid, uid, "it is another object");

        open.send_replace(true);
        let namespace = bench.output.namespace();
        harness::eventually("the DELETE has arrived", Duration::from_secs(20), async || {
            let deleted = bench.plane.audit().into_iter().filter(|event| {
                let object = &event.object_ref;
                event.verb == "delete" && object.namespace == namespace && object.name == name
            });
            let codes: Vec<u16> = deleted.map(|event| event.code()).collect();
            if codes.contains(&409) { Ok(()) } else { Err(format!("{codes:?}")) }
        })
        .await;
        deletion.await.unwrap();
        assert_eq!(bench.config_maps().get(&name).await.unwrap().metadata.uid, named.metadata.uid);
        bench.assert_published().await;
    }
}
