//! Operators and agents of two releases beside each other. `WAYBILL_OLD_BINARY` names the older program; without it both
//! are of this one, and only what a newer format does to this release is shown.

use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::{SOON, binary};
use crate::load::Load;
use crate::objects::{service, simple, slice};
use crate::world::{Edge, World};

pub async fn old_and_new_understand_each_other() {
    let new = binary();
    let old = std::env::var_os("WAYBILL_OLD_BINARY").unwrap_or_else(|| new.clone());
    let mut world = World::start(&[]).await;
    // An upgrade begins with what the older release has published.
    world.stop_operators().await;
    let published = ["delete", "configmaps,secrets", "-n", "waybill", "-l", "waybill.dev/output"];
    world.plane.kubectl_ok(&published);
    world.start_operator_of(&old, "operator").await;
    let mut edge = Edge::start(&world, "edge").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), simple("steady", "web")]).await;
    edge.answers(&[("steady.example/", "web")]).await;

    let steady = Load::start(&edge, "steady.example", |found| found == "web");
    // Each pairing, and each step from one to the next.
    let (mut operator, mut agent) = (old.clone(), new.clone());
    for (step, (part, program)) in
        [("agent", &old), ("operator", &new), ("agent", &new), ("operator", &old)].into_iter().enumerate()
    {
        if part == "operator" {
            operator.clone_from(program);
            world.stop_operators().await;
            world.start_operator_of(&operator, &format!("operator-{step}")).await;
        } else {
            agent.clone_from(program);
            edge.program.clone_from(&agent);
            edge.start_agent(&world);
        }
        for round in 0..3 {
            let name = format!("step-{step}-{round}");
            let pair = [slice("web", &["10.99.1.1"]), simple(&name, "web")];
            world.apply(&pair).await;
            edge.answers(&[(&format!("{name}.example/"), "web")]).await;
            world.plane.kubectl_ok(&["delete", "ingress", "-n", "shop", &name]);
            edge.answers(&[(&format!("{name}.example/"), "404")]).await;
        }
        edge.ready().await;
        edge.loaded(&world).await;
        let refusals = edge.metric("waybill_agent_refusals_total{reason=\"unreadable\"}").await;
        assert_eq!(
            refusals,
            Some(0.0),
            "{} and {}",
            Path::new(&operator).display(),
            Path::new(&agent).display()
        );
    }

    // An index of a release to come: what is loaded stays, agent and operator report it, and nobody writes.
    world.stop_operators().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.plane.admin(), "waybill");
    let index = maps.get("waybill").await.unwrap().data.unwrap()["index.json"].clone();
    let newer = index.replacen("\"formatVersion\":1", "\"formatVersion\":3", 1);
    assert_ne!(newer, index);
    let patch = |text: &str| json!({"data": {"index.json": text}});
    maps.patch("waybill", &PatchParams::default(), &Patch::Merge(patch(&newer))).await.unwrap();
    eventually("the agent reports the newer format", SOON, async || {
        let answer = edge.probe("/readyz").await?;
        let said = answer.body.contains("formatVersion 3");
        if answer.status == 200 && said { Ok(()) } else { Err(answer.body) }
    })
    .await;
    edge.start_agent(&world);
    edge.ready().await;
    steady.more(20).await;
    maps.patch("waybill", &PatchParams::default(), &Patch::Merge(patch(&index))).await.unwrap();
    world.start_operator("last", &[]).await;
    world.apply(&[simple("last", "web")]).await;
    edge.answers(&[("last.example/", "web")]).await;
    assert!(steady.end().await > 100);
    world.assert_nothing_refused();
}
