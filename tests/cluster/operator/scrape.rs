//! Probes, and metrics as a real Prometheus sees them.

use std::process::{Command, Stdio};

use serde_json::json;

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with};
use crate::harness::operator::SOON;
use crate::harness::prometheus::{job, program};
use crate::harness::{ControlPlane, eventually, skip};

#[tokio::test]
async fn prometheus_scrapes_the_replicas_and_finds_one_leader() {
    let (Some(prometheus), Some(promtool)) = (program("prometheus"), program("promtool")) else {
        skip("there is no Prometheus; `make prometheus` fetches it");
        return;
    };
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "lost", "nowhere")])).await;
    let first = plane.operator("first", &[FAST, ADDRESS]).await;
    first.leads().await;
    let second = plane.operator("second", &[FAST, ADDRESS]).await;
    second.ready().await;
    // Reconciled by a change, not by the first pass.
    plane.apply_objects(&[ingress("shop", "web", "web")]).await;
    plane
        .eventually_published("waybill/waybill", "a change is published", |document| {
            has_router(document, "shop", "web")
        })
        .await;
    for replica in [&first, &second] {
        assert_eq!(replica.get("/livez").await.unwrap(), (200, "ok\n".to_owned()));
        assert_eq!(replica.get("/readyz").await.unwrap(), (200, "ok\n".to_owned()));
        assert_eq!(replica.get("/nothing").await.unwrap().0, 404);
    }

    // Both bodies are as the format and Prometheus's own habits want them.
    for replica in [&first, &second] {
        let body = replica.get("/metrics").await.unwrap().1;
        let path = plane.folder().join("metrics.txt");
        std::fs::write(&path, body).unwrap();
        let checked = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::from(std::fs::File::open(&path).unwrap()))
            .output()
            .unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [job("plain", &[first.port(), second.port()], json!({}))],
    });
    let server = plane.prometheus(&prometheus, &config);
    for (text, wanted) in [
        ("count(up == 1)", 2.0),
        ("sum(leader_election_master_status{name=\"waybill\"})", 1.0),
        ("count(leader_election_master_status)", 2.0),
        (
            "sum(controller_runtime_reconcile_total{controller=\"ingress\", result=\"success\"}) >= bool 1",
            1.0,
        ),
        ("sum(waybill_problems{category=\"ServiceNotFound\"})", 1.0),
        ("sum(waybill_published_entries{kind=\"routers\"})", 1.0),
        ("count(waybill_published_age_seconds)", 1.0),
        ("sum(rest_client_requests_total{code=\"403\"}) or vector(0)", 0.0),
        ("sum(waybill_publish_error)", 0.0),
        ("count(waybill_watch_age_seconds{kind=\"ingresses\"} < 60)", 2.0),
    ] {
        eventually(text, SOON, async || {
            let found = server.query(text).await?;
            match found.as_slice() {
                [(_, value)] if *value == wanted => Ok(()),
                _ => Err(format!("{found:?}")),
            }
        })
        .await;
    }

    plane.assert_nothing_refused();
}
