//! Objects of one kind as they come from a watch, stripped, and mirrored into a kube-runtime store where a
//! kube Controller needs one.

use std::sync::Arc;

use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;

use crate::kubernetes::key::ObjectKey;
use crate::watch::collection::{Change, Collection, Scope};
use crate::watch::namespaces::KnownNamespaces;

/// What events did, object by object.
pub type Changes<K> = Vec<(ObjectKey, Change<Arc<K>>)>;

/// The objects of a kind.
pub struct Mirrored<K: Resource<DynamicType = ()> + Clone + 'static> {
    collection: Collection<Arc<K>>,
    mirror: Option<(Writer<K>, Store<K>)>,
}

impl<K: Resource<DynamicType = ()> + Clone + std::fmt::Debug> std::fmt::Debug for Mirrored<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirrored").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + PartialEq + 'static> Mirrored<K> {
    /// Nothing yet, from a watch for each scope.
    pub fn new(scopes: &[Scope]) -> Self {
        Self { collection: Collection::new(scopes), mirror: None }
    }

    /// The objects.
    pub fn collection(&self) -> &Collection<Arc<K>> {
        &self.collection
    }

    /// A kube-runtime store that holds the very same objects from now on, for a Controller. It is ready at once,
    /// also before the first list is through: whether every watch has synced is [`Collection::synced`]'s to say.
    /// Several watches feed one store here, which kube's own writer can't.
    pub fn mirror(&mut self) -> Store<K> {
        let (_, reader) = self.mirror.get_or_insert_with(|| {
            let mut writer: Writer<K> = Writer::new(());
            writer.apply_watcher_event(&Event::Init);
            for (_, object) in self.collection.iter() {
                writer.apply_watcher_event(&Event::InitApply(K::clone(object)));
            }
            writer.apply_watcher_event(&Event::InitDone);
            let reader = writer.as_reader();
            (writer, reader)
        });
        reader.clone()
    }

    /// Takes an event in. An object without a name is ignored; no API server has one.
    pub fn apply(
        &mut self,
        scope: &Scope,
        event: Event<K>,
        strip: impl Fn(&mut K),
        known: &KnownNamespaces,
    ) -> Changes<K> {
        match event {
            Event::Init => {
                self.collection.begin_list(scope);
                Vec::new()
            }
            Event::InitDone => {
                let gone = self.collection.end_list(scope);
                gone.into_iter().map(|(key, object)| self.gone(key, object)).collect()
            }
            Event::Delete(object) => {
                let removed = key_of(&object, known).and_then(|key| {
                    let object = self.collection.remove(&key)?;
                    Some(self.gone(key, object))
                });
                removed.into_iter().collect()
            }
            Event::Apply(mut object) | Event::InitApply(mut object) => {
                strip(&mut object);
                let Some(key) = key_of(&object, known) else { return Vec::new() };
                let mirror = &mut self.mirror;
                let keep = |object| keep(mirror.as_mut(), object);
                let change =
                    self.collection.insert(key.clone(), object, |old: &Arc<K>, new| **old == *new, keep);
                change.map(|change| (key, change)).into_iter().collect()
            }
        }
    }

    fn gone(&mut self, key: ObjectKey, object: Arc<K>) -> (ObjectKey, Change<Arc<K>>) {
        if let Some((writer, _)) = &mut self.mirror {
            writer.apply_watcher_event(&Event::Delete(K::clone(&object)));
        }
        (key, Change { before: Some(object), after: None })
    }
}

/// One object in memory for both the collection and the mirror.
fn keep<K>(mirror: Option<&mut (Writer<K>, Store<K>)>, object: K) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let Some((writer, reader)) = mirror else { return Some(Arc::new(object)) };
    let reference = ObjectRef::from_obj(&object);
    writer.apply_watcher_event(&Event::Apply(object));
    reader.get(&reference)
}

/// The key of an object; its namespace shares the memory of one that is known.
pub fn key_of<K: Resource>(object: &K, known: &KnownNamespaces) -> Option<ObjectKey> {
    let meta = object.meta();
    let name = meta.name.as_deref()?;
    Some(ObjectKey::new(known.shared(meta.namespace.as_deref().unwrap_or_default()), name))
}
