//! Knows which Ingress depends on which objects, and so finds the Ingresses that a changed object concerns without
//! looking at any other.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressBackend;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::{IngressKey, SecretKey, ServiceKey};
use crate::small_set::SmallSet;
use crate::watch::ANY_NAMESPACE;

/// Stands for no class. No class can have this name.
pub const NO_CLASS: &str = "";

/// The dependencies of an Ingress. Lists are sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    pub services: Box<[ServiceKey]>,
    pub secrets: Box<[SecretKey]>,
    /// `spec.ingressClassName`, or [`NO_CLASS`]: what an annotation says is no IngressClass.
    pub class: Option<Arc<str>>,
    pub nodes: bool,
    /// Namespaces whose creation or deletion concerns it, or only [`ANY_NAMESPACE`].
    pub namespaces: Box<[Arc<str>]>,
}

impl Dependencies {
    /// What an Ingress of `namespace` names, whether or not it is ours and its annotations are valid. The caller adds
    /// what its translation looks up beyond that (nodes, namespaces).
    pub fn new(ingress: &Ingress, namespace: Arc<str>) -> Self {
        let Some(spec) = &ingress.spec else { return Self::default() };
        let paths = spec
            .rules
            .iter()
            .flatten()
            .filter_map(|rule| rule.http.as_ref())
            .flat_map(|http| http.paths.iter().map(|path| &path.backend));
        let services: BTreeSet<&str> = paths.chain(&spec.default_backend).filter_map(service_name).collect();
        let secrets: BTreeSet<&str> = spec
            .tls
            .iter()
            .flatten()
            .filter_map(|tls| tls.secret_name.as_deref())
            .filter(|name| !name.is_empty())
            .collect();
        Self {
            services: services
                .into_iter()
                .map(|name| ServiceKey::new(Arc::clone(&namespace), name))
                .collect(),
            secrets: secrets.into_iter().map(|name| SecretKey::new(Arc::clone(&namespace), name)).collect(),
            class: Some(spec.ingress_class_name.as_deref().unwrap_or(NO_CLASS).into()),
            nodes: false,
            namespaces: Box::default(),
        }
    }
}

fn service_name(backend: &IngressBackend) -> Option<&str> {
    backend.service.as_ref().map(|service| service.name.as_str()).filter(|name| !name.is_empty())
}

/// The dependencies of all Ingresses, in both directions. Entries without users are removed.
#[derive(Debug, Default)]
pub struct DependencyIndex {
    dependencies: HashMap<IngressKey, Dependencies>,
    by_service: Users<ServiceKey>,
    by_secret: Users<SecretKey>,
    by_class: Users<Arc<str>>,
    by_namespace: Users<Arc<str>>,
    nodes: HashSet<IngressKey>,
}

/// Secrets whose use has begun or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsNamed {
    /// Secrets that an Ingress now names and none named before: their data is needed.
    pub first: Vec<SecretKey>,
    /// Secrets that no Ingress names any more: their data should be dropped.
    pub last: Vec<SecretKey>,
}

impl DependencyIndex {
    /// Replaces the dependencies of an Ingress.
    pub fn set(&mut self, ingress: &IngressKey, mut dependencies: Dependencies) -> SecretsNamed {
        let before = self.dependencies.get(ingress);
        if before == Some(&dependencies) {
            return SecretsNamed::default();
        }
        let (key, before) = match self.dependencies.remove_entry(ingress) {
            Some((key, before)) => (key, before),
            None => (ingress.clone(), Dependencies::default()),
        };
        // New ones are added first, so that an unchanged one always has a user.
        let mut first = Vec::new();
        for service in &dependencies.services {
            self.by_service.add(service, &key);
        }
        for secret in &dependencies.secrets {
            if self.by_secret.add(secret, &key) {
                first.push(secret.clone());
            }
        }
        if let Some(class) = &mut dependencies.class {
            self.by_class.add_sharing(class, &key);
        }
        for namespace in &mut dependencies.namespaces {
            self.by_namespace.add_sharing(namespace, &key);
        }
        let last = self.drop_users(&key, &before, &dependencies);
        if dependencies.nodes {
            self.nodes.insert(key.clone());
        } else {
            self.nodes.remove(&key);
        }
        self.dependencies.insert(key, dependencies);
        SecretsNamed { first, last }
    }

    /// Removes an Ingress.
    pub fn remove(&mut self, ingress: &IngressKey) -> SecretsNamed {
        let Some((key, before)) = self.dependencies.remove_entry(ingress) else {
            return SecretsNamed::default();
        };
        let last = self.drop_users(&key, &before, &Dependencies::default());
        self.nodes.remove(&key);
        SecretsNamed { first: Vec::new(), last }
    }

    /// Removes the dependencies that are in `before` but not in `after`; returns the Secrets that have no users any
    /// more.
    fn drop_users(
        &mut self,
        key: &IngressKey,
        before: &Dependencies,
        after: &Dependencies,
    ) -> Vec<SecretKey> {
        for service in &before.services {
            if after.services.binary_search(service).is_err() {
                self.by_service.remove(service, key);
            }
        }
        let mut last = Vec::new();
        for secret in &before.secrets {
            if after.secrets.binary_search(secret).is_err() && self.by_secret.remove(secret, key) {
                last.push(secret.clone());
            }
        }
        if let Some(class) = before.class.as_ref().filter(|class| after.class.as_ref() != Some(class)) {
            self.by_class.remove(class, key);
        }
        for namespace in &before.namespaces {
            if after.namespaces.binary_search(namespace).is_err() {
                self.by_namespace.remove(namespace, key);
            }
        }
        last
    }

    /// The dependencies of an Ingress.
    pub fn dependencies(&self, ingress: &IngressKey) -> Option<&Dependencies> {
        self.dependencies.get(ingress)
    }

    /// The Ingresses with this Service as a backend, in no order.
    pub fn dependents_of_service(&self, service: &ServiceKey) -> impl Iterator<Item = &IngressKey> {
        self.by_service.of(service)
    }

    /// The Ingresses that name this Secret, in no order.
    pub fn dependents_of_secret(&self, secret: &SecretKey) -> impl Iterator<Item = &IngressKey> {
        self.by_secret.of(secret)
    }

    /// The Ingresses of this class, or of [`NO_CLASS`], in no order.
    pub fn dependents_of_class(&self, class: &str) -> impl Iterator<Item = &IngressKey> {
        self.by_class.of(class)
    }

    /// The Ingresses that depend on node addresses, in no order.
    pub fn dependents_of_nodes(&self) -> impl Iterator<Item = &IngressKey> {
        self.nodes.iter()
    }

    /// The Ingresses that depend on the existence of this namespace, in no order.
    pub fn dependents_of_namespace(&self, namespace: &str) -> impl Iterator<Item = &IngressKey> {
        self.by_namespace.of(namespace).chain(self.by_namespace.of(ANY_NAMESPACE))
    }

    /// Whether an Ingress names this Secret.
    pub fn secret_is_named(&self, secret: &SecretKey) -> bool {
        self.by_secret.0.contains_key(secret)
    }

    /// The Secrets that Ingresses name, in no order.
    pub fn named_secrets(&self) -> impl Iterator<Item = &SecretKey> {
        self.by_secret.0.keys()
    }

    /// Whether it is empty.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.dependencies.is_empty()
            && self.by_service.0.is_empty()
            && self.by_secret.0.is_empty()
            && self.by_class.0.is_empty()
            && self.by_namespace.0.is_empty()
            && self.nodes.is_empty()
    }
}

/// Ingresses by what they use.
#[derive(Debug)]
struct Users<K>(HashMap<K, SmallSet<IngressKey>>);

impl Users<Arc<str>> {
    /// Adds a user. The name shares the memory of the existing key.
    fn add_sharing(&mut self, used: &mut Arc<str>, user: &IngressKey) {
        self.add(used, user);
        if let Some((known, _)) = self.0.get_key_value(used) {
            *used = Arc::clone(known);
        }
    }
}

impl<K> Default for Users<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone> Users<K> {
    /// Returns true for the first user.
    fn add(&mut self, used: &K, user: &IngressKey) -> bool {
        if let Some(users) = self.0.get_mut(used) {
            users.insert(user.clone());
            return false;
        }
        self.0.insert(used.clone(), SmallSet::One(user.clone()));
        true
    }

    /// Returns true for the last user.
    fn remove(&mut self, used: &K, user: &IngressKey) -> bool {
        let empty = self.0.get_mut(used).is_some_and(|users| users.remove(user));
        if empty {
            self.0.remove(used);
        }
        empty
    }

    fn of<Q: Eq + Hash + ?Sized>(&self, used: &Q) -> impl Iterator<Item = &IngressKey>
    where
        K: Borrow<Q>,
    {
        self.0.get(used).into_iter().flat_map(SmallSet::iter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn dependencies_come_from_the_spec_alone() {
        let ingress: Ingress = serde_json::from_value(json!({
            "metadata": {"namespace": "web", "name": "shop",
                         "annotations": {"kubernetes.io/ingress.class": "ignored"}},
            "spec": {
                "ingressClassName": "public",
                "defaultBackend": {"service": {"name": "fallback", "port": {"number": 80}}},
                "tls": [{"secretName": "b"}, {"secretName": "a"}, {"hosts": ["x"]}, {"secretName": "a"}],
                "rules": [
                    {"host": "a.example"},
                    {"http": {"paths": [
                        {"pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
                        {"pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 81}}}},
                        {"pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "x"}}},
                    ]}},
                ],
            },
        }))
        .unwrap();
        let expected = Dependencies {
            services: [ServiceKey::new("web", "fallback"), ServiceKey::new("web", "web")].into(),
            secrets: [SecretKey::new("web", "a"), SecretKey::new("web", "b")].into(),
            class: Some("public".into()),
            nodes: false,
            namespaces: Box::default(),
        };
        assert_eq!(Dependencies::new(&ingress, "web".into()), expected);
        let mut annotated = ingress;
        annotated.spec.as_mut().unwrap().ingress_class_name = None;
        assert_eq!(Dependencies::new(&annotated, "web".into()).class.as_deref(), Some(NO_CLASS));
        assert_eq!(Dependencies::new(&Ingress::default(), "web".into()), Dependencies::default());
    }

    #[test]
    fn a_secret_is_named_from_its_first_to_its_last_ingress() {
        let mut index = DependencyIndex::default();
        let secret = SecretKey::new("web", "tls");
        let names = |secrets: &[&SecretKey]| Dependencies {
            secrets: secrets.iter().map(|key| (*key).clone()).collect(),
            ..Dependencies::default()
        };
        let (a, b) = (IngressKey::new("web", "a"), IngressKey::new("web", "b"));
        assert_eq!(index.set(&a, names(&[&secret])).first, std::slice::from_ref(&secret));
        assert_eq!(index.set(&b, names(&[&secret])), SecretsNamed::default());
        assert_eq!(index.dependents_of_secret(&secret).collect::<BTreeSet<_>>(), [&a, &b].into());
        assert_eq!(index.set(&a, names(&[])), SecretsNamed::default());
        assert!(index.secret_is_named(&secret));
        assert_eq!(index.remove(&b).last, std::slice::from_ref(&secret));
        assert!(!index.secret_is_named(&secret));
    }

    fn sorted<K: Ord>(keys: impl IntoIterator<Item = K>) -> Vec<K> {
        keys.into_iter().collect::<BTreeSet<K>>().into_iter().collect()
    }

    prop_compose! {
        fn any_dependencies()(
            services in prop::collection::vec(0..4u8, 0..4),
            secrets in prop::collection::vec(0..4u8, 0..4),
            class in prop::option::of(0..3u8),
            nodes: bool,
            namespaces in prop::collection::vec(0..4u8, 0..4),
        ) -> Dependencies {
            Dependencies {
                services: sorted(services.into_iter().map(|n| ServiceKey::new("web", n.to_string()))).into(),
                secrets: sorted(secrets.into_iter().map(|n| SecretKey::new("web", n.to_string()))).into(),
                class: class.map(|n| n.to_string().into()),
                nodes,
                namespaces: sorted(namespaces.into_iter().map(|n| n.to_string().into())).into(),
            }
        }
    }

    proptest! {
        /// The index answers as a plain search through all dependencies would, whatever came before, and is
        /// empty when everything has gone.
        #[test]
        fn the_index_agrees_with_a_search_and_leaves_nothing_behind(
            steps in prop::collection::vec((0..5u8, prop::option::of(any_dependencies())), 0..40)
        ) {
            let mut index = DependencyIndex::default();
            let mut model: HashMap<IngressKey, Dependencies> = HashMap::new();
            let mut named: HashSet<SecretKey> = HashSet::new();
            for (ingress, step) in steps {
                let key = IngressKey::new("web", ingress.to_string());
                let secrets = match step {
                    Some(dependencies) => {
                        model.insert(key.clone(), dependencies.clone());
                        index.set(&key, dependencies)
                    }
                    None => {
                        model.remove(&key);
                        index.remove(&key)
                    }
                };
                for secret in secrets.first {
                    prop_assert!(named.insert(secret));
                }
                for secret in secrets.last {
                    prop_assert!(named.remove(&secret));
                }
                for n in 0..4u8 {
                    let service = ServiceKey::new("web", n.to_string());
                    let secret = SecretKey::new("web", n.to_string());
                    let search = |uses: &dyn Fn(&Dependencies) -> bool| {
                        sorted(model.iter().filter(|(_, d)| uses(d)).map(|(key, _)| key.clone()))
                    };
                    prop_assert_eq!(
                        sorted(index.dependents_of_service(&service).cloned()),
                        search(&|d| d.services.contains(&service))
                    );
                    prop_assert_eq!(
                        sorted(index.dependents_of_secret(&secret).cloned()),
                        search(&|d| d.secrets.contains(&secret))
                    );
                    prop_assert_eq!(
                        sorted(index.dependents_of_class(&n.to_string()).cloned()),
                        search(&|d| d.class.as_deref() == Some(n.to_string().as_str()))
                    );
                    prop_assert_eq!(sorted(index.dependents_of_nodes().cloned()), search(&|d| d.nodes));
                    prop_assert_eq!(
                        sorted(index.dependents_of_namespace(&n.to_string()).cloned()),
                        search(&|d| d.namespaces.iter().any(|one| **one == n.to_string()))
                    );
                    prop_assert_eq!(index.secret_is_named(&secret), named.contains(&secret));
                }
            }
            for key in model.keys() {
                index.remove(key);
            }
            prop_assert!(index.is_empty());
        }
    }
}
