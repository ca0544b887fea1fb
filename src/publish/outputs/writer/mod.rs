//! Writes one output to the cluster: first the shards, then the index, which is the commit, and some time later deletes
//! garbage.
//!
//! A writer lives as long as its leader's term. Whatever fails leaves the last commit whole; the caller tries again
//! with a fresh snapshot and a backoff.

mod index_writes;
mod put_back;
mod shard_writes;
mod withdrawals;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource as _;

pub use put_back::{OwnKind, Seen};

use crate::kubernetes::key::OutputKey;
use crate::metrics::{WriteKind, WriteResult};
use crate::publish::error::PublishError;
use crate::publish::outputs::held_index::HeldIndex;
use crate::publish::outputs::shards::{self, ShardKey, Shards};
use crate::publish::outputs::snapshot::Snapshot;
use crate::publish::outputs::withdrawal::Withdrawal;
use crate::publish::requests::Requests;
use crate::published::desired_output::Stamp;
use crate::published::index::Index;
use crate::published::objects::Part;
use crate::published::salt::Salt;
use crate::table::{Counts, Digest, Output};
use crate::translate::pause::Pause;

/// The number of shards that are written, read or deleted at once.
pub(super) const CONCURRENT: usize = 8;
/// How often a commit starts again if someone else wrote the index in between.
const ATTEMPTS: usize = 3;
/// If a lease is still held this long after another's epoch was found, it is the only one.
const SUPERSEDED: Duration = Duration::from_secs(60);
/// Every namespace has its name as the value of this label.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The number of our own versions that are remembered, to distinguish late events about them from a stranger's edit.
const OWN_VERSIONS: usize = 32;

/// The result of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed(Report),
    /// It was up to date already; nothing was written.
    Unchanged,
    /// It would remove too many routers, so nothing was written. See [`Withdrawal::problem`].
    Held(Withdrawal),
    /// An annotation of the index pauses it, so nothing was written.
    Paused(Pause),
}

/// A finished commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The current generation.
    pub generation: u64,
    pub index: bool,
    pub routing_shards: usize,
    pub key_shards: usize,
    /// Bytes of the bodies of all that.
    pub bytes: u64,
}

enum Known {
    /// It has to be read.
    Nothing,
    Absent,
    Held(Box<HeldIndex>),
}

/// Writes one output. Only one task may use it at a time.
pub struct OutputWriter {
    output: OutputKey,
    requests: Requests,
    max_withdrawal: u8,
    /// The epoch of our writes; `None` before [`Self::take_over`].
    epoch: Option<u64>,
    generation: u64,
    index: Known,
    /// The salt of the shards that are to be written: that of the index, or a new one once two shards had the same name.
    salt: Option<Salt>,
    /// The uid of the last known index: this object is ours even if someone removed its labels.
    index_uid: Option<String>,
    shards: Shards,
    listed: bool,
    own_versions: VecDeque<String>,
    /// When a higher epoch than ours was found.
    superseded: Option<Instant>,
    /// What this writer last committed or took over.
    last: Option<Index>,
    /// The shards of the commit that failed last, until one succeeds.
    wanted: BTreeSet<ShardKey>,
    /// What it has tried to write, which may exist although there was no answer.
    tried: Option<Index>,
    /// The number of routers in shards that existed without a readable index.
    remains: Option<usize>,
    /// Nothing is published here any more, and there was no index.
    abandoned: bool,
}

impl OutputWriter {
    /// A writer without any knowledge. `max_withdrawal` is `operator.maxWithdrawal` in percent, 0 for no limit.
    pub fn new(output: OutputKey, requests: Requests, max_withdrawal: u8) -> Self {
        Self {
            output,
            requests,
            max_withdrawal,
            epoch: None,
            generation: 0,
            index: Known::Nothing,
            salt: None,
            index_uid: None,
            shards: Shards::default(),
            listed: false,
            own_versions: VecDeque::new(),
            superseded: None,
            last: None,
            wanted: BTreeSet::new(),
            tried: None,
            remains: None,
            abandoned: false,
        }
    }

    /// The index that is known to exist.
    pub fn index(&self) -> Option<&Index> {
        self.held()?.index.as_ref()
    }

    fn held(&self) -> Option<&HeldIndex> {
        match &self.index {
            Known::Held(held) => Some(held),
            _ => None,
        }
    }

    /// The uid of that index, for Events about it.
    pub fn index_uid(&self) -> Option<&str> {
        self.index_uid.as_deref()
    }

    /// Whether nothing but the index is known to exist.
    pub fn has_no_shards(&self) -> bool {
        self.shards.is_empty()
    }

    /// The current state of `output`, with everything that [`Self::commit`] needs.
    pub fn snapshot(&self, output: &mut Output) -> Snapshot {
        let mut snapshot = Snapshot::new(output, |part, digest| !self.shards.holds(self.salt, part, digest));
        if self.max_withdrawal > 0 {
            snapshot.desired.namespaces = Some(output.routers_by_namespace().clone());
        }
        snapshot
    }

    /// At the start of a term: reads the existing objects, and replaces the index under this term's higher epoch, which
    /// fences off every earlier writer. The routing stays as it is, even while publishing is paused. Done once, at the
    /// first call that succeeds. Later calls read the index if a watch says that it changed. [`Self::commit`] calls
    /// this by itself.
    ///
    /// # Errors
    /// Whatever prevented it. It may be called again.
    pub async fn take_over(&mut self) -> Result<(), PublishError> {
        if self.epoch.is_some() {
            return self.refresh().await;
        }
        self.list().await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.read_index().await?;
            self.salt = self.held().and_then(|held| held.salt);
            let Known::Held(held) = &self.index else {
                self.epoch = Some(self.requests.guard().epoch_over(None));
                return Ok(());
            };
            let epoch = self.requests.guard().epoch_over(held.epoch);
            // The first commit rewrites spoilt content. Until then, no earlier writer knows its resourceVersion either.
            let Some(found) = &held.index else {
                self.epoch = Some(epoch);
                return Ok(());
            };
            let index = Index {
                epoch,
                generation: found.generation.saturating_add(1),
                published_at: now(),
                ..found.clone()
            };
            match self.put_index(index).await {
                Err(PublishError::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.epoch = Some(epoch);
                    return Ok(());
                }
            }
        }
    }

    fn new_salt(&self) -> Result<Salt, PublishError> {
        Salt::new().map_err(|error| PublishError::other(self.target().object, error))
    }

    /// Whether the output's namespace is deleted; false if we may not ask. The rights in it are deleted with it, so
    /// only the namespace itself gives the answer.
    pub async fn namespace_is_gone(&self) -> bool {
        let selector = format!("{NAMESPACE_NAME_LABEL}={}", self.output.namespace());
        let listed =
            self.requests.list_metadata("Namespaces", &Namespace::url_path(&(), None), &selector).await;
        listed.is_ok_and(|found| found.is_empty())
    }

    /// Updates the cluster to a [`Self::snapshot`] of this writer.
    ///
    /// # Errors
    /// Whatever prevented the commit. What is published is complete: the last commit or this one.
    pub async fn commit(&mut self, snapshot: &Snapshot) -> Result<Outcome, PublishError> {
        let outcome = self.commit_anew(snapshot).await;
        let failed = outcome.is_err().then(|| snapshot.desired.shards());
        let key = |(part, digest)| shards::key(self.salt, part, &digest);
        self.wanted = failed.into_iter().flatten().map(key).collect();
        // Other outputs wait meanwhile, so if the requests of one hang, it gets no retries until they work again.
        self.requests.set_repeated(!outcome.as_ref().is_err_and(PublishError::is_slow));
        outcome
    }

    async fn commit_anew(&mut self, snapshot: &Snapshot) -> Result<Outcome, PublishError> {
        self.take_over().await?;
        let mut report = Report::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.attempt(snapshot, &mut report).await {
                Err(PublishError::Conflict { .. }) if attempt < ATTEMPTS => self.index = Known::Nothing,
                Err(error) => {
                    if error.is_ambiguous() {
                        self.index = Known::Nothing;
                    }
                    return Err(error);
                }
                Ok(Outcome::Unchanged) => {
                    self.requests.metrics().writes.inc(WriteKind::Index, WriteResult::Unchanged);
                    return Ok(Outcome::Unchanged);
                }
                Ok(outcome) => return Ok(outcome),
            }
        }
    }

    async fn attempt(&mut self, snapshot: &Snapshot, report: &mut Report) -> Result<Outcome, PublishError> {
        let Some(epoch) = self.epoch else { return Err(self.lease_lost()) };
        self.refresh().await?;
        let desired = &snapshot.desired;
        let missing: Vec<(Part, Digest)> =
            desired.shards().filter(|(part, digest)| !self.shards.holds(self.salt, *part, digest)).collect();
        let (mut says, mut awaited) = (false, 0);
        if let Some(held) = self.held() {
            if held.epoch.is_some_and(|found| found > epoch) {
                return Err(self.superseded(held.epoch, Instant::now()));
            }
            let pause = Pause::new(held.object.metadata.annotations.as_ref());
            if pause.holds() {
                return Ok(Outcome::Paused(pause));
            }
            awaited = held.index.as_ref().map_or(0, |index| index.awaited);
            // Agents report a generation at once only if the index says that it is awaited.
            says = held.says(desired, epoch, self.salt)
                && (!snapshot.awaited || held.generation == Some(awaited));
        }
        if !says && let Some(held) = self.withdrawal(snapshot).await? {
            self.keep_published(snapshot, &missing, report).await?;
            return Ok(Outcome::Held(Withdrawal { generation: self.generation, ..held }));
        }
        let unwanted = snapshot.retired && desired.counts == Counts::default();
        self.abandoned = unwanted && matches!(self.index, Known::Absent);
        if self.abandoned {
            return Ok(Outcome::Unchanged);
        }
        self.create(snapshot, &missing, report).await?;
        if says {
            report.generation = self.generation;
            let created = report.routing_shards + report.key_shards > 0;
            return Ok(if created { Outcome::Committed(*report) } else { Outcome::Unchanged });
        }
        let published_at = now();
        let generation = self.generation.saturating_add(1);
        if snapshot.awaited {
            awaited = generation;
        }
        let stamp = Stamp { epoch, generation, awaited, published_at: &published_at, salt: self.salt };
        let index = desired.index(&stamp);
        report.bytes += self.put_index(index).await?;
        report.index = true;
        report.generation = generation;
        Ok(Outcome::Committed(*report))
    }

    /// The index has a higher epoch than ours. If a later leader wrote it, our lease will expire in a moment. If
    /// somebody edited it, our lease is still valid when any other would have expired, and the next attempt writes
    /// under an even higher epoch.
    fn superseded(&mut self, found: Option<u64>, now: Instant) -> PublishError {
        let since = *self.superseded.get_or_insert(now);
        if now.saturating_duration_since(since) >= SUPERSEDED {
            self.superseded = None;
            self.epoch = Some(self.requests.guard().epoch_over(found));
        }
        self.index = Known::Nothing;
        self.lease_lost()
    }

    fn lease_lost(&self) -> PublishError {
        PublishError::LeaseLost { object: self.target().object }
    }
}

/// The current time, to the millisecond.
fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The remedy for somebody else's object.
pub(super) const NAME_TAKEN: &str =
    "rename or delete it, or give the output another name (operator.output.name)";
