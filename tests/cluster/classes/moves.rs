//! Ingresses that move from one class's output to the other's.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use waybill::kubernetes::key::OutputKey;
use waybill::published::read;
use waybill::traefik::document::Keys;

use super::*;

/// How many move in one direction; every tenth moves in the other one at the same time. `WAYBILL_MOVES` sets another
/// number.
const MOVES: usize = 300;

/// What an output held after every commit so far, in order, together with the other one: the keys of the routers of
/// both, from the API server's own record of what was written.
fn history(plane: &ControlPlane) -> Vec<[BTreeSet<String>; 2]> {
    let outputs = [PUBLIC, INTERNAL].map(|output| output.split_once('/').unwrap());
    let mut shards: [BTreeMap<String, ConfigMap>; 2] = Default::default();
    let mut held: [BTreeSet<String>; 2] = Default::default();
    let mut history = Vec::new();
    for event in ours(plane) {
        let written = event.is_write() && event.verb != "delete" && matches!(event.code(), 200 | 201);
        let of = outputs.iter().position(|(namespace, _)| *namespace == event.object_ref.namespace);
        let (true, "configmaps", Some(of)) = (written, &*event.object_ref.resource, of) else { continue };
        let map: ConfigMap = serde_json::from_value(event.request_object).unwrap();
        let (namespace, name) = outputs[of];
        if map.name_any() != name {
            shards[of].insert(map.name_any(), map);
            continue;
        }
        let key = OutputKey::new(namespace, name);
        let published = read::assemble(&key, &map, &shards[of], Some(&BTreeMap::new())).unwrap();
        let document: Value = serde_json::from_str(&published.document(Keys::LeftOut)).unwrap();
        let routers = document.pointer("/http/routers").and_then(Value::as_object);
        held[of] = routers.into_iter().flat_map(|routers| routers.keys().cloned()).collect();
        history.push(held.clone());
    }
    history
}

#[tokio::test]
async fn an_ingress_that_moves_is_never_in_neither_output_and_in_the_end_in_one() {
    let moves = std::env::var("WAYBILL_MOVES").map_or(MOVES, |moves| moves.parse().unwrap());
    let plane = plane().await;
    let from: Vec<(String, &str)> = (0..moves)
        .map(|number| (format!("m{number}"), if number % 10 == 0 { "internal" } else { "public" }))
        .collect();
    stream::iter(&from)
        .for_each_concurrent(16, async |(name, class)| plane.apply(&ingress("team-a", name, class)).await)
        .await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    let of = |class: &str| -> BTreeSet<String> {
        let names = from.iter().filter(|(_, from)| *from == class);
        names.map(|(name, _)| router_key("team-a", name)).collect()
    };
    let (public, internal) = (of("public"), of("internal"));
    let all: BTreeSet<String> = public.union(&internal).cloned().collect();
    let settled = async |wanted: [&BTreeSet<String>; 2]| {
        eventually("both outputs hold what is wanted", SOON, async || {
            let history = history(&plane);
            let last = history.last().ok_or("nothing was committed")?;
            if [&last[0], &last[1]] == wanted { Ok(()) } else { Err("not yet") }
        })
        .await;
    };
    settled([&public, &internal]).await;
    let before = history(&plane).len();

    let api: Api<Ingress> = Api::namespaced(plane.admin(), "team-a");
    stream::iter(&from)
        .for_each_concurrent(8, async |(name, class)| {
            let other = if *class == "public" { "internal" } else { "public" };
            let patch = Patch::Merge(json!({"spec": {"ingressClassName": other}}));
            api.patch(name, &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
    settled([&internal, &public]).await;

    let history = history(&plane);
    assert!(history.len() >= before + 4, "each output gained first and lost then");
    for (number, [in_public, in_internal]) in history[before - 1..].iter().enumerate() {
        let neither: Vec<_> =
            all.iter().filter(|key| !in_public.contains(*key) && !in_internal.contains(*key)).collect();
        assert!(
            neither.is_empty(),
            "after commit {number} of {}: in neither: {neither:?}",
            history.len() - before
        );
    }
    // The last address is that of the new class.
    address(&plane, "team-a", "m1", &json!([{"hostname": "internal.example.com"}])).await;
    address(&plane, "team-a", "m0", &json!([{"ip": "192.0.2.10"}])).await;
    assert!(refused(&plane).is_empty());
    println!("{moves} moves, {} commits", history.len() - before);
}

#[tokio::test]
async fn a_class_that_gets_another_output_moves_as_a_whole_and_the_old_one_is_emptied() {
    let plane = plane().await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    patch_parameters(&plane, "internal", json!({"output": {"name": "second"}})).await;
    published(&plane, "edge-internal/second", "team-a", "tool").await;
    plane.eventually_published(INTERNAL, "the old one is emptied", |document| *document == json!({})).await;
    condition(&plane, "internal", "Published", "True", "Committed").await;

    // Where waybill may not write it stays in the old one for a while, and its own class alone says so.
    patch_parameters(&plane, "internal", json!({"output": {"namespace": "shop"}})).await;
    condition(&plane, "internal", "Published", "False", "CommitFailed").await;
    let (_, document) = plane.published("edge-internal/second").await.unwrap();
    assert!(has_router(&document, "team-a", "tool"));
    plane.apply(&ingress("shop", "web", "public")).await;
    published(&plane, PUBLIC, "shop", "web").await;
    condition(&plane, "public", "Published", "True", "Committed").await;
    patch_parameters(&plane, "internal", json!({"output": {"namespace": "edge-internal"}})).await;
    condition(&plane, "internal", "Published", "True", "Committed").await;
    let (_, document) = plane.published("edge-internal/second").await.unwrap();
    assert!(has_router(&document, "team-a", "tool"));
}

/// While the new output refuses every write, an Ingress that moves there stays in the old one.
#[tokio::test]
async fn an_ingress_stays_where_it_is_while_the_new_output_cannot_be_committed() {
    let plane = plane().await;
    plane.apply(&ingress("team-a", "tool", "public")).await;
    plane.apply(&ingress("team-a", "resident", "internal")).await;
    let operator = plane.operator("first", QUICK).await;
    operator.leads().await;
    published(&plane, PUBLIC, "team-a", "tool").await;
    published(&plane, INTERNAL, "team-a", "resident").await;
    plane.kubectl_ok(&["-n", "edge-internal", "delete", "rolebinding", "waybill-output"]);
    plane.may_no_longer("update", "configmaps", "edge-internal").await;

    let api: Api<Ingress> = Api::namespaced(plane.admin(), "team-a");
    let patch = Patch::Merge(json!({"spec": {"ingressClassName": "internal"}}));
    api.patch("tool", &PatchParams::default(), &patch).await.unwrap();
    condition(&plane, "internal", "Published", "False", "CommitFailed").await;
    // Commits of the old output go on, with it.
    for name in ["later", "latest"] {
        plane.apply(&ingress("shop", name, "public")).await;
        let document = published(&plane, PUBLIC, "shop", name).await;
        assert!(has_router(&document, "team-a", "tool"), "it is in neither: {document:#}");
    }
    condition(&plane, "public", "Published", "True", "Committed").await;

    plane.install("manifests/examples/two-classes");
    published(&plane, INTERNAL, "team-a", "tool").await;
    plane
        .eventually_published(PUBLIC, "it has left the old one", |document| {
            !has_router(document, "team-a", "tool")
        })
        .await;
    condition(&plane, "internal", "Published", "True", "Committed").await;
}
