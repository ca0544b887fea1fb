//! Requests without a pause while things change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams};
use tokio::task::JoinHandle;

use crate::client::{self, Backend};
use crate::objects::{SHOP, ingress, path, service, simple, slice};
use crate::world::{Edge, World};

/// A client that asks on and on and takes down what went wrong.
pub struct Load {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    /// `right` says whether a backend's name or a status is an answer that may be.
    pub fn start(edge: &Edge, host: &'static str, right: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let web = edge.web();
        let task = tokio::spawn({
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            async move {
                let begun = Instant::now();
                let mut wrong = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let found = match client::get(web, host, "/", &[]).await {
                        Ok(answer) => answer.who(),
                        Err(error) => error,
                    };
                    if right(&found) {
                        served.fetch_add(1, Ordering::Relaxed);
                    } else if wrong.len() < 20 {
                        wrong.push(format!("after {:?}: {found}", begun.elapsed()));
                    }
                }
                wrong
            }
        });
        Self { over, served, task }
    }

    /// Waits for so many more right answers.
    pub async fn more(&self, count: usize) {
        let wanted = self.served.load(Ordering::Relaxed) + count;
        crate::harness::eventually("requests are answered", crate::harness::operator::SOON, async || {
            let served = self.served.load(Ordering::Relaxed);
            if served >= wanted { Ok(()) } else { Err(format!("{served} of {wanted}")) }
        })
        .await;
    }

    /// Ends it; panics where an answer was wrong.
    pub async fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let wrong = self.task.await.unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        self.served.load(Ordering::Relaxed)
    }
}

pub async fn no_request_is_lost_while_things_change() {
    let world = World::start(&[]).await;
    let edge = Edge::start(&world, "edge").await;
    let mut backends = Vec::new();
    let mut objects = Vec::new();
    for (at, name) in ["steady", "old", "new", "a", "b"].into_iter().enumerate() {
        let address = format!("10.99.1.{}", at + 1);
        backends.push(Backend::start(name, &format!("{address}:8080")).await);
        objects.extend([service(name), slice(name, &[&address])]);
    }
    objects.extend([
        simple("steady", "steady"),
        simple("moving", "old"),
        service("pair"),
        slice("pair", &["10.99.1.4", "10.99.1.5"]),
        simple("pair", "pair"),
    ]);
    world.apply(&objects).await;
    edge.answers(&[("steady.example/", "steady"), ("moving.example/", "old"), ("pair.example/", "a")]).await;

    let steady = Load::start(&edge, "steady.example", |found| found == "steady");
    let moving = Load::start(&edge, "moving.example", |found| ["old", "new"].contains(&found));
    // Endpoints that go away: what has arrived at Traefik is not asked any more.
    let pair = Load::start(&edge, "pair.example", |found| ["a", "b"].contains(&found));
    world.apply(&[slice("pair", &["10.99.1.5"])]).await;
    edge.loaded(&world).await;
    // A request that was on its way when the change arrived.
    pair.more(5).await;
    backends.remove(3);
    pair.more(50).await;
    let ingresses: Api<Ingress> = Api::namespaced(world.plane.admin(), SHOP);
    for round in 0..4 {
        let backend = if round % 2 == 0 { "new" } else { "old" };
        let moved = ingress("moving", "moving.example", &[path("Prefix", "/", backend)]);
        world.apply(&[moved, simple("extra", "new")]).await;
        edge.answers(&[("moving.example/", backend), ("extra.example/", "new")]).await;
        ingresses.delete("extra", &DeleteParams::default()).await.unwrap();
        edge.answers(&[("extra.example/", "404")]).await;
    }
    for load in [steady, moving, pair] {
        assert!(load.end().await > 50);
    }
    world.assert_nothing_refused();
}
