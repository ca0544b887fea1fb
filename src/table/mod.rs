//! Joins all fragments into the routing of each output.
//!
//! What an output holds is a function of the set of its fragments: the order in which they come, replays and
//! replacements leave no trace. Work for a change is proportional to the fragment and to what its names touch,
//! never to the table.

mod certificates;
mod content;
mod counts;
mod digest;
pub mod hash;
mod names;
mod output;
mod owners;
mod shards;

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
#[path = "reference_tests.rs"]
mod reference;
#[cfg(test)]
mod rivals_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use content::ShardContent;
pub use counts::Counts;
pub use digest::{Digest, ShortDigest};
pub use output::Output;

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::translate::fragment::Fragment;
use crate::translate::problem::{Category, Kind, Problem, Subject};

/// What a call has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The Ingress's fragment is another than before (its status may have to be looked at).
    pub fragment: bool,
    /// Outputs whose routing, certificates or keys changed: more than one where an Ingress has moved.
    pub outputs: Vec<OutputKey>,
    /// Ingresses whose [`Table::problems`] changed, each once.
    pub problems: Vec<IngressKey>,
}

/// All fragments, by the output that they belong to.
#[derive(Default)]
pub struct Table {
    fragments: HashMap<IngressKey, Arc<Fragment>>,
    outputs: BTreeMap<OutputKey, Output>,
    /// What Ingresses that moved still have in the outputs that they left, see [`Table::set_moving`].
    leaving: HashMap<IngressKey, BTreeMap<OutputKey, Arc<Fragment>>>,
}

impl Table {
    /// A table without fragments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the fragment of an Ingress in the place of its earlier one, also where it moves to another output.
    pub fn set(&mut self, fragment: impl Into<Arc<Fragment>>) -> Change {
        let fragment = fragment.into();
        let ingress = fragment.ingress.clone();
        self.replace(&ingress, Some(fragment), false)
    }

    /// As [`Table::set`], but an Ingress that moves to another output also stays in the old one until
    /// [`Table::settle`]. So the publisher can make sure that it is always in at least one.
    pub fn set_moving(&mut self, fragment: impl Into<Arc<Fragment>>) -> Change {
        let fragment = fragment.into();
        let ingress = fragment.ingress.clone();
        self.replace(&ingress, Some(fragment), true)
    }

    /// Removes the fragment of an Ingress, at once and everywhere.
    pub fn remove(&mut self, ingress: &IngressKey) -> Change {
        self.replace(ingress, None, false)
    }

    /// Whether an Ingress is still in an output that it left.
    pub fn is_moving(&self, ingress: &IngressKey) -> bool {
        self.leaving.contains_key(ingress)
    }

    /// The Ingresses that have moved to an output and are still in another, in no order.
    pub fn moving_to<'a>(&'a self, output: &'a OutputKey) -> impl Iterator<Item = &'a IngressKey> {
        self.leaving.keys().filter(move |key| self.fragment(key).is_some_and(|now| now.output() == output))
    }

    /// Removes an Ingress from the outputs that it left.
    pub fn settle(&mut self, ingress: &IngressKey) -> Change {
        let mut change = Change::default();
        for (from, old) in self.leaving.remove(ingress).unwrap_or_default() {
            self.replace_in(&from, Some(&old), None, &mut change);
        }
        change
    }

    fn replace(&mut self, ingress: &IngressKey, new: Option<Arc<Fragment>>, keep: bool) -> Change {
        let new = new.map(|fragment| self.share_services(fragment));
        let old = self.fragments.get(ingress).cloned();
        if old == new {
            return self.share_again(old.as_ref());
        }
        let problems = self.problems(ingress);
        match &new {
            Some(new) => self.fragments.insert(ingress.clone(), new.clone()),
            None => self.fragments.remove(ingress),
        };

        let mut change = Change { fragment: true, ..Change::default() };
        let mut held = self.leaving.remove(ingress).unwrap_or_default();
        held.extend(old.map(|old| (old.output().clone(), old)));
        let before = new.as_ref().and_then(|new| held.remove(new.output()));
        if !keep {
            for (from, old) in std::mem::take(&mut held) {
                self.replace_in(&from, Some(&old), None, &mut change);
            }
        } else if !held.is_empty() {
            self.leaving.insert(ingress.clone(), held);
        }
        if let Some(new) = &new {
            self.replace_in(new.output(), before.as_ref(), Some(new), &mut change);
        }

        if self.problems(ingress) != problems {
            change.problems.push(ingress.clone());
        }
        change
    }

    /// Lets a fragment have the services that its output holds already instead of equal ones of its own: hundreds of
    /// Ingresses may lead to one Service with thousands of endpoints.
    fn share_services(&self, mut fragment: Arc<Fragment>) -> Arc<Fragment> {
        let output = self.outputs.get(fragment.output());
        if let (Some(output), Some(fragment)) = (output, Arc::get_mut(&mut fragment)) {
            for router in &mut fragment.routers {
                let held = output.service(&router.service.owner);
                if let Some(held) = held.filter(|held| **held == router.service) {
                    router.service = Arc::clone(held);
                }
            }
        }
        fragment
    }

    /// A fragment was set as it is already. The output may have other content of the services and Secrets that it shares:
    /// another Ingress has brought that since. The one that is set last has read them last.
    fn share_again(&mut self, fragment: Option<&Arc<Fragment>>) -> Change {
        let output = fragment.and_then(|fragment| Some((fragment, self.outputs.get_mut(fragment.output())?)));
        let changed = output.is_some_and(|(fragment, output)| output.share(fragment));
        let outputs = fragment.filter(|_| changed).map(|fragment| fragment.output().clone());
        let outputs = outputs.into_iter().collect();
        Change { outputs, ..Change::default() }
    }

    fn replace_in(
        &mut self,
        output: &OutputKey,
        old: Option<&Arc<Fragment>>,
        new: Option<&Arc<Fragment>>,
        change: &mut Change,
    ) {
        let (changed, others) = self.outputs.entry(output.clone()).or_default().replace(old, new);
        if changed {
            change.outputs.push(output.clone());
        }
        change.problems.extend(others);
    }

    /// The fragment of an Ingress.
    pub fn fragment(&self, ingress: &IngressKey) -> Option<&Arc<Fragment>> {
        self.fragments.get(ingress)
    }

    /// All fragments, in no order.
    pub fn fragments(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        self.fragments.values()
    }

    /// Everything that is wrong with an Ingress: its fragment's problems, and those that only exist beside other
    /// Ingresses.
    pub fn problems(&self, ingress: &IngressKey) -> Vec<Problem> {
        let mut problems: Vec<_> = self
            .fragment(ingress)
            .into_iter()
            .flat_map(|fragment| fragment.problems.iter().cloned())
            .collect();
        if self.default_backend_is_taken_from(ingress) {
            problems.push(default_backend_taken(ingress));
        }
        problems
    }

    /// Whether [`Table::problems`] gives any.
    pub fn has_problems(&self, ingress: &IngressKey) -> bool {
        self.fragment(ingress).is_some_and(|fragment| !fragment.problems.is_empty())
            || self.default_backend_is_taken_from(ingress)
    }

    fn default_backend_is_taken_from(&self, ingress: &IngressKey) -> bool {
        self.fragment(ingress).is_some_and(|fragment| {
            self.output(fragment.output())
                .is_some_and(|output| output.default_backend_is_taken_from(fragment))
        })
    }

    /// Declares an output, so that it is published even if it has no fragment.
    pub fn declare(&mut self, output: &OutputKey) -> &mut Output {
        self.outputs.entry(output.clone()).or_default()
    }

    /// Forgets an output if it is empty, and returns whether it was. Until then, an output that has lost its last
    /// fragment stays known, because its readers still have to get the empty routing.
    pub fn forget(&mut self, output: &OutputKey) -> bool {
        let empty = self.output(output).is_some_and(Output::is_empty);
        if empty {
            self.outputs.remove(output);
        }
        empty
    }

    /// An output.
    pub fn output(&self, output: &OutputKey) -> Option<&Output> {
        self.outputs.get(output)
    }

    /// An output, to bring its shards up to date or to take its hash.
    pub fn output_mut(&mut self, output: &OutputKey) -> Option<&mut Output> {
        self.outputs.get_mut(output)
    }

    /// All outputs, by key.
    pub fn outputs(&self) -> impl Iterator<Item = (&OutputKey, &Output)> {
        self.outputs.iter()
    }
}

/// Does not name the other Ingress, since its namespace may be private.
fn default_backend_taken(ingress: &IngressKey) -> Problem {
    Problem {
        category: Category::DefaultBackendTaken,
        subject: Subject::from((Kind::Ingress, &ingress.0)),
        field: "spec.defaultBackend".to_owned(),
        value: String::new(),
        remedy:
            "another, older Ingress is the default backend, and there can be only one: give this Ingress rules, \
                 or have the other one removed"
                .to_owned(),
    }
}
