//! Each request reaches the backend that the objects say.

use serde_json::json;

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::SOON;
use crate::objects::{annotated, certificate, ingress, path, service, simple, slice};
use crate::world::{Edge, World};

/// The promises of the Ingress API, and what Services can be.
pub async fn every_request_reaches_its_backend() {
    let world = World::start(&[]).await;
    let edge = Edge::start(&world, "edge").await;
    let mut backends = Vec::new();
    let mut objects = Vec::new();
    let names = ["root", "exact", "prefix", "deep", "slash", "trailing", "wild", "sub", "any", "fallback"];
    for (at, name) in names.into_iter().enumerate() {
        let address = format!("10.99.1.{}", at + 1);
        backends.push(Backend::start(name, &format!("{address}:8080")).await);
        objects.extend([service(name), slice(name, &[&address])]);
    }
    backends.push(Backend::start("six", "[fd99::6]:8080").await);
    objects.extend([service("six"), slice("six", &["fd99::6"]), simple("six", "six")]);
    // One that Traefik reaches by its ClusterIP, with no endpoint at all.
    backends.push(Backend::start("native", "10.96.0.77:80").await);
    let mut native =
        annotated(service("native"), json!({"traefik.ingress.kubernetes.io/service.nativelb": "true"}));
    native["spec"]["clusterIP"] = "10.96.0.77".into();
    let mut external = service("external");
    external["spec"] = json!({"type": "ExternalName", "externalName": "127.0.0.1",
        "ports": [{"name": "web", "port": 8080}]});
    backends.push(Backend::start("local", "127.0.0.1:8080").await);
    for (at, name) in ["sticky-a", "sticky-b"].into_iter().enumerate() {
        backends.push(Backend::start(name, &format!("10.99.3.{}:8080", at + 1)).await);
    }
    let sticky = annotated(
        service("sticky"),
        json!({"traefik.ingress.kubernetes.io/service.sticky.cookie": "true",
            "traefik.ingress.kubernetes.io/service.sticky.cookie.name": "crumb"}),
    );
    let mut fallback = ingress("fallback", "", &[]);
    fallback["spec"] = json!({
        "ingressClassName": "traefik",
        "defaultBackend": {"service": {"name": "fallback", "port": {"name": "web"}}},
    });
    objects.extend([
        native,
        simple("native", "native"),
        external,
        simple("external", "external"),
        sticky,
        slice("sticky", &["10.99.3.1", "10.99.3.2"]),
        simple("sticky", "sticky"),
        ingress(
            "paths",
            "paths.example",
            &[
                path("Prefix", "/", "root"),
                path("Exact", "/foo", "exact"),
                path("Prefix", "/foo", "prefix"),
                path("Prefix", "/aaa/bbb", "deep"),
                path("Exact", "/bar/", "slash"),
                path("Prefix", "/trailing/", "trailing"),
                path("Prefix", "/gone", "missing"),
            ],
        ),
        ingress("wild", "*.wild.example", &[path("Prefix", "/", "wild")]),
        ingress("sub", "sub.wild.example", &[path("Exact", "/only", "sub")]),
        ingress("any", "", &[path("Prefix", "/any", "any")]),
        fallback,
    ]);
    world.apply(&objects).await;
    edge.answers(&[
        ("paths.example/", "root"),
        ("paths.example/else", "root"),
        ("paths.example/foo", "exact"),
        ("paths.example/foo/", "prefix"),
        ("paths.example/foo/bar", "prefix"),
        ("paths.example/foobar", "root"),
        ("paths.example/FOO", "root"),
        ("paths.example/aaa/bbb", "deep"),
        ("paths.example/aaa/bbb/ccc", "deep"),
        ("paths.example/aaa/bbbccc", "root"),
        ("paths.example/bar/", "slash"),
        ("paths.example/bar", "root"),
        ("paths.example/trailing", "trailing"),
        ("paths.example/trailing/more", "trailing"),
        ("paths.example/trailingmore", "root"),
        ("paths.example/gone/", "503"),
        ("PATHS.example/foo", "exact"),
        ("paths.example:8080/foo", "exact"),
        ("one.wild.example/", "wild"),
        ("two.one.wild.example/", "fallback"),
        ("sub.wild.example/only", "sub"),
        ("sub.wild.example/other", "wild"),
        ("elsewhere.test/any", "any"),
        ("elsewhere.test/", "fallback"),
        ("six.example/", "six"),
        ("native.example/", "native"),
        ("external.example/", "local"),
    ])
    .await;

    // A cookie leads back to the server that set it.
    let first = edge.get("sticky.example/").await.unwrap();
    let cookie = first.headers["set-cookie"].split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("crumb="), "{cookie}");
    for _ in 0..10 {
        let again = edge.get_with("sticky.example/", &[("Cookie", &cookie)]).await.unwrap();
        assert_eq!(again.who(), first.who());
    }
    world.assert_nothing_refused();
}

pub async fn each_host_has_its_own_certificate() {
    let world = World::start(&[]).await;
    let edge = Edge::start(&world, "edge").await;
    let mut backends = Vec::new();
    let mut trusted = Vec::new();
    for (at, name) in ["first", "second"].into_iter().enumerate() {
        let address = format!("10.99.1.{}", at + 1);
        backends.push(Backend::start(name, &format!("{address}:8080")).await);
        let (secret, file) = certificate(&world.plane, name, &format!("{name}.example"));
        let mut ingress = simple(name, name);
        ingress["spec"]["tls"] = json!([{"secretName": name}]);
        world.apply(&[service(name), slice(name, &[&address]), secret, ingress]).await;
        trusted.push(file);
    }
    for (name, trusted) in [("first", &trusted[0]), ("second", &trusted[1])] {
        eventually(&format!("{name} is served with TLS"), SOON, async || {
            let found = edge.get_with_tls(&format!("{name}.example"), trusted)?.who();
            if found == name { Ok(()) } else { Err(found) }
        })
        .await;
    }
    let refused = edge.get_with_tls("first.example", &trusted[1]).unwrap_err();
    assert!(refused.contains("verify error"), "{refused}");
    let (secret, renewed) = certificate(&world.plane, "first", "first.example");
    world.apply(&[secret]).await;
    eventually("the renewed certificate is served", SOON, async || {
        edge.get_with_tls("first.example", &renewed)
    })
    .await;
    world.assert_nothing_refused();
}
