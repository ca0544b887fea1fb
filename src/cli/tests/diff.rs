//! `waybill diff`.

use std::process::Command;

use super::*;

fn write(folder: &std::path::Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn routes_are_compared_by_what_they_serve_and_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let before = write(folder.path(), "a.yaml", SHOP);
    let renamed =
        SHOP.replace("{name: web, namespace: shop, labels: {tier: front}}", "{name: other, namespace: shop}");
    assert_ne!(renamed, SHOP);
    let same = waybill(&["diff", &before, &write(folder.path(), "b.yaml", &renamed)], "");
    assert_eq!((same.code, same.stdout.as_str()), (SUCCESS, "0 lost, 0 gained, 0 changed, 1 unchanged\n"));

    let moved = SHOP.replace("path: /,", "path: /cart,");
    let outcome = waybill(&["diff", &before, "-"], &moved);
    assert_eq!(outcome.code, PROBLEMS);
    assert_eq!(
        outcome.stdout,
        "lost     shop.example/ and below\n         Ingress shop/web → Service shop/web, port 80\n\
         gained   shop.example/cart and below\n         Ingress shop/web → Service shop/web, port 80\n\
         \n1 lost, 1 gained, 0 changed, 0 unchanged\n"
    );
    let fewer = SHOP.replace("tls: [{secretName: tls}]", "").replace("10.0.0.1", "10.0.0.2");
    let outcome = waybill(&["diff", &before, "-", "-o", "json", "--fail-on", "lost"], &fewer);
    assert_eq!(outcome.code, SUCCESS);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let fields = value["differences"][0]["fields"].as_array().unwrap();
    assert!(fields.iter().any(|field| field["field"] == "endpoints"
        && field["before"] == "http://10.0.0.1:8080"
        && field["after"] == "http://10.0.0.2:8080"));
}

#[test]
fn bad_sources_are_wrong_usage() {
    for arguments in [
        ["diff", "-", "-"],
        ["diff", "/not/there", "-"],
        ["diff", "git:--output=x:y", "-"],
        ["diff", "published:waybill", "-"],
    ] {
        assert_eq!(waybill(&arguments, SHOP).code, USAGE, "{arguments:?}");
    }
}

#[test]
fn a_revision_of_git_is_read_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args([
                "-C",
                folder.path().to_str().unwrap(),
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@a.example",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    std::fs::create_dir(folder.path().join("deploy")).unwrap();
    write(folder.path(), "deploy/shop.yaml", SHOP);
    write(folder.path(), "deploy/README.md", "no manifest");
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let manifests = super::super::git::read(folder.path(), "HEAD:deploy").unwrap();
    assert_eq!((manifests.ingresses.len(), manifests.slices.len()), (1, 1));
    assert_eq!(
        super::super::git::read(folder.path(), "HEAD:deploy/shop.yaml").unwrap().len(),
        manifests.len()
    );
    for wrong in ["HEAD:gone", "--help:x", "-h", "HEAD:deploy/README.md/x"] {
        assert!(super::super::git::read(folder.path(), wrong).is_err(), "{wrong}");
    }
}
