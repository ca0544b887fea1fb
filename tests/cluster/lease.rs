//! Leader election between replicas, with short timings.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use waybill::kubernetes::client::{Access, Environment, Token, connect};
use waybill::metrics::{Code, Method, Metrics, WriteFailure, WriteKind, WriteResult};
use waybill::publish::lease::{Elector, LeaseGuard, LeaseHandle, LeaseOptions, Timings};

use crate::harness::{self, ADMIN, ControlPlane, Part, Signal, StallingProxy, eventually};

const LEASE: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(250);
/// How long anything may take that needs no lease to run out.
const SOON: Duration = Duration::from_secs(10);

fn timings() -> Timings {
    Timings { lease_duration: LEASE, renew_deadline: DEADLINE, retry_period: RETRY }
}

fn options(namespace: &str, identity: &str) -> LeaseOptions {
    LeaseOptions {
        namespace: namespace.into(),
        name: "waybill".into(),
        identity: identity.into(),
        timings: timings(),
    }
}

/// A client as the operator has it.
async fn client(url: &str, ca: &Path, identity: &str, metrics: &Metrics) -> Client {
    let access = Access {
        endpoint: Some(url.parse().unwrap()),
        token: Some(Token::new(ADMIN)),
        cert_auth_file_path: Some(ca.to_owned()),
    };
    let outside = Environment { variables: [].into(), service_account: "/not/there".into(), context: None };
    connect(&access, &outside, identity, metrics).await.unwrap().client
}

/// A replica in this process.
struct Replica {
    handle: LeaseHandle,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(plane: &ControlPlane, namespace: &str, identity: &str) -> Self {
        let metrics = Metrics::new("waybill").unwrap();
        let client = client(&plane.url(), &plane.ca_file(), identity, &metrics).await;
        let (elector, handle) = Elector::new(client, options(namespace, identity), metrics.clone());
        Self::run(elector, handle, metrics)
    }

    fn run(elector: Elector, handle: LeaseHandle, metrics: Metrics) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(elector.run(async {
            let _ = stopped.await;
        }));
        Self { handle, metrics, stop, task }
    }

    fn leads(&self) -> bool {
        self.handle.guard().is_some()
    }

    async fn elected(&self, within: Duration) -> LeaseGuard {
        let mut changes = self.handle.changes();
        let elected = tokio::time::timeout(within, changes.wait_for(Option::is_some)).await;
        elected.unwrap_or_else(|_| panic!("it does not lead within {within:?}")).unwrap().clone().unwrap()
    }

    async fn lost(&self, within: Duration) {
        let mut changes = self.handle.changes();
        let lost = tokio::time::timeout(within, changes.wait_for(Option::is_none)).await;
        assert!(lost.is_ok(), "it still leads after {within:?}");
    }

    async fn shut_down(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn record(plane: &ControlPlane, namespace: &str) -> k8s_openapi::api::coordination::v1::LeaseSpec {
    Api::<Lease>::namespaced(plane.admin(), namespace).get("waybill").await.unwrap().spec.unwrap()
}

/// A replica that leads, in a namespace of its own.
async fn leader() -> (&'static ControlPlane, String, Replica, LeaseGuard) {
    let plane = harness::shared().await;
    let namespace = plane.namespace("lease").await;
    let a = Replica::start(plane, &namespace, "a").await;
    let guard = a.elected(SOON).await;
    (plane, namespace, a, guard)
}

/// Waits until a follower knows who leads.
async fn follows(replica: &Replica) {
    eventually("the follower has seen the Lease", SOON, async || {
        let seen = replica.metrics.api_requests.get(Code::Ok, Method::Get);
        // One look and one watch.
        if seen >= 2 { Ok(()) } else { Err(format!("{seen} requests")) }
    })
    .await;
}

#[tokio::test]
async fn one_of_two_leads_and_goes_on_renewing() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("lease").await;
    let a = Replica::start(plane, &namespace, "a").await;
    let b = Replica::start(plane, &namespace, "b").await;
    eventually("one leads", SOON, async || if a.leads() || b.leads() { Ok(()) } else { Err("none") }).await;
    let (leader, follower, name) = if a.leads() { (&a, &b, "a") } else { (&b, &a, "b") };
    let guard = leader.handle.guard().unwrap();
    let first = guard.write_deadline().unwrap();

    let mut renewals = Vec::new();
    eventually("it was renewed five times", SOON, async || {
        assert!(leader.leads() && !follower.leads(), "two leaders, or none");
        let renewed = record(plane, &namespace).await.renew_time;
        if renewals.last() != Some(&renewed) {
            renewals.push(renewed);
        }
        if renewals.len() > 5 { Ok(()) } else { Err(format!("{renewals:?}")) }
    })
    .await;
    assert!(guard.write_deadline().unwrap() > first, "the guard learns of renewals");
    let spec = record(plane, &namespace).await;
    assert_eq!(spec.holder_identity.as_deref(), Some(name));
    assert_eq!(spec.lease_duration_seconds, Some(3));
    assert_eq!(spec.lease_transitions, guard.epoch().map(|epoch| epoch as i32));
    assert_eq!((leader.metrics.leader.get(), follower.metrics.leader.get()), (1.0, 0.0));
    assert!(leader.metrics.writes.get(WriteKind::Lease, WriteResult::Success) >= 5);
}

#[tokio::test]
async fn a_killed_leader_is_replaced_when_its_lease_is_up_and_not_before() {
    let (plane, namespace, a, old) = leader().await;
    let b = Replica::start(plane, &namespace, "b").await;
    follows(&b).await;

    a.task.abort();
    assert!(a.task.await.unwrap_err().is_cancelled());
    let sent = old.write_deadline().unwrap() - DEADLINE;
    let killed = Instant::now();
    let new = b.elected(timings().longest_takeover()).await;
    println!("a killed leader was replaced after {:?}", killed.elapsed());
    assert!(Instant::now() >= sent + LEASE, "the old lease still ran");
    assert!(!old.may_start_write(), "two could write");
    assert!(new.epoch() > old.epoch());
    assert_eq!(new.epoch_over(old.epoch()), new.epoch().unwrap());
}

#[tokio::test]
async fn a_leader_that_shuts_down_hands_over_before_its_lease_ends() {
    let (plane, namespace, a, old) = leader().await;
    let b = Replica::start(plane, &namespace, "b").await;
    follows(&b).await;

    let begun = Instant::now();
    let (new, ()) = tokio::join!(b.elected(SOON), a.shut_down());
    println!("a released lease was taken after {:?}", begun.elapsed());
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    assert!(new.epoch() > old.epoch() && !old.may_start_write());

    b.shut_down().await;
    let spec = record(plane, &namespace).await;
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
    assert_eq!(spec.lease_transitions, new.epoch().map(|epoch| epoch as i32), "a release is no transition");
}

#[tokio::test]
async fn a_write_under_way_holds_the_release_back() {
    let (plane, namespace, a, guard) = leader().await;
    let permit = guard.begin_write().unwrap();
    let shutting_down = tokio::spawn(a.shut_down());
    eventually("no write is let in any more", SOON, async || {
        if guard.may_start_write() { Err("it still is") } else { Ok(()) }
    })
    .await;
    assert_eq!(record(plane, &namespace).await.holder_identity.as_deref(), Some("a"));
    assert!(!shutting_down.is_finished());
    drop(permit);
    shutting_down.await.unwrap();
    assert_eq!(record(plane, &namespace).await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn a_replica_that_is_not_fit_gives_the_lease_back_and_stands_aside() {
    let (plane, namespace, a, first) = leader().await;
    a.handle.set_candidate(false);
    a.lost(SOON).await;
    assert!(!first.may_start_write());
    eventually("it is released", SOON, async || {
        let holder = record(plane, &namespace).await.holder_identity;
        if holder.as_deref() == Some("") { Ok(()) } else { Err(format!("{holder:?}")) }
    })
    .await;
    let b = Replica::start(plane, &namespace, "b").await;
    b.elected(SOON).await;
    b.shut_down().await;
    // It looks at the free lease again and again, and lets it lie.
    let seen = a.metrics.api_requests.get(Code::Ok, Method::Get);
    eventually("it looked three times more", SOON, async || {
        let now = a.metrics.api_requests.get(Code::Ok, Method::Get);
        if now >= seen + 3 { Ok(()) } else { Err(format!("{now} after {seen}")) }
    })
    .await;
    assert!(!a.leads());
    assert_eq!(a.metrics.leases_lost.get(), 0, "given back is not lost");
    a.handle.set_candidate(true);
    let again = a.elected(SOON).await;
    assert!(again.epoch() > first.epoch());
}

#[tokio::test]
async fn a_lease_that_is_taken_by_force_is_lost_at_once_and_waited_for() {
    let (plane, namespace, a, old) = leader().await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), &namespace);
    let forced = serde_json::json!({"spec": {"holderIdentity": "someone", "leaseDurationSeconds": 2}});
    leases.patch("waybill", &PatchParams::default(), &Patch::Merge(&forced)).await.unwrap();
    let taken = Instant::now();
    a.lost(SOON).await;
    assert!(!old.may_start_write());
    assert!(taken.elapsed() < DEADLINE, "noticed at the next renewal: {:?}", taken.elapsed());
    let new = a.elected(SOON).await;
    assert!(taken.elapsed() >= Duration::from_secs(2), "someone's lease still ran");
    assert!(new.epoch() > old.epoch());
    assert_eq!(a.metrics.leases_lost.get(), 1);
}

#[tokio::test]
async fn a_lease_that_is_deleted_goes_on_counting() {
    let (plane, namespace, a, old) = leader().await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), &namespace);
    leases.delete("waybill", &DeleteParams::default()).await.unwrap();
    a.lost(SOON).await;
    let new = a.elected(SOON).await;
    assert!(new.epoch() > old.epoch(), "{:?} after {:?}", new.epoch(), old.epoch());
}

#[tokio::test]
async fn an_edit_beside_the_record_costs_nothing_and_stays() {
    let (plane, namespace, a, guard) = leader().await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), &namespace);
    let edit = serde_json::json!({"metadata": {"annotations": {"note": "kept"}}});
    leases.patch("waybill", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    let before = guard.write_deadline().unwrap();
    eventually("it is renewed all the same", DEADLINE, async || {
        if guard.write_deadline().unwrap() > before + RETRY { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(a.metrics.leases_lost.get(), 0);
    let lease = leases.get("waybill").await.unwrap();
    assert_eq!(lease.metadata.annotations.unwrap()["note"], "kept");
}

#[tokio::test]
async fn a_leader_without_api_server_stops_in_time_and_comes_back() {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("lease").await;
    let a = Replica::start(&plane, &namespace, "a").await;
    let old = a.elected(SOON).await;
    plane.signal(Part::ApiServer, Signal::STOP);
    let stalled = Instant::now();
    // Before the lease ends for the others, or two would lead.
    a.lost(LEASE).await;
    println!("without API server a leader stopped after {:?}", stalled.elapsed());
    assert!(!old.may_start_write());
    assert_eq!(a.metrics.leader.get(), 0.0);
    assert_eq!(a.metrics.leases_lost.get(), 1);
    plane.signal(Part::ApiServer, Signal::CONT);
    let new = a.elected(Duration::from_secs(30)).await;
    assert!(new.epoch() > old.epoch());
    assert!(!old.may_start_write(), "the old term stays over");
}

#[tokio::test]
async fn a_stalled_connection_does_not_cost_the_lease() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("lease").await;
    let proxy = StallingProxy::start(([127, 0, 0, 1], plane.port()).into()).await;
    let metrics = Metrics::new("waybill").unwrap();
    let through = client(&proxy.url(), &plane.ca_file(), "a", &metrics).await;
    let (elector, handle) = Elector::new(through, options(&namespace, "a"), metrics.clone());
    let a = Replica::run(elector, handle, metrics);
    let guard = a.elected(SOON).await;
    let opened = proxy.opened();
    proxy.stall_open();
    let deadline = guard.write_deadline().unwrap();
    eventually("it is renewed on another connection", DEADLINE, async || match guard.write_deadline() {
        Some(now) if now > deadline + RETRY => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
    assert!(proxy.opened() > opened);
    assert_eq!(a.metrics.leases_lost.get(), 0);
    assert!(
        a.metrics.writes.get(WriteKind::Lease, WriteResult::Failed(WriteFailure::Timeout)) >= 1,
        "a renewal was stalled"
    );
}

#[tokio::test]
async fn an_api_server_that_is_away_at_start_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let metrics = Metrics::new("waybill").unwrap();
    let address = format!("http://{address}");
    let client = client(&address, Path::new(""), "a", &metrics).await;
    let (elector, handle) = Elector::new(client, options("n", "a"), metrics.clone());
    let a = Replica::run(elector, handle, metrics.clone());
    eventually("it tried twice", SOON, async || {
        let tried = metrics.api_requests.get(Code::NoAnswer, Method::Get);
        if tried >= 2 { Ok(()) } else { Err(tried) }
    })
    .await;
    assert!(!a.leads());
    let begun = Instant::now();
    a.shut_down().await;
    // Not after the timeout of a request that nobody answers.
    assert!(begun.elapsed() < DEADLINE * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_election_it_leads_until_it_shuts_down() {
    let metrics = Metrics::new("waybill").unwrap();
    let (elector, handle) = Elector::without_election(metrics.clone());
    let a = Replica::run(elector, handle, metrics);
    let guard = a.elected(SOON).await;
    assert_eq!((guard.epoch(), a.metrics.leader.get()), (None, 1.0));
    a.handle.set_candidate(false);
    a.lost(SOON).await;
    assert!(!guard.may_start_write());
    a.handle.set_candidate(true);
    let guard = a.elected(SOON).await;
    a.shut_down().await;
    assert!(!guard.may_start_write());
}

/// A request that replaces a ConfigMap's data.
fn replace(namespace: &str, name: &str, value: &str) -> http::Request<Vec<u8>> {
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"by": value},
    });
    Request::new(ConfigMap::url_path(&(), Some(namespace)))
        .replace(name, &PostParams::default(), body.to_string().into_bytes())
        .unwrap()
}

#[tokio::test]
async fn every_write_asks_the_api_server_to_drop_it_in_time() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("lease").await;
    plane
        .apply(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, namespace: {namespace}}}\n"))
        .await;
    let a = Replica::start(plane, &namespace, "a").await;
    let guard = a.elected(SOON).await;
    let permit = guard.begin_write().unwrap();
    let seconds = permit.timeout().as_secs();
    assert!((1..3).contains(&seconds), "{seconds}");
    let written: ConfigMap = permit.send(&plane.admin(), replace(&namespace, "m", "a")).await.unwrap();
    assert_eq!(written.data.unwrap()["by"], "a");
    let audit = plane.audit();
    let writes: Vec<_> =
        audit.iter().filter(|event| event.is_write() && event.object_ref.namespace == namespace).collect();
    let map = writes.iter().find(|event| event.verb == "update" && event.object_ref.name == "m").unwrap();
    assert!(map.uri.ends_with(&format!("timeout={seconds}000ms")), "{}", map.uri);
    let leases: Vec<_> = writes.iter().filter(|event| event.object_ref.resource == "leases").collect();
    assert!(!leases.is_empty() && leases.iter().all(|event| event.uri.contains("timeout=")), "{leases:?}");
}

/// Names the API server to the process that the test below starts: the same test in another role.
const ENDPOINT: &str = "TEST_ENDPOINT";

/// A leader that is stopped for longer than its lease finds it expired before it writes anything.
#[tokio::test]
async fn a_frozen_leader_wakes_up_without_the_right_to_write() {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        return write_for_ever(&endpoint).await;
    }
    let plane = harness::shared().await;
    let namespace = plane.namespace("lease").await;
    plane
        .apply(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, namespace: {namespace}}}\n"))
        .await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", "lease::a_frozen_leader_wakes_up_without_the_right_to_write"])
        .env(ENDPOINT, plane.url())
        .env("TEST_CA", plane.ca_file())
        .env("TEST_NAMESPACE", &namespace);
    let frozen = plane.spawn("replica", &mut command);
    let writes = |log: &str| log.matches("wrote\n").count();
    eventually("it writes", SOON, async || {
        let log = frozen.log();
        if writes(&log) >= 3 { Ok(()) } else { Err(log) }
    })
    .await;
    let b = Replica::start(plane, &namespace, "b").await;
    follows(&b).await;
    assert!(!b.leads());

    // Right after a write, so that none is on its way; the next one is 200 ms off.
    let before = writes(&frozen.log());
    eventually("it wrote again", SOON, async || {
        let now = writes(&frozen.log());
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    frozen.signal(Signal::STOP);
    let stopped_at = writes(&frozen.log());
    b.elected(timings().longest_takeover()).await;
    frozen.signal(Signal::CONT);
    eventually("it finds that it lost", SOON, async || {
        let log = frozen.log();
        if log.contains("refused\n") && log.contains("following\n") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(writes(&frozen.log()), stopped_at, "it wrote after it woke up");
    assert!(b.leads());

    // The same by the API server's record, where replicas are told apart by their User-Agent.
    let audit = plane.audit();
    let mine: Vec<_> = audit.iter().filter(|event| event.object_ref.namespace == namespace).collect();
    let taken = mine
        .iter()
        .position(|event| event.request_object["spec"]["holderIdentity"] == "b" && event.code() == 200)
        .expect("b took the lease");
    let by_child = |events: &[&harness::AuditEvent]| {
        let maps = events.iter().filter(|e| e.object_ref.resource == "configmaps" && e.verb == "update");
        maps.filter(|e| e.user_agent == concat!("waybill/", env!("CARGO_PKG_VERSION"), " (child)")).count()
    };
    assert_eq!(by_child(&mine[..taken]), stopped_at);
    assert_eq!(by_child(&mine[taken..]), 0);
}

/// What the process that the test above freezes does: a replica that writes whenever it may.
async fn write_for_ever(endpoint: &str) {
    let variable = |name: &str| std::env::var(name).unwrap();
    let namespace = variable("TEST_NAMESPACE");
    let metrics = Metrics::new("waybill").unwrap();
    let client = client(endpoint, Path::new(&variable("TEST_CA")), "child", &metrics).await;
    let (elector, handle) = Elector::new(client.clone(), options(&namespace, "child"), metrics.clone());
    let replica = Replica::run(elector, handle, metrics);
    let guard = replica.elected(SOON).await;
    let mut pause = tokio::time::interval(Duration::from_millis(200));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let Some(permit) = guard.begin_write() else {
            println!("refused");
            break;
        };
        permit.send::<ConfigMap>(&client, replace(&namespace, "m", "child")).await.unwrap();
        println!("wrote");
    }
    replica.lost(SOON).await;
    println!("following");
    std::future::pending::<()>().await;
}
