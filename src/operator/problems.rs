//! What is wrong, told once where users look: an Event on the object, the log, and a count.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::metrics::{Label, Metrics};
use crate::operator::live::Live;
use crate::publish::problems::events::Events;
use crate::publish::problems::problem_registry::Standing;
use crate::publish::rate::Rate;
use crate::translate::problem::{Category, Kind, Problem, Subject};

/// Log lines about problems: this many a second, and this many at once. The others are counted and summed up.
const LINES: (u32, u32) = (20, 200);

/// Who tells of problems. What one source tells is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The translation of an Ingress.
    Ingress(IngressKey),
    /// Another controller fights for an Ingress's status.
    Contest(IngressKey),
    /// The addresses that statuses are made from.
    Statuses,
    /// An IngressClass and its parameters.
    Class(Arc<str>),
    /// The ConfigMap in which settings of classes are remembered.
    ClassMemory,
    /// An output.
    Output(OutputKey),
}

/// Tells of problems while this replica leads.
pub struct Problems {
    state: Mutex<State>,
    events: Events,
    live: Arc<Live>,
    metrics: Metrics,
}

struct State {
    standing: Standing<Source>,
    /// Of objects with problems that no store of ours holds: of the index, say.
    uids: HashMap<Subject, String>,
    lines: Rate,
    unsaid: u64,
}

impl Problems {
    /// Nothing stands yet.
    pub fn new(events: Events, live: Arc<Live>, metrics: Metrics) -> Self {
        let state = State {
            standing: Standing::default(),
            uids: HashMap::new(),
            lines: Rate::new(LINES.0, LINES.1),
            unsaid: 0,
        };
        Self { state: Mutex::new(state), events, live, metrics }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the uid of an object that is not watched whole, before its problems: `kubectl describe` shows an Event
    /// only with it. It is forgotten with the last of them. Empty is not known, and says nothing against what was.
    pub fn know(&self, subject: &Subject, uid: &str) {
        if !uid.is_empty() {
            self.state().uids.insert(subject.clone(), uid.to_owned());
        }
    }

    /// Replaces what a source tells. Nothing else than before is worth saying too: an object may have been deleted and
    /// made again with the same faults, and then it is another one, of which nothing was told yet.
    pub fn set(&self, source: Source, problems: Vec<Problem>) {
        let mut state = self.state();
        let mut fresh = problems.clone();
        fresh.retain(|problem| !state.standing.stands(problem));
        let subjects: BTreeSet<Subject> = problems.iter().map(|problem| problem.subject.clone()).collect();
        let changed = state.standing.set(source, problems);
        for problem in &fresh {
            state.log(problem);
        }
        for subject in subjects.difference(&changed) {
            if let Some(uid) = self.uid(subject).or_else(|| state.uids.get(subject).cloned())
                && !self.events.is_about(subject, &uid)
            {
                self.events.report(subject, &uid, &state.standing.about(subject));
            }
        }
        if changed.is_empty() {
            return;
        }
        for subject in &changed {
            let about = state.standing.about(subject);
            match self.uid(subject).or_else(|| state.uids.get(subject).cloned()) {
                Some(uid) => self.events.report(subject, &uid, &about),
                None if about.is_empty() => self.events.forget(subject),
                None => self.events.report(subject, "", &about),
            }
            if about.is_empty() {
                state.uids.remove(subject);
            }
        }
        for &category in Category::ALL {
            self.metrics.problems.set(category, state.standing.count(category) as f64);
        }
    }

    /// Looks at an Ingress's problems again.
    pub fn look(&self, key: &IngressKey) {
        let problems = self.live.routing().problems(key);
        self.set(Source::Ingress(key.clone()), problems);
    }

    /// Follows the Ingresses whose problems change, without end.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let (key, ()) = self.live.problems.next().await;
            self.look(&key);
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Shows the counts, for a new leader.
    pub fn show(&self) {
        let state = self.state();
        for &category in <Category as Label>::ALL {
            self.metrics.problems.set(category, state.standing.count(category) as f64);
        }
    }

    /// The uid of an object that we hold; `None` where it is not there.
    fn uid(&self, subject: &Subject) -> Option<String> {
        let routing = self.live.routing();
        let key = crate::kubernetes::key::ObjectKey::new(subject.namespace.as_str(), subject.name.as_str());
        match subject.kind {
            Kind::Ingress => routing.stores().ingresses().get(&key)?.metadata.uid.clone(),
            Kind::Service => routing.stores().services().get(&key)?.uid.as_deref().map(str::to_owned),
            Kind::IngressClass => routing.stores().classes().get(&key)?.metadata.uid.clone(),
            Kind::Secret | Kind::ConfigMap | Kind::IngressClassParameters => None,
        }
    }
}

impl State {
    fn log(&mut self, problem: &Problem) {
        if self.lines.take(Instant::now()).is_err() {
            self.unsaid += 1;
            return;
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        if unsaid > 0 {
            tracing::warn!(problems = unsaid, "more problems than are logged; see the Events of the objects");
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
