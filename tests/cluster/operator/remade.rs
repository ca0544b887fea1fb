//! Objects that are deleted and made again with the same faults, faster than anybody looks.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::objects::{FAST, ingress, service, shop_with};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Signal, eventually};

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// `kubectl describe` looks for Events by uid, so it shows none of those of an object that had the name before.
#[tokio::test]
async fn what_is_made_again_with_the_same_fault_is_told_of_again() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let mut web = ingress("shop", "web", "web");
    web["metadata"]["annotations"] = json!({format!("{PREFIX}router.priority"): "many"});
    let mut backend = service("shop", "web");
    backend["metadata"]["annotations"] = json!({format!("{PREFIX}service.nativelb"): "perhaps"});
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "other"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "nowhere"},
        },
    });
    let faulty = [web, backend, class];
    // A faulty Ingress is skipped as a whole, and its Service with it.
    plane.apply_objects(&shop_with([ingress("shop", "fine", "web")])).await;
    plane.apply_objects(&faulty).await;
    let mut operator = plane.operator("first", &[FAST]).await;
    operator.leads().await;
    let told = async || {
        for (object, reason) in [
            (["ingress", "web"], "InvalidAnnotation"),
            (["service", "web"], "InvalidAnnotation"),
            (["ingressclass", "other"], "InvalidParameters"),
        ] {
            eventually(&format!("{object:?} is told of"), SOON, async || {
                let text = plane.kubectl_ok(&["-n", "shop", "describe", object[0], object[1]]);
                if text.contains(reason) { Ok(()) } else { Err(text) }
            })
            .await;
        }
    };
    told().await;
    let now = DeleteParams::default().grace_period(0);
    for _ in 0..3 {
        // It wakes up to all of it at once.
        operator.process.signal(Signal::STOP);
        Api::<Ingress>::namespaced(plane.admin(), "shop").delete("web", &now).await.unwrap();
        Api::<Service>::namespaced(plane.admin(), "shop").delete("web", &now).await.unwrap();
        Api::<IngressClass>::all(plane.admin()).delete("other", &now).await.unwrap();
        plane.apply_objects(&faulty).await;
        operator.process.signal(Signal::CONT);
        told().await;
    }
    assert!(operator.process.exited().is_none(), "{}", operator.process.log_tail());
    plane.assert_nothing_refused();
}
