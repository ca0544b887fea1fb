//! Creates shards, and deletes unused ones.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{CONCURRENT, Known, NAME_TAKEN, OutputWriter, Report};
use crate::publish::error::PublishError;
use crate::publish::outputs::shards::{self, Shard, ShardKey};
use crate::publish::outputs::snapshot::Snapshot;
use crate::publish::outputs::upkeep::Collected;
use crate::publish::requests::ObjectTarget;
use crate::published::objects::{self, Part};
use crate::published::read;
use crate::table::Digest;
use crate::translate::problem::Kind;

/// How long one attempt creates shards. Other outputs have their turn before the next attempt continues with the rest.
const LONGEST: Duration = Duration::from_secs(20);

/// The maximum number of shards in one deletion run.
const GARBAGE: usize = 64;

impl OutputWriter {
    /// Creates the missing shards.
    pub(super) async fn create(
        &mut self,
        snapshot: &Snapshot,
        missing: &[(Part, Digest)],
        report: &mut Report,
    ) -> Result<(), PublishError> {
        let this = &*self;
        let (begun, mut slow) = (Instant::now(), None);
        let mut results = Vec::with_capacity(missing.len());
        let mut writes =
            stream::iter(missing.to_vec())
                .map(|(part, digest)| async move {
                    (part, digest, this.create_shard(snapshot, part, &digest).await)
                })
                .buffer_unordered(CONCURRENT);
        while let Some(done) = writes.next().await {
            // A quota that refused one would refuse the next too, and a hanging webhook would delay other outputs for
            // each of them. Shards whose creation is in progress are found by the next attempt.
            let ends = done.2.as_ref().is_err_and(|error| error.is_slow() || !error.is_transient());
            let late = done.2.is_ok() && begun.elapsed() >= LONGEST && results.len() + 1 < missing.len();
            if late {
                let object = format!("shards of {}", self.output);
                slow = Some(PublishError::Timeout { object, waited: LONGEST });
            }
            results.push(done);
            if ends || late {
                break;
            }
        }
        drop(writes);
        let now = Instant::now();
        let salt = self.salt;
        let mut first = None;
        for (part, digest, result) in results {
            match result {
                Ok((metadata, bytes)) => {
                    self.shards.created(shards::key(salt, part, &digest), &metadata, now);
                    match part {
                        Part::Keys => report.key_shards += 1,
                        _ => report.routing_shards += 1,
                    }
                    report.bytes += bytes;
                }
                Err(error) => {
                    if matches!(error, PublishError::NameClash { .. }) && self.salt == salt {
                        self.salt = Some(self.new_salt()?);
                    }
                    first = first.or(Some(error));
                }
            }
        }
        first.or(slow).map_or(Ok(()), Err)
    }

    async fn create_shard(
        &self,
        snapshot: &Snapshot,
        part: Part,
        digest: &Digest,
    ) -> Result<(ObjectMeta, u64), PublishError> {
        let key = shards::key(self.salt, part, digest);
        let target = shards::target(&self.output, &key);
        // It vanished after the snapshot was taken. The next snapshot contains it.
        let Some(document) = snapshot.document(part, digest) else {
            return Err(PublishError::Conflict { object: target.object });
        };
        if self.shards.clashes(self.salt, &key, digest) {
            return Err(PublishError::NameClash { object: target.object });
        }
        if let Some(held) = self.shards.get(&key) {
            // It exists with another annotation, and readers refuse it; or a DELETE of it may be on its way.
            match self.requests.write_repeated(&target.delete(&held.uid, &held.version)?).await {
                Ok(_) | Err(PublishError::NotFound { .. } | PublishError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let packed = |error: std::io::Error| PublishError::other(target.object.as_str(), error);
        let write = if part == Part::Keys {
            target.create(&objects::key_shard(&self.output, self.salt, digest, &document).map_err(packed)?)?
        } else {
            target.create(
                &objects::routing_shard(&self.output, self.salt, digest, &document).map_err(packed)?,
            )?
        };
        match self.requests.write_repeated(&write).await {
            Ok(written) => Ok((written.metadata, write.bytes())),
            // It exists: ours from an earlier attempt, or a stranger's.
            Err(PublishError::Conflict { .. }) => {
                let Some(found) = self.requests.get_metadata(&target).await? else {
                    return Err(PublishError::Conflict { object: target.object });
                };
                let right = read::sha256(&found.metadata) == Some(*digest);
                let labelled = objects::is_ours(&found.metadata, &self.output, part);
                if labelled && !right && read::check_name(&found.metadata, self.salt).is_ok() {
                    return Err(PublishError::NameClash { object: target.object });
                }
                let ours = right && labelled;
                if ours && self.shards.is_named(&key) {
                    return Ok((found.metadata, 0));
                }
                if !ours && (!right || !self.lost_its_labels(part, &target, &document).await?) {
                    let kind = if part == Part::Keys { Kind::Secret } else { Kind::ConfigMap };
                    return Err(PublishError::name_taken(kind, &found.metadata, NAME_TAKEN.to_owned()));
                }
                // From an attempt whose answer was lost, or so old that a DELETE may be on its way; or it lost labels,
                // and readers that select by them do not find it.
                tracing::debug!(object = target.object, ours, "a shard is created again");
                let delete = target.delete(&found.metadata.uid, &found.metadata.resource_version)?;
                self.requests.write_repeated(&delete).await?;
                Ok((self.requests.write_repeated(&write).await?.metadata, write.bytes()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an object with a shard's name and sha256 is this shard except for its labels: immutable, and with only
    /// the wanted document. A stranger's object never is.
    async fn lost_its_labels(
        &self,
        part: Part,
        target: &ObjectTarget,
        document: &str,
    ) -> Result<bool, PublishError> {
        Ok(if part == Part::Keys {
            let found = self.requests.get::<Secret>(target).await?;
            found.is_some_and(|found| {
                found.immutable == Some(true)
                    && found.data.as_ref().is_some_and(|data| data.len() == 1)
                    && read::key_document(&found).is_ok_and(|text| text == document)
            })
        } else {
            let found = self.requests.get::<ConfigMap>(target).await?;
            found.is_some_and(|found| {
                found.immutable == Some(true)
                    && found.data.is_none()
                    && found.binary_data.as_ref().is_some_and(|data| data.len() == 1)
                    && read::routing_document(&found).is_ok_and(|text| text == document)
            })
        })
    }

    /// The shards to delete now ([`crate::publish::outputs::upkeep::delete_shards`]): no index has named them for long
    /// enough, and neither the last commit, which may have to be restored, nor the one that is tried again needs them.
    pub fn take_garbage(&mut self, now: Instant) -> Vec<(ShardKey, Shard)> {
        // Before the first commit, the shards of an earlier leader show what a commit would withdraw.
        let unknown = self.last.is_none() && !self.abandoned;
        if self.epoch.is_none() || unknown || matches!(self.index, Known::Nothing) {
            return Vec::new();
        }
        let last = self.last.as_ref().filter(|_| !self.abandoned).map(shards::named_by);
        let kept = last.into_iter().flatten().chain(self.wanted.iter().cloned()).collect();
        self.shards.take_garbage(now, GARBAGE, &kept)
    }

    /// Records the result of a collection.
    pub fn collected(&mut self, collected: &Collected) {
        for (key, held) in &collected.gone {
            // Later events of the watch are newer.
            if self.shards.get(key).is_some_and(|now| now.version == held.version) {
                self.shards.gone(key, held.uid.as_deref());
            }
        }
    }

    /// When there may be garbage without another commit.
    pub fn garbage_due(&self) -> Option<Instant> {
        self.shards.garbage_due()
    }
}
