//! Sends spans to a collector: OTLP over HTTP, in protobuf.

use std::future::Future;
use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::mpsc;

use super::{SpansState, text};
use crate::kubernetes::with_causes;
use crate::metrics::{Metrics, SpanResult};
use crate::pace::Reminder;

/// The number of spans that are sent together, and how long the first one waits for the others.
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);

/// The timeout of the collector. Spans that it has not accepted by then are dropped.
const WITHIN: Duration = Duration::from_secs(5);

/// The delay after it accepted nothing.
const PAUSE: Duration = Duration::from_secs(5);

/// How long sending continues when the process ends.
const LAST: Duration = Duration::from_secs(1);

/// How often the log says that spans are dropped.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The maximum number of bytes that are read of an answer.
const LONGEST_ANSWER: usize = 64 << 10;

/// The destination of spans, and their sender.
#[derive(Clone, Debug)]
pub struct Collector {
    pub endpoint: Uri,
    /// Distinguishes replicas.
    pub identity: String,
}

/// Takes spans from the queue and sends them.
pub struct Exporter {
    collector: Collector,
    spans: mpsc::Receiver<Span>,
    shared: Weak<SpansState>,
    metrics: Metrics,
    client: Client<HttpConnector, Full<Bytes>>,
    reminder: Reminder,
    /// Spans of the current batch.
    sending: usize,
}

/// Why spans are dropped.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("no answer within {} s", WITHIN.as_secs())]
    Late,
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    #[error("it answers {0}")]
    Refused(http::StatusCode),
}

impl Exporter {
    /// Nothing is sent before it is run.
    pub(super) fn new(
        collector: Collector,
        spans: mpsc::Receiver<Span>,
        shared: Weak<SpansState>,
        metrics: Metrics,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { collector, spans, shared, metrics, client, reminder: Reminder::new(TELL_AGAIN), sending: 0 }
    }

    /// Runs until `stop` resolves, and then sends queued spans for at most [`LAST`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut pause = EVERY;
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = &mut stop => true,
            };
            if let Some(shared) = self.shared.upgrade() {
                shared.sweep();
            }
            let mut sending = std::pin::pin!(self.send_waiting());
            if !stopping {
                tokio::select! {
                    sent = &mut sending => {
                        pause = if sent { EVERY } else { PAUSE };
                        continue;
                    }
                    () = &mut stop => {}
                }
            }
            let _ = tokio::time::timeout(LAST, sending).await;
            break;
        }
        self.spans.close();
        let left = self.sending + std::iter::from_fn(|| self.spans.try_recv().ok()).count();
        self.metrics.spans.add(SpanResult::Dropped, left as u64);
    }

    /// Sends queued spans. A batch that is not full is the last one: the next waits for more. Returns whether the
    /// collector accepted all.
    async fn send_waiting(&mut self) -> bool {
        loop {
            let batch: Vec<Span> = std::iter::from_fn(|| self.spans.try_recv().ok()).take(BATCH).collect();
            let full = batch.len() == BATCH;
            if !batch.is_empty() && !self.send(batch).await {
                return false;
            }
            if !full {
                return true;
            }
        }
    }

    /// Sends a batch. Returns whether the collector accepted it.
    async fn send(&mut self, batch: Vec<Span>) -> bool {
        self.sending = batch.len();
        let body = self.message(batch).encode_to_vec();
        let sent = tokio::time::timeout(WITHIN, self.post(body.into())).await;
        let count = std::mem::take(&mut self.sending) as u64;
        match sent.unwrap_or(Err(ExportError::Late)) {
            Ok(()) => {
                self.metrics.spans.add(SpanResult::Sent, count);
                true
            }
            Err(error) => {
                self.metrics.spans.add(SpanResult::Dropped, count);
                if self.reminder.is_due(Instant::now()) {
                    tracing::warn!(endpoint = %self.collector.endpoint, %error, "operator.otlpEndpoint: spans are dropped");
                }
                false
            }
        }
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            text("service.name", env!("CARGO_PKG_NAME")),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &self.collector.identity),
        ];
        let scope = InstrumentationScope { name: env!("CARGO_PKG_NAME").to_owned(), ..Default::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(Resource { attributes, ..Resource::default() });
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), ExportError> {
        let request = Request::post(&self.collector.endpoint)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("waybill/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| ExportError::Unreachable(with_causes(&error)))?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        let _ = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        if status.is_success() { Ok(()) } else { Err(ExportError::Refused(status)) }
    }
}

#[cfg(test)]
mod tests;
