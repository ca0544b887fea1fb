//! Metrics about all outputs together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{LOOK, OutputState, Publisher};
use crate::metrics::{Label as _, PublishedKind, ShardKind, WriteFailure};

impl Publisher {
    /// Shows the progress of the proxies of each output once a second.
    pub(super) fn show_agents(&mut self, now: Instant) {
        if self.agents_shown.is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        self.agents_shown = Some(now);
        let (mut live, mut behind, mut lag) = (Vec::new(), Vec::new(), Vec::new());
        let mut totals = BTreeMap::new();
        for (key, output) in &self.outputs {
            let Some(newest) = output.commits.newest() else { continue };
            let name = key.to_string();
            self.metrics.statuses_unconfirmed.add(&name, 0);
            let known = self.agents.totals(key, &output.commits, now);
            totals.insert(key.clone(), known);
            if known.is_none() {
                continue;
            }
            let counts = self.agents.count(key, newest);
            let slowest =
                counts.slowest.map_or(Duration::ZERO, |slowest| output.commits.age_after(slowest, now));
            live.push((name.clone(), counts.live as f64));
            behind.push((name.clone(), (counts.live - counts.current) as f64));
            lag.push((name, slowest.as_secs_f64()));
        }
        self.agent_totals.set(totals);
        self.metrics.agents.show(live);
        self.metrics.agents_behind.show(behind);
        self.metrics.agents_lag.show(lag);
    }

    /// Shows metrics of all outputs together.
    pub(super) fn show(&self) {
        let metrics = &self.metrics;
        let sum = |of: fn(&OutputState) -> usize| self.outputs.values().map(of).sum::<usize>() as f64;
        metrics.published.set(PublishedKind::Router, sum(|output| output.counts.routers));
        metrics.published.set(PublishedKind::Service, sum(|output| output.counts.services));
        metrics.published.set(PublishedKind::Certificate, sum(|output| output.counts.certificates));
        metrics.shards.set(ShardKind::Routing, sum(|output| output.shards.0));
        metrics.shards.set(ShardKind::Keys, sum(|output| output.shards.1));
        metrics.withdrawal_held.set(f64::from(u8::from(self.outputs.values().any(|output| output.held))));
        metrics.paused.set(f64::from(u8::from(self.outputs.values().any(|output| output.paused))));
        metrics.text_fill.set(self.outputs.values().map(|output| output.text.fill()).fold(0.0, f64::max));
        let now = Instant::now();
        let stretch =
            self.outputs.values().map(|output| output.throttle.stretch(now)).max().unwrap_or_default();
        metrics.throttle_stretch.set(stretch.as_secs_f64());
        // Each is set once, so that no scrape sees a persisting reason vanish.
        for &failure in WriteFailure::ALL {
            let holds = self.outputs.values().any(|output| output.failed == Some(failure));
            metrics.publish_error.set(failure, f64::from(u8::from(holds)));
        }
    }
}
