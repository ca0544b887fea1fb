//! Two classes, each with an output and a Traefik of its own.

use serde_json::{Value, json};

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::SOON;
use crate::load::Load;
use crate::objects::{annotated, certificate, service, simple, slice};
use crate::world::{Edge, World};

const TEAM: &str = "team-a";

/// An object of the team, and an Ingress of a class that is served without TLS.
fn of_team(mut object: Value) -> Value {
    object["metadata"]["namespace"] = TEAM.into();
    object
}

fn of_class(class: &str, object: Value) -> Value {
    let mut object = annotated(
        of_team(object),
        json!({"traefik.ingress.kubernetes.io/router.entrypoints": "web,websecure"}),
    );
    object["spec"]["ingressClassName"] = class.into();
    object
}

pub async fn an_ingress_moves_between_two_classes() {
    let world = World::start_with("manifests/examples/two-classes", &[]).await;
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}})];
    for (class, address) in [("public", "192.0.2.1"), ("internal", "192.0.2.2")] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "traefik", "namespace": format!("edge-{class}")},
            "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
        }));
    }
    world.apply(&objects).await;
    let public = Edge::start_for(&world, "public", "edge-public/public").await;
    let internal = Edge::start_for(&world, "internal", "edge-internal/internal").await;
    let _web = Backend::start("web", "10.99.1.1:8080").await;
    let (secret, _) = certificate(&world.plane, "moving", "moving.example");
    let moving = |class: &str| {
        let mut moving = of_class(class, simple("moving", "web"));
        moving["spec"]["tls"] = json!([{"secretName": "moving"}]);
        moving
    };
    world
        .apply(&[
            of_team(service("web")),
            of_team(slice("web", &["10.99.1.1"])),
            of_team(secret),
            of_class("public", simple("steady", "web")),
            of_class("internal", simple("inside", "web")),
            moving("public"),
        ])
        .await;
    let steady = [("steady.example/", "web"), ("inside.example/", "404")];
    public.answers(&steady).await;
    public.answers(&[("moving.example/", "web")]).await;
    internal
        .answers(&[("inside.example/", "web"), ("steady.example/", "404"), ("moving.example/", "404")])
        .await;

    let outside = Load::start(&public, "steady.example", |found| found == "web");
    let inside = Load::start(&internal, "inside.example", |found| found == "web");
    for (class, has, has_not, address) in [
        ("internal", &internal, &public, "192.0.2.2"),
        ("public", &public, &internal, "192.0.2.1"),
        ("internal", &internal, &public, "192.0.2.2"),
    ] {
        world.apply(&[moving(class)]).await;
        has.answers(&[("moving.example/", "web")]).await;
        has_not.answers(&[("moving.example/", "404")]).await;
        eventually("the status shows the class's address", SOON, async || {
            let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
            let found = world.plane.kubectl_ok(&["get", "ingress", "-n", TEAM, "moving", "-o", path]);
            if found == address { Ok(()) } else { Err(found) }
        })
        .await;
        let key = "BEGIN PRIVATE KEY";
        eventually("only its proxy has its private key", SOON, async || {
            match (has.on_disk().contains(key), has_not.on_disk().contains(key)) {
                (true, false) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    for load in [outside, inside] {
        assert!(load.end().await > 50);
    }
    // Neither agent may read what is the other's.
    for (account, namespace) in [("edge-public", "edge-internal"), ("edge-internal", "edge-public")] {
        for resource in ["secrets", "configmaps"] {
            let user = format!("system:serviceaccount:{account}:traefik");
            let answer =
                world.plane.kubectl(&["auth", "can-i", "get", resource, "-n", namespace, "--as", &user]);
            assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{user} {resource} {namespace}");
        }
    }
    world.assert_nothing_refused();
}
