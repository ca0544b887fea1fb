//! A fresh etcd and kube-apiserver for tests: on ports of their own, with RBAC and audit log, as many at
//! once as wanted. Nothing of it outlives the test process, however that ends (`process::Janitor`).
//!
//! Tests that only use the API share one control plane (`shared`) and make namespaces of their own; those
//! that stop or freeze parts of it start their own (`ControlPlane::start`).

// Each test uses a part of it.
#![allow(dead_code)]

mod apply;
mod audit;
pub mod dashboard;
mod etcd;
pub mod operator;
mod process;
pub mod prometheus;
pub mod published;
mod stall;
mod tools;
mod wait;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::{Client, Config};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

pub use audit::AuditEvent;
use process::Janitor;
pub use process::{Process, Signal};
#[allow(unused_imports, reason = "as above")]
pub use stall::StallingProxy;
#[allow(unused_imports, reason = "as above")]
pub use tools::{folder as tools_folder, skip, tool};
pub use wait::eventually;

/// The token of a user who may do everything.
pub const ADMIN: &str = "admin-token";
/// The token of a user who may do nothing that is not open to all.
pub const NOBODY: &str = "nobody-token";

const START_WITHIN: Duration = Duration::from_secs(60);

/// Bodies are kept for writes of the objects whose content tests look at; never of Secrets.
const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Request
    verbs: [create, update, patch, delete]
    resources:
      - group: ""
        resources: [configmaps]
      - group: coordination.k8s.io
        resources: [leases]
      - group: networking.k8s.io
        resources: [ingresses/status]
  - level: Metadata
"#;

/// A part that can be stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Etcd,
    ApiServer,
}

/// A running control plane; dropping it ends it.
pub struct ControlPlane {
    folder: PathBuf,
    port: u16,
    etcd: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    names: AtomicU32,
    janitor: Janitor,
    /// Given back last.
    _place: SemaphorePermit<'static>,
}

/// Control planes that run at once, the shared one included: each takes 320 MB, and a core while it starts.
static PLACES: Semaphore = Semaphore::const_new(5);

/// When a test fails, what its programs said is what one wants to read.
impl Drop for ControlPlane {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.ends_with(".log") && !name.starts_with("audit") && !name.starts_with("etcd");
            if ours && !name.starts_with("kube-apiserver") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                eprintln!("{name}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// The control plane that tests share. It ends with the test process.
pub async fn shared() -> &'static ControlPlane {
    SHARED.get_or_init(ControlPlane::start).await
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Self {
        tools::folder();
        let place = PLACES.acquire().await.unwrap();
        let folder = tempfile::Builder::new().prefix("wb-").tempdir().unwrap().keep();
        let janitor = Janitor::of(&folder);
        std::fs::write(folder.join("audit.yaml"), AUDIT_POLICY).unwrap();
        std::fs::write(
            folder.join("tokens.csv"),
            format!("{ADMIN},admin,admin,\"system:masters\"\n{NOBODY},nobody,nobody\n"),
        )
        .unwrap();
        make_key(&folder.join("sa.key"));
        let plane = Self {
            port: free_port(),
            etcd: Mutex::new(None),
            api_server: Mutex::new(None),
            names: AtomicU32::new(0),
            janitor,
            folder,
            _place: place,
        };
        plane.spawn_etcd();
        plane.spawn_api_server();
        plane.ready().await;
        std::fs::write(plane.folder.join("admin.kubeconfig"), plane.kubeconfig(ADMIN)).unwrap();
        plane
    }

    /// The folder of everything that belongs to it; removed with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The API server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What clients trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }

    /// A client of the current runtime with the token of a user.
    pub fn client(&self, token: &str) -> Client {
        let mut config = Config::new(self.url().parse().unwrap());
        config.root_cert = Some(Vec::new());
        config.root_cert_file = Some(self.ca_file());
        config.auth_info.token = Some(token.to_owned().into());
        Client::try_from(config).unwrap()
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        self.client(ADMIN)
    }

    /// The text of a kubeconfig with the token of a user.
    pub fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: test, user: {{token: '{token}'}}}}]\n",
            self.url(),
            self.ca_file().display()
        )
    }

    /// The kubeconfig of the user who may do everything, as a file.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Makes a namespace that no other test has.
    pub async fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(self.admin()).create(&PostParams::default(), &namespace).await.unwrap();
        name
    }

    /// Deletes a namespace.
    pub async fn remove_namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.admin());
        namespaces.delete(name, &DeleteParams::default()).await.unwrap();
        self.let_namespace_go(name).await;
    }

    /// Does the work of the namespace controller: deletes what is in a namespace that is to go, and lets it go.
    pub async fn let_namespace_go(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.admin());
        let kinds = "configmaps,secrets,services,roles,rolebindings,serviceaccounts,deployments,ingresses,\
                     endpointslices,leases,poddisruptionbudgets,events";
        self.kubectl_ok(&["-n", name, "delete", kinds, "--all"]);
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []},
            })).unwrap())
            .unwrap();
        self.admin().request_text(request).await.unwrap();
        eventually("the namespace is gone", START_WITHIN, async || {
            match namespaces.get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(there) => Err(format!("{there:?}")),
            }
        })
        .await;
    }

    /// A token of a service account that is there, by TokenRequest.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token
    }

    /// Runs kubectl as the user who may do everything.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        Command::new(tools::folder().join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.admin_kubeconfig())
            .env("HOME", &self.folder)
            .stdin(Stdio::null())
            // Ctrl-C is for whoever runs this; kubectl ends by itself.
            .process_group(0)
            .output()
            .unwrap()
    }

    /// As `kubectl`; what it prints, and a panic when it fails.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies manifests, see `apply::apply`.
    pub async fn apply(&self, manifests: &str) {
        apply::apply(&self.admin(), manifests).await;
    }

    /// Applies objects, see `apply::apply`.
    pub async fn apply_objects(&self, objects: &[serde_json::Value]) {
        let objects = objects.iter().map(|object| serde_json::from_value(object.clone()).unwrap());
        apply::apply_objects(&self.admin(), objects.collect()).await;
    }

    /// Everything that was asked of the API server and answered so far, in the order of its log.
    pub fn audit(&self) -> Vec<AuditEvent> {
        audit::read(&self.folder.join("audit.log"))
    }

    /// Starts a program that ends with this control plane. Its output goes to a file.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Process {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{name}-{number}.log"));
        let process = Process::start(name, command, log);
        self.janitor.add(&process);
        process
    }

    /// Process id of a part.
    pub fn id(&self, part: Part) -> u32 {
        self.slot(part).lock().unwrap().as_ref().expect("it runs").id()
    }

    /// Ends a part at once, as `kill -9` would.
    pub fn kill(&self, part: Part) {
        drop(self.slot(part).lock().unwrap().take().expect("it runs"));
    }

    /// Starts a part again after `kill`, with its old address and data, and waits until all is ready.
    pub async fn revive(&self, part: Part) {
        match part {
            Part::Etcd => self.spawn_etcd(),
            Part::ApiServer => self.spawn_api_server(),
        }
        self.ready().await;
    }

    /// Sends a signal to a part, as SIGSTOP to stall it on all connections.
    pub fn signal(&self, part: Part, signal: Signal) {
        self.slot(part).lock().unwrap().as_ref().expect("it runs").signal(signal);
    }

    /// Waits until the API server says that it is ready.
    pub async fn ready(&self) {
        eventually("the API server is ready", START_WITHIN, async || {
            for part in [Part::Etcd, Part::ApiServer] {
                if let Some(process) = self.slot(part).lock().unwrap().as_mut()
                    && let Some(status) = process.exited()
                {
                    panic!("{part:?} ended with {status}:\n{}", process.log_tail());
                }
            }
            // Its own and its authority's, both written to the end.
            let certificates = std::fs::read_to_string(self.ca_file()).unwrap_or_default();
            if certificates.matches("-----END CERTIFICATE-----").count() < 2 {
                return Err("it has no certificate yet".to_owned());
            }
            // A client of its own each time, so that no dead connection is used again.
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            let client = self.admin();
            let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await;
            match answer {
                Ok(Ok(text)) if text == "ok" => Ok(()),
                Ok(Ok(text)) => Err(text),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer within 2 s".to_owned()),
            }
        })
        .await;
    }

    fn slot(&self, part: Part) -> &Mutex<Option<Process>> {
        match part {
            Part::Etcd => &self.etcd,
            Part::ApiServer => &self.api_server,
        }
    }

    fn spawn_etcd(&self) {
        let socket = |name: &str| format!("unix://{}/{name}.sock", self.folder.display());
        let mut command = Command::new(tools::folder().join("etcd"));
        command
            .args(["--name", "test", "--unsafe-no-fsync", "--log-level", "warn"])
            // The benches' largest clusters need more than the default of 2 GiB.
            .args(["--quota-backend-bytes", "8589934592"])
            .args(["--data-dir", &format!("{}/etcd", self.folder.display())])
            .args(["--listen-client-urls", &socket("client"), "--advertise-client-urls", &socket("client")])
            .args(["--listen-peer-urls", &socket("peer"), "--initial-advertise-peer-urls", &socket("peer")])
            .args(["--initial-cluster", &format!("test={}", socket("peer"))])
            .current_dir(&self.folder);
        *self.etcd.lock().unwrap() = Some(self.spawn("etcd", &mut command));
    }

    fn spawn_api_server(&self) {
        let file = |name: &str| format!("{}/{name}", self.folder.display());
        let mut command = Command::new(tools::folder().join("kube-apiserver"));
        command
            .args(["--etcd-servers", &format!("unix://{}/client.sock", self.folder.display())])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--cert-dir", &file("certs"), "--token-auth-file", &file("tokens.csv")])
            .args(["--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none"])
            .args(["--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args(["--service-account-key-file", &file("sa.key")])
            .args(["--service-account-signing-key-file", &file("sa.key")])
            .args(["--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount"])
            .args(["--audit-policy-file", &file("audit.yaml"), "--audit-log-path", &file("audit.log")])
            .args(["--audit-log-mode", "blocking"])
            .current_dir(&self.folder);
        *self.api_server.lock().unwrap() = Some(self.spawn("kube-apiserver", &mut command));
    }
}

/// A key for tokens of service accounts. An elliptic curve's is made in no time.
fn make_key(path: &Path) {
    let output = Command::new("openssl")
        .args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"])
        .arg(path)
        .output()
        .expect("openssl is needed to make a key");
    let mut said = String::new();
    write!(said, "{}", String::from_utf8_lossy(&output.stderr)).unwrap();
    assert!(output.status.success(), "openssl: {said}");
}

/// A port that nobody listens on and that no outgoing connection is given while the API server is down:
/// below the range that Linux takes those from. Other test processes start elsewhere in the range.
pub fn free_port() -> u16 {
    const LOWEST: u16 = 20000;
    const COUNT: u16 = 12000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = LOWEST + (start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed))) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {LOWEST} on is free");
}
