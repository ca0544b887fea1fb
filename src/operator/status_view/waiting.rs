//! Ingresses whose statuses wait for a commit.

use std::collections::HashMap;

use crate::kubernetes::Uid;
use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::translate::fragment::Fragment;

/// The commit that an Ingress waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Awaited {
    /// The output whose commit will contain the Ingress, or no longer contain it.
    pub output: OutputKey,
    /// The uid of the Ingress; none if it is no longer ours.
    pub uid: Option<Uid>,
}

impl Awaited {
    /// Whether the commit contains this fragment.
    pub fn concerns(&self, fragment: &Fragment) -> bool {
        self.output == *fragment.output() && self.uid == Some(fragment.uid)
    }
}

/// Each Ingress waits for one output. Stored by output, because a paused one may keep every Ingress of a large class
/// waiting while others are committed every two seconds.
#[derive(Debug, Default)]
pub(super) struct WaitingStatuses {
    outputs: HashMap<IngressKey, OutputKey>,
    by_output: HashMap<OutputKey, HashMap<IngressKey, Option<Uid>>>,
}

impl WaitingStatuses {
    /// Sets what an Ingress waits for.
    pub fn insert(&mut self, key: IngressKey, Awaited { output, uid }: Awaited) {
        if self.outputs.get(&key) != Some(&output) {
            self.remove(&key);
            self.outputs.insert(key.clone(), output.clone());
        }
        self.by_output.entry(output).or_default().insert(key, uid);
    }

    /// An Ingress no longer waits.
    pub fn remove(&mut self, key: &IngressKey) {
        let Some(output) = self.outputs.remove(key) else { return };
        if let Some(of) = self.by_output.get_mut(&output) {
            of.remove(key);
            if of.is_empty() {
                self.by_output.remove(&output);
            }
        }
    }

    /// Whether an Ingress waits.
    pub fn contains(&self, key: &IngressKey) -> bool {
        self.outputs.contains_key(key)
    }

    /// Those that wait for an output.
    pub fn of(&self, output: &OutputKey) -> impl Iterator<Item = &IngressKey> {
        self.by_output.get(output).into_iter().flat_map(HashMap::keys)
    }

    /// Those that wait for an output, which wait no longer.
    pub fn take(&mut self, output: &OutputKey) -> Vec<(IngressKey, Awaited)> {
        let of = self.by_output.remove(output).unwrap_or_default();
        let awaited = |uid| Awaited { output: output.clone(), uid };
        let taken = of.into_iter().map(|(key, uid)| (key, awaited(uid)));
        taken.inspect(|(key, _)| _ = self.outputs.remove(key)).collect()
    }

    /// The number of all.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.outputs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> IngressKey {
        IngressKey::new("shop", name)
    }

    fn awaited(output: &str, uid: Option<Uid>) -> Awaited {
        Awaited { output: OutputKey::new("edge", output), uid }
    }

    #[test]
    fn a_commit_looks_at_those_of_its_own_output_alone() {
        let mut waiting = WaitingStatuses::default();
        for at in 0..1_000 {
            waiting.insert(key(&format!("paused-{at}")), awaited("paused", None));
        }
        let busy = OutputKey::new("edge", "busy");
        assert_eq!(waiting.of(&busy).count(), 0);
        waiting.insert(key("one"), awaited("busy", Some(Uid::default())));
        assert_eq!(waiting.of(&busy).collect::<Vec<_>>(), [&key("one")]);
        assert_eq!(waiting.take(&busy), [(key("one"), awaited("busy", Some(Uid::default())))]);
        assert!(waiting.take(&busy).is_empty() && !waiting.contains(&key("one")));
        assert_eq!(waiting.len(), 1_000);
    }

    #[test]
    fn an_ingress_waits_for_the_output_that_it_was_last_sent_to() {
        let mut waiting = WaitingStatuses::default();
        waiting.insert(key("one"), awaited("a", None));
        waiting.insert(key("one"), awaited("b", None));
        waiting.insert(key("one"), awaited("b", Some(Uid::default())));
        assert!(waiting.take(&OutputKey::new("edge", "a")).is_empty());
        assert!(waiting.contains(&key("one")));
        waiting.remove(&key("one"));
        assert!(waiting.outputs.is_empty() && waiting.by_output.is_empty());
    }
}
