//! An address in a status means that requests are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher::{self, Event};

use crate::client::{self, Backend};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};
use crate::objects::{SHOP, ingress, path, service, simple, slice};
use crate::world::{Edge, World};

/// Ingresses; `WAYBILL_E2E_SERVED` takes another number.
const COUNT: usize = 100;

/// As many as these are made anew, in so many rounds.
const ROUNDS: usize = 4;

async fn reports(plane: &ControlPlane) -> Vec<Lease> {
    let leases: Api<Lease> = Api::namespaced(plane.admin(), "waybill");
    leases.list(&ListParams::default().labels("waybill.dev/part=agent")).await.unwrap().items
}

/// Asks every proxy the moment that an address appears, once for each Ingress; one that is made anew is another.
async fn ask_at_once(
    plane: &ControlPlane,
    webs: Vec<u16>,
    answered: Arc<AtomicUsize>,
    wrong: Arc<AtomicUsize>,
) {
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), SHOP);
    let mut events = watcher::watcher(ingresses, watcher::Config::default()).boxed();
    let mut asked = std::collections::BTreeSet::new();
    while let Some(Ok(event)) = events.next().await {
        let (Event::Apply(ingress) | Event::InitApply(ingress)) = event else { continue };
        let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let has_address = balancer.and_then(|one| one.ingress.as_ref()).is_some_and(|all| !all.is_empty());
        if !has_address || !asked.insert(ingress.uid()) {
            continue;
        }
        for web in &webs {
            let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_ref());
            let (web, host) = (*web, rules.and_then(|rules| rules[0].host.clone()).unwrap());
            let (answered, wrong) = (Arc::clone(&answered), Arc::clone(&wrong));
            tokio::spawn(async move {
                let found = client::get(web, &host, "/", &[]).await.map(|answer| answer.who());
                if found.as_deref() != Ok("web") {
                    println!("{host} at {web}: {found:?}");
                    wrong.fetch_add(1, Ordering::SeqCst);
                }
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
    }
}

pub async fn an_address_means_that_requests_are_answered() {
    let count = std::env::var("WAYBILL_E2E_SERVED").map_or(COUNT, |text| text.parse().unwrap());
    let world = Arc::new(World::start(&["--operator.statusdelay=20s"]).await);
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    let mut first = Edge::start(&world, "first").await;
    let second = Edge::start(&world, "second").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"])]).await;
    eventually("both agents report", SOON, async || match reports(&world.plane).await.len() {
        2 => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
    world.operators[0].shows("waybill_agents{output=\"waybill/waybill\"}", 2.0).await;

    let (answered, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = {
        let (world, answered, wrong) = (Arc::clone(&world), Arc::clone(&answered), Arc::clone(&wrong));
        let webs = vec![first.web(), second.web()];
        tokio::spawn(async move { ask_at_once(&world.plane, webs, answered, wrong).await })
    };
    for at in 0..count {
        world.apply(&[simple(&format!("served-{at}"), "web")]).await;
    }
    let all_answered = async |count: usize| {
        eventually("every address was seen and every proxy asked", SOON * 4, async || {
            let answered = answered.load(Ordering::SeqCst);
            if answered == 2 * count { Ok(()) } else { Err(format!("{answered} of {}", 2 * count)) }
        })
        .await;
    };
    all_answered(count).await;
    // Made anew under the same names, each for a host that no proxy knows yet. More often than a status may be fought over.
    let ingresses: Api<Ingress> = Api::namespaced(world.plane.admin(), SHOP);
    let remade = count.div_ceil(ROUNDS);
    for round in 0..ROUNDS {
        for at in 0..remade {
            let name = format!("served-{at}");
            ingresses.delete(&name, &DeleteParams::default()).await.unwrap();
            let host = format!("{name}-{round}.example");
            world.apply(&[ingress(&name, &host, &[path("Prefix", "/", "web")])]).await;
        }
        all_answered(count + (round + 1) * remade).await;
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "of {}", answered.load(Ordering::SeqCst));
    assert_eq!(
        world.operators[0].metric("waybill_statuses_unconfirmed_total{output=\"waybill/waybill\"}").await,
        Some(0.0)
    );
    client.abort();

    // A proxy whose agent is dead holds an address up until the delay is over, and one whose agent ended not at all.
    first.stop_agent().await;
    eventually("its Lease is gone", SOON, async || match reports(&world.plane).await.len() {
        1 => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
    let begun = std::time::Instant::now();
    world.apply(&[simple("after", "web")]).await;
    eventually("it gets its address", SOON, async || {
        let ingress = ingresses.get("after").await.unwrap();
        let balancer = ingress.status.and_then(|status| status.load_balancer);
        balancer.and_then(|one| one.ingress).filter(|all| !all.is_empty()).map(|_| ()).ok_or("not yet")
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    world.assert_nothing_refused();
}
