//! The operator from end to end: an Ingress becomes routing and an address.

use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;

use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Signal, eventually};

/// A class, and a Service with an endpoint and an Ingress in namespace `shop`.
const SHOP: &str = "
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
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, name: ''}]
endpoints: [{addresses: [10.1.0.1]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: traefik
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

#[tokio::test]
async fn an_ingress_becomes_routing_and_an_address() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let mut operator =
        plane.operator("first", &["--providers.kubernetesingress.ingressendpoint.ip=192.0.2.1"]).await;
    operator.leads().await;
    plane.apply(SHOP).await;

    let (index, document) = plane
        .eventually_published("waybill/waybill", "the router is published", |document| {
            document.pointer("/http/routers/shop-web-shop-example-com").is_some()
        })
        .await;
    assert_eq!(document, plane.rendered(&[]));
    assert_eq!((index.counts.routers, index.counts.services), (1, 1));

    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    eventually("the status is written", SOON, async || {
        let status = ingresses.get("web").await.unwrap().status.unwrap_or_default();
        let entries = status.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
        if entries.iter().any(|entry| entry.ip.as_deref() == Some("192.0.2.1")) {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;

    operator.process.signal(Signal::TERM);
    let status = operator.process.ended(Duration::from_secs(5)).await;
    assert!(status.success(), "{}", operator.process.log_tail());
    let refused: Vec<_> = plane
        .audit()
        .into_iter()
        .filter(|event| event.user.username == "system:serviceaccount:waybill:waybill" && event.code() == 403)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
