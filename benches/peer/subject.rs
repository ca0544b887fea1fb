//! One of the two that are measured.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::Value;
use tokio::sync::Mutex;
use waybill::kubernetes::key::OutputKey;
use waybill::published::objects::routing_shard_name;
use waybill::published::read;

use super::changes::Wanted;
use super::harness::operator::{Operator, get};
use super::harness::{ADMIN, ControlPlane, Part, Process, Signal, eventually, free_port, tool};
use super::{process, rounds};

/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(900);

/// So long the peer is measured in each round, however far it gets.
pub const PEER_WITHIN: Duration = Duration::from_secs(600);

/// The peer's time is over.
pub struct OutOfTime;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Waybill,
    Traefik,
}

enum Program {
    Waybill(Operator),
    Traefik { process: Process, api: u16 },
}

pub struct Subject {
    program: Program,
    started: Instant,
    /// The published shards that were read, by name. They never change.
    shards: Mutex<HashMap<String, Shown>>,
}

/// What changes, of a document with `routers` and `services`.
struct Shown {
    urls: HashSet<String>,
    priorities: HashSet<i64>,
}

impl From<&Value> for Shown {
    fn from(http: &Value) -> Self {
        let values = |section: &str| {
            let entries = http[section].as_object();
            entries.into_iter().flat_map(|entries| entries.values())
        };
        let servers =
            values("services").filter_map(|service| service["loadBalancer"]["servers"].as_array()).flatten();
        Self {
            urls: servers.filter_map(|server| server["url"].as_str().map(str::to_owned)).collect(),
            priorities: values("routers").filter_map(|router| router["priority"].as_i64()).collect(),
        }
    }
}

impl Wanted {
    /// How many of the changes are in none of these.
    fn missing<'a>(&self, shown: impl Iterator<Item = &'a Shown> + Clone) -> usize {
        let no_url = |url: &&String| !shown.clone().any(|one| one.urls.contains(*url));
        let no_priority = |priority: &&i64| !shown.clone().any(|one| one.priorities.contains(priority));
        self.urls.iter().filter(no_url).count() + self.priorities.iter().filter(no_priority).count()
    }
}

/// CPU seconds that looks for what has arrived cost the subject and the API server.
#[derive(Default)]
pub struct CostOfLooking {
    pub subject: f64,
    pub api: f64,
}

impl Subject {
    pub async fn start(plane: &ControlPlane, kind: Kind, name: &str, flags: &[&str]) -> Self {
        let started = Instant::now();
        let program = match kind {
            Kind::Waybill => Program::Waybill(plane.operator(name, flags).await),
            Kind::Traefik => {
                let (web, api) = (free_port(), free_port());
                let mut command = Command::new(tool("traefik"));
                command
                    .arg(format!("--entrypoints.web.address=127.0.0.1:{web}"))
                    .arg(format!("--entrypoints.traefik.address=127.0.0.1:{api}"))
                    .args(["--api.insecure=true", "--api.dashboard=false", "--log.level=ERROR"])
                    .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
                    .arg(format!("--providers.kubernetesingress.endpoint={}", plane.url()))
                    .arg(format!("--providers.kubernetesingress.token={ADMIN}"))
                    .arg(format!(
                        "--providers.kubernetesingress.certauthfilepath={}",
                        plane.ca_file().display()
                    ))
                    .args(flags)
                    .env_clear();
                Program::Traefik { process: plane.spawn("traefik", &mut command), api }
            }
        };
        Self { program, started, shards: Mutex::default() }
    }

    pub fn id(&self) -> u32 {
        match &self.program {
            Program::Waybill(operator) => operator.process.id(),
            Program::Traefik { process, .. } => process.id(),
        }
    }

    /// Since it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.id())
    }

    /// Bytes that waybill has written to the API server: for commits, and as text.
    pub async fn written_bytes(&self) -> [f64; 2] {
        let Program::Waybill(operator) = &self.program else { return [f64::NAN; 2] };
        let of =
            async |kind: &str| operator.sum(&format!("waybill_written_bytes_total{{kind=\"{kind}\"")).await;
        let shards = of("routing_shard").await + of("key_shard").await;
        [of("index").await + shards, of("text").await]
    }

    async fn wait(
        &self,
        what: &str,
        condition: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), OutOfTime> {
        let within = match self.program {
            Program::Waybill(_) => Duration::MAX,
            Program::Traefik { .. } => PEER_WITHIN.saturating_sub(self.age()),
        };
        tokio::time::timeout(within, eventually(what, PATIENCE, condition)).await.map_err(|_| OutOfTime)
    }

    /// Waits until it has as many routers, of Traefik's own a few more.
    pub async fn loaded(&self, plane: &ControlPlane, wanted: usize) -> Result<(), OutOfTime> {
        self.wait("all routers are loaded and no others", async || {
            let (routers, own) = match &self.program {
                Program::Waybill(operator) => {
                    // Absent until a leader has compared everything with what is published.
                    operator.metric("waybill_published_age_seconds").await.ok_or("nothing is committed")?;
                    (rounds::routers(plane).await?, 0)
                }
                Program::Traefik { api, .. } => {
                    let overview = answer(*api, "/api/overview").await?;
                    (overview["http"]["routers"]["total"].as_u64().unwrap_or_default() as usize, 4)
                }
            };
            let there = (wanted..=wanted + own).contains(&routers);
            if there { Ok(()) } else { Err(format!("{routers} of {wanted}")) }
        })
        .await
    }

    /// Waits until this replica could take over.
    pub async fn ready(&self) {
        if let Program::Waybill(operator) = &self.program {
            operator.ready().await;
        }
    }

    /// Dies at once.
    pub async fn kill(self) {
        let mut process = self.into_process();
        process.signal(Signal::KILL);
        process.ended(Duration::from_secs(30)).await;
    }

    /// Waits until all changes are in what it has loaded or published. Gives what the looks cost.
    pub async fn arrived(&self, plane: &ControlPlane, wanted: &Wanted) -> Result<CostOfLooking, OutOfTime> {
        let api = || process::cpu_seconds(plane.id(Part::ApiServer));
        let cost = Cell::new((0.0, 0.0));
        self.wait("all changes have arrived", async || {
            // A look is megabytes: it is paid for, and not too often.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let before = (self.cpu_seconds(), api());
            let missing = self.missing(plane, wanted).await?;
            let (subject, server) = cost.get();
            cost.set((subject + self.cpu_seconds() - before.0, server + api() - before.1));
            if missing == 0 { Ok(()) } else { Err(format!("{missing} are missing")) }
        })
        .await?;
        let (subject, api) = cost.get();
        // What is read from the API server costs waybill nothing.
        let subject = if matches!(self.program, Program::Waybill(_)) { 0.0 } else { subject };
        Ok(CostOfLooking { subject, api })
    }

    /// How many of the changes it has not loaded or published.
    pub async fn missing(&self, plane: &ControlPlane, wanted: &Wanted) -> Result<usize, String> {
        if let Program::Traefik { api, .. } = &self.program {
            let shown = Shown::from(&answer(*api, "/api/rawdata").await?);
            return Ok(wanted.missing([&shown].into_iter()));
        }
        let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
        let mut shards = self.shards.lock().await;
        let mut named = HashSet::new();
        for (output, index) in rounds::indices(plane).await? {
            for short in index.shards() {
                let name = routing_shard_name(&OutputKey::new("waybill", output.as_str()), short);
                if !shards.contains_key(&name) {
                    let shard = maps.get(&name).await.map_err(|error| error.to_string())?;
                    let text = read::routing_document(&shard).map_err(|error| error.to_string())?;
                    let document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                    shards.insert(name.clone(), Shown::from(&document["http"]));
                }
                named.insert(name);
            }
        }
        shards.retain(|name, _| named.contains(name));
        Ok(wanted.missing(shards.values()))
    }

    fn into_process(self) -> Process {
        match self.program {
            Program::Waybill(operator) => operator.process,
            Program::Traefik { process, .. } => process,
        }
    }

    pub async fn stop(self) {
        let mut process = self.into_process();
        process.signal(Signal::TERM);
        process.ended(Duration::from_secs(30)).await;
    }
}

async fn answer(port: u16, path: &str) -> Result<Value, String> {
    let (_, body) = get(port, path).await?;
    serde_json::from_str(&body).map_err(|error| error.to_string())
}
