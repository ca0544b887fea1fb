//! Whatever dies or is away, what is loaded stays, and everything arrives afterwards.

use std::time::{Duration, Instant};

use crate::client::Backend;
use crate::harness::operator::SOON;
use crate::harness::{Part, eventually};
use crate::load::Load;
use crate::objects::{service, simple, slice};
use crate::world::{Edge, World};

/// The others take over sooner than with the times as shipped.
const LEASE: &[&str] = &[
    "--operator.leaderelection.leaseduration=5s",
    "--operator.leaderelection.renewdeadline=3s",
    "--operator.leaderelection.retryperiod=1s",
];

/// For how long the API server is away.
fn outage() -> Duration {
    let seconds = std::env::var("WAYBILL_E2E_OUTAGE").map_or(5, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

pub async fn whatever_dies_what_is_loaded_stays() {
    let mut world = World::start(LEASE).await;
    let mut edge = Edge::start(&world, "edge").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), simple("steady", "web")]).await;
    edge.answers(&[("steady.example/", "web")]).await;

    let steady = Load::start(&edge, "steady.example", |found| found == "web");
    // The agent dies, and something changes before it is back.
    edge.kill_agent();
    world.apply(&[simple("one", "web")]).await;
    steady.more(20).await;
    edge.start_agent(&world);
    edge.answers(&[("one.example/", "web")]).await;
    edge.ready().await;

    // The leader dies; the other one takes over.
    world.operators.remove(0);
    world.apply(&[simple("two", "web")]).await;
    edge.answers(&[("two.example/", "web")]).await;
    world.start_operator("three", LEASE).await;

    // The API server dies, the agent is started anew meanwhile.
    world.plane.kill(Part::ApiServer);
    edge.start_agent(&world);
    eventually("the agent serves what is on disk", SOON, async || {
        let answer = edge.probe("/readyz").await?;
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    let away = Instant::now();
    while away.elapsed() < outage() {
        steady.more(20).await;
    }
    world.plane.revive(Part::ApiServer).await;
    world.apply(&[simple("three", "web")]).await;
    edge.answers(&[("three.example/", "web")]).await;
    assert!(steady.end().await > 100);

    // Traefik starts anew: not ready before it has loaded everything.
    edge.restart_traefik(&world);
    edge.ready().await;
    edge.answers(&[("steady.example/", "web"), ("three.example/", "web")]).await;

    // So fast that it answers whenever it is asked, and it refuses what is on disk because of somebody else's file.
    let stranger = edge.folder.join("dynamic/stranger.yaml");
    std::fs::write(&stranger, "http: {routers: {a: {nonsense: 1}}}").unwrap();
    edge.restart_traefik(&world);
    eventually("the agent says that Traefik refuses the files", SOON, async || {
        let answer = edge.probe("/readyz").await?;
        let said = answer.status == 503 && answer.body.contains("does not load the files");
        let loaded = edge.metric("waybill_agent_loaded_generation").await;
        if said && loaded == Some(0.0) { Ok(()) } else { Err(format!("{loaded:?}: {answer:?}")) }
    })
    .await;
    std::fs::remove_file(&stranger).unwrap();
    edge.ready().await;
    edge.answers(&[("steady.example/", "web"), ("three.example/", "web")]).await;

    // All of them at once.
    world.operators.clear();
    world.plane.kill(Part::ApiServer);
    edge.start_agent(&world);
    edge.restart_traefik(&world);
    edge.ready().await;
    edge.answers(&[("steady.example/", "web"), ("three.example/", "web")]).await;
    world.plane.revive(Part::ApiServer).await;
    world.start_operator("four", LEASE).await;
    world.apply(&[simple("four", "web")]).await;
    edge.answers(&[("four.example/", "web")]).await;

    // No index says nothing about the routing.
    world.operators.clear();
    world.plane.kubectl_ok(&["delete", "configmap", "waybill", "-n", "waybill"]);
    eventually("the agent says that there is no index", SOON, async || {
        let answer = edge.probe("/readyz").await?;
        let said = answer.body.contains("no index");
        if said && answer.status == 200 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    edge.answers(&[("four.example/", "web")]).await;
    world.start_operator("five", LEASE).await;
    world.apply(&[simple("five", "web")]).await;
    edge.answers(&[("five.example/", "web"), ("four.example/", "web")]).await;
    // An API server that has just started refuses for a moment what it allows, so refusals say nothing here.
}
