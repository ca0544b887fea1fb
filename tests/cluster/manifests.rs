//! What `kubectl kustomize` and Helm make of the shipped manifests.

mod admission;
mod chart;
mod installed;
mod rights;
mod traefik_chart;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What kustomize prints of a folder.
fn kustomize(folder: &Path) -> String {
    let kubectl = harness::tools_folder().join("kubectl");
    let output = Command::new(kubectl).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn documents(printed: &str) -> Vec<Value> {
    let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(printed).unwrap();
    documents.into_iter().flatten().collect()
}

/// The documents of an overlay of the user's; paths in it begin at the repository, as `../../`.
fn overlay(lines: &str) -> Vec<Value> {
    let folder = tempfile::tempdir_in(root().join("target")).unwrap();
    std::fs::write(folder.path().join("kustomization.yaml"), lines).unwrap();
    documents(&kustomize(folder.path()))
}

#[test]
fn an_overlay_may_move_waybill_to_another_namespace() {
    let objects = overlay("resources: [../../manifests]\nnamespace: edge\nnamePrefix: my-\n");
    let find = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let accounts = find("ServiceAccount");
    let [account] = accounts.as_slice() else { panic!("{accounts:#?}") };
    assert_eq!(account["metadata"]["namespace"], "edge");
    let bindings = [find("RoleBinding"), find("ClusterRoleBinding")].concat();
    assert!(bindings.len() >= 2, "{bindings:#?}");
    for binding in bindings {
        for subject in binding["subjects"].as_array().unwrap() {
            assert_eq!(subject["namespace"], "edge", "{binding:#}");
            assert_eq!(subject["name"], account["metadata"]["name"], "{binding:#}");
        }
    }
    let [namespace] = find("Namespace")[..] else { panic!("one Namespace") };
    assert_eq!(namespace["metadata"]["name"], "edge");
}

#[test]
fn the_overlay_of_the_installation_page_leaves_the_labels_of_the_proxies_alone() {
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(block.contains("components:"), "{block}");
    let objects = overlay(&block.replace("../waybill/", "../../"));
    let label = |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/name"].clone();
    for (name, count) in [("traefik", 6), ("waybill", 20)] {
        let labelled = objects.iter().filter(|object| label(object) == name).count();
        assert!(labelled >= count, "{labelled} objects are labelled {name}");
    }
    let foreign = objects.iter().find(|object| {
        label(object) == "waybill"
            && object["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "traefik"
    });
    assert!(foreign.is_none(), "{foreign:#?}");
    let images: Vec<_> = objects.iter().filter_map(|o| o.pointer("/spec/template/spec")).collect();
    assert!(
        images.len() == 2
            && images.iter().all(|spec| spec.to_string().contains("registry.example/waybill:0.1.0"))
    );
}

#[test]
fn secure_metrics_are_scraped_as_they_are_served() {
    let objects = overlay(
        "resources: [../../manifests]\ncomponents: [../../manifests/components/prometheus, \
         ../../manifests/components/servicemonitor, ../../manifests/components/metrics-secure]\n",
    );
    let find = |kind: &str, name: &str| {
        let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let container = &find("Deployment", "waybill")["spec"]["template"]["spec"]["containers"][0];
    assert!(container["args"].as_array().unwrap().contains(&"--operator.metricsSecure=true".into()));
    let ports = container["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["name"] == "metrics-secure").unwrap();
    assert_eq!(port["containerPort"], 8443, "the default of operator.metricsSecureAddress");
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], "metrics");
    assert_eq!(find("Service", "waybill-metrics")["spec"]["ports"][0]["targetPort"], "metrics-secure");
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let endpoint = &find(kind, "waybill")["spec"][endpoints][0];
        assert_eq!((&endpoint["port"], &endpoint["scheme"]), (&"metrics-secure".into(), &"https".into()));
        let credentials = &endpoint["authorization"]["credentials"];
        let token = find("Secret", credentials["name"].as_str().unwrap());
        let account = &token["metadata"]["annotations"]["kubernetes.io/service-account.name"];
        let subject = &find("ClusterRoleBinding", "waybill-metrics-reader")["subjects"][0];
        assert_eq!((account, &credentials["key"]), (&subject["name"], &"token".into()));
    }
}

/// The port of each PodMonitor is one of a pod that it selects, and the agents' is among them.
#[test]
fn replicas_and_agents_are_scraped() {
    let objects = overlay(
        "resources: [../../manifests, ../../manifests/examples/traefik]\ncomponents: \
         [../../manifests/components/prometheus, ../../manifests/components/network-policy]\n",
    );
    let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let mut scraped = Vec::new();
    for monitor in of("PodMonitor") {
        let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
        for deployment in of("Deployment") {
            let template = &deployment["spec"]["template"];
            let wanted = monitor["spec"]["selector"]["matchLabels"].as_object();
            let mut wanted = wanted.into_iter().flatten();
            let containers = ["initContainers", "containers"].map(|key| template["spec"][key].as_array());
            let mut ports =
                containers.into_iter().flatten().flatten().flat_map(|one| one["ports"].as_array());
            if deployment["metadata"]["namespace"] == monitor["metadata"]["namespace"]
                && wanted.all(|(label, value)| template["metadata"]["labels"][label] == *value)
                && ports.any(|ports| ports.iter().any(|one| one["name"] == *port))
            {
                scraped.push((port.as_str().unwrap(), deployment["metadata"]["name"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(scraped, [("metrics", "waybill"), ("agent-metrics", "traefik")]);
    // No policy closes the agents' port.
    let policies = of("NetworkPolicy");
    let labels = &policies[0]["spec"]["podSelector"]["matchLabels"];
    assert_eq!((policies.len(), &labels["app.kubernetes.io/component"]), (1, &"operator".into()));
}
