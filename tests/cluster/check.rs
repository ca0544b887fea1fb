//! `waybill check` against clusters that have more and less of what is needed.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::operator::{SOON, binary};
use crate::harness::{ADMIN, ControlPlane, NOBODY, eventually};
use crate::operator::objects::{FAST, ingress, namespace};

const ACCOUNT: &str = "--as=system:serviceaccount:waybill:waybill";
const PUBLISHED: &str = "--providers.kubernetesingress.ingressendpoint.publishedservice=edge/traefik";

/// Exit code and output, with a token and flags.
fn check(plane: &ControlPlane, token: &str, flags: &[&str]) -> (i32, String) {
    let output = Command::new(binary())
        .arg("check")
        .arg(format!("--providers.kubernetesingress.endpoint={}", plane.url()))
        .arg(format!("--providers.kubernetesingress.token={token}"))
        .arg(format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()))
        .args(flags)
        .env_clear()
        .env("POD_NAMESPACE", "waybill")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// Checks, and expects an exit code and parts of lines.
fn expect(plane: &ControlPlane, token: &str, flags: &[&str], code: i32, parts: &[&str]) {
    let (found, said) = check(plane, token, flags);
    assert_eq!(found, code, "{said}");
    for part in parts {
        assert!(said.lines().any(|line| line.contains(part)), "{part}\nis not in\n{said}");
    }
}

fn balancer(namespace: &str, addresses: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "traefik", "namespace": namespace},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": addresses}},
    })
}

fn class(name: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
        "spec": {"controller": controller},
    })
}

#[tokio::test]
async fn each_thing_is_there_or_its_line_says_what_to_do() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let token = plane.service_account_token("waybill", "waybill").await;
    let address = json!([{"ip": "192.0.2.1"}]);

    // What is optional is missing, and that is no failure.
    let optional = [
        "ok    API server: https://127.0.0.1",
        "note  CRD: IngressClassParameters are not served",
        "kubectl apply -k crds",
        "note  classes: no IngressClass has the controller traefik.io/ingress-controller",
        "components/ingress-class/ingressclass.yaml",
        "ok    rights: you may do everything that is needed",
        "ok    Lease waybill/waybill: nobody leads yet",
    ];
    expect(&plane, &token, &[], 0, &optional);
    expect(&plane, &token, &[PUBLISHED], 1, &["FAIL  published Service edge/traefik: it does not exist"]);
    let wanted = "--providers.kubernetesingress.ingressclass=front";
    expect(&plane, &token, &[wanted], 1, &["FAIL  classes: there is no IngressClass front"]);
    plane.apply_objects(&[class("front", "example.com/other")]).await;
    expect(
        &plane,
        &token,
        &[wanted],
        1,
        &["IngressClass front belongs to the controller \"example.com/other\""],
    );

    // Everything is there.
    plane.install("crds");
    eventually("the kind is served", SOON, async || {
        let served = plane.kubectl(&["get", "ingressclassparameters"]);
        if served.status.success() { Ok(()) } else { Err("not yet") }
    })
    .await;
    plane.install("manifests/examples/two-classes");
    let unknown = [
        "note  class public: no leader has checked",
        "Service edge-public/traefik: its load balancer has no",
    ];
    expect(&plane, &token, &[], 0, &unknown);
    let services = [balancer("edge-public", address.clone()), balancer("edge-internal", address.clone())];
    plane.apply_objects(&services).await;
    plane.apply_objects(&[namespace("edge"), balancer("edge", json!([]))]).await;
    expect(
        &plane,
        &token,
        &[PUBLISHED],
        0,
        &["note  published Service edge/traefik: its load balancer has no address"],
    );
    plane.apply_objects(&[balancer("edge", address)]).await;
    let operator = plane.operator("first", &[FAST, PUBLISHED]).await;
    operator.leads().await;
    eventually("every line is ok", SOON, async || {
        let (code, said) = check(&plane, &token, &[PUBLISHED]);
        let all = [
            "classes: internal, public",
            "parameters internal are accepted",
            "\"first_",
            "Service edge/traefik",
        ];
        let fine = code == 0
            && said.lines().all(|line| line.starts_with("ok    "))
            && all.iter().all(|part| said.contains(part));
        if fine { Ok(()) } else { Err(said) }
    })
    .await;
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "icp/public", "icp/internal", "--timeout=30s"]);
    plane.assert_nothing_refused();
    let off = "--operator.leaderelection.enabled=false";
    expect(
        &plane,
        &token,
        &[off],
        1,
        &["FAIL  Lease waybill/waybill: \"first_", "leader election is off here"],
    );
    drop(operator);

    // Others that do the same.
    let mut contested = ingress("edge", "web", "web");
    contested["spec"].as_object_mut().unwrap().remove("ingressClassName");
    contested["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
    plane.apply_objects(&[contested]).await;
    let rival = plane.folder().join("rival.json");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "waybill", "namespace": "edge"},
        "spec": {"holderIdentity": "rival", "leaseDurationSeconds": 600, "renewTime": format!("{:.6}", jiff::Timestamp::now())},
    });
    std::fs::write(&rival, lease.to_string()).unwrap();
    let rival = rival.display().to_string();
    plane.kubectl_ok(&["apply", "--server-side", "--field-manager=waybill", "-f", &rival]);
    let status = "\"test\" has written the status of 1 of our Ingresses, such as edge/web";
    expect(&plane, &token, &[], 0, &[status, "ok    other waybill: none leads in namespace waybill"]);
    let other = "note  other waybill: \"rival\" holds the Lease edge/waybill";
    let all = "ok    rights: system:serviceaccount:waybill:waybill may do everything";
    expect(&plane, ADMIN, &[ACCOUNT], 0, &[status, other, all]);

    // Less and less is there.
    plane.kubectl_ok(&["-n", "edge-public", "delete", "rolebinding", "waybill-output"]);
    plane.may_no_longer("create", "configmaps", "edge-public").await;
    let output = "waybill may not create, delete, get, list, update, watch configmaps in namespace edge-public; apply a Role";
    let waits = "note  rights: system:serviceaccount:waybill:waybill may not list, watch leases in namespace edge-public, so \
                 statuses do not wait";
    expect(&plane, ADMIN, &[ACCOUNT], 1, &[output, waits]);
    plane.kubectl_ok(&["delete", "icp", "public"]);
    expect(
        &plane,
        &token,
        &[],
        1,
        &["FAIL  class public: IngressClassParameters public does not exist; create it"],
    );
    plane.kubectl_ok(&["delete", "clusterrolebinding", "waybill"]);
    plane.may_no_longer("list", "services", "edge").await;
    let (code, said) = check(&plane, ADMIN, &[ACCOUNT]);
    assert!(code == 1 && said.contains("may not list, watch services in all namespaces; apply"), "{said}");
    assert!(
        said.contains(
            "note  rights: system:serviceaccount:waybill:waybill may not list, watch ingressclassp"
        ),
        "{said}"
    );
    assert!(!said.contains("configmaps in namespace waybill"), "{said}");
    let few = "--providers.kubernetesingress.namespaces=edge";
    let rights = ["you may not list, watch services in namespace edge;", "configmaps in namespace waybill"];
    expect(&plane, NOBODY, &[few], 1, &rights);

    // Nobody is known, nobody answers, or nobody can be asked.
    let (code, said) = check(&plane, "wrong", &[]);
    assert!(code == 1 && said.contains("FAIL  API server") && !said.contains("wrong"), "{said}");
    expect(
        &plane,
        &token,
        &["--providers.kubernetesingress.endpoint=https://127.0.0.1:1"],
        1,
        &["FAIL  API server"],
    );
    expect(&plane, &token, &["--kubeconfig=/not/there"], 2, &["error: KUBECONFIG"]);
}
