//! Traces of changes, for OpenTelemetry: from the event of a watch over reconciliation and commit until the proxies have
//! loaded it. Off unless `operator.otlpEndpoint` is set.
//!
//! Nothing here happens in one call: an event is queued, its reconciliations and those of others end in one commit, and
//! proxies report later. So a trace is a note in [`OpenTraces`], found again by its number, and a span is made when its end is
//! known. Only a leader follows changes, and as few as [`OPEN`] at once.

mod export;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::metrics::{Metrics, SpanResult};
use crate::pace::random_bits;
use crate::published::index::CommitId;
pub use export::{Collector, Exporter};

/// The maximum number of changes that are traced at once.
const OPEN: usize = 1_024;

/// The maximum number of queued spans.
const QUEUE: usize = 4_096;

/// The number of reconciliations of a change that get a span; the others are only counted.
const RECONCILED: u32 = 32;

/// The maximum number of changes that wait for an output and get spans of its commit.
const WAITING: usize = 128;

/// A change without progress for this time is over: it changed nothing, or another change of the same object took its
/// place.
const IDLE: Duration = Duration::from_secs(10);

/// How long a change is traced while its output is held or fails, and how long proxies may take.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const LONGEST_LOAD: Duration = Duration::from_secs(60);

/// The longest value of an attribute, in bytes.
const LONGEST_VALUE: usize = 512;

/// Identifies an open trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceNumber(NonZeroU64);

/// The changed object for which a trace starts.
#[derive(Clone, Debug)]
pub struct ChangedObject {
    /// The plural, such as `ingresses`.
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub deleted: bool,
}

/// Traces changes, or nothing at all. Cheap to clone.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<SpansState>>);

struct SpansState {
    open: Mutex<OpenTraces>,
    queue: mpsc::Sender<Span>,
    metrics: Metrics,
    clock: (Instant, SystemTime),
}

#[derive(Default)]
struct OpenTraces {
    last: u64,
    traces: HashMap<TraceNumber, OpenTrace>,
    /// By output, the changes that its next commit will contain.
    waiting: HashMap<OutputKey, Vec<TraceNumber>>,
    loading: Vec<LoadingCommit>,
}

struct OpenTrace {
    trace_id: [u8; 16],
    /// The root span.
    root: [u8; 8],
    object: ChangedObject,
    begun: Instant,
    /// The time of the last progress.
    seen: Instant,
    reconciled: u32,
    /// The number of reconciliations that were queued for it.
    queued: u32,
    /// The number of commits and proxies that are still awaited.
    awaited: u32,
}

/// A commit that some proxies have not loaded.
struct LoadingCommit {
    output: OutputKey,
    commit: CommitId,
    since: Instant,
    traces: Vec<TraceNumber>,
}

/// A commit in progress, and its changes.
pub struct CommitSpan {
    shared: Arc<SpansState>,
    output: OutputKey,
    since: Instant,
    traces: Vec<TraceNumber>,
}

/// The result of a commit.
pub struct CommitFacts {
    pub commit: CommitId,
    /// Written.
    pub bytes: u64,
    /// Whether there are agents that have not loaded it.
    pub awaited: bool,
}

impl Spans {
    /// Traces changes from now on; the exporter has to run.
    pub fn new(collector: Collector, metrics: Metrics) -> (Self, Exporter) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let clock = (Instant::now(), SystemTime::now());
        let shared = Arc::new(SpansState { open: Mutex::default(), queue, metrics: metrics.clone(), clock });
        let exporter = Exporter::new(collector, spans, Arc::downgrade(&shared), metrics);
        (Self(Some(shared)), exporter)
    }

    /// Whether changes are traced.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// An object changed, and this number of Ingresses has to be reconciled for it.
    pub fn begin(&self, object: ChangedObject, at: Instant, queued: usize) -> Option<TraceNumber> {
        let shared = self.0.as_ref()?;
        let mut open = shared.open.lock();
        if open.traces.len() >= OPEN {
            shared.metrics.spans.inc(SpanResult::Dropped);
            return None;
        }
        open.last += 1;
        let number = TraceNumber(NonZeroU64::new(open.last)?);
        let trace = OpenTrace {
            trace_id: random(),
            root: random(),
            object,
            begun: at,
            seen: Instant::now(),
            reconciled: 0,
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            awaited: 0,
        };
        open.traces.insert(number, trace);
        Some(number)
    }

    /// More Ingresses have to be reconciled for a change.
    pub fn queued(&self, trace: TraceNumber, more: usize) {
        let Some(shared) = &self.0 else { return };
        if let Some(known) = shared.open.lock().traces.get_mut(&trace) {
            known.queued = known.queued.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
    }

    /// The id of a trace, for the log: a span that is entered during work for it.
    pub fn log(&self, trace: Option<TraceNumber>) -> tracing::Span {
        let id = trace.zip(self.0.as_ref()).and_then(|(trace, shared)| {
            shared.open.lock().traces.get(&trace).map(|open| hex(&open.trace_id))
        });
        id.map_or_else(tracing::Span::none, |trace_id| tracing::error_span!("change", %trace_id))
    }

    /// An Ingress was reconciled for a change, and these outputs have to be committed for it.
    pub fn reconciled<'a>(
        &self,
        trace: TraceNumber,
        ingress: &IngressKey,
        since: Instant,
        outputs: impl Iterator<Item = &'a OutputKey>,
    ) {
        let Some(shared) = &self.0 else { return };
        let now = Instant::now();
        let mut open = shared.open.lock();
        let OpenTraces { traces, waiting, .. } = &mut *open;
        let Some(known) = traces.get_mut(&trace) else { return };
        known.seen = now;
        known.reconciled += 1;
        for output in outputs {
            let waits = waiting.entry(output.clone()).or_default();
            if !waits.contains(&trace) && waits.len() < WAITING {
                waits.push(trace);
                known.awaited += 1;
            }
        }
        if known.reconciled <= RECONCILED {
            let attributes = vec![
                text("k8s.namespace.name", ingress.0.namespace()),
                text("k8s.ingress.name", ingress.0.name()),
            ];
            let span = shared.span("reconcile", known, since, now, attributes);
            shared.send(span);
        }
    }

    /// An output is about to be committed.
    pub fn committing(&self, output: &OutputKey) -> Option<CommitSpan> {
        let shared = self.0.as_ref()?;
        let traces = shared.open.lock().waiting.remove(output)?;
        Some(CommitSpan { shared: Arc::clone(shared), output: output.clone(), since: Instant::now(), traces })
    }

    /// Every agent of an output has loaded this commit.
    pub fn loaded(&self, output: &OutputKey, loaded: CommitId) {
        let Some(shared) = &self.0 else { return };
        let mut open = shared.open.lock();
        let is_loaded = |one: &LoadingCommit| one.output == *output && one.commit <= loaded;
        let (done, left) = std::mem::take(&mut open.loading).into_iter().partition(is_loaded);
        open.loading = left;
        for commit in done {
            shared.end_loading(&mut open, &commit, None);
        }
    }
}

impl CommitSpan {
    /// The trace of the first of its changes.
    pub fn first(&self) -> Option<TraceNumber> {
        self.traces.first().copied()
    }

    /// The commit succeeded.
    pub fn committed(self, facts: &CommitFacts) {
        let now = Instant::now();
        let mut open = self.shared.open.lock();
        let commit = facts.commit;
        for trace in &self.traces {
            let Some(known) = open.traces.get_mut(trace) else { continue };
            known.seen = now;
            let mut attributes = of_commit(&self.output, commit);
            attributes.push(number("waybill.bytes", facts.bytes));
            attributes.push(number("waybill.changes", self.traces.len() as u64));
            let span = self.shared.span("commit", known, self.since, now, attributes);
            self.shared.send(span);
            if !facts.awaited {
                self.shared.end(&mut open, *trace);
            }
        }
        if facts.awaited {
            open.loading.push(LoadingCommit {
                output: self.output.clone(),
                commit,
                since: now,
                traces: self.traces,
            });
        }
    }

    /// The commit failed: as many of its changes as possible wait for the next one.
    pub fn failed(self, why: &str) {
        let now = Instant::now();
        let mut open = self.shared.open.lock();
        for trace in &self.traces {
            if let Some(known) = open.traces.get_mut(trace) {
                known.seen = now;
                let attributes = vec![text("waybill.output", &self.output.to_string())];
                let mut span = self.shared.span("commit", known, self.since, now, attributes);
                span.status = Some(failure(why));
                self.shared.send(span);
            }
        }
        let mut waits = self.traces;
        for trace in open.waiting.remove(&self.output).unwrap_or_default() {
            // A change that was reconciled again meanwhile waits only once.
            if waits.contains(&trace) {
                self.shared.end(&mut open, trace);
            } else {
                waits.push(trace);
            }
        }
        for trace in waits.split_off(waits.len().min(WAITING)) {
            self.shared.end(&mut open, trace);
        }
        open.waiting.insert(self.output, waits);
    }
}

impl SpansState {
    fn send(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans.inc(SpanResult::Dropped);
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let (instant, time) = self.clock;
        let time = match at.checked_duration_since(instant) {
            Some(after) => time + after,
            None => time - instant.duration_since(at),
        };
        time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }

    /// A span below the trace's root.
    fn span(
        &self,
        name: &str,
        of: &OpenTrace,
        since: Instant,
        until: Instant,
        attributes: Vec<KeyValue>,
    ) -> Span {
        Span {
            trace_id: of.trace_id.to_vec(),
            span_id: random::<8>().to_vec(),
            parent_span_id: of.root.to_vec(),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.nanoseconds(since),
            end_time_unix_nano: self.nanoseconds(until),
            attributes,
            ..Span::default()
        }
    }

    /// An awaited event of a trace has happened; after the last one, the trace is over.
    fn end(&self, open: &mut OpenTraces, trace: TraceNumber) {
        let Some(known) = open.traces.get_mut(&trace) else { return };
        known.awaited = known.awaited.saturating_sub(1);
        if known.awaited == 0 && known.reconciled >= known.queued {
            self.close(open, trace);
        }
    }

    fn close(&self, open: &mut OpenTraces, trace: TraceNumber) {
        let Some(known) = open.traces.remove(&trace) else { return };
        if known.reconciled == 0 {
            return;
        }
        let object = &known.object;
        let attributes = vec![
            text("waybill.kind", object.kind),
            text("k8s.namespace.name", &object.namespace),
            text("waybill.name", &object.name),
            text("waybill.event", if object.deleted { "deleted" } else { "applied" }),
            number("waybill.reconciled", u64::from(known.reconciled)),
        ];
        let root = self.span("change", &known, known.begun, known.seen, attributes);
        self.send(Span { span_id: known.root.to_vec(), parent_span_id: Vec::new(), ..root });
    }

    fn end_loading(&self, open: &mut OpenTraces, commit: &LoadingCommit, error: Option<&str>) {
        let now = Instant::now();
        for trace in &commit.traces {
            let Some(known) = open.traces.get_mut(trace) else { continue };
            known.seen = now;
            let attributes = of_commit(&commit.output, commit.commit);
            let mut span = self.span("load", known, commit.since, now, attributes);
            span.status = error.map(failure);
            self.send(span);
            self.end(open, *trace);
        }
    }

    /// Closes traces without progress.
    fn sweep(&self) {
        let mut open = self.open.lock();
        let late = |one: &LoadingCommit| one.since.elapsed() >= LONGEST_LOAD;
        let (done, left) = std::mem::take(&mut open.loading).into_iter().partition(late);
        open.loading = left;
        let done: Vec<LoadingCommit> = done;
        for commit in done {
            self.end_loading(&mut open, &commit, Some("an agent has not reported it in time"));
        }
        // Failed attempts are no progress.
        let over = |trace: &OpenTrace| match trace.awaited {
            0 => trace.seen.elapsed() >= IDLE,
            _ => trace.begun.elapsed() >= LONGEST_WAIT,
        };
        let over: Vec<_> =
            open.traces.iter().filter(|(_, one)| over(one)).map(|(number, _)| *number).collect();
        for trace in over {
            self.close(&mut open, trace);
        }
        let OpenTraces { traces, waiting, .. } = &mut *open;
        waiting.retain(|_, waits| {
            waits.retain(|trace| traces.contains_key(trace));
            !waits.is_empty()
        });
    }
}

fn of_commit(output: &OutputKey, commit: CommitId) -> Vec<KeyValue> {
    vec![
        text("waybill.output", &output.to_string()),
        number("waybill.epoch", commit.epoch),
        number("waybill.generation", commit.generation),
    ]
}

fn failure(why: &str) -> Status {
    Status { code: StatusCode::Error.into(), message: bounded(why).to_owned() }
}

/// An attribute with a text, which is cut if it is too long.
fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(bounded(value).to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_VALUE)]
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random_bits().to_ne_bytes()[..chunk.len()]));
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
