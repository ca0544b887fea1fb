//! Holds a commit that would remove too much, and keeps the published routing meanwhile.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{CONCURRENT, Known, OutputWriter, Report, now};
use crate::publish::error::PublishError;
use crate::publish::outputs::held_index::HeldIndex;
use crate::publish::outputs::shards;
use crate::publish::outputs::snapshot::Snapshot;
use crate::publish::outputs::withdrawal::{PublishedRouters, Withdrawal};
use crate::publish::requests::ObjectTarget;
use crate::published::index::Index;
use crate::published::objects::{self, Part};
use crate::published::read;
use crate::table::Digest;
use crate::traefik::dynamic::Configuration;

impl OutputWriter {
    /// The withdrawal of a snapshot, if it is too large and nobody has confirmed it. It is compared with the last
    /// commit that this writer knows, whatever happened to the index since. If a new leader finds no readable index,
    /// the remaining shards show what was published.
    pub(super) async fn withdrawal(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<Option<Withdrawal>, PublishError> {
        if self.max_withdrawal == 0 {
            return Ok(None);
        }
        let published = match &self.last {
            Some(index) => PublishedRouters::from(index),
            None => {
                let count = match self.remains {
                    Some(count) => count,
                    None => *self.remains.insert(self.remaining_routers().await?),
                };
                PublishedRouters { count, namespaces: None }
            }
        };
        let nothing = HashMap::new();
        let desired = &snapshot.desired;
        let namespaces = desired.namespaces.as_ref().unwrap_or(&nothing);
        let withdrawal = Withdrawal {
            generation: self.generation,
            ..published.withdrawal(desired.counts.routers, namespaces, self.max_withdrawal)
        };
        let confirmed = self.held().is_some_and(|held| withdrawal.is_confirmed(&held.object));
        Ok(Some(withdrawal).filter(|withdrawal| withdrawal.held && !confirmed))
    }

    /// The number of routers in the existing shards, including garbage.
    async fn remaining_routers(&self) -> Result<usize, PublishError> {
        let keys = self.shards.keys().filter(|(part, _)| *part == Part::Routing);
        let shards: Vec<ObjectTarget> = keys.map(|key| shards::target(&self.output, key)).collect();
        let routers: BTreeSet<String> = stream::iter(shards)
            .map(|target| async move {
                let shard = self.requests.get::<ConfigMap>(&target).await?;
                let document = shard.and_then(|shard| read::routing_document(&shard).ok());
                Ok::<_, PublishError>(document.map(|document| router_keys(&document)).unwrap_or_default())
            })
            .buffer_unordered(CONCURRENT)
            .try_fold(BTreeSet::new(), async |mut all, keys| {
                all.extend(keys);
                Ok(all)
            })
            .await?;
        Ok(routers.len())
    }

    /// Restores the last commit if someone has edited or deleted it. If that is impossible, creates an index without
    /// content that can be annotated, and that no reader treats as a routing.
    pub(super) async fn keep_published(
        &mut self,
        snapshot: &Snapshot,
        missing: &[(Part, Digest)],
        report: &mut Report,
    ) -> Result<(), PublishError> {
        if let Some(last) = self.last.clone() {
            let named = shards::named_by(&last);
            let wanted: Vec<_> = missing
                .iter()
                .copied()
                .filter(|(part, digest)| {
                    let key = shards::key(self.salt, *part, digest);
                    named.contains(&key) && !self.shards.clashes(self.salt, &key, digest)
                })
                .collect();
            self.create(snapshot, &wanted, report).await?;
            let says = |held: &HeldIndex| !held.unlabelled && held.index.as_ref() == Some(&last);
            if self.held().is_some_and(says) {
                return Ok(());
            }
            if self.shards.has_all(&last) {
                let generation = self.generation.saturating_add(1);
                self.put_index(Index { generation, published_at: now(), ..last }).await?;
                return Ok(());
            }
        }
        if matches!(self.index, Known::Absent) {
            let object = objects::empty_index(&self.output);
            self.requests.write(&self.target().create(&object)?).await?;
            self.index = Known::Nothing;
            self.read_index().await?;
        }
        Ok(())
    }
}

/// The keys of a document's routers; none if it is no such document.
fn router_keys(document: &str) -> Vec<String> {
    let read = serde_json::from_str::<Configuration>(document).ok();
    read.and_then(|read| read.http).map(|http| http.routers.into_keys().collect()).unwrap_or_default()
}
