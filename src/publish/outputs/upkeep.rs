//! Work beside the commits, so that no commit waits for it: deleting unused shards, and writing the text of an output,
//! which people read and proxies may mount.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;

use super::shards::{Shard, ShardKey, target};
use super::throttle::Throttle;
use super::withdrawal::index_subject;
use super::writer::{CONCURRENT, NAME_TAKEN};
use crate::kubernetes::key::OutputKey;
use crate::metrics::WriteKind;
use crate::pace::Backoff;
use crate::publish::error::PublishError;
use crate::publish::requests::{ObjectTarget, Requests, Write};
use crate::published::objects::{self, Part, ROUTING_YAML, TEXT_LIMIT};
use crate::table::Digest;
use crate::translate::problem::{Category, Kind, Problem};

/// Minimum time between two writes of the text.
const TEXT_DISTANCE: Duration = Duration::from_secs(30);

/// Size of the text above which a warning is reported.
const TEXT_WARNING: usize = TEXT_LIMIT / 4 * 3;

/// Delays between failed attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The result of a collection: the deleted shards, and why the others were not deleted.
#[derive(Debug, Default)]
pub struct Collected {
    pub gone: Vec<(ShardKey, Shard)>,
    pub deleted: usize,
    pub error: Option<PublishError>,
}

/// Deletes shards. It stops at the first error, since the next request would be refused too.
pub async fn delete_shards(
    requests: Requests,
    output: OutputKey,
    garbage: Vec<(ShardKey, Shard)>,
) -> Collected {
    let mut collected = Collected::default();
    let mut deletions = stream::iter(garbage)
        .map(|(key, held)| {
            let (requests, output) = (&requests, &output);
            async move {
                let result = match target(output, &key).delete(&held.uid, &held.version) {
                    Ok(delete) => requests.write(&delete).await.map(|_| ()),
                    Err(error) => Err(error),
                };
                (key, held, result)
            }
        })
        .buffer_unordered(CONCURRENT);
    while let Some((key, held, result)) = deletions.next().await {
        match result {
            Ok(()) => {
                collected.deleted += 1;
                collected.gone.push((key, held));
            }
            // Deleted already, or another object than we knew: the watch will show which.
            Err(PublishError::NotFound { .. } | PublishError::Conflict { .. }) => {
                collected.gone.push((key, held));
            }
            Err(error) => {
                collected.error = Some(error);
                break;
            }
        }
    }
    collected
}

/// When garbage is collected again.
pub struct GarbageSchedule {
    backoff: Backoff,
    not_before: Option<Instant>,
    running: bool,
}

impl Default for GarbageSchedule {
    fn default() -> Self {
        Self { backoff: Backoff::new(RETRY.0, RETRY.1), not_before: None, running: false }
    }
}

impl GarbageSchedule {
    /// Whether garbage may be collected now. There is one collection at a time.
    pub fn may_start(&self, now: Instant) -> bool {
        !self.running && self.not_before.is_none_or(|at| at <= now)
    }

    /// A run begins.
    pub fn started(&mut self) {
        self.running = true;
    }

    /// A run has ended; after a failure, the next one waits longer.
    pub fn ended(&mut self, now: Instant, failed: bool) {
        self.running = false;
        if failed {
            self.not_before = Some(now + self.backoff.next_wait());
        } else {
            self.not_before = None;
            self.backoff.reset();
        }
    }
}

/// The text in the cluster after an attempt to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFound {
    /// `None` if there is no text, and none should be created.
    uid: Option<String>,
    /// The resourceVersion; `None` if the text still has the content from before the routing became too large.
    version: Option<String>,
    /// What was written.
    pub bytes: u64,
}

/// Writes the text of an output. Without a document, checks whether there is one. If there is none, it is created only
/// if `create` is set. `uid` is that of the object that was ours before, and stays ours if someone removes its labels.
///
/// # Errors
/// Whatever prevented it.
pub async fn write_text(
    requests: Requests,
    output: OutputKey,
    document: Option<String>,
    uid: Option<String>,
    create: bool,
) -> Result<TextFound, PublishError> {
    let target =
        ObjectTarget::new::<ConfigMap>(WriteKind::Text, output.namespace(), &objects::text_name(&output));
    let Some(mut found) = requests.get::<ConfigMap>(&target).await? else {
        let Some(document) = document.filter(|_| create) else { return Ok(TextFound::default()) };
        return written(&requests, target.create(&objects::text(&output, document))?).await;
    };
    let ours = objects::is_ours(&found.metadata, &output, Part::Text);
    if !ours && (uid.is_none() || found.metadata.uid != uid) {
        return Err(PublishError::name_taken(Kind::ConfigMap, &found.metadata, NAME_TAKEN.to_owned()));
    }
    let Some(document) = document else {
        return Ok(TextFound { uid: found.metadata.uid, ..TextFound::default() });
    };
    let held = found.data.as_ref().and_then(|data| data.get(ROUTING_YAML));
    if ours && held == Some(&document) {
        let metadata = found.metadata;
        return Ok(TextFound { uid: metadata.uid, version: metadata.resource_version, bytes: 0 });
    }
    if found.immutable == Some(true) {
        let delete = target.delete(&found.metadata.uid, &found.metadata.resource_version)?;
        requests.write(&delete).await?;
        return written(&requests, target.create(&objects::text(&output, document))?).await;
    }
    // Content of others stays.
    let text = objects::text(&output, document);
    found.metadata.managed_fields = None;
    found.metadata.labels.get_or_insert_default().extend(text.metadata.labels.unwrap_or_default());
    found.data.get_or_insert_default().extend(text.data.unwrap_or_default());
    if let Some(binary) = found.binary_data.as_mut() {
        binary.remove(ROUTING_YAML);
    }
    written(&requests, target.replace(&found)?).await
}

async fn written(requests: &Requests, write: Write) -> Result<TextFound, PublishError> {
    let metadata = requests.write(&write).await?.metadata;
    Ok(TextFound { uid: metadata.uid, version: metadata.resource_version, bytes: write.bytes() })
}

/// Schedules the text of an output, and stores its state.
pub struct TextSchedule {
    throttle: Throttle,
    backoff: Backoff,
    running: bool,
    /// Size of the routing that was committed last.
    hash: Option<Digest>,
    routing_bytes: usize,
    found: TextFound,
}

impl Default for TextSchedule {
    fn default() -> Self {
        Self {
            throttle: Throttle::new(TEXT_DISTANCE, 0),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            running: false,
            hash: None,
            routing_bytes: 0,
            found: TextFound::default(),
        }
    }
}

impl TextSchedule {
    /// A routing of this size was committed.
    pub fn committed(&mut self, now: Instant, hash: Digest, routing_bytes: usize) {
        if self.hash.replace(hash) != Some(hash) {
            self.throttle.changed(now);
        }
        self.routing_bytes = routing_bytes;
    }

    /// Someone changed or deleted the object, unless this is the version that we wrote.
    pub fn observed(&mut self, now: Instant, version: Option<&str>) {
        if version.is_none() || version != self.found.version.as_deref() {
            self.throttle.changed(now);
        }
    }

    /// Whether it has to be written now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.running && self.throttle.due(now).is_some_and(|due| due <= now)
    }

    /// Whether nothing has to be written, now or later.
    pub fn is_settled(&self, now: Instant) -> bool {
        !self.running && self.throttle.due(now).is_none()
    }

    /// Writing starts. Returns the uid for [`write_text`].
    pub fn started(&mut self, now: Instant) -> Option<String> {
        self.running = true;
        self.throttle.started(now);
        self.found.uid.clone()
    }

    /// The write is over.
    pub fn ended(&mut self, now: Instant, result: &Result<TextFound, PublishError>) {
        self.running = false;
        match result {
            Ok(found) => {
                self.backoff.reset();
                self.found.clone_from(found);
            }
            Err(_) => self.throttle.failed(now, self.backoff.next_wait()),
        }
    }

    /// How full the object is, from 0 to 1 and above; 0 if there is none.
    pub fn fill(&self) -> f64 {
        if self.found.uid.is_some() { self.routing_bytes as f64 / TEXT_LIMIT as f64 } else { 0.0 }
    }

    /// The problem that the text is too large, or soon will be.
    pub fn problem(&self, output: &OutputKey) -> Option<Problem> {
        self.found.uid.as_ref().and_then(|_| text_problem(output, self.routing_bytes))
    }
}

/// The problem that a routing of this size is too large for the text, or soon will be.
pub fn text_problem(output: &OutputKey, routing_bytes: usize) -> Option<Problem> {
    let (name, namespace) = (objects::text_name(output), output.namespace());
    let remedy = if routing_bytes > TEXT_LIMIT {
        format!(
            "the routing is too large for ConfigMap {name}, which is no longer updated: proxies that mount \
             it keep its last content; run waybill agent beside them, and then delete it: kubectl delete \
             configmap \
             -n {namespace} {name}"
        )
    } else if routing_bytes > TEXT_WARNING {
        format!(
            "above {} KiB, ConfigMap {name} is no longer updated: run waybill agent beside the proxies that \
             mount it; if none does, nothing needs to be done",
            TEXT_LIMIT / 1024
        )
    } else {
        return None;
    };
    // The exact size would create another Event for each change.
    let percent = routing_bytes * 100 / TEXT_LIMIT / 5 * 5;
    Some(Problem {
        category: Category::TextTooLarge,
        subject: index_subject(output),
        field: "data".to_owned(),
        value: if routing_bytes > TEXT_LIMIT {
            format!("over {} KiB", TEXT_LIMIT / 1024)
        } else {
            format!("{percent} % of {} KiB", TEXT_LIMIT / 1024)
        },
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_keep_garbage_waiting_and_one_collection_runs_at_a_time() {
        let start = Instant::now();
        let mut schedule = GarbageSchedule::default();
        assert!(schedule.may_start(start));
        schedule.started();
        assert!(!schedule.may_start(start));
        let mut waited = Duration::ZERO;
        for _ in 0..8 {
            schedule.ended(start, true);
            let mut at = start;
            while !schedule.may_start(at) {
                at += Duration::from_secs(1);
            }
            assert!(at - start >= RETRY.0 / 2 && at - start <= RETRY.1, "{:?}", at - start);
            waited = at - start;
        }
        assert!(waited > RETRY.1 / 2, "it grows: {waited:?}");
        schedule.ended(start, false);
        assert!(schedule.may_start(start));
    }

    #[test]
    fn the_text_is_written_at_once_and_then_at_its_distance() {
        let start = Instant::now();
        let current =
            |version: &str| Ok(TextFound { uid: Some("u".into()), version: Some(version.into()), bytes: 1 });
        let mut schedule = TextSchedule::default();
        assert!(!schedule.is_due(start));
        schedule.committed(start, Digest::new("a"), 10);
        assert!(schedule.is_due(start));
        assert_eq!(schedule.started(start), None);
        assert!(!schedule.is_due(start));
        schedule.ended(start, &current("7"));
        schedule.committed(start, Digest::new("a"), 10);
        schedule.observed(start, Some("7"));
        assert!(!schedule.is_due(start + TEXT_DISTANCE), "nothing has changed");
        schedule.committed(start, Digest::new("b"), 10);
        assert!(!schedule.is_due(start + TEXT_DISTANCE / 2));
        assert!(schedule.is_due(start + TEXT_DISTANCE));
        assert_eq!(schedule.started(start + TEXT_DISTANCE).as_deref(), Some("u"));
        let error = PublishError::Conflict { object: "x".into() };
        schedule.ended(start + TEXT_DISTANCE, &Err(error));
        assert!(schedule.is_due(start + TEXT_DISTANCE * 2));
        schedule.started(start + TEXT_DISTANCE * 2);
        schedule.ended(start + TEXT_DISTANCE * 2, &current("8"));
        schedule.observed(start, Some("9"));
        assert!(schedule.is_due(start + TEXT_DISTANCE * 3), "someone changed it");
    }

    #[test]
    fn a_text_that_grows_is_reported_before_it_is_too_large() {
        let output = OutputKey::new("ns", "out");
        let problem = |bytes| text_problem(&output, bytes);
        assert_eq!(problem(TEXT_WARNING), None);
        let before = problem(TEXT_WARNING + 1).unwrap();
        assert_eq!(before.value, "75 % of 900 KiB");
        let after = problem(TEXT_LIMIT + 1).unwrap();
        assert_eq!(Some(&after), problem(TEXT_LIMIT * 2).as_ref(), "the same words at every size");
        assert!(after.remedy.contains("kubectl delete configmap -n ns out.text"), "{after}");
        let mut schedule = TextSchedule::default();
        schedule.committed(Instant::now(), Digest::new("a"), TEXT_LIMIT + 1);
        assert_eq!((schedule.problem(&output), schedule.fill()), (None, 0.0), "there is no such object");
        schedule.ended(Instant::now(), &Ok(TextFound { uid: Some("u".into()), ..TextFound::default() }));
        assert!(schedule.problem(&output).is_some() && schedule.fill() > 1.0);
    }
}
