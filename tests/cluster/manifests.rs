//! What `kubectl kustomize` makes of the shipped manifests in an overlay of the user's.

use std::path::Path;
use std::process::Command;

use crate::harness;

/// The documents of an overlay that uses `manifests/` and says `lines` besides.
fn overlay(lines: &str) -> Vec<serde_json::Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir_in(root.join("target")).unwrap();
    let file = format!("resources: [../../manifests]\n{lines}\n");
    std::fs::write(folder.path().join("kustomization.yaml"), file).unwrap();
    let kubectl = harness::tools_folder().join("kubectl");
    let output = Command::new(kubectl).arg("kustomize").arg(folder.path()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    printed.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[test]
fn an_overlay_may_move_waybill_to_another_namespace() {
    let objects = overlay("namespace: edge\nnamePrefix: my-");
    let find = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let accounts = find("ServiceAccount");
    let [account] = accounts.as_slice() else { panic!("{accounts:#?}") };
    assert_eq!(account["metadata"]["namespace"], "edge");
    let bindings = [find("RoleBinding"), find("ClusterRoleBinding")].concat();
    assert!(bindings.len() >= 2, "{bindings:#?}");
    for binding in bindings {
        for subject in binding["subjects"].as_array().unwrap() {
            assert_eq!(subject["namespace"], "edge", "{binding:#}");
            assert_eq!(subject["name"], account["metadata"]["name"], "{binding:#}");
        }
    }
    let [namespace] = find("Namespace")[..] else { panic!("one Namespace") };
    assert_eq!(namespace["metadata"]["name"], "edge");
}
