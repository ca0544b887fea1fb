//! Reads what is published: watches the index, and fetches shards when they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::error::NotHandedOn;
use super::metrics::AgentMetrics;
use super::shard::ShardEntries;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::with_causes;
use crate::pace::{Backoff, Reminder};
use crate::published::index::Index;
use crate::published::objects;
use crate::published::read::{self, ReadError};
use crate::published::salt::Salt;

/// A watch ends after this time and resumes, so a dead connection is noticed soon.
const WATCH_SECONDS: u32 = 30;

/// The timeout of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The number of shards that are fetched at once.
const AT_ONCE: usize = 8;

/// The first and the longest delay between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The maximum delay that the API server can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often a persisting failure is logged.
const LOG_AGAIN: Duration = Duration::from_secs(30);

/// The known state of the index.
#[derive(Clone, Debug, Default)]
pub enum SeenIndex {
    /// Not known yet.
    #[default]
    Unknown,
    /// There is no index. This says nothing about the routing.
    Absent,
    /// This one.
    Index(Arc<ConfigMap>),
}

/// Shards by the names of their objects.
pub type FetchedShards = BTreeMap<String, ShardEntries>;

/// Errors while fetching the shards of an index.
#[derive(Debug)]
pub enum FetchError {
    /// A shard is missing: most likely there is a newer index.
    Missing(String),
    /// The API server did not answer, or answered with an error and asked for this delay.
    Api { reason: String, retry_after: Duration },
    /// A shard can't be used.
    Refused(NotHandedOn),
}

/// Reads an output.
#[derive(Clone)]
pub struct OutputReader {
    output: OutputKey,
    maps: Api<ConfigMap>,
    secrets: Api<Secret>,
    metrics: AgentMetrics,
}

impl OutputReader {
    /// A reader of one output.
    pub fn new(client: Client, output: OutputKey, metrics: AgentMetrics) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), output.namespace()),
            secrets: Api::namespaced(client, output.namespace()),
            output,
            metrics,
        }
    }

    /// Follows the index forever.
    pub async fn follow(self, seen: watch::Sender<SeenIndex>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut reminder = Reminder::new(LOG_AGAIN);
        loop {
            let begun = Instant::now();
            let error = match self.list_and_watch(&seen).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if begun.elapsed() > LONGEST_PAUSE {
                backoff.reset();
                reminder.reset();
            }
            // A resourceVersion that is too old is no failure: the index is listed again.
            let expired = matches!(&error, kube::Error::Api(status) if status.code == 410);
            if !expired && reminder.is_due(Instant::now()) {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the index {} can't be watched; trying again, and the loaded routing stays",
                    self.output
                );
            }
            tokio::time::sleep(retry_after(&error) + backoff.next_wait()).await;
        }
    }

    async fn list_and_watch(
        &self,
        seen: &watch::Sender<SeenIndex>,
    ) -> Result<std::convert::Infallible, kube::Error> {
        let field = format!("metadata.name={}", self.output.name());
        let list = self.maps.list(&ListParams::default().fields(&field)).await?;
        let mut version = list.metadata.resource_version.clone().unwrap_or_default();
        let found = list.items.into_iter().find(|map| map.name_any() == self.output.name());
        seen.send_replace(found.map_or(SeenIndex::Absent, |map| SeenIndex::Index(Arc::new(map))));
        self.metrics.heard.since(Instant::now());
        loop {
            let begun = Instant::now();
            let parameters = WatchParams::default().fields(&field).timeout(WATCH_SECONDS);
            let mut events = self.maps.watch(&parameters, &version).await?.boxed();
            while let Some(event) = events.try_next().await? {
                self.metrics.heard.since(Instant::now());
                match event {
                    WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                        version = map.resource_version().unwrap_or(version);
                        seen.send_replace(SeenIndex::Index(Arc::new(map)));
                    }
                    WatchEvent::Deleted(map) => {
                        version = map.resource_version().unwrap_or(version);
                        seen.send_replace(SeenIndex::Absent);
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
                }
            }
            self.metrics.heard.since(Instant::now());
            // Waits before the next attempt, in case a server ends every watch at once.
            if let Some(rest) = Duration::from_secs(1).checked_sub(begun.elapsed()) {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// The current index, read without any cache.
    pub async fn index(&self) -> Result<Option<ConfigMap>, String> {
        match tokio::time::timeout(ANSWER_WITHIN, self.maps.get_opt(self.output.name())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?}")),
        }
    }

    /// See [`named`].
    pub fn named(&self, index: &Index) -> BTreeMap<String, usize> {
        named(&self.output, index)
    }

    /// Fetches the missing shards. After a failure it continues with the others, and in the end returns the first error. It
    /// stops early if requests keep failing.
    pub async fn fetch(
        &self,
        missing: Vec<String>,
        salt: Option<Salt>,
        fetched: &mut FetchedShards,
    ) -> Result<(), FetchError> {
        let answers = stream::iter(missing).map(|name| async move {
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.fetch_one(&name, salt)).await;
            let late = || format!("{name}: no answer within {ANSWER_WITHIN:?}");
            let answer = answer
                .unwrap_or_else(|_| Err(FetchError::Api { reason: late(), retry_after: Duration::ZERO }));
            (name, answer)
        });
        let mut answers = std::pin::pin!(answers.buffer_unordered(AT_ONCE));
        let mut first = None;
        let mut failed_in_a_row = 0;
        while failed_in_a_row < AT_ONCE
            && let Some((name, answer)) = answers.next().await
        {
            match answer {
                Ok(shard) => {
                    fetched.insert(name, shard);
                    failed_in_a_row = 0;
                }
                Err(error) => {
                    first.get_or_insert(error);
                    failed_in_a_row += 1;
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn fetch_one(&self, name: &str, salt: Option<Salt>) -> Result<ShardEntries, FetchError> {
        let key_prefix = objects::key_shard_prefix(&self.output);
        let refused = |error: ReadError| FetchError::Refused(error.into());
        let (text, metadata, data) = if name.starts_with(&key_prefix) {
            let secret = found(name, self.secrets.get_opt(name).await)?;
            (read::key_document(&secret).map_err(refused)?, secret.metadata, secret.data)
        } else {
            let map = found(name, self.maps.get_opt(name).await)?;
            (read::routing_document(&map).map_err(refused)?, map.metadata, map.binary_data)
        };
        read::check_name(&metadata, salt).map_err(refused)?;
        self.metrics.fetched(data.iter().flatten().map(|(_, value)| value.0.len()).sum());
        ShardEntries::parse(name, &text).map_err(FetchError::Refused)
    }
}

/// The names of all objects that an index leads to, and how often it names each: shards with the same text are one object.
pub fn named(output: &OutputKey, index: &Index) -> BTreeMap<String, usize> {
    let routing = index.shards().map(|short| objects::routing_shard_name(output, short));
    let keys = index.key_shards().map(|short| objects::key_shard_name(output, short));
    let mut named = BTreeMap::new();
    for name in routing.chain(keys) {
        *named.entry(name).or_default() += 1;
    }
    named
}

fn found<K>(name: &str, answer: Result<Option<K>, kube::Error>) -> Result<K, FetchError> {
    match answer {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(FetchError::Missing(name.to_owned())),
        Err(error) => Err(FetchError::Api {
            reason: format!("{name}: {}", with_causes(&error)),
            retry_after: retry_after(&error),
        }),
    }
}

/// The delay that the API server asks for.
fn retry_after(error: &kube::Error) -> Duration {
    let kube::Error::Api(status) = error else { return Duration::ZERO };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER)
}
