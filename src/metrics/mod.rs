//! All metrics with their names, labels and meanings. docs/metrics.md is generated from this.
//!
//! Where controller-runtime has a metric for the same thing, its name is used, so that dashboards work.

mod instrument;
mod labels;
#[cfg(target_os = "linux")]
mod process;
mod watches;

use std::sync::Arc;

use prometheus::{Registry, TextEncoder};

pub use instrument::{
    Age, Counter, CounterBy, CounterByOutput, CounterByTwo, Gauge, GaugeBy, GaugeByName, GaugeByOutput,
    Histogram, HistogramBy,
};
pub use labels::{
    ClassStatus, Code, Controller, EndsWithin, EventResult, IgnoredReport, Label, Method, PublishedKind,
    Queue, ReconcileResult, ReviewResult, ShardKind, SpanResult, Trigger, WatchKind, WriteFailure, WriteKind,
    WriteResult,
};
#[cfg(target_os = "linux")]
pub use process::ProcessMetrics;
pub use watches::Watches;

use instrument::{Catalogue, Described, Refresh};

/// controller-runtime's buckets for reconciliations, in seconds.
const RECONCILE_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// From a change of an object to the commit that contains it, in seconds. The throttle's 2 s are in the middle.
const COMMIT_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

macro_rules! metrics {
    ($($field:ident: $type:ty = $make:expr;)+) => {
        /// All metrics of a process, on a registry of their own. Cheap to clone.
        #[derive(Clone)]
        pub struct Metrics {
            $(pub $field: $type,)+
            registry: Registry,
            refreshed: Arc<[Arc<dyn Refresh>]>,
            described: Arc<[Described]>,
        }

        impl Metrics {
            /// Registers everything. `lease_name` is the only label value that comes from an option.
            ///
            /// # Errors
            /// Two metrics of one name, or a name that Prometheus refuses: a fault of this file.
            pub fn new(lease_name: &str) -> Result<Self, prometheus::Error> {
                let mut catalogue = Catalogue::default();
                $(
                    let make: fn(&mut Catalogue, &str) -> prometheus::Result<$type> = $make;
                    let $field = make(&mut catalogue, lease_name)?;
                )+
                #[cfg(target_os = "linux")]
                catalogue.process()?;
                let metrics = Self {
                    $($field,)+
                    registry: catalogue.registry,
                    refreshed: catalogue.refreshed.into(),
                    described: catalogue.described.into(),
                };
                metrics.build_info.set(1.0);
                metrics.candidate.set(1.0);
                Ok(metrics)
            }
        }
    };
}

metrics! {
    reconciles: CounterByTwo<Controller, ReconcileResult> = |c, _| c.counter_by_two(
        "controller_runtime_reconcile_total", ["controller", "result"],
        "Reconciliations that ended, by controller and result.");
    reconcile_seconds: HistogramBy<Controller> = |c, _| c.histogram_by(
        "controller_runtime_reconcile_time_seconds", "controller", RECONCILE_BUCKETS,
        "Seconds that a reconciliation took.");
    queue_depth: GaugeBy<Queue> = |c, _| c.gauge_by(
        "workqueue_depth", "name", "Objects that wait to be worked on.");
    api_requests: CounterByTwo<Code, Method> = |c, _| c.counter_by_two(
        "rest_client_requests_total", ["code", "method"],
        "Requests to the API server, by the status code of the answer (`<error>` if there was none) and method.");
    answers_broken: CounterBy<Method> = |c, _| c.counter_by(
        "waybill_api_answers_broken_total", "method",
        "Answers of the API server, watches included, that began and broke off before their end, by method.");
    leader: Gauge = |c, lease_name| c.gauge_with_label(
        "leader_election_master_status", ("name", lease_name), "the Lease's name",
        "1 while this replica holds the lease, else 0.");
    lease_transitions: Gauge = |c, _| c.gauge(
        "waybill_lease_transitions", "How often the lease changed hands, according to the Lease.");
    leases_lost: Counter = |c, _| c.counter(
        "waybill_leases_lost_total", "Times that this replica lost the lease without having released it.");
    lease_renewal_age: Age = |c, _| c.age(
        "waybill_lease_renewal_age_seconds",
        "Seconds since the last successful renewal of the lease was sent. Absent on followers.");
    watch_age: Watches = |c, _| Watches::new(
        c, "waybill_watch_age_seconds",
        "Seconds since a watch of this kind last gave a sign of life: a completed list, its opening, an event, a \
         bookmark, an orderly end, or a refusal that is expected (403 in a namespace that the options name; 403 or \
         404 for a kind that may be missing). If a kind has several watches, this is the age of the quietest. \
         Absent while the kind is not watched.");
    candidate: Gauge = |c, _| c.gauge(
        "waybill_candidate",
        "1 while this replica takes part in the election. It does so once all its watches have listed, \
         except while one of them has been dead for over 60 seconds, until all of them are alive again.");
    watch_restarts: CounterBy<WatchKind> = |c, _| c.counter_by(
        "waybill_watch_restarts_total", "kind", "Full lists after the first one, because a watch could not resume.");
    watch_errors: CounterBy<WatchKind> = |c, _| c.counter_by(
        "waybill_watch_errors_total", "kind", "Lists and watches that failed.");
    objects: GaugeBy<WatchKind> = |c, _| c.gauge_by(
        "waybill_objects", "kind", "Objects held in memory.");
    translations: CounterBy<Trigger> = |c, _| c.counter_by(
        "waybill_translations_total", "trigger", "Translations of an Ingress, by the kind of object that changed.");
    problems: GaugeByName = |c, _| c.gauge_by_name(
        "waybill_problems", "category", "one of the [problems](operations.md#problems)",
        "Current problems in users' objects. 0 or absent on followers.");
    classes: GaugeBy<ClassStatus> = |c, _| c.gauge_by(
        "waybill_ingressclasses", "settings",
        "IngressClasses of this operator, by the settings that apply to them. 0 on followers.");
    published_age: Age = |c, _| c.age(
        "waybill_published_age_seconds",
        "Seconds since an output was last committed or found to be up to date. Absent on followers.");
    pending_age: Age = |c, _| c.age(
        "waybill_publish_pending_seconds",
        "Seconds that the oldest unpublished change has waited. Absent when there is none, and on followers.");
    change_to_commit: Histogram = |c, _| c.histogram(
        "waybill_change_to_commit_seconds", COMMIT_BUCKETS,
        "Seconds from the arrival of a created or changed object to the commit that contains it.");
    deletion_to_commit: Histogram = |c, _| c.histogram(
        "waybill_deletion_to_commit_seconds", COMMIT_BUCKETS,
        "Seconds from the arrival of an object's deletion to the commit that no longer contains it.");
    writes: CounterByTwo<WriteKind, WriteResult> = |c, _| c.counter_by_two(
        "waybill_writes_total", ["kind", "result"],
        "Writes, by what was written and how it ended. A successful write of an index is a commit.");
    written_bytes: CounterByTwo<WriteKind, WriteResult> = |c, _| c.counter_by_two(
        "waybill_written_bytes_total", ["kind", "result"], "Bytes of the bodies of writes.");
    publish_error: GaugeBy<WriteFailure> = |c, _| c.gauge_by(
        "waybill_publish_error", "category",
        "1 for each reason why an output's last attempt to publish failed, else 0. 0 on followers.");
    throttle_stretch: Gauge = |c, _| c.gauge(
        "waybill_publish_throttle_stretch_seconds",
        "Seconds that operator.publishBytesPerSecond currently adds to the minimum time between two commits.");
    text_fill: Gauge = |c, _| c.gauge(
        "waybill_text_fill_ratio",
        "How full the ConfigMap with an output's routing as text is: the fullest one's bytes divided by the limit. Above 1 \
         it is no longer updated.");
    withdrawal_held: Gauge = |c, _| c.gauge(
        "waybill_withdrawal_held", "1 while operator.maxWithdrawal holds a commit back, else 0.");
    paused: Gauge = |c, _| c.gauge(
        "waybill_publish_paused",
        "1 while an annotation pauses an output or a class, or an output waits for labels of namespaces, else 0.");
    published: GaugeBy<PublishedKind> = |c, _| c.gauge_by(
        "waybill_published_entries", "kind", "Contents of the last commits, over all outputs. 0 on followers.");
    certificates_expiring: GaugeBy<EndsWithin> = |c, _| c.gauge_by(
        "waybill_certificates_expiring", "within",
        "Published certificates that expire within that time, including expired ones. Counted every minute. \
         0 on \
         followers.");
    shards: GaugeBy<ShardKind> = |c, _| c.gauge_by(
        "waybill_shards", "kind", "Shards that the last commits name, over all outputs. 0 on followers.");
    statuses_pending: Gauge = |c, _| c.gauge(
        "waybill_statuses_pending", "Statuses of Ingresses that are yet to be written.");
    agents: GaugeByOutput = |c, _| c.gauge_by_output(
        "waybill_agents", "Live agents, whose reports are valid. Absent on followers.");
    agents_behind: GaugeByOutput = |c, _| c.gauge_by_output(
        "waybill_agents_behind",
        "Live agents that have not reported the newest generation yet. They report every 10 seconds, and at \
         once \
         while statuses wait.");
    agents_lag: GaugeByOutput = |c, _| c.gauge_by_output(
        "waybill_agents_lag_seconds",
        "Seconds since the commit of the oldest generation that some agent has not reported yet; 0 when all are up to date.");
    statuses_unconfirmed: CounterByOutput = |c, _| c.counter_by_output(
        "waybill_statuses_unconfirmed_total",
        "Statuses that were written before every agent had loaded the routing, because operator.statusDelay \
         had passed.");
    agent_reports_ignored: CounterBy<IgnoredReport> = |c, _| c.counter_by(
        "waybill_agent_reports_ignored_total", "reason",
        "Ignored reports of agents: the Lease can't be read, or there are too many Leases in its namespace.");
    events: CounterBy<EventResult> = |c, _| c.counter_by(
        "waybill_events_total", "result", "Events, by result.");
    reviews: CounterBy<ReviewResult> = |c, _| c.counter_by(
        "waybill_metrics_reviews_total", "result",
        "With operator.metricsSecure: bearer tokens that the API server was asked about, by its answer.");
    spans: CounterBy<SpanResult> = |c, _| c.counter_by(
        "waybill_spans_total", "result",
        "With operator.otlpEndpoint: spans that the collector accepted, and those that were dropped.");
    build_info: Gauge = |c, _| c.gauge_with_label(
        "waybill_build_info", ("version", env!("CARGO_PKG_VERSION")), "the version", "Always 1.");
}

impl Metrics {
    /// Everything in Prometheus's text format.
    ///
    /// # Errors
    /// A metric that can't be encoded: a fault of this file.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.refreshed.iter().for_each(|metric| metric.refresh());
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Clears all metrics of leaders, so that sums over replicas are right. The metric of the lease belongs to the
    /// election, which may have started the next term before the parts of the last one have ended.
    pub fn clear_leaders(&self) {
        for gauge in [
            &self.throttle_stretch,
            &self.text_fill,
            &self.withdrawal_held,
            &self.paused,
            &self.statuses_pending,
        ] {
            gauge.set(0.0);
        }
        for age in [&self.published_age, &self.pending_age] {
            age.clear();
        }
        for gauge in [&self.agents, &self.agents_behind, &self.agents_lag] {
            gauge.show([]);
        }
        for queue in [Queue::Status, Queue::Event] {
            self.queue_depth.set(queue, 0.0);
        }
        self.problems.clear();
        self.classes.clear();
        self.publish_error.clear();
        self.published.clear();
        self.certificates_expiring.clear();
        self.shards.clear();
    }
}

/// docs/metrics.md.
///
/// # Errors
/// As [`Metrics::new`].
pub fn markdown() -> Result<String, prometheus::Error> {
    let metrics = Metrics::new("waybill")?;
    let mut page = String::from(
        "# Metrics\n\n\
         Served at `/metrics` of `operator.metricsAddress`. This page is generated by the program. It lists all values of all\n\
         labels except `output`: the number of series grows only with the number of outputs. Metrics that controller-runtime\n\
         also has have the same names. What only the leader knows is 0 or absent on followers, so that sums over all replicas\n\
         are right.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for Described { name, kind, labels, help } in metrics.described.iter() {
        let value =
            |value: &&str| if value.contains(' ') { (*value).to_owned() } else { format!("`{value}`") };
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, values)| {
                let values: Vec<String> = values.iter().map(value).collect();
                format!("`{name}`: {}", values.join(", "))
            })
            .collect();
        page.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join("<br>")));
    }
    Ok(page)
}

#[cfg(test)]
mod tests;
