//! Every odd object that the API server accepts, all at once: each costs only itself.

use serde_json::{Value, json};

use super::objects::{
    ADDRESS, FAST, class, has_router, ingress, namespace, secret, service, slice, tls_ingress,
};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};

const OUTPUT: &str = "waybill/waybill";
/// A private key that somebody pasted into a wrong place.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nhush-hush\n-----END PRIVATE KEY-----";
const PREFIX: &str = "traefik.ingress.kubernetes.io";

/// The longest name of an Ingress, a Secret or a slice.
fn long_name() -> String {
    format!("{}{}", format!("{}.", "a".repeat(62)).repeat(4), "z")
}

fn annotated(name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = ingress("odd", name, "web");
    for (key, value) in annotations {
        object["metadata"]["annotations"][format!("{PREFIX}/{key}")] = (*value).into();
    }
    object
}

fn with_paths(name: &str, paths: &[String]) -> Value {
    let mut object = ingress("odd", name, "web");
    let path = object["spec"]["rules"][0]["http"]["paths"][0].clone();
    let paths = paths.iter().map(|text| {
        let mut path = path.clone();
        path["path"] = text.as_str().into();
        path["pathType"] = "ImplementationSpecific".into();
        path
    });
    object["spec"]["rules"][0]["http"]["paths"] = paths.collect();
    object
}

fn with_spec(name: &str, spec: Value) -> Value {
    let mut object = ingress("odd", name, "web");
    object["spec"] = spec;
    object["spec"]["ingressClassName"] = "traefik".into();
    object
}

fn odd_ingresses() -> Vec<Value> {
    let huge = "x,".repeat(120_000);
    let control: String = (1..0x20u8).chain([0x7f]).map(char::from).collect();
    let mut hosts = ingress("odd", "hosts", "web");
    hosts["spec"]["rules"] =
        (0..200).map(|at| json!({"host": format!("*.{}h{at}.example.com", "d".repeat(50))})).collect();
    vec![
        annotated("huge", &[("router.middlewares", &huge)]),
        annotated("huge-unknown", &[("router.unheard-of", &"y".repeat(200_000))]),
        annotated("control", &[("router.middlewares", &control), ("router.entrypoints", "\u{0}web\u{fffe}\u{ffff}")]),
        annotated("template", &[("router.middlewares", "{{ env \"HOME\" }}@file"), ("router.tls.options", "{{`x`}}@file"), ("router.tls", "true")]),
        annotated("key", &[("router.priority", KEY), ("router.tls", KEY), ("router.entrypoints", KEY)]),
        annotated("key-unknown", &[("router.unheard-of", KEY)]),
        annotated("numbers", &[("router.priority", "99999999999999999999999999")]),
        with_paths("paths", &(0..1_000).map(|at| format!("/p{at}")).collect::<Vec<_>>()),
        with_paths(
            "control-paths",
            &[
                format!("/a{control}b"),
                "/\u{80}\u{9f}\u{fffe}\u{ffff}\u{1f600}".to_owned(),
                "/{{ .Env }}{{`{{`}}{%".to_owned(),
                "/`\") || Host(`evil.example.com`) || Path(\"".to_owned(),
                format!("/{}", "l".repeat(100_000)),
                "/\\\"'\r\n---\nhttp: {}".to_owned(),
            ],
        ),
        with_spec("default-only", json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})),
        with_spec("resource", json!({"defaultBackend": {"resource": {"kind": "Bucket", "name": "b", "apiGroup": "x.example.com"}}})),
        with_spec("no-http", json!({"rules": [{"host": "no-http.example.com"}, {}]})),
        with_spec("tls-odd", json!({"defaultBackend": {"service": {"name": "web", "port": {"name": "none"}}}, "tls": [{}, {"hosts": ["a.example.com"]}, {"secretName": "broken"}, {"secretName": "missing"}]})),
        hosts,
        ingress("odd", &long_name(), "web"),
        ingress("odd", "bare", "bare"),
        ingress("odd", "headless", "headless"),
        ingress("odd", "outside", "outside"),
        ingress("odd", "odd-slices", "odd-slices"),
        ingress("odd", "port-name", "port-name"),
        tls_ingress("odd", "binary", "web", &["binary"]),
    ]
    .into_iter()
    // A name of 253 characters gives a host that is too long.
    .map(|mut object| {
        if object["metadata"]["name"].as_str().unwrap().len() > 200 {
            object["spec"]["rules"][0]["host"] = "long.example.com".into();
        }
        object
    })
    .collect()
}

fn odd_others() -> Vec<Value> {
    let mut bare = service("odd", "bare");
    bare["spec"] = json!({"clusterIP": "None"});
    let mut headless = service("odd", "headless");
    headless["spec"]["clusterIP"] = "None".into();
    headless["metadata"]["annotations"] = json!({
        format!("{PREFIX}/service.nativelb"): "true", format!("{PREFIX}/service.sticky.cookie"): "\u{1}",
    });
    let outside = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside", "namespace": "odd"},
        "spec": {"type": "ExternalName", "externalName": "outside.example.com"},
    });
    let mut named = service("odd", "port-name");
    named["spec"]["ports"] = json!([
        {"name": "a", "port": 80, "protocol": "UDP"}, {"name": "b", "port": 80, "targetPort": "no-such-name"},
    ]);
    let odd_slice = |name: &str, change: Value| {
        let mut object = slice("odd", "odd-slices", "10.1.0.9");
        object["metadata"]["name"] = name.into();
        for (key, value) in change.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let mut orphan = slice("odd", "nobody", "10.1.0.10");
    orphan["metadata"].as_object_mut().unwrap().remove("labels");
    let mut binary = secret("odd", "binary", "kubernetes.io/tls", "x", "x");
    binary.as_object_mut().unwrap().remove("stringData");
    binary["data"] = json!({"tls.crt": "//79AAE=", "tls.key": ""});
    vec![
        bare,
        headless,
        outside,
        named,
        service("odd", "odd-slices"),
        odd_slice("null", json!({"endpoints": null, "ports": null})),
        odd_slice("empty", json!({"endpoints": [], "ports": []})),
        odd_slice("no-ports", json!({"ports": []})),
        odd_slice("port-without-number", json!({"ports": [{"name": ""}]})),
        odd_slice("fqdn", json!({"addressType": "FQDN", "endpoints": [{"addresses": ["pod.example.com"]}]})),
        odd_slice("six", json!({"addressType": "IPv6", "endpoints": [{"addresses": ["2001:db8::1"]}]})),
        odd_slice(
            "conditions",
            json!({"endpoints": [
                {"addresses": ["10.1.0.11"], "conditions": {}},
                {"addresses": ["10.1.0.12"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            ]}),
        ),
        odd_slice(&long_name(), json!({"endpoints": [{"addresses": ["10.1.0.13"], "hostname": "h"}]})),
        orphan,
        secret("odd", "broken", "kubernetes.io/tls", "", ""),
        binary,
    ]
}

#[tokio::test]
async fn one_odd_object_costs_only_itself() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane
        .apply_objects(&[
            namespace("odd"),
            namespace("shop"),
            class(),
            service("odd", "web"),
            slice("odd", "web", "10.1.0.1"),
            service("shop", "web"),
            slice("shop", "web", "10.1.0.1"),
            secret("shop", "tls", "kubernetes.io/tls", "QQ==", "QQ=="),
            tls_ingress("shop", "web", "web", &["tls"]),
        ])
        .await;
    let mut operator = plane.operator("only", &[FAST, ADDRESS]).await;
    operator.leads().await;
    plane
        .eventually_published(OUTPUT, "the good one is there", |document| has_router(document, "shop", "web"))
        .await;

    // Each by itself, so that what the API server refuses is known to be the test's fault.
    let mut refused = Vec::new();
    for object in odd_others().into_iter().chain(odd_ingresses()) {
        let path = plane.folder().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        let output = plane.kubectl(&["create", "--validate=false", "-f", &path.display().to_string()]);
        if !output.status.success() {
            refused.push(format!(
                "{} {}: {}",
                object["kind"],
                object["metadata"]["name"],
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));

    // What the API server holds is what is published, and still so after a good change.
    plane.apply_objects(&[ingress("shop", "later", "web")]).await;
    let wanted = plane.rendered(&[]);
    assert!(has_router(&wanted, "shop", "web") && has_router(&wanted, "shop", "later"));
    let (index, document) =
        plane.eventually_published(OUTPUT, "all is published", |document| *document == wanted).await;
    assert!(index.counts.routers > 1_000, "{:?}", index.counts);
    assert_eq!(
        urls_of(&document, "odd-odd-slices-80"),
        [
            "http://10.1.0.11:8080",
            "http://10.1.0.13:8080",
            "http://[2001:db8::1]:8080",
            "http://pod.example.com:8080"
        ]
    );
    // Traefik takes every document of it, and finds the same in it.
    let parsed = plane.parsed(OUTPUT).await;
    let routers: usize = parsed
        .iter()
        .filter_map(|part| part["http"]["routers"].as_object())
        .map(|routers| routers.len())
        .sum();
    assert_eq!(routers, index.counts.routers);
    for part in &parsed {
        for (key, router) in part["http"]["routers"].as_object().into_iter().flatten() {
            assert_eq!(router["rule"], document["http"]["routers"][key]["rule"], "{key}");
        }
    }

    // Its status is written, and so are Events, whatever is in the others.
    eventually("all statuses are written", SOON, async || {
        let pending = operator.metric("waybill_statuses_pending").await;
        let text = plane.kubectl_ok(&["get", "ingresses", "-A", "--no-headers"]);
        let without: Vec<_> = text.lines().filter(|line| !line.contains("192.0.2.1")).collect();
        if pending == Some(0.0) && without.is_empty() {
            Ok(())
        } else {
            Err(format!("{pending:?} {without:?}"))
        }
    })
    .await;
    eventually("every object with a problem has its Event", SOON, async || {
        let text =
            plane.kubectl_ok(&["-n", "odd", "get", "events", "-o", "custom-columns=N:.involvedObject.name"]);
        let lacking: Vec<_> = [
            "huge",
            "huge-unknown",
            "key",
            "key-unknown",
            "numbers",
            "resource",
            "tls-odd",
            "headless",
            "outside",
            "binary",
        ]
        .into_iter()
        .filter(|name| !text.lines().any(|line| line.trim() == *name))
        .collect();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(format!("{lacking:?}\n{text}\n{}", operator.process.log_tail()))
        }
    })
    .await;
    assert_eq!(
        operator.sum("waybill_events_total{result=\"failed\"}").await,
        0.0,
        "{}",
        operator.process.log_tail()
    );
    assert_eq!(operator.get("/livez").await.unwrap().0, 200);
    assert!(operator.process.exited().is_none());
    let log = operator.process.log();
    assert!(!log.contains("panicked"), "{log}");
    let events = plane.kubectl_ok(&["-n", "odd", "get", "events", "-o", "json"]);
    let metrics = operator.get("/metrics").await.unwrap().1;
    for (text, whose) in [(&log, "log"), (&events, "Events"), (&metrics, "metrics")] {
        assert!(!text.contains("hush-hush"), "the {whose} show a key:\n{text}");
    }
    assert!(log.contains("(not shown)"), "{log}");
    plane.assert_nothing_refused();
}

fn urls_of(document: &Value, service: &str) -> Vec<String> {
    let servers = document["http"]["services"][service]["loadBalancer"]["servers"].as_array();
    let mut urls: Vec<_> =
        servers.into_iter().flatten().map(|server| server["url"].as_str().unwrap().to_owned()).collect();
    urls.sort();
    urls
}
