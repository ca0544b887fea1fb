//! Two classes beside each other and beside the operator's own settings.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::*;

#[tokio::test]
async fn every_ingress_is_in_the_output_of_its_class_with_its_settings_and_address() {
    let plane = plane().await;
    patch_parameters(
        &plane,
        "internal",
        json!({"strictPrefixMatching": true, "defaultEntryPoints": ["internal"]}),
    )
    .await;
    for (namespace, name, class) in [
        ("shop", "web", "public"),
        ("team-a", "tool", "internal"),
        ("shop", "plain", "traefik"),
        ("shop", "sneaky", "internal"),
    ] {
        plane.apply(&ingress(namespace, name, class)).await;
    }
    // Its backend is missing: class public answers 503, and counts a problem.
    plane.apply(&ingress("shop", "broken", "public").replace("name: app,", "name: nothing,")).await;
    let flags = [QUICK, &["--providers.kubernetesingress.ingressendpoint.ip=192.0.2.99"]].concat();
    let operator = plane.operator("first", &flags).await;
    operator.leads().await;

    let public = published(&plane, PUBLIC, "shop", "web").await;
    let internal = published(&plane, INTERNAL, "team-a", "tool").await;
    let own = published(&plane, OWN, "shop", "plain").await;
    let routers = |document: &serde_json::Value| -> BTreeSet<String> {
        document["http"]["routers"].as_object().unwrap().keys().cloned().collect()
    };
    let keys =
        |all: &[(&str, &str)]| all.iter().map(|(namespace, name)| router_key(namespace, name)).collect();
    assert_eq!(routers(&public), keys(&[("shop", "web"), ("shop", "broken")]));
    assert_eq!(routers(&internal), keys(&[("team-a", "tool")]));
    assert_eq!(routers(&own), keys(&[("shop", "plain")]));

    let web = &public["http"]["routers"][router_key("shop", "web")];
    assert_eq!(web["rule"], r#"Host("web.example.com") && (Path("/app") || PathPrefix("/app/"))"#);
    assert_eq!(web["entryPoints"], json!(["websecure"]));
    assert!(web["priority"].is_i64(), "{web}");
    let tool = &internal["http"]["routers"][router_key("team-a", "tool")];
    assert_eq!(tool["rule"], r#"Host("tool.example.com") && (Path("/app") || PathPrefix("/app/"))"#);
    assert_eq!(tool["entryPoints"], json!(["internal"]));
    assert!(tool["priority"].is_null(), "{tool}");
    let plain = &own["http"]["routers"][router_key("shop", "plain")];
    assert_eq!(plain["rule"], r#"Host("plain.example.com") && PathPrefix("/app")"#);
    assert!(plain["entryPoints"].is_null(), "{plain}");

    address(&plane, "shop", "web", &json!([{"ip": "192.0.2.10"}])).await;
    address(&plane, "team-a", "tool", &json!([{"hostname": "internal.example.com"}])).await;
    address(&plane, "shop", "plain", &json!([{"ip": "192.0.2.99"}])).await;
    address(&plane, "shop", "sneaky", &serde_json::Value::Null).await;
    event(&plane, "shop", "sneaky", "NamespaceNotAdmitted", &["internal", "shop"]).await;
    event(&plane, "shop", "broken", "ServiceNotFound", &["nothing"]).await;

    for name in ["public", "internal"] {
        condition(&plane, name, "Accepted", "True", "Accepted").await;
        condition(&plane, name, "Published", "True", "Committed").await;
    }
    eventually("counts are written", SOON, async || {
        let table = plane.kubectl_ok(&["get", "icp", "-o", "wide", "--no-headers"]);
        let mut rows = table.lines().map(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            cells[..9].join(" ")
        });
        let wanted = [
            r#"internal True True 1 1 0 0 ["internal"] Accepted"#,
            r#"public True True 2 1 0 0 ["public"] Accepted"#,
        ];
        if rows.by_ref().eq(wanted) { Ok(()) } else { Err(table) }
    })
    .await;
    let status = status_of(&plane, "public").await;
    assert_eq!((status.counts.routers, status.counts.services), (2, 2));
    metric(&operator, "waybill_ingressclasses{settings=\"current\"}", 3.0).await;

    for output in [PUBLIC, INTERNAL, OWN] {
        let (_, document) = plane.published(output).await.unwrap();
        assert_eq!(document, rendered(&plane, output, KINDS), "{output}");
    }

    // An Ingress that goes takes its routing along, and its class's output stays, empty.
    Api::<Ingress>::namespaced(plane.admin(), "team-a")
        .delete("tool", &DeleteParams::default())
        .await
        .unwrap();
    let empty =
        plane.eventually_published(INTERNAL, "it is empty", |document| *document == json!({})).await.0;
    assert_eq!((empty.counts.routers, empty.counts.services), (0, 0));

    let asked = ours(&plane);
    let refused: Vec<_> = asked.iter().filter(|event| event.code() == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let namespaces: Vec<_> = asked.iter().filter(|event| event.object_ref.resource == "namespaces").collect();
    assert!(namespaces.is_empty(), "no class selects by label: {namespaces:#?}");
    let written: BTreeSet<(&str, &str)> = asked
        .iter()
        .filter(|event| event.is_write() && matches!(&*event.object_ref.resource, "configmaps" | "secrets"))
        .map(|event| (&*event.object_ref.namespace, &*event.object_ref.name))
        // Their names follow from their content.
        .filter(|(_, name)| !name.contains(".r-"))
        .collect();
    let wanted = [
        ("edge-internal", "internal"),
        ("edge-internal", "internal.text"),
        ("edge-public", "public"),
        ("edge-public", "public.text"),
        ("waybill", "waybill"),
        ("waybill", "waybill.classes"),
        ("waybill", "waybill.text"),
    ];
    assert_eq!(written, BTreeSet::from(wanted));
}

#[tokio::test]
async fn an_edit_of_parameters_translates_the_ingresses_of_their_class_alone() {
    let plane = plane().await;
    for number in 0..5 {
        plane.apply(&ingress("shop", &format!("p{number}"), "public")).await;
    }
    for number in 0..3 {
        plane.apply(&ingress("team-a", &format!("i{number}"), "internal")).await;
    }
    plane.apply(&ingress("shop", "plain", "traefik")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, PUBLIC, "shop", "p4").await;
    published(&plane, INTERNAL, "team-a", "i2").await;

    let triggers =
        ["ingress", "ingressclass", "service", "endpointslice", "secret", "node", "namespace", "resync"];
    let translations = async || {
        let mut found = Vec::new();
        for trigger in triggers {
            let series = format!("waybill_translations_total{{trigger=\"{trigger}\"}}");
            found.push((trigger, operator.metric(&series).await.unwrap_or_default() as u64));
        }
        found
    };
    let before = translations().await;
    let (index, _) = plane.published(INTERNAL).await.unwrap();
    patch_parameters(&plane, "public", json!({"defaultEntryPoints": ["web"]})).await;
    plane
        .eventually_published(PUBLIC, "the new entry point is published", |document| {
            let routers = document["http"]["routers"].as_object().unwrap();
            routers.len() == 5 && routers.values().all(|router| router["entryPoints"] == json!(["web"]))
        })
        .await;
    let mut wanted = before.clone();
    wanted[1].1 += 5;
    assert_eq!(translations().await, wanted);

    // One that changes nothing that is read translates nothing; a later one is seen to be the next.
    plane.kubectl_ok(&["label", "icp", "public", "team=edge"]);
    patch_parameters(&plane, "internal", json!({"defaultEntryPoints": ["lan"]})).await;
    plane
        .eventually_published(INTERNAL, "the new entry point is published", |document| {
            let routers = document["http"]["routers"].as_object().unwrap();
            routers.len() == 3 && routers.values().all(|router| router["entryPoints"] == json!(["lan"]))
        })
        .await;
    wanted[1].1 += 3;
    assert_eq!(translations().await, wanted);
    assert!(plane.published(INTERNAL).await.unwrap().0.generation > index.generation);
}
