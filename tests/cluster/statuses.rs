//! Statuses of Ingresses in a real API server, written with the shipped rights.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::networking::v1::{self, IngressLoadBalancerIngress};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use waybill::key_queue::KeyQueue;
use waybill::kubernetes::Ingress;
use waybill::kubernetes::key::IngressKey;
use waybill::metrics::{WriteKind, WriteResult};
use waybill::publish::statuses::policy::{Entries, StatusOwners, StatusState};
use waybill::publish::statuses::writer::{StatusView, StatusWriter};
use waybill::translate::problem::{Category, Problem};
use waybill::translate::status::DesiredStatus;

use crate::harness::{self, ControlPlane, eventually};
use crate::term::{Term, grant};

const SOON: Duration = Duration::from_secs(20);

const MANAGER: &str = "waybill:test/waybill";

/// What a store would know: the Ingresses of a namespace, as a watch shows them.
#[derive(Default)]
struct View {
    ingresses: Mutex<HashMap<IngressKey, Ingress>>,
    /// What is wanted of those that are ours; the others are not.
    wanted: Mutex<HashMap<IngressKey, DesiredStatus>>,
    contested: Mutex<HashMap<IngressKey, Option<Problem>>>,
    /// That of an earlier Ingress, which a watch that lags still shows.
    uid: Mutex<Option<String>>,
}

impl StatusView for View {
    fn state(&self, key: &IngressKey) -> Option<StatusState> {
        let ingresses = self.ingresses.lock().unwrap();
        let ingress = ingresses.get(key)?;
        let wanted = self.wanted.lock().unwrap().get(key).cloned();
        Some(StatusState {
            uid: self.uid.lock().unwrap().clone().or_else(|| ingress.metadata.uid.clone()),
            ours: wanted.is_some(),
            wanted: wanted.unwrap_or(DesiredStatus::LeaveAlone),
            current: entries_of(ingress),
            owners: StatusOwners::new(ingress, MANAGER),
            shown: ingress.metadata.resource_version.as_deref().unwrap_or_default().parse().unwrap(),
        })
    }

    fn contested(&self, key: &IngressKey, problem: Option<Problem>) {
        self.contested.lock().unwrap().insert(key.clone(), problem);
    }

    fn written(&self, _: &IngressKey) {}
}

fn entries_of(ingress: &Ingress) -> Entries {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default()
}

fn ips(ips: &[&str]) -> Entries {
    ips.iter()
        .map(|ip| IngressLoadBalancerIngress { ip: Some((*ip).to_owned()), ..Default::default() })
        .collect()
}

struct Bench {
    plane: &'static ControlPlane,
    namespace: String,
    view: Arc<View>,
    queue: Arc<KeyQueue<IngressKey, ()>>,
    term: Term,
}

impl Bench {
    /// A writer of so many a second over a watch of a fresh namespace.
    async fn new(rate: u32) -> Self {
        let plane = harness::shared().await;
        let namespace = plane.namespace("status").await;
        grant(plane, &namespace).await;
        let term = Term::begin(plane, &namespace, "leader").await;
        let (view, queue) = (Arc::new(View::default()), Arc::new(KeyQueue::default()));
        let api: Api<Ingress> = Api::namespaced(plane.admin(), &namespace);
        let (seen, notify) = (view.clone(), queue.clone());
        tokio::spawn(async move {
            let events = watcher::watcher(api, watcher::Config::default());
            let _ = events
                .try_for_each(|event| {
                    if let Event::Apply(ingress) | Event::InitApply(ingress) = event {
                        let key = key_of(&ingress);
                        seen.ingresses.lock().unwrap().insert(key.clone(), ingress);
                        notify.push(key, ());
                    }
                    futures::future::ok(())
                })
                .await;
        });
        tokio::spawn(
            StatusWriter::new(term.requests.clone(), MANAGER, view.clone(), queue.clone(), rate).run(),
        );
        Self { plane, namespace, view, queue, term }
    }

    fn api(&self) -> Api<Ingress> {
        Api::namespaced(self.plane.admin(), &self.namespace)
    }

    fn key(&self, name: &str) -> IngressKey {
        IngressKey::new(self.namespace.clone(), name)
    }

    fn want(&self, name: &str, wanted: Option<DesiredStatus>) {
        let key = self.key(name);
        match wanted {
            Some(wanted) => self.view.wanted.lock().unwrap().insert(key.clone(), wanted),
            None => self.view.wanted.lock().unwrap().remove(&key),
        };
        self.queue.push(key, ());
    }

    async fn create(&self, name: &str) {
        let ingress = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}},
        }))
        .unwrap();
        let api: Api<v1::Ingress> = Api::namespaced(self.plane.admin(), &self.namespace);
        api.create(&PostParams::default(), &ingress).await.unwrap();
    }

    /// Another controller writes a status, by an update or by an apply of its own, and the watch shows it.
    async fn other(&self, name: &str, addresses: &[&str], apply: bool) {
        self.others(name, addresses, "other", apply).await;
    }

    async fn others(&self, name: &str, addresses: &[&str], manager: &str, apply: bool) {
        let body = serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
            "status": {"loadBalancer": {"ingress": ips(addresses)}},
        });
        let done = if apply {
            let params = PatchParams::apply(manager).force();
            self.api().patch_status(name, &params, &Patch::Apply(&body)).await
        } else {
            let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
            self.api().patch_status(name, &params, &Patch::Merge(&body)).await
        };
        let version = |ingress: &Ingress| {
            ingress.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok())
        };
        let written = version(&done.unwrap());
        eventually("the watch shows it", SOON, async || {
            let shown = self.view.ingresses.lock().unwrap().get(&self.key(name)).and_then(version);
            if shown >= written { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
    }

    async fn has(&self, name: &str, addresses: &[&str], own: bool) {
        eventually(&format!("{name} has {addresses:?}"), SOON, async || {
            let ingress = self.api().get(name).await.unwrap();
            let found = (entries_of(&ingress), StatusOwners::new(&ingress, MANAGER).we);
            if found == (ips(addresses), own) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Waits until the writer has looked at everything.
    async fn settled(&self) {
        eventually("nothing waits", SOON, async || {
            let waiting = self.queue.len();
            if waiting == 0 { Ok(()) } else { Err(waiting.to_string()) }
        })
        .await;
    }

    /// Status writes of ours as the API server saw them: name and code.
    fn writes(&self) -> Vec<(String, u16)> {
        let user = format!("system:serviceaccount:{}:waybill", self.namespace);
        let writes = self.plane.audit().into_iter().filter(|event| event.user.username == user);
        writes
            .filter(|event| event.object_ref.subresource == "status")
            .inspect(|event| assert!(event.uri.contains("timeout="), "{}", event.uri))
            .map(|event| (event.object_ref.name.clone(), event.code()))
            .collect()
    }
}

fn key_of(ingress: &Ingress) -> IngressKey {
    let metadata = &ingress.metadata;
    IngressKey::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_status_is_written_changed_emptied_and_withdrawn() {
    let bench = Bench::new(200).await;
    bench.create("web").await;
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.1", "192.0.2.2"]))));
    bench.has("web", &["192.0.2.1", "192.0.2.2"], true).await;
    // Another order is no other status.
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.2", "192.0.2.1"]))));
    bench.settled().await;
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.3"]))));
    bench.has("web", &["192.0.2.3"], true).await;
    bench.want("web", Some(DesiredStatus::LeaveAlone));
    bench.settled().await;
    bench.has("web", &["192.0.2.3"], true).await;
    // No longer ours.
    bench.want("web", None);
    bench.has("web", &[], true).await;
    let ok = ("web".to_owned(), 200);
    assert_eq!(bench.writes(), [ok.clone(), ok.clone(), ok]);
    let metrics = bench.term.requests.metrics();
    assert_eq!(metrics.writes.get(WriteKind::IngressStatus, WriteResult::Success), 3);
}

#[tokio::test]
async fn a_write_that_was_decided_for_an_earlier_ingress_is_not_done() {
    let bench = Bench::new(200).await;
    bench.create("web").await;
    *bench.view.uid.lock().unwrap() = Some("11111111-2222-3333-4444-555555555555".to_owned());
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    eventually(
        "it was tried",
        SOON,
        async || {
            if bench.writes().is_empty() { Err("no write") } else { Ok(()) }
        },
    )
    .await;
    bench.has("web", &[], false).await;
    let metrics = bench.term.requests.metrics();
    eventually("it is not tried again", SOON, async || {
        let pending = metrics.statuses_pending.get();
        if pending == 0.0 { Ok(()) } else { Err(pending.to_string()) }
    })
    .await;
    assert_eq!(bench.writes()[0], ("web".to_owned(), 422));
    // Now the watch shows the new one.
    *bench.view.uid.lock().unwrap() = None;
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    bench.has("web", &["192.0.2.1"], true).await;
}

#[tokio::test]
async fn what_is_equal_is_taken_over_once_and_stays_when_the_other_goes() {
    let bench = Bench::new(200).await;
    bench.create("web").await;
    bench.other("web", &["192.0.2.1"], true).await;
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    bench.has("web", &["192.0.2.1"], true).await;
    // The other one lets go.
    let nothing = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
    });
    let params = PatchParams::apply("other").force();
    bench.api().patch_status("web", &params, &Patch::Apply(&nothing)).await.unwrap();
    bench.has("web", &["192.0.2.1"], true).await;
    // And comes back with the same, which both own then; a withdrawal empties it all the same.
    bench.other("web", &["192.0.2.1"], true).await;
    bench.settled().await;
    assert_eq!(bench.writes().len(), 1);
    bench.want("web", None);
    bench.has("web", &[], true).await;
}

#[tokio::test]
async fn a_status_of_another_controller_is_not_withdrawn() {
    let bench = Bench::new(200).await;
    bench.create("theirs").await;
    bench.other("theirs", &["198.51.100.1"], false).await;
    bench.want("theirs", None);
    bench.create("gone").await;
    bench.want("gone", Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    bench.has("gone", &["192.0.2.1"], true).await;
    // Deleted, and the view does not know yet: 404 is the end of it.
    bench.api().delete("gone", &DeleteParams::default()).await.unwrap();
    bench.want("gone", Some(DesiredStatus::Entries(ips(&["192.0.2.9"]))));
    eventually("it was tried", SOON, async || {
        let writes = bench.writes();
        if writes.contains(&("gone".to_owned(), 404)) { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
    bench.settled().await;
    bench.has("theirs", &["198.51.100.1"], false).await;
    let writes = bench.writes();
    assert_eq!(writes.iter().filter(|(_, code)| *code == 404).count(), 1, "{writes:?}");
    assert!(writes.iter().all(|(name, _)| name != "theirs"), "{writes:?}");
    assert!(bench.api().get_opt("gone").await.unwrap().is_none(), "an apply must not bring it back");
}

#[tokio::test]
async fn what_another_installation_wrote_stays_when_ours_is_withdrawn() {
    const ANOTHER: &str = "waybill:other/waybill";
    let bench = Bench::new(200).await;
    bench.create("web").await;
    let ours = Some(DesiredStatus::Entries(ips(&["192.0.2.1"])));
    bench.want("web", ours.clone());
    bench.has("web", &["192.0.2.1"], true).await;
    // Both have the same address: it is theirs alone from now on.
    bench.others("web", &["192.0.2.1"], ANOTHER, true).await;
    bench.want("web", None);
    bench.has("web", &["192.0.2.1"], false).await;
    bench.want("web", ours);
    bench.has("web", &["192.0.2.1"], true).await;
    // They have another one, and the view does not know yet.
    bench.want("web", Some(DesiredStatus::LeaveAlone));
    bench.settled().await;
    let before = bench.view.ingresses.lock().unwrap()[&bench.key("web")].clone();
    bench.others("web", &["192.0.2.2"], ANOTHER, true).await;
    let mut stale = before;
    let managers = stale.metadata.managed_fields.as_mut().unwrap();
    managers.retain(|entry| entry.manager.as_deref() == Some(MANAGER));
    let now = bench.view.ingresses.lock().unwrap().insert(bench.key("web"), stale).unwrap();
    bench.want("web", None);
    eventually("it was tried", SOON, async || {
        let writes = bench.writes();
        if writes.contains(&("web".to_owned(), 409)) { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
    bench.view.ingresses.lock().unwrap().insert(bench.key("web"), now);
    bench.settled().await;
    bench.has("web", &["192.0.2.2"], false).await;
}

#[tokio::test]
async fn a_contested_status_is_left_alone_with_a_problem() {
    let bench = Bench::new(200).await;
    bench.create("web").await;
    bench.want("web", Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    let problem =
        |bench: &Bench| bench.view.contested.lock().unwrap().get(&bench.key("web")).cloned().flatten();
    for round in 1..=3 {
        bench.has("web", &["192.0.2.1"], true).await;
        assert_eq!(problem(&bench), None, "round {round}");
        bench.other("web", &[&format!("198.51.100.{round}")], false).await;
    }
    eventually("it gives in", SOON, async || problem(&bench).ok_or("no problem yet")).await;
    assert_eq!(problem(&bench).map(|problem| problem.category), Some(Category::StatusContested));
    bench.settled().await;
    bench.other("web", &["198.51.100.4"], false).await;
    bench.settled().await;
    assert_eq!(bench.writes().len(), 3);
}

#[tokio::test]
#[ignore = "10,000 Ingresses: make test-long"]
async fn ten_thousand_statuses_use_the_rate() {
    let bench = Bench::new(200).await;
    let names: Vec<String> = (0..10_000).map(|at| format!("web-{at}")).collect();
    for chunk in names.chunks(50) {
        futures::future::join_all(chunk.iter().map(|name| bench.create(name))).await;
    }
    eventually("the watch has them", Duration::from_secs(60), async || {
        let seen = bench.view.ingresses.lock().unwrap().len();
        if seen == names.len() { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let begun = Instant::now();
    for name in &names {
        bench.want(name, Some(DesiredStatus::Entries(ips(&["192.0.2.1"]))));
    }
    let metrics = bench.term.requests.metrics();
    eventually("all are written", Duration::from_secs(120), async || {
        let written = metrics.writes.get(WriteKind::IngressStatus, WriteResult::Success);
        if written >= names.len() as u64 { Ok(()) } else { Err(written.to_string()) }
    })
    .await;
    let rate = names.len() as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.1} statuses a second of 200");
    assert!(rate >= 190.0, "{rate}");
}
