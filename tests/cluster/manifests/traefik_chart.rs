//! The values for Traefik's own Helm chart. The chart is not here, so the pod is made of them as the chart does.

use serde_json::{Value, json};

use super::{documents, root};
use crate::harness::ControlPlane;

const EXAMPLE: &str = "manifests/examples/traefik-chart";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The pod that chart 40 or newer makes of the values, as far as they concern it.
fn pod(values: &Value) -> Value {
    let listed = |more: &Value, own: Value| {
        let mut all = vec![own];
        all.extend(more.as_array().unwrap().clone());
        Value::Array(all)
    };
    let deployment = &values["deployment"];
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "traefik", "namespace": "waybill"},
        "spec": {
            "serviceAccountName": values["serviceAccount"]["name"],
            "automountServiceAccountToken": true,
            "securityContext": values["podSecurityContext"],
            "initContainers": deployment["initContainers"],
            "containers": [{
                "name": "traefik", "image": "traefik",
                "args": values["additionalArguments"],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts":
                    listed(&values["additionalVolumeMounts"], json!({"name": "tmp", "mountPath": "/tmp"})),
            }],
            "volumes": listed(&deployment["additionalVolumes"], json!({"name": "tmp", "emptyDir": {}})),
        },
    })
}

#[tokio::test]
async fn its_pod_is_admitted_and_only_the_agent_has_a_token() {
    let plane = ControlPlane::start().await;
    plane.kubectl_ok(&["create", "namespace", "waybill"]);
    plane.kubectl_ok(&["label", "namespace", "waybill", "pod-security.kubernetes.io/enforce=restricted"]);
    let file = |name: &str| root().join(EXAMPLE).join(name);
    plane.kubectl_ok(&["-n", "waybill", "apply", "-f", &file("agent.yaml").display().to_string()]);

    let values = std::fs::read_to_string(file("values.yaml")).unwrap();
    // Helm reads 0440 as octal.
    let reading = serde_saphyr::options! { legacy_octal_numbers: true };
    let values: Value = serde_saphyr::from_str_with_options(&values, reading).unwrap();
    let path = plane.folder().join("pod.json");
    std::fs::write(&path, pod(&values).to_string()).unwrap();
    let create = ["create", "--dry-run=server", "-o", "json", "-f", &path.display().to_string()];
    let admitted: Value = serde_json::from_str(&plane.kubectl_ok(&create)).unwrap();
    let spec = &admitted["spec"];

    let mounted = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap().clone();
        let mut there = mounts.into_iter().filter(|mount| mount["mountPath"] == TOKEN);
        let one = there.next().expect("in a cluster, a container without a mount there gets one");
        assert!(there.next().is_none(), "{container:#}");
        let volumes = spec["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == one["name"]).unwrap().clone()
    };
    let traefik = mounted(&spec["containers"][0]);
    assert!(traefik["emptyDir"].is_object(), "{traefik:#}");
    let agent = mounted(&spec["initContainers"][0]);
    assert!(agent["projected"]["sources"][0]["serviceAccountToken"].is_object(), "{agent:#}");
    // The files are for root and the pod's group, which the agent has to belong to.
    assert_eq!(agent["projected"]["defaultMode"], 0o440);
    assert_eq!(spec["securityContext"]["fsGroup"], spec["securityContext"]["runAsGroup"]);

    // The API server of the tests does not ask for the account, as one with kubelets does.
    let account = spec["serviceAccountName"].as_str().unwrap();
    plane.kubectl_ok(&["-n", "waybill", "get", "serviceaccount", account]);
    let account = format!("--as=system:serviceaccount:waybill:{account}");
    for allowed in [["get", "secrets"], ["watch", "configmaps"], ["create", "leases"]] {
        plane.kubectl_ok(&["-n", "waybill", "auth", "can-i", allowed[0], allowed[1], &account]);
    }
}

/// The sidecar is the one of the other example, at another port and with the output written out.
#[test]
fn its_agent_is_that_of_the_example() {
    let read = |path: &str| -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(root().join(path)).unwrap()).unwrap()
    };
    let values = read("manifests/examples/traefik-chart/values.yaml");
    let example = read("manifests/examples/traefik/proxy/deployment.yaml");
    let agent = |pod: &Value| {
        let text = pod["initContainers"][0].to_string();
        let text = text.replace("$(OUTPUT)", "waybill/waybill").replace("agent-token", "token");
        let mut agent: Value = serde_json::from_str(&text.replace("8181", "8081")).unwrap();
        agent["image"].take();
        agent["env"].as_array_mut().unwrap().retain(|variable| variable["name"] != "OUTPUT");
        agent
    };
    let example = &example["spec"]["template"]["spec"];
    assert_eq!(agent(&values["deployment"]), agent(example));
    let rights = |path: &str| documents(&std::fs::read_to_string(root().join(path)).unwrap());
    assert_eq!(
        rights("manifests/examples/traefik-chart/agent.yaml"),
        rights("manifests/examples/traefik/proxy/rbac.yaml")
    );
    assert_eq!(
        values["deployment"]["terminationGracePeriodSeconds"],
        example["terminationGracePeriodSeconds"]
    );
}
