//! `waybill show`: what is published, by somebody who only has a kubeconfig.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::operator::{binary, sort_certificates};
use crate::harness::{ControlPlane, NOBODY};
use crate::operator::objects::{FAST, ingress, secret, shop_with, tls_ingress};

fn show(plane: &ControlPlane, token: &str, arguments: &[&str]) -> Output {
    let kubeconfig = plane.folder().join("show.kubeconfig");
    std::fs::write(&kubeconfig, plane.kubeconfig(token)).unwrap();
    Command::new(binary())
        .arg("show")
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap()
}

fn shown(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(text: &str) -> Value {
    let mut document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    sort_certificates(&mut document);
    document
}

#[tokio::test]
async fn what_is_published_is_shown_without_keys_unless_asked_for() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let token = plane.service_account_token("waybill", "waybill").await;
    let nothing = refused(&show(&plane, &token, &[]));
    assert!(nothing.contains("waybill/waybill") && nothing.contains("no such index"), "{nothing}");

    plane
        .apply_objects(&shop_with([
            ingress("shop", "plain", "web"),
            secret("shop", "tls", "kubernetes.io/tls", "dGxz", "S0VZ"),
            tls_ingress("shop", "secure", "web", &["tls"]),
        ]))
        .await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let (index, published) = plane
        .eventually_published("waybill/waybill", "both are published", |document| {
            document["tls"]["certificates"].as_array().is_some_and(|certificates| certificates.len() == 1)
                && document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 2)
        })
        .await;

    let text = shown(&show(&plane, &token, &["-o", "json"]));
    assert_eq!(json(&text), published);
    assert!(!text.contains("S0VZ"), "a key is shown: {text}");
    let with_keys = shown(&show(&plane, &token, &["-o", "json", "--show-secrets"]));
    assert!(with_keys.contains("S0VZ"), "{with_keys}");
    let text = shown(&show(&plane, &token, &[]));
    let yaml: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(yaml["http"]["routers"], published["http"]["routers"]);
    let text = shown(&show(&plane, &token, &["-o", "index"]));
    assert_eq!(json(&text)["generation"], index.generation, "{text}");
    assert_eq!(shown(&show(&plane, &token, &["waybill/waybill", "-o", "index"])), text);

    // Others are named in full, and who may read nothing is told what.
    let other = refused(&show(&plane, &token, &["waybill/other"]));
    assert!(other.contains("waybill/other"), "{other}");
    let forbidden = refused(&show(&plane, NOBODY, &[]));
    assert!(forbidden.contains("waybill/waybill") && forbidden.contains("forbidden"), "{forbidden}");
}
