//! The namespaces that contain an Ingress or a Service, as far as the watches show, and those that options name.

use std::collections::HashMap;
use std::sync::Arc;

/// The longest a namespace's name can be (a DNS label).
const LONGEST: usize = 63;

/// No namespace has this name: it stands for all of them.
pub const ANY_NAMESPACE: &str = "";

/// Namespaces, each with the number of objects in it.
#[derive(Debug, Default)]
pub struct KnownNamespaces {
    counts: HashMap<Arc<str>, usize>,
}

impl KnownNamespaces {
    /// Adds an object. Returns true if the namespace was unknown.
    pub fn add(&mut self, namespace: &str) -> bool {
        if let Some(count) = self.counts.get_mut(namespace) {
            *count += 1;
            return false;
        }
        self.counts.insert(namespace.into(), 1);
        true
    }

    /// Removes an object. Returns true for the last one.
    pub fn remove(&mut self, namespace: &str) -> bool {
        let Some(count) = self.counts.get_mut(namespace) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.counts.remove(namespace);
        true
    }

    /// The stored name of a namespace, so that many keys share it.
    pub fn shared(&self, namespace: &str) -> Arc<str> {
        self.counts.get_key_value(namespace).map_or_else(|| namespace.into(), |(known, _)| Arc::clone(known))
    }

    /// Whether a namespace exists.
    pub fn contains(&self, namespace: &str) -> bool {
        self.counts.contains_key(namespace)
    }
}

/// The namespaces with longer names than `namespace` to which `reference` could belong: each, with a dash, is a prefix
/// of it.
pub fn longer_namespaces<'a>(namespace: &str, reference: &'a str) -> impl Iterator<Item = &'a str> {
    let shortest = namespace.len() + 1;
    let dashes = reference.match_indices('-').map(|(end, _)| end);
    dashes
        .skip_while(move |end| *end < shortest)
        .take_while(|end| *end <= LONGEST)
        .filter_map(|end| reference.get(..end))
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
    fn a_reference_could_be_one_of_each_longer_namespace_with_which_it_begins() {
        fn longer<'a>(namespace: &str, reference: &'a str) -> Vec<&'a str> {
            longer_namespaces(namespace, reference).collect()
        }
        assert_eq!(longer("a", "a-b-c-auth"), ["a-b", "a-b-c"]);
        assert_eq!(longer("a", "a-b-c"), ["a-b"]);
        assert_eq!(longer("a", "a--"), ["a-"]);
        assert_eq!(longer("a", "a-é-b"), ["a-é"]);
        assert_eq!(longer("a", "a-auth"), [""; 0]);
        assert_eq!(longer("a-b-c", "a-b-c-auth"), [""; 0]);
        let long = "n".repeat(63);
        assert_eq!(longer("a", &format!("{long}-x")), [long.as_str()]);
        assert_eq!(longer("a", &format!("{long}n-x")), [""; 0]);
    }
}
