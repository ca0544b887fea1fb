//! Many more objects, all of which stay as they are.

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::api::Admin;
use super::cluster;
use super::world;

/// Requests at once.
const CONCURRENT: usize = 32;

/// Puts so many Ingresses there, with what belongs to them: a Service, an EndpointSlice, and a TLS Secret for every
/// fifth, with the canary for a key.
pub async fn fill(admin: &Admin, ingresses: usize) {
    let namespaces = (0..ingresses).step_by(100).map(|number| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster::namespace(number)}})
    });
    create(admin, namespaces).await;
    create(admin, (0..ingresses).flat_map(objects)).await;
}

fn objects(number: usize) -> Vec<Value> {
    let mut objects =
        vec![cluster::service(number), cluster::endpoint_slice(number, 0), cluster::ingress(number)];
    if number.is_multiple_of(5) {
        let mut secret = cluster::secret(number);
        secret["stringData"]["tls.key"] = world::private_key().into();
        objects.push(secret);
    }
    objects
}

async fn create(admin: &Admin, objects: impl Iterator<Item = Value>) {
    let creations = objects.map(|object| async move {
        admin.ensure(&object).await.unwrap_or_else(|failure| panic!("{failure}: {object}"));
    });
    futures::stream::iter(creations).buffer_unordered(CONCURRENT).collect::<()>().await;
}
