//! Traefik with the arguments that are shipped.

use std::time::Duration;

use serde_json::json;

use crate::client::{self, Backend};
use crate::load::Load;
use crate::objects::{annotated, ingress, path, service, simple, slice};
use crate::world::{Edge, World, document, strings};

/// Less than the shipped `requestAcceptGraceTimeout`.
const GOES_ON: Duration = Duration::from_secs(10);

/// The highest priority that Traefik accepts, 1,000 below that of the Go type.
const HIGHEST: &str = "9223372036854774807";

const RESTARTS: usize = 5;

/// What Traefik's own Helm chart (40 or newer) makes of `manifests/examples/traefik-chart/values.yaml`.
fn arguments_of_the_chart() -> Vec<String> {
    let own = [
        // Port 9100 there, whose place is taken by that of the other example here.
        "--entryPoints.metrics.address=:8082/tcp",
        "--entryPoints.web.address=:8000/tcp",
        "--entryPoints.websecure.address=:8443/tcp",
        "--api.dashboard=true",
        "--ping=true",
        "--metrics.prometheus=true",
        "--metrics.prometheus.entrypoint=metrics",
        "--entryPoints.websecure.http.tls=true",
        "--log.level=INFO",
    ];
    let values = document("manifests/examples/traefik-chart/values.yaml");
    assert_eq!(
        values["deployment"]["healthchecksPort"], 9100,
        "the chart's port of the entry point that pings"
    );
    assert!(values["ports"]["traefik"].is_null() && values["ports"].as_object().unwrap().len() == 1);
    own.map(str::to_owned).into_iter().chain(strings(&values["additionalArguments"])).collect()
}

/// Routers where the agent asks Traefik's API, as anyone may create them.
fn at_the_api() -> Vec<serde_json::Value> {
    let hostless = |name: &str, kind: &str, at: &str| ingress(name, "", &[path(kind, at, "web")]);
    let everywhere = |entry_points: &str, priority: &str| {
        json!({
            "traefik.ingress.kubernetes.io/router.entrypoints": entry_points,
            "traefik.ingress.kubernetes.io/router.priority": priority,
        })
    };
    vec![
        hostless("api", "Prefix", "/api"),
        hostless("version", "Exact", "/api/version"),
        annotated(hostless("named", "Prefix", "/api/http"), everywhere("traefik", HIGHEST)),
        annotated(hostless("all", "Prefix", "/"), everywhere("traefik,metrics", HIGHEST)),
        annotated(hostless("beyond", "Prefix", "/"), everywhere("traefik,metrics", "9223372036854775807")),
    ]
}

pub async fn neither_tenants_nor_rollouts_take_them_away() {
    let world = World::start(&[]).await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), simple("steady", "web")]).await;
    world.apply(&at_the_api()).await;
    let mut edge = Edge::start(&world, "edge").await;
    stays_ready(&world, &mut edge).await;
    let mut edge = Edge::prepared(&world, "chart").await;
    edge.arguments = arguments_of_the_chart();
    edge.start_agent(&world);
    edge.start_traefik(&world).await;
    stays_ready(&world, &mut edge).await;
    world.assert_nothing_refused();
}

async fn stays_ready(world: &World, edge: &mut Edge) {
    // Traefik adds routers in another order at each start.
    for _ in 0..RESTARTS {
        edge.restart_traefik(world);
        edge.answers(&[("any.example/api/version", "web"), ("steady.example/", "web")]).await;
        let version = edge.api("version").await;
        assert!(version["startDate"].is_string(), "{version}");
        for path in ["/ping", "/metrics"] {
            let answer = client::get(edge.metrics(), "any.example", path, &[]).await.unwrap();
            assert!(answer.status == 200 && answer.who() != "web", "{path}: {answer:?}");
        }
    }
    // The agent may not have noticed the last start yet, and only this process can load a new generation.
    let settled = format!("settled-{}", edge.name);
    world.apply(&[simple(&settled, "web")]).await;
    edge.answers(&[(format!("{settled}.example/").as_str(), "web")]).await;
    edge.loaded(world).await;
    edge.ready().await;

    // A rollout: requests go on to arrive, and are answered by the newest routing.
    let load = Load::start(edge, "steady.example", |found| found == "web");
    load.more(10).await;
    edge.terminate_traefik();
    let name = format!("late-{}", edge.name);
    world.apply(&[simple(&name, "web")]).await;
    let late = format!("{name}.example/");
    edge.answers(&[(late.as_str(), "web")]).await;
    let end = tokio::time::Instant::now() + GOES_ON;
    while tokio::time::Instant::now() < end {
        for answer in
            [client::get(edge.metrics(), "kubelet", "/ping", &[]).await, edge.probe("/readyz").await]
        {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(load.end().await > 50);
    edge.traefik_ends().await;
}
