//! Which status each Ingress should have now. The routing decides the addresses; what is committed decides when
//! they may be written.
//!
//! ```text
//! Live ─ Ingresses to look at ─▶ waiting for a commit ─▶ queue ─▶ StatusWriter
//! ```
//!
//! An Ingress waits for its own output alone: until its change is committed, its status stays as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key_queue::KeyQueue;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::operator::live::Live;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::publish::statuses::policy::{StatusState, we_own};
use crate::publish::statuses::writer::StatusView;
use crate::routing::Routing;
use crate::translate::problem::Problem;
use crate::translate::settings::Settings;
use crate::translate::status::{self, DesiredStatus};

/// The statuses that are wanted in one term of a leader.
pub struct Statuses {
    live: Arc<Live>,
    problems: Arc<ProblemReports>,
    /// `operator.status`; when off, another controller writes all statuses.
    enabled: bool,
    /// Ingresses to look at now.
    pub queue: Arc<KeyQueue<IngressKey, ()>>,
    /// Ingresses to look at after the next commit of an output.
    waiting: Mutex<HashMap<IngressKey, OutputKey>>,
    /// The addresses for each group of settings, computed once until they may have changed.
    addresses: Mutex<Vec<(Arc<Settings>, DesiredStatus)>>,
}

impl Statuses {
    /// `enabled` is `operator.status`.
    pub fn new(live: Arc<Live>, problems: Arc<ProblemReports>, enabled: bool) -> Self {
        Self {
            live,
            problems,
            enabled,
            queue: Arc::default(),
            waiting: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    /// Takes Ingresses whose status may be wrong, each with the output that its change concerns. With `all`, every
    /// Ingress is looked at, because addresses may have changed. `uncommitted` says whether an output has changes
    /// to commit.
    pub fn look_at(
        &self,
        mut keys: BTreeMap<IngressKey, Option<OutputKey>>,
        all: bool,
        uncommitted: impl Fn(&OutputKey) -> bool,
    ) {
        if !self.enabled {
            return;
        }
        if all {
            self.addresses_changed();
        }
        let routing = self.live.routing();
        let ingresses = routing.stores().ingresses();
        if all {
            for (key, _) in ingresses.iter() {
                keys.entry(IngressKey(key.clone())).or_default();
            }
        }
        let mut waiting = self.waiting();
        let mut now = Vec::new();
        for (key, changed) in keys {
            // One that is no longer ours waits for the commit that drops it from the output that it was in.
            let output = routing.settings(&key).map(|settings| &settings.output).or(changed.as_ref());
            match output {
                Some(output) if uncommitted(output) || !self.live.is_committed(output) => {
                    waiting.insert(key, output.clone());
                }
                None if waiting.contains_key(&key) => {}
                _ => {
                    waiting.remove(&key);
                    now.push((key, ()));
                }
            }
        }
        if waiting.len() > ingresses.len() {
            waiting.retain(|key, _| ingresses.get(key).is_some());
        }
        drop(waiting);
        drop(routing);
        self.queue.extend(now);
    }

    /// An output was committed. `resumed`: the attempt before failed or was held back, so statuses may have been left
    /// alone.
    pub fn committed(&self, output: &OutputKey, resumed: bool) {
        let due: Vec<_> = self.waiting().extract_if(|_, waits_for| waits_for == output).collect();
        self.queue.extend(due.into_iter().map(|(key, _)| (key, ())));
        if resumed && self.enabled {
            let routing = self.live.routing();
            let of_output = routing.table().fragments().filter(|fragment| fragment.output() == output);
            let keys: Vec<_> = of_output.map(|fragment| (fragment.ingress.clone(), ())).collect();
            drop(routing);
            self.queue.extend(keys);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IngressKey, OutputKey>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the addresses, and reports what is wrong with their sources.
    fn addresses_changed(&self) {
        let faults: Vec<Problem> = {
            let routing = self.live.routing();
            let all = routing.all_settings();
            all.iter().filter_map(|one| status::fault(one, routing.stores())).collect()
        };
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.problems.set(ReportedBy::Statuses, faults);
    }

    fn wanted(&self, settings: &Arc<Settings>, routing: &Routing) -> DesiredStatus {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wanted)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, settings)) {
            return wanted.clone();
        }
        let wanted = status::wanted(settings, routing.stores()).unwrap_or(DesiredStatus::LeaveAlone);
        known.push((Arc::clone(settings), wanted.clone()));
        wanted
    }
}

impl StatusView for Statuses {
    fn state(&self, key: &IngressKey) -> Option<StatusState> {
        let routing = self.live.routing();
        let ingress = routing.stores().ingresses().get(key)?;
        let settings = routing.settings(key);
        // Nothing new of it is published, so no address is written or withdrawn either.
        let still = self.waiting().contains_key(key)
            || routing.is_paused(key)
            || settings.is_some_and(|one| !self.live.is_committed(&one.output));
        let wanted = match settings {
            Some(settings) if !still => self.wanted(settings, &routing),
            _ => DesiredStatus::LeaveAlone,
        };
        let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let current = balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
        let shown = Arc::as_ptr(ingress).addr();
        Some(StatusState {
            ours: settings.is_some() || still,
            wanted,
            current,
            we_own: we_own(ingress),
            shown,
        })
    }

    fn contested(&self, key: &IngressKey, problem: Option<Problem>) {
        self.problems.set(ReportedBy::Contest(key.clone()), problem.into_iter().collect());
    }
}

#[cfg(test)]
#[path = "status_view/tests.rs"]
mod tests;
