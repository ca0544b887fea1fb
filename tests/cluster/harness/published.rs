//! Reads what is published as an agent would: the index, then the shards that it names, every hash checked.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::Api;
use waybill::kubernetes::key::OutputKey;
use waybill::published::read::{self, Published, ReadError};

/// An output, and the shards of it that were read. They never change.
pub struct Reader {
    pub key: OutputKey,
    pub maps: Api<ConfigMap>,
    secrets: Api<Secret>,
    held_maps: BTreeMap<String, ConfigMap>,
    held_secrets: BTreeMap<String, Secret>,
}

/// Why nothing was loaded.
#[derive(Debug)]
pub enum Miss {
    /// The API server did not answer in order.
    NoAnswer(kube::Error),
    NoIndex,
    /// The shards of an index can't be loaded.
    Unusable(ReadError),
}

impl Reader {
    pub fn new(client: &Client, key: OutputKey) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), key.namespace()),
            secrets: Api::namespaced(client.clone(), key.namespace()),
            key,
            held_maps: BTreeMap::new(),
            held_secrets: BTreeMap::new(),
        }
    }

    /// As [`Self::new`] for `NAMESPACE/NAME`.
    pub fn named(client: &Client, output: &str) -> Self {
        let (namespace, name) = output.split_once('/').unwrap();
        Self::new(client, OutputKey::new(namespace, name))
    }

    /// Fetches the shards that are not held yet and joins all.
    pub async fn load(&mut self, index_object: Option<ConfigMap>) -> Result<Published, Miss> {
        let index_object = index_object.ok_or(Miss::NoIndex)?;
        let index = read::index(&index_object).map_err(Miss::Unusable)?;
        let mut maps = BTreeMap::new();
        for short in index.shards() {
            let name = format!("{}.r-{short}", self.key.name());
            let shard = match self.held_maps.remove(&name) {
                Some(held) => Some(held),
                None => self.maps.get_opt(&name).await.map_err(Miss::NoAnswer)?,
            };
            maps.extend(shard.map(|shard| (name, shard)));
        }
        let mut secrets = BTreeMap::new();
        for short in index.key_shards() {
            let name = format!("{}.k-{short}", self.key.name());
            let shard = match self.held_secrets.remove(&name) {
                Some(held) => Some(held),
                None => self.secrets.get_opt(&name).await.map_err(Miss::NoAnswer)?,
            };
            secrets.extend(shard.map(|shard| (name, shard)));
        }
        let read = read::assemble(&self.key, &index_object, &maps, Some(&secrets)).map_err(Miss::Unusable);
        (self.held_maps, self.held_secrets) = (maps, secrets);
        read
    }

    /// What is published now. A shard that is gone means that there is a newer index, which is then read, so many times.
    pub async fn now(&mut self, times: usize) -> Result<Published, Miss> {
        let mut time = 1;
        loop {
            let index = self.maps.get_opt(self.key.name()).await.map_err(Miss::NoAnswer)?;
            match self.load(index).await {
                Err(Miss::Unusable(ReadError::ShardMissing { .. }) | Miss::NoAnswer(_)) if time < times => {
                    time += 1;
                }
                result => return result,
            }
        }
    }

    /// The documents that a proxy reads, as they are published: those that the index names, and no shard that waits to
    /// be deleted.
    pub async fn documents(&mut self) -> Vec<String> {
        let index = self.maps.get(self.key.name()).await.unwrap();
        self.load(Some(index)).await.unwrap_or_else(|miss| panic!("{}: {miss:?}", self.key));
        let mut documents: Vec<String> = Vec::new();
        documents.extend(self.held_maps.values().map(|shard| read::routing_document(shard).unwrap()));
        documents.extend(self.held_secrets.values().map(|shard| read::key_document(shard).unwrap()));
        documents
    }
}
