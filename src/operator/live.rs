//! The routing of a running operator. Watch events go in, keys to reconcile come out, and results go to the publisher.
//!
//! There are two locks. The routing's lock is held while an event is applied or an Ingress is translated. The notes' lock
//! is held only to add or take notes. Nothing acquires the routing's lock while it holds the notes' lock.

mod first_lists;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use first_lists::Phase;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::key_queue::KeyQueue;
use crate::kubernetes::key::{IngressKey, ObjectKey, OutputKey, SecretKey};
use crate::metrics::{Metrics, Trigger, WatchKind};
use crate::operator::pending::{Notes, Pending, Waiting};
use crate::parameters::classes::Changed;
use crate::parameters::resolve::Resolution;
use crate::parameters::status::Publication;
use crate::routing::{ReconcileError, Reconciled, Routing};
use crate::spans::{ChangedObject, Spans, TraceNumber};
use crate::watch::Touched;

/// Why an Ingress has to be reconciled, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    pub trigger: Trigger,
    /// When the change arrived.
    pub at: Instant,
    pub trace: Option<TraceNumber>,
}

/// The routing, shared between the tasks of a running operator.
pub struct Live {
    routing: Mutex<Routing>,
    pub ingresses: Arc<KeyQueue<ObjectKey, Cause>>,
    pub classes: Arc<KeyQueue<ObjectKey, Cause>>,
    pub secrets: Arc<KeyQueue<SecretKey, ()>>,
    /// Ingresses whose problems changed, or whose problems may now concern other objects. Only a leader collects them.
    pub problems: Arc<KeyQueue<IngressKey, ()>>,
    notes: Mutex<Notes>,
    pub changed: Notify,
    /// Something about classes has to be written.
    pub classes_changed: Notify,
    /// Whether some class needs the labels of namespaces.
    namespaces_wanted: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
    /// When everything had been listed, which is before all Secrets have been fetched.
    pub(super) listed: OnceLock<Instant>,
    metrics: Metrics,
    pub spans: Spans,
}

impl Live {
    /// Wraps a routing that has no objects yet.
    pub fn new(routing: Routing, metrics: Metrics) -> Self {
        Self {
            routing: Mutex::new(routing),
            ingresses: Arc::default(),
            classes: Arc::default(),
            secrets: Arc::default(),
            problems: Arc::default(),
            notes: Mutex::default(),
            changed: Notify::new(),
            classes_changed: Notify::new(),
            namespaces_wanted: watch::Sender::new(false),
            phase: watch::Sender::new(Phase::Listing),
            listed: OnceLock::new(),
            metrics,
            spans: Spans::default(),
        }
    }

    /// Traces changes too.
    pub fn traced(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// The routing. Held for as long as one event or one translation takes, never across a wait.
    pub fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing.lock()
    }

    /// The result of the last attempt to commit an output.
    pub fn set_publication(&self, output: &OutputKey, publication: Publication) {
        let mut notes = self.notes.lock();
        let brought = publication == Publication::Committed && notes.settings_in_commit.remove(output);
        if notes.publications.insert(output.clone(), publication) != Some(publication) || brought {
            self.classes_changed.notify_one();
        }
    }

    /// A commit of an output begins, with what the routing has now. The caller holds the routing.
    pub fn commit_begins(&self, output: &OutputKey) {
        let Notes { new_settings, settings_in_commit, .. } = &mut *self.notes.lock();
        if new_settings.get(output).is_some_and(HashSet::is_empty) {
            new_settings.remove(output);
            settings_in_commit.insert(output.clone());
        }
    }

    /// The state of the routing of some outputs: the worst of them. New settings of a class count once a commit contains
    /// them.
    pub fn publication(&self, outputs: &BTreeSet<OutputKey>) -> Publication {
        let Notes { publications, new_settings, settings_in_commit, .. } = &*self.notes.lock();
        let is_new = |output| new_settings.contains_key(output) || settings_in_commit.contains(output);
        let of = |output| match publications.get(output).copied().unwrap_or(Publication::Pending) {
            Publication::Committed if is_new(output) => Publication::Pending,
            publication => publication,
        };
        outputs.iter().map(of).find(|one| *one != Publication::Committed).unwrap_or(Publication::Committed)
    }

    /// Whether the last attempt to commit an output succeeded.
    pub fn is_committed(&self, output: &OutputKey) -> bool {
        self.notes.lock().publications.get(output) == Some(&Publication::Committed)
    }

    /// Forgets an output that exists only to be emptied, if it is empty. Returns whether it did.
    pub fn forget_output(&self, output: &OutputKey) -> bool {
        let forgotten = self.routing().forget_output(output);
        if forgotten {
            let mut notes = self.notes.lock();
            notes.publications.remove(output);
            notes.new_settings.remove(output);
            notes.settings_in_commit.remove(output);
            self.classes_changed.notify_one();
        }
        forgotten
    }

    /// Takes what is pending. The caller must hold the routing until the statuses are waiting: pending changes and
    /// waiting statuses are checked together under that lock.
    pub fn take_pending(&self) -> Pending {
        std::mem::take(&mut self.notes.lock().pending)
    }

    /// Whether an Ingress's routing changed and the publisher has not seen it yet.
    pub fn is_pending(&self, key: &IngressKey) -> bool {
        self.notes.lock().pending.statuses.get(key).is_some_and(Option::is_some)
    }

    /// Marks everything as changed, for a new leader.
    pub fn everything_pending(&self) {
        let outputs: Vec<OutputKey> = self.routing().table().outputs().map(|(key, _)| key.clone()).collect();
        self.collect(|pending| pending.look_at_all(outputs));
    }

    /// Marks the problems of every Ingress for reporting, for a new leader.
    pub fn all_problems_pending(&self) {
        let keys = self.routing().own_ingresses();
        self.report_problems(keys);
    }

    /// Whether this replica leads. A follower collects nothing, since nobody would take it. It loads the settings of
    /// classes that the leader stores, and forgets the results of its own commits.
    pub fn set_leading(&self, leading: bool) {
        let mut notes = self.notes.lock();
        notes.leading = leading;
        if !leading {
            notes.pending = Pending::default();
            notes.publications.clear();
            drop(notes);
            while self.problems.try_next().is_some() {}
        }
    }

    fn leads(&self) -> bool {
        self.notes.lock().leading
    }

    /// Adds to the pending changes.
    fn collect(&self, add: impl FnOnce(&mut Pending)) {
        let mut notes = self.notes.lock();
        if notes.leading {
            add(&mut notes.pending);
            drop(notes);
            self.changed.notify_one();
        }
    }

    /// Marks the problems of these Ingresses for reporting.
    fn report_problems(&self, keys: impl IntoIterator<Item = IngressKey>) {
        if self.leads() {
            self.problems.extend(keys.into_iter().map(|key| (key, ())));
        }
    }

    /// Applies a change that comes from no watch event.
    pub fn event(&self, kind: WatchKind, apply: impl FnOnce(&mut Routing) -> Touched) {
        self.watch_event(kind, None, apply);
    }

    /// Applies a watch event. `object` is the changed object if a trace should start with it.
    pub fn watch_event(
        &self,
        kind: WatchKind,
        object: Option<ChangedObject>,
        apply: impl FnOnce(&mut Routing) -> Touched,
    ) {
        let at = Instant::now();
        let mut routing = self.routing();
        let touched = apply(&mut routing);
        if let Some(count) = routing.stores().count(kind) {
            self.metrics.objects.set(kind, count as f64);
        }
        let phase = *self.phase.borrow();
        match phase {
            Phase::Synced => {
                let cause = Cause { trigger: kind.into(), at, trace: None };
                self.dispatch(&mut routing, touched, cause, object);
            }
            _ => {
                let mut fetch = touched.fetch.clone();
                if phase == Phase::SecretsNamed {
                    // Nothing is queued before everything is listed. Then all Ingresses are translated.
                    let mut ingresses: BTreeSet<IngressKey> = touched.ingresses.iter().cloned().collect();
                    for class in routing.affected_classes(&touched) {
                        let changed = routing.resolve_class(&class);
                        self.note_classes(&routing, changed);
                        if changed.settings {
                            ingresses.extend(routing.of_class(&class));
                        }
                    }
                    fetch.extend(routing.note_dependencies(ingresses));
                }
                self.secrets.extend(fetch.into_iter().map(|secret| (secret, ())));
                self.advance(&mut routing, phase);
            }
        }
    }

    /// Sends the touched objects to the parts that work on them.
    fn dispatch(
        &self,
        routing: &mut Routing,
        touched: Touched,
        mut cause: Cause,
        object: Option<ChangedObject>,
    ) {
        self.secrets.extend(touched.fetch.iter().map(|secret| (secret.clone(), ())));
        let classes = routing.affected_classes(&touched);
        let ingresses = routing.affected(&touched);
        if let Some(object) = object
            && !(ingresses.is_empty() && classes.is_empty())
            && self.leads()
        {
            cause.trace = self.spans.begin(object, cause.at, ingresses.len());
        }
        self.classes.extend(classes.into_iter().map(|class| (ObjectKey::new("", class), cause)));
        if touched.class_memory {
            self.classes_changed.notify_one();
            if self.leads() {
                routing.note_stored_outputs();
            } else {
                routing.adopt_stored_class_memory();
                self.resolve_classes(routing);
            }
        }
        let addresses = routing.touches_statuses(&touched);
        let left = routing.stores_mut().take_left();
        if addresses || !touched.statuses.is_empty() || !left.is_empty() {
            self.collect(|pending| {
                pending.left.extend(left);
                for key in &touched.statuses {
                    pending.statuses.entry(key.clone()).or_default();
                }
                pending.all_statuses |= addresses;
            });
        }
        self.ingresses.extend(ingresses.into_iter().map(|key| (key.0, cause)));
    }

    /// Reconciles one Ingress, which may be deleted.
    ///
    /// # Errors
    /// If it could not be translated. It stays as it was.
    pub fn reconcile(&self, key: &IngressKey, cause: Cause) -> Result<(), ReconcileError> {
        let _log = cause.trace.map(|trace| self.spans.log(Some(trace)).entered());
        let mut routing = self.routing();
        let since = Instant::now();
        // Also if it fails: an Ingress that can't be translated must not keep the parameters of its class from being ready.
        self.has_new_settings(key);
        let reconciled = routing.reconcile(key)?;
        if reconciled.translated {
            self.metrics.translations.inc(cause.trigger);
        }
        if let Some(trace) = cause.trace {
            self.spans.reconciled(trace, key, since, reconciled.change.outputs.iter());
        }
        self.note(&routing, key, reconciled, cause);
        Ok(())
    }

    /// An Ingress is translated with the new settings of its class. After the last one, there has to be a commit, even if
    /// nothing else has changed.
    fn has_new_settings(&self, key: &IngressKey) {
        let translated = |left: &mut HashSet<IngressKey>| left.remove(key) && left.is_empty();
        let mut notes = self.notes.lock();
        let all =
            notes.new_settings.iter_mut().filter_map(|(output, left)| translated(left).then_some(output));
        let complete: Vec<OutputKey> = all.cloned().collect();
        drop(notes);
        if !complete.is_empty() {
            self.collect(|pending| pending.look_at(complete));
        }
    }

    /// Reconciles one class, which may be deleted.
    pub fn reconcile_class(&self, class: &str, trace: Option<TraceNumber>) {
        let mut routing = self.routing();
        let changed = routing.resolve_class(class);
        if changed.settings {
            self.translate_class(&routing, class, trace);
        }
        self.note_classes(&routing, changed);
    }

    /// Updates all classes, after a change of what can be read of the cluster or of the stored settings.
    pub fn resolve_classes(&self, routing: &mut Routing) {
        let (settings, changed) = routing.resolve_classes();
        for class in settings {
            self.translate_class(routing, &class, None);
        }
        self.note_classes(routing, changed);
    }

    /// An output was committed with these Ingresses, which had moved to it. They now leave their previous outputs.
    pub fn settle(&self, output: &OutputKey, arrived: &[IngressKey]) {
        if arrived.is_empty() {
            return;
        }
        let mut routing = self.routing();
        for key in arrived {
            // If one has moved again, it waits for the commit of its new output.
            if routing.table().fragment(key).is_some_and(|fragment| fragment.output() == output) {
                self.leave(&mut routing, key);
            }
        }
    }

    /// Removes Ingresses from their old outputs if they have been in two outputs for longer than this. There may be no
    /// commit for now, and on a follower there is none. A follower then forgets the outputs that the leader has given up.
    pub fn settle_overdue(&self, longest: Duration) {
        let mut overdue = Vec::new();
        let mut routing = self.routing();
        self.notes.lock().moving.retain(|key, since| {
            let stays = since.elapsed() < longest;
            if !stays {
                overdue.push(key.clone());
            }
            stays
        });
        for key in overdue {
            self.leave(&mut routing, &key);
        }
        if !self.leads() {
            routing.forget_given_up();
        }
    }

    fn leave(&self, routing: &mut Routing, key: &IngressKey) {
        let change = routing.settle(key);
        self.notes.lock().moving.remove(key);
        self.report_problems(change.problems);
        // This is not a user's change, so nobody waits for it, and neither do statuses.
        self.collect(|pending| pending.look_at(change.outputs));
    }

    /// Whether some class needs the labels of namespaces, to wait for changes.
    pub fn namespaces_wanted(&self) -> watch::Receiver<bool> {
        self.namespaces_wanted.subscribe()
    }

    fn translate_class(&self, routing: &Routing, class: &str, trace: Option<TraceNumber>) {
        let cause = Cause { trigger: Trigger::IngressClass, at: Instant::now(), trace };
        let ingresses = routing.of_class(class);
        if let Some(trace) = trace {
            self.spans.queued(trace, ingresses.len());
        }
        let output = routing.classes().resolution(class).and_then(Resolution::output);
        if let Some(output) = output {
            let left = &mut self.notes.lock().new_settings;
            left.entry(output.clone()).or_default().extend(ingresses.iter().cloned());
        }
        self.collect(|pending| {
            // Its addresses may now come from another source.
            pending.all_statuses = true;
            pending.look_at(output.filter(|_| ingresses.is_empty()).cloned());
        });
        self.ingresses.extend(ingresses.into_iter().map(|key| (key.0, cause)));
    }

    fn note_classes(&self, routing: &Routing, changed: Changed) {
        let wanted = routing.classes().needs_namespaces();
        self.namespaces_wanted.send_if_modified(|held| std::mem::replace(held, wanted) != wanted);
        if changed.settings || changed.memory {
            self.publish_new_outputs(routing);
        }
        if changed.pause {
            self.look_at_outputs(routing);
        }
        if changed.verdict || changed.memory || changed.settings {
            self.classes_changed.notify_one();
        }
    }

    /// A class was paused or resumed. The publisher determines which outputs this concerns.
    fn look_at_outputs(&self, routing: &Routing) {
        self.collect(|pending| {
            // This is not a user's change, so nobody waits for it.
            pending.look_at(routing.table().outputs().map(|(key, _)| key.clone()));
            pending.all_statuses = true;
        });
    }

    /// A known output that was never tried has to be committed, even if it is empty.
    fn publish_new_outputs(&self, routing: &Routing) {
        let first = Waiting { change: Some(Instant::now()), deletion: None };
        let mut notes = self.notes.lock();
        let Notes { pending, publications, leading, .. } = &mut *notes;
        if *leading {
            for (output, _) in routing.table().outputs().filter(|(key, _)| !publications.contains_key(*key)) {
                pending.outputs.entry(output.clone()).or_default().since(first);
            }
            drop(notes);
            self.changed.notify_one();
        }
    }

    /// Records the result of a reconciliation.
    fn note(&self, routing: &Routing, key: &IngressKey, reconciled: Reconciled, cause: Cause) {
        self.secrets.extend(reconciled.fetch.into_iter().map(|secret| (secret, ())));
        // If there are problems, the Ingress or a Service that it uses may be a new object with the same name.
        let again = routing.has_problems(key).then(|| key.clone());
        self.report_problems(reconciled.problems.into_iter().chain(again));
        {
            let mut notes = self.notes.lock();
            if !routing.table().is_moving(key) {
                notes.moving.remove(key);
            } else if !notes.moving.contains_key(key) {
                notes.moving.insert(key.clone(), Instant::now());
            }
        }
        let waiting = if reconciled.translated {
            Waiting { change: Some(cause.at), deletion: None }
        } else {
            Waiting { change: None, deletion: Some(cause.at) }
        };
        let status = cause.trigger == Trigger::Ingress || reconciled.change.fragment;
        self.collect(|pending| {
            if status {
                let output = pending.statuses.entry(key.clone()).or_default();
                if let Some(changed) = reconciled.change.outputs.first() {
                    *output = Some(changed.clone());
                }
            }
            for output in reconciled.change.outputs {
                pending.outputs.entry(output).or_default().since(waiting);
            }
        });
    }
}

#[cfg(test)]
mod tests;
