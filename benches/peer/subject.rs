//! One of the two that are measured.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::harness::operator::{Operator, get};
use super::harness::{ADMIN, ControlPlane, Process, Signal, eventually, free_port, tool};
use super::{process, rounds};

/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(600);

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
    looked: Cell<f64>,
}

impl Subject {
    pub async fn start(plane: &ControlPlane, kind: Kind, round: usize) -> Self {
        let program = match kind {
            Kind::Waybill => Program::Waybill(plane.operator(&format!("bench-{round}"), &[]).await),
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
                    .env_clear();
                Program::Traefik { process: plane.spawn("traefik", &mut command), api }
            }
        };
        Self { program, looked: Cell::new(0.0) }
    }

    pub fn id(&self) -> u32 {
        match &self.program {
            Program::Waybill(operator) => operator.process.id(),
            Program::Traefik { process, .. } => process.id(),
        }
    }

    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.id())
    }

    /// CPU seconds that the last [`Self::arrived`] cost the subject itself, for the look that found everything.
    pub fn cost_of_looking(&self) -> f64 {
        self.looked.take()
    }

    /// Waits until it has as many routers.
    pub async fn loaded(&self, plane: &ControlPlane, count: usize) {
        eventually("all routers are loaded", PATIENCE, async || {
            let routers = match &self.program {
                Program::Waybill(_) => rounds::routers(plane).await?,
                Program::Traefik { api, .. } => {
                    let overview = answer(*api, "/api/overview").await?;
                    overview["http"]["routers"]["total"].as_u64().unwrap_or_default() as usize
                }
            };
            if routers >= count { Ok(()) } else { Err(format!("{routers} of {count}")) }
        })
        .await;
    }

    /// Waits until each slice's last change is in what it has loaded or published.
    pub async fn arrived(&self, plane: &ControlPlane, changed: &BTreeMap<usize, u8>) {
        match &self.program {
            Program::Waybill(_) => {
                rounds::all_committed(plane, changed).await;
            }
            Program::Traefik { api, .. } => {
                let wanted = rounds::urls(changed);
                eventually("all changes are loaded", PATIENCE, async || {
                    // Its whole answer is megabytes: a look is paid for, and not too often.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    let before = self.cpu_seconds();
                    let data = answer(*api, "/api/rawdata").await?;
                    self.looked.set(self.looked.get() + self.cpu_seconds() - before);
                    let services = data["services"].as_object().ok_or("no services")?;
                    let servers =
                        services.values().filter_map(|service| service["loadBalancer"]["servers"].as_array());
                    let urls: HashSet<&str> =
                        servers.flatten().filter_map(|server| server["url"].as_str()).collect();
                    let missing = wanted.iter().filter(|url| !urls.contains(url.as_str())).count();
                    if missing == 0 { Ok(()) } else { Err(format!("{missing} are missing")) }
                })
                .await;
            }
        }
    }

    pub async fn stop(self) {
        let mut process = match self.program {
            Program::Waybill(operator) => operator.process,
            Program::Traefik { process, .. } => process,
        };
        process.signal(Signal::TERM);
        process.ended(Duration::from_secs(30)).await;
    }
}

async fn answer(port: u16, path: &str) -> Result<Value, String> {
    let (_, body) = get(port, path).await?;
    serde_json::from_str(&body).map_err(|error| error.to_string())
}
