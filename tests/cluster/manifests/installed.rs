//! The chart in a real API server: installed, upgraded, removed.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};

use super::root;
use crate::harness::operator::{SOON, binary};
use crate::harness::{self, ControlPlane, eventually};
use crate::operator::objects::{ADDRESS, FAST, has_router, ingress, namespace, service, shop_with, slice};

const CHART: &str = "manifests/helm/waybill";

fn helm(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = Command::new(harness::tool("helm"))
        .args(arguments)
        .args(["-n", "waybill"])
        .current_dir(root())
        .env("KUBECONFIG", plane.admin_kubeconfig())
        .env("HOME", plane.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn options(plane: &ControlPlane) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let map = maps.get("waybill-options").await.unwrap();
    map.data.unwrap()["waybill.yaml"].clone()
}

fn deployment(plane: &ControlPlane, name: &str) -> Value {
    let printed = plane.kubectl_ok(&["-n", "waybill", "get", "deployment", name, "-o", "json"]);
    serde_json::from_str(&printed).unwrap()
}

/// Whether the API server would take a Deployment's pod, after a change to it.
fn admits(plane: &ControlPlane, name: &str, change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut pod = deployment(plane, name)["spec"]["template"].take();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "tried".into();
    change(&mut pod);
    let path = plane.folder().join("pod.json");
    std::fs::write(&path, pod.to_string()).unwrap();
    let path = path.display().to_string();
    let output = plane.kubectl(&["-n", "waybill", "create", "--dry-run=server", "-f", &path]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test]
async fn the_chart_installs_upgrades_and_leaves_the_settings_of_classes() {
    let plane = ControlPlane::start().await;
    let said = helm(&plane, &["install", "waybill", CHART, "--create-namespace"]);
    assert!(said.contains("rollout status deployment waybill"), "{said}");

    // The pod is what the standard `restricted` asks for.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    plane.kubectl_ok(&["label", "namespace", "waybill", label]);
    admits(&plane, "waybill", |_| {}).unwrap();
    let refused = admits(&plane, "waybill", |pod| pod["spec"]["securityContext"] = json!({})).unwrap_err();
    assert!(refused.contains("PodSecurity"), "{refused}");

    // A replica works with the options and the rights that Helm installed.
    plane.apply_objects(&shop_with([ingress("shop", "web", "web")])).await;
    let file = plane.folder().join("waybill.yaml");
    std::fs::write(&file, options(&plane).await).unwrap();
    let operator = start(&plane, "installed", &file).await;
    operator.leads().await;
    plane
        .eventually_published("waybill/waybill", "it is published", |one| has_router(one, "shop", "web"))
        .await;
    drop(operator);

    // Settings of a class, and an upgrade that changes options, replicas and the CRD.
    let before = deployment(&plane, "waybill");
    plane.apply("apiVersion: waybill.dev/v1alpha1\nkind: IngressClassParameters\nmetadata: {name: public}\nspec: {}").await;
    let crd = ["crd", "ingressclassparameters.waybill.dev"];
    plane.kubectl_ok(&["label", crd[0], crd[1], "app.kubernetes.io/name-"]);
    let values = "replicas=3,options.operator.logFormat=text,proxies.enabled=true,admission.enabled=true";
    let said = helm(&plane, &["upgrade", "waybill", CHART, "--set", values]);
    assert!(said.contains("get service traefik"), "{said}");
    let after = deployment(&plane, "waybill");
    assert_eq!((&before["spec"]["replicas"], &after["spec"]["replicas"]), (&json!(2), &json!(3)));
    let sum = "/spec/template/metadata/annotations/checksum~1options";
    assert!(before.pointer(sum).is_some() && before.pointer(sum) != after.pointer(sum), "the pods roll");
    std::fs::write(&file, options(&plane).await).unwrap();
    let operator = start(&plane, "upgraded", &file).await;
    operator.leads().await;
    assert!(!operator.process.log().contains("{\""), "logs are text now: {}", operator.process.log());
    let labels = plane.kubectl_ok(&["get", crd[0], crd[1], "-o", "jsonpath={.metadata.labels}"]);
    assert!(labels.contains("waybill"), "the upgrade covers the CRD: {labels}");

    // Proxies, whose address Ingresses get, and whose agents may read what is published.
    admits(&plane, "traefik", |_| {}).unwrap();
    addresses_follow_the_proxies(&plane, "shop").await;
    let agent = "--as=system:serviceaccount:waybill:traefik";
    for allowed in [["get", "secrets"], ["watch", "configmaps"], ["create", "leases"]] {
        plane.kubectl_ok(&["-n", "waybill", "auth", "can-i", allowed[0], allowed[1], agent]);
    }
    plane.assert_nothing_refused();
    drop(operator);

    // The policies are in force.
    let mut bad = ingress("shop", "bad", "web");
    bad["metadata"]["annotations"] = json!({"traefik.ingress.kubernetes.io/router.priority": "high"});
    let file = plane.folder().join("bad.json");
    std::fs::write(&file, bad.to_string()).unwrap();
    eventually("a bad annotation is refused", SOON, async || {
        let output = plane.kubectl(&["create", "--dry-run=server", "-f", &file.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("'waybill-ingresses-deny'") { Ok(()) } else { Err(said) }
    })
    .await;

    // Removed, all that is left is the CRD with its objects, and what was published.
    helm(&plane, &["uninstall", "waybill"]);
    plane.kubectl_ok(&["get", "icp", "public"]);
    let left = plane.kubectl_ok(&[
        "get",
        "deployments,serviceaccounts,roles,rolebindings,services,poddisruptionbudgets,ingressclasses,clusterroles,\
         clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings",
        "-A",
        "-l",
        "app.kubernetes.io/name in (waybill, traefik)",
        "-o",
        "name",
    ]);
    assert_eq!(left.replace("ingressclass.networking.k8s.io/traefik\n", ""), "");
    let (_, document) = plane.published("waybill/waybill").await.expect("the routing stays");
    assert!(has_router(&document, "shop", "web"), "{document:#}");

    // And it can be installed again.
    helm(&plane, &["install", "waybill", CHART]);
    plane.kubectl_ok(&["get", "icp", "public"]);
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let names: Vec<_> = maps
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(names.contains(&"waybill-options".to_owned()), "{names:?}");
}

/// The Ingress `web` gets the address that the proxies' Service gets.
async fn addresses_follow_the_proxies(plane: &ControlPlane, namespace: &str) {
    let status = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.77"}]}}}"#;
    let patch = ["patch", "service", "traefik", "--subresource=status", "--type=merge", "-p", status];
    plane.kubectl_ok(&[&["-n", "waybill"], &patch[..]].concat());
    eventually("the Ingress has the address of the proxies", SOON, async || {
        let address = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        let found = plane.kubectl_ok(&["-n", namespace, "get", "ingress", "web", "-o", address]);
        if found == "192.0.2.77" { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn ingresses_of_some_namespaces_get_the_address_of_the_proxies() {
    const EXAMPLE: &str = "manifests/examples/traefik-namespaced";
    let plane = ControlPlane::start().await;
    plane.apply_objects(&["team-a", "team-b"].map(namespace)).await;
    plane.install(EXAMPLE);
    let mut web = ingress("team-a", "web", "web");
    web["spec"].as_object_mut().unwrap().remove("ingressClassName");
    web["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "traefik"});
    plane.apply_objects(&[service("team-a", "web"), slice("team-a", "web", "10.1.0.1"), web]).await;
    let operator = start(&plane, "namespaced", &root().join(EXAMPLE).join("waybill.yaml")).await;
    operator.leads().await;
    addresses_follow_the_proxies(&plane, "team-a").await;
    plane.assert_nothing_refused();
}

/// A replica with a configuration file.
async fn start(plane: &ControlPlane, name: &str, file: &Path) -> harness::operator::Operator {
    let token = plane.service_account_token("waybill", "waybill").await;
    let token_file = plane.folder().join(format!("{name}.token"));
    std::fs::write(&token_file, token).unwrap();
    let mut command = Command::new(binary());
    command.arg("run").arg(format!("--configFile={}", file.display())).args([FAST, ADDRESS]).args([
        format!("--providers.kubernetesingress.endpoint={}", plane.url()),
        format!("--providers.kubernetesingress.token={}", token_file.display()),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ]);
    command.env_clear();
    plane.operator_by(name, command)
}
