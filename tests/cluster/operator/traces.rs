//! Traces of changes, as a collector receives them.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::objects::{ADDRESS, FAST, ingress, shop_with, slice, urls};
use crate::harness::operator::{SOON, binary};
use crate::harness::{ControlPlane, Process, eventually, free_port};

/// A stand-in for a collector.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Span>>>);

impl Collected {
    async fn listen(listener: TcpListener) -> Self {
        let collected = Self::default();
        let into = collected.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(into.clone().serve(stream));
            }
        });
        collected
    }

    /// Requests of one connection, until it is closed.
    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        loop {
            let head = loop {
                if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
            };
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            assert!(text.starts_with("post /v1/traces http/1.1"), "{text}");
            assert!(text.contains("content-type: application/x-protobuf"), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = head + length.trim().parse::<usize>().unwrap();
            while bytes.len() < whole {
                (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
            }
            let request = ExportTraceServiceRequest::decode(&bytes[head..whole]).unwrap();
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap();
                let service = resource.attributes.iter().find(|one| one.key == "service.name").unwrap();
                assert_eq!(
                    service.value.clone().unwrap().value,
                    Some(Value::StringValue("waybill".to_owned()))
                );
                let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                self.0.lock().unwrap().extend(spans);
            }
            bytes.drain(..whole);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        }
    }

    /// The finished trace of a change: its spans by name.
    fn trace_of(&self, kind: &str, name: &str) -> Option<BTreeMap<String, Span>> {
        let spans = self.0.lock().unwrap();
        let root = spans.iter().rfind(|span| {
            span.name == "change"
                && attribute(span, "waybill.kind").as_deref() == Some(kind)
                && attribute(span, "waybill.name").as_deref() == Some(name)
        })?;
        let of = spans.iter().filter(|span| span.trace_id == root.trace_id);
        Some(of.map(|span| (span.name.clone(), span.clone())).collect())
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

fn agent(plane: &ControlPlane) -> Process {
    let mut command = Command::new(binary());
    command.args(["agent", "--output=waybill/waybill", "--metrics-address=127.0.0.1:0", "--directory"]);
    command.arg(plane.folder().join("agent")).env_clear().env("POD_NAME", "proxy");
    command.env("KUBECONFIG", plane.admin_kubeconfig());
    plane.spawn("agent", &mut command)
}

#[tokio::test]
async fn a_changed_endpoint_is_one_trace_from_its_event_until_it_is_loaded() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "web", "web")])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("--operator.otlpEndpoint=http://{}", listener.local_addr().unwrap());
    let collected = Collected::listen(listener).await;
    let flags = [FAST, ADDRESS, &endpoint, "--operator.logLevel=debug", "--operator.logFormat=json"];
    let operator = plane.operator("traced", &flags).await;
    operator.leads().await;
    let _agent = agent(&plane);
    operator.shows("waybill_agents{output=\"waybill/waybill\"}", 1.0).await;

    plane.apply_objects(&[slice("shop", "web", "10.1.0.9")]).await;
    let (index, _) = plane
        .eventually_published("waybill/waybill", "the endpoint is published", |document| {
            urls(document, "shop", "web") == ["http://10.1.0.9:8080"]
        })
        .await;
    let trace = eventually("the trace is whole", SOON, async || {
        collected.trace_of("endpointslices", "web-1").ok_or_else(|| operator.process.log_tail())
    })
    .await;
    assert_eq!(trace.keys().collect::<Vec<_>>(), ["change", "commit", "load", "reconcile"], "{trace:#?}");
    let root = &trace["change"];
    assert_eq!(attribute(root, "k8s.namespace.name").as_deref(), Some("shop"));
    assert_eq!(attribute(root, "waybill.event").as_deref(), Some("applied"));
    assert_eq!(attribute(&trace["reconcile"], "k8s.ingress.name").as_deref(), Some("web"));
    for name in ["commit", "load"] {
        let generation = index.generation.to_string();
        assert_eq!(attribute(&trace[name], "waybill.output").as_deref(), Some("waybill/waybill"));
        assert_eq!(attribute(&trace[name], "waybill.generation"), Some(generation), "{name}");
        assert!(trace[name].status.is_none(), "{name}: {:?}", trace[name].status);
    }
    let order = ["reconcile", "commit", "load"].map(|name| trace[name].start_time_unix_nano);
    assert!(order.is_sorted() && root.start_time_unix_nano <= order[0], "{trace:#?}");
    assert!(trace.values().all(|span| span.name == "change" || span.parent_span_id == root.span_id));

    // The log of that commit carries its id.
    let id: String = root.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let log = operator.process.log();
    let line = log.lines().find(|line| line.contains("committed") && line.contains(&id));
    assert!(line.is_some(), "{id}: {log}");
    assert!(operator.sum("waybill_spans_total{result=\"sent\"}").await >= 4.0);
    assert_eq!(operator.sum("waybill_spans_total{result=\"dropped\"}").await, 0.0);

    // One that changes nothing for anybody is no trace; a deletion is one.
    plane.kubectl_ok(&["-n", "shop", "delete", "ingress", "web"]);
    let trace = eventually("the deletion is a trace", SOON, async || {
        collected.trace_of("ingresses", "web").ok_or("not yet")
    })
    .await;
    assert_eq!(attribute(&trace["change"], "waybill.event").as_deref(), Some("deleted"));
    assert!(trace.contains_key("load"), "{trace:#?}");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_a_line_in_the_log() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&shop_with([ingress("shop", "web", "web")])).await;
    let port = free_port();
    let endpoint = format!("--operator.otlpEndpoint=http://127.0.0.1:{port}");
    let operator = plane.operator("traced", &[FAST, ADDRESS, &endpoint]).await;
    operator.leads().await;
    for last in 1..20 {
        let url = format!("http://10.1.0.{last}:8080");
        plane.apply_objects(&[slice("shop", "web", &format!("10.1.0.{last}"))]).await;
        plane
            .eventually_published("waybill/waybill", "changes are published", |document| {
                urls(document, "shop", "web") == [url.as_str()]
            })
            .await;
    }
    eventually("spans are dropped", SOON, async || {
        match operator.sum("waybill_spans_total{result=\"dropped\"}").await {
            dropped if dropped > 3.0 => Ok(()),
            dropped => Err(dropped),
        }
    })
    .await;
    let log = operator.process.log();
    assert_eq!(log.matches("spans are dropped").count(), 1, "{log}");

    // It comes back.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let collected = Collected::listen(listener).await;
    eventually("a later change is traced", SOON, async || {
        plane.apply_objects(&[slice("shop", "web", "10.1.1.1")]).await;
        plane.apply_objects(&[slice("shop", "web", "10.1.1.2")]).await;
        collected.trace_of("endpointslices", "web-1").ok_or("not yet")
    })
    .await;
}
