//! Garbage that can't be deleted: that takes few requests, and no commit waits for it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fault::{Fate, Rule};
use super::harness::operator::{Operator, binary};
use super::harness::{ControlPlane, eventually};
use super::proxy::{Proxy, Tally};

/// Garbage is a minute old, and some commits older.
const GARBAGE_WITHIN: Duration = Duration::from_secs(150);
/// How long each fault is looked at.
const WINDOW: Duration = Duration::from_secs(30);
/// From a change to its commit, beside other tests in a debug build; a DELETE gives up after its time-out, far later.
const COMMITTED_WITHIN: Duration = Duration::from_secs(4);

const OUTPUT: &str = "waybill/waybill";

fn ingress(version: u64) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: shop}}
spec:
  ingressClassName: traefik
  rules:
  - host: v{version}.example.com
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}
"
    )
}

const REST: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: shop, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{port: 8080, name: ''}]
endpoints: [{addresses: [10.1.0.1]}]
";

struct World<'a> {
    plane: &'a ControlPlane,
    proxy: Proxy,
    operator: Operator,
    version: u64,
}

impl World<'_> {
    /// Changes the routing; how long that took to be committed. Each change leaves a shard that nobody names.
    async fn change(&mut self) -> Duration {
        self.version += 1;
        self.plane.apply(&ingress(self.version)).await;
        let begun = Instant::now();
        let name = format!("shop-web-v{}-example-com", self.version);
        eventually("it is published", COMMITTED_WITHIN * 5, async || {
            let published = self.plane.published(OUTPUT).await.ok_or("no index".to_owned())?.1;
            match &published["http"]["routers"] {
                serde_json::Value::Object(routers) if routers.keys().any(|key| key.starts_with(&name)) => {
                    Ok(())
                }
                _ => Err(format!("{published:#}\n{}", self.operator.process.log_tail())),
            }
        })
        .await;
        begun.elapsed()
    }

    fn deletions(&self) -> u64 {
        self.proxy
            .injected()
            .iter()
            .filter(|(what, _)| what.starts_with("write "))
            .map(|(_, count)| count)
            .sum()
    }

    /// Deletions meet this from now on. Gives how many there were in a window from the first one on, and the longest
    /// time to a commit.
    async fn meets(&mut self, fate: Fate) -> (u64, Duration) {
        self.proxy.lift();
        self.proxy.set(1, vec![Rule { verbs: &["delete"], resources: &[], percent: 100, fate }]);
        let before = self.deletions();
        let begun = Instant::now();
        while self.deletions() == before {
            assert!(begun.elapsed() < GARBAGE_WITHIN, "nothing is deleted");
            self.change().await;
        }
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < WINDOW {
            longest = longest.max(self.change().await);
        }
        (self.deletions() - before, longest)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_that_stays_costs_few_requests_and_delays_no_commit() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply(REST).await;
    let mut config = kube::Config::new(plane.url().parse().unwrap());
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(plane.ca_file());
    let proxy = Proxy::start(&config, Tally::default()).await;
    let token = plane.folder().join("only.token");
    std::fs::write(&token, plane.service_account_token("waybill", "waybill").await).unwrap();
    let mut command = Command::new(binary());
    command
        .arg("run")
        .arg(format!("--providers.kubernetesingress.endpoint={}", proxy.url()))
        .arg(format!("--providers.kubernetesingress.token={}", token.display()))
        .arg("--providers.providersthrottleduration=50ms")
        .env_clear();
    let operator = plane.operator_by("only", command);
    operator.leads().await;
    let mut world = World { plane: &plane, proxy, operator, version: 0 };

    let (refused, longest) = world.meets(Fate::Refused(403)).await;
    println!("refused: {refused} deletions in {WINDOW:?}, a commit took at most {longest:.2?}");
    // Eight at once, after 0, 5, 15 s or so, with jitter.
    assert!((1..=48).contains(&refused), "{refused} deletions in {WINDOW:?}");
    assert!(longest < COMMITTED_WITHIN, "a commit took {longest:?}");

    let (stalled, longest) = world.meets(Fate::Stalled).await;
    println!("stalled: {stalled} deletions in {WINDOW:?}, a commit took at most {longest:.2?}");
    assert!((1..=48).contains(&stalled), "{stalled} deletions in {WINDOW:?}");
    assert!(longest < COMMITTED_WITHIN, "a commit took {longest:?}");

    // Once it is possible, all of it goes.
    world.proxy.lift();
    let shards = async || {
        let names = plane.kubectl_ok(&["-n", "waybill", "get", "configmaps", "-o", "name"]);
        names.lines().filter(|name| name.starts_with("configmap/waybill.r-")).count()
    };
    let before = shards().await;
    eventually("garbage is deleted", GARBAGE_WITHIN, async || {
        let now = shards().await;
        if now + 8 < before {
            Ok(())
        } else {
            Err(format!("{now} of {before}; {}", json!(world.proxy.injected())))
        }
    })
    .await;
}
