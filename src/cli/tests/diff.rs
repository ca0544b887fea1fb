//! `waybill diff`: every directory below `tests/diff/` is a case.
//!
//! `a` and `b` are the sources: `a.yaml` holds manifests, `a.traefik.json` what a Traefik's API answers. `arguments` holds
//! further arguments, a line each; `why` says which rule the case holds. `expected.txt` is standard output, standard error
//! and the exit code, `expected.json` what `-o json` prints; both are written from the rules.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use super::*;

const CASES: &str = "tests/diff";

/// A Traefik's API with these answers; gives its source.
fn traefik(answers: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("traefik:http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let lines = BufReader::new(&connection).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().trim_start_matches("/api/");
            let body = answers[path].to_string();
            let length = body.len();
            write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    source
}

/// What `waybill diff` says of a case.
fn case(name: &str, more: &[&str]) -> Outcome {
    let folder = format!("{CASES}/{name}");
    let source = |side: &str| match fs::read_to_string(format!("{folder}/{side}.traefik.json")) {
        Ok(text) => traefik(serde_json::from_str(&text).unwrap()),
        Err(_) => format!("{folder}/{side}.yaml"),
    };
    let (before, after) = (source("a"), source("b"));
    let arguments = fs::read_to_string(format!("{folder}/arguments")).unwrap_or_default();
    let mut all = vec!["diff", &before, &after];
    all.extend(arguments.lines());
    all.extend(more);
    waybill(&all, "")
}

#[test]
fn golden_cases() {
    let mut names: Vec<String> =
        fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 33, "{names:?}");
    let mut failures = Vec::new();
    let mut named: BTreeSet<String> = BTreeSet::new();
    for name in &names {
        let path = |file: &str| format!("{CASES}/{name}/{file}");
        let why = fs::read_to_string(path("why")).unwrap_or_default();
        assert!(!why.trim().is_empty(), "{name} does not say why it is there");
        let text = case(name, &[]);
        let json = case(name, &["-o", "json"]);
        assert_eq!((text.code, &text.stderr), (json.code, &json.stderr), "{name}");
        let printed = format!("{}{}exit {}\n", text.stdout, text.stderr, text.code);
        for (file, printed) in [("expected.txt", &printed), ("expected.json", &json.stdout)] {
            if fs::read_to_string(path(file)).unwrap_or_default() != *printed {
                failures.push(format!("--- {}:\n{printed}", path(file)));
            }
        }
        let outcome: Value = serde_json::from_str(&json.stdout).unwrap();
        let all = [&outcome["differences"], &outcome["certificates"]].into_iter().filter_map(Value::as_array);
        named.extend(all.flatten().filter_map(|one| one["deliberate"].as_str().map(str::to_owned)));
    }
    assert!(failures.is_empty(), "{} files differ:\n{}", failures.len(), failures.join("\n"));

    // Every deliberate difference has a case, but for those that no comparison meets, and one that takes a large input.
    let guide = fs::read_to_string("docs/migration.md").unwrap();
    let table = guide.split("## Deliberate differences").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let subjects: BTreeSet<String> =
        rows.filter(|row| *row != "subject" && *row != "---").map(str::to_owned).collect();
    let others = [
        "a service that no router uses",
        "a status that is right but for its ports",
        "nodes of `service.nodeportlb`",
        TOO_LARGE,
    ];
    named.extend(others.map(str::to_owned));
    assert_eq!(named, subjects);
}

const TOO_LARGE: &str = "an entry of over 256 KiB";

#[test]
fn what_waybill_leaves_out_for_its_size_is_lost_on_purpose() {
    let router = |path: usize, middlewares: usize| {
        serde_json::json!({
            "entryPoints": ["web"], "service": "shop-web-80", "rule": format!("PathPrefix(`/{path}`)"),
            "middlewares": vec!["m"; middlewares],
            "observability": {"metadata": {"ingress": {"namespace": "shop", "ingressName": "web"}}},
        })
    };
    let diff = |routers: Value| {
        let source = traefik(serde_json::json!({
            "rawdata": {"routers": routers, "services": {}},
            "entrypoints": [{"name": "web", "address": ":80"}],
        }));
        let outcome = waybill(&["diff", &source, "-", "-o", "json"], SHOP);
        let value: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let lost = value["differences"].as_array().unwrap().iter().filter(|one| one["change"] == "lost");
        lost.map(|one| one["deliberate"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        diff(serde_json::json!({"a@kubernetes": router(1, 10), "b@kubernetes": router(2, 70_000)})),
        ["", TOO_LARGE]
    );
    // One entry is small, and together they are above the limit of an Ingress.
    let many: serde_json::Map<String, Value> =
        (0..100).map(|at| (format!("r{at}@kubernetes"), router(at, 2_000))).collect();
    assert_eq!(diff(many.into()), vec![TOO_LARGE; 100]);
}

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
