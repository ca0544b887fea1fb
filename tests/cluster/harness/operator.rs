//! The operator under test: the real binary, with a token of the shipped ServiceAccount.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;
use waybill::kubernetes::key::OutputKey;
use waybill::publish::index::Index;
use waybill::publish::read;
use waybill::traefik::document::Keys;

use super::{ControlPlane, Process, eventually};

/// Long enough for the slowest machine, and for a debug build.
pub const SOON: Duration = Duration::from_secs(30);

/// A replica.
pub struct Operator {
    pub process: Process,
    port: u16,
}

impl ControlPlane {
    /// Applies the shipped manifests as a user would, CRD included.
    pub fn install(&self, kustomization: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = folder.join(kustomization).display().to_string();
        self.kubectl_ok(&["apply", "-k", &path]);
    }

    /// Starts a replica with options as flags. Its token is one of the shipped ServiceAccount.
    pub async fn operator(&self, name: &str, flags: &[&str]) -> Operator {
        let token = self.service_account_token("waybill", "waybill").await;
        self.operator_with_token(name, &token, flags)
    }

    /// As [`Self::operator`], with a token of choice.
    pub fn operator_with_token(&self, name: &str, token: &str, flags: &[&str]) -> Operator {
        let port = super::free_port();
        let token_file = self.folder().join(format!("{name}.token"));
        std::fs::write(&token_file, token).unwrap();
        let mut command = Command::new(binary());
        command
            .arg("run")
            .arg(format!("--providers.kubernetesingress.endpoint={}", self.url()))
            .arg(format!("--providers.kubernetesingress.token={}", token_file.display()))
            .arg(format!("--providers.kubernetesingress.certauthfilepath={}", self.ca_file().display()))
            .arg(format!("--operator.metricsaddress=127.0.0.1:{port}"))
            .args(flags)
            .env_clear()
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", "waybill");
        Operator { process: self.spawn(name, &mut command), port }
    }

    /// The assembled routing of an output, read as an agent would: index, then shards, every hash checked. `None`
    /// while there is no index.
    pub async fn published(&self, output: &str) -> Option<(Index, Value)> {
        let client = self.admin();
        let (namespace, name) = output.split_once('/').unwrap();
        let key = OutputKey::new(namespace, name);
        let configmaps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        loop {
            let index = configmaps.get_opt(name).await.unwrap()?;
            let list = ListParams::default().labels(&format!("waybill.dev/output={name}"));
            let named =
                |items: Vec<ConfigMap>| items.into_iter().map(|item| (item.name_any(), item)).collect();
            let shards: BTreeMap<_, _> = named(configmaps.list(&list).await.unwrap().items);
            let keys: BTreeMap<_, _> = secrets
                .list(&list)
                .await
                .unwrap()
                .items
                .into_iter()
                .map(|item| (item.name_any(), item))
                .collect();
            match read::assemble(&key, &index, &shards, Some(&keys)) {
                Ok(published) => {
                    let mut document: Value =
                        serde_json::from_str(&published.document(Keys::LeftOut)).unwrap();
                    sort_certificates(&mut document);
                    return Some((published.index, document));
                }
                // A shard that is gone means that there is a newer index.
                Err(read::ReadError::ShardMissing { .. }) => {}
                Err(error) => panic!("{output}: {error}"),
            }
        }
    }

    /// Waits until an output is what it should be.
    pub async fn eventually_published(
        &self,
        output: &str,
        what: &str,
        right: impl Fn(&Value) -> bool,
    ) -> (Index, Value) {
        eventually(what, SOON, async || match self.published(output).await {
            None => Err("no index".to_owned()),
            Some((index, document)) if right(&document) => Ok((index, document)),
            Some((index, document)) => Err(format!("generation {}: {document:#}", index.generation)),
        })
        .await
    }

    /// What `waybill render` makes of everything that the API server holds.
    pub fn rendered(&self, flags: &[&str]) -> Value {
        let kinds = "ingressclasses,ingresses,services,endpointslices,secrets,nodes,namespaces";
        let objects = self.kubectl(&["get", kinds, "-A", "-o", "json"]);
        let path = self.folder().join("objects.json");
        std::fs::write(&path, &objects.stdout).unwrap();
        let rendered = render(&path, flags);
        let mut document = serde_json::from_slice(&rendered.stdout).unwrap();
        sort_certificates(&mut document);
        document
    }
}

/// A reader does not know which Secret a certificate is from, so their order is not part of what is published.
pub fn sort_certificates(document: &mut Value) {
    if let Some(Value::Array(certificates)) = document.pointer_mut("/tls/certificates") {
        certificates.sort_by_key(Value::to_string);
    }
}

/// The operator's binary; an example that shares this file has none to start.
fn binary() -> &'static str {
    option_env!("CARGO_BIN_EXE_waybill").unwrap_or("waybill")
}

/// Runs `waybill render` on a file.
pub fn render(path: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["render", "-o", "json", "-f"]).arg(path).args(flags).env_clear();
    command.output().unwrap()
}

impl Operator {
    /// What a probe or a scrape of this replica gets: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: waybill\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
        Ok((status, body.to_owned()))
    }

    /// The value of a metric's series, written as Prometheus shows it: `name{label="value"}`.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").await.ok()?;
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let is_ready = async || match self.get("/readyz").await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.process.log_tail())),
        };
        eventually("the operator is ready", SOON, is_ready).await;
    }

    /// Waits until it leads.
    pub async fn leads(&self) {
        let leads = async || match self.metric("leader_election_master_status{name=\"waybill\"}").await {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.process.log_tail())),
        };
        eventually("the operator leads", SOON, leads).await;
    }

    /// Where it serves metrics and probes.
    pub fn port(&self) -> u16 {
        self.port
    }
}
