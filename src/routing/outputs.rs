//! The known outputs: those of classes, and those that exist only to be emptied.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use super::Routing;
use crate::kubernetes::key::OutputKey;
use crate::parameters::memory;

/// What the leaders' ConfigMap says about outputs.
#[derive(Default)]
pub(super) struct KnownOutputs {
    /// Those that it listed when it was last seen.
    listed: BTreeSet<OutputKey>,
    /// Those that it no longer lists and that are still known here. Another installation may publish there now.
    given_up: BTreeSet<OutputKey>,
}

impl Routing {
    /// Loads the stored settings of classes from a ConfigMap, and returns the keys that can't be read. From then on,
    /// the outputs of stored classes are known: one whose class was deleted while nobody watched has to be emptied.
    pub fn adopt_class_memory(&mut self, map: Option<&ConfigMap>) -> Vec<String> {
        let broken = self.classes.adopt(map);
        if let Some(map) = map {
            self.note_listed_outputs(map);
        }
        for output in self.classes.remembered_outputs() {
            self.table.declare(&output);
        }
        self.forget_given_up();
        self.remember_outputs();
        broken
    }

    /// Loads the stored settings of classes from the stores, if there are any.
    pub fn adopt_stored_class_memory(&mut self) -> Vec<String> {
        let map = self.stores.class_memory().iter().map(|(_, map)| Arc::clone(map)).next();
        self.adopt_class_memory(map.as_deref())
    }

    /// Notes which outputs a leader's ConfigMap lists. A leader has given up those that it lists no longer.
    pub fn note_listed_outputs(&mut self, map: &ConfigMap) {
        let Some(listed) = memory::listed_outputs(map) else { return };
        let KnownOutputs { listed: before, given_up } = &mut self.known_outputs;
        given_up.extend(std::mem::take(before));
        given_up.retain(|output| !listed.contains(output));
        *before = listed;
    }

    /// [`Routing::note_listed_outputs`] of the ConfigMap in the stores, for a leader, which adopts nothing.
    pub fn note_stored_outputs(&mut self) {
        let map = self.stores.class_memory().iter().map(|(_, map)| Arc::clone(map)).next();
        if let Some(map) = map {
            self.note_listed_outputs(&map);
        }
    }

    /// Forgets the outputs that the leader has given up, for a follower. One that still has content here is forgotten once it
    /// is empty.
    pub fn forget_given_up(&mut self) {
        let mut given_up = std::mem::take(&mut self.known_outputs.given_up);
        let known = given_up.len();
        given_up.retain(|output| {
            self.is_retired(output) && self.table.output(output).is_some() && !self.table.forget(output)
        });
        if given_up.len() < known {
            self.remember_outputs();
        }
        self.known_outputs.given_up = given_up;
    }

    /// The output of a class exists before its first Ingress. Returns whether there is a new one to store.
    pub(super) fn declare_outputs(&mut self) -> bool {
        for output in self.classes.outputs() {
            self.table.declare(output);
        }
        self.remember_outputs()
    }

    fn remember_outputs(&mut self) -> bool {
        let own = &self.classes.defaults().output;
        let outputs = self.table.outputs().map(|(key, _)| key).filter(|key| *key != own).cloned().collect();
        self.classes.remember_outputs(outputs)
    }

    /// Whether an output exists only to be emptied: it is not the operator's, and no class publishes there.
    pub fn is_retired(&self, output: &OutputKey) -> bool {
        *output != self.classes.defaults().output
            && !self.classes.outputs().any(|published| published == output)
    }

    /// Forgets a retired output that is empty. Returns whether it did. Call it once that has been committed.
    pub fn forget_output(&mut self, output: &OutputKey) -> bool {
        let forgotten = self.is_retired(output) && self.table.forget(output);
        if forgotten {
            self.remember_outputs();
        }
        forgotten
    }
}
