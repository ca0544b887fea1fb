//! The desired state of an output in the cluster.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::published::index::{FORMAT_VERSION, Index};
use crate::published::objects::Part;
use crate::published::salt::{Salt, short_name};
use crate::table::{Counts, Digest, Output};

/// The maximum number of namespaces in an index: those with the most routers.
const NAMESPACES: usize = 256;

/// The routing that an index describes. If two of these are equal, there is nothing to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredOutput {
    /// In order; their documents come from [`Output::routing_shard`].
    pub routing_shards: Vec<Digest>,
    /// In order; their documents come from [`Output::key_shard`].
    pub key_shards: Vec<Digest>,
    /// [`Output::hash`]
    pub hash: Digest,
    pub counts: Counts,
    /// [`Output::routers_by_namespace`], if the index has to contain it.
    pub namespaces: Option<HashMap<Arc<str>, usize>>,
}

impl DesiredOutput {
    /// The desired state of `output`. Updates its shards and its hash; the work is proportional to what changed since
    /// the last call.
    pub fn new(output: &mut Output) -> Self {
        output.refresh();
        Self {
            routing_shards: output.routing_shards().collect(),
            key_shards: output.key_shards().collect(),
            hash: output.hash(),
            counts: output.counts(),
            namespaces: None,
        }
    }

    /// Part and digest of each shard, in order. Shards with the same text are one object and occur once.
    pub fn shards(&self) -> impl Iterator<Item = (Part, Digest)> {
        let routing = self.routing_shards.iter().map(|digest| (Part::Routing, *digest));
        let all = routing.chain(self.key_shards.iter().map(|digest| (Part::Keys, *digest)));
        let mut seen = HashSet::new();
        all.filter(move |shard| seen.insert(*shard))
    }

    /// The index that names these shards.
    pub fn index(&self, stamp: &Stamp<'_>) -> Index {
        let run = |shards: &[Digest]| {
            shards.iter().map(|digest| short_name(stamp.salt, digest).to_string()).collect::<String>()
        };
        Index {
            format_version: FORMAT_VERSION,
            epoch: stamp.epoch,
            generation: stamp.generation,
            awaited: stamp.awaited,
            published_at: stamp.published_at.to_owned(),
            salt: stamp.salt,
            hash: self.hash.to_string(),
            shards: run(&self.routing_shards),
            key_shards: run(&self.key_shards),
            counts: self.counts,
            namespaces: self.namespaces.as_ref().map(most_routers),
        }
    }
}

fn most_routers(namespaces: &HashMap<Arc<str>, usize>) -> BTreeMap<String, usize> {
    let mut all: Vec<_> = namespaces.iter().collect();
    all.sort_unstable_by_key(|&(namespace, routers)| (Reverse(*routers), namespace));
    all.into_iter()
        .take(NAMESPACES)
        .map(|(namespace, routers)| (String::from(&**namespace), *routers))
        .collect()
}

/// The writer, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The Lease's transitions when the writer was elected.
    pub epoch: u64,
    /// One more than the last commit's.
    pub generation: u64,
    /// The newest generation that statuses wait for.
    pub awaited: u64,
    /// RFC 3339.
    pub published_at: &'a str,
    /// That of the output.
    pub salt: Option<Salt>,
}
