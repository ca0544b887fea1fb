//! Applies events of kinds of which only a part is stored.

use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

use crate::kubernetes::key::{ObjectKey, SecretKey};
use crate::watch::changes::Touched;
use crate::watch::collection::{Collection, ObjectChange, Scope};
use crate::watch::namespaces::KnownNamespaces;
use crate::watch::secrets::{SecretChange, SecretSource, Secrets};

/// The effect of an event, for each object.
pub(super) type Changes<K> = Vec<(ObjectKey, ObjectChange<Arc<K>>)>;

/// The key of an object; its namespace shares the memory of a known one.
pub(super) fn key_of<K: Resource>(object: &K, known: &KnownNamespaces) -> Option<ObjectKey> {
    let meta = object.meta();
    let name = meta.name.as_deref()?;
    Some(ObjectKey::new(known.shared(meta.namespace.as_deref().unwrap_or_default()), name))
}

/// Counts an object's namespace.
pub(super) fn count<T>(
    known: &mut KnownNamespaces,
    touched: &mut Touched,
    key: &ObjectKey,
    change: &ObjectChange<T>,
) {
    let news = match (&change.before, &change.after) {
        (None, Some(_)) => known.add(key.namespace()),
        (Some(_), None) => known.remove(key.namespace()),
        _ => false,
    };
    touched.namespaces.extend(news.then(|| key.shared_namespace()));
}

/// The key of an object without a namespace.
pub(super) fn cluster_key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new("", object.meta().name.as_deref().unwrap_or_default())
}

/// Applies an event of a kind of which only `part` is stored. An object without a key is ignored.
pub(super) fn apply_part<K: Resource, T: From<K> + PartialEq>(
    collection: &mut Collection<Arc<T>>,
    scope: &Scope,
    event: Event<K>,
    key: impl Fn(&K) -> Option<ObjectKey>,
) -> Changes<T> {
    match event {
        Event::Init => {
            collection.begin_list(scope);
            Vec::new()
        }
        Event::InitDone => {
            let gone = collection.end_list(scope).into_iter();
            gone.map(|(key, object)| (key, ObjectChange { before: Some(object), after: None })).collect()
        }
        Event::Delete(object) => {
            let removed = key(&object).and_then(|key| {
                let object = collection.remove(&key)?;
                Some((key, ObjectChange { before: Some(object), after: None }))
            });
            removed.into_iter().collect()
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let Some(key) = key(&object) else { return Vec::new() };
            let keep = |part| Some(Arc::new(part));
            let change = collection.insert(key.clone(), T::from(object), |old, new| **old == *new, keep);
            change.map(|change| (key, change)).into_iter().collect()
        }
    }
}

/// Like [`apply_part`] for a cluster-scoped kind; returns the touched names.
pub(super) fn apply_cluster_scoped<K: Resource, T: From<K> + PartialEq>(
    collection: &mut Collection<Arc<T>>,
    event: Event<K>,
) -> Vec<Arc<str>> {
    let changes = apply_part(collection, &Scope::All, event, |object| Some(cluster_key(object)));
    changes.into_iter().map(|(key, _)| key.name().into()).collect()
}

/// Applies an event of a Secret; `put` handles one that exists.
pub(super) fn secret_event<K: Resource>(
    known: &KnownNamespaces,
    secrets: &mut Secrets,
    source: SecretSource,
    scope: &Scope,
    event: Event<K>,
    put: impl FnOnce(&mut Secrets, SecretKey, &K) -> SecretChange,
) -> Touched {
    let mut touched = Touched::default();
    match event {
        Event::Init => secrets.begin_list(source, scope),
        // A Secret recreated as another type may have arrived first, and was not fetched while the old one existed.
        Event::InitDone => {
            touched.secrets = secrets.end_list(source, scope);
            touched.fetch.extend(touched.secrets.iter().filter(|key| secrets.needs_fetch(key)).cloned());
        }
        Event::Delete(object) => {
            let Some(key) = key_of(&object, known).map(SecretKey) else { return touched };
            let changed = secrets.remove(source, &key).changed;
            touched.fetch.extend(secrets.needs_fetch(&key).then(|| key.clone()));
            touched.secrets.extend(changed.then_some(key));
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let Some(key) = key_of(&object, known).map(SecretKey) else { return touched };
            let change = put(secrets, key.clone(), &object);
            if change.fetch {
                touched.fetch.push(key.clone());
            }
            if change.changed {
                touched.secrets.push(key);
            }
        }
    }
    touched
}
