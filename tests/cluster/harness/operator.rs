//! The operator under test: the real binary, with a token of the shipped ServiceAccount.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use waybill::published::index::Index;
use waybill::traefik::document::Keys;

use super::published::{Miss, Reader};
use super::{AuditEvent, ControlPlane, Process, eventually};

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
        let token_file = self.folder().join(format!("{name}.token"));
        std::fs::write(&token_file, token).unwrap();
        let mut command = Command::new(binary());
        command.arg("run").args(flags).env_clear();
        self.reached_by(&mut command, &token_file);
        self.operator_by(name, command)
    }

    /// Adds the flags by which a waybill reaches the API server.
    pub fn reached_by(&self, command: &mut Command, token: &Path) {
        command
            .arg(format!("--providers.kubernetesingress.endpoint={}", self.url()))
            .arg(format!("--providers.kubernetesingress.token={}", token.display()))
            .arg(format!("--providers.kubernetesingress.certauthfilepath={}", self.ca_file().display()));
    }

    /// A replica that `command` runs, whose way to the API server is the caller's to give.
    pub fn operator_by(&self, name: &str, mut command: Command) -> Operator {
        let port = super::free_port();
        command
            .arg(format!("--operator.metricsaddress=127.0.0.1:{port}"))
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", "waybill");
        Operator { process: self.spawn(name, &mut command), port }
    }

    /// What replicas of this name asked for, by their User-Agent `waybill/VERSION (NAME_RANDOM)`.
    pub fn requests_of(&self, name: &str) -> Vec<AuditEvent> {
        let mut events = self.audit();
        events.retain(|event| {
            let identity = event.user_agent.split_once(" (").map(|(_, rest)| rest.trim_end_matches(')'));
            event.user_agent.starts_with("waybill/")
                && identity.and_then(|text| text.rsplit_once('_')).is_some_and(|(who, _)| who == name)
        });
        events
    }

    /// Whether the shipped ServiceAccount may do something.
    pub fn may(&self, verb: &str, resource: &str, namespace: &str) -> bool {
        let user = "--as=system:serviceaccount:waybill:waybill";
        self.kubectl(&["auth", "can-i", verb, resource, "-n", namespace, user]).status.success()
    }

    /// Waits until a right that was taken away is gone.
    pub async fn may_no_longer(&self, verb: &str, resource: &str, namespace: &str) {
        eventually(&format!("nobody may {verb} {resource} in {namespace}"), SOON, async || {
            if self.may(verb, resource, namespace) { Err("it may still") } else { Ok(()) }
        })
        .await;
    }

    /// Panics when anything that the shipped ServiceAccount asked for was refused.
    pub fn assert_nothing_refused(&self) {
        let mut events = self.audit();
        let ours = "system:serviceaccount:waybill:waybill";
        assert!(events.iter().any(|event| event.user.username == ours), "nothing was asked at all");
        events.retain(|event| event.user.username == ours && event.code() == 403);
        assert!(events.is_empty(), "{events:#?}");
    }

    /// The assembled routing of an output, read as an agent would: index, then shards, every hash checked. `None`
    /// while there is no index.
    pub async fn published(&self, output: &str) -> Option<(Index, Value)> {
        match Reader::named(&self.admin(), output).now(100).await {
            Ok(published) => {
                let mut document: Value = serde_json::from_str(&published.document(Keys::LeftOut)).unwrap();
                sort_certificates(&mut document);
                Some((published.index, document))
            }
            Err(Miss::NoIndex) => None,
            Err(miss) => panic!("{output}: {miss:?}"),
        }
    }

    /// Every document of an output that a proxy reads, as it is published.
    pub async fn documents(&self, output: &str) -> Vec<String> {
        Reader::named(&self.admin(), output).documents().await
    }

    /// What Traefik's file provider makes of every document of an output. Panics when it refuses one.
    pub async fn parsed(&self, output: &str) -> Vec<Value> {
        let mut parsed = Vec::new();
        for (at, document) in self.documents(output).await.into_iter().enumerate() {
            let path = self.folder().join(format!("document-{at}.yaml"));
            std::fs::write(&path, &document).unwrap();
            let answer = Command::new(super::tool("parse")).arg(&path).output().unwrap();
            assert!(
                answer.status.success(),
                "{}{}\n{document}",
                String::from_utf8_lossy(&answer.stdout),
                String::from_utf8_lossy(&answer.stderr)
            );
            let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
            parsed.push(answer["configuration"].clone());
        }
        parsed
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

/// The operator's binary; an example that shares this file has none to start. `WAYBILL_BINARY` names another.
pub fn binary() -> OsString {
    std::env::var_os("WAYBILL_BINARY")
        .unwrap_or_else(|| option_env!("CARGO_BIN_EXE_waybill").unwrap_or("waybill").into())
}

/// Runs `waybill render` on a file.
pub fn render(path: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["render", "-o", "json", "-f"]).arg(path).args(flags).env_clear();
    command.output().unwrap()
}

/// Status and body of what a local server answers.
pub async fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    get_host(port, "localhost", path).await
}

/// As [`get`], from one of several hosts that the server stands for.
pub async fn get_host(port: u16, host: &str, path: &str) -> Result<(u16, String), String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream =
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    // Of the two versions of HTTP this is the one whose answers never come in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

impl Operator {
    /// What a probe or a scrape of this replica gets: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        get(self.port, path).await
    }

    /// The value of a metric's series, written as Prometheus shows it: `name{label="value"}`.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").await.ok()?;
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The sum over all series of a metric whose text begins so.
    pub async fn sum(&self, beginning: &str) -> f64 {
        let (_, body) = self.get("/metrics").await.unwrap();
        let series = body.lines().filter(|line| line.starts_with(beginning));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Translations so far by what made them happen, those of the first pass left out.
    pub async fn translations(&self) -> BTreeMap<String, u64> {
        let (_, body) = self.get("/metrics").await.unwrap();
        body.lines()
            .filter_map(|line| line.strip_prefix("waybill_translations_total{trigger=\"")?.split_once("\"} "))
            .filter(|(trigger, count)| *trigger != "resync" && *count != "0")
            .map(|(trigger, count)| (trigger.to_owned(), count.parse().unwrap()))
            .collect()
    }

    /// Waits until a metric has a value.
    pub async fn shows(&self, series: &str, value: f64) {
        let is = async || match self.metric(series).await {
            Some(found) if found == value => Ok(()),
            other => Err(format!("{other:?}\n{}", self.process.log_tail())),
        };
        eventually(&format!("{series} is {value}"), SOON, is).await;
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
