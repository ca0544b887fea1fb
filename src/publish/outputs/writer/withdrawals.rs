//! Measures what a commit would remove.

use std::collections::HashSet;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;

use super::shard_writes::{collection, shard_kind};
use super::{CONCURRENT, Known, OutputWriter};
use crate::publish::error::PublishError;
use crate::publish::outputs::snapshot::Snapshot;
use crate::publish::outputs::withdrawal::{self, RouterKeys, Withdrawal};
use crate::published::objects::{self, Part};
use crate::table::Digest;

impl OutputWriter {
    /// Whether a snapshot would remove too much. Routers are told apart by their keys, and only shards that differ
    /// are looked at.
    pub(super) async fn withdrawal(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<Option<Withdrawal>, PublishError> {
        let Known::Held(held) = &self.index else { return Ok(None) };
        let Some(index) = held.index.clone().filter(|_| self.max_withdrawal > 0) else { return Ok(None) };
        let new: HashSet<String> = snapshot.desired.routing_shards.iter().map(Digest::short).collect();
        let vanishing: Vec<String> =
            index.shards().filter(|short| !new.contains(*short)).map(str::to_owned).collect();
        let unknown: Vec<String> =
            vanishing.iter().filter(|short| !self.routers.contains_key(*short)).cloned().collect();
        let this = &*self;
        let read: Vec<Result<(String, Option<RouterKeys>), PublishError>> = stream::iter(unknown)
            .map(|short| async move {
                let keys = this.read_router_keys(&short).await?;
                Ok((short, keys))
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        let mut unreadable = 0;
        for result in read {
            match result? {
                (short, Some(keys)) => {
                    self.routers.insert(short, keys);
                }
                (_, None) => unreadable += 1,
            }
        }
        let before: Vec<_> = vanishing.iter().filter_map(|short| self.routers.get(short)).cloned().collect();
        let after = routers_in(snapshot).into_iter().map(|(_, keys)| keys).collect::<Vec<_>>();
        // Of a shard that is gone nobody knows what it held: its share counts as removed.
        let lost = unreadable * index.counts.routers / index.shards().count().max(1);
        let withdrawal = Withdrawal {
            removed: withdrawal::removed(&before, &after) + lost,
            of: index.counts.routers,
            generation: index.generation,
        };
        let Known::Held(held) = &self.index else { return Ok(None) };
        let passes = !withdrawal.is_above(self.max_withdrawal) || withdrawal.is_confirmed(&held.object);
        Ok((!passes).then_some(withdrawal))
    }

    async fn read_router_keys(&self, short: &str) -> Result<Option<RouterKeys>, PublishError> {
        let name = objects::routing_shard_name(&self.output, short);
        let (_, object) = shard_kind(Part::Routing, &self.output, &name);
        let path = format!("{}/{name}", collection(Part::Routing, &self.output));
        let read = self.requests.get::<ConfigMap>(&object, &path).await?;
        let document = read.and_then(|shard| crate::published::read::routing_document(&shard).ok());
        Ok(document.as_deref().and_then(withdrawal::router_keys))
    }

    /// Keeps which routers are in each shard, for the next comparison.
    pub(super) fn remember_routers(&mut self, snapshot: &Snapshot) {
        if self.max_withdrawal == 0 {
            return;
        }
        self.routers.extend(routers_in(snapshot));
        let shards = &self.shards;
        self.routers.retain(|short, _| shards.is_named(&(Part::Routing, short.clone())));
    }
}

/// Router keys of the documents of a snapshot, by shard.
fn routers_in(snapshot: &Snapshot) -> Vec<(String, RouterKeys)> {
    let shards = snapshot.desired.routing_shards.iter();
    shards
        .filter_map(|digest| {
            let document = snapshot.document(Part::Routing, digest)?;
            Some((digest.short(), withdrawal::router_keys(document)?))
        })
        .collect()
}
