//! Statuses wait for the commit of their own output only: outputs that always have something to commit hold up nobody.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::*;

/// Changes an EndpointSlice ten times a second until it is dropped.
fn churn(plane: &ControlPlane, namespace: &'static str) -> tokio::task::JoinHandle<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(plane.admin(), namespace);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for round in 0u32.. {
            tick.tick().await;
            let address = format!("10.2.{}.{}", round / 250 % 250, round % 250 + 1);
            let patch = Patch::Merge(json!({"endpoints": [{"addresses": [address]}]}));
            slices.patch("app-1", &PatchParams::default(), &patch).await.unwrap();
        }
    })
}

#[tokio::test]
async fn two_busy_outputs_do_not_starve_statuses() {
    let plane = plane().await;
    plane.apply(&ingress("shop", "web", "public")).await;
    plane.apply(&ingress("team-a", "tool", "internal")).await;
    // The shipped throttle of 2 s: with ten changes a second each output always has something that is not committed.
    let flags = [
        &QUICK[..3],
        &["--providers.kubernetesingress.ingressendpoint.ip=192.0.2.99", "--operator.loglevel=debug"],
    ]
    .concat();
    let operator = plane.operator("first", &flags).await;
    operator.leads().await;
    published(&plane, PUBLIC, "shop", "web").await;
    published(&plane, INTERNAL, "team-a", "tool").await;
    let busy = [churn(&plane, "shop"), churn(&plane, "team-a")];
    let changes = async || {
        let series = "waybill_translations_total{trigger=\"endpointslice\"}";
        operator.metric(series).await.unwrap_or_default()
    };
    eventually("both are busy", SOON, async || {
        let changes = changes().await;
        if changes >= 60.0 { Ok(()) } else { Err(changes.to_string()) }
    })
    .await;
    let before = changes().await;
    plane.apply(&ingress("shop", "new", "public")).await;
    plane.apply(&ingress("team-a", "new", "internal")).await;
    address(&plane, "shop", "new", &json!([{"ip": "192.0.2.10"}])).await;
    address(&plane, "team-a", "new", &json!([{"hostname": "internal.example.com"}])).await;
    // They were busy all the time.
    assert!(changes().await > before, "nothing changed meanwhile");
    for task in busy {
        assert!(!task.is_finished(), "a slice could not be changed");
        task.abort();
    }
}
