//! What is to be committed, taken from the table at one moment, so that writing it takes no lock.

use std::collections::HashMap;

use crate::published::desired_output::Wanted;
use crate::published::objects::Part;
use crate::table::{Digest, Output};

/// What an output has to be, with the documents of the shards that have to be written.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Everything but the documents.
    pub wanted: Wanted,
    /// [`Output::hash`] of the same state.
    pub hash: Digest,
    documents: HashMap<(Part, Digest), String>,
}

impl Snapshot {
    /// Takes what `output` is now, with the documents of the shards that `needed` asks for
    /// ([`crate::publish::outputs::writer::OutputWriter::needs`]).
    pub fn of(output: &mut Output, needed: impl Fn(Part, &Digest) -> bool) -> Self {
        let wanted = Wanted::of(output);
        let hash = output.hash();
        let mut documents = HashMap::new();
        let routing = wanted.routing_shards().iter().map(|digest| (Part::Routing, *digest));
        let keys = wanted.key_shards.iter().map(|digest| (Part::Keys, *digest));
        for (part, digest) in routing.chain(keys).filter(|(part, digest)| needed(*part, digest)) {
            let document = match part {
                Part::Keys => output.key_shard(&digest),
                _ => output.routing_shard(&digest),
            };
            if let Some(document) = document {
                documents.insert((part, digest), document);
            }
        }
        Self { wanted, hash, documents }
    }

    /// All shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = (Part, Digest)> {
        let routing = self.wanted.routing_shards().iter().map(|digest| (Part::Routing, *digest));
        routing.chain(self.wanted.key_shards.iter().map(|digest| (Part::Keys, *digest)))
    }

    /// The document of a shard, where it was asked for.
    pub fn document(&self, part: Part, digest: &Digest) -> Option<&str> {
        self.documents.get(&(part, *digest)).map(String::as_str)
    }
}
