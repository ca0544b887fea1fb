//! Many objects straight into etcd, by the JSON of its own gateway, as the API server would have stored them. Through the
//! API server, 160,000 take twenty minutes of this kind of machine, of which nothing is learnt.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::ControlPlane;

/// etcd takes 128 in one transaction, and 1.5 MiB.
const PUTS: usize = 100;
const BYTES: usize = 1_000_000;

impl ControlPlane {
    /// Takes objects away behind the API server's back, by their keys in etcd below `/registry/`, and compacts: whoever
    /// watched before that has to list again.
    pub async fn erase(&self, keys: &[String]) {
        let mut etcd = self.etcd_client().await;
        let deletions = keys
            .iter()
            .map(|key| json!({"requestDeleteRange": {"key": base64(format!("/registry/{key}"))}}))
            .collect();
        let answer = commit(&mut etcd, deletions).await;
        let revision = answer.pointer("/header/revision").cloned().unwrap_or_default();
        ask(&mut etcd, "/v3/kv/compaction", &json!({"revision": revision, "physical": true})).await;
    }

    async fn etcd_client(&self) -> SendRequest<Full<Bytes>> {
        let stream = UnixStream::connect(self.folder.join("client.sock")).await.unwrap();
        let (etcd, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        etcd
    }

    /// Stores objects that are whole: with all that is required, and with `data` where a Secret may have `stringData`.
    /// Each gets a uid, and a creationTimestamp where it has none.
    pub async fn store(&self, objects: impl IntoIterator<Item = Value>) {
        let mut etcd = self.etcd_client().await;
        let (mut puts, mut bytes) = (Vec::new(), 0);
        for (number, object) in objects.into_iter().enumerate() {
            let (key, value) = stored(object, number);
            if puts.len() == PUTS || bytes + value.len() > BYTES {
                commit(&mut etcd, std::mem::take(&mut puts)).await;
                bytes = 0;
            }
            bytes += value.len();
            puts.push(json!({"requestPut": {"key": base64(key), "value": value}}));
        }
        commit(&mut etcd, puts).await;
    }
}

/// The key under which the API server looks for an object, and its text in base64.
fn stored(mut object: Value, number: usize) -> (String, String) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let folder = match text("/kind").as_str() {
        "Ingress" => "ingress",
        "Service" => "services/specs",
        "EndpointSlice" => "endpointslices",
        "Secret" => "secrets",
        other => panic!("where {other} is stored is not known here"),
    };
    let key = format!("/registry/{folder}/{}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let metadata = &mut object["metadata"];
    metadata["uid"] = format!("00000000-0000-4000-8000-{number:012x}").into();
    if metadata["creationTimestamp"].is_null() {
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    if let Some(Value::Object(texts)) = object.as_object_mut().and_then(|object| object.remove("stringData"))
    {
        let data =
            texts.into_iter().map(|(key, text)| (key, base64(text.as_str().unwrap_or_default()).into()));
        object["data"] = Value::Object(data.collect());
    }
    (key, base64(object.to_string()))
}

fn base64(text: impl AsRef<[u8]>) -> String {
    match serde_json::to_value(ByteString(text.as_ref().to_vec())) {
        Ok(Value::String(text)) => text,
        other => panic!("{other:?}"),
    }
}

async fn commit(etcd: &mut SendRequest<Full<Bytes>>, operations: Vec<Value>) -> Value {
    if operations.is_empty() {
        return Value::Null;
    }
    ask(etcd, "/v3/kv/txn", &json!({"success": operations})).await
}

async fn ask(etcd: &mut SendRequest<Full<Bytes>>, path: &str, body: &Value) -> Value {
    let request =
        http::Request::post(path).header("host", "etcd").body(Full::new(body.to_string().into())).unwrap();
    etcd.ready().await.unwrap();
    let (head, body) = etcd.send_request(request).await.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    assert!(head.status.is_success(), "{path}: {}: {}", head.status, String::from_utf8_lossy(&text));
    serde_json::from_slice(&text).unwrap()
}
