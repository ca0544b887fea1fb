//! The promises of the Ingress API, one by one, as its reference and its documentation state them: each has a host of
//! its own and is asked through agent and Traefik. The class has `precedence: Spec`.

use serde_json::json;

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::SOON;
use crate::objects::{certificate, ingress, path, service, simple, slice};
use crate::world::{Edge, World};

/// No backend: a 404, or the default backend where there is one.
const NONE: &str = "none";

/// What it promises, the paths of an Ingress with their types, and what answers requests.
type PathRule = (
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

/// Backends are called `a`, `b` and `c`.
const PATH_RULES: &[PathRule] = &[
    ("prefix-of-everything", &[("Prefix", "/", "a")], &[("/", "a"), ("/any", "a"), ("/any/deep/", "a")]),
    (
        "exact",
        &[("Exact", "/foo", "a")],
        &[("/foo", "a"), ("/bar", NONE), ("/foo/", NONE), ("/foo//", NONE), ("/foo/bar", NONE)],
    ),
    ("exact-is-case-sensitive", &[("Exact", "/foo", "a")], &[("/FOO", NONE), ("/Foo", NONE)]),
    ("exact-with-slash", &[("Exact", "/foo/", "a")], &[("/foo/", "a"), ("/foo", NONE)]),
    (
        "prefix",
        &[("Prefix", "/foo", "a")],
        &[
            ("/foo", "a"),
            ("/foo/", "a"),
            ("/foo//", "a"),
            ("/foo/bar", "a"),
            ("/foo//bar", "a"),
            ("/foobar//", NONE),
            ("/", NONE),
        ],
    ),
    ("prefix-is-case-sensitive", &[("Prefix", "/foo", "a")], &[("/FOO", NONE), ("/FOO/bar", NONE)]),
    ("prefix-with-slash", &[("Prefix", "/foo/", "a")], &[("/foo", "a"), ("/foo/", "a"), ("/foo/bar", "a")]),
    ("prefix-by-elements", &[("Prefix", "/aaa/bb", "a")], &[("/aaa/bbb", NONE), ("/aaa/bb", "a")]),
    (
        "prefix-deep",
        &[("Prefix", "/aaa/bbb", "a")],
        &[
            ("/aaa/bbb", "a"),
            ("/aaa/bbb/", "a"),
            ("/aaa/bbb/ccc", "a"),
            ("/aaa/bbbxyz", NONE),
            ("/aaa", NONE),
        ],
    ),
    ("prefix-deep-with-slash", &[("Prefix", "/aaa/bbb/", "a")], &[("/aaa/bbb", "a"), ("/aaa/bbb/c", "a")]),
    ("longest-of-two", &[("Prefix", "/", "a"), ("Prefix", "/aaa", "b")], &[("/aaa/ccc", "b"), ("/ccc", "a")]),
    (
        "longest-of-three",
        &[("Prefix", "/", "a"), ("Prefix", "/aaa", "b"), ("Prefix", "/aaa/bbb", "c")],
        &[("/aaa/bbb", "c"), ("/aaa/bbb/x", "c"), ("/aaa/bbbb", "b"), ("/ccc", "a")],
    ),
    ("no-path-matches", &[("Prefix", "/aaa", "a")], &[("/ccc", NONE)]),
    (
        "exact-before-prefix",
        &[("Prefix", "/foo", "a"), ("Exact", "/foo", "b")],
        &[("/foo", "b"), ("/foo/", "a")],
    ),
    (
        "longest-exact-or-prefix",
        &[("Prefix", "/a/b/c", "a"), ("Exact", "/a/b", "b"), ("Prefix", "/a", "c")],
        &[("/a/b", "b"), ("/a/b/c", "a"), ("/a/b/x", "c"), ("/a/", "c")],
    ),
    ("queries-are-no-part", &[("Exact", "/foo", "a")], &[("/foo?x=/bar", "a"), ("/bar?x=/foo", NONE)]),
];

/// A host of an Ingress, its backend, and hosts that are asked with what answers.
type HostRule = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const HOST_RULES: &[HostRule] = &[
    (
        "foo.hosts.example",
        "a",
        &[
            ("foo.hosts.example", "a"),
            ("FOO.Hosts.Example", "a"),
            ("foo.hosts.example:8080", "a"),
            ("bar.hosts.example", NONE),
            ("foo.hosts.example.org", NONE),
            ("hosts.example", NONE),
        ],
    ),
    (
        "*.wild.example",
        "b",
        &[
            ("bar.wild.example", "b"),
            ("BAR.wild.example", "b"),
            ("baz.bar.wild.example", NONE),
            ("wild.example", NONE),
        ],
    ),
    // A host that is written out goes before a wildcard.
    ("exact.wild.example", "c", &[("exact.wild.example", "c"), ("other.wild.example", "b")]),
];

/// Where Traefik decides before any rule, and differently from the letter of the API; docs/migration.md says so.
const LIMITS: &[(&str, &str)] = &[
    // Slashes that follow each other are one.
    ("exact-with-slash.example/foo//", "a"),
    ("prefix.example//foo", "a"),
    // A wildcard stands for an empty label too.
    (".wild.example/", "b"),
];

pub async fn every_rule_of_the_ingress_api_holds() {
    let world = World::start(&[]).await;
    let edge = Edge::start(&world, "edge").await;
    let mut backends = Vec::new();
    let mut objects = Vec::new();
    for (at, name) in ["a", "b", "c", "fallback", "first", "second", "third"].into_iter().enumerate() {
        let address = format!("10.99.1.{}", at + 1);
        backends.push(Backend::start(name, &format!("{address}:8080")).await);
        objects.extend([service(name), slice(name, &[&address])]);
    }
    let mut table: Vec<(String, &str)> = Vec::new();
    for (name, paths, requests) in PATH_RULES {
        let paths: Vec<_> = paths.iter().map(|(kind, at, backend)| path(kind, at, backend)).collect();
        objects.push(ingress(name, &format!("{name}.example"), &paths));
        table.extend(requests.iter().map(|(path, backend)| (format!("{name}.example{path}"), *backend)));
    }
    for (at, (host, backend, requests)) in HOST_RULES.iter().enumerate() {
        objects.push(ingress(&format!("host-{at}"), host, &[path("Prefix", "/", backend)]));
        table.extend(requests.iter().map(|(host, backend)| (format!("{host}/"), *backend)));
    }
    table.extend(LIMITS.iter().map(|(url, backend)| ((*url).to_owned(), *backend)));
    // A rule without a host is for every host. One of a host goes before it, even with a shorter path.
    objects.push(ingress("every-host", "", &[path("Prefix", "/every/host", "a")]));
    objects.push(ingress("own-host", "own.example", &[path("Prefix", "/every", "b")]));
    table.extend([
        ("anything.test/every/host".to_owned(), "a"),
        ("own.example/every/host".to_owned(), "b"),
        ("own.example/else".to_owned(), NONE),
    ]);
    // Two Ingresses share a host.
    objects.push(ingress("shared-1", "shared.example", &[path("Prefix", "/one", "a")]));
    objects.push(ingress("shared-2", "shared.example", &[path("Prefix", "/two", "b")]));
    table.extend([("shared.example/one".to_owned(), "a"), ("shared.example/two".to_owned(), "b")]);
    // One of a class that nobody has is not served.
    let mut other_class = simple("other-class", "a");
    other_class["spec"]["ingressClassName"] = "nobody".into();
    objects.push(other_class);
    table.push(("other-class.example/".to_owned(), NONE));
    // One of no class is the default class's.
    let mut no_class = simple("no-class", "b");
    no_class["spec"].as_object_mut().unwrap().remove("ingressClassName");
    objects.push(no_class);
    table.push(("no-class.example/".to_owned(), "b"));
    // Requests are spread over all endpoints.
    objects.extend([
        service("many"),
        slice("many", &["10.99.1.5", "10.99.1.6", "10.99.1.7"]),
        simple("many", "many"),
    ]);
    world.apply(&objects).await;
    holds(&edge, &table, "404").await;

    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    eventually("the endpoints answer", SOON, async || match edge.get("many.example/").await? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    for _ in 0..90 {
        *counts.entry(edge.get("many.example/").await.unwrap().who()).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| (20..=40).contains(count)), "{counts:?}");

    // What no rule matches goes to the default backend, whatever its host and path.
    let mut fallback = ingress("fallback", "", &[]);
    fallback["spec"] = json!({
        "ingressClassName": "traefik",
        "defaultBackend": {"service": {"name": "fallback", "port": {"name": "web"}}},
    });
    world.apply(&[fallback]).await;
    edge.answers(&[("nobody.test/at/all", "fallback")]).await;
    holds(&edge, &table, "fallback").await;

    // TLS by host: each with the certificate of its own Ingress, a wildcard's for one label.
    let mut hosts = Vec::new();
    for (name, host) in [("tls-exact", "tls.example"), ("tls-wild", "*.tls.example")] {
        let (secret, trusted) = certificate(&world.plane, name, host);
        let mut one = ingress(name, host, &[path("Prefix", "/", "c")]);
        one["spec"]["tls"] = json!([{"hosts": [host], "secretName": name}]);
        world.apply(&[secret, one]).await;
        hosts.push((host.replace('*', "one"), trusted));
    }
    for (host, trusted) in &hosts {
        eventually(&format!("{host} is served with its certificate"), SOON, async || {
            let found = edge.get_with_tls(host, trusted)?.who();
            if found == "c" { Ok(()) } else { Err(found) }
        })
        .await;
    }
    assert!(edge.get_with_tls(&hosts[0].0, &hosts[1].1).is_err(), "the other one's certificate");

    // Its address is in the status of what is served, and in none other.
    let address = "{.status.loadBalancer.ingress[*].ip}";
    let status = |name: &str| {
        world.plane.kubectl_ok(&["get", "ingress", "-n", "shop", name, "-o", &format!("jsonpath={address}")])
    };
    eventually("the address is in the status", SOON, async || {
        let found = status("exact");
        if found == "192.0.2.1" { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(status("other-class"), "");
    world.assert_nothing_refused();
}

/// Asks everything until all answers are right at once; shows all that are wrong otherwise.
async fn holds(edge: &Edge, table: &[(String, &str)], nobody: &str) {
    eventually("every rule holds", SOON, async || {
        let mut wrong = String::new();
        for (url, backend) in table {
            let wanted = if *backend == NONE { nobody } else { backend };
            let found = edge.get(url).await?.who();
            if found != wanted {
                wrong.push_str(&format!("\n{url} is answered by {found}, not by {wanted}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    })
    .await;
}
