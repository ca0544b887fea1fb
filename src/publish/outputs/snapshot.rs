//! What is to be committed, taken from the table at one moment, so that writing it takes no lock.

use std::collections::HashMap;

use crate::published::desired_output::DesiredOutput;
use crate::published::objects::{Part, TEXT_LIMIT};
use crate::table::{Digest, Output};

/// What an output has to be, with the documents of the shards that have to be written.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub desired: DesiredOutput,
    documents: HashMap<(Part, Digest), String>,
    /// Bytes of routers and services as text.
    pub text_bytes: usize,
    /// That text, where it was asked for and is not too large.
    pub text: Option<String>,
    /// The output is there only to be emptied: where there is no index, none is made.
    pub retired: bool,
    /// Statuses wait until agents have loaded it.
    pub awaited: bool,
}

impl Snapshot {
    /// Takes what `output` is now, with the documents of the shards that are `needed`.
    pub fn new(output: &mut Output, needed: impl Fn(Part, &Digest) -> bool) -> Self {
        let desired = DesiredOutput::new(output);
        let mut documents = HashMap::new();
        for (part, digest) in desired.shards().filter(|(part, digest)| needed(*part, digest)) {
            let document = match part {
                Part::Keys => output.key_shard(&digest),
                _ => output.routing_shard(&digest),
            };
            if let Some(document) = document {
                documents.insert((part, digest), document);
            }
        }
        let text_bytes = output.routing_bytes();
        Self { desired, documents, text_bytes, text: None, retired: false, awaited: false }
    }

    /// Takes the text as well. `output` is as it was for [`Self::new`].
    #[must_use]
    pub fn with_text(mut self, output: &Output) -> Self {
        if self.text_bytes <= TEXT_LIMIT {
            self.text = Some(output.routing());
        }
        self
    }

    /// The document of a shard, where it was asked for.
    pub fn document(&self, part: Part, digest: &Digest) -> Option<&str> {
        self.documents.get(&(part, *digest)).map(String::as_str)
    }
}
