//! `waybill render` calls those Ingresses invalid that an API server refuses, and no others.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use kube::api::{Api, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use waybill::cli::{self, Streams};
use waybill::kubernetes::client::Environment;

use crate::harness::ControlPlane;

/// The Ingresses of all golden cases: case, namespace, name, object.
fn ingresses() -> Vec<(String, String, String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = Vec::new();
    for case in fs::read_dir(root).unwrap() {
        let case = case.unwrap();
        let text = fs::read_to_string(case.path().join("input.yaml")).unwrap();
        for document in text.split("\n---\n") {
            let Ok(object) = serde_saphyr::from_str::<Value>(document) else { continue };
            if object["kind"] == "Ingress" && object["apiVersion"] == "networking.k8s.io/v1" {
                let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
                let namespace = Some(of("namespace")).filter(|text| !text.is_empty());
                let name = case.file_name().into_string().unwrap();
                found.push((name, namespace.unwrap_or_else(|| "default".to_owned()), of("name"), object));
            }
        }
    }
    found
}

/// Why `render` calls it invalid.
fn invalid(object: &Value) -> Vec<String> {
    let arguments = ["waybill", "render", "-f", "-"].map(OsString::from);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let input = object.to_string();
    let mut streams = Streams { stdin: &mut input.as_bytes(), stdout: &mut stdout, stderr: &mut stderr };
    let nowhere = Environment { variables: [].into(), service_account: "/not/there".into(), context: None };
    cli::run(arguments, &nowhere, &mut streams);
    let said = String::from_utf8(stderr).unwrap();
    let lines =
        said.lines().filter(|line| line.starts_with("InvalidObject: ") || line.starts_with("error: "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn render_calls_invalid_what_an_api_server_refuses() {
    let plane = ControlPlane::start().await;
    let ingresses = ingresses();
    let namespaces: BTreeSet<&str> = ingresses.iter().map(|(_, namespace, ..)| namespace.as_str()).collect();
    for namespace in namespaces.into_iter().filter(|namespace| *namespace != "default") {
        let made = plane.kubectl(&["create", "namespace", namespace]);
        assert!(made.status.success(), "{namespace}: {}", String::from_utf8_lossy(&made.stderr));
    }
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.k8s.io", "v1", "Ingress"));
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let (mut refused, mut differences) = (0, Vec::new());
    for (case, namespace, name, mut object) in ingresses {
        object["metadata"]["creationTimestamp"] = json!(null);
        let api: Api<DynamicObject> = Api::namespaced_with(plane.admin(), &namespace, &kind);
        let said = invalid(&object);
        let typed: DynamicObject = serde_json::from_value(object).unwrap();
        let answer = api.create(&dry_run, &typed).await;
        refused += usize::from(answer.is_err());
        match answer {
            Ok(_) if said.is_empty() => {}
            Err(_) if !said.is_empty() => {}
            Ok(_) => differences.push(format!("{case}: {namespace}/{name}: taken, but {said:?}")),
            Err(error) => differences.push(format!("{case}: {namespace}/{name}: refused: {error}")),
        }
    }
    assert!(refused > 10, "only {refused} golden Ingresses are refused");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
