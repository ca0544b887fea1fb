//! Waybill as a program: `waybill render` on manifests, and `waybill run` beside Traefik's provider, read as any
//! reader of what it publishes would (docs/published.md).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::generate::unbase64;
use super::object::Kind;
use super::place::sorted;
use super::server::{Server, Snapshot};
use super::traefik::Traefik;

/// How long an operator may take to end after SIGTERM. That seconds are enough is what tests/cluster shows; here many
/// processes share few processors.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// How long an operator may take from its start, or from a change, to the routing for it.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);

/// Time between two looks at what is published.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts waybill, with files of its own.
pub struct Program {
    folder: tempfile::TempDir,
    started: AtomicUsize,
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waybill"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["KUBE", "TRAEFIK_", "WAYBILL_"].iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(&name);
        }
    }
    command
}

impl Program {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("wb-").tempdir().expect("a folder");
        Self { folder, started: AtomicUsize::new(0) }
    }

    fn options(&self, name: &str, file: &Value) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, file.to_string()).expect("a file");
        path
    }

    fn next(&self) -> usize {
        self.started.fetch_add(1, Ordering::Relaxed)
    }

    /// What `waybill render` prints for objects.
    pub async fn render(&self, snapshot: &Snapshot, file: &Value) -> Value {
        let items: Vec<&Value> = snapshot.objects.values().flatten().collect();
        let input = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.render_text(input.to_string(), file).await
    }

    /// What `waybill render` prints for manifests.
    pub async fn render_text(&self, input: String, file: &Value) -> Value {
        let options = self.options(&format!("render-{}", self.next()), file);
        let rendered = tokio::task::spawn_blocking(move || {
            let mut child = command()
                .args(["render", "-f", "-", "-o", "json", "--show-secrets"])
                .arg(format!("--configfile={}", options.display()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("waybill starts");
            let mut stdin = child.stdin.take().expect("a pipe");
            let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
            let output = child.wait_with_output().expect("waybill ends");
            let _ = writer.join();
            output
        });
        let output = rendered.await.expect("it does not panic");
        assert!(output.status.success(), "waybill render under {file}: {}", output.status);
        serde_json::from_slice(&output.stdout).expect("waybill render prints JSON")
    }

    /// Starts `waybill run` against an API server, in a namespace of its own.
    pub async fn run(&self, server: &Server, traefik: &Traefik, file: &Value) -> Operator {
        let number = self.next();
        let namespace = format!("waybill-{number}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        server.must_create(&object).await;
        let mut file = file.clone();
        let kubernetes = &mut file["providers"]["kubernetesIngress"];
        kubernetes["endpoint"] = traefik.endpoint.as_str().into();
        kubernetes["token"] = traefik.token.as_str().into();
        kubernetes["certAuthFilePath"] = traefik.ca_file.display().to_string().into();
        file["providers"]["providersThrottleDuration"] = "10ms".into();
        file["operator"] =
            json!({"namespace": namespace, "metricsAddress": "127.0.0.1:0", "logLevel": "error"});
        let options = self.options(&format!("run-{number}"), &file);
        let log = self.folder.path().join(format!("run-{number}.log"));
        let output = std::fs::File::create(&log).expect("a file");
        let child = command()
            .arg("run")
            .arg(format!("--configfile={}", options.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("waybill starts");
        Operator { child, log, namespace, held: BTreeMap::new(), read: None }
    }
}

/// A running operator; dropping it ends it.
pub struct Operator {
    child: Child,
    log: PathBuf,
    namespace: String,
    /// Shards that were read, by name. They never change.
    held: BTreeMap<String, String>,
    /// The index that was read last and what it stands for.
    read: Option<(Value, Value)>,
}

impl Operator {
    /// The routing that is published now, whole and with keys; `None` while there is none, or while it changes.
    pub async fn published(&mut self, server: &Server) -> Option<Value> {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("waybill run ended with {status}:\n{}", self.said());
        }
        let index = server.find(&self.object(CONFIG_MAP, "waybill")).await?;
        if let Some((read, routing)) = &self.read
            && *read == index["data"]
        {
            return Some(routing.clone());
        }
        let text = index["data"]["index.json"].as_str().expect("an index holds index.json");
        let content: Value = serde_json::from_str(text).expect("index.json is JSON");
        let mut documents = Vec::new();
        let shards =
            hashes(&content["shards"]).into_iter().map(|hash| (CONFIG_MAP, format!("waybill.r-{hash}")));
        let keys =
            hashes(&content["keyShards"]).into_iter().map(|hash| (SECRET, format!("waybill.k-{hash}")));
        let mut held = BTreeMap::new();
        for (kind, name) in shards.chain(keys) {
            let document = match self.held.remove(&name) {
                Some(document) => document,
                None => self.shard(server, kind, &name).await?,
            };
            documents.push(document.clone());
            held.insert(name, document);
        }
        self.held = held;
        let routing = join(&documents);
        self.read = Some((index["data"].clone(), routing.clone()));
        Some(routing)
    }

    /// The content of a shard, checked as docs/published.md asks its readers to; `None` when it is gone.
    async fn shard(&self, server: &Server, kind: Kind, name: &str) -> Option<String> {
        let shard = server.find(&self.object(kind, name)).await?;
        let packed = if kind.name == "Secret" {
            &shard["data"]["certificates.yaml.gz"]
        } else {
            &shard["binaryData"]["routing.yaml.gz"]
        };
        let packed = unbase64(packed.as_str().unwrap_or_default());
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).expect("gzip");
        let mut sum = String::new();
        for byte in Sha256::digest(&bytes) {
            let _ = write!(sum, "{byte:02x}");
        }
        assert_eq!(shard["metadata"]["annotations"]["waybill.dev/sha256"], sum, "the sum of {name}");
        Some(String::from_utf8(bytes).expect("text"))
    }

    /// Waits until what is published is `wanted`; what is published then, or in the end.
    pub async fn settled(&mut self, server: &Server, wanted: &Value) -> Value {
        let deadline = Instant::now() + PUBLISHED_WITHIN;
        let wanted = sorted(wanted);
        let mut published = Value::Null;
        poll(deadline, async || {
            let now = self.published(server).await.unwrap_or_default();
            // What was looked at once need not be looked at again.
            let settled = now != published && sorted(&now) == wanted;
            published = now;
            settled
        })
        .await;
        published
    }

    fn object(&self, kind: Kind, name: &str) -> (Kind, String, String) {
        (kind, self.namespace.clone(), name.to_owned())
    }

    /// What it logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as Kubernetes would.
    pub async fn end(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        super::harness::eventually("waybill run ends after SIGTERM", ENDED_WITHIN, async || {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => Ok(()),
                Ok(Some(status)) => panic!("waybill run ended with {status}:\n{}", self.said()),
                _ => Err("it still runs"),
            }
        })
        .await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONFIG_MAP: Kind = Kind { name: "ConfigMap", api: "/api/v1", plural: "configmaps", namespaced: true };
const SECRET: Kind = Kind { name: "Secret", api: "/api/v1", plural: "secrets", namespaced: true };

/// Tries until it is so; whether it came to be.
pub async fn poll(deadline: Instant, mut attempt: impl AsyncFnMut() -> bool) -> bool {
    loop {
        if attempt().await {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The hashes in an index, 12 characters each.
fn hashes(text: &Value) -> Vec<String> {
    let text: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
    text.chunks(12).map(|hash| hash.iter().collect()).collect()
}

/// One document of several.
fn join(documents: &[String]) -> Value {
    let mut joined = json!({"http": {"routers": {}, "services": {}}, "tls": {"certificates": []}});
    for text in documents {
        let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for section in ["routers", "services"] {
            for (key, value) in document["http"][section].as_object().into_iter().flatten() {
                let before = joined["http"][section][key].as_object().is_some();
                assert!(!before, "{key} is in two shards");
                joined["http"][section][key] = value.clone();
            }
        }
        if let (Some(all), Some(some)) =
            (joined["tls"]["certificates"].as_array_mut(), document["tls"]["certificates"].as_array())
        {
            all.extend(some.iter().cloned());
        }
    }
    joined
}
