//! The objects of one kind, fed by one or several watches.
//!
//! kube-runtime's own store would copy every object once more and needs an owned key for each look-up, so this replaces
//! it for everything that the translation looks up. Unlike that store, it applies the objects of a relist at once
//! instead of keeping old and new side by side, and it reports what changed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kubernetes::key::ObjectKey;

/// The scope of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole cluster.
    #[default]
    All,
    /// One namespace.
    Namespace(Arc<str>),
}

/// The effect of an event on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange<T> {
    /// The previous value.
    pub before: Option<T>,
    /// The current value.
    pub after: Option<T>,
}

#[derive(Debug)]
struct KeptObject<T> {
    value: T,
    /// The last list that contained it.
    seen: u64,
}

#[derive(Debug)]
struct ScopeObjects<T> {
    entries: HashMap<ObjectKey, KeptObject<T>>,
    /// Number of the current or last list.
    list: u64,
    /// A first list has completed.
    synced: bool,
}

impl<T> Default for ScopeObjects<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), list: 0, synced: false }
    }
}

/// Objects by key. `T` is cheap to clone (an `Arc`).
#[derive(Debug)]
pub struct Collection<T> {
    all: ScopeObjects<T>,
    by_namespace: HashMap<Arc<str>, ScopeObjects<T>>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self::new(&[Scope::All])
    }
}

impl<T> Collection<T> {
    /// A collection fed by a watch for each scope. Objects outside of them do not exist.
    pub fn new(scopes: &[Scope]) -> Self {
        let mut by_namespace = HashMap::new();
        for scope in scopes {
            if let Scope::Namespace(namespace) = scope {
                by_namespace.insert(Arc::clone(namespace), ScopeObjects::default());
            }
        }
        Self { all: ScopeObjects::default(), by_namespace }
    }

    fn shard(&self, namespace: &str) -> Option<&ScopeObjects<T>> {
        if self.by_namespace.is_empty() { Some(&self.all) } else { self.by_namespace.get(namespace) }
    }

    fn shard_mut(&mut self, namespace: &str) -> Option<&mut ScopeObjects<T>> {
        if self.by_namespace.is_empty() { Some(&mut self.all) } else { self.by_namespace.get_mut(namespace) }
    }

    fn scope_mut(&mut self, scope: &Scope) -> Option<&mut ScopeObjects<T>> {
        match scope {
            Scope::All if self.by_namespace.is_empty() => Some(&mut self.all),
            Scope::All => None,
            Scope::Namespace(namespace) => self.by_namespace.get_mut(namespace),
        }
    }

    /// Gets an object.
    pub fn get(&self, key: &ObjectKey) -> Option<&T> {
        Some(&self.shard(key.namespace())?.entries.get(key)?.value)
    }

    /// Gets an object with the stored key, so that copies of the key share memory.
    pub fn entry(&self, key: &ObjectKey) -> Option<(&ObjectKey, &T)> {
        let (key, entry) = self.shard(key.namespace())?.entries.get_key_value(key)?;
        Some((key, &entry.value))
    }

    /// All objects, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        let shards = std::iter::once(&self.all).chain(self.by_namespace.values());
        shards.flat_map(|shard| shard.entries.iter().map(|(key, entry)| (key, &entry.value)))
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.all.entries.len() + self.by_namespace.values().map(|shard| shard.entries.len()).sum::<usize>()
    }

    /// Whether every watch has listed once.
    pub fn synced(&self) -> bool {
        if self.by_namespace.is_empty() {
            self.all.synced
        } else {
            self.by_namespace.values().all(|shard| shard.synced)
        }
    }

    /// A list begins: objects that it does not contain are deleted at its end.
    pub fn begin_list(&mut self, scope: &Scope) {
        if let Some(shard) = self.scope_mut(scope) {
            shard.list += 1;
        }
    }

    /// A list has ended. Returns the objects that it did not contain and that are now deleted.
    pub fn end_list(&mut self, scope: &Scope) -> Vec<(ObjectKey, T)> {
        let Some(shard) = self.scope_mut(scope) else { return Vec::new() };
        shard.synced = true;
        let list = shard.list;
        shard
            .entries
            .extract_if(|_, entry| entry.seen != list)
            .map(|(key, entry)| (key, entry.value))
            .collect()
    }

    /// An object was deleted.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<T> {
        Some(self.shard_mut(key.namespace())?.entries.remove(key)?.value)
    }
}

impl<T: Clone> Collection<T> {
    /// An object exists, according to a list or a later event. `None` if `same` sees no change, if the object is
    /// outside of every scope, or if `keep` returns nothing to store; the old value then stays.
    pub fn insert<U>(
        &mut self,
        key: ObjectKey,
        value: U,
        same: impl FnOnce(&T, &U) -> bool,
        keep: impl FnOnce(U) -> Option<T>,
    ) -> Option<ObjectChange<T>> {
        let shard = self.shard_mut(key.namespace())?;
        let seen = shard.list;
        match shard.entries.entry(key) {
            std::collections::hash_map::Entry::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.seen = seen;
                if same(&entry.value, &value) {
                    return None;
                }
                let after = keep(value)?;
                let before = std::mem::replace(&mut entry.value, after.clone());
                Some(ObjectChange { before: Some(before), after: Some(after) })
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                let after = keep(value)?;
                slot.insert(KeptObject { value: after.clone(), seen });
                Some(ObjectChange { before: None, after: Some(after) })
            }
        }
    }

    /// Replaces the stored value of an existing object.
    pub fn update(&mut self, key: &ObjectKey, change: impl FnOnce(&mut T)) -> bool {
        let Some(shard) = self.shard_mut(key.namespace()) else { return false };
        shard.entries.get_mut(key).is_some_and(|entry| {
            change(&mut entry.value);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(
        collection: &mut Collection<u8>,
        namespace: &str,
        name: &str,
        value: u8,
    ) -> Option<ObjectChange<u8>> {
        collection.insert(ObjectKey::new(namespace, name), value, |old, new| old == new, Some)
    }

    fn names(gone: Vec<(ObjectKey, u8)>) -> Vec<String> {
        let mut names: Vec<String> = gone.into_iter().map(|(key, _)| key.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_insert_says_what_changed() {
        let mut collection = Collection::default();
        assert_eq!(put(&mut collection, "a", "x", 1), Some(ObjectChange { before: None, after: Some(1) }));
        assert_eq!(put(&mut collection, "a", "x", 1), None);
        assert_eq!(put(&mut collection, "a", "x", 2), Some(ObjectChange { before: Some(1), after: Some(2) }));
        assert_eq!(collection.remove(&ObjectKey::new("a", "x")), Some(2));
        assert_eq!(collection.remove(&ObjectKey::new("a", "x")), None);
    }

    #[test]
    fn a_relist_removes_what_it_does_not_name() {
        let mut collection = Collection::default();
        collection.begin_list(&Scope::All);
        put(&mut collection, "a", "x", 1);
        put(&mut collection, "a", "y", 1);
        assert!(!collection.synced());
        assert_eq!(names(collection.end_list(&Scope::All)), Vec::<String>::new());
        assert!(collection.synced());
        put(&mut collection, "a", "z", 1);
        // A list that breaks off is begun again; what it named before does not count.
        collection.begin_list(&Scope::All);
        put(&mut collection, "a", "z", 1);
        collection.begin_list(&Scope::All);
        put(&mut collection, "a", "y", 1);
        assert_eq!(names(collection.end_list(&Scope::All)), ["a/x", "a/z"]);
        assert_eq!(collection.len(), 1);
    }

    #[test]
    fn a_watch_that_begins_between_the_list_of_another_namespace_leaves_it_alone() {
        let scopes = [Scope::Namespace("a".into()), Scope::Namespace("b".into())];
        let mut collection = Collection::new(&scopes);
        for scope in &scopes {
            collection.begin_list(scope);
        }
        put(&mut collection, "a", "x", 1);
        put(&mut collection, "b", "x", 1);
        assert_eq!(put(&mut collection, "elsewhere", "x", 1), None);
        collection.end_list(&scopes[0]);
        assert!(!collection.synced());
        collection.end_list(&scopes[1]);
        assert!(collection.synced());
        collection.begin_list(&scopes[0]);
        assert_eq!(names(collection.end_list(&scopes[0])), ["a/x"]);
        assert!(collection.get(&ObjectKey::new("b", "x")).is_some());
        assert_eq!(collection.iter().count(), 1);
    }
}
