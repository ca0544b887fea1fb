//! Reports problems as Events on the objects, as log lines, and as a metric.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::kubernetes::key::{IngressKey, ObjectKey, OutputKey};
use crate::metrics::Metrics;
use crate::operator::line_limit::LineLimit;
use crate::operator::live::Live;
use crate::publish::problems::{Events, ProblemRegistry};
use crate::translate::problem::{Category, Kind, Problem, Subject};

/// Limits of log lines about problems: per second, and at once. The others are only counted.
const LINES: (u32, u32) = (20, 200);

/// The source of problems. The problems from one source are replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReportedBy {
    /// The translation of an Ingress.
    Ingress(IngressKey),
    /// Another controller keeps overwriting this Ingress's status.
    Contest(IngressKey),
    /// The sources of the addresses in statuses.
    Statuses,
    /// An IngressClass and its parameters.
    Class(Arc<str>),
    /// The ConfigMap that stores the settings of classes.
    ClassMemory,
    Output(OutputKey),
}

/// Reports problems for one term of a leader.
pub struct ProblemReports {
    state: Mutex<State>,
    events: Events,
    live: Arc<Live>,
    metrics: Metrics,
}

struct State {
    registry: ProblemRegistry<ReportedBy>,
    /// The uids of objects that are in no store, such as an index.
    uids: HashMap<Subject, String>,
    lines: LineLimit,
}

impl ProblemReports {
    /// Starts without problems.
    pub fn new(events: Events, live: Arc<Live>, metrics: Metrics) -> Self {
        let state = State {
            registry: ProblemRegistry::default(),
            uids: HashMap::new(),
            lines: LineLimit::new(LINES.0, LINES.1),
        };
        show_counts(&state.registry, &metrics);
        Self { state: Mutex::new(state), events, live, metrics }
    }

    /// Sets the uid of an object that is in no store, before its problems are set: `kubectl describe` shows an Event
    /// only if its uid is right. It is kept until the last problem is resolved. An empty uid means unknown and replaces
    /// none.
    pub fn set_uid(&self, subject: &Subject, uid: &str) {
        if !uid.is_empty() {
            self.state.lock().uids.insert(subject.clone(), uid.to_owned());
        }
    }

    /// Replaces the problems from `reporter`. Call it even if nothing changed: the object may have been deleted and
    /// created again with the same faults, and the new one has no Events yet.
    pub fn set(&self, reporter: ReportedBy, problems: Vec<Problem>) {
        let mut state = self.state.lock();
        for problem in &problems {
            if !state.registry.stands(problem) {
                state.log(problem);
            }
        }
        let subjects: BTreeSet<Subject> = problems.iter().map(|problem| problem.subject.clone()).collect();
        let changed = state.registry.set(reporter, problems);
        for subject in subjects.union(&changed) {
            let uid = self.uid(subject).or_else(|| state.uids.get(subject).cloned());
            let known = uid.as_ref().is_none_or(|uid| self.events.is_about(subject, uid));
            if known && !changed.contains(subject) {
                continue;
            }
            let about = state.registry.about(subject);
            match uid {
                None if about.is_empty() => self.events.forget(subject),
                uid => self.events.report(subject, &uid.unwrap_or_default(), &about),
            }
            if about.is_empty() {
                state.uids.remove(subject);
            }
        }
        if !changed.is_empty() {
            show_counts(&state.registry, &self.metrics);
        }
    }

    /// Reports the problems of an Ingress.
    fn look(&self, key: IngressKey) {
        let problems = self.live.routing().problems(&key);
        self.set(ReportedBy::Ingress(key), problems);
    }

    /// Reports the problems of every Ingress whose problems change, until it is dropped.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let (key, ()) = self.live.problems.next().await;
            self.look(key);
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The uid of an object in a store.
    fn uid(&self, subject: &Subject) -> Option<String> {
        let routing = self.live.routing();
        let key = ObjectKey::new(subject.namespace.as_str(), subject.name.as_str());
        match subject.kind {
            Kind::Ingress => routing.stores().ingresses().get(&key)?.metadata.uid.clone(),
            Kind::Service => routing.stores().services().get(&key)?.uid.as_deref().map(str::to_owned),
            Kind::IngressClass => routing.stores().classes().get(&key)?.metadata.uid.clone(),
            Kind::Secret | Kind::ConfigMap | Kind::IngressClassParameters => None,
        }
    }
}

fn show_counts(registry: &ProblemRegistry<ReportedBy>, metrics: &Metrics) {
    for &category in Category::ALL {
        metrics.problems.set(category.as_str(), registry.count(category) as f64);
    }
}

impl State {
    fn log(&mut self, problem: &Problem) {
        let Some(not_logged) = self.lines.allows(Instant::now()) else { return };
        if not_logged > 0 {
            tracing::warn!(
                problems = not_logged,
                "more problems were found than are logged; see the Events of the objects"
            );
        }
        tracing::warn!(
            category = problem.category.as_str(),
            object = %problem.subject,
            field = problem.field,
            value = problem.value,
            remedy = problem.remedy,
            "problem"
        );
    }
}

#[cfg(test)]
mod tests;
