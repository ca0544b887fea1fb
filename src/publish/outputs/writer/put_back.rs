//! Handles events of waybill's own objects, and decides whether something has to be restored.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Known, OutputWriter};
use crate::publish::outputs::shards::{self, ShardKey};
use crate::published::objects::{self, Part};

/// An event of a watch of own objects, with metadata only. The watches select
/// [`crate::kubernetes::well_known::MANAGED_BY_LABEL`] `waybill`.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An object exists.
    Applied(ObjectMeta),
    /// An object was deleted.
    Deleted(ObjectMeta),
    /// All objects of this output, from a list.
    Listed(Vec<ObjectMeta>),
}

/// The kinds of own objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnKind {
    /// The index and routing shards.
    ConfigMap,
    /// Key shards.
    Secret,
}

impl OutputWriter {
    /// Handles an event of own objects. Returns whether a commit is needed to restore something.
    pub fn observe(&mut self, kind: OwnKind, seen: Seen) -> bool {
        match seen {
            Seen::Applied(metadata) => self.applied(kind, &metadata),
            Seen::Deleted(metadata) => {
                let name = metadata.name.as_deref().unwrap_or_default();
                if kind == OwnKind::ConfigMap && name == self.output.name() {
                    // Read again, since it may exist again already.
                    self.index = Known::Nothing;
                } else if let Some(key) = self.shard_of(kind, name) {
                    self.shards.gone(&key, metadata.uid.as_deref());
                }
            }
            Seen::Listed(all) => {
                if let Known::Held(_) = self.index
                    && kind == OwnKind::ConfigMap
                    && !all.iter().any(|metadata| metadata.name.as_deref() == Some(self.output.name()))
                {
                    self.index = Known::Nothing;
                }
                self.relist(kind, all);
            }
        }
        matches!(self.index, Known::Nothing) || self.shards.is_damaged()
    }

    fn applied(&mut self, kind: OwnKind, metadata: &ObjectMeta) {
        let name = metadata.name.as_deref().unwrap_or_default();
        if kind == OwnKind::ConfigMap && name == self.output.name() {
            let version = metadata.resource_version.as_ref();
            if version.is_none_or(|version| !self.own_versions.contains(version)) {
                self.index = Known::Nothing;
            }
        } else if let Some(key) = self.shard_of(kind, name) {
            if objects::is_ours(metadata, &self.output, key.0) {
                self.shards.seen(key, metadata, Instant::now());
            } else {
                // A stranger's object, or one that lost a label: [`Self::create`] finds out which.
                self.shards.gone(&key, None);
            }
        }
    }

    /// A list has ended: objects that are not in it are deleted.
    pub(super) fn relist(&mut self, kind: OwnKind, all: Vec<ObjectMeta>) {
        let part = match kind {
            OwnKind::ConfigMap => Part::Routing,
            OwnKind::Secret => Part::Keys,
        };
        let index = all.iter().find(|metadata| metadata.name.as_deref() == Some(self.output.name()));
        if let Some(index) = index {
            self.applied(kind, index);
        }
        let listed: Vec<_> = all
            .into_iter()
            .filter_map(|metadata| Some((self.shard_of(kind, metadata.name.as_deref()?)?, metadata)))
            .filter(|(key, metadata)| objects::is_ours(metadata, &self.output, key.0))
            .collect();
        self.shards.relist(part, Instant::now(), listed);
    }

    fn shard_of(&self, kind: OwnKind, name: &str) -> Option<ShardKey> {
        shards::key_of(&self.output, name)
            .filter(|(part, _)| (*part == Part::Keys) == (kind == OwnKind::Secret))
    }
}
