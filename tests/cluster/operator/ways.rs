//! The three ways to the API server, and an API server that is away.

use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::objects::{FAST, has_router, ingress, shop_with};
use crate::harness::operator::{SOON, binary};
use crate::harness::{ControlPlane, Part, eventually, skip};

const OUTPUT: &str = "waybill/waybill";

/// Longer than a watch's backoff.
const AFTER_A_WHILE: Duration = Duration::from_secs(60);

async fn shop(plane: &ControlPlane) {
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "first", "web")])).await;
}

async fn publishes(plane: &ControlPlane, name: &str) {
    let what = format!("{name} is published");
    eventually(&what, AFTER_A_WHILE, async || match plane.published(OUTPUT).await {
        Some((_, document)) if has_router(&document, "shop", name) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// A token that is good only while a Secret is there.
async fn revocable_token(plane: &ControlPlane, secret: &Secret) -> String {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(3600),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: secret.metadata.name.clone(),
                uid: secret.uid(),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.admin(), "waybill");
    accounts
        .create_token_request("waybill", &PostParams::default(), &request)
        .await
        .unwrap()
        .status
        .unwrap()
        .token
}

/// Whether this system lets us make a mount namespace.
fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn in_a_cluster_with_the_files_of_the_service_account_as_they_rotate() {
    if !can_unshare() {
        skip("`unshare -rm` does not work here, so there is no mount namespace to try it in");
        return;
    }
    let plane = ControlPlane::start().await;
    shop(&plane).await;
    let bound: Secret =
        serde_json::from_value(json!({"metadata": {"name": "bound", "namespace": "waybill"}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "waybill");
    let bound = secrets.create(&PostParams::default(), &bound).await.unwrap();

    let files = plane.folder().join("serviceaccount");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("token"), revocable_token(&plane, &bound).await).unwrap();
    std::fs::write(files.join("namespace"), "waybill").unwrap();
    std::fs::copy(plane.ca_file(), files.join("ca.crt")).unwrap();
    // Over /run, to which /var/run leads, a fresh file system that only this process sees.
    let script = r#"
set -e
at=$(realpath /var/run)
mkdir -p "$at"
mount -t tmpfs tmpfs "$at"
mkdir -p "$at/secrets/kubernetes.io/serviceaccount"
mount --bind "$1" "$at/secrets/kubernetes.io/serviceaccount"
shift
exec "$@"
"#;
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(&files)
        .arg(binary())
        .args(["run", FAST])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", plane.port().to_string());
    let operator = plane.operator_by("pod", command);
    operator.leads().await;
    publishes(&plane, "first").await;

    // The token is replaced as kubelet does it, and the old one revoked.
    let next = plane.service_account_token("waybill", "waybill").await;
    std::fs::write(files.join("..new"), next).unwrap();
    std::fs::rename(files.join("..new"), files.join("token")).unwrap();
    secrets.delete("bound", &DeleteParams::default()).await.unwrap();
    eventually("the old token was refused once", AFTER_A_WHILE, async || {
        let refused = operator.sum("rest_client_requests_total{code=\"401\"").await;
        if refused > 0.0 { Ok(()) } else { Err("not yet") }
    })
    .await;
    plane.apply_objects(&[ingress("shop", "second", "web")]).await;
    publishes(&plane, "second").await;
    operator.leads().await;
    assert_eq!(operator.metric("waybill_leases_lost_total").await, Some(0.0));
    plane.assert_nothing_refused();
}

#[tokio::test]
async fn by_kubeconfig_and_through_a_restart_of_the_api_server() {
    let plane = ControlPlane::start().await;
    shop(&plane).await;
    let token = plane.service_account_token("waybill", "waybill").await;
    let kubeconfig = plane.folder().join("operator.kubeconfig");
    std::fs::write(&kubeconfig, plane.kubeconfig(&token)).unwrap();
    let start = || {
        let mut command = Command::new(binary());
        command.args(["run", FAST, "--providers.kubernetesingress.endpoint=https://192.0.2.1:1"]);
        command.env_clear().env("KUBECONFIG", &kubeconfig);
        command
    };

    // The API server is away at the start: it is waited for.
    plane.kill(Part::ApiServer);
    let mut operator = plane.operator_by("patient", start());
    eventually("it says that the API server is away", SOON, async || {
        let log = operator.process.log();
        if log.contains("WARN") && log.contains("refused") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(
        operator.process.log().contains("is ignored, since KUBECONFIG is set"),
        "{}",
        operator.process.log()
    );
    assert_eq!(operator.get("/livez").await.unwrap().0, 200, "an API server that is away is no reason");
    assert!(operator.process.exited().is_none());
    plane.revive(Part::ApiServer).await;
    operator.leads().await;
    publishes(&plane, "first").await;
    let log = operator.process.log();
    let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("refused")).count();
    println!("{warned} lines while the API server was away:\n{log}");
    assert!(warned <= 3, "it is told once a while, not once a watch:\n{log}");

    // An API server that has just started refuses what it has not read the roles for yet, so 403 means nothing here.
    // It is restarted while the operator leads: nothing is withdrawn, and changes arrive afterwards.
    let before = plane.published(OUTPUT).await.unwrap();
    plane.kill(Part::ApiServer);
    eventually("the operator has noticed", AFTER_A_WHILE, async || {
        let failed = operator.sum("waybill_watch_errors_total").await
            + operator.sum("rest_client_requests_total{code=\"<error>\"").await;
        if failed > 0.0 { Ok(()) } else { Err("not yet") }
    })
    .await;
    plane.revive(Part::ApiServer).await;
    assert_eq!(plane.published(OUTPUT).await.unwrap().1, before.1);
    plane.apply_objects(&[ingress("shop", "second", "web")]).await;
    publishes(&plane, "second").await;
}
