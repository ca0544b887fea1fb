//! What the operating system knows of the process: `process_*`.

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Result};

const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// The collector of the crate `prometheus`, with CPU time to the nanosecond: it counts whole seconds, of which an idle
/// replica takes one in a quarter of an hour.
pub struct ProcessMetrics {
    others: ProcessCollector,
    cpu: Counter,
    /// Held while it is brought up to date, so that two scrapes at once count nothing twice.
    updating: Mutex<()>,
}

impl ProcessMetrics {
    /// Of this process.
    pub fn new() -> Result<Self> {
        let cpu = Counter::new(CPU_SECONDS, "Total user and system CPU time spent in seconds.")?;
        Ok(Self { others: ProcessCollector::for_self(), cpu, updating: Mutex::new(()) })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let others = self.others.desc().into_iter().filter(|desc| desc.fq_name != CPU_SECONDS);
        self.cpu.desc().into_iter().chain(others).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let updating = self.updating.lock();
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let spent = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
        drop(updating);
        let others = self.others.collect().into_iter().filter(|family| family.name() != CPU_SECONDS);
        self.cpu.collect().into_iter().chain(others).collect()
    }
}
