//! Two installations in one cluster, each with a class of its own: both see all Ingresses, and each writes the statuses of
//! its own alone.

use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};

use super::objects::{ADDRESS, FAST, class, ingress, shop_with};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Signal, eventually};

const FIRST: &[&str] = &[FAST, ADDRESS, "--providers.kubernetesingress.ingressclass=first"];
const SECOND: &[&str] = &[
    FAST,
    "--providers.kubernetesingress.ingressendpoint.ip=192.0.2.2",
    "--providers.kubernetesingress.ingressclass=second",
    "--operator.leaderelection.leasename=second",
    "--operator.output.name=second",
];

const SECOND_LEADS: &str = "leader_election_master_status{name=\"second\"}";

fn of_class(name: &str, class: &str) -> Value {
    let mut ingress = ingress("shop", name, "web");
    ingress["spec"]["ingressClassName"] = class.into();
    ingress
}

fn addresses(ingress: &Ingress) -> Vec<String> {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    entries.filter_map(|entry| entry.ip.clone()).collect()
}

struct Bench {
    plane: ControlPlane,
    ingresses: Api<Ingress>,
}

impl Bench {
    async fn has(&self, name: &str, wanted: &[&str]) {
        eventually(&format!("{name} has {wanted:?}"), SOON, async || {
            let found = addresses(&self.ingresses.get(name).await.unwrap());
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Waits until all that was to be written before is written: one that comes now has its address.
    async fn marked(&self, name: &str, class: &str, address: &str) {
        self.plane.apply_objects(&[of_class(name, class)]).await;
        self.has(name, &[address]).await;
    }

    /// Every address list that Ingress `name` has from now on.
    fn follow(&self, name: &str) -> Arc<Mutex<Vec<Vec<String>>>> {
        let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let (into, api) = (Arc::clone(&seen), self.ingresses.clone());
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        tokio::spawn(async move {
            let events = watcher::watcher(api, config);
            let _ = events
                .try_for_each(|event| {
                    if let Event::Apply(ingress) | Event::InitApply(ingress) = event {
                        into.lock().unwrap().push(addresses(&ingress));
                    }
                    futures::future::ok(())
                })
                .await;
        });
        seen
    }

    /// Who wrote the status of `name` so far.
    fn writers<'a>(&self, replicas: &[&'a str], name: &str) -> Vec<&'a str> {
        let wrote = |replica: &&str| {
            self.plane.requests_of(replica).iter().any(|event| {
                event.is_write() && event.object_ref.subresource == "status" && event.object_ref.name == name
            })
        };
        replicas.iter().copied().filter(wrote).collect()
    }
}

async fn end(mut operator: Operator) {
    operator.process.signal(Signal::TERM);
    assert!(operator.process.ended(SOON).await.success(), "{}", operator.process.log_tail());
}

#[tokio::test]
async fn neither_clears_the_statuses_of_the_other() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let named = |name: &str| {
        let mut class = class();
        class["metadata"]["name"] = name.into();
        class
    };
    let objects = [named("first"), named("second"), of_class("a", "first"), of_class("b", "second")];
    plane.apply_objects(&shop_with(objects)).await;
    let ingresses = Api::namespaced(plane.admin(), "shop");
    let bench = Bench { plane, ingresses };
    let first = bench.plane.operator("first-1", FIRST).await;
    first.leads().await;
    let second = bench.plane.operator("second-1", SECOND).await;
    second.shows(SECOND_LEADS, 1.0).await;
    bench.has("a", &["192.0.2.1"]).await;
    bench.has("b", &["192.0.2.2"]).await;
    let seen = [bench.follow("a"), bench.follow("b")];

    // A new leader of each looks at everything. Meanwhile an Ingress leaves the class of the first.
    bench.marked("leaves", "first", "192.0.2.1").await;
    end(first).await;
    bench.plane.apply_objects(&[of_class("leaves", "nobodys")]).await;
    let first = bench.plane.operator("first-2", FIRST).await;
    first.leads().await;
    end(second).await;
    let second = bench.plane.operator("second-2", SECOND).await;
    second.shows(SECOND_LEADS, 1.0).await;
    bench.has("leaves", &[]).await;
    bench.marked("mark-1", "first", "192.0.2.1").await;
    bench.marked("mark-2", "second", "192.0.2.2").await;
    // Whatever changes something of a status has it looked at again.
    let touch =
        json!([{"op": "add", "path": "/metadata/annotations", "value": {"waybill.dev/x": "y"}}]).to_string();
    for name in ["a", "b"] {
        bench.plane.kubectl_ok(&["-n", "shop", "patch", "ingress", name, "--type=json", "-p", &touch]);
    }
    bench.marked("mark-3", "first", "192.0.2.1").await;
    bench.marked("mark-4", "second", "192.0.2.2").await;
    let replicas = ["first-1", "first-2", "second-1", "second-2"];
    assert_eq!(bench.writers(&replicas, "a"), ["first-1"]);
    assert_eq!(bench.writers(&replicas, "b"), ["second-1"]);
    for (seen, address) in seen.iter().zip(["192.0.2.1", "192.0.2.2"]) {
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|found| *found == [address]), "{seen:?}");
    }

    // From one to the other, and away from both.
    bench.plane.apply_objects(&[of_class("b", "first")]).await;
    bench.has("b", &["192.0.2.1"]).await;
    bench.marked("mark-5", "first", "192.0.2.1").await;
    bench.marked("mark-6", "second", "192.0.2.2").await;
    bench.has("b", &["192.0.2.1"]).await;
    bench.plane.apply_objects(&[of_class("b", "nobodys")]).await;
    bench.has("b", &[]).await;
    for operator in [&first, &second] {
        operator.shows("waybill_problems{category=\"StatusContested\"}", 0.0).await;
    }
    bench.plane.assert_nothing_refused();
}
