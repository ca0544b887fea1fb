//! A control plane with waybill installed as shipped, two operators, and edges: a Traefik with an agent each.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::harness::operator::{Operator, SOON, binary};
use crate::harness::{ControlPlane, Process, Signal, eventually, free_port, tool};
use crate::objects;

/// Parameters of the shipped class besides its published Service.
const PARAMETERS: &str = r#"{"precedence": "Spec", "brokenBackends": "Answer503", "allowExternalNameServices": true,
    "ingressEndpoint": {"publishedService": "waybill/traefik"}}"#;

/// What the example `traefik` serves.
const OUTPUT: &str = "waybill/waybill";

pub struct World {
    pub plane: ControlPlane,
    pub operators: Vec<Operator>,
}

impl World {
    /// A namespace `shop`, the shipped manifests with the example `traefik`, and two operators, one of which leads.
    pub async fn start(flags: &[&str]) -> Self {
        let world = Self::start_with("manifests/examples/traefik", flags).await;
        let parameters: Value = serde_json::from_str(PARAMETERS).unwrap();
        world
            .apply(&[
                objects::namespace(),
                json!({
                    "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
                    "metadata": {"name": "traefik"}, "spec": parameters,
                }),
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "traefik", "namespace": "waybill"},
                    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
                }),
            ])
            .await;
        world
    }

    /// The shipped manifests with another example.
    pub async fn start_with(example: &str, flags: &[&str]) -> Self {
        let plane = ControlPlane::start().await;
        for kustomization in ["crds", "manifests", example] {
            plane.install(kustomization);
        }
        let mut world = Self { plane, operators: Vec::new() };
        for name in ["one", "two"] {
            world.start_operator(name, flags).await;
        }
        world.operators[0].leads().await;
        world
    }

    pub async fn start_operator(&mut self, name: &str, flags: &[&str]) {
        let mut all = vec!["--providers.providersthrottleduration=50ms"];
        all.extend(flags);
        let operator = self.plane.operator(name, &all).await;
        operator.ready().await;
        self.operators.push(operator);
    }

    /// Ends all operators in order, so that none has to wait for the Lease.
    pub async fn stop_operators(&mut self) {
        for mut operator in self.operators.drain(..) {
            operator.process.signal(Signal::TERM);
            operator.process.ended(SOON).await;
        }
    }

    /// An operator of another release.
    pub async fn start_operator_of(&mut self, program: &OsStr, name: &str) {
        let token = self.plane.folder().join(format!("{name}.token"));
        std::fs::write(&token, self.plane.service_account_token("waybill", "waybill").await).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--providers.providersthrottleduration=50ms"]).env_clear();
        self.plane.reached_by(&mut command, &token);
        let operator = self.plane.operator_by(name, command);
        operator.ready().await;
        self.operators.push(operator);
    }

    pub async fn apply(&self, objects: &[Value]) {
        self.plane.apply_objects(objects).await;
    }

    /// Epoch and generation of what is published.
    pub async fn generation(&self) -> (u64, u64) {
        self.generation_of(OUTPUT).await
    }

    pub async fn generation_of(&self, output: &str) -> (u64, u64) {
        let (index, _) = self.plane.published(output).await.expect("there is an index");
        (index.epoch, index.generation)
    }

    /// What nobody may be refused.
    pub fn assert_nothing_refused(&self) {
        self.plane.assert_nothing_refused();
        let refused: Vec<_> = self
            .plane
            .audit()
            .into_iter()
            .filter(|event| {
                let agent = event.user.username.starts_with("system:serviceaccount:");
                agent && event.user.username.ends_with(":traefik") && event.code() == 403
            })
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

/// A Traefik with an agent beside it.
pub struct Edge {
    agent: Option<Process>,
    traefik: Option<Process>,
    pub name: String,
    output: String,
    /// Of this release, or of another.
    pub program: OsString,
    /// Of Traefik, with the addresses and the folder that pods have.
    pub arguments: Vec<String>,
    pub folder: PathBuf,
    pub include: PathBuf,
    agent_port: u16,
    web: u16,
    secure: u16,
    metrics: u16,
    api: u16,
}

impl Edge {
    /// Starts the agent, Traefik once it may, and waits until the edge is ready.
    pub async fn start(world: &World, name: &str) -> Self {
        let folder = world.plane.folder().join(name);
        Self::start_in(world, name, &folder).await
    }

    /// In a folder of one's own.
    pub async fn start_in(world: &World, name: &str, folder: &Path) -> Self {
        Self::start_at(world, name, folder, OUTPUT).await
    }

    /// For another output.
    pub async fn start_for(world: &World, name: &str, output: &str) -> Self {
        let folder = world.plane.folder().join(name);
        Self::start_at(world, name, &folder, output).await
    }

    async fn start_at(world: &World, name: &str, folder: &Path, output: &str) -> Self {
        let mut edge = Self::new(world, name, folder, output).await;
        edge.start_agent(world);
        edge.start_traefik(world).await;
        edge
    }

    /// Starts Traefik once it may, and waits until the edge is ready.
    pub async fn start_traefik(&mut self, world: &World) {
        started(self.agent_port).await;
        self.restart_traefik(world);
        self.ready().await;
    }

    /// Nothing of it runs yet, and its folders are empty.
    pub async fn prepared(world: &World, name: &str) -> Self {
        Self::new(world, name, &world.plane.folder().join(name), OUTPUT).await
    }

    async fn new(world: &World, name: &str, folder: &Path, output: &str) -> Self {
        let include = world.plane.folder().join(format!("{name}-include"));
        std::fs::create_dir_all(&include).unwrap();
        let [agent_port, web, secure, metrics, api] = std::array::from_fn(|_| free_port());
        let (namespace, _) = output.split_once('/').unwrap();
        let token = world.plane.service_account_token(namespace, "traefik").await;
        std::fs::write(world.plane.folder().join(format!("{name}.token")), token).unwrap();
        Self {
            agent: None,
            traefik: None,
            name: name.to_owned(),
            output: output.to_owned(),
            program: binary(),
            arguments: shipped_arguments(),
            folder: folder.to_owned(),
            include,
            agent_port,
            web,
            secure,
            metrics,
            api,
        }
    }

    /// Starts the agent, anew where there is one.
    pub fn start_agent(&mut self, world: &World) {
        // The old one has to be gone, since it holds the folder.
        self.kill_agent();
        self.agent = Some(self.spawn_agent(world));
    }

    /// Ends the agent in order.
    pub async fn stop_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.signal(Signal::TERM);
            agent.ended(SOON).await;
        }
    }

    /// Ends the agent as `kill -9` would.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Starts Traefik, after an end as by `kill -9` where there is one.
    pub fn restart_traefik(&mut self, world: &World) {
        self.traefik = None;
        self.traefik = Some(self.spawn_traefik(world));
    }

    /// What the kubelet does first to a pod that has to go: the agent goes on until Traefik has ended.
    pub fn terminate_traefik(&self) {
        self.traefik.as_ref().unwrap().signal(Signal::TERM);
    }

    /// Whether Traefik ends well by itself.
    pub async fn traefik_ends(&mut self) {
        let ended = self.traefik.as_mut().unwrap().ended(SOON).await;
        assert!(ended.success(), "{ended}\n{}", self.logs());
    }

    /// The port of entry point `web`.
    pub fn web(&self) -> u16 {
        self.web
    }

    /// The port of entry point `metrics`.
    pub fn metrics(&self) -> u16 {
        self.metrics
    }

    /// The port of entry point `websecure`.
    pub fn secure(&self) -> u16 {
        self.secure
    }

    /// What the agent that runs now has logged.
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The text of all files that Traefik reads.
    pub fn on_disk(&self) -> String {
        let files = std::fs::read_dir(self.folder.join("current")).into_iter().flatten().flatten();
        files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }

    fn logs(&self) -> String {
        let logs = [&self.agent, &self.traefik].into_iter().flatten().map(Process::log_tail);
        logs.collect::<Vec<_>>().join("\n---\n")
    }

    /// Answer of a probe.
    pub async fn probe(&self, path: &str) -> Result<Answer, String> {
        client::get(self.agent_port, "agent", path, &[]).await
    }

    pub async fn ready(&self) {
        eventually(&format!("{} is ready", self.name), SOON, async || match self.probe("/readyz").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}\n{}", self.logs())),
        })
        .await;
    }

    /// A metric of the agent.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let answer = self.probe("/metrics").await.ok()?;
        answer.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until Traefik has loaded what is published now.
    pub async fn loaded(&self, world: &World) {
        eventually(&format!("{} has loaded what is published", self.name), SOON, async || {
            let (_, generation) = world.generation_of(&self.output).await;
            let loaded = self.metric("waybill_agent_loaded_generation").await.unwrap_or_default();
            if loaded >= generation as f64 { Ok(()) } else { Err(format!("{loaded} of {generation}")) }
        })
        .await;
    }

    /// What Traefik answers to a request for `http://HOST/PATH`.
    pub async fn get(&self, url: &str) -> Result<Answer, String> {
        self.get_with(url, &[]).await
    }

    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let (host, path) = url.split_once('/').unwrap();
        client::get(self.web, host, &format!("/{path}"), headers).await
    }

    pub fn get_with_tls(&self, host: &str, trusted: &Path) -> Result<Answer, String> {
        client::get_with_tls(self.secure, host, trusted)
    }

    /// Waits until requests are answered so: URL, and the backend's name or the status.
    pub async fn answers(&self, table: &[(&str, &str)]) {
        for (url, wanted) in table {
            eventually(&format!("{url} is answered by {wanted}"), SOON, async || {
                let found = self.get(url).await?.who();
                if found == *wanted { Ok(()) } else { Err(found) }
            })
            .await;
        }
    }

    /// A document of Traefik's API.
    pub async fn api(&self, path: &str) -> Value {
        let answer = client::get(self.api, "traefik", &format!("/api/{path}"), &[]).await.unwrap();
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    fn spawn_agent(&self, world: &World) -> Process {
        let Self { name, output, folder, include, agent_port: port, api, .. } = self;
        let plane = &world.plane;
        let mut command = Command::new(&self.program);
        command
            .args(["agent", "--output", output, "--directory"])
            .arg(folder)
            .arg("--include")
            .arg(include)
            .arg(format!("--traefik-api=http://127.0.0.1:{api}"))
            .arg(format!("--metrics-address=127.0.0.1:{port}"))
            .env_clear()
            .env("POD_NAME", name);
        plane.reached_by(&mut command, &plane.folder().join(format!("{name}.token")));
        plane.spawn(&format!("agent-{name}"), &mut command)
    }

    fn spawn_traefik(&self, world: &World) -> Process {
        let folder = self.folder.display().to_string();
        let places = [
            ("=:8000", format!("=127.0.0.1:{}", self.web)),
            ("=:8443", format!("=127.0.0.1:{}", self.secure)),
            ("=:8082", format!("=127.0.0.1:{}", self.metrics)),
            ("=127.0.0.1:9000", format!("=127.0.0.1:{}", self.api)),
            ("=/run/waybill", format!("={folder}")),
        ];
        let mut command = Command::new(tool("traefik"));
        for argument in &self.arguments {
            let mut argument = argument.clone();
            for (pod, here) in &places {
                argument = argument.replace(pod, here);
            }
            command.arg(argument);
        }
        command.env_clear().env("HOME", "/home-of-the-proxy");
        world.plane.spawn(&format!("traefik-{}", self.name), &mut command)
    }
}

/// The arguments of Traefik in the example `traefik`.
fn shipped_arguments() -> Vec<String> {
    let deployment = document("manifests/examples/traefik/proxy/deployment.yaml");
    strings(&deployment["spec"]["template"]["spec"]["containers"][0]["args"])
}

/// A file of the repository with one document.
pub fn document(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The items of a list of texts.
pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

async fn started(port: u16) {
    eventually("the agent has something for Traefik to start with", SOON, async || {
        match client::get(port, "agent", "/startupz", &[]).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
