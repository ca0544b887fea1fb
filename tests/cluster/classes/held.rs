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
    assert!(has_router(&plane.published(PUBLIC).await.unwrap().1, "shop", "web"));
    assert!(refused(&plane).is_empty(), "{:#?}", refused(&plane));
}
