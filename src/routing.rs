//! Turns the changes of an event into routing. Offline rendering and the live operator share this path.
//!
//! `Routing` holds the objects, their dependencies and the table of fragments. It is a plain value without I/O. If
//! several tasks share it, it is behind a lock.

mod outputs;
mod panics;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use panics::ReconcileError;

use crate::index::{Dependencies, DependencyIndex};
use crate::kubernetes::key::{IngressKey, SecretKey};
use crate::kubernetes::{Ingress, Service, ServiceType};
use crate::parameters::classes::{Changed, Classes, NamespaceSource, Sources};
use crate::table::{Change, Table};
use crate::translate;
use crate::translate::class::{self, Ownership};
use crate::translate::problem::Problem;
use crate::translate::settings::{ClassOptions, Settings, StatusSource};
use crate::watch::{Asked, Stores, Touched, Watched};
use outputs::KnownOutputs;
use panics::caught;

/// Objects in, routing out.
pub struct Routing {
    stores: Stores,
    index: DependencyIndex,
    table: Table,
    options: ClassOptions,
    classes: Classes,
    sources: Sources,
    refused: HashMap<IngressKey, Problem>,
    known_outputs: KnownOutputs,
    /// Reconciliations so far, and the last one of each class.
    reconciled: u64,
    class_changes: HashMap<Arc<str>, u64>,
}

/// The result of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// It was translated: it is ours, and its class admits it.
    pub translated: bool,
    pub change: Change,
    /// Ingresses whose problems changed, without duplicates.
    pub problems: Vec<IngressKey>,
    /// Secrets that it names whose data must be fetched.
    pub fetch: Vec<SecretKey>,
}

impl Routing {
    /// Empty. `settings` are the operator's own.
    pub fn new(watched: Watched, options: ClassOptions, settings: Arc<Settings>) -> Self {
        Self {
            stores: Stores::new(watched),
            index: DependencyIndex::default(),
            table: Table::default(),
            classes: Classes::new(&options.controller_name, settings),
            options,
            sources: Sources { parameters: true, namespaces: NamespaceSource::Pending },
            refused: HashMap::new(),
            known_outputs: KnownOutputs::default(),
            reconciled: 0,
            class_changes: HashMap::new(),
        }
    }

    /// The objects.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The objects, to apply events to. Pass what an event touched to [`Routing::affected`].
    pub fn stores_mut(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// The objects and the users of Secrets, for events of Secrets.
    pub fn stores_and_index(&mut self) -> (&mut Stores, &DependencyIndex) {
        (&mut self.stores, &self.index)
    }

    /// A GET for a Secret begins; `None` if none is needed, or nobody names the Secret.
    pub fn ask_for_secret(&self, key: &SecretKey) -> Option<Asked> {
        self.index.secret_is_named(key).then(|| self.stores.secrets().ask(key)).flatten()
    }

    /// A GET for a Secret ended. Its result is dropped if nobody names the Secret any more.
    pub fn release_unnamed(&mut self, key: &SecretKey) {
        if !self.index.secret_is_named(key) {
            self.stores.release_secret(key);
        }
    }

    /// The routing.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The routing, to cut it into shards.
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// The settings of an Ingress that is ours and admitted by its class.
    pub fn settings(&self, key: &IngressKey) -> Option<&Arc<Settings>> {
        self.table.fragment(key).map(|fragment| &fragment.settings)
    }

    /// The operator's settings and those of every class.
    pub fn all_settings(&self) -> Vec<Arc<Settings>> {
        let mut all = vec![Arc::clone(self.classes.defaults())];
        for settings in self.classes.settings() {
            if !all.iter().any(|known| Arc::ptr_eq(known, settings)) {
                all.push(Arc::clone(settings));
            }
        }
        all
    }

    /// All problems of an Ingress and of the Services that it uses.
    pub fn problems(&self, key: &IngressKey) -> Vec<Problem> {
        match self.refused.get(key) {
            Some(problem) => vec![problem.clone()],
            None => self.table.problems(key),
        }
    }

    /// Whether [`Routing::problems`] gives any.
    pub fn has_problems(&self, key: &IngressKey) -> bool {
        self.refused.contains_key(key) || self.table.has_problems(key)
    }

    /// The Ingresses that are ours, including refused ones, in no order.
    pub fn own_ingresses(&self) -> Vec<IngressKey> {
        let fragments = self.table.fragments().map(|fragment| fragment.ingress.clone());
        fragments.chain(self.refused.keys().cloned()).collect()
    }

    /// All problems of all Ingresses, sorted, without duplicates.
    pub fn all_problems(&self) -> BTreeSet<Problem> {
        let refused = self.refused.values().cloned();
        refused
            .chain(self.table.fragments().flat_map(|fragment| self.table.problems(&fragment.ingress)))
            .collect()
    }

    /// The Ingresses to reconcile because of an event, without duplicates. Those of a class follow from
    /// [`Routing::resolve_class`].
    pub fn affected(&self, touched: &Touched) -> BTreeSet<IngressKey> {
        let mut keys: BTreeSet<IngressKey> = touched.ingresses.iter().cloned().collect();
        for service in touched.services.iter().chain(&touched.endpoints) {
            keys.extend(self.index.dependents_of_service(service).cloned());
        }
        for secret in &touched.secrets {
            keys.extend(self.index.dependents_of_secret(secret).cloned());
        }
        if touched.nodes {
            keys.extend(self.index.dependents_of_nodes().cloned());
        }
        for namespace in &touched.namespaces {
            keys.extend(self.index.dependents_of_namespace(namespace).cloned());
        }
        keys
    }

    /// Whether Ingresses and everything that determines their owners have been listed.
    pub fn classes_listed(&self) -> bool {
        let stores = &self.stores;
        stores.ingresses().synced()
            && (self.options.lookup_disabled
                || stores.classes().synced()
                    && stores.parameters().synced()
                    && stores.class_memory().synced())
    }

    /// Whether everything has been listed.
    pub fn all_listed(&self) -> bool {
        let stores = &self.stores;
        self.classes_listed()
            && stores.routing_synced()
            && (!stores.watched().nodes || stores.nodes().collection.synced())
            // A class that selects by label has no routing before the labels are known.
            && !(self.classes.needs_namespaces() && self.sources.namespaces == NamespaceSource::Pending)
    }

    /// Whether every needed Secret was fetched once, or is refused for good. A single failed GET does not count, because the
    /// last leader may have published the certificate. Newer versions are not waited for: a Secret that changes faster than
    /// it can be read must not delay the others.
    pub fn all_fetched(&self) -> bool {
        !self.index.named_secrets().any(|secret| self.stores.secrets().is_awaited(secret))
    }

    /// Whether the addresses for statuses may have changed.
    pub fn touches_statuses(&self, touched: &Touched) -> bool {
        let published = |settings: &Settings| match &settings.status {
            StatusSource::None | StatusSource::Fixed { .. } => false,
            StatusSource::NodeInternalIPs => touched.nodes,
            StatusSource::PublishedService(service) => {
                let on_nodes = |service: &Service| service.kind == ServiceType::NodePort;
                touched.services.contains(service)
                    || touched.nodes && self.stores.service(service).is_some_and(on_nodes)
            }
        };
        published(self.classes.defaults()) || self.classes.settings().any(|settings| published(settings))
    }

    /// Whether an annotation pauses the output that an Ingress is in, or the class of one that is in none, or that class is
    /// withheld.
    pub fn is_paused(&self, key: &IngressKey) -> bool {
        if let Some(fragment) = self.table.fragment(key) {
            return self.classes.pausing(fragment.output()).is_some();
        }
        let class = self.index.dependencies(key).and_then(|dependencies| dependencies.class.as_deref());
        class.is_some_and(|class| self.classes.is_paused(class))
    }

    /// All our classes with the resolution of their parameters.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The classes to reconcile because of an event.
    pub fn affected_classes(&self, touched: &Touched) -> BTreeSet<Arc<str>> {
        self.classes.affected(&self.stores, touched)
    }

    /// Sets what can be read of the cluster beside IngressClasses. Returns whether that changed.
    pub fn set_sources(&mut self, change: impl FnOnce(&mut Sources)) -> bool {
        let before = self.sources;
        change(&mut self.sources);
        self.sources != before
    }

    /// Brings one class up to date, which may be gone.
    pub fn resolve_class(&mut self, name: &str) -> Changed {
        let mut changed = self.classes.resolve(&self.stores, self.sources, name);
        if self.classes.resolution(name).is_none() {
            self.class_changes.remove(name);
        }
        if changed.settings {
            changed.memory |= self.declare_outputs();
        }
        changed
    }

    /// Brings all classes up to date. Returns those whose Ingresses have to be translated again.
    pub fn resolve_classes(&mut self) -> (BTreeSet<Arc<str>>, Changed) {
        let (settings, mut changed) = self.classes.resolve_all(&self.stores, self.sources);
        self.class_changes.retain(|class, _| self.classes.resolution(class).is_some());
        changed.memory |= self.declare_outputs();
        (settings, changed)
    }

    /// The Ingresses that name a class.
    pub fn of_class(&self, class: &str) -> Vec<IngressKey> {
        self.index.dependents_of_class(class).cloned().collect()
    }

    /// [`Routing::note_dependencies`] of every Ingress.
    pub fn note_all_dependencies(&mut self) {
        let keys = self.stores.ingresses().iter().map(|(key, _)| IngressKey(key.clone())).collect();
        self.note_dependencies(keys);
    }

    /// Records the dependencies of Ingresses, which may be deleted, without translating them: before Secrets are
    /// listed, it must be known which of them are named. Returns those whose data must be fetched.
    pub fn note_dependencies(&mut self, keys: BTreeSet<IngressKey>) -> Vec<SecretKey> {
        let mut fetch = Vec::new();
        for key in &keys {
            let on = self
                .stores
                .ingresses()
                .get(key)
                .map(|ingress| dependencies(key, ingress, self.claim(ingress) != Ownership::NotOurs));
            fetch.extend(self.depend(key, on));
        }
        fetch
    }

    /// Replaces the dependencies of an Ingress; `None` once it is gone. Drops the data of Secrets that no Ingress names
    /// any more, and returns the newly named ones whose data must be fetched.
    fn depend(&mut self, key: &IngressKey, on: Option<Dependencies>) -> Vec<SecretKey> {
        let mut named = match on {
            Some(on) => self.index.set(key, on),
            None => self.index.remove(key),
        };
        named.last.iter().for_each(|secret| self.stores.release_secret(secret));
        named.first.retain(|secret| self.stores.secrets().needs_fetch(secret));
        named.first
    }

    fn claim(&self, ingress: &Ingress) -> Ownership {
        class::claim(ingress, &self.options, self.classes.defaults(), |name| self.classes.state(name))
    }

    /// Updates the table with every Ingress, once the first lists are complete.
    ///
    /// Returns the number of translated Ingresses, and the Secrets whose data must be fetched.
    pub fn reconcile_all(&mut self) -> (usize, Vec<SecretKey>) {
        let stored = self.stores.ingresses().iter().map(|(key, _)| IngressKey(key.clone()));
        // Including those that have gone since they were translated.
        let keys: BTreeSet<IngressKey> = stored.chain(self.own_ingresses()).collect();
        let mut translated = 0;
        let mut fetch = Vec::new();
        for key in &keys {
            match self.reconcile(key) {
                Ok(reconciled) => {
                    translated += usize::from(reconciled.translated);
                    fetch.extend(reconciled.fetch);
                }
                Err(error) => tracing::error!(%error, "an Ingress is left out"),
            }
        }
        (translated, fetch)
    }

    /// Removes a moved Ingress from its previous output.
    pub fn settle(&mut self, key: &IngressKey) -> Change {
        self.table.settle(key)
    }

    /// When an Ingress of a class was reconciled last, as a number that only grows.
    pub fn last_change(&self, class: &str) -> u64 {
        self.class_changes.get(class).copied().unwrap_or_default()
    }

    fn note_change(&mut self, key: &IngressKey) {
        self.reconciled += 1;
        let class = self.index.dependencies(key).and_then(|dependencies| dependencies.class.clone());
        if let Some(class) = class.filter(|class| self.classes.resolution(class).is_some()) {
            self.class_changes.insert(class, self.reconciled);
        }
    }

    /// Updates the table with one Ingress, which may be deleted. If it names a Secret whose data has not been fetched
    /// yet, it waits for the answer, which may be an error.
    ///
    /// # Errors
    /// The translation panicked; nothing has changed.
    pub fn reconcile(&mut self, key: &IngressKey) -> Result<Reconciled, ReconcileError> {
        self.note_change(key);
        let reconciled = self.reconcile_ingress(key)?;
        self.note_change(key);
        for other in &reconciled.problems {
            self.note_change(other);
        }
        Ok(reconciled)
    }

    fn reconcile_ingress(&mut self, key: &IngressKey) -> Result<Reconciled, ReconcileError> {
        let held = self.stores.ingresses().entry(key);
        let Some((own, ingress)) = held.map(|(own, ingress)| (IngressKey(own.clone()), Arc::clone(ingress)))
        else {
            self.depend(key, None);
            return Ok(self.withdraw(key, None));
        };
        // The key of the stores, so that everything made from it shares its memory.
        let key = &own;
        let claim = self.claim(&ingress);
        // A refused Ingress requests nothing either: when it is admitted, its Secrets are named for the first time.
        let mut dependencies = dependencies(key, &ingress, matches!(claim, Ownership::Ours(_)));
        let settings = match claim {
            Ownership::Ours(settings) => settings,
            Ownership::NotOurs => {
                self.depend(key, Some(dependencies));
                return Ok(self.withdraw(key, None));
            }
            Ownership::Refused(category) => {
                self.depend(key, Some(dependencies));
                return Ok(self.withdraw(key, Some(class::refusal(&ingress, category))));
            }
        };
        if dependencies.secrets.iter().any(|secret| self.stores.secrets().is_unread(secret)) {
            // It is reconciled again with the answer. Until then it stays as it was, so that it does not lose its
            // certificates for one commit.
            let mut fetch = dependencies.secrets.to_vec();
            self.depend(key, Some(dependencies));
            fetch.retain(|secret| self.stores.secrets().needs_fetch(secret));
            return Ok(Reconciled { fetch, ..Reconciled::default() });
        }
        let mut fragment = caught(key, || translate::translate(key, &ingress, &settings, &self.stores))?;
        dependencies.nodes = fragment.uses_nodes;
        dependencies.namespaces = std::mem::take(&mut fragment.namespaces);
        let fetch = self.depend(key, Some(dependencies));
        let admitted = self.refused.remove(key).is_some();
        let mut change = self.table.set_moving(fragment);
        let mut problems = std::mem::take(&mut change.problems);
        if admitted && !problems.contains(key) {
            problems.push(key.clone());
        }
        Ok(Reconciled { translated: true, change, problems, fetch })
    }

    /// The Ingress has no routing (any more).
    fn withdraw(&mut self, key: &IngressKey, refusal: Option<Problem>) -> Reconciled {
        let mut change = self.table.remove(key);
        let mut problems = std::mem::take(&mut change.problems);
        let before = match refusal {
            Some(refusal) => self.refused.insert(key.clone(), refusal),
            None => self.refused.remove(key),
        };
        if before.as_ref() != self.refused.get(key) && !problems.contains(key) {
            problems.push(key.clone());
        }
        Reconciled { translated: false, change, problems, fetch: Vec::new() }
    }
}

/// The dependencies of an Ingress; one that is not ours depends only on its class.
fn dependencies(key: &IngressKey, ingress: &Ingress, ours: bool) -> Dependencies {
    let dependencies = Dependencies::new(ingress, key.shared_namespace());
    if ours { dependencies } else { Dependencies { class: dependencies.class, ..Dependencies::default() } }
}

#[cfg(test)]
#[path = "routing/namespace_tests.rs"]
mod namespace_tests;
#[cfg(test)]
#[path = "routing/tests.rs"]
mod tests;
