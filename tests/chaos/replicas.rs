//! The replicas: real processes, each behind a proxy of its own.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::api::Admin;
use super::guards;
use super::harness::operator::{Operator, binary};
use super::harness::{ControlPlane, Signal, eventually};
use super::proxy::{Proxy, Tally};

/// Leader election's times, and what else depends on how much there is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub lease: Duration,
    pub renew: Duration,
    pub retry: Duration,
    /// How long faults go on in a round; a process is stopped for about half of that.
    pub window: Duration,
    /// After the last fault, everything has to be right again within this.
    pub right_within: Duration,
    /// Statuses a second.
    pub status_rate: u64,
}

impl Pace {
    /// With so many Ingresses beside those of `world`: on a small machine, a large cluster takes a share of the time
    /// that leaders need to renew.
    pub fn with(ingresses: u64) -> Self {
        let scale = if ingresses < 5_000 { 1 } else { 3 };
        Self {
            lease: Duration::from_secs(3) * scale,
            renew: Duration::from_secs(2) * scale,
            retry: Duration::from_millis(500) * scale,
            window: Duration::from_secs(8) * scale,
            // An Ingress that moves to another output may be in both for a minute, and a changed address is written into
            // every status.
            right_within: Duration::from_secs(80 + ingresses / 100),
            status_rate: if ingresses == 0 { 200 } else { 1_000 },
        }
    }

    /// The options of all replicas, as flags.
    pub fn flags(&self) -> Vec<String> {
        let election =
            |name: &str, value: Duration| format!("--operator.leaderelection.{name}={}ms", value.as_millis());
        vec![
            "--providers.kubernetesingress.ingressendpoint.publishedservice=edge/traefik".to_owned(),
            "--providers.providersthrottleduration=200ms".to_owned(),
            format!("--operator.statusrate={}", self.status_rate),
            election("leaseduration", self.lease),
            election("renewdeadline", self.renew),
            election("retryperiod", self.retry),
        ]
    }
}

/// How long a replica may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(5);

pub const REPLICAS: usize = 3;

/// How a proxy reaches the API server.
pub fn config(plane: &ControlPlane) -> kube::Config {
    let mut config = kube::Config::new(plane.url().parse().unwrap());
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(plane.ca_file());
    config
}

/// A place for a process; whether one runs in it or not.
pub struct Replica {
    pub name: String,
    pub proxy: Proxy,
    process: Option<Operator>,
    stopped: bool,
}

/// How a process comes to its end, or nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Kill,
    Terminate,
    /// Not for good.
    Stop,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "SIGKILL",
            Self::Terminate => "SIGTERM",
            Self::Stop => "SIGSTOP",
        })
    }
}

pub struct Fleet<'a> {
    plane: &'a ControlPlane,
    admin: Admin,
    pub pace: Pace,
    last_leader: Option<usize>,
    pub replicas: Vec<Replica>,
    tally: Tally,
}

impl<'a> Fleet<'a> {
    /// Replicas that all run.
    pub async fn start(plane: &'a ControlPlane, admin: &Admin, tally: &Tally, pace: Pace) -> Self {
        let config = config(plane);
        let mut replicas = Vec::new();
        for at in 0..REPLICAS {
            let proxy = Proxy::start(&config, tally.clone()).await;
            replicas.push(Replica { name: format!("replica-{at}"), proxy, process: None, stopped: false });
        }
        let mut fleet =
            Self { plane, admin: admin.clone(), pace, last_leader: None, replicas, tally: tally.clone() };
        fleet.refresh_tokens().await;
        fleet.restore();
        fleet
    }

    /// Writes tokens that are good for another hour.
    pub async fn refresh_tokens(&self) {
        for replica in &self.replicas {
            let token = self.plane.service_account_token("waybill", "waybill").await;
            std::fs::write(self.token_file(&replica.name), token).unwrap();
        }
    }

    fn token_file(&self, name: &str) -> std::path::PathBuf {
        self.plane.folder().join(format!("{name}.token"))
    }

    fn spawn(&self, replica: &Replica) -> Operator {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .arg("run")
            .arg(format!("--providers.kubernetesingress.endpoint={}", replica.proxy.url()))
            .arg(format!("--providers.kubernetesingress.token={}", self.token_file(&replica.name).display()))
            .args(self.pace.flags())
            .args(guards::FLAGS);
        replica.proxy.new_process();
        self.plane.operator_by(&replica.name, command)
    }

    /// Lets every process run: those that are gone are started again, those that are stopped go on.
    pub fn restore(&mut self) {
        for at in 0..self.replicas.len() {
            self.revive(at);
        }
    }

    /// As [`Fleet::restore`] for one.
    pub fn revive(&mut self, at: usize) {
        let replica = &self.replicas[at];
        match &replica.process {
            Some(process) if replica.stopped => process.process.signal(Signal::CONT),
            Some(_) => {}
            None => {
                let process = self.spawn(replica);
                self.replicas[at].process = Some(process);
            }
        }
        self.replicas[at].stopped = false;
    }

    /// Does this to one, and waits for its end where it ends in order.
    pub async fn strike(&mut self, at: usize, death: Death) {
        if self.signal(at, death) {
            self.buried(at, death).await;
        }
    }

    /// Sends the signal alone; whether there is a process.
    pub fn signal(&mut self, at: usize, death: Death) -> bool {
        let replica = &mut self.replicas[at];
        let Some(process) = &replica.process else { return false };
        self.tally.count(format!("process {death}"));
        let signal = match death {
            Death::Kill => Signal::KILL,
            Death::Terminate => Signal::TERM,
            Death::Stop => Signal::STOP,
        };
        process.process.signal(signal);
        if death == Death::Terminate && replica.stopped {
            process.process.signal(Signal::CONT);
        }
        replica.stopped = death == Death::Stop;
        true
    }

    /// After [`Fleet::signal`]: what ends in order has to do so in time.
    pub async fn buried(&mut self, at: usize, death: Death) {
        if death == Death::Stop {
            return;
        }
        let replica = &mut self.replicas[at];
        let Some(mut process) = replica.process.take() else { return };
        if death == Death::Terminate {
            let status = process.process.ended(END_WITHIN).await;
            let said = process.process.log_tail();
            // One that was begun a moment ago has not asked for signals yet, and says nothing either.
            assert!(status.success() || said.is_empty(), "{}: {status} {said}", replica.name);
        }
    }

    /// Fails when a process has ended by itself.
    pub fn assert_alive(&mut self) {
        for replica in &mut self.replicas {
            if let Some(process) = &mut replica.process {
                let ended = process.process.exited();
                assert!(ended.is_none(), "{} ended: {ended:?}: {}", replica.name, process.process.log_tail());
            }
        }
    }

    pub fn running(&self) -> impl Iterator<Item = (&str, &Operator)> {
        let running = self.replicas.iter().filter(|replica| !replica.stopped);
        running.filter_map(|replica| Some((replica.name.as_str(), replica.process.as_ref()?)))
    }

    /// What the replicas say of their lease and their watches.
    pub async fn condition(&self) -> String {
        let mut text = format!("the leader is {:?}\n", self.leader().await);
        for (name, operator) in self.running() {
            let metrics = operator.get("/metrics").await.map_or_else(|error| error, |(_, metrics)| metrics);
            let said = metrics.lines().filter(|line| {
                let about = ["leader_election", "waybill_watch", "waybill_publish_error", "waybill_lease"];
                about.iter().any(|about| line.starts_with(about))
            });
            for line in said {
                text.push_str(&format!("{name}: {line}\n"));
            }
        }
        text
    }

    /// Which of them holds the Lease now; `None` where nobody does, or nobody says.
    pub async fn leader(&self) -> Option<usize> {
        let lease = self.admin.get("Lease", "waybill", "waybill").await.ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.rsplit_once('_')?.0.to_owned();
        self.replicas.iter().position(|replica| replica.name == holder)
    }

    /// As [`Fleet::leader`] without waiting for long: while nobody says, it is who was the last.
    pub async fn leader_now(&mut self) -> Option<usize> {
        if let Ok(leader) = tokio::time::timeout(Duration::from_millis(300), self.leader()).await {
            self.last_leader = leader.or(self.last_leader);
        }
        self.last_leader
    }

    /// Waits until a replica that runs holds the Lease, other than `other`; gives which and how long that took.
    pub async fn leader_beside(&self, other: Option<usize>, within: Duration) -> (usize, Duration) {
        let begun = Instant::now();
        let leader = eventually("a replica leads", within, async || match self.leader().await {
            Some(leader) if Some(leader) != other && self.replicas[leader].process.is_some() => Ok(leader),
            leader => Err(format!("{leader:?} holds the Lease")),
        })
        .await;
        (leader, begun.elapsed())
    }

    /// Ends the faults of the proxies, and waits until nothing is late any more.
    pub async fn lift(&self, within: Duration) {
        self.replicas.iter().for_each(|replica| replica.proxy.lift());
        eventually("late requests have arrived", within, async || {
            let late: usize = self.replicas.iter().map(|replica| replica.proxy.late()).sum();
            if late == 0 { Ok(()) } else { Err(format!("{late} are on their way")) }
        })
        .await;
    }
}
