//! A class that an annotation pauses: what stands published of it stays, through a new leader too, and nothing else
//! stands still.

use serde_json::Value;

use super::*;
use crate::harness::Signal;

async fn pause(plane: &ControlPlane, class: &str, value: Option<&str>) {
    let api: Api<IngressClass> = Api::all(plane.admin());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"waybill.dev/paused": value}}}));
    api.patch(class, &PatchParams::default(), &patch).await.unwrap();
}

/// What a reader of the class's output and of its Ingresses sees, resourceVersions of everything included.
async fn standing(plane: &ControlPlane) -> (Value, Vec<String>, Value) {
    let (_, document) = plane.published(PUBLIC).await.unwrap();
    let list = ["get", "configmap,secret", "-n", "edge-public", "-l", "waybill.dev/output", "-o", "name"];
    let objects = plane.kubectl_ok(&list).lines().map(str::to_owned).collect();
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let status = serde_json::to_value(ingresses.get("web").await.unwrap().status).unwrap();
    (document, objects, status)
}

#[tokio::test]
async fn a_paused_class_stays_as_it_is_through_a_new_leader_and_the_others_go_on() {
    let plane = plane().await;
    for (namespace, name, class) in
        [("shop", "web", "public"), ("team-a", "tool", "internal"), ("shop", "plain", "traefik")]
    {
        plane.apply(&ingress(namespace, name, class)).await;
    }
    let flags = [QUICK, &["--providers.kubernetesingress.ingressendpoint.ip=192.0.2.99"]].concat();
    let first = plane.operator("first", &flags).await;
    first.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    let own = json!([{"ip": "192.0.2.99"}]);
    address(&plane, "shop", "web", &json!([{"ip": "192.0.2.10"}])).await;
    address(&plane, "shop", "plain", &own).await;

    pause(&plane, "public", Some("true")).await;
    metric(&first, "waybill_publish_paused", 1.0).await;
    condition(&plane, "public", "Published", "False", "Paused").await;
    event(&plane, "default", "public", "Paused", &["waybill.dev/paused", "nothing new is published"]).await;
    eventually("whoever looks at the index or the class is told", SOON, async || {
        let index = plane.kubectl_ok(&["-n", "edge-public", "describe", "configmap", "public"]);
        let class = plane.kubectl_ok(&["describe", "ingressclass", "public"]);
        let told = index.contains("Paused") && index.contains("IngressClass") && class.contains("Paused");
        if told { Ok(()) } else { Err(format!("{index}\n{class}")) }
    })
    .await;
    let before = standing(&plane).await;

    // Everything that would change it: an Ingress that comes, one that changes, one that goes, a setting, the output
    // itself, and the address of its proxies.
    plane.apply(&ingress("shop", "new", "public")).await;
    plane.apply(&ingress("shop", "web", "public").replace("path: /app", "path: /changed")).await;
    patch_parameters(&plane, "public", json!({"output": {"name": "elsewhere"}})).await;
    let moved = SURROUNDINGS.replace("192.0.2.10", "192.0.2.11");
    plane.apply(&moved).await;
    // The others go on, with routing and statuses.
    plane.apply(&ingress("team-a", "more", "internal")).await;
    published(&plane, INTERNAL, "team-a", "more").await;
    seen(&plane, "marker").await;
    address(&plane, "shop", "marker", &own).await;
    assert_eq!(standing(&plane).await, before);

    // Another leader, which has never seen the class otherwise.
    first.process.signal(Signal::KILL);
    drop(first);
    let second = plane.operator("second", &flags).await;
    second.leads().await;
    metric(&second, "waybill_publish_paused", 1.0).await;
    plane.apply(&ingress("shop", "later", "public")).await;
    seen(&plane, "second-marker").await;
    address(&plane, "shop", "second-marker", &own).await;
    assert_eq!(standing(&plane).await, before);
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(plane.admin(), "edge-public");
    assert!(maps.get_opt("elsewhere").await.unwrap().is_none(), "the class moved while it was paused");

    // A word that is neither pauses as well, and says so.
    pause(&plane, "public", Some("maybe")).await;
    event(&plane, "default", "public", "InvalidAnnotation", &["maybe", "true or false"]).await;
    assert_eq!(standing(&plane).await, before);

    // It goes on, and catches up with all of it.
    pause(&plane, "public", Some("false")).await;
    let elsewhere = "edge-public/elsewhere";
    for name in ["web", "new", "later"] {
        let key = format!("shop-{name}-{name}-example-com");
        let there = |document: &Value| document["http"]["routers"].to_string().contains(&key);
        plane.eventually_published(elsewhere, "it has caught up", there).await;
    }
    let (_, document) = plane.published(elsewhere).await.unwrap();
    assert!(document.to_string().contains("/changed"), "{document:#}");
    plane.eventually_published(PUBLIC, "and left", |document| *document == json!({})).await;
    address(&plane, "shop", "new", &json!([{"ip": "192.0.2.11"}])).await;
    address(&plane, "shop", "web", &json!([{"ip": "192.0.2.11"}])).await;
    metric(&second, "waybill_publish_paused", 0.0).await;
    metric(&second, "waybill_problems{category=\"Paused\"}", 0.0).await;
    event(&plane, "default", "public", "PausedResolved", &[]).await;
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}

/// A class without an output of its own pauses the one that it shares, and nothing of it is lost meanwhile.
#[tokio::test]
async fn a_class_that_shares_an_output_pauses_it_as_a_whole() {
    let plane = plane().await;
    plane
        .apply(
            "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: second, annotations: {waybill.dev/paused: 'true'}}
spec: {controller: traefik.io/ingress-controller}
",
        )
        .await;
    plane.apply(&ingress("shop", "plain", "traefik")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    metric(&operator, "waybill_publish_paused", 1.0).await;
    plane.apply(&ingress("shop", "web", "public")).await;
    published(&plane, PUBLIC, "shop", "web").await;
    assert!(plane.published(OWN).await.is_none(), "it was published although it is paused");
    // A class that goes takes its pause along.
    delete_class(&plane, "second").await;
    published(&plane, OWN, "shop", "plain").await;
    metric(&operator, "waybill_publish_paused", 0.0).await;
}
