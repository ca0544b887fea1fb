//! Removing waybill by the commands of docs/upgrade.md: the routing stays until it is deleted, and then nothing is left.

use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::objects::{ADDRESS, FAST, has_router, ingress, secret, shop_with, tls_ingress};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";

/// The commands below the heading, without `kubectl`.
fn commands() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/upgrade.md")).unwrap();
    let section = text.split_once("\n## Removing\n").expect("the section").1;
    let words = |line: &str| {
        line.split_whitespace()
            .map(|word| {
                if word == "manifests" || word == "crds" {
                    root.join(word).display().to_string()
                } else {
                    word.to_owned()
                }
            })
            .collect::<Vec<_>>()
    };
    let blocks = section.split("```").skip(1).step_by(2).flat_map(str::lines);
    blocks.filter_map(|line| line.strip_prefix("kubectl ")).map(words).collect()
}

/// Everything that carries a label or an annotation of waybill's.
async fn left(plane: &ControlPlane) -> Vec<String> {
    let maps = Api::<ConfigMap>::all(plane.admin()).list(&ListParams::default()).await.unwrap();
    let secrets = Api::<Secret>::all(plane.admin()).list(&ListParams::default()).await.unwrap();
    let mut names: Vec<String> = maps.iter().filter(|map| is_ours(*map)).map(ResourceExt::name_any).collect();
    names.extend(secrets.iter().filter(|secret| is_ours(*secret)).map(ResourceExt::name_any));
    names
}

fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().keys().chain(object.annotations().keys()).any(|key| key.starts_with("waybill.dev/"))
}

#[tokio::test]
async fn nothing_is_left_but_the_statuses() {
    let commands = commands();
    assert!(commands.len() > 2, "{commands:?}");
    let plane = ControlPlane::start().await;
    plane.install("crds");
    plane.install("manifests");
    plane
        .apply_objects(&shop_with([
            ingress("shop", "plain", "web"),
            secret("shop", "tls", "kubernetes.io/tls", "dGxz", "S0VZ"),
            tls_ingress("shop", "secure", "web", &["tls"]),
        ]))
        .await;
    let mut operator = plane.operator("only", &[FAST, ADDRESS]).await;
    operator.leads().await;
    let (before, _) = plane
        .eventually_published(OUTPUT, "both are published", |document| {
            has_router(document, "shop", "plain") && has_router(document, "shop", "secure")
        })
        .await;
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let statuses = async || {
        let list = ingresses.list(&ListParams::default()).await.unwrap();
        let status = |ingress: Ingress| ingress.status?.load_balancer?.ingress;
        list.items.into_iter().filter_map(status).flatten().filter_map(|entry| entry.ip).collect::<Vec<_>>()
    };
    eventually("both statuses are written", SOON, async || {
        let now = statuses().await;
        if now.len() == 2 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(!left(&plane).await.is_empty());

    // The Deployment goes with the manifests; here the process does.
    operator.process.signal(Signal::TERM);
    assert!(operator.process.ended(SOON).await.success(), "{}", operator.process.log_tail());
    let (after, document) = plane.published(OUTPUT).await.expect("the routing stays");
    assert!(after == before && has_router(&document, "shop", "plain"), "{before:?} {after:?}");

    let run = |command: &Vec<String>| {
        // Nobody empties a namespace in this control plane, so there is nothing to wait for.
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--wait=false");
        plane.kubectl_ok(&arguments)
    };
    run(&commands[0]);
    let namespaces = plane.kubectl_ok(&["get", "namespaces", "-o", "wide"]);
    assert!(!namespaces.contains("Terminating"), "all that is published would go with it: {namespaces}");
    let (after, _) = plane.published(OUTPUT).await.expect("the routing stays");
    assert!(after == before, "{before:?} {after:?}");
    commands[1..].iter().for_each(|command| _ = run(command));
    eventually("nothing is left", SOON, async || {
        let left = left(&plane).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(statuses().await.len(), 2, "statuses stay as they are");
    let roles = plane.kubectl_ok(&["get", "clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!roles.contains("/waybill"), "{roles}");
}
