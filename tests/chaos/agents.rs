//! Agents: real processes, one for each output, each behind a proxy of its own as the replicas are. Whatever befalls them,
//! they hand on whole generations, in order, and never nothing; and in the end what is published.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::Admin;
use super::disk::{Disk, Mark};
use super::fault::{Rule, WatchFate};
use super::harness::operator::{binary, get};
use super::harness::{ControlPlane, Process, Signal, eventually, free_port};
use super::legal::Legal;
use super::proxy::{Proxy, Tally};
use super::reader;
use super::replicas::{self, Pace};
use super::round::SOON;
use super::world::OUTPUTS;

/// How these faults are counted.
pub const KILLED: &str = "agent SIGKILL";
pub const STOPPED: &str = "agent SIGSTOP";

pub const AGENTS: usize = OUTPUTS.len();

#[derive(Clone, Debug)]
pub enum AgentFault {
    Rule(Rule),
    Watch(WatchFate),
    Kill,
    Stop,
    /// Lets it run again.
    Restart,
}

struct Agent {
    name: String,
    output: &'static str,
    folder: PathBuf,
    disk: Arc<Disk>,
    proxy: Proxy,
    port: u16,
    process: Option<Process>,
}

pub struct Agents<'a> {
    plane: &'a ControlPlane,
    agents: Vec<Agent>,
    tally: Tally,
    right_within: Duration,
}

impl<'a> Agents<'a> {
    /// Agents that all run and have handed on what is published.
    pub async fn start(
        plane: &'a ControlPlane,
        admin: &Admin,
        legal: &Arc<Legal>,
        tally: &Tally,
        pace: Pace,
    ) -> Self {
        let mut agents = Vec::new();
        for (at, output) in OUTPUTS.into_iter().enumerate() {
            let name = format!("agent-{at}");
            let folder = plane.folder().join(&name);
            let disk = Disk::follow(folder.clone(), output, Arc::clone(legal));
            let proxy = Proxy::start(&replicas::config(plane), tally.clone()).await;
            agents.push(Agent { name, output, folder, disk, proxy, port: free_port(), process: None });
        }
        let mut agents = Self { plane, agents, tally: tally.clone(), right_within: pace.right_within };
        agents.refresh_tokens().await;
        agents.restore();
        agents.right(admin).await;
        agents
    }

    pub async fn refresh_tokens(&self) {
        for agent in &self.agents {
            let token = self.plane.service_account_token("waybill", "traefik").await;
            std::fs::write(agent.folder.with_extension("token"), token).unwrap();
        }
    }

    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.agents.iter().map(|agent| &agent.proxy)
    }

    pub fn suffer(&mut self, at: usize, fault: &AgentFault) {
        let agent = &mut self.agents[at];
        match fault {
            AgentFault::Rule(rule) => agent.proxy.add(rule.clone()),
            AgentFault::Watch(fate) => _ = agent.proxy.strike(None, *fate),
            AgentFault::Restart => agent.run(self.plane),
            AgentFault::Stop => {
                if let Some(process) = &agent.process {
                    process.signal(Signal::STOP);
                    self.tally.count(STOPPED.to_owned());
                }
            }
            AgentFault::Kill => {
                // What is dropped is killed.
                if agent.process.take().is_some() {
                    self.tally.count(KILLED.to_owned());
                }
            }
        }
    }

    /// Lets every process run.
    pub fn restore(&mut self) {
        self.agents.iter_mut().for_each(|agent| agent.run(self.plane));
    }

    /// Fails when a process has ended by itself.
    pub fn assert_alive(&mut self) {
        for agent in &mut self.agents {
            let Some(process) = &mut agent.process else { continue };
            let ended = process.exited();
            assert!(ended.is_none(), "{} ended: {ended:?}: {}", agent.name, process.log_tail());
        }
    }

    /// Waits until every disk is what is published; gives how long that took.
    pub async fn right(&self, admin: &Admin) -> Duration {
        let begun = Instant::now();
        for agent in &self.agents {
            eventually(
                &format!("{} has handed on what is published", agent.name),
                self.right_within,
                async || {
                    let published = reader::now(&admin.client(), agent.output).await?;
                    let said = || agent.process.as_ref().map(Process::log_tail).unwrap_or_default();
                    agent.disk.compare(&published).map_err(|why| format!("{why}\n{}", said()))
                },
            )
            .await;
        }
        begun.elapsed()
    }

    /// Output, generation and hash of what was on any disk since this was asked last.
    pub fn take(&self) -> Vec<(&'static str, Mark, String)> {
        let of_agent = |agent: &Agent| {
            let output = agent.output;
            agent.disk.take().into_iter().map(move |(mark, hash)| (output, mark, hash))
        };
        self.agents.iter().flat_map(of_agent).collect()
    }

    /// What each says of itself, with its name.
    pub async fn metrics(&self) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for agent in &self.agents {
            let metrics =
                eventually("an agent shows its metrics", SOON, async || get(agent.port, "/metrics").await);
            texts.push((format!("the metrics of {}", agent.name), metrics.await.1));
        }
        texts
    }
}

impl Agent {
    fn run(&mut self, plane: &ControlPlane) {
        if let Some(process) = &self.process {
            return process.signal(Signal::CONT);
        }
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("POD_NAME", &self.name)
            .args(["agent", "--output", self.output, "--directory"])
            .arg(&self.folder)
            .arg(format!("--providers.kubernetesingress.endpoint={}", self.proxy.url()))
            .arg(format!(
                "--providers.kubernetesingress.token={}",
                self.folder.with_extension("token").display()
            ))
            .arg(format!("--metrics-address=127.0.0.1:{}", self.port));
        self.process = Some(plane.spawn(&self.name, &mut command));
    }
}
