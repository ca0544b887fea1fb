//! A withdrawal that `operator.maxWithdrawal` holds, through changes of leaders.

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;
use crate::harness::Signal;

const HELD: &str = "waybill_withdrawal_held";

/// Whether the output of class `internal` has its router.
async fn stands(plane: &ControlPlane) -> bool {
    plane.published(INTERNAL).await.is_some_and(|(_, document)| has_router(&document, "team-a", "tool"))
}

#[tokio::test]
async fn a_held_withdrawal_outlives_the_process_and_is_done_once_confirmed() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let flags = [QUICK, &["--operator.maxwithdrawal=30"]].concat();
    let mut first = plane.operator("first", &flags).await;
    first.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "edge-internal");
    let has_address = json!([{"hostname": "internal.example.com"}]);
    address(&plane, "team-a", "tool", &has_address).await;

    delete_class(&plane, "internal").await;
    metric(&first, HELD, 1.0).await;
    event(&plane, "edge-internal", "internal", "WithdrawalHeld", &["1 of 1 routers"]).await;
    assert!(stands(&plane).await);
    first.process.signal(Signal::TERM);
    first.process.ended(SOON).await;

    // A process that never knew the class.
    let mut second = plane.operator("second", &flags).await;
    second.leads().await;
    metric(&second, HELD, 1.0).await;
    metric(&second, "waybill_problems{category=\"WithdrawalHeld\"}", 1.0).await;
    assert!(stands(&plane).await);
    // Deleted by hand, it is put back as it was.
    let generation = plane.published(INTERNAL).await.unwrap().0.generation;
    maps.delete("internal", &DeleteParams::default()).await.unwrap();
    eventually("it is put back", SOON, async || match plane.published(INTERNAL).await {
        Some((index, document))
            if index.generation > generation && has_router(&document, "team-a", "tool") =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    metric(&second, HELD, 1.0).await;
    // The others are published all the while.
    plane.apply(&ingress("shop", "more", "public")).await;
    published(&plane, PUBLIC, "shop", "more").await;
    // The one whose routing stands keeps its address. A withdrawal would have been written before this one.
    address(&plane, "shop", "more", &json!([{"ip": "192.0.2.10"}])).await;
    address(&plane, "team-a", "tool", &has_address).await;
    second.process.signal(Signal::TERM);
    second.process.ended(SOON).await;

    let third = plane.operator("third", &flags).await;
    third.leads().await;
    metric(&third, HELD, 1.0).await;
    let generation = plane.published(INTERNAL).await.unwrap().0.generation;
    let confirmation = format!("{generation}:1");
    event(&plane, "edge-internal", "internal", "WithdrawalHeld", &[&confirmation]).await;
    let patch = json!({"metadata": {"annotations": {"waybill.dev/confirm-withdrawal": confirmation}}});
    maps.patch("internal", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    plane.eventually_published(INTERNAL, "it is withdrawn", |document| *document == json!({})).await;
    metric(&third, HELD, 0.0).await;
    metric(&third, "waybill_problems{category=\"WithdrawalHeld\"}", 0.0).await;
    address(&plane, "team-a", "tool", &Value::Null).await;
    assert!(has_router(&plane.published(PUBLIC).await.unwrap().1, "shop", "web"));
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}

/// Waits until an output is let go of, and nothing is left that tells of it.
async fn let_go(plane: &ControlPlane, operator: &Operator, namespace: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    // Its text is tried again after a while.
    eventually(&format!("{namespace} is forgotten"), SOON * 4, async || {
        let data =
            maps.get_opt("waybill.classes").await.unwrap().and_then(|map| map.data).unwrap_or_default();
        let failures = operator.sum("waybill_publish_error{").await;
        if failures < 0.5 && !data.values().any(|text| text.contains(namespace)) {
            Ok(())
        } else {
            Err(format!("{failures} {data:?} {}", operator.process.log_tail()))
        }
    })
    .await;
    assert!(operator.process.log().contains("and the namespace is gone"), "{}", operator.process.log_tail());
    // Nor does it watch there in vain.
    let newest = ours(plane).len();
    plane.apply(&ingress("shop", &format!("after-{namespace}"), "traefik")).await;
    published(plane, OWN, "shop", &format!("after-{namespace}")).await;
    let later = ours(plane).split_off(newest);
    assert!(!later.iter().any(|event| event.uri.contains(&format!("/namespaces/{namespace}/"))), "{later:?}");
}

#[tokio::test]
async fn an_output_without_a_class_is_let_go_with_its_namespace_also_by_a_new_leader() {
    let plane = plane().await;
    let namespaces =
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/components/namespace-selectors/clusterrole.yaml");
    plane.kubectl_ok(&["apply", "-f", namespaces]);
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    let mut first = plane.operator("first", QUICK).await;
    first.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;

    plane.remove_namespace("edge-internal").await;
    eventually("it is reported while a class has it", SOON, async || {
        match first.sum("waybill_publish_error{").await {
            0.5.. => Ok(()),
            other => Err(other),
        }
    })
    .await;
    delete_class(&plane, "internal").await;
    let_go(&plane, &first, "edge-internal").await;
    assert!(has_router(&plane.published(PUBLIC).await.unwrap().1, "shop", "web"));

    first.process.signal(Signal::TERM);
    first.process.ended(SOON).await;
    delete_class(&plane, "public").await;
    plane.remove_namespace("edge-public").await;
    let second = plane.operator("second", QUICK).await;
    second.leads().await;
    let_go(&plane, &second, "edge-public").await;
}
