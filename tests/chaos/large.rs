//! Many more objects, all of which stay as they are.

use serde_json::{Value, json};

use super::api::Admin;
use super::cluster;
use super::harness::ControlPlane;
use super::world;

/// Puts so many Ingresses there, with what belongs to them: a Service, an EndpointSlice, and a TLS Secret for every
/// fifth, with the canary for a key.
pub async fn fill(plane: &ControlPlane, admin: &Admin, ingresses: usize) {
    for number in (0..ingresses).step_by(100) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster::namespace(number)},
        });
        admin.ensure(&namespace).await.unwrap();
    }
    plane.store((0..ingresses).flat_map(objects)).await;
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
