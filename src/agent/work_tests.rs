use std::collections::BTreeMap;
use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

use super::*;
use crate::kubernetes::key::OutputKey;
use crate::published::index::{FORMAT_VERSION, Index};
use crate::published::objects;
use crate::table::{Counts, ShortDigest};

const SHARDS: usize = 64;

fn output() -> OutputKey {
    OutputKey::new("waybill", "waybill")
}

/// A shard with one router of this name.
fn shard(router: &str) -> (ShortDigest, ConfigMap) {
    let text = format!("{{\"http\":{{\"routers\":{{\"{router}\":{{\"service\":\"s\",\"rule\":\"x\"}}}}}}}}");
    let digest = Digest::new(&text);
    (digest.short(), objects::routing_shard(&output(), None, &digest, &text).unwrap())
}

fn index(generation: u64, shards: &[ShortDigest], routers: usize) -> SeenIndex {
    let index = Index {
        format_version: FORMAT_VERSION,
        epoch: 1,
        generation,
        awaited: generation,
        published_at: "2026-11-26T08:00:00Z".to_owned(),
        salt: None,
        hash: String::new(),
        shards: shards.iter().map(ShortDigest::to_string).collect(),
        key_shards: String::new(),
        counts: Counts { routers, services: 0, certificates: 0 },
        namespaces: None,
    };
    let mut object = objects::index(&output(), &index);
    object.metadata.resource_version = Some(generation.to_string());
    SeenIndex::Index(Arc::new(object))
}

/// An API server that counts GETs and says how to answer them.
#[derive(Default)]
struct FakeApi {
    shards: BTreeMap<String, String>,
    index: Mutex<String>,
    gets: Mutex<usize>,
    /// Of every so many GETs one is answered with 429.
    sheds_every: Option<usize>,
}

impl FakeApi {
    /// With shards of routers `0` to `SHARDS`, and their short names.
    fn new(sheds_every: Option<usize>) -> (Self, Vec<ShortDigest>) {
        let (names, objects): (Vec<_>, Vec<_>) = (0..=SHARDS).map(|at| shard(&at.to_string())).unzip();
        let shards = objects
            .into_iter()
            .map(|object| (object.metadata.name.clone().unwrap(), serde_json::to_string(&object).unwrap()));
        (Self { shards: shards.collect(), sheds_every, ..Self::default() }, names)
    }

    fn answer(&self, path: &str) -> (StatusCode, String) {
        let mut gets = self.gets.lock();
        *gets += 1;
        let status = |code: u16| {
            let details = serde_json::json!({"retryAfterSeconds": 1});
            serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "details": details})
                .to_string()
        };
        if self.sheds_every.is_some_and(|every| gets.is_multiple_of(every)) {
            return (StatusCode::TOO_MANY_REQUESTS, status(429));
        }
        if path.ends_with("/waybill") {
            return (StatusCode::OK, self.index.lock().clone());
        }
        match path.rsplit_once('/').and_then(|(_, name)| self.shards.get(name)) {
            Some(object) => (StatusCode::OK, object.clone()),
            None => (StatusCode::NOT_FOUND, status(404)),
        }
    }

    /// What the GET of the index answers.
    fn publish(&self, seen: &SeenIndex) {
        let SeenIndex::Index(object) = seen else { return };
        *self.index.lock() = serde_json::to_string(&**object).unwrap();
    }

    fn gets(&self) -> usize {
        *self.gets.lock()
    }
}

fn work(api: &Arc<FakeApi>, folder: &std::path::Path) -> Work {
    let api = Arc::clone(api);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (code, body) = api.answer(request.uri().path());
        let answer = Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    let metrics = AgentMetrics::new(&output()).unwrap();
    Work::new(WorkParts {
        reader: OutputReader::new(Client::new(service, "waybill"), output(), metrics.clone()),
        folder: Some(Folder::open(folder, &output()).unwrap()),
        document: None,
        include: None,
        state: AgentState::new(metrics.clone(), false),
        metrics,
        marker: watch::channel(None).0,
        wake: Arc::default(),
    })
}

#[tokio::test]
async fn a_shard_that_fails_costs_no_other() {
    let place = tempfile::tempdir().unwrap();
    let (api, names) = FakeApi::new(Some(20));
    let api = Arc::new(api);
    let mut work = work(&api, place.path());
    let newest = index(1, &names[..SHARDS], SHARDS);
    let pause = work.step(newest.clone()).await.unwrap();
    assert!(pause >= Duration::from_secs(1), "{pause:?} is less than the API server asks for");
    assert!(work.parts.state.reasons().unwrap().contains("can't be read"));
    assert!(work.step(newest.clone()).await.is_some_and(|rest| rest <= pause), "it is not asked too soon");
    assert_eq!(api.gets(), SHARDS);
    tokio::time::sleep(pause).await;
    assert_eq!(work.step(newest).await, None);
    assert_eq!(api.gets(), SHARDS + SHARDS / 20);
    assert_eq!(work.parts.folder.as_ref().unwrap().current().unwrap().commit.generation, 1);
    assert!(work.fetched.is_empty());
}

#[tokio::test]
async fn what_a_newer_index_names_as_well_is_not_fetched_again() {
    let place = tempfile::tempdir().unwrap();
    let (mut api, names) = FakeApi::new(None);
    api.shards.remove(&objects::routing_shard_name(&output(), names[0]));
    let api = Arc::new(api);
    let mut work = work(&api, place.path());
    assert!(work.step(index(1, &names[..SHARDS], SHARDS)).await.is_some(), "one was deleted");
    assert_eq!((api.gets(), work.fetched.len()), (SHARDS, SHARDS - 1));
    // The shards are not what this one says, which shows only once they are there.
    assert_eq!(work.step(index(2, &names[1..], SHARDS + 1)).await, None);
    assert!(work.parts.state.reasons().unwrap().contains("refused"));
    assert_eq!(work.step(index(3, &names[1..], SHARDS)).await, None);
    assert_eq!(api.gets(), SHARDS + 1);
    assert_eq!(work.parts.folder.as_ref().unwrap().current().unwrap().commit.generation, 3);
}

#[tokio::test]
async fn what_the_newest_index_does_not_name_is_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let (api, names) = FakeApi::new(Some(20));
    let mut work = work(&Arc::new(api), place.path());
    assert!(work.step(index(1, &names[..SHARDS], SHARDS)).await.is_some());
    assert!(work.fetched.len() > SHARDS / 2);
    work.step(index(2, &names[..2], 2)).await;
    assert!(work.fetched.len() <= 2, "{}", work.fetched.len());
}

#[tokio::test]
async fn an_api_server_that_only_fails_is_not_asked_for_every_shard() {
    let place = tempfile::tempdir().unwrap();
    let (api, names) = FakeApi::new(Some(1));
    let api = Arc::new(api);
    let mut work = work(&api, place.path());
    assert!(work.step(index(1, &names[..SHARDS], SHARDS)).await.is_some());
    assert!(api.gets() <= 16, "{}", api.gets());
}

/// As after waybill was installed anew, while endpoints keep changing.
#[tokio::test]
async fn an_index_that_counts_from_the_beginning_is_accepted_though_it_changes_all_the_time() {
    let place = tempfile::tempdir().unwrap();
    let (api, names) = FakeApi::new(None);
    let api = Arc::new(api);
    let mut work = work(&api, place.path());
    assert_eq!(work.step(index(4_000, &names[..2], 2)).await, None);
    let state = work.parts.state.clone();
    let reached = |generation| Some(CommitId::new(1, generation));
    assert_eq!(*state.reaches().borrow(), reached(4_000));
    for generation in 1..5 {
        api.publish(&index(generation, &names[1..3], 2));
        let rest = work.step(index(generation, &names[1..3], 2)).await.unwrap();
        assert!(rest <= OLDER_STANDS, "{rest:?}");
        assert_eq!(*state.reaches().borrow(), Some(CommitId::NOTHING), "nobody takes it for up to date");
        work.attempts.let_pass(OLDER_STANDS / 4);
    }
    api.publish(&index(6, &names[1..3], 2));
    work.step(index(5, &names[1..3], 2)).await;
    assert_eq!(work.taken.as_ref().map(|(commit, _)| *commit), reached(5));
}

#[tokio::test]
async fn the_routing_of_another_output_counts_as_nothing_written() {
    let place = tempfile::tempdir().unwrap();
    let files = || [("routing-000.yaml".to_owned(), FileContent::Text("{}\n".to_owned()))].into();
    let other = OutputKey::new("waybill", "other");
    Folder::open(place.path(), &other).unwrap().write(CommitId::new(50, 90_000), files()).unwrap();
    let (api, names) = FakeApi::new(None);
    let api = Arc::new(api);
    let mut first = work(&api, place.path());
    first.step(SeenIndex::Absent).await;
    let state = first.parts.state.clone();
    assert!(state.started().is_err() && state.ready().is_err());
    assert_eq!(*state.reaches().borrow(), None);
    assert!(place.path().join("dynamic/routing/routing-000.yaml").exists(), "Traefik keeps it");
    first.step(index(1, &names[..2], 2)).await;
    assert!(state.ready().is_ok());
    assert_eq!(*state.reaches().borrow(), Some(CommitId::new(1, 1)));
    drop(first);
    assert!(work(&api, place.path()).parts.state.ready().is_ok(), "its own is served on");
}
