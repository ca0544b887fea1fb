//! What one Ingress may cost: its annotations go into each of its routers and those of a Service into each of its ports,
//! so a little text could become a lot of routing. And what it may cost those who ask about the routing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use waybill::kubernetes::manifests::Manifests;
use waybill::options;
use waybill::routing::Routing;
use waybill::traefik::document::Keys;
use waybill::translate::INGRESS_LIMIT;
use waybill::translate::problem::{Category, Problem};

fn routing(objects: &[Value]) -> Routing {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut manifests = Manifests::default();
    manifests.add(&Arc::from("input.json"), list.to_string().as_bytes());
    assert!(manifests.faults.is_empty(), "{:?}", manifests.faults);
    waybill::offline::routing(manifests, &options::from_yaml_str("").unwrap().options)
}

/// Routers, services and bytes of the operator's output.
fn size(routing: &Routing) -> (usize, usize, usize) {
    let Some((_, output)) = routing.table().outputs().next() else { return (0, 0, 0) };
    let counts = output.counts();
    (counts.routers, counts.services, output.assembled(Keys::LeftOut).len())
}

fn class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    })
}

/// A Service with ports from 1 on and two endpoints.
fn service(name: &str, ports: usize, annotations: Value) -> [Value; 2] {
    let numbers = || 1..=ports;
    let of_service: Vec<Value> =
        numbers().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let of_slice: Vec<Value> =
        numbers().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": name, "annotations": annotations},
        "spec": {"ports": of_service},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop", "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4", "ports": of_slice,
        "endpoints": [{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"]}],
    });
    [service, slice]
}

/// An Ingress of so many paths; path `n` leads to port `port(n)` of Service `web`.
fn ingress(name: &str, paths: usize, annotations: Value, port: impl Fn(usize) -> usize) -> Value {
    let paths: Vec<Value> = (0..paths)
        .map(|at| {
            json!({
                "path": format!("/{at}"), "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": port(at)}}},
            })
        })
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": name, "annotations": annotations},
        "spec": {"ingressClassName": "traefik", "rules": [
            {"host": format!("{name}.shop.example"), "http": {"paths": paths}},
        ]},
    })
}

fn too_large(routing: &Routing) -> Vec<Problem> {
    let problems = routing.all_problems().into_iter();
    problems.filter(|problem| problem.category == Category::IngressTooLarge).collect()
}

fn middlewares(bytes: usize) -> Value {
    let one = format!("{}@file", "m".repeat(95));
    let list = vec![one; bytes / 100].join(",");
    json!({"traefik.ingress.kubernetes.io/router.middlewares": list})
}

#[test]
fn an_ingress_that_fills_an_object_with_paths_is_published_whole() {
    let mut objects = vec![class(), ingress("many", 10_000, json!({}), |at| at % 500 + 1)];
    objects.extend(service("web", 500, json!({})));
    let routing = routing(&objects);
    assert_eq!(too_large(&routing), []);
    let (routers, services, _) = size(&routing);
    assert_eq!((routers, services), (10_000, 500));
}

/// Short items take far more memory than text, so they are counted too.
#[test]
fn very_many_middlewares_cost_their_ingress_alone() {
    let many = json!({"traefik.ingress.kubernetes.io/router.middlewares": vec!["m@file"; 5_000].join(",")});
    let mut objects = vec![class(), ingress("many", 1, many, |_| 1), ingress("small", 2, json!({}), |_| 1)];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    assert_eq!(size(&routing).0, 2);
    let said: Vec<String> = routing.all_problems().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["EntryTooLarge", "/many", "metadata.annotations", "more than 4096 middlewares", "shorten"] {
        assert!(said[0].contains(part), "{part}: {}", said[0]);
    }
}

#[test]
fn annotations_that_each_path_multiplies_cost_their_ingress_its_last_paths() {
    let mut objects = vec![
        class(),
        ingress("wide", 5_000, middlewares(200_000), |_| 1),
        ingress("small", 2, json!({}), |_| 1),
    ];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    let (routers, services, bytes) = size(&routing);
    assert_eq!(services, 1);
    assert!((2 + 10..2 + 60).contains(&routers), "{routers} routers");
    assert!(bytes < INGRESS_LIMIT, "{bytes} bytes");
    let problems = too_large(&routing);
    assert_eq!(problems.len(), 1);
    let kept = routers - 2;
    assert_eq!(problems[0].subject.name, "wide");
    assert_eq!(problems[0].field, format!("spec.rules[0].http.paths[{kept}]"));
    assert_eq!(problems[0].value, format!("{} of 5000 paths left out, from this one on", 5_000 - kept));
}

#[test]
fn annotations_of_a_service_that_each_port_multiplies_do_too() {
    let mut objects = vec![class(), ingress("ports", 3_000, json!({}), |at| at + 1)];
    let cookie = json!({
        "traefik.ingress.kubernetes.io/service.sticky.cookie": "true",
        "traefik.ingress.kubernetes.io/service.sticky.cookie.name": "c".repeat(200_000),
    });
    objects.extend(service("web", 3_000, cookie));
    let routing = routing(&objects);
    let (routers, services, bytes) = size(&routing);
    assert_eq!(routers, services);
    assert!((10..60).contains(&routers), "{routers} routers");
    assert!(bytes < INGRESS_LIMIT, "{bytes} bytes");
    assert_eq!(too_large(&routing).len(), 1);
}

#[test]
fn what_is_too_large_for_an_entry_is_not_looked_at_for_each_of_thousands_of_paths() {
    // Six times as large as text, and so above the limit of a router.
    let braces =
        json!({"traefik.ingress.kubernetes.io/router.middlewares": format!("m{}@file", "{".repeat(250_000))});
    let mut objects = vec![class(), ingress("braces", 5_000, braces, |_| 1)];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    assert_eq!(size(&routing).0, 0);
    assert_eq!(too_large(&routing).len(), 1);
    let problems = routing.all_problems();
    assert!(problems.iter().any(|problem| problem.category == Category::EntryTooLarge), "{problems:?}");
}

#[test]
fn of_thousands_of_problems_of_one_ingress_a_thousand_are_reported() {
    let unknown = (0..4_000).map(|at| (format!("traefik.ingress.kubernetes.io/router.x{at}"), json!("")));
    let mut objects = vec![class(), ingress("wrong", 1, Value::Object(unknown.collect()), |_| 1)];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    assert_eq!(size(&routing).0, 0);
    let problems = routing.all_problems();
    assert_eq!(problems.len(), 1_000);
    let cut: Vec<&Problem> =
        problems.iter().filter(|problem| problem.remedy.contains("not reported")).collect();
    assert_eq!(cut.len(), 1);
    assert!(cut[0].remedy.ends_with("; 3000 more problems are not reported"), "{}", cut[0].remedy);
}

#[test]
fn thousands_of_annotations_in_two_spellings_count_once_each() {
    let main = |at: usize| format!("traefik.ingress.kubernetes.io/router.tls.domains.{at}.main");
    let domains = (0..2_000).flat_map(|at| {
        let early = main(at).replace("main", "MAIN");
        [(early, json!("early.example")), (main(at), json!(format!("{at}.example")))]
    });
    let mut objects = vec![class(), ingress("domains", 1, Value::Object(domains.collect()), |_| 1)];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    assert_eq!(routing.all_problems().len(), 0);
    let (_, output) = routing.table().outputs().next().unwrap();
    let document: Value = serde_json::from_str(&output.assembled(Keys::LeftOut)).unwrap();
    let (_, router) = document["http"]["routers"].as_object().unwrap().iter().next().unwrap();
    let domains = router["tls"]["domains"].as_array().unwrap();
    assert_eq!(domains.len(), 2_000);
    assert!(domains.contains(&json!({"main": "1999.example"})));
    assert!(domains.iter().all(|domain| domain["main"] != "early.example"));
}

#[test]
fn that_an_ingress_is_too_large_is_told_however_many_problems_it_has() {
    let mut wide = ingress("wide", 3_000, middlewares(200_000), |at| if at < 1_500 { 2 } else { 1 });
    wide["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap().iter_mut().take(1_500).for_each(
        |path| {
            path["backend"]["service"]["name"] = "missing".into();
        },
    );
    let mut objects = vec![class(), wide];
    objects.extend(service("web", 1, json!({})));
    let routing = routing(&objects);
    assert!(size(&routing).0 > 10);
    assert_eq!(routing.all_problems().len(), 1_000);
    assert_eq!(too_large(&routing).len(), 1);
}

/// What a command may take that would take hours and many GB if its work grew as the product of paths and endpoints.
const CPU_SECONDS: usize = 60;
const KIB_OF_MEMORY: usize = 3 << 19;

/// A file with objects.
fn input(name: &str, objects: &[Value]) -> String {
    let path = format!("{}/{name}.json", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).unwrap();
    path
}

/// Runs the program, which ends when it takes more; gives what it prints.
fn asked(name: &str, arguments: &[&str], objects: &[Value]) -> String {
    let input = input(name, objects);
    let limits = format!("ulimit -v {KIB_OF_MEMORY} && ulimit -t {CPU_SECONDS} && exec \"$@\"");
    let Output { status, stdout, stderr } = Command::new("sh")
        .args(["-c", &limits, "sh", env!("CARGO_BIN_EXE_waybill")])
        .args(arguments.iter().map(|one| if *one == "INPUT" { &input } else { *one }))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stderr);
    std::fs::remove_file(&input).unwrap();
    assert!(status.code().is_some_and(|code| code < 2), "{name}: {status}: {said}");
    String::from_utf8(stdout).unwrap()
}

/// An Ingress of patterns, for every host.
fn patterns(paths: impl Iterator<Item = String>) -> Vec<Value> {
    let annotations = json!({"traefik.ingress.kubernetes.io/router.pathmatcher": "PathRegexp"});
    let mut all = ingress("patterns", 0, annotations, |_| 1);
    let backend = json!({"service": {"name": "web", "port": {"number": 1}}});
    let path = |path| json!({"path": path, "pathType": "ImplementationSpecific", "backend": backend});
    all["spec"]["rules"] = json!([{"http": {"paths": paths.map(path).collect::<Vec<_>>()}}]);
    let mut objects = vec![class(), all, ingress("other", 1, json!({}), |_| 1)];
    objects.extend(service("web", 1, json!({})));
    objects
}

#[test]
fn patterns_that_grow_when_they_are_compiled_cost_those_who_ask_little() {
    for (name, objects) in [
        (
            "unicode",
            patterns((0..500).map(|at| format!("/\\pL{{{}}}a{at:04}", if at == 0 { 400 } else { 150 }))),
        ),
        // Each takes milliseconds to be read alone.
        ("case", patterns((0..10_000).map(|at| format!("/{at}(?i)[ -\u{10ffff}][ -\u{10ffff}]")))),
        ("long", patterns((0..70).map(|at| format!("/{at}(?i){}", "[ -\u{10ffff}]".repeat(2_000))))),
    ] {
        let found = asked(name, &["lint", "-f", "INPUT", "--severity", "error", "-o", "json"], &objects);
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["errors"], 0);
        let text = asked(name, &["explain", "http://other.shop.example/0", "-f", "INPUT"], &objects);
        for part in [
            "Router shop-other-other-shop-example-0 serves it",
            "cannot be evaluated here, because it is too expensive: PathRegexp(",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn explain_takes_each_path_of_an_ingress_once() {
    let mut objects = vec![class(), ingress("many", 8_000, json!({}), |_| 1)];
    objects.extend(service("web", 1, json!({})));
    let text = asked("paths", &["explain", "http://many.shop.example/12", "-f", "INPUT"], &objects);
    assert!(text.contains("spec.rules[0].http.paths[12]"), "{text}");
}

/// A Service with 6,000 endpoints.
fn wide_service() -> Vec<Value> {
    let [service, slice] = service("web", 1, json!({}));
    let slices = (0..6).map(|part| {
        let mut slice = slice.clone();
        slice["metadata"]["name"] = json!(format!("web-{part}"));
        let addresses = (0..1_000).map(|at| format!("10.{part}.{}.{}", at / 250, at % 250));
        slice["endpoints"] = addresses.map(|address| json!({"addresses": [address]})).collect();
        slice
    });
    std::iter::once(service).chain(slices).collect()
}

#[test]
fn explain_takes_each_endpoint_of_a_service_once() {
    let mut objects = vec![class(), ingress("many", 10_000, json!({}), |_| 1)];
    objects.extend(wide_service());
    for format in ["text", "json"] {
        let url = "http://many.shop.example/12";
        let name = format!("explain-{format}");
        let text = asked(&name, &["explain", url, "-f", "INPUT", "-o", format], &objects);
        assert!(text.contains("http://10.5.3.249:1"), "{} bytes", text.len());
        assert!(text.len() < 32 << 20, "{} bytes", text.len());
    }
}

#[test]
fn graph_and_diff_take_each_endpoint_of_a_service_once() {
    let mut objects = vec![class(), ingress("many", 10_000, json!({}), |_| 1)];
    objects.extend(wide_service());
    for (format, bytes) in [("svg", 128 << 20), ("dot", 8 << 20), ("json", 8 << 20)] {
        let name = format!("graph-{format}");
        let text = asked(&name, &["graph", "-f", "INPUT", "-o", format], &objects);
        assert!(text.contains("many.shop.example"));
        assert!(text.len() < bytes, "{format}: {} bytes", text.len());
    }
    let same = asked("diff-same", &["diff", "INPUT", "INPUT"], &objects);
    assert_eq!(same, "0 lost, 0 gained, 0 changed, 10000 unchanged\n");
    // Every endpoint is another one, as after a rollout, and the Service has a long cookie.
    let mut changed = objects.clone();
    for slice in &mut changed[3..] {
        for endpoint in slice["endpoints"].as_array_mut().unwrap() {
            let address = endpoint["addresses"][0].as_str().unwrap().replacen("10.", "11.", 1);
            endpoint["addresses"][0] = address.into();
        }
    }
    let cookie = json!({
        "traefik.ingress.kubernetes.io/service.sticky.cookie.name": "c".repeat(50_000),
    });
    changed[2]["metadata"]["annotations"] = cookie;
    let after = input("diff-after", &changed);
    let text = asked("diff", &["diff", "INPUT", &after], &objects);
    std::fs::remove_file(after).unwrap();
    assert!(text.ends_with("\n0 lost, 0 gained, 10000 changed, 0 unchanged\n"));
    assert!(text.contains(", 5990 more → http://11.0.0.0:1, "), "{}", &text[..2_000]);
    assert!(text.len() < 64 << 20, "{} bytes", text.len());
}
