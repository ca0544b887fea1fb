//! The Helm chart renders the objects that kustomize renders.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{documents, kustomize, overlay, root};
use crate::harness;

#[path = "../../../manifests/helm/chart.rs"]
mod generated;

/// Runs Helm without a cluster.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(harness::tool("helm"))
        .args(arguments)
        .current_dir(root())
        .env("KUBECONFIG", "/dev/null")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

fn template(set: &str) -> Result<Vec<Value>, String> {
    let printed = helm(&["template", "waybill", generated::FOLDER, "-n", "waybill", "--set", set])?;
    Ok(documents(&printed))
}

/// Objects by kind, namespace and name, without what the two ways do in their own manner: kustomize makes the Namespace
/// and puts a hash of the options into a name, Helm puts one into an annotation and keeps the CRD.
fn objects(all: Vec<Value>) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    for mut object in all {
        if object["kind"] == "Namespace" {
            continue;
        }
        prune(&mut object);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = format!("{} {}/{}", object["kind"].as_str().unwrap(), text("namespace"), text("name"));
        assert!(objects.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    objects
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("checksum/options");
            map.remove("helm.sh/resource-policy");
            if let Some(Value::String(options)) = map.get_mut("waybill.yaml") {
                let mut read: Value = serde_saphyr::from_str(options).unwrap();
                prune(&mut read);
                *options = read.to_string();
            }
            if let Some(Value::String(name)) = map.get_mut("name")
                && name.starts_with("waybill-options-")
            {
                "waybill-options".clone_into(name);
            }
            let inner = std::mem::take(map);
            *map = inner
                .into_iter()
                .map(|(key, mut value)| {
                    prune(&mut value);
                    (key, value)
                })
                .filter(|(_, value)| !value.is_null() && *value != Value::Object(Map::new()))
                .collect();
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn same(kustomize: Vec<Value>, helm: Vec<Value>) {
    let (kustomize, helm) = (objects(kustomize), objects(helm));
    assert_eq!(kustomize.keys().collect::<Vec<_>>(), helm.keys().collect::<Vec<_>>());
    for (key, object) in &kustomize {
        assert!(object == &helm[key], "{key}: kustomize renders {object:#}\nand Helm {:#}", helm[key]);
    }
}

#[test]
fn what_is_generated_is_up_to_date() {
    let files = generated::files(&generated::RENDERED.map(|folder| kustomize(&root().join(folder)))).unwrap();
    let folder = root().join(generated::FOLDER);
    for (name, text) in &files {
        let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(&there == text, "{name} of the chart differs; run `make manifests`");
    }
    for entry in std::fs::read_dir(folder.join("templates")).unwrap() {
        let name = format!("templates/{}", entry.unwrap().file_name().display());
        let known = files.contains_key(&name) || generated::WRITTEN_BY_HAND.contains(&name.as_str());
        assert!(known, "{name} is not made any more; run `make manifests`");
    }
    let install = std::fs::read_to_string(root().join("manifests/install.yaml")).unwrap();
    let (_, install) = install.split_once('\n').unwrap();
    assert!(
        install == kustomize(&root().join("manifests/install")),
        "install.yaml differs; run `make manifests`"
    );
    let chart: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(folder.join("Chart.yaml")).unwrap()).unwrap();
    for version in ["version", "appVersion"] {
        assert_eq!(chart[version], env!("CARGO_PKG_VERSION"), "{version} of Chart.yaml");
    }
}

#[test]
fn helm_finds_no_fault() {
    let said = helm(&["lint", "--strict", generated::FOLDER]).unwrap();
    assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
}

#[test]
fn both_render_the_same_objects() {
    let install = kustomize(&root().join("manifests/install"));
    same(documents(&install), template("").unwrap());
    let components = |words: &str| {
        let list: Vec<_> =
            words.split(' ').map(|word| format!("../../manifests/components/{word}")).collect();
        overlay(&format!("resources: [../../manifests/install]\ncomponents: [{}]\n", list.join(", ")))
    };
    same(
        components("prometheus network-policy namespace-selectors ha-3"),
        template(
            "replicas=3,podMonitor.enabled=true,alerts.enabled=true,dashboard.enabled=true,\
             networkPolicy.enabled=true,rbac.namespaceSelectors=true",
        )
        .unwrap(),
    );
    same(components("servicemonitor"), template("serviceMonitor.enabled=true").unwrap());
    same(components("admission"), template("admission.enabled=true").unwrap());
    same(with_proxies(), template("proxies.enabled=true,ingressClass.default=true").unwrap());
    same(
        overlay("resources: [../../manifests/namespaced]\n"),
        template(
            "rbac.scope=namespaces,options.providers.kubernetesIngress.namespaces={team-a,team-b},\
             options.providers.kubernetesIngress.disableClusterScopeResources=true",
        )
        .unwrap(),
    );
}

/// The component sets the option as a flag, since it knows nothing of the file; the chart has it in the file.
#[test]
fn metrics_over_tls_are_those_of_the_component() {
    for (scraped, value) in [("podmonitor", "podMonitor"), ("servicemonitor", "serviceMonitor")] {
        let components = [scraped, "metrics-secure"].map(|name| format!("../../manifests/components/{name}"));
        let mut expected = overlay(&format!(
            "resources: [../../manifests/install]\ncomponents: [{}]\n",
            components.join(", ")
        ));
        let mut changed = 0;
        for object in &mut expected {
            if let Some(arguments) = object.pointer_mut("/spec/template/spec/containers/0/args") {
                let arguments = arguments.as_array_mut().unwrap();
                changed += arguments.extract_if(.., |one| *one == "--operator.metricsSecure=true").count();
            }
            if let Some(text) = object.pointer_mut("/data/waybill.yaml") {
                let mut options: Value = serde_saphyr::from_str(text.as_str().unwrap()).unwrap();
                options["operator"]["metricsSecure"] = true.into();
                *text = options.to_string().into();
                changed += 1;
            }
        }
        assert_eq!(changed, 2);
        same(
            expected,
            template(&format!("{value}.enabled=true,options.operator.metricsSecure=true")).unwrap(),
        );
    }
}

const NAMESPACED_PROXIES: &str = "rbac.scope=namespaces,proxies.enabled=true,\
    options.providers.kubernetesIngress.namespaces={team-a},\
    options.providers.kubernetesIngress.disableClusterScopeResources=true";
const LISTED: &str = "options.providers.kubernetesIngress.namespaces={waybill,team-a,team-b}";

#[test]
fn proxies_in_a_watched_namespace_are_those_of_the_example() {
    same(
        overlay("resources: [../../manifests/examples/traefik-namespaced]\n"),
        template(&format!("{NAMESPACED_PROXIES},{LISTED}")).unwrap(),
    );
    // An address that needs no Service.
    let address = "options.providers.kubernetesIngress.ingressEndpoint.ip=192.0.2.1";
    template(&format!("{NAMESPACED_PROXIES},{address}")).unwrap();
}

/// `manifests/install` and `manifests/examples/traefik`. The example's IngressClass has parameters, for the address in
/// statuses; Helm installs no object whose CRD comes with it, so the chart puts that into the options.
fn with_proxies() -> Vec<Value> {
    let mut all = documents(&kustomize(&root().join("manifests/install")));
    let mut proxies = documents(&kustomize(&root().join("manifests/examples/traefik")));
    let mut take = |kind: &str| {
        let at = proxies.iter().position(|object| object["kind"] == kind).expect(kind);
        proxies.remove(at)
    };
    let parameters = take("IngressClassParameters");
    let class = take("IngressClass");
    let mut changed = 0;
    for object in &mut all {
        if object["kind"] == "IngressClass" {
            object["metadata"]["annotations"] = class["metadata"]["annotations"].clone();
            changed += 1;
        }
        if let Some(text) = object.pointer_mut("/data/waybill.yaml") {
            let mut options: Value = serde_saphyr::from_str(text.as_str().unwrap()).unwrap();
            let endpoint = &parameters["spec"]["ingressEndpoint"];
            options["providers"]["kubernetesIngress"]["ingressEndpoint"] = endpoint.clone();
            *text = options.to_string().into();
            changed += 1;
        }
    }
    assert!(changed == 2 && parameters["spec"].as_object().unwrap().len() == 1, "{parameters:#}");
    [all, proxies].concat()
}

#[test]
fn another_name_and_namespace_are_used_throughout() {
    let printed =
        helm(&["template", "edge", generated::FOLDER, "-n", "proxies", "--set", "alerts.enabled=true"]);
    let moved =
        overlay("resources: [../../manifests/install]\ncomponents: [../../manifests/components/alerts]\n");
    let mut text = serde_json::to_string(&objects(moved)).unwrap();
    for (from, to) in [
        (r#""namespace":"waybill""#, r#""namespace":"proxies""#),
        (r#""serviceAccountName":"waybill""#, r#""serviceAccountName":"edge-waybill""#),
        (r#""name":"waybill-options""#, r#""name":"edge-waybill-options""#),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let named = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap();
        name.strip_prefix("waybill").map(|rest| format!("edge-waybill{rest}"))
    };
    let expected: Vec<Value> = expected
        .into_values()
        .map(|mut object| {
            if let Some(name) = named(&object) {
                object["metadata"]["name"] = name.into();
            }
            for path in ["/roleRef/name", "/subjects/0/name"] {
                if let Some(name) = object.pointer_mut(path) {
                    *name = "edge-waybill".into();
                }
            }
            object
        })
        .collect();
    same(expected, documents(&printed.unwrap()));

    let secure = "podMonitor.enabled=true,options.operator.metricsSecure=true";
    let printed = helm(&["template", "edge", generated::FOLDER, "-n", "proxies", "--set", secure]).unwrap();
    let named = |name: &str| printed.matches(name).count();
    assert_eq!((named("waybill-metrics-reader"), named(" edge-waybill-metrics-reader")), (8, 8), "{printed}");
}

#[test]
fn what_metrics_over_tls_and_traces_need_can_be_set() {
    let objects = template(
        "options.operator.metricsSecure=true,options.operator.metricsCertFile=/etc/cert/tls.crt,\
         extraVolumes[0].name=cert,extraVolumes[0].secret.secretName=cert,extraVolumeMounts[0].name=cert,\
         extraVolumeMounts[0].mountPath=/etc/cert,podMonitor.enabled=true,podMonitor.tlsConfig.serverName=waybill,\
         networkPolicy.enabled=true,networkPolicy.extraEgress[0].ports[0].port=4318",
    )
    .unwrap();
    let spec = |kind: &str| {
        let is = |one: &&Value| one["kind"] == kind && one["metadata"]["name"] == "waybill";
        &objects.iter().find(is).unwrap_or_else(|| panic!("no {kind}"))["spec"]
    };
    let pod = &spec("Deployment")["template"]["spec"];
    assert_eq!(pod["volumes"][1], json!({"name": "cert", "secret": {"secretName": "cert"}}));
    assert_eq!(pod["containers"][0]["volumeMounts"][1], json!({"name": "cert", "mountPath": "/etc/cert"}));
    let scraped = &spec("PodMonitor")["podMetricsEndpoints"][0];
    assert_eq!(scraped["tlsConfig"], json!({"serverName": "waybill"}));
    let egress = spec("NetworkPolicy")["egress"].as_array().unwrap();
    assert_eq!(egress.len(), 2);
    assert_eq!(egress[1], json!({"ports": [{"port": 4318}]}));
}

#[test]
fn the_agents_may_be_given_more_memory() {
    let objects = template(
        "proxies.enabled=true,proxies.agent.resources.limits.memory=1Gi,proxies.agent.volumeSizeLimit=512Mi",
    )
    .unwrap();
    let proxies =
        objects.iter().find(|one| one["kind"] == "Deployment" && one["metadata"]["name"] == "traefik");
    let pod = &proxies.unwrap()["spec"]["template"]["spec"];
    assert_eq!(
        pod["initContainers"][0]["resources"],
        json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "20m", "memory": "48Mi"}})
    );
    assert_eq!(pod["volumes"][0]["emptyDir"], json!({"medium": "Memory", "sizeLimit": "512Mi"}));
}

#[test]
fn values_that_do_not_work_are_refused_with_what_is_wrong() {
    for (set, word) in [
        ("options.operator.logFromat=json", "logFromat"),
        ("options.providers.kubernetesIngress.allowEmptyServices=maybe", "allowEmptyServices"),
        ("replica=3", "replica"),
        ("rbac.scope=namespaces", "options.providers.kubernetesIngress.namespaces"),
        (
            "rbac.scope=namespaces,options.providers.kubernetesIngress.namespaces={a}",
            "disableClusterScopeResources",
        ),
        (NAMESPACED_PROXIES, "add waybill to options.providers.kubernetesIngress.namespaces"),
        (
            &format!("{NAMESPACED_PROXIES},{LISTED},proxies.service.type=NodePort"),
            "proxies.service.type of NodePort has no address",
        ),
        ("podMonitor.enabled=true,serviceMonitor.enabled=true", "twice"),
        ("proxies.enabled=true,options.operator.namespace=edge", "their own namespace"),
        ("proxies.service.type=Ingress", "LoadBalancer"),
        ("options.operator.metricsAddress=:9090", "options.operator.metricsAddress"),
        ("options.operator.metricsAddress=8080", "ends in it"),
        ("options.operator.metricsSecureAddress=0.0.0.0:9443", "ends in it"),
        ("admission.classAnnotations={it's}", "classAnnotations"),
    ] {
        let said = template(set).expect_err(set);
        assert!(said.contains(word), "{set}: {said}");
    }
    // Traefik's own file may be used as it is.
    template("options.entryPoints.web.address=:80,options.providers.docker.watch=true").unwrap();
}
