//! A commit's content, taken from the table at one moment, so that writing it needs no lock.

use std::collections::HashMap;

use crate::published::desired_output::DesiredOutput;
use crate::published::objects::{Part, TEXT_LIMIT};
use crate::table::{Digest, Output, ShardContent};

/// The desired state of an output, with the content of the shards that have to be written.
pub struct Snapshot {
    pub desired: DesiredOutput,
    shards: HashMap<(Part, Digest), ShardContent>,
    /// Bytes of routers and services as text.
    pub text_bytes: usize,
    /// The text, if it was requested and is not too large.
    pub text: Option<String>,
    /// The output exists only to be emptied: if there is no index, none is created.
    pub retired: bool,
    /// Statuses wait until agents have loaded it.
    pub awaited: bool,
}

impl Snapshot {
    /// Takes the current state of `output`, with the content of the shards that are `needed`.
    pub fn new(output: &mut Output, needed: impl Fn(Part, &Digest) -> bool) -> Self {
        let desired = DesiredOutput::new(output);
        let mut shards = HashMap::new();
        for (part, digest) in desired.shards().filter(|(part, digest)| needed(*part, digest)) {
            let content = match part {
                Part::Keys => output.key_shard(&digest),
                _ => output.routing_shard(&digest),
            };
            if let Some(content) = content {
                shards.insert((part, digest), content);
            }
        }
        let text_bytes = output.routing_bytes();
        Self { desired, shards, text_bytes, text: None, retired: false, awaited: false }
    }

    /// Takes the text too. `output` must be unchanged since [`Self::new`].
    #[must_use]
    pub fn with_text(mut self, output: &Output) -> Self {
        if self.text_bytes <= TEXT_LIMIT {
            self.text = Some(output.routing());
        }
        self
    }

    /// The document of a shard, if it was requested. It is built here, so that no more documents are in memory than are
    /// written at once.
    pub fn document(&self, part: Part, digest: &Digest) -> Option<String> {
        self.shards.get(&(part, *digest)).map(ShardContent::document)
    }
}
