//! Addresses of the published Service and of nodes in the statuses of Ingresses, beside other controllers.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};
use kube::Resource as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::objects::{ADDRESS, FAST, class, ingress, namespace, node, service, slice};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, eventually};

/// The entries of a status as text, sorted: address and ports.
fn entries(ingress: &Ingress) -> Vec<String> {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
    let mut texts: Vec<String> = entries.iter().map(text).collect();
    texts.sort();
    texts
}

fn text(entry: &IngressLoadBalancerIngress) -> String {
    let ports: Vec<_> =
        entry.ports.iter().flatten().map(|port| format!(":{}/{}", port.port, port.protocol)).collect();
    let address = [entry.ip.as_deref(), entry.hostname.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    format!("{}{}", address.join(" "), ports.concat())
}

struct Bench {
    plane: ControlPlane,
    operator: Operator,
    ingresses: Api<Ingress>,
}

impl Bench {
    async fn new(flags: &[&str]) -> Self {
        let plane = ControlPlane::start().await;
        plane.install("manifests");
        plane
            .apply_objects(&[
                namespace("shop"),
                namespace("edge"),
                class(),
                service("shop", "web"),
                slice("shop", "web", "10.1.0.1"),
                ingress("shop", "web", "web"),
            ])
            .await;
        let operator = plane.operator("only", flags).await;
        operator.leads().await;
        let ingresses = Api::namespaced(plane.admin(), "shop");
        Self { plane, operator, ingresses }
    }

    async fn becomes(&self, name: &str, wanted: &[&str]) {
        eventually(&format!("{name} has {wanted:?}"), SOON, async || {
            let found = entries(&self.ingresses.get(name).await.unwrap());
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found:?}\n{}", self.operator.process.log_tail()))
            }
        })
        .await;
    }

    /// Writes a status as another controller does.
    async fn overwrite(&self, name: &str, manager: &str, entries: Value) {
        let patch = json!({"status": {"loadBalancer": {"ingress": entries}}});
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.ingresses.patch_status(name, &params, &Patch::Merge(&patch)).await.unwrap();
    }

    async fn waybill_owns(&self, name: &str) -> bool {
        let ingress = self.ingresses.get(name).await.unwrap();
        let mut fields = ingress.meta().managed_fields.iter().flatten();
        fields.any(|entry| entry.manager.as_deref() == Some("waybill:waybill/waybill"))
    }
}

#[tokio::test]
async fn the_published_service_gives_its_addresses_whatever_its_type() {
    let bench =
        Bench::new(&[FAST, "--providers.kubernetesingress.ingressendpoint.publishedservice=edge/proxy"])
            .await;
    let plane = &bench.plane;
    bench.operator.shows("waybill_problems{category=\"PublishedServiceNotFound\"}", 1.0).await;
    bench.becomes("web", &[]).await;

    let published = |kind: &str, spec: Value| {
        let mut proxy = service("edge", "proxy");
        proxy["spec"]["type"] = kind.into();
        for (key, value) in spec.as_object().unwrap() {
            proxy["spec"][key] = value.clone();
        }
        proxy
    };
    let mut balancer = published("LoadBalancer", json!({}));
    balancer["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.7", "ports": [{"port": 443, "protocol": "TCP"}]}, {"hostname": "lb.example.com"},
    ]}});
    plane.apply_objects(&[balancer.clone()]).await;
    bench.becomes("web", &["192.0.2.7:443/TCP", "lb.example.com"]).await;
    bench.operator.shows("waybill_problems{category=\"PublishedServiceNotFound\"}", 0.0).await;

    // A load balancer that has lost its address says nothing; an Ingress that is new gets none, the old keeps its.
    balancer["status"] = json!({"loadBalancer": {"ingress": []}});
    plane.apply_objects(&[balancer]).await;

    plane.apply_objects(&[published("ClusterIP", json!({"externalIPs": ["192.0.2.8"]}))]).await;
    bench.becomes("web", &["192.0.2.8:80/TCP"]).await;
    plane.apply_objects(&[published("ClusterIP", json!({"externalIPs": []}))]).await;
    bench.becomes("web", &[]).await;

    plane
        .apply_objects(&[node("n1", "ExternalIP", "198.51.100.1"), node("n2", "ExternalIP", "198.51.100.2")])
        .await;
    plane
        .apply_objects(&[published(
            "NodePort",
            json!({"ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}),
        )])
        .await;
    bench.becomes("web", &["198.51.100.1:30080/TCP", "198.51.100.2:30080/TCP"]).await;
    plane.apply_objects(&[node("n2", "ExternalIP", "198.51.100.3")]).await;
    bench.becomes("web", &["198.51.100.1:30080/TCP", "198.51.100.3:30080/TCP"]).await;

    let services: Api<Service> = Api::namespaced(plane.admin(), "edge");
    services.delete("proxy", &Default::default()).await.unwrap();
    bench.operator.shows("waybill_problems{category=\"PublishedServiceNotFound\"}", 1.0).await;
    bench.becomes("web", &["198.51.100.1:30080/TCP", "198.51.100.3:30080/TCP"]).await;
    let outside_named = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "proxy", "namespace": "edge"},
            "spec": {"type": "ExternalName", "externalName": name},
        })
    };
    plane.apply_objects(&[outside_named("edge.example.com")]).await;
    bench.becomes("web", &["edge.example.com"]).await;

    // An external name that is an address is no name of a status.
    let mut address = outside_named("192.0.2.44");
    plane.apply_objects(&[address.clone()]).await;
    bench.operator.shows("waybill_problems{category=\"InvalidAddress\"}", 1.0).await;
    bench.becomes("web", &["edge.example.com"]).await;
    address["spec"]["externalName"] = "new.example.com".into();
    plane.apply_objects(&[address]).await;
    bench.becomes("web", &["new.example.com"]).await;
    bench.operator.shows("waybill_problems{category=\"InvalidAddress\"}", 0.0).await;

    // More than a status holds is refused as a whole.
    let many: Vec<Value> =
        (1..=2_000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let addresses: Vec<String> = (0..200).map(|at| format!("192.0.2.{at}")).collect();
    plane.apply_objects(&[published("ClusterIP", json!({"ports": many, "externalIPs": addresses}))]).await;
    bench.operator.shows("waybill_problems{category=\"PublishedServiceUnusable\"}", 1.0).await;
    bench.becomes("web", &["new.example.com"]).await;
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn nodes_give_their_internal_addresses() {
    let bench = Bench::new(&[FAST, "--providers.kubernetesingress.reportnodeinternalips=true"]).await;
    let plane = &bench.plane;
    plane
        .apply_objects(&[node("n1", "InternalIP", "10.9.0.1"), node("n2", "ExternalIP", "198.51.100.2")])
        .await;
    bench.becomes("web", &["10.9.0.1"]).await;
    plane.apply_objects(&[node("n3", "InternalIP", "10.9.0.3")]).await;
    bench.becomes("web", &["10.9.0.1", "10.9.0.3"]).await;

    // The API server takes any text for a node's address, and none of it for a status.
    plane
        .apply_objects(&[node("n4", "InternalIP", "10.9.0.4/24"), node("n5", "InternalIP", "10.9.0.5")])
        .await;
    bench.becomes("web", &["10.9.0.1", "10.9.0.3", "10.9.0.5"]).await;
    let invalid = "waybill_problems{category=\"InvalidAddress\"}";
    bench.operator.shows(invalid, 1.0).await;
    plane.apply_objects(&[node("n4", "InternalIP", "10.9.0.4")]).await;
    bench.becomes("web", &["10.9.0.1", "10.9.0.3", "10.9.0.4", "10.9.0.5"]).await;
    bench.operator.shows(invalid, 0.0).await;
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn a_status_is_taken_over_withdrawn_and_not_fought_for() {
    let bench = Bench::new(&[FAST, ADDRESS]).await;
    let plane = &bench.plane;
    bench.becomes("web", &["192.0.2.1"]).await;

    // Withdrawn when the Ingress is no longer ours.
    let mut left = ingress("shop", "web", "web");
    left["spec"]["ingressClassName"] = "other".into();
    plane.apply_objects(&[left]).await;
    bench.becomes("web", &[]).await;

    // What another wrote to an Ingress that is not ours is theirs.
    bench.overwrite("web", "other", json!([{"ip": "203.0.113.1"}])).await;

    // An equal value of Traefik's own provider is taken over, so that it can be withdrawn later.
    let mut before = ingress("shop", "before", "web");
    before["spec"]["ingressClassName"] = "other".into();
    plane.apply_objects(&[before.clone()]).await;
    bench.overwrite("before", "traefik", json!([{"ip": "192.0.2.1"}])).await;
    plane.apply_objects(&[ingress("shop", "before", "web")]).await;
    eventually("the status is taken over", SOON, async || {
        if bench.waybill_owns("before").await { Ok(()) } else { Err("not yet") }
    })
    .await;
    bench.becomes("before", &["192.0.2.1"]).await;
    plane.apply_objects(&[before]).await;
    bench.becomes("before", &[]).await;
    assert_eq!(entries(&bench.ingresses.get("web").await.unwrap()), ["203.0.113.1"], "left alone");

    // Someone who keeps on gets their way, and it is said.
    plane.apply_objects(&[ingress("shop", "fought", "web")]).await;
    bench.becomes("fought", &["192.0.2.1"]).await;
    let contested = "waybill_problems{category=\"StatusContested\"}";
    let mut overwritten = 0;
    while bench.operator.metric(contested).await != Some(1.0) {
        assert!(
            overwritten < 6,
            "fought on after {overwritten} times\n{}",
            bench.operator.process.log_tail()
        );
        bench.overwrite("fought", "other", json!([{"ip": "203.0.113.9"}])).await;
        overwritten += 1;
        eventually("waybill writes again or gives up", SOON, async || {
            let found = entries(&bench.ingresses.get("fought").await.unwrap());
            let given_up = bench.operator.metric(contested).await == Some(1.0);
            if given_up || found == ["192.0.2.1"] { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
    assert!(overwritten >= 2, "{overwritten}");
    assert_eq!(entries(&bench.ingresses.get("fought").await.unwrap()), ["203.0.113.9"]);
    eventually("an Event says so", SOON, async || {
        let text = plane.kubectl_ok(&["-n", "shop", "describe", "ingress", "fought"]);
        if text.contains("StatusContested") { Ok(()) } else { Err(text) }
    })
    .await;
    plane.assert_nothing_refused();
}
