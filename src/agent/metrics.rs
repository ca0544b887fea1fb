//! The agent's metrics, described in docs/agent.md.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::error::NotHandedOn;
use crate::kubernetes::key::OutputKey;
#[cfg(target_os = "linux")]
use crate::metrics::ProcessMetrics;

const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The time of an event; its age is computed at a scrape.
#[derive(Clone)]
pub struct SinceGauge {
    gauge: Gauge,
    at: Arc<Mutex<Option<Instant>>>,
}

impl SinceGauge {
    /// Sets the time.
    pub fn since(&self, at: Instant) {
        self.set(Some(at));
    }

    /// The time, if the event has happened.
    pub fn set(&self, at: Option<Instant>) {
        *self.at.lock() = at;
    }

    /// Starts now, unless it has started already.
    pub fn start(&self) {
        self.at.lock().get_or_insert_with(Instant::now);
    }

    fn refresh(&self) {
        let at = *self.at.lock();
        self.gauge.set(at.map_or(0.0, |at| at.elapsed().as_secs_f64()));
    }
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct AgentMetrics {
    registry: Registry,
    pub heard: SinceGauge,
    pub lag: SinceGauge,
    pub index_present: IntGauge,
    pub newest: IntGauge,
    pub written: IntGauge,
    pub loaded: IntGauge,
    pub files: IntGauge,
    pub bytes: IntGauge,
    pub strangers: IntGauge,
    pub include_faults: IntGauge,
    pub writes: IntCounter,
    pub unchanged: IntCounter,
    pub commit_to_disk: Histogram,
    pub disk_to_loaded: Histogram,
    refusals: IntCounterVec,
    fetched_shards: IntCounter,
    fetched_bytes: IntCounter,
}

impl AgentMetrics {
    /// Registers all metrics for an agent of this output.
    pub fn new(output: &OutputKey) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        #[cfg(target_os = "linux")]
        r.register(Box::new(ProcessMetrics::new()?))?;
        let info = Opts::new("waybill_agent_build_info", "Always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("output", output.to_string());
        register(r, IntGauge::with_opts(info)?)?.set(1);
        let since = |name, help| {
            Ok::<_, prometheus::Error>(SinceGauge {
                gauge: register(r, Gauge::new(name, help)?)?,
                at: Arc::default(),
            })
        };
        let refusals = register(
            r,
            IntCounterVec::new(
                Opts::new("waybill_agent_refusals_total", "Generations that were refused."),
                &["reason"],
            )?,
        )?;
        for reason in NotHandedOn::REASONS {
            refusals.with_label_values(&[reason]);
        }
        let gauge = |name, help| register(r, IntGauge::new(name, help)?);
        let counter = |name, help| register(r, IntCounter::new(name, help)?);
        let histogram = |name, help| {
            register(r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?)
        };
        Ok(Self {
            heard: since(
                "waybill_agent_index_age_seconds",
                "Seconds since the agent last heard from the API server (a list, an event, a bookmark, an \
                 orderly end), or since its start.",
            )?,
            lag: since(
                "waybill_agent_lag_seconds",
                "Seconds that the newest generation has been waiting to be loaded; 0 when it is.",
            )?,
            index_present: gauge(
                "waybill_agent_index_present",
                "1 while there is an index, 0 when there is none or none was read yet.",
            )?,
            newest: gauge("waybill_agent_newest_generation", "The generation of the last index seen.")?,
            written: gauge(
                "waybill_agent_written_generation",
                "The newest generation whose content is on disk.",
            )?,
            loaded: gauge(
                "waybill_agent_loaded_generation",
                "The newest generation whose content Traefik has loaded; 0 without --traefik-api.",
            )?,
            files: gauge("waybill_agent_files", "Files of the routing on disk.")?,
            bytes: gauge("waybill_agent_bytes", "Bytes of the routing files on disk.")?,
            strangers: gauge(
                "waybill_agent_strange_files",
                "Files in the folder that Traefik reads which are not waybill's.",
            )?,
            include_faults: gauge(
                "waybill_agent_include_faults",
                "Refused files and entries of the folder of --include, and names in it that waybill publishes too.",
            )?,
            writes: counter("waybill_agent_writes_total", "Generations that were handed to Traefik.")?,
            unchanged: counter(
                "waybill_agent_unchanged_total",
                "Generations that changed no byte for Traefik, so nothing was written.",
            )?,
            commit_to_disk: histogram(
                "waybill_agent_commit_to_disk_seconds",
                "Seconds from the commit of a generation, by the operator's clock, until it was on disk.",
            )?,
            disk_to_loaded: histogram(
                "waybill_agent_disk_to_loaded_seconds",
                "Seconds from a generation on disk until Traefik's API showed it.",
            )?,
            fetched_shards: counter("waybill_agent_fetched_shards_total", "Shards that were fetched.")?,
            fetched_bytes: counter(
                "waybill_agent_fetched_bytes_total",
                "Bytes of the compressed data of fetched shards.",
            )?,
            refusals,
            registry,
        })
    }

    /// A generation was refused.
    pub fn refused(&self, refusal: &NotHandedOn) {
        self.refusals.with_label_values(&[refusal.reason()]).inc();
    }

    /// A shard of so many bytes was fetched.
    pub fn fetched(&self, bytes: usize) {
        self.fetched_shards.inc();
        self.fetched_bytes.inc_by(bytes as u64);
    }

    /// Everything in Prometheus's text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.heard.refresh();
        self.lag.refresh();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_docs() {
        let page = include_str!("../../docs/agent.md");
        let output = OutputKey::new("waybill", "waybill");
        let text = AgentMetrics::new(&output).unwrap().render().unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
