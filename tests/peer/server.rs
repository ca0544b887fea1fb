//! Objects into the API server and out of it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, StreamExt};
use kube::Client;
use serde_json::{Value, json};

use super::object::{self, Cluster, KINDS, Kind, collection_path, path};

/// Requests under way at once.
const AT_ONCE: usize = 16;

/// An API server.
#[derive(Clone)]
pub struct Server {
    client: Client,
}

/// What became of the objects that were to be created.
#[derive(Debug, Default)]
pub struct Created {
    pub accepted: usize,
    /// Objects that the API server refuses, with its reason.
    pub refused: Vec<(String, String)>,
}

impl Server {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> kube::Result<Value> {
        let body = body.map(|body| serde_json::to_vec(body).unwrap_or_default()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        self.client.request(request).await
    }

    /// Creates an object, and writes its status where it has one.
    pub async fn create(&self, object: &Value) -> kube::Result<Value> {
        let kind = object::kind(object).unwrap_or_else(|| panic!("unknown kind: {}", object::title(object)));
        let mut created =
            self.send("POST", &collection_path(kind, object::namespace(object)), Some(object)).await?;
        if object["status"].is_object() {
            created["status"] = object["status"].clone();
            created = self.send("PUT", &format!("{}/status", path(object)), Some(&created)).await?;
        }
        Ok(typed(created, object))
    }

    /// Creates an object that has to be taken.
    pub async fn must_create(&self, object: &Value) -> Value {
        self.create(object).await.unwrap_or_else(|error| panic!("{}: {error}", object::title(object)))
    }

    /// Writes an object in the place of an earlier version, whichever that is.
    pub async fn replace(&self, object: &Value) -> kube::Result<Value> {
        self.replace_at(&path(object), object).await
    }

    /// As [`Server::replace`], at the path of a subresource.
    pub async fn replace_at(&self, path: &str, object: &Value) -> kube::Result<Value> {
        let mut body = object.clone();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        Ok(typed(self.send("PUT", path, Some(&body)).await?, object))
    }

    /// An object that may not be there: kind, namespace and name.
    pub async fn find(&self, (kind, namespace, name): &(Kind, String, String)) -> Option<Value> {
        let path = format!("{}/{name}", collection_path(*kind, namespace));
        match self.send("GET", &path, None).await {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    pub async fn delete(&self, object: &Value) -> kube::Result<Value> {
        self.send("DELETE", &path(object), Some(&json!({"gracePeriodSeconds": 0}))).await
    }

    /// All objects of a kind, as the API server returns them. `selector` is one of labels.
    pub async fn list(&self, kind: Kind, selector: &str) -> Vec<Value> {
        let uri = format!(
            "{}?labelSelector={}",
            collection_path(Kind { namespaced: false, ..kind }, ""),
            encode(selector)
        );
        let mut list = self.send("GET", &uri, None).await.unwrap_or_else(|error| panic!("{uri}: {error}"));
        let mut items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        for item in &mut items {
            // The items of a list don't say what they are.
            item["kind"] = kind.name.into();
            item["apiVersion"] = kind.version().into();
        }
        items
    }

    /// Puts clusters in. Their objects are replaced by what the API server made of them; those that it refuses are
    /// left out.
    pub async fn fill(&self, clusters: &mut [Cluster]) -> Created {
        let namespaces = clusters
            .iter()
            .flat_map(|cluster| &cluster.namespaces)
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        stream::iter(namespaces)
            .for_each_concurrent(AT_ONCE, |namespace| async move {
                self.must_create(&namespace).await;
            })
            .await;
        let accepted = AtomicUsize::new(0);
        let refused: Vec<Vec<(String, String)>> = stream::iter(clusters.iter_mut())
            .map(|cluster| {
                let accepted = &accepted;
                async move {
                    let mut refused = Vec::new();
                    for object in std::mem::take(&mut cluster.objects) {
                        match self.create(&object).await {
                            Ok(created) => {
                                cluster.objects.push(created);
                                accepted.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                                refused.push((object::title(&object), status.message.clone()));
                            }
                            Err(error) => panic!("{}: {error}", object::title(&object)),
                        }
                    }
                    refused
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        Created { accepted: accepted.into_inner(), refused: refused.into_iter().flatten().collect() }
    }

    /// Everything that is there, but Secrets of `owner=helm`, which nobody asks for.
    pub async fn snapshot(&self) -> Snapshot {
        let mut all = Vec::new();
        for kind in KINDS.iter().filter(|kind| kind.name != "Namespace") {
            all.extend(self.list(*kind, if kind.name == "Secret" { "owner!=helm" } else { "" }).await);
        }
        Snapshot::of(&all)
    }
}

/// Objects by kind.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub objects: BTreeMap<&'static str, Vec<Value>>,
}

impl Snapshot {
    /// These objects but Secrets of `owner=helm`, which nobody asks the API server for.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut snapshot = Self::default();
        for object in objects {
            let Some(kind) = object::kind(object) else { continue };
            if kind.name != "Secret" || object["metadata"]["labels"]["owner"] != "helm" {
                snapshot.objects.entry(kind.name).or_default().push(object.clone());
            }
        }
        snapshot
    }
}

/// What the API server answered, with the kind of what it was asked for.
fn typed(mut answer: Value, asked: &Value) -> Value {
    answer["apiVersion"] = asked["apiVersion"].clone();
    answer["kind"] = asked["kind"].clone();
    answer
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
