//! The made-up cluster into an API server, fast.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Client;
use serde_json::{Value, json};

use super::cluster;
use super::harness::ControlPlane;

/// Requests at once.
const CONCURRENT: usize = 48;

/// Bytes of a Secret that is of no use to waybill.
const OTHER_SECRET: usize = 20_000;

const NODES: usize = 100;

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

/// Puts the cluster of `count` Ingresses there; gives how many objects that are and how long it took.
pub async fn fill(plane: &ControlPlane, count: usize) -> (usize, Duration) {
    let client = plane.admin();
    let begun = Instant::now();
    let namespaces: BTreeSet<String> = (0..count).step_by(100).map(cluster::namespace).collect();
    let cluster_wide = namespaces
        .into_iter()
        .map(|namespace| {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            ("/api/v1/namespaces".to_owned(), object)
        })
        .chain((0..NODES).map(|number| ("/api/v1/nodes".to_owned(), node(number))))
        .chain(std::iter::once((format!("{NETWORKING}/ingressclasses"), cluster::class())));
    let made = create(&client, cluster_wide).await;
    let mut stored = 0;
    plane.store((0..count).flat_map(objects).inspect(|_| stored += 1)).await;
    (made + stored, begun.elapsed())
}

fn objects(number: usize) -> Vec<Value> {
    let mut objects = vec![cluster::ingress(number)];
    if cluster::backend(number) == number {
        objects.extend([cluster::service(number), cluster::endpoint_slice(number, 0)]);
    }
    if number.is_multiple_of(5) {
        objects.push(cluster::secret(number));
    }
    if number.is_multiple_of(2) {
        objects.push(other_secret(&cluster::namespace(number), number));
    }
    objects
}

/// A slice of a Service that is not there.
pub fn unused_slice(number: usize, generation: u8) -> Value {
    let mut slice = cluster::endpoint_slice(number, generation);
    slice["metadata"]["name"] = json!("unused");
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("unused");
    slice
}

fn node(number: usize) -> Value {
    let address =
        |kind: &str, network: u8| json!({"type": kind, "address": format!("{network}.9.{}.1", number)});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "labels": {"kubernetes.io/hostname": format!("node-{number}")}},
        "status": {
            "addresses": [address("InternalIP", 10), address("ExternalIP", 203)],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    })
}

fn other_secret(namespace: &str, number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": format!("other-{number}")},
        "stringData": {"value": "0123456789".repeat(OTHER_SECRET / 10)},
    })
}

/// Stores so many Secrets of no use for every second Ingress.
pub async fn store_other_secrets(plane: &ControlPlane, count: usize, times: usize) {
    let numbers = (0..count).step_by(2).flat_map(|number| (0..times).map(move |time| (number, time)));
    let secrets = numbers.map(|(number, time)| {
        let mut secret = other_secret(&cluster::namespace(number), number);
        secret["metadata"]["name"] = format!("other-{number}-{time}").into();
        secret
    });
    plane.store(secrets).await;
}

/// Deletes the Secrets that are of no use to waybill.
pub async fn delete_other_secrets(plane: &ControlPlane, count: usize) {
    let client = plane.admin();
    for number in (0..count).step_by(100) {
        let path =
            format!("/api/v1/namespaces/{}/secrets?fieldSelector=type%3DOpaque", cluster::namespace(number));
        write(&client, "DELETE", path, json!({})).await;
    }
}

/// Deletes what an operator has published. kubectl would take a minute, one object after the other.
pub async fn delete_output(plane: &ControlPlane) {
    let client = plane.admin();
    for plural in ["configmaps", "secrets"] {
        let path = format!("/api/v1/namespaces/waybill/{plural}?labelSelector=waybill.dev%2Foutput");
        write(&client, "DELETE", path, json!({})).await;
    }
}

async fn create(client: &Client, objects: impl Iterator<Item = (String, Value)>) -> usize {
    futures::stream::iter(objects)
        .map(|(path, object)| write(client, "POST", path, object))
        .buffer_unordered(CONCURRENT)
        .fold(0, async |made, ()| made + 1)
        .await
}

/// Writes an object. Panics when it is refused.
pub async fn write(client: &Client, method: &str, path: String, object: Value) {
    let body = serde_json::to_vec(&object).unwrap();
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request =
        http::Request::builder().method(method).uri(&path).header("content-type", kind).body(body).unwrap();
    client.request_text(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
}
