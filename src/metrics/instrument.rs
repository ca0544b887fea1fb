//! Counters, gauges, histograms and ages with labels that are enums, and the catalogue that remembers what was
//! registered so that it can be documented.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::{Opts, Registry, Result};

use super::labels::Label;
#[cfg(target_os = "linux")]
use super::process::ProcessMetrics;

/// The labels of a metric, and their values.
pub(super) type Labels = Vec<(&'static str, Vec<&'static str>)>;

/// One row of docs/metrics.md.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub name: String,
    pub kind: &'static str,
    pub labels: Labels,
    pub help: String,
}

/// Registers metrics and remembers them in order.
#[derive(Default)]
pub(super) struct Catalogue {
    pub registry: Registry,
    pub described: Vec<Described>,
    pub refreshed: Vec<Arc<dyn Refresh>>,
}

/// A metric that changes by itself, so it is computed when it is read.
pub(super) trait Refresh: Send + Sync {
    /// Updates it.
    fn refresh(&self);
}

/// A value that only increases.
pub type Counter = prometheus::IntCounter;
/// A value that goes up and down.
pub type Gauge = prometheus::Gauge;
/// Counts of values by range.
pub type Histogram = prometheus::Histogram;

/// The labels of a metric with one label, for the catalogue.
pub(super) fn label<L: Label>(name: &'static str) -> Labels {
    vec![(name, L::ALL.iter().map(|value| value.as_str()).collect())]
}

impl Catalogue {
    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<Counter> {
        self.register(Counter::new(name, help)?, "counter", Vec::new())
    }

    /// A counter for each value of `L`.
    pub(super) fn counter_by<L: Label>(
        &mut self,
        name: &str,
        of: &'static str,
        help: &str,
    ) -> Result<CounterBy<L>> {
        let vec = prometheus::IntCounterVec::new(Opts::new(name, help), &[of])?;
        let vec = self.register(vec, "counter", label::<L>(of))?;
        Ok(By::each(|values| vec.with_label_values(values)))
    }

    /// A counter for each pair of values of `A` and `B` that occurs.
    pub(super) fn counter_by_two<A: Label, B: Label>(
        &mut self,
        name: &str,
        of: [&'static str; 2],
        help: &str,
    ) -> Result<CounterByTwo<A, B>> {
        let vec = prometheus::IntCounterVec::new(Opts::new(name, help), &of)?;
        let labels = [label::<A>(of[0]), label::<B>(of[1])].concat();
        self.register(vec, "counter", labels).map(|vec| CounterByTwo(vec, PhantomData))
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<Gauge> {
        self.register(Gauge::new(name, help)?, "gauge", Vec::new())
    }

    /// A gauge with one label, whose value is known at startup and documented as `shown_as`.
    pub(super) fn gauge_with_label(
        &mut self,
        name: &str,
        (label, value): (&'static str, &str),
        shown_as: &'static str,
        help: &str,
    ) -> Result<Gauge> {
        let gauge = Gauge::with_opts(Opts::new(name, help).const_label(label, value))?;
        self.register(gauge, "gauge", vec![(label, vec![shown_as])])
    }

    /// A gauge for each value of `L`.
    pub(super) fn gauge_by<L: Label>(
        &mut self,
        name: &str,
        of: &'static str,
        help: &str,
    ) -> Result<GaugeBy<L>> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[of])?;
        let vec = self.register(vec, "gauge", label::<L>(of))?;
        Ok(By::each(|values| vec.with_label_values(values)))
    }

    /// A gauge for each value of a label that was set; `shown_as` describes the values in docs/metrics.md.
    pub(super) fn gauge_by_name(
        &mut self,
        name: &str,
        of: &'static str,
        shown_as: &'static str,
        help: &str,
    ) -> Result<GaugeByName> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[of])?;
        let vec = self.register(vec, "gauge", vec![(of, vec![shown_as])])?;
        Ok(GaugeByName(vec, Arc::default()))
    }

    /// A gauge for each output.
    pub(super) fn gauge_by_output(&mut self, name: &str, help: &str) -> Result<GaugeByOutput> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[OUTPUT.0])?;
        let vec = self.register(vec, "gauge", vec![(OUTPUT.0, vec![OUTPUT.1])])?;
        Ok(GaugeByOutput(vec, Arc::default()))
    }

    /// A counter for each output with a count.
    pub(super) fn counter_by_output(&mut self, name: &str, help: &str) -> Result<CounterByOutput> {
        let vec = prometheus::IntCounterVec::new(Opts::new(name, help), &[OUTPUT.0])?;
        let vec = self.register(vec, "counter", vec![(OUTPUT.0, vec![OUTPUT.1])])?;
        Ok(CounterByOutput(vec, Arc::default()))
    }

    /// An age that is absent as long as the event has not happened.
    pub(super) fn age(&mut self, name: &str, help: &str) -> Result<Age> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[])?;
        let vec = self.register(vec, "gauge", Vec::new())?;
        let since = Arc::new(Since { vec, since: Mutex::new(None) });
        self.refreshed.push(since.clone());
        Ok(Age(since))
    }

    /// A histogram with these upper bounds.
    pub(super) fn histogram(&mut self, name: &str, buckets: &[f64], help: &str) -> Result<Histogram> {
        let opts = prometheus::HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts)?, "histogram", Vec::new())
    }

    /// A histogram for each value of `L`.
    pub(super) fn histogram_by<L: Label>(
        &mut self,
        name: &str,
        of: &'static str,
        buckets: &[f64],
        help: &str,
    ) -> Result<HistogramBy<L>> {
        let opts = prometheus::HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let vec = prometheus::HistogramVec::new(opts, &[of])?;
        let vec = self.register(vec, "histogram", label::<L>(of))?;
        Ok(By::each(|values| vec.with_label_values(values)))
    }

    /// Registers a collector under its row of docs/metrics.md.
    pub(super) fn register<C: Collector + Clone + 'static>(
        &mut self,
        collector: C,
        kind: &'static str,
        labels: Labels,
    ) -> Result<C> {
        for desc in collector.desc() {
            self.describe(desc, kind, labels.clone());
        }
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn describe(&mut self, desc: &Desc, kind: &'static str, labels: Labels) {
        let (name, help) = (desc.fq_name.clone(), desc.help.clone());
        self.described.push(Described { name, kind, labels, help });
    }

    /// Metrics of the process from the operating system.
    #[cfg(target_os = "linux")]
    pub(super) fn process(&mut self) -> Result<()> {
        let collector = ProcessMetrics::new()?;
        for desc in collector.desc() {
            let kind = if desc.fq_name.ends_with("_total") { "counter" } else { "gauge" };
            self.describe(desc, kind, Vec::new());
        }
        self.registry.register(Box::new(collector))
    }
}

/// A metric for each value of a label; all exist from the start.
#[derive(Clone)]
pub struct By<L, M>(Arc<[M]>, PhantomData<L>);

impl<L: Label, M> By<L, M> {
    /// One metric for each value of the label.
    fn each(metric: impl Fn(&[&str]) -> M) -> Self {
        Self(L::ALL.iter().map(|value| metric(&[value.as_str()])).collect(), PhantomData)
    }

    fn of(&self, label: L) -> Option<&M> {
        self.0.get(label.index())
    }
}

/// A counter for each value of a label.
pub type CounterBy<L> = By<L, prometheus::IntCounter>;

impl<L: Label> By<L, prometheus::IntCounter> {
    /// Adds one.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// Adds a number.
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.of(label) {
            counter.inc_by(count);
        }
    }

    /// The count.
    pub fn get(&self, label: L) -> u64 {
        self.of(label).map_or(0, prometheus::IntCounter::get)
    }
}

/// A counter for each pair of values that occurred.
#[derive(Clone)]
pub struct CounterByTwo<A, B>(prometheus::IntCounterVec, PhantomData<(A, B)>);

impl<A: Label, B: Label> CounterByTwo<A, B> {
    /// Adds one.
    pub fn inc(&self, first: A, second: B) {
        self.add(first, second, 1);
    }

    /// Adds a number.
    pub fn add(&self, first: A, second: B, count: u64) {
        self.0.with_label_values(&[first.as_str(), second.as_str()]).inc_by(count);
    }

    /// The count.
    pub fn get(&self, first: A, second: B) -> u64 {
        self.0.with_label_values(&[first.as_str(), second.as_str()]).get()
    }
}

/// A gauge for each value of a label.
pub type GaugeBy<L> = By<L, prometheus::Gauge>;

impl<L: Label> By<L, prometheus::Gauge> {
    /// Sets the value.
    pub fn set(&self, label: L, value: f64) {
        if let Some(gauge) = self.of(label) {
            gauge.set(value);
        }
    }

    /// Sets all values to zero, for example when a replica stops leading.
    pub fn clear(&self) {
        self.0.iter().for_each(|gauge| gauge.set(0.0));
    }
}

/// A gauge for each value of a label that was set: an enum of a module that uses this one.
#[derive(Clone)]
pub struct GaugeByName(prometheus::GaugeVec, Arc<Mutex<BTreeMap<&'static str, prometheus::Gauge>>>);

impl GaugeByName {
    /// Sets the value.
    pub fn set(&self, label: &'static str, value: f64) {
        let mut gauges = self.1.lock();
        gauges.entry(label).or_insert_with(|| self.0.with_label_values(&[label])).set(value);
    }

    /// Sets all values that were set to zero.
    pub fn clear(&self) {
        let gauges = self.1.lock();
        gauges.values().for_each(|gauge| gauge.set(0.0));
    }
}

/// The maximum number of outputs in a metric, sorted by name.
const OUTPUTS: usize = 1_000;

/// The label of metrics for outputs, and the description of its values in docs/metrics.md.
const OUTPUT: (&str, &str) = ("output", "namespace and name of the index");

/// A gauge for each output.
#[derive(Clone)]
pub struct GaugeByOutput(prometheus::GaugeVec, Arc<Mutex<BTreeSet<String>>>);

impl GaugeByOutput {
    /// Shows exactly these outputs.
    pub fn show(&self, values: impl IntoIterator<Item = (String, f64)>) {
        let mut shown = self.1.lock();
        let mut gone = std::mem::take(&mut *shown);
        for (output, value) in values.into_iter().take(OUTPUTS) {
            self.0.with_label_values(&[&output]).set(value);
            gone.remove(&output);
            shown.insert(output);
        }
        for output in gone {
            // An error means that it did not exist.
            drop(self.0.remove_label_values(&[&output]));
        }
    }
}

/// A counter for each output with a count.
#[derive(Clone)]
pub struct CounterByOutput(prometheus::IntCounterVec, Arc<Mutex<BTreeSet<String>>>);

impl CounterByOutput {
    /// Adds a number.
    pub fn add(&self, output: &str, count: u64) {
        let mut known = self.1.lock();
        if known.contains(output) || known.len() < OUTPUTS {
            known.insert(output.to_owned());
            self.0.with_label_values(&[output]).inc_by(count);
        }
    }
}

/// The seconds since an event; absent while it has not happened or does not count.
#[derive(Clone)]
pub struct Age(Arc<Since>);

struct Since {
    vec: prometheus::GaugeVec,
    since: Mutex<Option<Instant>>,
}

impl Age {
    /// Sets the time.
    pub fn since(&self, instant: Instant) {
        self.set(Some(instant));
    }

    /// Removes the value.
    pub fn clear(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.since.lock() = since;
    }
}

impl Refresh for Since {
    fn refresh(&self) {
        let none: &[&str] = &[];
        match *self.since.lock() {
            Some(since) => self.vec.with_label_values(none).set(since.elapsed().as_secs_f64()),
            // An error means that it did not exist.
            None => drop(self.vec.remove_label_values(none)),
        }
    }
}

/// A histogram for each value of a label.
pub type HistogramBy<L> = By<L, prometheus::Histogram>;

impl<L: Label> By<L, prometheus::Histogram> {
    /// Observes the seconds until the returned value is dropped, on whatever path.
    pub fn timer(&self, label: L) -> Option<prometheus::HistogramTimer> {
        self.of(label).map(prometheus::Histogram::start_timer)
    }
}
