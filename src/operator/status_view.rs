//! Which status each Ingress should have now. The routing decides the addresses; what is committed decides when
//! they may be written.
//!
//! ```text
//! Live ─ Ingresses to look at ─▶ waiting for a commit ─▶ arriving at the proxies ─▶ queue ─▶ StatusWriter
//! ```
//!
//! An Ingress waits for its own output alone: until its change is committed, its status stays as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::key_queue::KeyQueue;
use crate::kubernetes::Ingress;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::operator::agents::Commit;
use crate::operator::live::Live;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::publish::statuses::policy::{Entries, StatusState, same, we_own};
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
    /// Ingresses that get an address once every proxy has loaded their routing. Locked after `waiting`.
    arriving: Mutex<HashMap<IngressKey, Arrival>>,
    /// `operator.statusDelay`: the longest that an Ingress waits for the proxies.
    delay: Duration,
    /// The addresses for each group of settings, computed once until they may have changed.
    addresses: Mutex<Vec<(Arc<Settings>, DesiredStatus)>>,
}

/// An Ingress without the address that it should have, whose routing is committed.
struct Arrival {
    uid: Option<String>,
    output: OutputKey,
    /// The one that first held the Ingress.
    commit: Commit,
    until: Instant,
    /// It does not wait any more, nor again for a later commit.
    released: bool,
}

impl Statuses {
    /// `enabled` is `operator.status`, `delay` is `operator.statusDelay`.
    pub fn new(live: Arc<Live>, problems: Arc<ProblemReports>, enabled: bool, delay: Duration) -> Self {
        Self {
            live,
            problems,
            enabled,
            queue: Arc::default(),
            waiting: Mutex::default(),
            arriving: Mutex::default(),
            delay,
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
        let mut arriving = self.arriving();
        if arriving.len() > ingresses.len() {
            arriving.retain(|key, _| ingresses.get(key).is_some());
        }
        drop(arriving);
        drop(waiting);
        drop(routing);
        self.queue.extend(now);
    }

    /// Whether there are Ingresses that get an address with the next commit of an output. None waits for proxies where
    /// the longest wait is 0.
    pub fn await_commit(&self, output: &OutputKey) -> bool {
        if self.delay.is_zero() {
            return false;
        }
        let routing = self.live.routing();
        let waiting = self.waiting();
        waiting.iter().any(|(key, waits_for)| waits_for == output && self.arrives(key, &routing).is_some())
    }

    /// An output was committed. `resumed`: the attempt before failed or was held back, so statuses may have been left
    /// alone. `loaded`: the newest commit that every proxy has.
    pub fn committed(&self, output: &OutputKey, commit: Commit, resumed: bool, loaded: Commit) {
        {
            let routing = self.live.routing();
            let mut waiting = self.waiting();
            let mut arriving = self.arriving();
            let until = Instant::now() + self.delay;
            let mut now = Vec::new();
            for (key, _) in waiting.extract_if(|_, waits_for| waits_for == output) {
                let uid = self.arrives(&key, &routing).filter(|_| loaded < commit && !self.delay.is_zero());
                match uid {
                    // One that changes again and again waits for its first commit alone.
                    Some(uid)
                        if !arriving.get(&key).is_some_and(|one| one.uid == uid && one.output == *output) =>
                    {
                        let output = output.clone();
                        arriving.insert(key, Arrival { uid, output, commit, until, released: false });
                    }
                    Some(_) => now.push((key, ())),
                    None => {
                        arriving.remove(&key);
                        now.push((key, ()));
                    }
                }
            }
            self.queue.extend(now);
        }
        if resumed && self.enabled {
            let routing = self.live.routing();
            let of_output = routing.table().fragments().filter(|fragment| fragment.output() == output);
            let keys: Vec<_> = of_output.map(|fragment| (fragment.ingress.clone(), ())).collect();
            drop(routing);
            self.queue.extend(keys);
        }
    }

    /// Lets those go whose commit every proxy has, as `loaded` says of an output, and those that have waited for too
    /// long: gives how many these are.
    pub fn release(&self, now: Instant, loaded: impl Fn(&OutputKey) -> Commit) -> BTreeMap<OutputKey, u64> {
        let mut late = BTreeMap::new();
        let mut by_output: BTreeMap<OutputKey, Commit> = BTreeMap::new();
        let mut keys = Vec::new();
        for (key, one) in self.arriving().iter_mut().filter(|(_, one)| !one.released) {
            let loaded = match by_output.get(&one.output) {
                Some(loaded) => *loaded,
                None => *by_output.entry(one.output.clone()).or_insert_with(|| loaded(&one.output)),
            };
            let arrived = one.commit <= loaded;
            if !arrived && one.until > now {
                continue;
            }
            if !arrived {
                *late.entry(one.output.clone()).or_default() += 1;
            }
            one.released = true;
            keys.push((key.clone(), ()));
        }
        self.queue.extend(keys);
        late
    }

    /// The uid of an Ingress whose status is about to get an address that it does not have.
    fn arrives(&self, key: &IngressKey, routing: &Routing) -> Option<Option<String>> {
        let ingress = routing.stores().ingresses().get(key)?;
        match self.wanted(routing.settings(key)?, routing) {
            DesiredStatus::Entries(entries)
                if !entries.is_empty() && !same(&entries, &addresses(ingress)) =>
            {
                Some(ingress.metadata.uid.clone())
            }
            _ => None,
        }
    }

    fn arriving(&self) -> MutexGuard<'_, HashMap<IngressKey, Arrival>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(ingress) = routing.stores().ingresses().get(key) else {
            self.arriving().remove(key);
            return None;
        };
        let settings = routing.settings(key);
        // Nothing new of it is published, so no address is written or withdrawn either.
        let still = self.waiting().contains_key(key)
            || self.arriving().get(key).is_some_and(|one| !one.released)
            || routing.is_paused(key)
            || settings.is_some_and(|one| !self.live.is_committed(&one.output));
        let wanted = match settings {
            Some(settings) if !still => self.wanted(settings, &routing),
            _ => DesiredStatus::LeaveAlone,
        };
        let current = addresses(ingress);
        if !still && matches!(&wanted, DesiredStatus::Entries(entries) if same(entries, &current)) {
            self.arriving().remove(key);
        }
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

/// The addresses in the status of an Ingress.
fn addresses(ingress: &Ingress) -> Entries {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default()
}

#[cfg(test)]
#[path = "status_view/tests.rs"]
mod tests;
