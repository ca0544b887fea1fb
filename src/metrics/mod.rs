//! Every metric once: its name, its labels and what it means. docs/metrics.md is made from this.
//!
//! Where controller-runtime has a metric for the same thing, its name is used, so that dashboards work.

mod instrument;
mod labels;
mod watches;

use std::sync::Arc;

use prometheus::{Registry, TextEncoder};

pub use instrument::{Age, Counter, CounterBy, CounterByTwo, Gauge, GaugeBy, Histogram, HistogramBy, Timer};
pub use labels::{
    ClassStatus, Code, Controller, Entry, EventResult, Label, Method, Queue, ReconcileResult, ShardKind,
    Trigger, WatchKind, WriteKind, WriteResult,
};

pub use watches::Watches;

use crate::translate::problem::Category;
use instrument::{Catalogue, Described, Refresher};

/// controller-runtime's buckets for reconciliations, in seconds.
const RECONCILE_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// From a change of an object to the commit that holds it, in seconds. The throttle's 2 s lie in the middle.
const COMMIT_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $make:expr;)+) => {
        /// All metrics of a process, on a registry of their own. Cheap to clone.
        #[derive(Clone)]
        pub struct Metrics {
            $($(#[$doc])* pub $field: $type,)+
            registry: Registry,
            refresher: Arc<Refresher>,
            described: Arc<[Described]>,
        }

        impl Metrics {
            /// Registers everything. `lease_name` is the one label value that options decide.
            ///
            /// # Errors
            /// Two metrics of one name, or a name that Prometheus refuses: a fault of this file.
            pub fn new(lease_name: &str) -> Result<Self, prometheus::Error> {
                let mut catalogue = Catalogue::new();
                $(
                    let make: fn(&mut Catalogue, &str) -> prometheus::Result<$type> = $make;
                    let $field = make(&mut catalogue, lease_name)?;
                )+
                let metrics = Self {
                    $($field,)+
                    refresher: Arc::new(catalogue.refresher()),
                    registry: catalogue.registry,
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
    /// Reconciliations that ended.
    reconciles: CounterByTwo<Controller, ReconcileResult> = |c, _| c.counter_by_two(
        "controller_runtime_reconcile_total", ["controller", "result"],
        "Reconciliations that ended, by controller and result.");
    /// Seconds that they took.
    reconcile_seconds: HistogramBy<Controller> = |c, _| c.histogram_by(
        "controller_runtime_reconcile_time_seconds", "controller", RECONCILE_BUCKETS,
        "Seconds that a reconciliation took.");
    /// What waits.
    queue_depth: GaugeBy<Queue> = |c, _| c.gauge_by(
        "workqueue_depth", "name", "Objects that wait to be worked on.");
    /// Requests that were answered or failed.
    api_requests: CounterByTwo<Code, Method> = |c, _| c.counter_by_two(
        "rest_client_requests_total", ["code", "method"],
        "Requests to the API server, by the answer's status code (<error>: no answer) and method.");
    /// Answers that were not whole.
    answers_broken: CounterBy<Method> = |c, _| c.counter_by(
        "waybill_api_answers_broken_total", "method",
        "Answers of the API server that began and broke off before their end, those of watches among them, by method.");
    /// Whether this replica leads.
    leader: Gauge = |c, lease_name| c.gauge_with(
        "leader_election_master_status", ("name", lease_name), "the Lease's name",
        "1 while this replica holds the lease, else 0.");
    /// The Lease's transitions.
    lease_transitions: Gauge = |c, _| c.gauge(
        "waybill_lease_transitions", "How often the lease changed hands, as the Lease says it.");
    /// Terms of this replica that ended against its will.
    leases_lost: Counter = |c, _| c.counter(
        "waybill_leases_lost_total", "Times that this replica lost the lease without having released it.");
    /// Since the last renewal.
    lease_renewal_age: Age = |c, _| c.age(
        "waybill_lease_renewal_age_seconds",
        "Seconds since the last successful renewal of the lease was sent. Absent on followers.");
    /// Since a watch was last heard of.
    watch_age: Watches = |c, _| c.watches(
        "waybill_watch_age_seconds",
        "Seconds since a watch of this kind was last heard of (a list that came to its end, the opening of a watch, an \
         event, a bookmark, an orderly end), the quietest one's where there are several. Absent while the kind is not \
         watched.");
    /// Whether this replica may lead.
    candidate: Gauge = |c, _| c.gauge(
        "waybill_candidate",
        "1 while this replica takes part in the election; 0 once one of its watches has been dead for over 60 seconds, \
         until all live again.");
    /// Watches begun anew.
    watch_restarts: CounterBy<WatchKind> = |c, _| c.counter_by(
        "waybill_watch_restarts_total", "kind", "Full lists after the first one, because a watch could not be resumed.");
    /// Watches that failed.
    watch_errors: CounterBy<WatchKind> = |c, _| c.counter_by(
        "waybill_watch_errors_total", "kind", "Lists and watches that failed.");
    /// Objects held.
    objects: GaugeBy<WatchKind> = |c, _| c.gauge_by(
        "waybill_objects", "kind", "Objects that are held in memory.");
    /// Translations.
    translations: CounterBy<Trigger> = |c, _| c.counter_by(
        "waybill_translations_total", "trigger", "Translations of an Ingress, by the kind of object that changed.");
    /// Problems that stand.
    problems: GaugeBy<Category> = |c, _| c.gauge_by(
        "waybill_problems", "category", "Problems in users' objects that stand now. 0 on followers.");
    /// IngressClasses of ours.
    classes: GaugeBy<ClassStatus> = |c, _| c.gauge_by(
        "waybill_ingressclasses", "settings",
        "IngressClasses of this operator, by the settings that they run on. 0 on followers.");
    /// Since the last commit.
    published_age: Age = |c, _| c.age(
        "waybill_published_age_seconds",
        "Seconds since the published configuration was last committed or found to be right. Absent on followers.");
    /// The oldest change that is not committed.
    pending_age: Age = |c, _| c.age(
        "waybill_publish_pending_seconds",
        "Seconds that the oldest change which is not yet published has waited. Absent when there is none, and on \
         followers.");
    /// From change to commit.
    change_to_commit: Histogram = |c, _| c.histogram(
        "waybill_change_to_commit_seconds", COMMIT_BUCKETS,
        "Seconds from the arrival of an object's creation or change to the commit that holds it.");
    /// From deletion to commit.
    deletion_to_commit: Histogram = |c, _| c.histogram(
        "waybill_deletion_to_commit_seconds", COMMIT_BUCKETS,
        "Seconds from the arrival of an object's deletion to the commit that no longer holds it.");
    /// Writes that ended.
    writes: CounterByTwo<WriteKind, WriteResult> = |c, _| c.counter_by_two(
        "waybill_writes_total", ["kind", "result"],
        "Writes, by what was written and how it ended. A commit is an index written with success.");
    /// Bytes of their bodies.
    written_bytes: CounterByTwo<WriteKind, WriteResult> = |c, _| c.counter_by_two(
        "waybill_written_bytes_total", ["kind", "result"], "Bytes of the bodies of writes.");
    /// Why publishing fails.
    publish_error: GaugeBy<WriteResult> = |c, _| c.gauge_by(
        "waybill_publish_error", "category",
        "1 for the reason why the last attempt to publish failed; 0 for all once one succeeded, and on followers.");
    /// What the throttle adds.
    throttle_stretch: Gauge = |c, _| c.gauge(
        "waybill_publish_throttle_stretch_seconds",
        "Seconds that operator.publishBytesPerSecond adds to the least time between two commits now.");
    /// How full the text object is.
    text_fill: Gauge = |c, _| c.gauge(
        "waybill_text_fill_ratio",
        "How full the ConfigMap is that holds an output's routing as text: the fullest one's bytes by its limit. Above 1 \
         it is not updated any more.");
    /// Whether a withdrawal is held.
    withdrawal_held: Gauge = |c, _| c.gauge(
        "waybill_withdrawal_held", "1 while operator.maxWithdrawal holds a commit back, else 0.");
    /// Whether publishing is paused.
    paused: Gauge = |c, _| c.gauge(
        "waybill_publish_paused", "1 while an annotation pauses an output or a class, else 0.");
    /// What is published.
    published: GaugeBy<Entry> = |c, _| c.gauge_by(
        "waybill_published_entries", "kind", "What the last commits hold, over all outputs. 0 on followers.");
    /// Shards in use.
    shards: GaugeBy<ShardKind> = |c, _| c.gauge_by(
        "waybill_shards", "kind", "Shards that the last commits name, over all outputs. 0 on followers.");
    /// Statuses to be written.
    statuses_pending: Gauge = |c, _| c.gauge(
        "waybill_statuses_pending", "Statuses of Ingresses that are yet to be written.");
    /// Events.
    events: CounterBy<EventResult> = |c, _| c.counter_by(
        "waybill_events_total", "result", "Events, by what became of them.");
    /// Which build this is.
    build_info: Gauge = |c, _| c.gauge_with(
        "waybill_build_info", ("version", env!("CARGO_PKG_VERSION")), "the version", "Always 1.");
}

impl Metrics {
    /// The registry, for those who encode it themselves; ages are as old as the last [`Metrics::render`].
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything in Prometheus's text format.
    ///
    /// # Errors
    /// A metric that can't be encoded: a fault of this file.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.refresher.refresh();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Sets what only a leader may show to nothing, so that sums over replicas are right.
    pub fn clear_leaders(&self) {
        self.leader.set(0.0);
        self.lease_renewal_age.clear();
        self.problems.clear();
        self.classes.clear();
        self.published_age.clear();
        self.pending_age.clear();
        self.publish_error.clear();
        self.throttle_stretch.set(0.0);
        self.text_fill.set(0.0);
        self.withdrawal_held.set(0.0);
        self.paused.set(0.0);
        self.published.clear();
        self.shards.clear();
        self.statuses_pending.set(0.0);
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
         Served at `/metrics` of `operator.metricsAddress`. This page is generated from the program. Every value\n\
         that a label can have is listed, so no series grows with the cluster. Where controller-runtime has a\n\
         metric for the same thing, its name is used. What only the leader knows is 0 or absent on followers, so\n\
         that sums over all replicas are right.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for metric in metrics.described.iter() {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|(name, values)| {
                let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
                format!("`{name}`: {}", values.join(", "))
            })
            .collect();
        page.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind,
            labels.join("<br>"),
            metric.help
        ));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_program_registers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let wanted = markdown().unwrap();
        if std::env::var_os("WAYBILL_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == wanted,
            "docs/metrics.md is stale; write it with WAYBILL_WRITE_DOCS=1 cargo test --lib metrics"
        );
    }

    #[test]
    fn names_say_their_unit_and_type() {
        for metric in Metrics::new("x").unwrap().described.iter() {
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == "counter", "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if metric.help.starts_with("Seconds") {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
        }
    }

    #[test]
    fn counts_come_out_with_their_labels() {
        let metrics = Metrics::new("elect").unwrap();
        metrics.api_requests.inc(Code::of(409), Method::Put);
        metrics.problems.set(Category::SecretNotFound, 3.0);
        metrics.leader.set(1.0);
        let text = metrics.render().unwrap();
        for line in [
            "rest_client_requests_total{code=\"409\",method=\"PUT\"} 1",
            "waybill_problems{category=\"SecretNotFound\"} 3",
            "waybill_problems{category=\"Paused\"} 0",
            "leader_election_master_status{name=\"elect\"} 1",
            concat!("waybill_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        metrics.clear_leaders();
        let text = metrics.render().unwrap();
        assert!(text.contains("waybill_problems{category=\"SecretNotFound\"} 0"), "{text}");
        assert!(text.contains("leader_election_master_status{name=\"elect\"} 0"), "{text}");
    }

    #[test]
    fn an_age_is_computed_at_the_scrape_and_absent_when_cleared() {
        let metrics = Metrics::new("x").unwrap();
        assert!(!metrics.render().unwrap().contains("waybill_watch_age_seconds{"));
        metrics.watch_age.begun(WatchKind::Service, "/x");
        let age = |text: String| -> Option<f64> {
            text.lines()
                .find_map(|line| line.strip_prefix("waybill_watch_age_seconds{kind=\"services\"} "))
                .map(|value| value.parse().unwrap())
        };
        let seen = age(metrics.render().unwrap()).unwrap();
        assert!((0.0..10.0).contains(&seen), "{seen}");
        metrics.watch_age.clear(WatchKind::Service);
        assert_eq!(age(metrics.render().unwrap()), None);
    }

    #[test]
    fn a_timer_counts_on_every_path() {
        let metrics = Metrics::new("x").unwrap();
        drop(metrics.change_to_commit.timer());
        assert_eq!(metrics.change_to_commit.count(), 1);
    }
}
