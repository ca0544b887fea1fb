//! Secrets that are deleted and made again, or can't be read: their certificates stay for a while.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::objects::{FAST, ingress, secret, shop_with, tls_ingress};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";
const TLS: &str = "kubernetes.io/tls";
const STAYS: Duration = waybill::watch::STAYS;

fn certificates(document: &Value) -> Vec<String> {
    let certificates = document["tls"]["certificates"].as_array().into_iter().flatten();
    certificates.map(|one| one["certFile"].as_str().unwrap().to_owned()).collect()
}

fn has(document: &Value, texts: &[&str]) -> bool {
    let found = certificates(document);
    found.len() == texts.len() && texts.iter().all(|text| found.iter().any(|one| one.contains(text)))
}

async fn plane() -> ControlPlane {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", TLS, "dGxz", "QQ=="),
            secret("shop", "opaque", "Opaque", "b3BhcXVl", "QQ=="),
            tls_ingress("shop", "web", "web", &["tls", "opaque"]),
        ]))
        .await;
    plane
}

/// Waits until everything that was done before is published: an Ingress that came later is.
async fn marked(plane: &ControlPlane, name: &str) -> Value {
    plane.apply_objects(&[ingress("shop", name, "web")]).await;
    let router = super::objects::router("shop", name);
    let (_, document) = plane
        .eventually_published(OUTPUT, "the marker is published", |document| {
            document["http"]["routers"][&router].is_object()
        })
        .await;
    document
}

#[tokio::test]
async fn made_again_in_time_withdraws_nothing_and_gone_for_good_goes_in_time() {
    let plane = plane().await;
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "shop");
    let lease = ["leaseduration=3s", "renewdeadline=2s", "retryperiod=500ms"]
        .map(|one| format!("--operator.leaderelection.{one}"));
    let flags: Vec<&str> = lease.iter().map(String::as_str).chain([FAST]).collect();
    let mut first = plane.operator("first", &flags).await;
    first.leads().await;
    let both = ["dGxz", "b3BhcXVl"];
    plane.eventually_published(OUTPUT, "both are published", |document| has(document, &both)).await;

    // Deleted, and made again when the deletion has certainly been seen.
    for (name, kind, text) in [("tls", TLS, "dGxz"), ("opaque", "Opaque", "b3BhcXVl")] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        let document = marked(&plane, &format!("gone-{name}")).await;
        assert!(has(&document, &both), "{name} was withdrawn: {document:#}");
        plane.apply_objects(&[secret("shop", name, kind, text, "Qg==")]).await;
        let document = marked(&plane, &format!("back-{name}")).await;
        assert!(has(&document, &both), "{name} was withdrawn: {document:#}");
    }
    let events = plane.kubectl_ok(&["-n", "shop", "get", "events"]);
    assert!(!events.contains("SecretNotFound"), "{events}");
    // The new private key is what counts.
    eventually("both new keys are published", SOON, async || {
        let keys = plane.documents(OUTPUT).await.concat();
        match keys.matches("Qg==").count() {
            2 if !keys.contains("QQ==") => Ok(()),
            other => Err(other),
        }
    })
    .await;

    // Gone for good: after the time and no sooner; and a leader that goes in between changes nothing.
    let second = plane.operator("second", &flags).await;
    second.ready().await;
    second.shows("waybill_objects{kind=\"tls_secrets\"}", 1.0).await;
    secrets.delete("tls", &DeleteParams::default()).await.unwrap();
    let deleted = Instant::now();
    // Looked at all the time, so that a withdrawal that comes too soon is seen when it comes.
    let withdrawn = async {
        plane.eventually_published(OUTPUT, "it is gone", |document| has(document, &["b3BhcXVl"])).await;
        deleted.elapsed()
    };
    let taken_over = async {
        second.shows("waybill_objects{kind=\"tls_secrets\"}", 0.0).await;
        first.process.signal(Signal::TERM);
        assert!(first.process.ended(SOON).await.success(), "{}", first.process.log_tail());
        second.leads().await;
        marked(&plane, "third").await;
    };
    let (took, ()) = tokio::join!(withdrawn, taken_over);
    println!("withdrawn {took:.2?} after the deletion");
    assert!(took >= STAYS - Duration::from_millis(500) && took < STAYS + Duration::from_secs(5), "{took:?}");
    second.shows("waybill_problems{category=\"SecretNotFound\"}", 1.0).await;
    let log = second.process.log();
    assert!(!log.contains("panicked"), "{log}");
    plane.assert_nothing_refused();
}

/// A Secret that changes and can't be read keeps its last certificate, through other changes as well, and is read as
/// soon as it can be.
#[tokio::test]
async fn one_that_cannot_be_read_keeps_its_last_certificate() {
    let plane = plane().await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let both = ["dGxz", "b3BhcXVl"];
    plane.eventually_published(OUTPUT, "both are published", |document| has(document, &both)).await;

    let roles: Api<ClusterRole> = Api::all(plane.admin());
    let whole = roles.get("waybill").await.unwrap();
    let mut without = whole.clone();
    for rule in without.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|resource| resource == "secrets") {
            rule.verbs.retain(|verb| verb != "get");
        }
    }
    let rules = |role: &ClusterRole| Patch::Merge(json!({"rules": role.rules}));
    roles.patch("waybill", &PatchParams::default(), &rules(&without)).await.unwrap();
    plane.may_no_longer("get", "secrets", "shop").await;
    plane.apply_objects(&[secret("shop", "opaque", "Opaque", "bmV3", "QQ==")]).await;
    operator.shows("waybill_problems{category=\"SecretUnavailable\"}", 1.0).await;
    let document = marked(&plane, "while").await;
    assert!(has(&document, &both), "{document:#}");
    roles.patch("waybill", &PatchParams::default(), &rules(&whole)).await.unwrap();
    plane.eventually_published(OUTPUT, "the new one", |document| has(document, &["dGxz", "bmV3"])).await;
    operator.shows("waybill_problems{category=\"SecretUnavailable\"}", 0.0).await;
}
