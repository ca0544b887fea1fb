//! Counters, gauges, histograms and ages whose labels are enums, and the catalogue that remembers what
//! was registered so that it can be documented.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Opts, Registry, core::Collector};

use super::labels::{Label, WatchKind};
use super::watches::{self, Watches};

/// What Prometheus is told about a metric, and what docs/metrics.md says about it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: Vec<(&'static str, Vec<&'static str>)>,
    pub help: &'static str,
}

/// Registers metrics and remembers them in order.
pub(super) struct Catalogue {
    pub registry: Registry,
    pub described: Vec<Described>,
    ages: Vec<Arc<dyn Refresh>>,
}

/// An age moves by itself, so it is computed when it is asked for.
pub(super) trait Refresh: Send + Sync {
    /// Brings it up to date.
    fn refresh(&self);
}

fn values<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().map(|value| value.as_str()).collect()
}

impl Catalogue {
    pub fn new() -> Self {
        Self { registry: Registry::new(), described: Vec::new(), ages: Vec::new() }
    }

    pub fn refresher(&self) -> Refresher {
        Refresher(self.ages.clone())
    }

    fn register<C: Collector + Clone + 'static>(
        &mut self,
        collector: C,
        described: Described,
    ) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        self.described.push(described);
        Ok(collector)
    }

    pub fn counter(&mut self, name: &'static str, help: &'static str) -> prometheus::Result<Counter> {
        let counter = prometheus::IntCounter::with_opts(Opts::new(name, help))?;
        self.register(counter, Described { name, kind: "counter", labels: vec![], help }).map(Counter)
    }

    pub fn counter_by<L: Label>(
        &mut self,
        name: &'static str,
        label: &'static str,
        help: &'static str,
    ) -> prometheus::Result<CounterBy<L>> {
        let vec = prometheus::IntCounterVec::new(Opts::new(name, help), &[label])?;
        let described = Described { name, kind: "counter", labels: vec![(label, values::<L>())], help };
        let vec = self.register(vec, described)?;
        Ok(CounterBy(
            L::ALL.iter().map(|value| vec.with_label_values(&[value.as_str()])).collect(),
            PhantomData,
        ))
    }

    pub fn counter_by_two<A: Label, B: Label>(
        &mut self,
        name: &'static str,
        labels: [&'static str; 2],
        help: &'static str,
    ) -> prometheus::Result<CounterByTwo<A, B>> {
        let vec = prometheus::IntCounterVec::new(Opts::new(name, help), &labels)?;
        let described = Described {
            name,
            kind: "counter",
            labels: vec![(labels[0], values::<A>()), (labels[1], values::<B>())],
            help,
        };
        self.register(vec, described).map(|vec| CounterByTwo(vec, PhantomData))
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> prometheus::Result<Gauge> {
        let gauge = prometheus::Gauge::with_opts(Opts::new(name, help))?;
        self.register(gauge, Described { name, kind: "gauge", labels: vec![], help }).map(Gauge)
    }

    /// A gauge with a label of one value, which is known when the program starts.
    pub fn gauge_with(
        &mut self,
        name: &'static str,
        label: (&'static str, &str),
        shown_as: &'static str,
        help: &'static str,
    ) -> prometheus::Result<Gauge> {
        let gauge = prometheus::Gauge::with_opts(Opts::new(name, help).const_label(label.0, label.1))?;
        let described = Described { name, kind: "gauge", labels: vec![(label.0, vec![shown_as])], help };
        self.register(gauge, described).map(Gauge)
    }

    pub fn gauge_by<L: Label>(
        &mut self,
        name: &'static str,
        label: &'static str,
        help: &'static str,
    ) -> prometheus::Result<GaugeBy<L>> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[label])?;
        let described = Described { name, kind: "gauge", labels: vec![(label, values::<L>())], help };
        let vec = self.register(vec, described)?;
        Ok(GaugeBy(
            L::ALL.iter().map(|value| vec.with_label_values(&[value.as_str()])).collect(),
            PhantomData,
        ))
    }

    pub fn age(&mut self, name: &'static str, help: &'static str) -> prometheus::Result<Age> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &[])?;
        let vec = self.register(vec, Described { name, kind: "gauge", labels: vec![], help })?;
        let ages = Arc::new(Since { vec, since: Mutex::new(None) });
        self.ages.push(ages.clone());
        Ok(Age(ages))
    }

    pub fn watches(&mut self, name: &'static str, help: &'static str) -> prometheus::Result<Watches> {
        let vec = prometheus::GaugeVec::new(Opts::new(name, help), &["kind"])?;
        let described =
            Described { name, kind: "gauge", labels: vec![("kind", values::<WatchKind>())], help };
        let vec = self.register(vec, described)?;
        let ages = Arc::new(watches::Ages { vec, held: Mutex::default() });
        self.ages.push(ages.clone());
        Ok(Watches(ages))
    }

    pub fn histogram(
        &mut self,
        name: &'static str,
        buckets: &[f64],
        help: &'static str,
    ) -> prometheus::Result<Histogram> {
        let opts = prometheus::HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = prometheus::Histogram::with_opts(opts)?;
        self.register(histogram, Described { name, kind: "histogram", labels: vec![], help }).map(Histogram)
    }

    pub fn histogram_by<L: Label>(
        &mut self,
        name: &'static str,
        label: &'static str,
        buckets: &[f64],
        help: &'static str,
    ) -> prometheus::Result<HistogramBy<L>> {
        let opts = prometheus::HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let vec = prometheus::HistogramVec::new(opts, &[label])?;
        let described = Described { name, kind: "histogram", labels: vec![(label, values::<L>())], help };
        let vec = self.register(vec, described)?;
        Ok(HistogramBy(
            L::ALL.iter().map(|value| Histogram(vec.with_label_values(&[value.as_str()]))).collect(),
            PhantomData,
        ))
    }
}

/// Brings the ages up to date before a scrape.
pub(super) struct Refresher(Vec<Arc<dyn Refresh>>);

impl Refresher {
    pub fn refresh(&self) {
        self.0.iter().for_each(|age| age.refresh());
    }
}

/// Something that only goes up.
#[derive(Clone)]
pub struct Counter(prometheus::IntCounter);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A counter for each value of a label; all are there from the start.
#[derive(Clone)]
pub struct CounterBy<L>(Arc<[prometheus::IntCounter]>, PhantomData<L>);

impl<L: Label> CounterBy<L> {
    /// One more.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// So many more.
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.0.get(label.index()) {
            counter.inc_by(count);
        }
    }

    /// The count.
    pub fn get(&self, label: L) -> u64 {
        self.0.get(label.index()).map_or(0, prometheus::IntCounter::get)
    }
}

/// A counter for each pair of values that came up.
#[derive(Clone)]
pub struct CounterByTwo<A, B>(prometheus::IntCounterVec, PhantomData<(A, B)>);

impl<A: Label, B: Label> CounterByTwo<A, B> {
    /// One more.
    pub fn inc(&self, first: A, second: B) {
        self.add(first, second, 1);
    }

    /// So many more.
    pub fn add(&self, first: A, second: B, count: u64) {
        self.0.with_label_values(&[first.as_str(), second.as_str()]).inc_by(count);
    }

    /// The count.
    pub fn get(&self, first: A, second: B) -> u64 {
        self.0.with_label_values(&[first.as_str(), second.as_str()]).get()
    }
}

/// A number that goes up and down.
#[derive(Clone)]
pub struct Gauge(prometheus::Gauge);

impl Gauge {
    /// What it is now.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// What was set last.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A gauge for each value of a label; all are there from the start.
#[derive(Clone)]
pub struct GaugeBy<L>(Arc<[prometheus::Gauge]>, PhantomData<L>);

impl<L: Label> GaugeBy<L> {
    /// What it is now.
    pub fn set(&self, label: L, value: f64) {
        if let Some(gauge) = self.0.get(label.index()) {
            gauge.set(value);
        }
    }

    /// What was set last.
    pub fn get(&self, label: L) -> f64 {
        self.0.get(label.index()).map_or(0.0, prometheus::Gauge::get)
    }

    /// Nought for all values, as when a replica stops leading.
    pub fn clear(&self) {
        self.0.iter().for_each(|gauge| gauge.set(0.0));
    }

    /// One for this value and nought for all others, or nought for all.
    pub fn only(&self, label: Option<L>) {
        self.clear();
        if let Some(label) = label {
            self.set(label, 1.0);
        }
    }
}

struct Since {
    vec: prometheus::GaugeVec,
    since: Mutex<Option<Instant>>,
}

impl Since {
    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl Refresh for Since {
    fn refresh(&self) {
        let none: &[&str] = &[];
        match *self.since.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(since) => self.vec.with_label_values(none).set(since.elapsed().as_secs_f64()),
            // An error means that it was not there.
            None => drop(self.vec.remove_label_values(none)),
        }
    }
}

/// The seconds since something; absent while it never happened or does not count.
#[derive(Clone)]
pub struct Age(Arc<Since>);

impl Age {
    /// It happened then.
    pub fn since(&self, instant: Instant) {
        self.0.set(Some(instant));
    }

    /// It does not count any more.
    pub fn clear(&self) {
        self.0.set(None);
    }
}

/// How often a number lay in which range.
#[derive(Clone)]
pub struct Histogram(prometheus::Histogram);

impl Histogram {
    /// One more.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }

    /// Observes the seconds from now until what is returned is dropped, on whatever path.
    pub fn timer(&self) -> Timer {
        Timer { histogram: self.0.clone(), start: Instant::now() }
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.0.get_sample_count()
    }
}

/// A histogram for each value of a label; all are there from the start.
#[derive(Clone)]
pub struct HistogramBy<L>(Arc<[Histogram]>, PhantomData<L>);

impl<L: Label> HistogramBy<L> {
    /// One more.
    pub fn observe(&self, label: L, value: f64) {
        if let Some(histogram) = self.0.get(label.index()) {
            histogram.observe(value);
        }
    }

    /// The histogram of a value.
    pub fn timer(&self, label: L) -> Option<Timer> {
        self.0.get(label.index()).map(Histogram::timer)
    }
}

/// Observes its own life.
pub struct Timer {
    histogram: prometheus::Histogram,
    start: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.start.elapsed().as_secs_f64());
    }
}
