//! Probes, and metrics as a real Prometheus sees them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::objects::{ADDRESS, FAST, has_router, ingress, shop_with};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually, free_port, skip};

/// `make prometheus` puts it into target/tools; otherwise it may be installed.
fn program(name: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
    if ours.exists() {
        return Some(ours);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
}

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

    let config = plane.folder().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n- job_name: waybill\n  static_configs:\n  \
             - targets: ['127.0.0.1:{}', '127.0.0.1:{}']\n",
            first.port(),
            second.port()
        ),
    )
    .unwrap();
    let port = free_port();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", plane.folder().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let server = plane.spawn("prometheus", &mut command);
    let query = async |text: &str| -> Result<Vec<(Value, f64)>, String> {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let url = format!("/api/v1/query?query={encoded}");
        let (status, body) =
            tokio::time::timeout(Duration::from_secs(5), crate::harness::operator::get(port, &url))
                .await
                .map_err(|_| "no answer".to_owned())??;
        let answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("{status} {error}: {body}"))?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| body.clone())?;
        Ok(series
            .iter()
            .map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap()))
            .collect())
    };
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
            let found = query(text).await?;
            match found.as_slice() {
                [(_, value)] if *value == wanted => Ok(()),
                _ => Err(format!("{found:?}\n{}", server.log_tail())),
            }
        })
        .await;
    }

    // Every query of the dashboard is one that Prometheus takes, and those that don't look for trouble find something.
    let dashboard = include_str!("../../../manifests/components/dashboard/waybill.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    for expr in targets.flatten().map(|target| target["expr"].as_str().unwrap()) {
        let text = expr.replace("$namespace", ".*").replace("$job", ".*").replace("$__rate_interval", "30s");
        eventually(expr, SOON, async || {
            let found = query(&text).await?;
            if found.is_empty() && !expr.ends_with("> 0") { Err(server.log_tail()) } else { Ok(()) }
        })
        .await;
    }
    plane.assert_nothing_refused();
}
