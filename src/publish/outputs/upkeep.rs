//! What is done beside the commits, so that no commit waits for it: deleting shards that nobody needs any more, and
//! the text of an output, which people read and proxies may mount.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;

use super::shards::{Shard, ShardKey, target};
use super::throttle::Throttle;
use super::withdrawal::index_subject;
use super::writer::{CONCURRENT, NAME_TAKEN};
use crate::kubernetes::key::OutputKey;
use crate::metrics::WriteKind;
use crate::publish::backoff::Backoff;
use crate::publish::error::PublishError;
use crate::publish::requests::{ObjectTarget, Requests, Write};
use crate::published::objects::{self, Part, ROUTING_YAML, TEXT_LIMIT};
use crate::table::Digest;
use crate::translate::problem::{Category, Kind, Problem};

/// Least time between two writes of the text.
const TEXT_DISTANCE: Duration = Duration::from_secs(30);

/// Bytes of the text above which it is reported that it will soon be too large.
const TEXT_WARNING: usize = TEXT_LIMIT / 4 * 3;

/// Waits between attempts that fail.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What became of garbage: the shards that are gone, and why the others are not.
#[derive(Debug, Default)]
pub struct Collected {
    pub gone: Vec<(ShardKey, Shard)>,
    pub deleted: usize,
    pub error: Option<PublishError>,
}

/// Deletes shards. It ends at the first fault: what refused one will refuse the next.
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
            // Gone already, or another object than we knew: the watch says which.
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
    /// Whether it may be collected now. One collection at a time.
    pub fn may_start(&self, now: Instant) -> bool {
        !self.running && self.not_before.is_none_or(|at| at <= now)
    }

    /// A run begins.
    pub fn started(&mut self) {
        self.running = true;
    }

    /// A run is over; the next one waits longer if it failed.
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

/// The text as it is in the cluster after an attempt to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFound {
    /// `None` where there is no text, and none is to be made.
    uid: Option<String>,
    /// The resourceVersion; `None` where the text is what it was before the routing became too large.
    version: Option<String>,
    /// What was written.
    pub bytes: u64,
}

/// Writes the text of an output; without a document, looks whether there is one. Where there is none, one is made only if
/// `create`. `uid` is that of the object that was ours before, and stays ours when someone takes its labels away.
///
/// # Errors
/// Whatever kept it from being done.
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
    // What others put there stays.
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

/// When the text of an output is written, and what is known of it.
pub struct TextSchedule {
    throttle: Throttle,
    backoff: Backoff,
    running: bool,
    /// Of the routing that was committed last.
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
    /// A routing of that many bytes was committed.
    pub fn committed(&mut self, hash: Digest, routing_bytes: usize) {
        if self.hash.replace(hash) != Some(hash) {
            self.throttle.changed();
        }
        self.routing_bytes = routing_bytes;
    }

    /// Someone changed or deleted the object, unless this is the version that we wrote.
    pub fn observed(&mut self, version: Option<&str>) {
        if version.is_none() || version != self.found.version.as_deref() {
            self.throttle.changed();
        }
    }

    /// Whether it has to be written now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.running && self.throttle.due(now).is_some_and(|due| due <= now)
    }

    /// Whether nothing is to be written, now or later.
    pub fn is_settled(&self, now: Instant) -> bool {
        !self.running && self.throttle.due(now).is_none()
    }

    /// It is being written. Gives the uid for [`write_text`].
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

    /// How full the object is, from 0 to 1 and above; 0 when there is none.
    pub fn fill(&self) -> f64 {
        if self.found.uid.is_some() { self.routing_bytes as f64 / TEXT_LIMIT as f64 } else { 0.0 }
    }

    /// That the text is too large, or soon will be.
    pub fn problem(&self, output: &OutputKey) -> Option<Problem> {
        self.found.uid.as_ref().and_then(|_| text_problem(output, self.routing_bytes))
    }
}

/// That a routing of so many bytes is too large for the text of an output, or soon will be.
pub fn text_problem(output: &OutputKey, routing_bytes: usize) -> Option<Problem> {
    let (name, namespace) = (objects::text_name(output), output.namespace());
    let remedy = if routing_bytes > TEXT_LIMIT {
        format!(
            "the routing is too large for ConfigMap {name}, which is not updated any more: proxies that mount it \
             serve what it held last; run waybill agent beside them, and then delete it: kubectl delete configmap \
             -n {namespace} {name}"
        )
    } else if routing_bytes > TEXT_WARNING {
        format!(
            "ConfigMap {name} is not updated any more above {} KiB: run waybill agent beside the proxies that mount \
             it; nothing needs to be done where none does",
            TEXT_LIMIT / 1024
        )
    } else {
        return None;
    };
    // The exact size would make another Event of each change.
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
        schedule.committed(Digest::new("a"), 10);
        assert!(schedule.is_due(start));
        assert_eq!(schedule.started(start), None);
        assert!(!schedule.is_due(start));
        schedule.ended(start, &current("7"));
        schedule.committed(Digest::new("a"), 10);
        schedule.observed(Some("7"));
        assert!(!schedule.is_due(start + TEXT_DISTANCE), "nothing has changed");
        schedule.committed(Digest::new("b"), 10);
        assert!(!schedule.is_due(start + TEXT_DISTANCE / 2));
        assert!(schedule.is_due(start + TEXT_DISTANCE));
        assert_eq!(schedule.started(start + TEXT_DISTANCE).as_deref(), Some("u"));
        let error = PublishError::Conflict { object: "x".into() };
        schedule.ended(start + TEXT_DISTANCE, &Err(error));
        assert!(schedule.is_due(start + TEXT_DISTANCE * 2));
        schedule.started(start + TEXT_DISTANCE * 2);
        schedule.ended(start + TEXT_DISTANCE * 2, &current("8"));
        schedule.observed(Some("9"));
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
        schedule.committed(Digest::new("a"), TEXT_LIMIT + 1);
        assert_eq!((schedule.problem(&output), schedule.fill()), (None, 0.0), "there is no such object");
        schedule.ended(Instant::now(), &Ok(TextFound { uid: Some("u".into()), ..TextFound::default() }));
        assert!(schedule.problem(&output).is_some() && schedule.fill() > 1.0);
    }
}
