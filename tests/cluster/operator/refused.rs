//! The API server refuses a shard: the last commit stays whole, and it is said everywhere that somebody looks.

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::objects::{FAST, has_router, ingress, shop_with, with_paths};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};

const OUTPUT: &str = "waybill/waybill";

/// An Ingress that needs several shards.
fn many() -> Value {
    with_paths(ingress("shop", "many", "web"), 800)
}

/// No controller counts here, so the test says what is used.
pub async fn full(plane: &ControlPlane) -> Api<ResourceQuota> {
    let quotas: Api<ResourceQuota> = Api::namespaced(plane.admin(), "waybill");
    let hard = json!({"count/configmaps": "1"});
    let quota =
        serde_json::from_value(json!({"metadata": {"name": "tight"}, "spec": {"hard": hard}})).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let status = Patch::Merge(json!({"status": {"hard": hard, "used": hard}}));
    quotas.patch_status("tight", &PatchParams::default(), &status).await.unwrap();
    quotas
}

#[tokio::test]
async fn a_refused_shard_leaves_the_last_commit_and_says_so() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "plain", "web")])).await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    let plain = |document: &Value| has_router(document, "shop", "plain");
    let (before, document) = plane.eventually_published(OUTPUT, "it is published", plain).await;

    for (refused, category) in [("quota", "quota_exceeded"), ("policy", "invalid")] {
        let quotas = if refused == "quota" { Some(full(&plane).await) } else { None };
        if quotas.is_none() {
            plane.apply(POLICY).await;
            eventually("the policy is in force", SOON, async || {
                let probe = plane.kubectl(&[
                    "-n",
                    "waybill",
                    "create",
                    "configmap",
                    "waybill.r-probe",
                    "--dry-run=server",
                ]);
                if probe.status.success() { Err("it is taken") } else { Ok(()) }
            })
            .await;
        }
        plane.apply_objects(&[many()]).await;
        let error = format!("waybill_publish_error{{category=\"{category}\"}}");
        operator.shows(&error, 1.0).await;
        operator.shows("waybill_problems{category=\"PublishRefused\"}", 1.0).await;
        eventually("an Event on the index says so", SOON, async || {
            let text = plane.kubectl_ok(&["-n", "waybill", "describe", "configmap", "waybill"]);
            if text.contains("PublishRefused") { Ok(()) } else { Err(text) }
        })
        .await;
        let log = operator.process.log();
        assert!(log.contains("not published; trying again"), "{log}");
        let (index, held) = plane.published(OUTPUT).await.unwrap();
        assert_eq!((index.hash, held), (before.hash.clone(), document.clone()), "{refused}");

        match quotas {
            Some(quotas) => drop(quotas.delete("tight", &DeleteParams::default()).await.unwrap()),
            None => drop(plane.kubectl_ok(&[
                "delete",
                "validatingadmissionpolicybinding,validatingadmissionpolicy",
                "no-shards",
            ])),
        }
        plane
            .eventually_published(OUTPUT, "it is made good", |document| {
                document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 801)
            })
            .await;
        operator.shows(&error, 0.0).await;
        operator.shows("waybill_problems{category=\"PublishRefused\"}", 0.0).await;
        plane.kubectl_ok(&["-n", "shop", "delete", "ingress", "many"]);
        plane
            .eventually_published(OUTPUT, "it is small again", |document| {
                document["http"]["routers"].as_object().is_some_and(|routers| routers.len() == 1)
            })
            .await;
        // Shards of before must not make the next ones unneeded.
        plane.kubectl_ok(&["-n", "waybill", "delete", "configmap", "-l", "waybill.dev/part=routing"]);
    }
}

const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-shards}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  validations:
    - {expression: "!object.metadata.name.startsWith('waybill.r-')", message: no shards today}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-shards}
spec: {policyName: no-shards, validationActions: [Deny]}
"#;
