//! An address waits for the agents of its output, and for none that is broken, dead or forged for long.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use waybill::kubernetes::key::OutputKey;
use waybill::published::agents;
use waybill::published::index::CommitId;

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with, slice};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";

/// No address in these tests comes because of it, but where that is said.
const NEVER: &str = "--operator.statusdelay=300s";

/// The agents of a test, which is all of them.
struct FakeAgents {
    leases: Api<Lease>,
    ingresses: Api<Ingress>,
}

impl FakeAgents {
    fn new(plane: &ControlPlane) -> Self {
        Self {
            leases: Api::namespaced(plane.admin(), "waybill"),
            ingresses: Api::namespaced(plane.admin(), "shop"),
        }
    }

    /// One reports. Its clock is an hour ahead.
    async fn report(&self, identity: &str, (epoch, generation): (u64, u64), seconds: i32) {
        let output = OutputKey::new("waybill", "waybill");
        let renewed = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": agents::lease_name(&output, identity), "labels": agents::labels(&output),
                "annotations": agents::annotations(CommitId::new(epoch, generation)),
            },
            "spec": {"leaseDurationSeconds": seconds, "renewTime": format!("{renewed:.6}")},
        });
        let apply = PatchParams::apply("waybill-agent").force();
        let name = agents::lease_name(&output, identity);
        self.leases.patch(&name, &apply, &Patch::Apply(&lease)).await.unwrap();
    }

    async fn address(&self, name: &str) -> Option<String> {
        let status = self.ingresses.get(name).await.unwrap().status.unwrap_or_default();
        let entries = status.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
        entries.into_iter().find_map(|entry| entry.ip)
    }

    async fn gets_its_address(&self, name: &str, operator: &Operator) {
        eventually(&format!("{name} has its address"), SOON, async || match self.address(name).await {
            Some(ip) if ip == "192.0.2.1" => Ok(()),
            other => Err(format!("{other:?}\n{}", operator.process.log_tail())),
        })
        .await;
    }
}

/// Waits until an Ingress is published; gives epoch and generation, and what is awaited.
async fn published(plane: &ControlPlane, name: &str) -> ((u64, u64), u64) {
    let (index, _) = plane
        .eventually_published(OUTPUT, &format!("{name} is published"), |document| {
            has_router(document, "shop", name)
        })
        .await;
    ((index.epoch, index.generation), index.awaited)
}

fn of(metric: &str) -> String {
    format!("{metric}{{output=\"{OUTPUT}\"}}")
}

#[tokio::test]
async fn an_address_waits_for_every_agent_that_lives() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let agents = FakeAgents::new(&plane);
    plane.apply_objects(&shop_with([])).await;
    agents.report("a", (0, 0), 3600).await;
    agents.report("b", (0, 0), 3600).await;
    let mut operator = plane.operator("first", &[FAST, ADDRESS, NEVER]).await;
    operator.leads().await;
    operator.shows(&of("waybill_agents"), 2.0).await;

    // Both have to report the generation.
    plane.apply_objects(&[ingress("shop", "one", "web")]).await;
    let (commit, awaited) = published(&plane, "one").await;
    assert_eq!(commit.1, awaited, "agents are asked to report it at once");
    agents.report("a", commit, 3600).await;
    operator.shows(&of("waybill_agents_behind"), 1.0).await;
    assert_eq!(agents.address("one").await, None);
    agents.report("b", commit, 3600).await;
    agents.gets_its_address("one", &operator).await;
    operator.shows(&of("waybill_agents_behind"), 0.0).await;
    operator.shows(&of("waybill_agents_lag_seconds"), 0.0).await;

    // Where nothing waits, nobody is asked.
    plane.apply_objects(&[slice("shop", "web", "10.1.0.2")]).await;
    let (index, _) = plane
        .eventually_published(OUTPUT, "the endpoint is published", |document| {
            document.to_string().contains("10.1.0.2")
        })
        .await;
    assert_eq!((index.generation, index.awaited), (commit.1 + 1, awaited));

    // Garbage in a Lease changes nothing: its agent is waited for.
    let name = agents::lease_name(&OutputKey::new("waybill", "waybill"), "b");
    let garbage = json!({"metadata": {"annotations": {agents::LOADED: "x".repeat(100_000)}}});
    agents.leases.patch(&name, &PatchParams::default(), &Patch::Merge(&garbage)).await.unwrap();
    operator.shows("waybill_agent_reports_ignored_total{reason=\"unreadable\"}", 1.0).await;
    assert!(operator.process.log_tail().contains(&name));
    plane.apply_objects(&[ingress("shop", "two", "web")]).await;
    let (commit, _) = published(&plane, "two").await;
    agents.report("a", commit, 3600).await;
    operator.shows(&of("waybill_agents_behind"), 1.0).await;
    assert_eq!(agents.address("two").await, None);
    // One that ends is not waited for.
    agents.leases.delete(&name, &DeleteParams::default()).await.unwrap();
    agents.gets_its_address("two", &operator).await;

    // Nor is one that is dead, from when its Lease has run out.
    agents.report("c", (0, 0), 3).await;
    operator.shows(&of("waybill_agents"), 2.0).await;
    plane.apply_objects(&[ingress("shop", "three", "web")]).await;
    let (commit, _) = published(&plane, "three").await;
    agents.report("a", commit, 3600).await;
    agents.gets_its_address("three", &operator).await;
    operator.shows(&of("waybill_agents"), 1.0).await;

    // Another leader has another epoch, and its first commit is reported anew.
    operator.process.signal(Signal::TERM);
    operator.process.ended(SOON).await;
    plane.apply_objects(&[ingress("shop", "four", "web")]).await;
    let operator = plane.operator("second", &[FAST, ADDRESS, NEVER]).await;
    operator.leads().await;
    let (next, _) = published(&plane, "four").await;
    assert!(next.0 > commit.0 && next.1 > commit.1, "{next:?} after {commit:?}");
    agents.report("a", (commit.0, u64::MAX), 3600).await;
    operator.shows(&of("waybill_agents_behind"), 1.0).await;
    assert_eq!(agents.address("four").await, None, "an earlier epoch has nothing of this one");
    agents.report("a", next, 3600).await;
    agents.gets_its_address("four", &operator).await;
    assert_eq!(operator.metric(&of("waybill_statuses_unconfirmed_total")).await, Some(0.0));
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn a_broken_or_forged_agent_holds_nobody_up_for_long() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let agents = FakeAgents::new(&plane);
    plane.apply_objects(&shop_with([])).await;
    agents.report("forged", (0, 0), i32::MAX).await;
    let operator = plane.operator("only", &[FAST, ADDRESS, "--operator.statusdelay=3s"]).await;
    operator.leads().await;
    operator.shows(&of("waybill_agents"), 1.0).await;
    let begun = Instant::now();
    plane.apply_objects(&[ingress("shop", "web", "web")]).await;
    agents.gets_its_address("web", &operator).await;
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    operator.shows(&of("waybill_statuses_unconfirmed_total"), 1.0).await;

    // It gets its address once: what changes afterwards waits for nobody.
    let (before, _) = plane.published(OUTPUT).await.unwrap();
    plane.apply_objects(&[slice("shop", "web", "10.1.0.2")]).await;
    plane
        .eventually_published(OUTPUT, "the endpoint is published", |document| {
            document.to_string().contains("10.1.0.2")
        })
        .await;
    let (after, _) = plane.published(OUTPUT).await.unwrap();
    assert_eq!((after.generation, after.awaited), (before.generation + 1, before.awaited));
    operator.shows(&of("waybill_statuses_unconfirmed_total"), 1.0).await;
}

/// Each Lease may be as large as etcd takes, whoever wrote it.
#[tokio::test]
async fn agents_are_listed_in_pages_of_ten() {
    const AGENTS: usize = 25;
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let agents = FakeAgents::new(&plane);
    for agent in 0..AGENTS {
        agents.report(&format!("agent-{agent}"), (0, 0), 3600).await;
    }
    plane.apply_objects(&shop_with([])).await;
    let operator = plane.operator("only", &[FAST, ADDRESS, NEVER]).await;
    operator.leads().await;
    operator.shows(&of("waybill_agents"), AGENTS as f64).await;
    let lists: Vec<String> = plane
        .audit()
        .into_iter()
        .filter(|event| event.user.username == "system:serviceaccount:waybill:waybill")
        .filter(|event| event.object_ref.resource == "leases" && event.verb == "list")
        .map(|event| event.uri)
        .collect();
    assert!(lists.len() >= AGENTS.div_ceil(10), "{lists:#?}");
    assert!(lists.iter().all(|uri| uri.contains("limit=10&") || uri.ends_with("limit=10")), "{lists:#?}");
    assert_eq!(lists.iter().filter(|uri| uri.contains("continue=")).count(), AGENTS / 10, "{lists:#?}");
}

/// Agents count one another by this, and by no list of all.
#[tokio::test]
async fn one_lease_tells_how_many_there_are() {
    let plane = crate::harness::shared().await;
    let namespace = plane.namespace("agents").await;
    let leases: Api<Lease> = Api::namespaced(plane.admin(), &namespace);
    let output = OutputKey::new(&*namespace, "edge");
    for agent in 0..25 {
        let name = agents::lease_name(&output, &agent.to_string());
        let lease = json!({"metadata": {"name": name, "labels": agents::labels(&output)}});
        let lease: Lease = serde_json::from_value(lease).unwrap();
        leases.create(&Default::default(), &lease).await.unwrap();
    }
    let page = leases.list_metadata(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (1, Some(24)));
}
