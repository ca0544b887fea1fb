//! Changes of the cluster, at a rate.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::harness::ControlPlane;
use super::{cluster, fill, rounds};

/// No change repeats an earlier one: one that changes nothing is none.
pub struct Changes<'a> {
    pub plane: &'a ControlPlane,
    pub count: usize,
    pub made: u64,
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
        let client = self.plane.admin();
        let first = self.next(times);
        at_rate(10, times, async |change| {
            let number = first + change;
            let (day, hour, minute, second) =
                (number / 86_400 % 28 + 1, number / 3_600 % 24, number / 60 % 60, number % 60);
            let time = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            let ready = json!({
                "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time,
            });
            let path = format!("/api/v1/nodes/node-{}/status", change % 100);
            fill::write(&client, "PATCH", path, json!({"status": {"conditions": [ready]}})).await;
        })
        .await;
    }

    pub async fn unused_slices(&self, times: u64) {
        let client = self.plane.admin();
        let collection =
            format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", cluster::namespace(0));
        let path = format!("{collection}/unused");
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        if client.request_text(request).await.is_err() {
            fill::write(&client, "POST", collection, fill::unused_slice(0, 0)).await;
        }
        at_rate(5, times, async |change| {
            let slice = fill::unused_slice(0, (change % 200 + 1) as u8);
            fill::write(&client, "PATCH", path.clone(), json!({"endpoints": slice["endpoints"]})).await;
        })
        .await;
    }

    /// Gives the URL that each slice has after its last change.
    pub async fn endpoints(&mut self, times: u64, rate: u64) -> Wanted {
        let client = self.plane.admin();
        let first = self.next(times);
        let changed = Mutex::new(BTreeMap::new());
        at_rate(rate, times, async |change| {
            let number = (first + change) as usize * 7 % self.count;
            let address = ((first + change) % 200 + 3) as u8;
            changed.lock().unwrap().insert(number, address);
            rounds::change_endpoint(&client, number, address).await;
        })
        .await;
        Wanted { urls: rounds::urls(&changed.into_inner().unwrap()), ..Wanted::default() }
    }

    /// Gives one Ingress after the other a priority that no router has had.
    pub async fn annotations(&mut self, times: u64, rate: u64) -> Wanted {
        let client = self.plane.admin();
        let first = self.next(times);
        let priority = |change: u64| 1_000_000 + (first + change) as i64;
        at_rate(rate, times, async |change| {
            let number = change as usize * 7 % self.count;
            let path = format!(
                "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/app-{number}",
                cluster::namespace(number)
            );
            let annotations =
                json!({"traefik.ingress.kubernetes.io/router.priority": priority(change).to_string()});
            fill::write(&client, "PATCH", path, json!({"metadata": {"annotations": annotations}})).await;
        })
        .await;
        let last = times.min(self.count as u64);
        Wanted { priorities: (times - last..times).map(priority).collect(), ..Wanted::default() }
    }
}

async fn at_rate(rate: u64, times: u64, change: impl AsyncFn(u64)) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate as u32);
    for number in 0..times {
        tick.tick().await;
        change(number).await;
    }
}
