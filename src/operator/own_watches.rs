//! Watches of what waybill has written, metadata alone, so that an edit or a deletion is put back. They run only while
//! this replica leads.

use std::collections::BTreeSet;
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
use crate::publish::outputs::writer::{OwnKind, Seen};
use crate::published::objects::OUTPUT_LABEL;

/// What a watch said of one output; `None` is of all outputs of the namespace that it does not name.
pub type News = (OwnKind, OutputKey, Seen);

/// News that wait for the publisher. Behind that the watches wait, and the API server with them.
const WAITING: usize = 256;

/// The watches of some namespaces, until it is dropped.
pub struct Own {
    news: mpsc::Receiver<News>,
    sender: mpsc::Sender<News>,
    namespaces: BTreeSet<String>,
    tasks: JoinSet<()>,
    client: Client,
    metrics: Metrics,
}

impl Own {
    /// No watches yet.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let (sender, news) = mpsc::channel(WAITING);
        Self { news, sender, namespaces: BTreeSet::new(), tasks: JoinSet::new(), client, metrics }
    }

    /// Watches the namespace of an output too.
    pub fn watch(&mut self, output: &OutputKey) {
        if !self.namespaces.insert(output.namespace().to_owned()) {
            return;
        }
        let namespace = output.namespace();
        let configmaps: Api<MetadataOf<ConfigMap>> = Api::namespaced(self.client.clone(), namespace);
        let secrets: Api<MetadataOf<Secret>> = Api::namespaced(self.client.clone(), namespace);
        let (sender, metrics) = (self.sender.clone(), self.metrics.clone());
        // Here and not in the tasks, which may begin only after this was dropped again.
        metrics.watch_age.begun(WatchKind::OwnConfigMap, configmaps.resource_url());
        metrics.watch_age.begun(WatchKind::OwnSecret, secrets.resource_url());
        self.tasks.spawn(follow(
            configmaps,
            WatchKind::OwnConfigMap,
            OwnKind::ConfigMap,
            namespace.to_owned(),
            sender.clone(),
            metrics.clone(),
        ));
        self.tasks.spawn(follow(
            secrets,
            WatchKind::OwnSecret,
            OwnKind::Secret,
            namespace.to_owned(),
            sender,
            metrics,
        ));
    }

    /// What is seen next. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.metrics.watch_age.clear(WatchKind::OwnConfigMap);
        self.metrics.watch_age.clear(WatchKind::OwnSecret);
    }
}

async fn follow<K>(
    api: Api<K>,
    watched: WatchKind,
    kind: OwnKind,
    namespace: String,
    news: mpsc::Sender<News>,
    metrics: Metrics,
) where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // An object that loses one of the labels leaves the watch, which says so.
    let labels = format!("{MANAGED_BY_LABEL}={WAYBILL},{OUTPUT_LABEL},{PART_LABEL}");
    let config = watcher::Config::default().labels(&labels).timeout(WATCH_SECONDS);
    let path = api.resource_url().to_owned();
    let mut events = feeds::events(api, config);
    let mut listed: Vec<(OutputKey, ObjectMeta)> = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                metrics.watch_errors.inc(watched);
                tracing::debug!(%error, "watch of own objects failed; trying again");
                continue;
            }
        };
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            metrics.watch_age.heard(watched, &path, Instant::now());
        }
        let mut said = Vec::new();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.extend(of(&namespace, object.meta())),
            Event::InitDone => {
                let mut outputs: Vec<(OutputKey, Vec<ObjectMeta>)> = Vec::new();
                for (output, metadata) in listed.drain(..) {
                    match outputs.iter_mut().find(|(known, _)| *known == output) {
                        Some((_, all)) => all.push(metadata),
                        None => outputs.push((output, vec![metadata])),
                    }
                }
                said.extend(outputs.into_iter().map(|(output, all)| (output, Seen::Listed(all))));
            }
            Event::Apply(object) => {
                said.extend(
                    of(&namespace, object.meta()).map(|(output, metadata)| (output, Seen::Applied(metadata))),
                );
            }
            Event::Delete(object) => {
                said.extend(
                    of(&namespace, object.meta()).map(|(output, metadata)| (output, Seen::Deleted(metadata))),
                );
            }
        }
        for (output, seen) in said {
            if news.send((kind, output, seen)).await.is_err() {
                return;
            }
        }
    }
}

/// The output that an object belongs to, by its label.
fn of(namespace: &str, metadata: &ObjectMeta) -> Option<(OutputKey, ObjectMeta)> {
    let output = metadata.labels.as_ref()?.get(OUTPUT_LABEL)?;
    Some((OutputKey::new(namespace, output.as_str()), metadata.clone()))
}
