//! Changes of the cluster, at a rate.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::Client;
use serde_json::json;

use super::harness::ControlPlane;
use super::{cluster, fill, rounds};

/// No change repeats an earlier one: one that changes nothing is none.
pub struct Changes<'a> {
    pub plane: &'a ControlPlane,
    /// One connection for all of them: a new one takes longer than a change does.
    pub client: Client,
    pub count: usize,
    pub made: u64,
    pub rollouts: u64,
}

/// What can be seen of changes once they have arrived: URLs of servers, and priorities of routers.
#[derive(Default)]
pub struct Wanted {
    pub urls: Vec<String>,
    pub priorities: Vec<i64>,
}

impl Changes<'_> {
    fn next(&mut self, times: u64) -> u64 {
        self.made += times;
        self.made - times
    }

    pub async fn heartbeats(&mut self, times: u64) {
        let first = self.next(times);
        let client = &self.client;
        at_rate(10, times, async |change| {
            let number = first + change;
            let (day, hour, minute, second) =
                (number / 86_400 % 28 + 1, number / 3_600 % 24, number / 60 % 60, number % 60);
            let time = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            let ready = json!({
                "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time,
            });
            let path = format!("/api/v1/nodes/node-{}/status", change % 100);
            fill::write(client, "PATCH", path, json!({"status": {"conditions": [ready]}})).await;
        })
        .await;
    }

    pub async fn unused_slices(&self, times: u64) {
        let client = &self.client;
        let collection =
            format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", cluster::namespace(0));
        let path = format!("{collection}/unused");
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        if client.request_text(request).await.is_err() {
            fill::write(client, "POST", collection, fill::unused_slice(0, 0)).await;
        }
        at_rate(5, times, async |change| {
            let slice = fill::unused_slice(0, (change % 200 + 1) as u8);
            fill::write(client, "PATCH", path.clone(), json!({"endpoints": slice["endpoints"]})).await;
        })
        .await;
    }

    /// Gives the URL that each slice has after its last change.
    pub async fn endpoints(&mut self, times: u64, rate: u64) -> Wanted {
        let first = self.next(times);
        let client = &self.client;
        let changed = Mutex::new(BTreeMap::new());
        at_rate(rate, times, async |change| {
            // Of the Services that one Ingress has.
            let number = cluster::SHARED + (first + change) as usize * 7 % (self.count - cluster::SHARED);
            let address = address_of(first + change);
            changed.lock().unwrap().insert(number, address);
            rounds::change_endpoint(client, number, address).await;
        })
        .await;
        Wanted { urls: rounds::urls(&changed.into_inner().unwrap()), ..Wanted::default() }
    }

    /// Changes the Service that most Ingresses share.
    pub async fn shared(&mut self, times: u64) -> Wanted {
        let first = self.next(times);
        let client = &self.client;
        let address = |change: u64| address_of(first + change);
        at_rate(1, times, async |change| rounds::change_endpoint(client, 0, address(change)).await).await;
        Wanted { urls: rounds::urls(&[(0, address(times - 1))].into()), ..Wanted::default() }
    }

    /// Replaces the twenty endpoints of a Service one by one, two a second.
    pub async fn rollout(&mut self) -> Wanted {
        self.rollouts += 1;
        let client = &self.client;
        let number = cluster::TWENTY_ENDPOINTS;
        let version = (self.rollouts % 10 * 20 + 10) as u8;
        let slice = |replaced: u64| cluster::replaced(number, version, replaced as usize);
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/app-{number}-x7k2p",
            cluster::namespace(number)
        );
        at_rate(2, 20, async |change| {
            let endpoints = slice(change + 1)["endpoints"].take();
            fill::write(client, "PATCH", path.clone(), json!({"endpoints": endpoints})).await;
        })
        .await;
        let urls =
            slice(20)["endpoints"].as_array().map(|endpoints| endpoints.iter().map(rounds::url).collect());
        Wanted { urls: urls.unwrap_or_default(), ..Wanted::default() }
    }

    /// Deletes the Ingresses of the largest namespace, of which there are [`cluster::LARGE_NAMESPACE`].
    pub async fn delete_namespace(&self) {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", cluster::namespace(0));
        fill::write(&self.client, "DELETE", path, json!({})).await;
    }

    /// Puts them back.
    pub async fn restore_namespace(&self) {
        self.plane.store((0..cluster::LARGE_NAMESPACE).map(cluster::ingress)).await;
    }

    /// Gives one Ingress after the other a priority that no router has had.
    pub async fn annotations(&mut self, times: u64, rate: u64) -> Wanted {
        let first = self.next(times);
        let client = &self.client;
        let priority = |change: u64| 1_000_000 + (first + change) as i64;
        at_rate(rate, times, async |change| {
            let number = change as usize * 7 % self.count;
            let path = format!(
                "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/app-{number}",
                cluster::namespace(number)
            );
            let annotations =
                json!({"traefik.ingress.kubernetes.io/router.priority": priority(change).to_string()});
            fill::write(client, "PATCH", path, json!({"metadata": {"annotations": annotations}})).await;
        })
        .await;
        let last = times.min(self.count as u64);
        Wanted { priorities: (times - last..times).map(priority).collect(), ..Wanted::default() }
    }
}

/// The last octet of an address. 199 is prime: no Service that comes round again gets the address that it has.
fn address_of(change: u64) -> u8 {
    (change % 199 + 3) as u8
}

async fn at_rate(rate: u64, times: u64, change: impl AsyncFn(u64)) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate as u32);
    for number in 0..times {
        tick.tick().await;
        change(number).await;
    }
}
