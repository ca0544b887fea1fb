//! What an output has to look like in the cluster.

use crate::published::index::{FORMAT_VERSION, Index};
use crate::table::{Counts, Digest, Output};

/// From this many bytes of `routing.yaml` on, the routing goes into shards of its own.
pub const SINGLE_LIMIT: usize = 128 * 1024;

/// Everything published about an output but the stamp of its index: when two of these are equal, there is nothing
/// to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Routers and services.
    pub routing: Routing,
    /// The key shards, in order; their documents come from [`Output::key_shard`].
    pub key_shards: Vec<Digest>,
    /// How much there is.
    pub counts: Counts,
}

/// Where the routing goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Into the index: this document.
    Single(String),
    /// Into shards, in order; their documents come from [`Output::routing_shard`].
    Sharded(Vec<Digest>),
}

impl Wanted {
    /// What `output` needs. Brings its shards up to date; work: those that changed since the last call.
    pub fn of(output: &mut Output) -> Self {
        output.refresh();
        // What is around the lines takes less than a hundred bytes, so that a routing above the limit is not written
        // just to be measured.
        let single = (output.routing_bytes() < SINGLE_LIMIT)
            .then(|| output.routing())
            .filter(|document| document.len() < SINGLE_LIMIT);
        Self {
            routing: match single {
                Some(document) => Routing::Single(document),
                None => Routing::Sharded(output.routing_shards().collect()),
            },
            key_shards: output.key_shards().collect(),
            counts: output.counts(),
        }
    }

    /// The routing shards, in order; none where the routing is in the index.
    pub fn routing_shards(&self) -> &[Digest] {
        match &self.routing {
            Routing::Single(_) => &[],
            Routing::Sharded(shards) => shards,
        }
    }

    /// The index that names this. `hash` is [`Output::hash`], taken of the same state of the output.
    pub fn index(&self, hash: &Digest, stamp: &Stamp<'_>) -> Index {
        let run = |shards: &[Digest]| shards.iter().map(Digest::short).collect::<String>();
        Index {
            format_version: FORMAT_VERSION,
            epoch: stamp.epoch,
            generation: stamp.generation,
            published_at: stamp.published_at.to_owned(),
            hash: hash.to_string(),
            shards: run(self.routing_shards()),
            key_shards: run(&self.key_shards),
            counts: self.counts.into(),
        }
    }
}

/// Who publishes, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The Lease's transitions when the writer was elected.
    pub epoch: u64,
    /// One more than the last commit's.
    pub generation: u64,
    /// RFC 3339.
    pub published_at: &'a str,
}
