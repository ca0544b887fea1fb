//! Objects into the API server and out of it, where every request may fail.

use std::time::Duration;

use kube::{Client, Config};
use serde_json::{Value, json};

use super::harness::{ADMIN, ControlPlane};

/// A request to an API server that is well takes far less.
const PATIENCE: Duration = Duration::from_secs(5);
/// Objects in a page of a list.
const PAGE: usize = 500;

/// The user who may do everything, past every proxy.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Api(Box<kube::core::Status>),
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl Failure {
    /// The status code; 0 without an answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::Api(status) => status.code,
            Self::NoAnswer(_) => 0,
        }
    }
}

/// Where objects of a kind are; `namespace` is empty for those that are in none.
pub fn collection(kind: &str, namespace: &str) -> String {
    let (group, plural) = match kind {
        "Ingress" => ("apis/networking.k8s.io/v1", "ingresses"),
        "IngressClass" => ("apis/networking.k8s.io/v1", "ingressclasses"),
        "IngressClassParameters" => ("apis/waybill.dev/v1alpha1", "ingressclassparameters"),
        "EndpointSlice" => ("apis/discovery.k8s.io/v1", "endpointslices"),
        "Event" => ("apis/events.k8s.io/v1", "events"),
        "Lease" => ("apis/coordination.k8s.io/v1", "leases"),
        "Service" => ("api/v1", "services"),
        "Secret" => ("api/v1", "secrets"),
        "ConfigMap" => ("api/v1", "configmaps"),
        "Node" => ("api/v1", "nodes"),
        "Namespace" => ("api/v1", "namespaces"),
        other => panic!("unknown kind {other}"),
    };
    if namespace.is_empty() {
        format!("/{group}/{plural}")
    } else {
        format!("/{group}/namespaces/{namespace}/{plural}")
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn collection_of(object: &Value) -> String {
    collection(text(object, "/kind"), text(object, "/metadata/namespace"))
}

impl Admin {
    pub fn new(plane: &ControlPlane) -> Self {
        let mut config = Config::new(plane.url().parse().unwrap());
        config.root_cert = Some(Vec::new());
        config.root_cert_file = Some(plane.ca_file());
        config.auth_info.token = Some(ADMIN.to_owned().into());
        config.default_retry = false;
        Self { client: Client::try_from(config).unwrap() }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, Failure> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body)
            .unwrap();
        match tokio::time::timeout(PATIENCE, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(Failure::Api(status)),
            Ok(Err(error)) => Err(Failure::NoAnswer(error.to_string())),
            Err(_) => Err(Failure::NoAnswer(format!("within {PATIENCE:?}"))),
        }
    }

    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, Failure> {
        let path = format!("{}/{name}", collection(kind, namespace));
        self.send("GET", &path, "application/json", &Value::Null).await
    }

    /// Creates an object, and writes its status where it has one.
    pub async fn create(&self, object: &Value) -> Result<Value, Failure> {
        let mut created = self.send("POST", &collection_of(object), "application/json", object).await?;
        if object["status"].is_object() {
            created = self.patch_status(object, json!({"status": object["status"]})).await?;
        }
        Ok(created)
    }

    /// Creates an object; one that is there already will do.
    pub async fn ensure(&self, object: &Value) -> Result<(), Failure> {
        match self.create(object).await {
            Err(failure) if failure.code() != 409 => Err(failure),
            _ => Ok(()),
        }
    }

    /// Merges a patch into the object that `object` is named as.
    pub async fn patch(&self, object: &Value, patch: Value) -> Result<Value, Failure> {
        let path = format!("{}/{}", collection_of(object), text(object, "/metadata/name"));
        self.send("PATCH", &path, "application/merge-patch+json", &patch).await
    }

    pub async fn patch_status(&self, object: &Value, patch: Value) -> Result<Value, Failure> {
        let path = format!("{}/{}/status", collection_of(object), text(object, "/metadata/name"));
        self.send("PATCH", &path, "application/merge-patch+json", &patch).await
    }

    /// Applies the status of an Ingress as waybill does: by force, under its name.
    pub async fn apply_status(&self, namespace: &str, name: &str, entries: Value) -> Result<Value, Failure> {
        let path = format!(
            "{}/{name}/status?fieldManager=waybill:waybill/waybill&force=true",
            collection("Ingress", namespace)
        );
        let body = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"namespace": namespace, "name": name},
            "status": {"loadBalancer": {"ingress": entries}},
        });
        self.send("PATCH", &path, "application/apply-patch+yaml", &body).await
    }

    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Failure> {
        let path = format!("{}/{name}", collection(kind, namespace));
        let options = json!({"gracePeriodSeconds": 0});
        match self.send("DELETE", &path, "application/json", &options).await {
            Err(failure) if failure.code() != 404 => Err(failure),
            _ => Ok(()),
        }
    }

    /// All objects of a kind, of all namespaces, page by page.
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>, Failure> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &PAGE.to_string()).append_pair("continue", &next);
            let path = format!("{}?{}", collection(kind, ""), query.finish());
            let mut page = self.send("GET", &path, "application/json", &Value::Null).await?;
            let version = page["apiVersion"].take();
            if let Value::Array(items) = page["items"].take() {
                // The items of a list don't say what they are.
                all.extend(items.into_iter().map(|mut item| {
                    item["kind"] = kind.into();
                    item["apiVersion"] = version.clone();
                    // Half of the text, and nobody here looks at it.
                    item["metadata"]["managedFields"].take();
                    item
                }));
            }
            next = text(&page, "/metadata/continue").to_owned();
            if next.is_empty() {
                return Ok(all);
            }
        }
    }
}
