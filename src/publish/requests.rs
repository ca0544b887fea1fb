//! Requests of a term. Every write asks the guard first, passes its deadline to the API server with `?timeout=`, so
//! that none is executed long after the lease has passed on, and waits no longer than that for the answer.

use std::time::Duration;

use http::HeaderValue;
use http::header::ACCEPT;
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::request::{Error as BuildError, Request};
use kube::core::{ObjectList, PartialObjectMeta};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metrics::{Metrics, WriteFailure, WriteKind, WriteResult};
use crate::pace::Backoff;
use crate::publish::error::PublishError;
use crate::publish::lease::{LeaseGuard, WriteError};

/// The field manager of all but the statuses of Ingresses, and the reporting controller.
pub const MANAGER: &str = "waybill";

const READ: Duration = Duration::from_secs(10);

const ATTEMPTS: u32 = 4;

/// The page size of lists.
const PAGE: u32 = 500;

/// The requested form of answers to writes.
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// An object to read or write.
#[derive(Clone, Debug)]
pub struct ObjectTarget {
    kind: WriteKind,
    /// Kind, namespace and name, for messages.
    pub object: String,
    collection: Request,
    name: String,
}

/// A write, unless its body can't be serialized.
type Built = Result<Write, PublishError>;

impl ObjectTarget {
    /// The object with this name; `namespace` is empty for cluster-scoped ones. `kind` is the kind under which writes
    /// are counted.
    pub fn new<K: Resource<DynamicType = ()>>(kind: WriteKind, namespace: &str, name: &str) -> Self {
        let (namespace, slash) = if namespace.is_empty() { (None, "") } else { (Some(namespace), "/") };
        Self {
            kind,
            object: format!("{} {}{slash}{name}", K::kind(&()), namespace.unwrap_or_default()),
            collection: Request::new(K::url_path(&(), namespace)),
            name: name.to_owned(),
        }
    }

    fn write(&self, request: Result<http::Request<Vec<u8>>, BuildError>) -> Built {
        let mut request = request.map_err(|error| PublishError::other(self.object.as_str(), error))?;
        request.headers_mut().insert(ACCEPT, METADATA);
        Ok(Write { kind: self.kind, object: self.object.clone(), request })
    }

    /// Creates it.
    pub fn create(&self, body: &impl Serialize) -> Built {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.write(json(body).and_then(|body| self.collection.create(&params, body)))
    }

    /// Replaces it; `body` must contain the resourceVersion.
    pub fn replace(&self, body: &impl Serialize) -> Built {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.write(json(body).and_then(|body| self.collection.replace(&self.name, &params, body)))
    }

    /// Merges `body` into it.
    pub fn merge(&self, body: &impl Serialize) -> Built {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.write(self.collection.patch(&self.name, &params, &Patch::Merge(body)))
    }

    /// Applies `body` to its status; with `force`, also fields that others own.
    pub fn apply_status(&self, manager: &str, force: bool, body: &impl Serialize) -> Built {
        let params = PatchParams { force, ..PatchParams::apply(manager) };
        self.write(self.collection.patch_subresource("status", &self.name, &params, &Patch::Apply(body)))
    }

    /// Deletes it if it has this uid and resourceVersion.
    pub fn delete(&self, uid: &Option<String>, version: &Option<String>) -> Built {
        let preconditions = Preconditions { uid: uid.clone(), resource_version: version.clone() };
        let params = DeleteParams::default().preconditions(preconditions);
        self.write(self.collection.delete(&self.name, &params))
    }
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(body).map_err(BuildError::SerializeBody)
}

/// A write before it gets its timeout.
#[derive(Clone, Debug)]
pub struct Write {
    kind: WriteKind,
    /// Kind, namespace and name.
    object: String,
    request: http::Request<Vec<u8>>,
}

impl Write {
    /// Bytes of its body.
    pub fn bytes(&self) -> u64 {
        self.request.body().len() as u64
    }
}

/// The client, the guard and the metrics of all writes of a term.
#[derive(Clone)]
pub struct Requests {
    client: Client,
    guard: LeaseGuard,
    metrics: Metrics,
    attempts: u32,
}

impl Requests {
    /// The client must not retry by itself, as kube's does by default.
    pub fn new(client: Client, guard: LeaseGuard, metrics: Metrics) -> Self {
        Self { client, guard, metrics, attempts: ATTEMPTS }
    }

    /// Sets whether [`Self::write_repeated`] repeats anything from now on.
    pub fn set_repeated(&mut self, repeated: bool) {
        self.attempts = if repeated { ATTEMPTS } else { 1 };
    }

    /// The metrics in which writes are counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The guard of this term.
    pub fn guard(&self) -> &LeaseGuard {
        &self.guard
    }

    /// Whether a write may start now.
    pub fn allowed(&self) -> bool {
        self.guard.may_start_write()
    }

    /// Writes once. Returns the metadata of the written object.
    ///
    /// # Errors
    /// Why it could not be written; [`PublishError::LeaseLost`] if the write was not started.
    pub async fn write(&self, write: &Write) -> Result<PartialObjectMeta, PublishError> {
        let count = Count { metrics: &self.metrics, write, result: WriteResult::Abandoned };
        let result = self.attempt(write).await;
        count.ended(match &result {
            Ok(_) => WriteResult::Success,
            Err(error) => WriteResult::Failed(error.category()),
        });
        result
    }

    async fn attempt(&self, write: &Write) -> Result<PartialObjectMeta, PublishError> {
        let object = || write.object.clone();
        let Some(permit) = self.guard.begin_write() else {
            return Err(PublishError::LeaseLost { object: object() });
        };
        let timeout = permit.timeout();
        permit.send(&self.client, write.request.clone()).await.map_err(|error| match error {
            WriteError::Api(error) => {
                PublishError::new(object(), error, write.kind == WriteKind::KeyShard, timeout)
            }
            WriteError::Timeout(_) => PublishError::Timeout { object: object(), waited: timeout },
            WriteError::Uri(error) => PublishError::other(object(), error),
        })
    }

    /// Like [`Self::write`], repeated a few times while the failure is transient. Only for idempotent writes.
    pub async fn write_repeated(&self, write: &Write) -> Result<PartialObjectMeta, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for _ in 1..self.attempts {
            match self.write(write).await {
                Err(error) if error.is_transient() => tokio::time::sleep(backoff.next_wait()).await,
                done => return done,
            }
        }
        self.write(write).await
    }

    /// Reads the whole object, if it exists.
    pub async fn get<T: DeserializeOwned>(&self, target: &ObjectTarget) -> Result<Option<T>, PublishError> {
        self.read(&target.object, target.collection.get(&target.name, &GetParams::default())).await
    }

    /// Reads the object's metadata, if it exists.
    pub async fn get_metadata(
        &self,
        target: &ObjectTarget,
    ) -> Result<Option<PartialObjectMeta>, PublishError> {
        self.read(&target.object, target.collection.get_metadata(&target.name, &GetParams::default())).await
    }

    /// Lists metadata of the collection at `path`, page by page.
    pub async fn list_metadata(
        &self,
        object: &str,
        path: &str,
        selector: &str,
    ) -> Result<Vec<PartialObjectMeta>, PublishError> {
        let (collection, mut all) = (Request::new(path), Vec::new());
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        loop {
            let page = self.read(object, collection.list_metadata(&params)).await?;
            let Some(ObjectList { items, metadata, .. }) = page else { return Ok(all) };
            let items: Vec<PartialObjectMeta> = items;
            all.extend(items);
            match metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(all),
            }
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        object: &str,
        request: Result<http::Request<Vec<u8>>, BuildError>,
    ) -> Result<Option<T>, PublishError> {
        let request = request.map_err(|error| PublishError::other(object, error))?;
        match tokio::time::timeout(READ, self.client.request(request)).await {
            Ok(Ok(read)) => Ok(Some(read)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(error)) => Err(PublishError::new(object.to_owned(), error, true, READ)),
            Err(_) => Err(PublishError::Timeout { object: object.to_owned(), waited: READ }),
        }
    }
}

/// Counts a write once it has ended, or is dropped before that.
struct Count<'a> {
    metrics: &'a Metrics,
    write: &'a Write,
    result: WriteResult,
}

impl Count<'_> {
    fn ended(mut self, result: WriteResult) {
        self.result = result;
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let Self { metrics, write, result } = self;
        metrics.writes.inc(write.kind, *result);
        // Otherwise nothing was sent.
        if *result != WriteResult::Failed(WriteFailure::NotLeader) {
            metrics.written_bytes.add(write.kind, *result, write.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn a_write_is_counted_once_whether_it_ends_or_is_dropped() {
        let metrics = Metrics::new("x").unwrap();
        let body = serde_json::json!({"data": {}});
        let write = ObjectTarget::new::<ConfigMap>(WriteKind::Index, "a", "b").merge(&body).unwrap();
        let count = || Count { metrics: &metrics, write: &write, result: WriteResult::Abandoned };
        count().ended(WriteResult::Success);
        drop(count());
        count().ended(WriteResult::Failed(WriteFailure::NotLeader));
        let text = metrics.render().unwrap();
        let shows = |series: &str, value: u64| {
            let line = format!("{series} {value}");
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        };
        for result in ["success", "abandoned", "not_leader"] {
            shows(&format!("waybill_writes_total{{kind=\"index\",result=\"{result}\"}}"), 1);
        }
        shows("waybill_written_bytes_total{kind=\"index\",result=\"abandoned\"}", write.bytes());
        assert!(!text.contains("waybill_written_bytes_total{kind=\"index\",result=\"not_leader\"} 1"));
    }
}
