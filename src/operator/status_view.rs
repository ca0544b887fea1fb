//! Decides which status each Ingress should have now. The routing determines the addresses. The commits determine when
//! they may be written.
//!
//! ```text
//! Live ─ Ingresses to look at ─▶ waiting for a commit ─▶ arriving at the proxies ─▶ queue ─▶ StatusWriter
//! ```
//!
//! An Ingress waits for its own output alone: until its change is committed, its status stays as it is.

mod waiting;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::key_queue::KeyQueue;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::kubernetes::{Ingress, Uid};
use crate::operator::live::Live;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::options::Options;
use crate::publish::statuses::policy::{Entries, StatusOwners, StatusState, same};
use crate::publish::statuses::writer::StatusView;
use crate::published::index::CommitId;
use crate::routing::Routing;
use crate::translate::problem::Problem;
use crate::translate::settings::Settings;
use crate::translate::status::{self, DesiredStatus};
use waiting::{Awaited, WaitingStatuses};

/// The desired statuses in one term of a leader.
pub struct Statuses {
    live: Arc<Live>,
    problems: Arc<ProblemReports>,
    /// Our field manager.
    manager: String,
    /// Whether Ingresses are selected by label, so that one that left the watch may still exist.
    selects: bool,
    /// `operator.status`; if off, another controller writes all statuses.
    enabled: bool,
    /// Ingresses to check now.
    pub queue: Arc<KeyQueue<IngressKey, ()>>,
    /// Locked after the routing.
    held: Mutex<HeldStatuses>,
    /// `operator.statusDelay`: the longest wait of an Ingress for the proxies.
    delay: Duration,
    /// The addresses for each group of settings, cached until they may have changed.
    addresses: Mutex<Vec<(Arc<Settings>, DesiredStatus)>>,
}

/// Ingresses whose statuses have to wait.
#[derive(Default)]
struct HeldStatuses {
    /// To check after the next commit of an output.
    waiting: WaitingStatuses,
    /// Ingresses whose routing is committed but whose address is missing.
    arriving: HashMap<IngressKey, Arrival>,
    /// Those that wait for the proxies, by the commit that they wait for.
    unreleased: BTreeMap<(OutputKey, CommitId), Unreleased>,
    /// Ingresses that have had our address and no routing since before this term; `None` until this has been checked.
    /// Routing from an earlier term may still be published until every output is committed.
    inherited: Option<HashSet<IngressKey>>,
    /// The last versions of Ingresses with our address that left the watch: deleted, or without the selected label.
    left: HashMap<IngressKey, Arc<Ingress>>,
}

/// An Ingress that gets its address once every proxy has loaded its routing.
struct Arrival {
    of: Awaited,
    /// The first generation that contained the Ingress.
    commit: CommitId,
    /// It no longer waits, not even for a later commit.
    released: bool,
}

/// What a commit brought, until the proxies have it.
struct Unreleased {
    until: Instant,
    ingresses: Vec<IngressKey>,
}

impl Statuses {
    /// `manager` is our [`field_manager`](crate::publish::field_manager).
    pub fn new(live: Arc<Live>, problems: Arc<ProblemReports>, manager: String, options: &Options) -> Self {
        Self {
            live,
            problems,
            manager,
            enabled: options.status,
            selects: !options.label_selector.as_str().is_empty(),
            queue: Arc::default(),
            held: Mutex::default(),
            delay: options.status_delay,
            addresses: Mutex::default(),
        }
    }

    /// Adds Ingresses that left the watch. Call it before [`Self::look_at`] gets the change.
    pub fn note_left(&self, left: Vec<(IngressKey, Arc<Ingress>)>) {
        let ours = |ingress: &Ingress| {
            StatusOwners::new(ingress, &self.manager).we && !addresses(ingress).is_empty()
        };
        if self.enabled && self.selects {
            self.held.lock().left.extend(left.into_iter().filter(|(_, ingress)| ours(ingress)));
        }
    }

    /// Adds Ingresses whose status may be wrong, each with the output that its change concerns. With `all`, every
    /// Ingress is checked, because addresses may have changed. `uncommitted` says whether an output has changes to
    /// commit. `routing` has been held since before the Ingresses were taken from [`Live`], so that no status is
    /// written before it waits here.
    pub fn look_at(
        &self,
        routing: MutexGuard<'_, Routing>,
        mut keys: BTreeMap<IngressKey, Option<OutputKey>>,
        all: bool,
        uncommitted: impl Fn(&OutputKey) -> bool,
    ) {
        if !self.enabled {
            return;
        }
        let ingresses = routing.stores().ingresses();
        if all {
            self.addresses.lock().clear();
            for (key, _) in ingresses.iter() {
                keys.entry(IngressKey(key.clone())).or_default();
            }
        }
        let mut held = self.held.lock();
        if all && held.inherited.is_none() {
            let ours = ingresses.iter().filter(|(_, ingress)| StatusOwners::new(ingress, &self.manager).we);
            let ours = ours.map(|(key, _)| IngressKey(key.clone()));
            held.inherited = Some(ours.filter(|key| routing.table().fragment(key).is_none()).collect());
        }
        let mut now = Vec::new();
        for (key, changed) in keys {
            let fragment = routing.table().fragment(&key);
            let is_there =
                fragment.is_some() || ingresses.get(&key).is_some() || held.left.contains_key(&key);
            // An Ingress that is no longer ours waits for the commit that removes it from its old output.
            let output = fragment.map(|fragment| fragment.output()).or(changed.as_ref());
            match output {
                Some(output) if is_there && (uncommitted(output) || !self.live.is_committed(output)) => {
                    let uid = fragment.map(|fragment| fragment.uid);
                    held.waiting.insert(key, Awaited { output: output.clone(), uid });
                }
                None if is_there && held.waiting.contains(&key) => {}
                _ => {
                    held.waiting.remove(&key);
                    now.push((key, ()));
                }
            }
        }
        now.extend(self.let_inherited_go(&mut held, &routing));
        drop(held);
        let faults = all.then(|| faults(&routing));
        drop(routing);
        self.queue.extend(now);
        if let Some(faults) = faults {
            self.problems.set(ReportedBy::Statuses, faults);
        }
    }

    /// Whether there are Ingresses that get an address with the next commit of an output. If the longest wait is 0,
    /// none waits for proxies.
    pub fn await_commit(&self, output: &OutputKey) -> bool {
        if self.delay.is_zero() {
            return false;
        }
        let routing = self.live.routing();
        let held = self.held.lock();
        held.waiting.of(output).any(|key| self.arrives(key, &routing))
    }

    /// An output was committed. `resumed`: the attempt before failed or was held, so statuses may have been left alone.
    /// `loaded`: the newest commit that every proxy has loaded.
    pub fn committed(&self, output: &OutputKey, commit: CommitId, resumed: bool, loaded: CommitId) {
        let routing = self.live.routing();
        let mut held = self.held.lock();
        let HeldStatuses { waiting, arriving, unreleased, .. } = &mut *held;
        let mut wait = Vec::new();
        let released = loaded >= commit || self.delay.is_zero();
        let mut now = Vec::new();
        for (key, of) in waiting.take(output) {
            if !self.arrives(&key, &routing) {
                arriving.remove(&key);
            } else if arriving.get(&key).is_none_or(|one| one.of != of) {
                // An Ingress that changes again and again waits only for its first commit. One that was recreated
                // during this commit is not in it, because `of` is the previous object, so it waits again.
                arriving.insert(key.clone(), Arrival { of, commit, released });
                if !released {
                    wait.push(key);
                    continue;
                }
            }
            now.push((key, ()));
        }
        if !wait.is_empty() {
            let until = Instant::now() + self.delay;
            // Others may wait for this generation already, if this commit found everything published. It keeps its time,
            // so that nobody can extend it.
            let batch = unreleased.entry((output.clone(), commit));
            batch.or_insert(Unreleased { until, ingresses: Vec::new() }).ingresses.extend(wait);
        }
        now.extend(self.let_inherited_go(&mut held, &routing));
        drop(held);
        if resumed && self.enabled {
            let of_output = routing.table().fragments().filter(|fragment| fragment.output() == output);
            now.extend(of_output.map(|fragment| (fragment.ingress.clone(), ())));
        }
        drop(routing);
        self.queue.extend(now);
    }

    /// An output was given up, so there will be no commit to wait for.
    pub fn forget_output(&self, output: &OutputKey) {
        let routing = self.live.routing();
        let mut held = self.held.lock();
        held.arriving.retain(|_, one| one.of.output != *output);
        held.unreleased.retain(|(of, _), _| of != output);
        let gone = held.waiting.take(output).into_iter();
        let mut now: Vec<_> = gone.map(|(key, _)| (key, ())).collect();
        now.extend(self.let_inherited_go(&mut held, &routing));
        drop(held);
        drop(routing);
        self.queue.extend(now);
    }

    /// The Ingresses of which nothing is published any more. This is known once every output is committed.
    fn let_inherited_go(&self, held: &mut HeldStatuses, routing: &Routing) -> Vec<(IngressKey, ())> {
        let Some(inherited) = held.inherited.as_mut().filter(|inherited| !inherited.is_empty()) else {
            return Vec::new();
        };
        if !routing.table().outputs().all(|(output, _)| self.live.is_committed(output)) {
            return Vec::new();
        }
        std::mem::take(inherited).into_iter().map(|key| (key, ())).collect()
    }

    /// Releases the statuses whose commit every proxy has loaded, as `loaded` says for an output, and those that have
    /// waited too long. Returns the number of the latter.
    pub fn release(&self, now: Instant, loaded: impl Fn(&OutputKey) -> CommitId) -> BTreeMap<OutputKey, u64> {
        let mut late = BTreeMap::new();
        let mut keys = Vec::new();
        let mut held = self.held.lock();
        let HeldStatuses { arriving, unreleased, .. } = &mut *held;
        unreleased.retain(|(output, commit), batch| {
            let arrived = *commit <= loaded(output);
            if !arrived && batch.until > now {
                return true;
            }
            for key in std::mem::take(&mut batch.ingresses) {
                let one = arriving.get_mut(&key).filter(|one| one.commit == *commit && !one.released);
                let Some(one) = one.filter(|one| one.of.output == *output) else { continue };
                one.released = true;
                if !arrived {
                    *late.entry(output.clone()).or_default() += 1;
                }
                keys.push((key, ()));
            }
            false
        });
        drop(held);
        self.queue.extend(keys);
        late
    }

    /// Whether the status of an Ingress is about to get a new address. A deleted Ingress that is not reconciled yet may
    /// be recreated before that.
    fn arrives(&self, key: &IngressKey, routing: &Routing) -> bool {
        let Some(settings) = routing.settings(key) else { return false };
        let current = routing.stores().ingresses().get(key).map(|ingress| addresses(ingress));
        matches!(
            self.wanted(settings, routing),
            DesiredStatus::Entries(entries) if !entries.is_empty() && !same(&entries, &current.unwrap_or_default())
        )
    }

    fn wanted(&self, settings: &Arc<Settings>, routing: &Routing) -> DesiredStatus {
        let mut known = self.addresses.lock();
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
        let fragment = routing.table().fragment(key);
        let mut held = self.held.lock();
        let shown = routing.stores().ingresses().get(key);
        if shown.is_some() {
            held.left.remove(key);
        } else if fragment.is_none() {
            held.arriving.remove(key);
        }
        let ingress = Arc::clone(shown.or_else(|| held.left.get(key))?);
        // An Ingress whose routing was committed and loaded once does not wait for later changes.
        let waits = match held.arriving.get(key) {
            Some(one) if !one.released => true,
            Some(one) if fragment.is_some_and(|fragment| one.of.concerns(fragment)) => false,
            _ => held.waiting.contains(key) || self.live.is_pending(key),
        };
        // Nothing new is published for it, so no address is written or withdrawn either.
        let still = waits
            || routing.is_paused(key)
            || match fragment {
                Some(one) => {
                    shown.is_none()
                        || one.uid != Uid::from(&ingress.metadata)
                        || !self.live.is_committed(one.output())
                }
                None => held.inherited.as_ref().is_some_and(|inherited| inherited.contains(key)),
            };
        let wanted = match fragment {
            Some(fragment) if !still => self.wanted(&fragment.settings, &routing),
            _ => DesiredStatus::LeaveAlone,
        };
        let current = addresses(&ingress);
        if !still && matches!(&wanted, DesiredStatus::Entries(entries) if same(entries, &current)) {
            held.arriving.remove(key);
        }
        Some(StatusState {
            uid: ingress.metadata.uid.clone(),
            ours: fragment.is_some() || still,
            wanted,
            current,
            owners: StatusOwners::new(&ingress, &self.manager),
            shown: Arc::as_ptr(&ingress).addr(),
        })
    }

    fn contested(&self, key: &IngressKey, problem: Option<Problem>) {
        self.problems.set(ReportedBy::Contest(key.clone()), problem.into_iter().collect());
    }

    fn written(&self, key: &IngressKey) {
        self.held.lock().left.remove(key);
    }
}

/// The problems of the sources of addresses.
fn faults(routing: &Routing) -> Vec<Problem> {
    routing.all_settings().iter().filter_map(|one| status::fault(one, routing.stores())).collect()
}

/// The addresses in the status of an Ingress.
fn addresses(ingress: &Ingress) -> Entries {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default()
}

#[cfg(test)]
#[path = "status_view/tests.rs"]
mod tests;
