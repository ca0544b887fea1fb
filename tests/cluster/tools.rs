//! `waybill explain` and `waybill diff` over a live cluster, beside a real Traefik.

use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::operator::binary;
use crate::harness::{ADMIN, ControlPlane, Process, Signal, eventually, free_port, tool};
use crate::operator::objects::{
    FAST, class, ingress, namespace, secret, service, shop_with, slice, tls_ingress,
};

const SOON: Duration = Duration::from_secs(30);

fn waybill(plane: &ControlPlane, arguments: &[&str]) -> Output {
    let kubeconfig = plane.folder().join("tools.kubeconfig");
    std::fs::write(&kubeconfig, plane.kubeconfig(ADMIN)).unwrap();
    Command::new(binary()).args(arguments).env_clear().env("KUBECONFIG", kubeconfig).output().unwrap()
}

/// What the command prints, if it ends with this exit code.
fn printed(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{said}");
    text
}

/// A Traefik with its own Kubernetes Ingress provider, whose entry point adds TLS.
fn traefik(plane: &ControlPlane, api: u16) -> Process {
    let mut command = Command::new(tool("traefik"));
    command
        .arg(format!("--entrypoints.web.address=127.0.0.1:{}", free_port()))
        .arg(format!("--entrypoints.secure.address=127.0.0.1:{}", free_port()))
        .arg("--entrypoints.secure.http.tls=true")
        .arg(format!("--entrypoints.traefik.address=127.0.0.1:{api}"))
        .args(["--api.insecure=true", "--api.dashboard=false"])
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
        .arg(format!("--providers.kubernetesingress.endpoint={}", plane.url()))
        .arg(format!("--providers.kubernetesingress.token={ADMIN}"))
        .arg(format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()))
        .env_clear();
    plane.spawn("traefik-tools", &mut command)
}

/// kubectl with the program as its plugin, by the two names that kubectl looks for on the PATH.
fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Output {
    let folder = plane.folder().join("plugin");
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        for name in ["kubectl-waybill", "kubectl_complete-waybill"] {
            std::os::unix::fs::symlink(binary(), folder.join(name)).unwrap();
        }
    }
    let mut kubectl = Command::new(tool("kubectl"));
    kubectl.args(arguments).env_clear().env("PATH", &folder).env("HOME", &folder).output().unwrap()
}

#[tokio::test]
async fn kubectl_has_a_plugin_that_reads_the_cluster_of_its_context() {
    let plane = crate::harness::shared().await;
    let (here, other) = (plane.namespace("plugin").await, plane.namespace("plugin").await);
    plane.apply_objects(&[ingress(&here, "here", "web"), ingress(&other, "other", "web")]).await;
    let file = plane.folder().join("plugin.kubeconfig");
    // Contexts that lead nowhere and to the API server, the first the current one.
    let context = "contexts: [{name: nowhere, context: {cluster: none, user: test}}, {name: test, ";
    let text = plane.kubeconfig(ADMIN).replace("contexts: [{name: test, ", context);
    let text = text.replace("current-context: test", "current-context: nowhere");
    let text =
        text.replace("clusters: [", "clusters: [{name: none, cluster: {server: 'https://127.0.0.1:1'}}, ");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let waybill = |arguments: &[&str]| {
        kubectl(plane, &[&["waybill"], arguments, &["--kubeconfig", file, "--context", "test"]].concat())
    };

    // The shared control plane has no class, so the Ingress is named as one of another controller.
    let url = "http://here.example.com/x";
    let answer = waybill(&["explain", url, "-n", &here]);
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.code() == Some(1) && said.contains(&format!("-n {here}: ")), "{answer:?}");
    let text = printed(&answer, 1);
    assert!(text.contains(&format!("Ingress {here}/here: its class")), "{text}");
    let elsewhere = printed(&waybill(&["explain", url, "-n", &other]), 1);
    assert!(!elsewhere.contains(&format!("{here}/here")), "{elsewhere}");
    let same = printed(&waybill(&["diff", "cluster:", "-n", &here]), 0);
    assert_eq!(same, "0 lost, 0 gained, 0 changed, 0 unchanged\n");

    let nowhere = kubectl(plane, &["waybill", "explain", url, "--kubeconfig", file]);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
    let usage = kubectl(plane, &["waybill", "explain"]);
    let said = String::from_utf8_lossy(&usage.stderr);
    assert!(said.contains("Usage: kubectl waybill explain"), "{said}");

    let flags = ["--kubeconfig", file, "--context", "test"];
    let ask = |words: &[&str]| {
        printed(&kubectl(plane, &[&["__complete", "waybill", "explain"], &flags[..], words].concat()), 0)
    };
    let completed = ask(&["-n", &here, "http"]);
    assert!(completed.starts_with("http://here.example.com/"), "{completed}");
    let completed = printed(&kubectl(plane, &["__complete", "waybill", "expl"]), 0);
    assert!(completed.starts_with("explain\tShow which router"), "{completed}");
}

#[tokio::test]
async fn a_cluster_what_is_published_and_what_traefik_has_loaded_are_explained_and_compared() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "plain", "web")])).await;
    let mut operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let one_router = |document: &serde_json::Value| {
        document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 1)
    };
    plane.eventually_published("waybill/waybill", "the route is published", one_router).await;

    let explained = printed(&waybill(&plane, &["explain", "http://plain.example.com/x", "--cluster"]), 0);
    assert!(explained.contains("Ingress shop/plain") && explained.contains("10.1.0.1:8080"), "{explained}");
    let nobody = printed(&waybill(&plane, &["explain", "http://other.example.com/", "--cluster"]), 1);
    assert!(nobody.contains("No router serves it"), "{nobody}");

    let linted = printed(&waybill(&plane, &["lint", "--cluster", "-o", "json"]), 0);
    let linted: serde_json::Value = serde_json::from_str(&linted).unwrap();
    assert_eq!((&linted["ingresses"], &linted["errors"]), (&1.into(), &0.into()), "{linted}");

    let same = printed(&waybill(&plane, &["diff", "cluster:", "published:waybill/waybill"]), 0);
    assert_eq!(same, "0 lost, 0 gained, 0 changed, 1 unchanged\n");

    let api = free_port();
    let _traefik = traefik(&plane, api);
    let url = format!("traefik:http://127.0.0.1:{api}");
    eventually("Traefik has loaded the same", SOON, async || {
        let output = waybill(&plane, &["diff", &url, "published:waybill/waybill"]);
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await;

    // Nothing is published any more.
    operator.process.signal(Signal::KILL);
    operator.process.ended(SOON).await;
    plane.apply_objects(&[ingress("shop", "new", "web")]).await;
    let lost = waybill(&plane, &["diff", "cluster:", "published:waybill/waybill", "--fail-on", "lost"]);
    let lost = printed(&lost, 1);
    assert!(lost.contains("new.example.com/ and below") && lost.contains("1 lost, 0 gained"), "{lost}");
    let gained = waybill(&plane, &["diff", "published:waybill/waybill", "cluster:", "--fail-on", "lost"]);
    assert!(printed(&gained, 0).contains("0 lost, 1 gained"));

    let missing = waybill(&plane, &["diff", "cluster:", "published:waybill/other"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("waybill/other"), "{said}");
    let nobody = waybill(&plane, &["diff", "traefik:http://127.0.0.1:1", "cluster:"]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");
}

/// Objects that Traefik's own provider and waybill make different things of: the namespaces `a` and `a-b`.
fn with_differences() -> Vec<serde_json::Value> {
    let everywhere = |namespace: &str, name: &str, service: &str| {
        let mut ingress = ingress(namespace, name, service);
        ingress["spec"]["rules"][0].as_object_mut().unwrap().remove("host");
        ingress
    };
    let mut objects = vec![namespace("a"), namespace("a-b"), class()];
    for (namespace, name, address) in [
        ("a", "web", "10.1.0.1"),
        ("a", "b-c", "10.1.0.2"),
        ("a-b", "c", "10.1.0.3"),
        ("a-b", "app", "10.1.0.4"),
    ] {
        objects.extend([service(namespace, name), slice(namespace, name, address)]);
    }
    // One router `a-b-d` and one service `a-b-c-80` with Traefik.
    objects.extend([everywhere("a", "b-d", "web"), everywhere("a-b", "d", "app")]);
    objects.extend([ingress("a", "one", "b-c"), ingress("a-b", "two", "c")]);
    // One Secret, and one behind an entry that leads nowhere, of another type than the listed ones.
    let tls = "kubernetes.io/tls";
    objects.extend([secret("a", "b-s", tls, "one", "key"), secret("a-b", "s", tls, "two", "key")]);
    objects.extend([
        tls_ingress("a", "tls", "web", &["b-s", "gone", "opaque"]),
        tls_ingress("a-b", "tls-b", "app", &["s"]),
    ]);
    objects.push(secret("a", "opaque", "Opaque", "three", "key"));
    let mut large = ingress("a", "large", "web");
    // Traefik takes half a minute for as many middlewares.
    large["metadata"]["annotations"] = serde_json::json!({
        "traefik.ingress.kubernetes.io/router.tls": "true",
        "traefik.ingress.kubernetes.io/router.tls.domains.0.sans": vec!["m"; 70_000].join(","),
    });
    objects.push(large);
    objects
}

#[tokio::test]
async fn what_waybill_does_unlike_traefik_on_purpose_is_named() {
    let plane = ControlPlane::start().await;
    plane.apply_objects(&with_differences()).await;
    let api = free_port();
    let _traefik = traefik(&plane, api);
    let url = format!("traefik:http://127.0.0.1:{api}");
    let named = |output: &Output| -> Vec<String> {
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let all = ["differences", "certificates"].into_iter().filter_map(|key| value[key].as_array());
        let mut named: Vec<String> =
            all.flatten().map(|one| one["deliberate"].as_str().unwrap_or("no").to_owned()).collect();
        named.sort();
        named.dedup();
        named
    };
    let expected = [
        "Secrets whose namespace and name join to one",
        "Services whose names normalise to one",
        "a missing or bad Secret in `spec.tls`",
        "an entry of over 256 KiB",
        "routers of two Ingresses whose names normalise to one",
    ];
    eventually("the differences have names, and there are no others", SOON, async || {
        let output = waybill(&plane, &["diff", &url, "cluster:", "-o", "json", "--fail-on", "unexpected"]);
        if output.status.success() && named(&output) == expected {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    })
    .await;
}
