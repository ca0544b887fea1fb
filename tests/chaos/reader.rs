//! Readers that follow index and shards as an agent would, one that polls and one that watches, for as long as
//! everything goes on. Whatever they meet that they may not meet is a violation.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::runtime::watcher::{self, Event};
use waybill::published::read::{self, Published, ReadError};

use super::harness::published::{self, Miss};
use super::legal::Legal;
use super::random::Random;

/// The longest that a reader rests between an index and its shards, and between two indexes, in milliseconds.
const REST: usize = 1_500;

/// How a reader learns of an index.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    List,
    Watch,
}

/// One output, read.
pub struct Reader {
    output: String,
    reader: published::Reader,
    legal: Arc<Legal>,
    random: Random,
    /// Epoch and generation of the last state, and the truce in which it was read.
    last: Option<(u64, u64, u64)>,
    watches: bool,
    /// The generation of an index that was read beside a watch.
    ahead: Option<u64>,
}

impl Reader {
    pub fn new(client: &Client, output: &str, legal: Arc<Legal>, seed: u64) -> Self {
        Self {
            output: output.to_owned(),
            reader: published::Reader::named(client, output),
            legal,
            random: Random::new(seed),
            last: None,
            watches: false,
            ahead: None,
        }
    }

    /// Reads for ever.
    pub async fn run(mut self, way: Way) {
        self.legal.readers.fetch_add(1, Ordering::Relaxed);
        match way {
            Way::List => loop {
                self.rest().await;
                let truce = self.legal.truce();
                match self.reader.maps.get_opt(self.reader.key.name()).await {
                    Ok(index) => self.follow(index, truce).await,
                    Err(_) => self.rest().await,
                }
            },
            Way::Watch => {
                self.watches = true;
                let config =
                    watcher::Config::default().fields(&format!("metadata.name={}", self.reader.key.name()));
                let mut events = watcher::watcher(self.reader.maps.clone(), config).boxed();
                let mut deleted = 0;
                loop {
                    let truce = self.legal.truce();
                    match events.next().await {
                        Some(Ok(Event::Apply(index) | Event::InitApply(index))) => {
                            self.follow(Some(index), truce).await;
                        }
                        // It may come long after the deletion.
                        Some(Ok(Event::Delete(_))) => {
                            deleted += 1;
                            if deleted > self.legal.deleted.load(Ordering::SeqCst) {
                                self.violated(truce, "the index was deleted");
                            }
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) => self.rest().await,
                        None => return,
                    }
                }
            }
        }
    }

    async fn rest(&mut self) {
        let rest = self.random.below(REST) as u64;
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }

    /// Takes one index and loads what it names; looks at a newer one when that fails. `truce` is from before the index
    /// was read.
    async fn follow(&mut self, index: Option<ConfigMap>, truce: u64) {
        if self.random.chance(30) {
            self.rest().await;
        }
        let version = index.as_ref().and_then(|index| index.metadata.resource_version.as_deref());
        if version.is_some_and(|version| self.legal.is_damaged(version)) {
            return;
        }
        let generation =
            index.as_ref().and_then(|index| read::index(index).ok()).map(|index| index.generation);
        // A watch goes on to tell of what came before an index that was read beside it.
        if let Some(ahead) = self.ahead.take()
            && generation.is_some_and(|generation| generation < ahead)
        {
            self.ahead = Some(ahead);
            return;
        }
        let miss = match self.reader.load(index).await {
            Ok(published) => return self.took(&published, truce),
            Err(Miss::NoAnswer(_)) => return,
            Err(miss) => miss,
        };
        // What is missing may be so because there is a newer index by now, which then can be loaded.
        let Ok(newer) = self.reader.maps.get_opt(self.reader.key.name()).await else { return };
        let index = newer.as_ref().and_then(|index| read::index(index).ok());
        if self.watches {
            self.ahead = index.as_ref().map(|index| index.generation);
        }
        let is_newer = index.is_some_and(|index| generation.is_some_and(|old| index.generation > old));
        if is_newer && matches!(miss, Miss::Unusable(ReadError::ShardMissing { .. })) {
            self.legal.retries.fetch_add(1, Ordering::Relaxed);
            match self.reader.load(newer).await {
                Ok(published) => self.took(&published, truce),
                Err(Miss::NoAnswer(_)) => {}
                // It took so long that it may be another one again; the next attempt tells.
                Err(second) => self.violated(truce, &format!("{miss:?}, and then {second:?}")),
            }
            return;
        }
        self.violated(truce, &format!("generation {generation:?}: {miss:?}"));
    }

    fn violated(&self, truce: u64, what: &str) {
        if self.legal.truce() == truce && truce.is_multiple_of(2) {
            self.legal.violated(format!("{}: {what}", self.output));
        }
    }

    fn took(&mut self, published: &Published, truce: u64) {
        self.legal.states.fetch_add(1, Ordering::Relaxed);
        let index = &published.index;
        let (epoch, generation) = (index.epoch, index.generation);
        if let Some((last_epoch, last_generation, last_truce)) = self.last
            && last_truce == truce
            && (epoch < last_epoch || generation < last_generation)
        {
            let was = format!("epoch {last_epoch} and generation {last_generation}");
            self.violated(truce, &format!("back to epoch {epoch} and generation {generation} from {was}"));
        }
        self.last = Some((epoch, generation, truce));
        for fault in self.legal.faults(&self.output, &published.configuration) {
            self.violated(truce, &format!("epoch {epoch}, generation {generation}: {fault}"));
        }
    }
}

/// What is published now; loading it is tried twice, for a newer index in between.
pub async fn now(client: &Client, output: &str) -> Result<Published, String> {
    published::Reader::named(client, output).now(2).await.map_err(|miss| format!("{miss:?}"))
}
