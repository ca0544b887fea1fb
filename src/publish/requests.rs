//! Requests built by hand, because kube's own have no `?timeout=`: without it, the API server could do a write long after
//! the lease has passed on. Every write asks the guard first, and waits for its answer no longer than the API server may
//! take.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metrics::{Metrics, WriteFailure, WriteKind, WriteResult};
use crate::publish::backoff::Backoff;
use crate::publish::error::PublishError;
use crate::publish::lease::{LeaseGuard, WriteError};

/// The field manager and reporting controller.
pub const MANAGER: &str = "waybill";

const READ: Duration = Duration::from_secs(10);

const ATTEMPTS: u32 = 4;

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const JSON: &str = "application/json";

/// An object to read or write.
#[derive(Clone, Debug)]
pub struct ObjectTarget {
    kind: WriteKind,
    /// Kind, namespace and name, as messages have them.
    pub object: String,
    collection: String,
    path: String,
}

impl ObjectTarget {
    /// The object of this name. `kind` is what writing it counts as.
    pub fn new<K: Resource<DynamicType = ()>>(kind: WriteKind, namespace: &str, name: &str) -> Self {
        let collection = K::url_path(&(), Some(namespace));
        let path = format!("{collection}/{name}");
        Self { kind, object: format!("{} {namespace}/{name}", K::kind(&())), collection, path }
    }

    fn write(&self, method: http::Method, path: &str, body: &impl Serialize) -> Built {
        let target = format!("{path}?fieldManager={MANAGER}");
        Write::new(self.kind, self.object.clone(), method, target, body)
    }

    /// Creates it.
    pub fn create(&self, body: &impl Serialize) -> Built {
        self.write(http::Method::POST, &self.collection, body)
    }

    /// Replaces it; the resourceVersion has to be in `body`.
    pub fn replace(&self, body: &impl Serialize) -> Built {
        self.write(http::Method::PUT, &self.path, body)
    }

    /// Merges `body` into it.
    pub fn merge(&self, body: &impl Serialize) -> Built {
        let write = self.write(http::Method::PATCH, &self.path, body)?;
        Ok(Write { content_type: "application/merge-patch+json", ..write })
    }

    /// Deletes it if it has this uid and resourceVersion.
    pub fn delete(&self, uid: &Option<String>, version: &Option<String>) -> Built {
        let preconditions = serde_json::json!({"uid": uid, "resourceVersion": version});
        let body = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions,
        });
        Write::new(self.kind, self.object.clone(), http::Method::DELETE, self.path.clone(), &body)
    }
}

/// A write before it gets its time-out.
#[derive(Clone, Debug)]
pub struct Write {
    kind: WriteKind,
    /// Kind, namespace and name.
    object: String,
    method: http::Method,
    target: String,
    content_type: &'static str,
    body: Vec<u8>,
}

/// A write, unless its body cannot be serialised.
type Built = Result<Write, PublishError>;

impl Write {
    fn new(
        kind: WriteKind,
        object: String,
        method: http::Method,
        target: String,
        body: &impl Serialize,
    ) -> Built {
        match serde_json::to_vec(body) {
            Ok(body) => Ok(Self { kind, object, method, target, content_type: JSON, body }),
            Err(error) => Err(PublishError::other(object, error)),
        }
    }

    /// Applies `body` by force to the object at `path`.
    pub fn apply(kind: WriteKind, object: String, path: &str, body: &impl Serialize) -> Built {
        let target = format!("{path}?fieldManager={MANAGER}&force=true");
        let write = Self::new(kind, object, http::Method::PATCH, target, body)?;
        Ok(Self { content_type: "application/apply-patch+yaml", ..write })
    }

    /// Bytes of its body.
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }

    fn request(&self) -> Result<http::Request<Vec<u8>>, PublishError> {
        http::Request::builder()
            .method(self.method.clone())
            .uri(&self.target)
            .header(CONTENT_TYPE, self.content_type)
            .header(ACCEPT, METADATA)
            .body(self.body.clone())
            .map_err(|error| PublishError::other(self.object.as_str(), error))
    }
}

/// The client, the guard and the metrics of all writes of a term.
#[derive(Clone)]
pub struct Requests {
    client: Client,
    guard: LeaseGuard,
    metrics: Metrics,
}

impl Requests {
    /// The client must not retry by itself, as kube's does by default.
    pub fn new(client: Client, guard: LeaseGuard, metrics: Metrics) -> Self {
        Self { client, guard, metrics }
    }

    /// The metrics in which writes are counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The guard of this term.
    pub fn guard(&self) -> &LeaseGuard {
        &self.guard
    }

    /// Whether a write may be started now.
    pub fn allowed(&self) -> bool {
        self.guard.may_start_write()
    }

    /// Writes once. Gives the metadata of the written object.
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
        let request = write.request()?;
        let Some(permit) = self.guard.begin_write() else {
            return Err(PublishError::LeaseLost { object: object() });
        };
        let timeout = permit.timeout();
        permit.send(&self.client, request).await.map_err(|error| match error {
            WriteError::Api(error) => {
                match PublishError::new(object(), error, write.kind == WriteKind::KeyShard) {
                    PublishError::Timeout { object, .. } => PublishError::Timeout { object, waited: timeout },
                    other => other,
                }
            }
            WriteError::Timeout(_) => PublishError::Timeout { object: object(), waited: timeout },
            WriteError::Uri(error) => PublishError::other(object(), error),
        })
    }

    /// As [`Self::write`], repeated a few times while the failure is transient. Only for writes that may be done twice.
    pub async fn write_repeated(&self, write: &Write) -> Result<PartialObjectMeta, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for _ in 1..ATTEMPTS {
            match self.write(write).await {
                Err(error) if error.is_transient() => tokio::time::sleep(backoff.next_wait()).await,
                done => return done,
            }
        }
        self.write(write).await
    }

    /// Reads the whole object, if it exists.
    pub async fn get<T: DeserializeOwned>(&self, target: &ObjectTarget) -> Result<Option<T>, PublishError> {
        self.read(&target.object, &target.path, JSON).await
    }

    /// Reads the object's metadata, if it exists.
    pub async fn get_metadata(
        &self,
        target: &ObjectTarget,
    ) -> Result<Option<PartialObjectMeta>, PublishError> {
        self.read(&target.object, &target.path, METADATA).await
    }

    /// Lists metadata of the collection at `path`, page by page.
    pub async fn list_metadata(
        &self,
        object: &str,
        path: &str,
        selector: &str,
    ) -> Result<Vec<PartialObjectMeta>, PublishError> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let query = list_query(selector, &next);
            let page: Option<kube::core::ObjectList<PartialObjectMeta>> =
                self.read(object, &format!("{path}?{query}"), METADATA_LIST).await?;
            let Some(page) = page else { return Ok(all) };
            all.extend(page.items);
            next = page.metadata.continue_.unwrap_or_default();
            if next.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        object: &str,
        target: &str,
        accept: &'static str,
    ) -> Result<Option<T>, PublishError> {
        let request = http::Request::get(target)
            .header(ACCEPT, accept)
            .body(Vec::new())
            .map_err(|error| PublishError::other(object, error))?;
        match tokio::time::timeout(READ, self.client.request(request)).await {
            Ok(Ok(read)) => Ok(Some(read)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(error)) => Err(PublishError::new(object.to_owned(), error, true)),
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

fn list_query(selector: &str, from: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("labelSelector", selector).append_pair("limit", "500");
    if !from.is_empty() {
        query.append_pair("continue", from);
    }
    query.finish()
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
