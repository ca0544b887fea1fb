//! The user's own files beside the routing.

use std::time::Duration;

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::SOON;
use crate::objects::{annotated, service, simple, slice};
use crate::world::{Edge, World};

/// The agent gives Traefik 15 s to load before it takes something back.
const TAKES_BACK_WITHIN: Duration = Duration::from_secs(45);

/// Refused by the agent.
const WRONG: &str = "http: {middlewares: {tag: {}}}\n";

fn tag(edge: &Edge, field: &str, value: &str) {
    let text = format!("http: {{middlewares: {{tag: {{headers: {{{field}: {{x-tag: {value}}}}}}}}}}}\n");
    // As a mounted ConfigMap changes: in one step.
    let draft = edge.include.join("tag.draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, edge.include.join("tag.yaml")).unwrap();
}

async fn tagged(edge: &Edge, wanted: &str) {
    eventually(&format!("requests are tagged {wanted}"), SOON, async || {
        let answer = edge.get("included.example/").await?;
        let tag = answer.body.lines().find_map(|line| line.strip_prefix("x-tag: "));
        if tag == Some(wanted) { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

/// What `/readyz` says, while it stays ready.
async fn says(edge: &Edge, what: &str, within: Duration) {
    eventually(&format!("the agent reports {what:?}"), within, async || {
        let answer = edge.probe("/readyz").await?;
        if answer.status == 200 && answer.body.contains(what) { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

async fn is_well(edge: &Edge) {
    eventually("nothing is wrong with the files", SOON, async || {
        match edge.metric("waybill_agent_include_faults").await {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// A new agent knows nothing of what a file said before.
async fn stays_unready_until_the_files_are_right(world: &World) {
    let mut edge = Edge::prepared(world, "fresh").await;
    std::fs::write(edge.include.join("tag.yaml"), WRONG).unwrap();
    edge.start_agent(world);
    eventually("the routing is fetched", SOON, async || {
        match edge.metric("waybill_agent_fetched_shards_total").await {
            Some(count) if count > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    eventually("it is not ready, and says why", SOON, async || {
        let [startup, ready] = [edge.probe("/startupz").await?, edge.probe("/readyz").await?];
        let said = "tag.yaml: http.middlewares.tag: it is empty or not a map, which Traefik refuses; \
            nothing is handed to Traefik until it is fixed";
        match (startup.status, ready.status) {
            (503, 503) if startup.body.contains(said) && ready.body.contains(said) => Ok(()),
            other => Err(format!("{other:?}: {}", ready.body)),
        }
    })
    .await;
    assert_eq!(edge.on_disk(), "");
    tag(&edge, "customRequestHeaders", "fresh");
    edge.start_traefik(world).await;
    tagged(&edge, "fresh").await;
    is_well(&edge).await;
    edge.stop_agent().await;
}

pub async fn a_file_that_traefik_refuses_is_taken_back() {
    let world = World::start(&[]).await;
    let mut edge = Edge::start(&world, "edge").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    let included = annotated(
        simple("included", "web"),
        serde_json::json!({"traefik.ingress.kubernetes.io/router.middlewares": "tag@file"}),
    );
    tag(&edge, "customRequestHeaders", "first");
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), included]).await;
    tagged(&edge, "first").await;
    tag(&edge, "customRequestHeaders", "second");
    tagged(&edge, "second").await;

    // A section that can't be is refused by itself, and the file says what it said before.
    std::fs::write(edge.include.join("bad.yaml"), "http: {routers: {}}\n").unwrap();
    says(&edge, "bad.yaml: http.routers: it is empty", SOON).await;
    std::fs::remove_file(edge.include.join("bad.yaml")).unwrap();
    is_well(&edge).await;

    // The same with an agent that starts while a file is wrong: what is on disk is all that it knows.
    std::fs::write(edge.include.join("tag.yaml"), WRONG).unwrap();
    says(&edge, "tag.yaml: http.middlewares.tag: it is empty", SOON).await;
    edge.start_agent(&world);
    says(
        &edge,
        "it is empty or not a map, which Traefik refuses; the content that is on disk stays in \
        use",
        SOON,
    )
    .await;
    world.apply(&[simple("between", "web")]).await;
    edge.answers(&[("between.example/", "web")]).await;
    tagged(&edge, "second").await;
    stays_unready_until_the_files_are_right(&world).await;
    tag(&edge, "customRequestHeaders", "second");
    is_well(&edge).await;
    tagged(&edge, "second").await;

    // A field that only Traefik knows to be wrong: it refuses everything until the files are taken back.
    tag(&edge, "customRequestHaeders", "third");
    says(&edge, "Traefik did not load", TAKES_BACK_WITHIN).await;
    assert_eq!(edge.metric("waybill_agent_include_faults").await, Some(1.0));
    assert!(edge.agent_log().contains("Traefik did not load"), "it is logged");
    tagged(&edge, "second").await;
    world.apply(&[simple("after", "web")]).await;
    edge.answers(&[("after.example/", "web")]).await;
    tagged(&edge, "second").await;

    // The same with an agent that starts while the file is wrong.
    edge.start_agent(&world);
    says(&edge, "Traefik did not load", TAKES_BACK_WITHIN).await;
    tagged(&edge, "second").await;

    tag(&edge, "customRequestHeaders", "fourth");
    tagged(&edge, "fourth").await;
    is_well(&edge).await;

    // A router and a service with names of waybill's stay, and what waybill publishes is served all the same.
    let _guard = Backend::start("guard", "10.99.1.2:8080").await;
    let (_, published) = world.plane.published("waybill/waybill").await.unwrap();
    let first =
        |section: &str| published["http"][section].as_object().unwrap().keys().next().unwrap().clone();
    let (router, service) = (first("routers"), first("services"));
    let text = format!(
        "http: {{routers: {{{router}: {{rule: Host(`guard.example`), service: {service}}}}}, \
         services: {{{service}: {{loadBalancer: {{servers: [{{url: 'http://10.99.1.2:8080'}}]}}}}}}}}\n"
    );
    std::fs::write(edge.include.join("same.yaml"), text).unwrap();
    for (section, name) in [("routers", &router), ("services", &service)] {
        says(
            &edge,
            &format!("http.{section}.{name} of --include keeps its name; waybill's entry of that name"),
            SOON,
        )
        .await;
    }
    assert_eq!(edge.metric("waybill_agent_include_faults").await, Some(2.0));
    edge.answers(&[("guard.example/", "guard"), ("after.example/", "web"), ("included.example/", "web")])
        .await;
    std::fs::remove_file(edge.include.join("same.yaml")).unwrap();
    is_well(&edge).await;
    world.assert_nothing_refused();
}
