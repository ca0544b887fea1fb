//! A round: faults, changes and readers at once, then everything has to come right, then a few things one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use super::agents::{AGENTS, Agents};
use super::api::Admin;
use super::audit::Log;
use super::checks;
use super::churn::Churn;
use super::fault::WatchFate;
use super::figures::Figures;
use super::harness::{ControlPlane, Part, Signal, eventually};
use super::large;
use super::legal::Legal;
use super::plan::{Plan, Step, Who, stalled};
use super::proxy::{Proxy, Tally};
use super::random::Random;
use super::reader::{self, Reader, Way};
use super::replicas::{Death, Fleet, Pace, REPLICAS};
use super::secrecy::Secrecy;
use super::singles::{ROUNDS, Single};
use super::vandal::{self, Damage};
use super::visible;
use super::world::{self, OUTPUTS};

/// A status that was damaged, or written late, has to be right again.
const STATUS_WITHIN: Duration = Duration::from_secs(5);
/// A watch on which nothing comes any more: the 30 s that it may last, 5 s without a byte after that, and a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(45);
/// For a change of leaders on a busy machine, beyond what the lease allows.
pub const MARGIN: Duration = Duration::from_secs(3);
pub const SOON: Duration = Duration::from_secs(30);

pub struct Chaos<'a> {
    pub plane: &'a ControlPlane,
    pub admin: Admin,
    pub fleet: Fleet<'a>,
    agents: Agents<'a>,
    pub legal: Arc<Legal>,
    pub churn: Churn,
    log: Log,
    secrecy: Secrecy,
    tally: Tally,
    seed: u64,
    /// Those that read from the beginning to the end.
    readers: JoinSet<()>,
    /// Changes that were waited for in this round.
    marks: i64,
    pub figures: Figures,
}

impl<'a> Chaos<'a> {
    /// Starts everything, and waits until it is right for the first time.
    pub async fn start(plane: &'a ControlPlane, seed: u64, ingresses: u64) -> Self {
        let admin = Admin::new(plane);
        let pace = Pace::with(ingresses);
        world::fill(plane, &admin).await;
        large::fill(plane, &admin, ingresses as usize).await;
        let tally = Tally::default();
        let legal = Arc::new(Legal::default());
        let churn = Churn::new(admin.clone(), Arc::clone(&legal), seed);
        let fleet = Fleet::start(plane, &admin, &tally, pace).await;
        checks::converge(&admin, plane.folder(), pace).await.unwrap();
        for output in OUTPUTS {
            let published = reader::now(&admin.client(), output).await.unwrap();
            legal.settle(output, &published.configuration);
        }
        for at in 0..world::STABLE_COUNT {
            legal.require_certificate(world::certificate(&format!("{0}/s-{at} 0", world::STABLE)));
        }
        let agents = Agents::start(plane, &admin, &legal, &tally, pace).await;
        let mut chaos = Self {
            log: Log::new(plane.folder()),
            plane,
            agents,
            admin,
            fleet,
            legal,
            churn,
            secrecy: Secrecy::new(),
            tally,
            seed,
            readers: JoinSet::new(),
            marks: 0,
            figures: Figures::default(),
        };
        for (number, (output, way)) in
            [(OUTPUTS[0], Way::List), (OUTPUTS[0], Way::Watch), (OUTPUTS[1], Way::Watch)]
                .into_iter()
                .enumerate()
        {
            let reader = chaos.reader(output, number as u64);
            chaos.readers.spawn(reader.run(way));
        }
        chaos
    }

    fn reader(&self, output: &str, number: u64) -> Reader {
        Reader::new(&self.admin.client(), output, Arc::clone(&self.legal), self.seed ^ number)
    }

    /// One round of so many, from faults to checks.
    pub async fn round(&mut self, round: u64, rounds: u64) {
        let (begun, pace) = (Instant::now(), self.fleet.pace);
        let plan = Plan::new(self.seed, round, pace.window);
        println!("round {round}:\n{plan}");
        self.fleet.refresh_tokens().await;
        self.agents.refresh_tokens().await;
        for (at, proxy) in self.proxies().enumerate() {
            proxy.set(self.seed ^ (round << 8) ^ at as u64, Vec::new());
        }
        self.churn.begin(self.seed, round);
        let mut random = Random::part(self.seed ^ 0x4ead, round);
        let mut readers = JoinSet::new();
        for way in [Way::List, Way::Watch] {
            let reader = self.reader(OUTPUTS[0], random.next());
            let starts = Duration::from_millis(random.below(pace.window.as_millis() as usize) as u64);
            readers.spawn(async move {
                tokio::time::sleep(starts).await;
                reader.run(way).await;
            });
        }

        let damages = self.faults(&plan).await;
        self.fleet.restore();
        self.agents.restore();
        self.lift().await;
        let lifted = begun.elapsed();
        for damage in damages {
            tokio::time::timeout(pace.right_within, damage)
                .await
                .expect("damage is made good in time")
                .unwrap();
        }
        self.fleet.assert_alive();
        self.agents.assert_alive();
        let right = checks::converge(&self.admin, self.plane.folder(), pace).await;
        let (took, expected) = match right {
            Ok(right) => right,
            Err(wrong) => {
                let kept = self.keep_objects(round);
                panic!("{wrong}\nthe objects are in {kept}\n{}", self.fleet.condition().await)
            }
        };
        self.figures.converged.add(took);
        self.figures.agents.add(self.agents.right(&self.admin).await);
        self.figures.seen += visible::look(&self.fleet, SOON).await;
        (self.figures.ingresses, self.figures.routers, self.figures.problems) = expected.size();
        let converged = begun.elapsed();

        self.marks = 0;
        self.late_status(round).await;
        for single in Single::of_round(round, rounds) {
            self.single(single, round).await;
            *self.figures.singles.entry(single).or_default() += 1;
        }
        readers.shutdown().await;
        self.agents.right(&self.admin).await;
        self.agents.assert_alive();
        self.look(&plan).await;
        self.figures.rounds += 1;
        println!(
            "round {round}: faults lifted after {lifted:.1?}, right after {converged:.1?}, over after {:.1?}",
            begun.elapsed()
        );
    }

    fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.fleet.replicas.iter().map(|replica| &replica.proxy).chain(self.agents.proxies())
    }

    async fn lift(&self) {
        self.agents.proxies().for_each(Proxy::lift);
        self.fleet.lift(SOON).await;
    }

    /// Keeps what the API server holds, with the canaries for keys, for `waybill render` to be run on.
    fn keep_objects(&self, round: u64) -> String {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos-failures");
        let path = folder.join(format!("{}-{round}.json", self.seed));
        let kept = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(self.plane.folder().join("objects.json"), &path));
        kept.map_or_else(|error| error.to_string(), |_| path.display().to_string())
    }

    /// Watches on which nothing comes any more are given up in time, and nobody else ends the stall.
    async fn watches_stalled(&mut self, round: u64) {
        let resource = stalled(self.seed, round / ROUNDS);
        let proxies = || self.proxies();
        proxies().for_each(|proxy| drop(proxy.take_given_up()));
        let struck: usize = proxies().map(|proxy| proxy.strike(resource, WatchFate::Stalled)).sum();
        assert!(struck > 0, "nobody watches {resource:?}");
        let mut after = Vec::new();
        eventually("all stalled watches are given up", NOTICED_WITHIN + MARGIN, async || {
            after.extend(proxies().flat_map(Proxy::take_given_up));
            let held: usize = proxies().map(Proxy::held).sum();
            let all = held == 0 && !after.is_empty();
            if all { Ok(()) } else { Err(format!("{held} are held, and {} of {struck} went", after.len())) }
        })
        .await;
        after.into_iter().for_each(|after| self.figures.noticed.add(after));
        self.lift().await;
        self.right_again("stalled watches").await;
    }

    /// Carries out a plan while objects change.
    async fn faults(&mut self, plan: &Plan) -> Vec<JoinHandle<()>> {
        let begun = tokio::time::Instant::now();
        let over = AtomicBool::new(false);
        let Self { plane, admin, fleet, agents, legal, churn, .. } = self;
        let carry_out = async {
            let mut damages = Vec::new();
            for (at, step) in &plan.steps {
                tokio::time::sleep_until(begun + Duration::from_millis(*at)).await;
                match step {
                    Step::Rule(who, rule) => {
                        for at in victims(fleet, *who).await {
                            fleet.replicas[at].proxy.add(rule.clone());
                        }
                    }
                    Step::Watch(who, resource, fate) => {
                        for at in victims(fleet, *who).await {
                            fleet.replicas[at].proxy.strike(*resource, *fate);
                        }
                    }
                    Step::Death(who, death) => {
                        for at in victims(fleet, *who).await {
                            fleet.strike(at, *death).await;
                        }
                    }
                    Step::Agent(at, fault) => agents.suffer(*at, fault),
                    Step::Lift => {
                        fleet.replicas.iter().for_each(|replica| replica.proxy.lift());
                        agents.proxies().for_each(Proxy::lift);
                    }
                    Step::Revive => {
                        fleet.restore();
                        agents.restore();
                    }
                    Step::Kill(part) => plane.kill(*part),
                    Step::Restart(part) => plane.revive(*part).await,
                    Step::Freeze(part) => plane.signal(*part, Signal::STOP),
                    Step::Thaw(part) => plane.signal(*part, Signal::CONT),
                    Step::Damage(output, damage) => {
                        let (admin, legal, damage) = (admin.clone(), Arc::clone(legal), *damage);
                        let output: &'static str = output;
                        damages.push(tokio::spawn(async move {
                            for damage in damage {
                                vandal::damage(&admin, &legal, output, damage).await;
                            }
                        }));
                    }
                }
            }
            tokio::time::sleep_until(begun + fleet.pace.window).await;
            over.store(true, Ordering::SeqCst);
            damages
        };
        let ((), damages) = tokio::join!(churn.run(&over), carry_out);
        for (_, step) in &plan.steps {
            match step {
                Step::Kill(part) => self.tally.count(format!("{part:?} killed")),
                Step::Freeze(part) => self.tally.count(format!("{part:?} frozen")),
                Step::Damage(_, damages) => {
                    damages.iter().for_each(|damage| self.tally.count(damage.to_string()));
                }
                _ => {}
            }
        }
        damages
    }

    /// What is measured without any other fault.
    async fn single(&mut self, single: Single, round: u64) {
        match single {
            Single::LeaderKilled => self.takeover(Death::Kill).await,
            Single::LeaderTerminated => self.takeover(Death::Terminate).await,
            Single::CertificateGone => self.certificate_gone_for_a_moment(round).await,
            Single::IndexDeleted => self.index_deleted().await,
            Single::PausedByIndex => self.paused(round, false).await,
            Single::PausedByClass => self.paused(round, true).await,
            Single::WatchesStalled => self.watches_stalled(round).await,
            Single::WithdrawalBroughtBack => self.withdrawn(round, false).await,
            Single::WithdrawalConfirmed => self.withdrawn(round, true).await,
        }
    }

    /// A status that a former leader writes late is right again soon.
    async fn late_status(&mut self, round: u64) {
        let name = format!("s-{}", round % world::STABLE_COUNT as u64);
        let status = async || {
            let ingress = self.admin.get("Ingress", world::STABLE, &name).await;
            ingress.map(|ingress| ingress["status"]["loadBalancer"]["ingress"].clone())
        };
        let right = status().await.unwrap();
        let begun = Instant::now();
        self.admin.apply_status(world::STABLE, &name, json!([{"ip": "192.0.2.250"}])).await.unwrap();
        eventually("a status that was written late is right again", STATUS_WITHIN, async || {
            match status().await {
                Ok(now) if now == right => Ok(()),
                now => Err(format!("{now:?}")),
            }
        })
        .await;
        self.figures.statuses.add(begun.elapsed());
    }

    /// The leader goes; another one takes over as fast as the lease allows.
    async fn takeover(&mut self, death: Death) {
        let (leader, _) = self.fleet.leader_beside(None, SOON).await;
        let longest = match death {
            Death::Kill => self.fleet.pace.lease + self.fleet.pace.retry.mul_f64(2.2) + MARGIN,
            _ => Duration::from_secs(1) + MARGIN,
        };
        let begun = Instant::now();
        let (fleet, figures) = (&mut self.fleet, &mut self.figures);
        // A process that is told to end gives the lease back before it has ended.
        fleet.signal(leader, death);
        let (_, _) = fleet.leader_beside(Some(leader), longest).await;
        match death {
            Death::Kill => figures.killed.add(begun.elapsed()),
            _ => figures.released.add(begun.elapsed()),
        }
        fleet.buried(leader, death).await;
        fleet.restore();
    }

    /// A TLS Secret that is deleted and made again withdraws nothing in between.
    async fn certificate_gone_for_a_moment(&mut self, round: u64) {
        let name = format!("s-{}", round % world::STABLE_COUNT as u64);
        let secret = world::tls_secret(world::STABLE, &name, 0);
        // Who has not listed yet may lead, and has never seen the Secret.
        for (_, operator) in self.fleet.running() {
            operator.ready().await;
        }
        self.admin.delete("Secret", world::STABLE, &name).await.unwrap();
        self.published_version(1, round).await;
        self.admin.create(&secret).await.unwrap();
        self.published_version(2, round).await;
    }

    /// Waits until a change of a kept Ingress is published; everything that readers see until then is looked at.
    pub async fn published_version(&mut self, at: usize, round: u64) {
        let name = format!("k-{at}");
        let version = self.mark(round);
        self.legal.allow_version(&name, version);
        let ingress = world::ingress(world::KEPT, &name, "", "");
        self.admin.patch(&ingress, world::version_patch(version)).await.unwrap();
        let key = world::router_key(world::KEPT, &name);
        eventually("the change is published", SOON, async || {
            let published = reader::now(&self.admin.client(), OUTPUTS[0]).await?;
            let faults = self.legal.faults(OUTPUTS[0], &published.configuration);
            assert!(faults.is_empty(), "{faults:#?}");
            let http = published.configuration.http.unwrap_or_default();
            match http.routers.get(&key) {
                Some(router) if router.priority == version => Ok(()),
                router => Err(format!("{router:?}")),
            }
        })
        .await;
    }

    /// A version that no Ingress had before.
    pub fn mark(&mut self, round: u64) -> i64 {
        self.marks += 1;
        i64::try_from(round).unwrap_or_default() * 100_000 + 90_000 + self.marks
    }

    /// The index comes back, and counts on. A leader that is elected while there is none begins to count anew, in a higher
    /// epoch.
    async fn index_deleted(&mut self) {
        let before = reader::now(&self.admin.client(), OUTPUTS[0]).await.unwrap().index;
        let begun = Instant::now();
        let damage = vandal::damage(&self.admin, &self.legal, OUTPUTS[0], Damage::LostIndex);
        tokio::time::timeout(SOON, damage).await.expect("a deleted index comes back");
        self.figures.put_back.add(begun.elapsed());
        let after = reader::now(&self.admin.client(), OUTPUTS[0]).await.unwrap().index;
        assert!(
            (after.epoch, after.generation) > (before.epoch, before.generation) && after.hash == before.hash,
            "{before:?} {after:?}"
        );
    }

    /// Looks at what everybody saw and wrote in this round.
    async fn look(&mut self, plan: &Plan) {
        let mut wrong = self.legal.violations();
        if let Some(ended) = self.readers.try_join_next() {
            wrong.push(format!("a reader ended: {ended:?}"));
        }
        let (faults, audit) = self.log.look();
        wrong.extend(faults);
        let mut texts = vec![("the audit log".to_owned(), audit)];
        // An API server that is killed has not logged all that it did.
        let whole = !plan.steps.iter().any(|(_, step)| matches!(step, Step::Kill(Part::ApiServer)));
        for (output, mark, hash) in self.agents.take() {
            self.figures.generations += 1;
            match self.log.hashes(output, mark) {
                Some(hashes) if hashes.contains(&hash) => self.figures.witnessed += 1,
                None if !whole => {}
                known => {
                    wrong.push(format!("{output}: an agent had {mark:?} as {hash}, published is {known:?}"))
                }
            }
        }
        texts.extend(self.agents.metrics().await);
        for (name, operator) in self.fleet.running() {
            // One that was just started has to begin first.
            let metrics =
                eventually("a replica shows its metrics", SOON, async || operator.get("/metrics").await);
            texts.push((format!("the metrics of {name}"), metrics.await.1));
        }
        assert!(texts.len() > REPLICAS + AGENTS, "not all replicas run");
        let seen = self.secrecy.look(&self.admin, self.plane.folder(), &texts, self.fleet.pace).await;
        wrong.extend(seen.into_iter().map(|place| format!("private key in {place}")));
        let owned = checks::owned(&self.admin).await.unwrap();
        wrong.extend(owned.into_iter().map(|object| format!("an ownerReference on {object}")));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let Self { figures, legal, log, .. } = self;
        // Whoever sees nothing finds no fault.
        assert!(log.commits > figures.commits, "the audit log shows no commit of this round");
        figures.changes = self.churn.changes;
        figures.faults = self.tally.counts();
        (figures.commits, figures.epochs, figures.late_index_writes) = (log.commits, log.epochs(), log.late);
        figures.readers = legal.readers.load(Ordering::Relaxed);
        figures.states = legal.states.load(Ordering::Relaxed);
        figures.retries = legal.retries.load(Ordering::Relaxed);
    }
}

/// Whom a step hits at this moment.
async fn victims(fleet: &mut Fleet<'_>, who: Who) -> Vec<usize> {
    match who {
        Who::All => (0..REPLICAS).collect(),
        Who::Replica(at) => vec![at],
        Who::Leader => fleet.leader_now().await.into_iter().collect(),
    }
}
