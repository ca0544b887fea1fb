//! Watches the metadata of the objects that waybill has written, so that an edit or a deletion is undone. These watches
//! run only while this replica leads: two in each namespace with an output, one of ConfigMaps and one of Secrets.
//!
//! The output of an object follows from its name, since someone may have changed its label.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::kubernetes::MetadataOf;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, PART_LABEL, WAYBILL};
use crate::metrics::{Metrics, WatchKind};
use crate::operator::feeds::{self, WATCH_SECONDS};
use crate::publish::outputs::{OwnKind, Seen};
use crate::published::objects::{self, OUTPUT_LABEL};

/// An event of a watch.
#[derive(Debug)]
pub enum News {
    /// Of one object of an output.
    Object(OwnKind, OutputKey, Box<Seen>),
    /// All objects of a namespace. An output without any has lost them.
    Listed(OwnKind, String, Vec<ObjectMeta>),
}

/// Events that wait for the publisher. If this is full, the watches wait, and the API server with them.
const WAITING: usize = 256;

/// The watches of some namespaces. They run until it is dropped.
pub struct OwnWatches {
    news: mpsc::Receiver<News>,
    sender: mpsc::Sender<News>,
    tasks: BTreeMap<String, JoinSet<()>>,
    client: Client,
    metrics: Metrics,
}

impl OwnWatches {
    /// No watches yet.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let (sender, news) = mpsc::channel(WAITING);
        Self { news, sender, tasks: BTreeMap::new(), client, metrics }
    }

    /// Also watches the namespace of an output.
    pub fn watch(&mut self, output: &OutputKey) {
        let namespace = output.namespace();
        if self.tasks.contains_key(namespace) {
            return;
        }
        let mut tasks = JoinSet::new();
        self.follow::<MetadataOf<ConfigMap>>(&mut tasks, OwnKind::ConfigMap, namespace);
        self.follow::<MetadataOf<Secret>>(&mut tasks, OwnKind::Secret, namespace);
        self.tasks.insert(namespace.to_owned(), tasks);
    }

    fn follow<K>(&self, tasks: &mut JoinSet<()>, kind: OwnKind, namespace: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        // Done here and not in the task, which may start only after this was dropped again.
        self.metrics.watch_age.begun(watch_kind(kind), api.resource_url());
        let (sender, metrics) = (self.sender.clone(), self.metrics.clone());
        tasks.spawn(follow(api, kind, namespace.to_owned(), sender, metrics));
    }

    /// Stops watching a namespace.
    pub fn end(&mut self, namespace: &str) {
        self.tasks.remove(namespace);
        let ended = |kind, path: String| self.metrics.watch_age.ended(kind, &path);
        ended(WatchKind::OwnConfigMap, ConfigMap::url_path(&(), Some(namespace)));
        ended(WatchKind::OwnSecret, Secret::url_path(&(), Some(namespace)));
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// The events that have already arrived.
    pub fn try_next(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

impl Drop for OwnWatches {
    fn drop(&mut self) {
        self.metrics.watch_age.clear(WatchKind::OwnConfigMap);
        self.metrics.watch_age.clear(WatchKind::OwnSecret);
    }
}

fn watch_kind(kind: OwnKind) -> WatchKind {
    match kind {
        OwnKind::ConfigMap => WatchKind::OwnConfigMap,
        OwnKind::Secret => WatchKind::OwnSecret,
    }
}

async fn follow<K>(api: Api<K>, kind: OwnKind, namespace: String, news: mpsc::Sender<News>, metrics: Metrics)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // An object that loses one of the labels leaves the watch, which reports a deletion.
    let labels = format!("{MANAGED_BY_LABEL}={WAYBILL},{OUTPUT_LABEL},{PART_LABEL}");
    let config = watcher::Config::default().labels(&labels).timeout(WATCH_SECONDS);
    let path = api.resource_url().to_owned();
    let mut events = feeds::events(api, config);
    let mut listed: Vec<ObjectMeta> = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                metrics.watch_errors.inc(watch_kind(kind));
                tracing::debug!(%error, "watch of own objects failed; trying again");
                continue;
            }
        };
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            metrics.watch_age.heard(watch_kind(kind), &path, Instant::now());
        }
        let said = match event {
            Event::Init => {
                listed.clear();
                None
            }
            Event::InitApply(object) => {
                listed.push(object.meta().clone());
                None
            }
            Event::InitDone => Some(News::Listed(kind, namespace.clone(), std::mem::take(&mut listed))),
            Event::Apply(object) => Some(object_news(kind, &namespace, object.meta(), Seen::Applied)),
            Event::Delete(object) => Some(object_news(kind, &namespace, object.meta(), Seen::Deleted)),
        };
        if let Some(said) = said
            && news.send(said).await.is_err()
        {
            return;
        }
    }
}

fn object_news(kind: OwnKind, namespace: &str, metadata: &ObjectMeta, seen: fn(ObjectMeta) -> Seen) -> News {
    let output = objects::output_of(metadata.name.as_deref().unwrap_or_default());
    News::Object(kind, OutputKey::new(namespace, output), Box::new(seen(metadata.clone())))
}
