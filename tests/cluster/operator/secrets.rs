//! Which Secrets are read, how much of them, and where their keys end up.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

use super::objects::{FAST, has_router, secret, shop_with, tls_ingress};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};

const OUTPUT: &str = "waybill/waybill";

/// In every private key of these tests.
const CANARY: &str = "Q0FOQVJZQ0FOQVJZ";

const TLS: &str = "kubernetes.io/tls";
const MISSING: &str = "waybill_problems{category=\"SecretNotFound\"}";

fn certificates(document: &Value) -> Vec<String> {
    let certificates = document["tls"]["certificates"].as_array().into_iter().flatten();
    certificates.map(|certificate| certificate["certFile"].as_str().unwrap().to_owned()).collect()
}

async fn published(plane: &ControlPlane, what: &str, wanted: &[&str]) {
    plane
        .eventually_published(OUTPUT, what, |document| {
            let found = certificates(document);
            found.len() == wanted.len()
                && wanted.iter().all(|text| found.iter().any(|certificate| certificate.contains(text)))
        })
        .await;
    let (_, document) = plane.published(OUTPUT).await.unwrap();
    assert_eq!(document, plane.rendered(&[]), "{what}");
}

#[tokio::test]
async fn only_what_is_named_is_read_and_keys_stay_in_key_secrets() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "shop");
    let mut helm = secret("shop", "helm", TLS, "aGVsbQ==", CANARY);
    helm["metadata"]["labels"] = json!({"owner": "helm"});
    plane
        .apply_objects(&shop_with([
            secret("shop", "tls", TLS, "dGxz", CANARY),
            secret("shop", "opaque", "Opaque", "b3BhcXVl", CANARY),
            secret("shop", "later", TLS, "bGF0ZXI=", CANARY),
            secret("shop", "later-opaque", "example.com/own", "b3du", CANARY),
            secret("shop", "nobody", "Opaque", "bm9ib2R5", CANARY),
            helm,
            tls_ingress("shop", "web", "web", &["tls", "opaque", "helm"]),
        ]))
        .await;
    let operator = plane.operator("only", &[FAST]).await;
    operator.leads().await;
    published(&plane, "both types are published", &["dGxz", "b3BhcXVl"]).await;
    operator.shows(MISSING, 1.0).await;

    // Named later: data that was dropped is fetched.
    plane.apply_objects(&[tls_ingress("shop", "more", "web", &["later", "later-opaque"])]).await;
    published(&plane, "what is named later", &["dGxz", "b3BhcXVl", "bGF0ZXI=", "b3du"]).await;

    // Changed.
    plane.apply_objects(&[secret("shop", "later-opaque", "example.com/own", "bmV3ZXI=", CANARY)]).await;
    published(&plane, "what changed", &["dGxz", "b3BhcXVl", "bGF0ZXI=", "bmV3ZXI="]).await;

    // Gone, and back.
    for (name, kind, text) in [("tls", TLS, "dGxz"), ("opaque", "Opaque", "b3BhcXVl")] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        let rest: Vec<&str> =
            ["dGxz", "b3BhcXVl", "bGF0ZXI=", "bmV3ZXI="].into_iter().filter(|other| *other != text).collect();
        published(&plane, &format!("{name} is gone"), &rest).await;
        operator.shows(MISSING, 2.0).await;
        plane.apply_objects(&[secret("shop", name, kind, text, CANARY)]).await;
        published(&plane, &format!("{name} is back"), &["dGxz", "b3BhcXVl", "bGF0ZXI=", "bmV3ZXI="]).await;
        operator.shows(MISSING, 1.0).await;
    }

    // No longer named, and the Secret changes meanwhile.
    plane.apply_objects(&[tls_ingress("shop", "more", "web", &["later"])]).await;
    published(&plane, "no longer named", &["dGxz", "b3BhcXVl", "bGF0ZXI="]).await;
    plane.apply_objects(&[secret("shop", "later-opaque", "example.com/own", "dGhpcmQ=", CANARY)]).await;
    plane.apply_objects(&[tls_ingress("shop", "more", "web", &["later", "later-opaque"])]).await;
    published(&plane, "named again", &["dGxz", "b3BhcXVl", "bGF0ZXI=", "dGhpcmQ="]).await;

    // Broken data costs that certificate alone.
    let mut broken = secret("shop", "later", TLS, "x", CANARY);
    broken["stringData"]["tls.crt"] = "/etc/shadow".into();
    plane.apply_objects(&[broken]).await;
    published(&plane, "broken", &["dGxz", "b3BhcXVl", "dGhpcmQ="]).await;
    operator.shows("waybill_problems{category=\"InvalidSecret\"}", 1.0).await;
    let (_, document) = plane.published(OUTPUT).await.unwrap();
    assert!(has_router(&document, "shop", "more"));

    // A Secret that was fetched when it was named cost no commit without it, and nobody was told that it is away.
    let events = plane.kubectl_ok(&["-n", "shop", "get", "events"]);
    assert!(!events.contains("SecretUnavailable"), "{events}");

    // How they were read.
    let requests = plane.requests_of("only");
    let mut fetched = Vec::new();
    let mut lists = 0;
    for request in requests.iter().filter(|event| event.object_ref.resource == "secrets" && !event.is_write())
    {
        if request.verb == "get" {
            fetched.push(request.object_ref.name.as_str());
            continue;
        }
        let uri = &request.uri;
        if request.object_ref.namespace == "waybill" {
            assert!(uri.contains("managed-by%3Dwaybill") || uri.contains("waybill.dev%2Foutput"), "{uri}");
            continue;
        }
        assert!(uri.contains("labelSelector=owner%21%3Dhelm"), "Helm's are not left out: {uri}");
        assert!(
            uri.contains("fieldSelector=type%3Dkubernetes.io%2Ftls")
                || uri.contains("fieldSelector=type%21%3Dkubernetes.io%2Ftls"),
            "all Secrets are asked for: {uri}"
        );
        lists += 1;
    }
    assert!(lists >= 2, "{lists}");
    fetched.sort_unstable();
    fetched.dedup();
    // `helm` is not known to be there, so it is not asked for; `nobody` is named by nobody.
    assert_eq!(fetched, ["later", "later-opaque", "opaque"]);

    // Where the keys are: in the Secrets of the tests and in key shards.
    let mut found = Vec::new();
    for kind in ["configmaps", "events", "ingresses", "ingressclasses", "leases", "services"] {
        let text = plane.kubectl_ok(&["get", kind, "-A", "-o", "json"]);
        found.extend(text.contains(CANARY).then_some(kind));
    }
    let metrics = operator.get("/metrics").await.unwrap().1;
    let rendered = plane.rendered(&[]).to_string();
    let log = operator.process.log();
    for (what, text) in [("metrics", metrics), ("render", rendered), ("log", log)] {
        found.extend(text.contains(CANARY).then_some(what));
    }
    assert!(found.is_empty(), "a private key is in {found:?}");
    let key_secrets: Api<Secret> = Api::namespaced(plane.admin(), "waybill");
    let holds = key_secrets.list(&Default::default()).await.unwrap().items.into_iter().filter(|secret| {
        let data = secret.data.iter().flatten();
        data.into_iter().any(|(_, value)| String::from_utf8_lossy(&value.0).contains(CANARY))
    });
    for secret in holds {
        assert_eq!(secret.metadata.labels.unwrap()["waybill.dev/part"], "keys");
        assert_eq!(secret.immutable, Some(true));
    }
    assert!(plane.parsed(OUTPUT).await.iter().any(|document| document["tls"].to_string().contains(CANARY)));
    plane.assert_nothing_refused();
}

/// A list and a watch of Secrets other than TLS must ask for metadata alone. The audit log does not show what was
/// accepted, but the size of what came over does: so they are made larger than the metadata of all others together.
#[tokio::test]
async fn other_secrets_come_as_metadata_alone() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let filler = "x".repeat(200_000);
    let large: Vec<Value> = (0..10)
        .map(|at| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": format!("large-{at}"), "namespace": "default"},
                "stringData": {"filler": filler},
            })
        })
        .collect();
    let params = kube::api::PostParams::default();
    let secrets: Api<Secret> = Api::namespaced(plane.admin(), "default");
    for object in large {
        secrets.create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let token = plane.service_account_token("waybill", "waybill").await;
    let token_file = plane.folder().join("token");
    std::fs::write(&token_file, token).unwrap();
    let proxy = crate::harness::StallingProxy::start(([127, 0, 0, 1], plane.port()).into()).await;
    let mut command = std::process::Command::new(crate::harness::operator::binary());
    command.args([
        "run".to_owned(),
        format!("--providers.kubernetesingress.endpoint={}", proxy.url()),
        format!("--providers.kubernetesingress.token={}", token_file.display()),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ]);
    command.env_clear();
    let operator = plane.operator_by("meter", command);
    operator.leads().await;
    eventually("all are known of", SOON, async || {
        let known = operator.metric("waybill_objects{kind=\"secret_metadata\"}").await;
        if known >= Some(10.0) { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
    let received = proxy.answered();
    println!("{received} bytes were answered, with 10 Secrets of 200 kB in the cluster");
    assert!(received < 1_000_000, "{received}");
}
