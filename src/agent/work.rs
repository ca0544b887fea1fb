//! The agent's main loop: brings Traefik's files to the newest index, one step after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::{Notify, watch};

use super::assembly::Assembly;
use super::attempts::{Attempts, LONGEST_PAUSE, OLDER_STANDS};
use super::error::NotHandedOn;
use super::folder::{FileContent, Folder, marker, marker_line};
use super::include::{self, Include, Included};
use super::metrics::AgentMetrics;
use super::proxy::Marker;
use super::serve::HttpDocument;
use super::shard::EntryKind;
use super::source::{FetchError, FetchedShards, OutputReader, SeenIndex};
use super::state::{AgentState, Topic};
use crate::published::index::CommitId;
use crate::published::read;
use crate::serve::Heartbeat;
use crate::table::Digest;

/// How often the user's folder is read.
const INCLUDE_EVERY: Duration = Duration::from_secs(2);

/// How often the files on disk are compared with their sums.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// The file with everything from the user's files. Traefik reads files by name and keeps the first of several certificates
/// for the same names, so this name sorts before ours.
const USER_FILE: &str = "include.yaml";

const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// The parts that the work uses.
pub struct WorkParts {
    pub reader: OutputReader,
    pub folder: Option<Folder>,
    pub document: Option<HttpDocument>,
    pub include: Option<Include>,
    pub state: AgentState,
    pub metrics: AgentMetrics,
    /// The marker that Traefik should show.
    pub marker: watch::Sender<Option<Marker>>,
    /// Traefik's state changed.
    pub wake: Arc<Notify>,
}

/// The only task that changes anything.
pub struct Work {
    parts: WorkParts,
    assembly: Assembly,
    /// Shards that the assembly does not hold yet. They stay while the newest index names them.
    fetched: FetchedShards,
    /// The generation in the assembly, and its time of publication.
    taken: Option<(CommitId, String)>,
    /// The assembly or the user's files have changes that are not handed on yet.
    pending: bool,
    attempts: Attempts,
    /// Why the last attempt to write failed.
    unwritten: Option<NotHandedOn>,
}

impl Work {
    /// Continues with the files on disk.
    pub fn new(parts: WorkParts) -> Self {
        // Without a folder everything is one document.
        let seed = parts.folder.as_ref().map(Folder::seed).unwrap_or_default();
        let mut work = Self {
            parts,
            assembly: Assembly::new(seed),
            fetched: FetchedShards::default(),
            taken: None,
            pending: false,
            attempts: Attempts::default(),
            unwritten: None,
        };
        let resumed = work.resume_include();
        work.reload_include();
        work.pending = false;
        let current = work.parts.folder.as_ref().and_then(Folder::current);
        if let Some(current) = current.filter(|_| resumed) {
            let commit = current.commit;
            tracing::info!("generation {commit} is already on disk and stays in use");
            work.handed_on(commit, None);
        }
        work
    }

    /// Returns false if it is not known which user files were handed on before.
    fn resume_include(&mut self) -> bool {
        let Some(include) = &mut self.parts.include else { return true };
        let Some(folder) = &self.parts.folder else { return false };
        let Some(current) = folder.current() else { return false };
        // Earlier agents called it user.yaml.
        match [USER_FILE, "user.yaml"].into_iter().find(|file| current.files.contains_key(*file)) {
            Some(file) => folder.text(file).is_some_and(|text| include.resume(&text)),
            None => include.resume(""),
        }
    }

    /// Works forever.
    pub async fn run(mut self, mut seen: watch::Receiver<SeenIndex>, heartbeat: Heartbeat) {
        let mut include = tokio::time::interval(INCLUDE_EVERY);
        let mut check = tokio::time::interval(CHECK_EVERY);
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        let wake = Arc::clone(&self.parts.wake);
        loop {
            let newest = seen.borrow_and_update().clone();
            let again = heartbeat.during(self.step(newest)).await;
            let again = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = wake.notified() => {}
                () = again => {}
                _ = include.tick() => self.reload_include(),
                _ = check.tick() => self.check_folder(),
                _ = life.tick() => heartbeat.beat(),
            }
        }
    }

    /// Works until a generation is handed on or turns out to be impossible.
    pub async fn once(&mut self, mut seen: watch::Receiver<SeenIndex>) -> Result<(), NotHandedOn> {
        if let Some(folder) = &mut self.parts.folder {
            folder.check_writable()?;
        }
        let mut include = tokio::time::interval(INCLUDE_EVERY);
        loop {
            let newest = seen.borrow_and_update().clone();
            let again = self.step(newest).await;
            if let Some(refusal) = self.unwritten.take() {
                return Err(refusal);
            }
            if self.taken.is_some() && !self.pending {
                return Ok(());
            }
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(again.unwrap_or(LONGEST_PAUSE)) => {}
                _ = include.tick() => self.reload_include(),
            }
        }
    }

    /// Accepts the newest index and hands on what has changed. Returns the time after which to try again.
    async fn step(&mut self, newest: SeenIndex) -> Option<Duration> {
        let state = &self.parts.state;
        self.parts.metrics.index_present.set(matches!(newest, SeenIndex::Index(_)).into());
        let taken = match newest {
            SeenIndex::Unknown => None,
            SeenIndex::Absent => {
                let reason = "there is no index; the loaded routing stays until there is one";
                state.reason(Topic::Index, Some(reason.to_owned()));
                None
            }
            SeenIndex::Index(object) => self.take(&object).await,
        };
        self.judge_include();
        let handed_on = self.hand_on();
        [taken, handed_on].into_iter().flatten().min()
    }

    /// Loads the shards of an index into the assembly.
    async fn take(&mut self, object: &ConfigMap) -> Option<Duration> {
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        if self.attempts.is_refused(&version) {
            return None;
        }
        let index = match read::index(object) {
            Ok(index) => index,
            Err(error) => {
                self.refuse(version, &error.into(), Topic::Index);
                return None;
            }
        };
        self.parts.state.reason(Topic::Index, None);
        let commit = index.commit();
        self.parts.state.seen(commit, CommitId { generation: index.awaited, ..commit });
        match &self.taken {
            Some((taken, _)) if *taken > commit => {
                let taken = *taken;
                if let Some(rest) = self.older_rests(taken, commit).await {
                    return Some(rest);
                }
            }
            taken => {
                self.attempts.not_older();
                if taken.as_ref().is_some_and(|(taken, _)| *taken == commit) {
                    return None;
                }
            }
        }
        if let Some(rest) = self.attempts.fetch_rests(&version, Instant::now()) {
            return Some(rest);
        }
        let named = self.parts.reader.named(&index);
        self.fetched.retain(|name, _| named.contains_key(name));
        let is_missing = |name: &&String| !self.assembly.holds(name) && !self.fetched.contains_key(*name);
        let missing = named.keys().filter(is_missing).cloned().collect();
        let result = match self.parts.reader.fetch(missing, index.salt, &mut self.fetched).await {
            Ok(()) => self.assembly.take(&index, &named, &mut self.fetched),
            // The operator creates a damaged shard again under the same name, and the index stays the same.
            Err(FetchError::Refused(refusal @ NotHandedOn::Published(_))) => {
                self.count(&version, &refusal);
                let reason =
                    format!("generation {commit} is refused, and the loaded routing stays: {refusal}");
                return self.fetch_failed(version, Some(reason), Duration::ZERO);
            }
            Err(FetchError::Refused(refusal)) => Err(refusal),
            Err(FetchError::Missing(name)) => {
                // A single miss is nothing: most likely a newer index is on its way.
                let persists = self.attempts.failures() > 2;
                let reason = persists.then(|| format!("generation {commit}: its shard {name} is not there"));
                return self.fetch_failed(version, reason, Duration::ZERO);
            }
            Err(FetchError::Api { reason, retry_after }) => {
                let reason = format!("generation {commit} can't be read: {reason}");
                return self.fetch_failed(version, Some(reason), retry_after);
            }
        };
        self.attempts.succeeded();
        self.parts.state.reason(Topic::Shards, None);
        match result {
            Ok(()) => {
                self.parts.state.reason(Topic::Generation, None);
                self.taken = Some((commit, index.published_at));
                self.attempts.not_older();
                self.pending = true;
            }
            Err(refusal) => self.refuse(version, &refusal, Topic::Generation),
        }
        None
    }

    /// Reports the reason, if there is one, and returns the delay before the next attempt.
    fn fetch_failed(
        &mut self,
        version: String,
        reason: Option<String>,
        retry_after: Duration,
    ) -> Option<Duration> {
        if reason.is_some() {
            self.parts.state.reason(Topic::Shards, reason);
        }
        Some(self.attempts.fetch_failed(version, retry_after, Instant::now()))
    }

    fn count(&mut self, version: &str, refusal: &NotHandedOn) {
        if self.attempts.counts(version) {
            self.parts.metrics.refused(refusal);
        }
    }

    fn refuse(&mut self, version: String, refusal: &NotHandedOn, topic: Topic) {
        self.count(&version, refusal);
        self.parts.state.reason(topic, Some(format!("refused, and the loaded routing stays: {refusal}")));
        self.attempts.refuse(version);
    }

    /// How long an older index than the accepted one still has to wait.
    async fn older_rests(&mut self, taken: CommitId, commit: CommitId) -> Option<Duration> {
        if let Some(rest) = self.attempts.older_rests(Instant::now()) {
            return Some(rest);
        }
        // A watch may lag, the object itself does not.
        let now = self.parts.reader.index().await.ok().flatten().and_then(|object| read::index(&object).ok());
        match now {
            Some(index) if index.commit() < taken => {
                tracing::warn!(
                    "the index has been older than generation {taken} for {OLDER_STANDS:?}; accepting generation {commit}"
                );
                None
            }
            _ => Some(OLDER_STANDS),
        }
    }

    /// Hands the assembled generation to Traefik.
    fn hand_on(&mut self) -> Option<Duration> {
        let (commit, published_at) = self.taken.clone()?;
        if !self.pending {
            return None;
        }
        if let Err(rest) = self.parts.state.may_hand_on() {
            return Some(rest);
        }
        let user = match &self.parts.include {
            Some(include) => include.included()?.clone(),
            None => Included::default(),
        };
        let renamed = self.assembly.give_way(&user.keys());
        self.tell_include(renamed);
        // Until the new marker is known, Traefik's answers about the last one mean nothing.
        let last = self.parts.marker.send_replace(None);
        let written = match self.write(commit, &user) {
            Ok(written) => written,
            Err(refusal) => {
                self.parts.marker.send_replace(last);
                self.parts.metrics.refused(&refusal);
                let reason =
                    format!("generation {commit} can't be written, and the loaded routing stays: {refusal}");
                self.parts.state.reason(Topic::Folder, Some(reason));
                self.unwritten = Some(refusal);
                return Some(self.attempts.failed());
            }
        };
        self.attempts.succeeded();
        self.pending = false;
        self.assembly.written();
        if let Some(include) = &mut self.parts.include {
            include.handed_on();
        }
        self.unwritten = None;
        self.tell_folder();
        if written {
            self.parts.metrics.writes.inc();
            if let Some(seconds) = seconds_since(&published_at) {
                self.parts.metrics.commit_to_disk.observe(seconds);
            }
            tracing::debug!("generation {commit} is handed to Traefik");
        } else {
            self.parts.metrics.unchanged.inc();
        }
        self.tell_strangers();
        self.handed_on(commit, last);
        None
    }

    /// Returns false if no byte changes.
    fn write(&mut self, commit: CommitId, user: &Included) -> Result<bool, NotHandedOn> {
        let mut written = false;
        if let Some(folder) = &mut self.parts.folder {
            let mut files = BTreeMap::new();
            for at in 0..self.assembly.file_count() {
                let name = format!("routing-{at:03}.yaml");
                let unchanged = !self.assembly.may_have_changed(at)
                    && folder.current().is_some_and(|current| current.files.contains_key(&name));
                let content = if unchanged {
                    FileContent::Unchanged
                } else {
                    FileContent::Text(self.assembly.file(at))
                };
                files.insert(name, content);
            }
            if self.parts.include.is_some() {
                files.insert(USER_FILE.to_owned(), FileContent::Text(user.document()));
            }
            let result = folder.write(commit, files);
            if result.is_err() {
                // A file that could not be linked is written again next time.
                folder.check();
            }
            written |= result?;
        }
        if let Some(document) = &self.parts.document {
            let whole = |marker: Option<String>| {
                include::sections(|protocol, section| {
                    let ours = match (protocol, section) {
                        ("http", "middlewares") => marker.iter().cloned().collect(),
                        ("http", "routers") => self.assembly.lines(EntryKind::Router),
                        ("http", "services") => self.assembly.lines(EntryKind::Service),
                        ("tls", "certificates") => self.assembly.lines(EntryKind::Certificate),
                        _ => Vec::new(),
                    };
                    [user.lines(protocol, section), ours].concat()
                })
            };
            let sum = Digest::new(&whole(None)).short().to_string();
            if document.sum().as_ref() != Some(&sum) {
                let text = whole(Some(marker_line(&marker(commit, &sum))));
                document.set(&sum, commit, text);
                written = true;
            }
        }
        Ok(written)
    }

    /// Sets state, metrics and the marker to ask Traefik for, after a content that covers a generation was handed on.
    /// `last` is the previous content.
    fn handed_on(&self, covers: CommitId, last: Option<Marker>) {
        let current = self.parts.folder.as_ref().and_then(Folder::current);
        let (middleware, prefix) = match (current, &self.parts.document) {
            (Some(current), _) => {
                self.parts.metrics.files.set(current.files.len() as i64);
                self.parts.metrics.bytes.set(i64::try_from(current.bytes).unwrap_or(i64::MAX));
                let (name, prefix) = current.marker();
                (format!("{name}@file"), prefix)
            }
            (None, Some(document)) => match document.marker() {
                Some((name, prefix)) => (format!("{name}@http"), prefix),
                None => return,
            },
            (None, None) => return,
        };
        self.parts.state.handed_on(prefix.clone(), covers);
        let last = last.filter(|last| last.prefix == prefix);
        let marker = last.unwrap_or_else(|| Marker { middleware, prefix, since: Instant::now() });
        self.parts.marker.send_replace(Some(marker));
    }

    fn reload_include(&mut self) {
        if self.parts.include.as_mut().is_some_and(Include::reload) {
            self.pending = true;
            self.tell_include(Vec::new());
        }
    }

    /// A field that Traefik does not know makes it refuse everything, so files that it does not load are taken back.
    fn judge_include(&mut self) {
        let Some(include) = &mut self.parts.include else { return };
        match self.parts.state.outcome() {
            Some(true) => include.loaded(),
            Some(false) => self.pending |= include.not_loaded(),
            None => {}
        }
    }

    fn tell_include(&self, renamed: Vec<String>) {
        let Some(include) = &self.parts.include else { return };
        let faults: Vec<String> = include.faults().into_iter().chain(renamed).collect();
        self.parts.metrics.include_faults.set(faults.len() as i64);
        self.parts.state.reason(Topic::Include, (!faults.is_empty()).then(|| faults.join("; ")));
    }

    fn check_folder(&mut self) {
        let Some(folder) = &mut self.parts.folder else { return };
        if folder.current().is_some() && !folder.check() {
            self.pending = true;
            let reason = "the files on disk were changed; they are written again";
            self.parts.state.reason(Topic::Folder, Some(reason.to_owned()));
        } else if !self.pending || self.attempts.failures() == 0 {
            self.tell_folder();
        }
        self.tell_strangers();
    }

    /// Reports at once that nothing can be written, not only when there is something to write.
    fn tell_folder(&mut self) {
        let fault = self.parts.folder.as_mut().and_then(|folder| folder.check_writable().err());
        let reason =
            fault.map(|fault| format!("the folder can't be written, so the loaded routing stays: {fault}"));
        self.parts.state.reason(Topic::Folder, reason);
    }

    fn tell_strangers(&self) {
        let Some(folder) = &self.parts.folder else { return };
        let strangers = folder.strangers();
        self.parts.metrics.strangers.set(strangers.len() as i64);
        let shown: Vec<&str> = strangers.iter().take(5).map(String::as_str).collect();
        let reason = format!(
            "{} files that are not waybill's are in the folder that Traefik reads, and may make it refuse \
             everything: {}; move them to another folder and name that with --include",
            strangers.len(),
            shown.join(", ")
        );
        self.parts.state.reason(Topic::Strangers, (!strangers.is_empty()).then_some(reason));
    }
}

/// Computed from the clocks of two machines. If one is ahead, there is no value.
fn seconds_since(published_at: &str) -> Option<f64> {
    let published: jiff::Timestamp = published_at.parse().ok()?;
    let seconds = jiff::Timestamp::now().duration_since(published).as_secs_f64();
    (seconds >= 0.0).then_some(seconds)
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
