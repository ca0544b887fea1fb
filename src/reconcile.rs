//! From what an event touched to the routing: the one path that offline rendering and the live operator share.
//!
//! `Routing` holds the objects, who depends on what, and the table of fragments. It is a plain value without I/O;
//! whoever shares it between tasks puts a lock around it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::index::{Dependencies, Index};
use crate::kubernetes::key::{IngressKey, SecretKey};
use crate::table::{Change, Table};
use crate::translate;
use crate::translate::class::{self, Claim};
use crate::translate::problem::Problem;
use crate::translate::settings::{ClassOptions, Settings};
use crate::watch::stores::{Stores, Watched};
use crate::watch::touched::Touched;

/// Objects in, routing out.
#[derive(Debug)]
pub struct Routing {
    stores: Stores,
    index: Index,
    table: Table,
    classes: ClassOptions,
    defaults: Arc<Settings>,
    /// Ingresses that are ours, with what their translation found wrong.
    ours: HashMap<IngressKey, Ours>,
}

/// An Ingress that is ours.
#[derive(Debug)]
struct Ours {
    /// `None` when its class refuses it.
    settings: Option<Arc<Settings>>,
    problems: Vec<Problem>,
}

/// What one reconciliation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// It was translated: it is ours and its class admits it.
    pub translated: bool,
    /// What changed in the table.
    pub change: Change,
    /// Its problems changed.
    pub problems_changed: bool,
    /// Its status may have to be written or withdrawn.
    pub status: bool,
    /// Secrets that it names and whose data must be fetched.
    pub fetch: Vec<SecretKey>,
}

impl Routing {
    /// Nothing yet.
    pub fn new(watched: Watched, classes: ClassOptions) -> Self {
        let defaults = Arc::clone(&watched.settings);
        Self {
            stores: Stores::new(watched),
            index: Index::default(),
            table: Table::default(),
            classes,
            defaults,
            ours: HashMap::new(),
        }
    }

    /// The objects.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The objects, to put events into. What an event touched goes to [`Routing::affected`].
    pub fn stores_mut(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// The objects and who names which Secret, for events of Secrets.
    pub fn stores_and_index(&mut self) -> (&mut Stores, &Index) {
        (&mut self.stores, &self.index)
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
        self.ours.get(key)?.settings.as_ref()
    }

    /// The Ingresses that are ours, in no order.
    pub fn ours(&self) -> impl Iterator<Item = (&IngressKey, Option<&Arc<Settings>>)> {
        self.ours.iter().map(|(key, ours)| (key, ours.settings.as_ref()))
    }

    /// Everything that is wrong with an Ingress and the Services that it leads to.
    pub fn problems(&self, key: &IngressKey) -> impl Iterator<Item = &Problem> {
        self.ours.get(key).into_iter().flat_map(|ours| &ours.problems).chain(self.table.problems(key))
    }

    /// The Ingresses to reconcile because of what an event touched. Each once.
    pub fn affected(&self, touched: &Touched) -> BTreeSet<IngressKey> {
        let mut keys: BTreeSet<IngressKey> = touched.ingresses.iter().cloned().collect();
        for service in &touched.services {
            keys.extend(self.index.dependents_of_service(service).cloned());
        }
        for secret in &touched.secrets {
            keys.extend(self.index.dependents_of_secret(secret).cloned());
        }
        for class in &touched.classes {
            keys.extend(self.index.dependents_of_class(class).cloned());
        }
        if touched.nodes {
            keys.extend(self.index.dependents_of_nodes().cloned());
        }
        if touched.namespaces {
            keys.extend(self.index.dependents_of_namespaces().cloned());
        }
        keys
    }

    /// Notes what an Ingress depends on, without translating it: before Secrets are listed it must be known which of
    /// them anybody names.
    pub fn note_dependencies(&mut self, key: &IngressKey) {
        let Some(ingress) = self.stores.ingresses().collection().get(key).map(Arc::clone) else {
            return;
        };
        let ours = class::claim(&ingress, &self.classes, &self.defaults, &self.stores) != Claim::NotOurs;
        self.index.set(key, dependencies(&ingress, ours));
    }

    /// Brings the table up to date with one Ingress, which may be gone.
    pub fn reconcile(&mut self, key: &IngressKey) -> Reconciled {
        let Some(ingress) = self.stores.ingresses().collection().get(key).map(Arc::clone) else {
            let named = self.index.remove(key);
            return self.withdraw(key, named.last);
        };
        let claim = class::claim(&ingress, &self.classes, &self.defaults, &self.stores);
        let mut dependencies = dependencies(&ingress, claim != Claim::NotOurs);
        let settings = match claim {
            Claim::NotOurs => {
                let named = self.index.set(key, dependencies);
                return self.withdraw(key, named.last);
            }
            Claim::Refused(category) => {
                let named = self.index.set(key, dependencies);
                let mut reconciled = self.withdraw(key, named.last);
                let problems = vec![class::refusal(&ingress, category)];
                reconciled.problems_changed |= self.remember(key, None, problems);
                return reconciled;
            }
            Claim::Ours(settings) => settings,
        };
        let mut fragment = translate::translate(&ingress, &settings, &self.stores);
        dependencies.nodes = fragment.uses_nodes;
        dependencies.namespaces = fragment.uses_namespaces;
        let named = self.index.set(key, dependencies);
        for secret in &named.last {
            self.stores.release_secret(secret);
        }
        let problems = std::mem::take(&mut fragment.problems);
        Reconciled {
            translated: true,
            problems_changed: self.remember(key, Some(settings), problems),
            change: self.table.set(fragment),
            status: true,
            fetch: named.first.into_iter().filter(|secret| self.stores.secret_needs_fetch(secret)).collect(),
        }
    }

    fn remember(&mut self, key: &IngressKey, settings: Option<Arc<Settings>>, problems: Vec<Problem>) -> bool {
        let before = self.ours.insert(key.clone(), Ours { settings, problems });
        let now = self.ours.get(key).map_or(&[][..], |ours| &ours.problems);
        before.map_or(!now.is_empty(), |before| before.problems != now)
    }

    fn withdraw(&mut self, key: &IngressKey, released: Vec<SecretKey>) -> Reconciled {
        for secret in &released {
            self.stores.release_secret(secret);
        }
        let before = self.ours.remove(key);
        let change = self.table.remove(key);
        Reconciled {
            translated: false,
            change,
            problems_changed: before.as_ref().is_some_and(|ours| !ours.problems.is_empty()),
            status: true,
            fetch: Vec::new(),
        }
    }
}

/// What an Ingress depends on; one that is not ours only on its class.
fn dependencies(ingress: &k8s_openapi::api::networking::v1::Ingress, ours: bool) -> Dependencies {
    let dependencies = Dependencies::of(ingress);
    if ours { dependencies } else { Dependencies { class: dependencies.class, ..Dependencies::default() } }
}
