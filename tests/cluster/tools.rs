//! `waybill explain` and `waybill diff` over a live cluster, beside a real Traefik.

use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::operator::binary;
use crate::harness::{ADMIN, ControlPlane, Process, Signal, eventually, free_port, tool};
use crate::operator::objects::{FAST, ingress, shop_with};

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
