//! Every IngressClass of ours, resolved and kept up to date from what the stores hold: the one path that `render`
//! and the live operator share. Without I/O; what comes out for the API server is in [`Classes::memory`],
//! [`Classes::problems`] and [`Classes::observed`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use super::memory::Memory;
use super::resolve::{
    Found, Inputs, NamespaceLabels, Reason, Resolution, Standing, Verdict, is_ours, output, parameters_name,
    resolve,
};
use super::resource::ClassCounts;
use super::status::{CountsKnown, Observed, Publication};
use crate::kubernetes::IngressClass;
use crate::kubernetes::key::{ObjectKey, OutputKey};
use crate::translate::pause::Pause;
use crate::translate::problem::{Kind, Problem, Subject};
use crate::translate::settings::{ClassState, Settings};
use crate::watch::{Stores, Touched};

/// What can be read of the cluster beside IngressClasses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Whether IngressClassParameters are listed, which needs the CRD.
    pub parameters: bool,
    pub namespaces: NamespaceSource,
}

/// Whether Namespaces can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceSource {
    Listed,
    /// They are not watched yet, or their first list is in progress.
    Pending,
    /// They have not been readable since the start. If they were listed once and a watch fails later, the stored ones
    /// are still used as [`NamespaceSource::Listed`].
    Unavailable,
}

/// The changes that resolving a class again caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Its Ingresses have to be translated again.
    pub settings: bool,
    /// Its problem, verdict or settings changed: this concerns Events, metrics and the status of its parameters.
    pub verdict: bool,
    /// [`Classes::memory`] has to be written.
    pub memory: bool,
    /// It was paused, withheld or resumed.
    pub pause: bool,
}

impl Changed {
    fn add(&mut self, other: Self) {
        self.settings |= other.settings;
        self.verdict |= other.verdict;
        self.memory |= other.memory;
        self.pause |= other.pause;
    }
}

/// Every IngressClass of ours.
#[derive(Clone, Debug)]
pub struct Classes {
    controller_name: String,
    /// The operator's own settings, for classes without parameters.
    defaults: Arc<Settings>,
    memory: Memory,
    resolutions: BTreeMap<Arc<str>, Resolution>,
    /// Our classes that an annotation pauses.
    pauses: BTreeMap<Arc<str>, Pause>,
}

impl Classes {
    /// No classes yet. Ours will be those of this controller.
    pub fn new(controller_name: &str, defaults: Arc<Settings>) -> Self {
        Self {
            controller_name: controller_name.to_owned(),
            defaults,
            memory: Memory::default(),
            resolutions: BTreeMap::new(),
            pauses: BTreeMap::new(),
        }
    }

    /// The resolution of a class; `None` if it does not exist or is another controller's.
    pub fn state(&self, class: &str) -> Option<&ClassState> {
        Some(&self.resolutions.get(class)?.state)
    }

    /// The operator's own settings.
    pub fn defaults(&self) -> &Arc<Settings> {
        &self.defaults
    }

    /// The settings of the classes that have been accepted, by name of the class.
    pub fn settings(&self) -> impl Iterator<Item = &Arc<Settings>> {
        self.resolutions.values().filter_map(|resolution| match &resolution.state {
            ClassState::Accepted(settings) => Some(settings),
            ClassState::NotAccepted => None,
        })
    }

    /// Loads the settings stored in a ConfigMap, replacing the previous ones: at the start, and on a follower at every
    /// change. Returns the keys that can't be read, which count as absent. All classes have to be resolved again.
    ///
    /// Without a ConfigMap nothing is loaded: a leader never deletes it, so somebody else did, and the settings known
    /// here are the only ones left.
    pub fn adopt(&mut self, map: Option<&ConfigMap>) -> Vec<String> {
        let Some(map) = map else { return Vec::new() };
        let (memory, broken) = Memory::decode(map);
        self.memory = memory;
        broken
    }

    /// The outputs of the stored settings, including those of deleted classes.
    pub fn remembered_outputs(&self) -> BTreeSet<OutputKey> {
        let entries = self.memory.classes().filter_map(|class| self.memory.get(class));
        let outputs = entries.map(|entry| output(&entry.spec, &self.defaults));
        outputs.chain(self.memory.outputs().iter().cloned()).collect()
    }

    /// Stores which outputs may have content. Returns whether that changed anything.
    pub fn remember_outputs(&mut self, outputs: BTreeSet<OutputKey>) -> bool {
        self.memory.set_outputs(outputs)
    }

    /// The settings that a leader stores in the ConfigMap.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The resolution of one of our classes.
    pub fn resolution(&self, class: &str) -> Option<&Resolution> {
        self.resolutions.get(class)
    }

    /// All our classes with their resolutions, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Resolution)> {
        self.resolutions.iter()
    }

    /// Whether some class needs the labels of namespaces, so that Namespaces have to be watched.
    pub fn needs_namespaces(&self) -> bool {
        self.resolutions.values().any(|resolution| resolution.uses_namespace_labels)
    }

    /// All problems of classes and of the parameters that they name, sorted, without duplicates.
    pub fn problems(&self) -> BTreeSet<Problem> {
        self.resolutions.keys().flat_map(|class| self.problems_of(class)).collect()
    }

    /// All problems of a class and of its parameters, including that it is paused.
    pub fn problems_of(&self, class: &str) -> Vec<Problem> {
        let resolution = self.resolutions.get(class);
        let told = resolution.into_iter().flat_map(|one| one.problem.iter().chain(&one.faults)).cloned();
        let subject = || Subject::cluster_scoped(Kind::IngressClass, class);
        let effect = "nothing new is published in the class's output, and its statuses are left alone,";
        let paused = self.pauses.get(class).into_iter().flat_map(|pause| pause.problems(&subject(), effect));
        told.chain(paused).collect()
    }

    /// Whether nothing of a class may change: an annotation pauses it, or its publishing is withheld.
    pub fn is_paused(&self, class: &str) -> bool {
        self.pauses.contains_key(class)
            || self.resolution(class).is_some_and(|resolution| resolution.withheld.is_some())
    }

    /// The first class, by name, that pauses an output. In an output that several classes share, the content of one
    /// class can't be told from the others', so an output is paused as a whole.
    pub fn pausing(&self, output: &OutputKey) -> Option<&Arc<str>> {
        self.pauses.keys().find(|class| self.output_of(class) == Some(output))
    }

    /// The first class by name that published in this output and is [`Standing::Withheld`]. The output is withheld as a
    /// whole, like a paused one, because it is unknown which parts are of the class.
    pub fn withholding(&self, output: &OutputKey) -> Option<&Arc<str>> {
        let mut all = self.resolutions.iter();
        all.find(|(_, resolution)| resolution.withheld.as_ref() == Some(output)).map(|(class, _)| class)
    }

    /// The output of a class.
    fn output_of(&self, class: &str) -> Option<&OutputKey> {
        self.resolution(class)?.output()
    }

    /// The outputs of all classes.
    pub fn outputs(&self) -> impl Iterator<Item = &OutputKey> {
        self.resolutions.values().filter_map(Resolution::output)
    }

    /// The classes to resolve again because of an event. A change of the stored settings concerns only followers, see
    /// [`Classes::adopt`].
    pub fn affected(&self, stores: &Stores, touched: &Touched) -> BTreeSet<Arc<str>> {
        let mut affected: BTreeSet<Arc<str>> = touched.classes.iter().cloned().collect();
        if !touched.parameters.is_empty() {
            let names = |class: &Arc<IngressClass>| {
                parameters_name(class).is_some_and(|name| touched.parameters.iter().any(|one| **one == *name))
            };
            let classes = stores.classes().iter();
            affected.extend(classes.filter(|(_, class)| names(class)).map(|(key, _)| key.name().into()));
        }
        if !touched.labels.is_empty() {
            let select = self.resolutions.iter().filter(|(_, resolution)| resolution.uses_namespace_labels);
            affected.extend(select.map(|(class, _)| Arc::clone(class)));
        }
        affected
    }

    /// Updates all classes, and forgets those that are deleted or not ours: at the start, once the stores are filled,
    /// and when [`Sources`] or the stored settings changed. Returns the classes whose Ingresses have to be translated
    /// again.
    pub fn resolve_all(&mut self, stores: &Stores, sources: Sources) -> (BTreeSet<Arc<str>>, Changed) {
        let mut names: BTreeSet<Arc<str>> =
            stores.classes().iter().map(|(key, _)| key.name().into()).collect();
        names.extend(self.memory.classes().cloned());
        names.extend(self.resolutions.keys().cloned());
        let mut changed = Changed::default();
        let mut settings = BTreeSet::new();
        for name in names {
            let class = self.resolve(stores, sources, &name);
            if class.settings {
                settings.insert(name);
            }
            changed.add(class);
        }
        (settings, changed)
    }

    /// Updates one class, which may be deleted.
    pub fn resolve(&mut self, stores: &Stores, sources: Sources, name: &str) -> Changed {
        let class = stores.classes().get(&ObjectKey::new("", name)).map(Arc::clone);
        let pause = Pause::new(class.as_ref().and_then(|class| class.metadata.annotations.as_ref()));
        let resolution = class.as_ref().and_then(|class| self.resolution_of(stores, sources, class));
        let Some(mut resolution) = resolution else {
            let memory = self.memory.retain(|class| class != name);
            let known = self.resolutions.remove(name).is_some();
            let pause = self.pauses.remove(name).is_some();
            return Changed { settings: known, verdict: known, memory, pause };
        };
        if pause.holds() {
            self.freeze(stores, sources, name, &mut resolution);
        }
        let before = self.resolutions.get(name);
        // Missing labels say nothing about a class that has settings.
        if let Some(before) = before
            && matches!(before.state, ClassState::Accepted(_))
            && resolution.verdict.as_ref().is_some_and(|verdict| verdict.reason == Reason::Pending)
        {
            resolution.state = before.state.clone();
            (resolution.standing, resolution.withheld) = (Standing::LastAccepted, None);
        }
        let withheld = before.and_then(|before| before.withheld.as_ref()) != resolution.withheld.as_ref();
        let memory = resolution.accepted_now.take().is_some_and(|entry| self.memory.remember(name, entry));
        let settings = before.is_none_or(|before| before.state != resolution.state);
        let verdict = before.is_none_or(|before| {
            (&before.problem, &before.verdict, &before.faults, &before.object, before.standing)
                != (
                    &resolution.problem,
                    &resolution.verdict,
                    &resolution.faults,
                    &resolution.object,
                    resolution.standing,
                )
        });
        self.resolutions.insert(name.into(), resolution);
        let paused = if pause.holds() {
            self.pauses.insert(name.into(), pause.clone()) != Some(pause)
        } else {
            self.pauses.remove(name).is_some()
        };
        Changed { settings, verdict: verdict || paused, memory, pause: paused || withheld }
    }

    /// While a class is paused, its parameters are checked but do not take effect: they could send it to another
    /// output, and the content of this one would be withdrawn. A replica that has just started uses the stored
    /// settings, which a pause does not change either.
    fn freeze(&self, stores: &Stores, sources: Sources, name: &str, resolution: &mut Resolution) {
        let frozen = match self.resolutions.get(name) {
            Some(before) if before.withheld.is_none() => Some(before.clone()),
            _ => self.remembered(stores, sources, name),
        };
        if let Some(frozen) = frozen {
            if frozen.withheld.is_some() {
                resolution.standing = Standing::Withheld;
            } else if frozen.state != resolution.state
                && (frozen.standing == Standing::Current || resolution.standing == Standing::Withheld)
            {
                resolution.standing = Standing::LastAccepted;
            }
            (resolution.state, resolution.withheld) = (frozen.state, frozen.withheld);
            resolution.uses_namespace_labels |= frozen.uses_namespace_labels;
        }
        resolution.accepted_now = None;
    }

    /// The resolution of a class with parameters from the stored settings alone.
    fn remembered(&self, stores: &Stores, sources: Sources, name: &str) -> Option<Resolution> {
        let class = stores.classes().get(&ObjectKey::new("", name))?;
        class.spec.as_ref()?.parameters.as_ref()?;
        self.memory.get(name)?;
        let without = Sources { parameters: false, ..sources };
        self.resolution_of(stores, without, class)
    }

    fn resolution_of(&self, stores: &Stores, sources: Sources, class: &IngressClass) -> Option<Resolution> {
        if !is_ours(class, &self.controller_name) {
            return None;
        }
        let object =
            parameters_name(class).and_then(|name| stores.parameters().get(&ObjectKey::new("", name)));
        let inputs = Inputs {
            class,
            controller_name: &self.controller_name,
            parameters: match object {
                _ if !sources.parameters => Found::NotInstalled,
                Some(object) => Found::Spec(&object.spec),
                None => Found::Missing,
            },
            last_accepted: self.memory.get(class.metadata.name.as_deref().unwrap_or_default()),
            defaults: &self.defaults,
        };
        let mut labels = stores.labels().iter().map(|(key, labels)| (key.name(), &**labels));
        let namespaces = match sources.namespaces {
            NamespaceSource::Listed => NamespaceLabels::Known(&mut labels),
            NamespaceSource::Pending => NamespaceLabels::Pending,
            NamespaceSource::Unavailable => NamespaceLabels::Unavailable,
        };
        let resolution = resolve(&inputs, namespaces)?;
        Some(Resolution { generation: object.and_then(|object| object.generation), ..resolution })
    }

    /// The existing parameters objects that our classes name.
    pub fn objects(&self) -> BTreeSet<Arc<str>> {
        self.resolutions.values().filter_map(|resolution| resolution.object.clone()).collect()
    }

    /// The state of a parameters object, for its status.
    pub fn observed(
        &self,
        stores: &Stores,
        object: &str,
        publication: Publication,
        counts: ClassCounts,
        known: CountsKnown,
    ) -> Observed {
        let named = || self.resolutions.iter().filter(|(_, one)| one.object.as_deref() == Some(object));
        // Classes differ only in their fallback. The checked object is the same.
        let accepted: Option<Verdict> = named().find_map(|(_, resolution)| resolution.verdict.clone());
        let classes = named().map(|(class, resolution)| (Arc::clone(class), resolution.standing)).collect();
        let stored = stores.parameters().get(&ObjectKey::new("", object)).and_then(|one| one.generation);
        // A newer one may be stored that some class has not been resolved with yet.
        let generation = named().map(|(_, resolution)| resolution.generation).min().unwrap_or(stored);
        Observed { generation, accepted, classes, publication, counts, known }
    }
}

#[cfg(test)]
mod tests;
