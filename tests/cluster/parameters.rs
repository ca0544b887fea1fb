//! The CRD of IngressClassParameters, and what the leader writes about classes.

mod rules;
mod writes;

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use waybill::parameters::resource::{GROUP, IngressClassParameters, KIND, VERSION};

use crate::harness::{self, ControlPlane, eventually};

const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// The shared control plane with the CRD, as `crds/` has it.
async fn plane() -> &'static ControlPlane {
    let plane = harness::shared().await;
    install(plane).await;
    plane
}

async fn install(plane: &ControlPlane) {
    plane.apply(&waybill::parameters::crd_yaml().unwrap()).await;
    let all: Api<IngressClassParameters> = Api::all(plane.admin());
    eventually("the kind is served", SERVED_WITHIN, async || all.list(&Default::default()).await).await;
}

fn untyped(client: Client) -> Api<DynamicObject> {
    let resource = kube::api::ApiResource::erase::<IngressClassParameters>(&());
    Api::all_with(client, &resource)
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": KIND,
        "metadata": {"name": name},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}
