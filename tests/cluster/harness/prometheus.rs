//! A Prometheus, and what it says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::operator::get;
use super::{ControlPlane, Process, Signal, free_port};

/// `make prometheus` puts it into target/tools; otherwise it may be installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
    if ours.exists() {
        return Some(ours);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
}

/// A running one.
pub struct Prometheus {
    process: Process,
    port: u16,
    config: PathBuf,
}

impl ControlPlane {
    /// Starts a Prometheus with this configuration, which is YAML or JSON.
    pub fn prometheus(&self, program: &Path, config: &Value) -> Prometheus {
        let port = free_port();
        let path = self.folder().join("prometheus.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", self.folder().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        Prometheus { process: self.spawn("prometheus", &mut command), port, config: path }
    }
}

impl Prometheus {
    /// Goes on with another configuration.
    pub fn reload(&self, config: &Value) {
        std::fs::write(&self.config, config.to_string()).unwrap();
        self.process.signal(Signal::HUP);
    }

    /// The series that a query finds now: labels and value.
    pub async fn query(&self, text: &str) -> Result<Vec<(Value, f64)>, String> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(text))).await?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        Ok(series
            .iter()
            .map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap()))
            .collect())
    }

    /// The series that a query finds between two times, one point a second: labels, and time and value.
    pub async fn range(
        &self,
        text: &str,
        from: f64,
        to: f64,
    ) -> Result<Vec<(Value, Vec<(f64, f64)>)>, String> {
        let path = format!("/api/v1/query_range?start={from}&end={to}&step=1&query={}", encoded(text));
        let answer = self.get(&path).await?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let point = |point: &Value| (point[0].as_f64().unwrap(), point[1].as_str().unwrap().parse().unwrap());
        let points = |one: &Value| one["values"].as_array().unwrap().iter().map(point).collect();
        Ok(series.iter().map(|one| (one["metric"].clone(), points(one))).collect())
    }

    /// The labels of every alert that fires now.
    pub async fn firing(&self) -> Result<Vec<Value>, String> {
        let answer = self.get("/api/v1/alerts").await?;
        let alerts = answer["data"]["alerts"].as_array().ok_or_else(|| answer.to_string())?;
        Ok(alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["labels"].clone())
            .collect())
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = tokio::time::timeout(Duration::from_secs(5), get(self.port, path)).await;
        let (status, body) = answer.map_err(|_| "no answer".to_owned())??;
        serde_json::from_str(&body)
            .map_err(|error| format!("{status} {error}: {body}\n{}", self.process.log_tail()))
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Scraping of local ports as one job. All are the operator's but `agents`.
pub fn job(name: &str, ports: &[u16], more: Value) -> Value {
    let targets: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let of = if name == "agents" { "agents" } else { "waybill" };
    let labels = json!({"job": of, "namespace": "waybill"});
    let mut job = json!({"job_name": name, "static_configs": [{"targets": targets, "labels": labels}]});
    if let Value::Object(more) = more {
        job.as_object_mut().unwrap().extend(more);
    }
    job
}
