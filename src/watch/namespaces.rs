//! The namespaces that hold an Ingress or a Service, as far as the watches tell, and those that options name.

use std::collections::HashMap;
use std::sync::Arc;

/// Namespaces, each with the number of objects that hold it in memory.
#[derive(Debug, Default)]
pub struct KnownNamespaces {
    counts: HashMap<Arc<str>, usize>,
}

impl KnownNamespaces {
    /// The longest a namespace's name can be (a DNS label).
    const LONGEST: usize = 63;

    /// One object more; true when the namespace was not known.
    pub fn add(&mut self, namespace: &str) -> bool {
        if let Some(count) = self.counts.get_mut(namespace) {
            *count += 1;
            return false;
        }
        self.counts.insert(namespace.into(), 1);
        true
    }

    /// One object less; true when it was the last one.
    pub fn remove(&mut self, namespace: &str) -> bool {
        let Some(count) = self.counts.get_mut(namespace) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.counts.remove(namespace);
        true
    }

    /// A namespace's name as it is held, so that many keys share it.
    pub fn shared(&self, namespace: &str) -> Arc<str> {
        self.counts.get_key_value(namespace).map_or_else(|| namespace.into(), |(known, _)| Arc::clone(known))
    }

    /// The longest known namespace `n` that is longer than `namespace` and for which `reference` begins with
    /// `n-`.
    pub fn longest_prefix(&self, namespace: &str, reference: &str) -> Option<Arc<str>> {
        let dashes = reference.bytes().take(Self::LONGEST + 1).enumerate().filter(|(_, byte)| *byte == b'-');
        let mut longest = None;
        for (end, _) in dashes.filter(|(end, _)| *end > namespace.len()) {
            if let Some((known, _)) =
                reference.get(..end).and_then(|prefix| self.counts.get_key_value(prefix))
            {
                longest = Some(Arc::clone(known));
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_and_go() {
        let mut known = KnownNamespaces::default();
        assert!(known.add("a"));
        assert!(!known.add("a"));
        assert!(!known.remove("a"));
        assert!(known.remove("a"));
        assert!(!known.remove("a"));
        assert!(known.counts.is_empty());
    }

    #[test]
    fn the_longest_known_namespace_decides_whose_a_reference_is() {
        let mut known = KnownNamespaces::default();
        for namespace in ["a", "a-b", "a-b-c", "x"] {
            known.add(namespace);
        }
        let longest = |namespace, reference| known.longest_prefix(namespace, reference);
        assert_eq!(longest("a", "a-b-c-auth").as_deref(), Some("a-b-c"));
        assert_eq!(longest("a", "a-b-c").as_deref(), Some("a-b"));
        assert_eq!(longest("a", "a-auth"), None);
        assert_eq!(longest("a-b-c", "a-b-c-auth"), None);
        assert_eq!(longest("a", "é-b"), None);
        let far = format!("{}-x", "n".repeat(64));
        assert_eq!(longest("a", &far), None);
    }
}
