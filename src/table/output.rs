//! The routing of one output: users of services and Secrets, owners of keys, and the resulting lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::certificates::Certificates;
use super::content::{KindEntries, RouterLines, ServiceLines, ShardContent, lines};
use super::counts::Counts;
use super::digest::{Digest, Place, place};
use super::hash::{self, RoutingHash};
use super::names::Names;
use super::owners::{RouterOwner, SharedService, by_key};
use super::shards::Shards;
use crate::kubernetes::key::{IngressKey, SecretKey};
use crate::small_set::SmallSet;
use crate::traefik::document::{self, Keys};
use crate::traefik::dynamic::{Certificate, Router};
use crate::translate::fragment::{
    CertificateFragment, Created, Fragment, RouterFragment, ServiceFragment, ServiceOwner,
};
use crate::translate::name::{DEFAULT_BACKEND, DEFAULT_ROUTER};

/// What has to be rendered again because of a change.
#[derive(Default)]
struct Affected {
    /// Keys of routers that may have another service or owner now.
    routers: Vec<Arc<str>>,
    /// Keys of services with another owner now.
    services: Vec<Arc<str>>,
    /// Services whose content changed.
    contents: Vec<ServiceOwner>,
}

/// If an Ingress has more routers than this, they are spread over the shards by their own keys, since together they
/// would be larger than a shard.
const TOGETHER: usize = 128;

/// Whether the routers of an Ingress are in one shard, so that a changed annotation writes only that one.
fn are_together(fragment: &Fragment) -> bool {
    fragment.routers.len() <= TOGETHER
}

/// The routing of one output.
pub struct Output {
    routers: HashMap<RouterOwner, (Arc<Fragment>, usize)>,
    router_names: Names<RouterOwner>,
    services: HashMap<ServiceOwner, SharedService>,
    service_names: Names<ServiceOwner>,
    /// The candidates for the default backend, the oldest first.
    default_backends: BTreeMap<(Created, IngressKey), Arc<Fragment>>,
    /// The number of routers from the Ingresses of each namespace, including the default router. Namespaces without
    /// routers are absent.
    by_namespace: HashMap<Arc<str>, usize>,
    router_lines: Shards<RouterLines>,
    service_lines: Shards<ServiceLines>,
    certificates: Certificates,
    hash: RoutingHash,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            routers: HashMap::new(),
            router_names: Names::new(DEFAULT_ROUTER),
            services: HashMap::new(),
            service_names: Names::new(DEFAULT_BACKEND),
            default_backends: BTreeMap::new(),
            by_namespace: HashMap::new(),
            router_lines: Shards::default(),
            service_lines: Shards::default(),
            certificates: Certificates::default(),
            hash: RoutingHash::default(),
        }
    }
}

impl Output {
    /// The numbers of its entries.
    pub fn counts(&self) -> Counts {
        let default = usize::from(!self.default_backends.is_empty());
        Counts {
            routers: self.routers.len() + default,
            services: self.services.len() + default,
            certificates: self.certificates.published().len(),
        }
    }

    /// The certificates that [`Counts`] counts, each with the sum of its content.
    pub fn certificates(&self) -> impl Iterator<Item = (&Digest, &Certificate)> {
        self.certificates.published().values().map(|kept| (&kept.sum, &*kept.certificate))
    }

    /// The same by Secret, sorted.
    pub fn certificates_by_secret(&self) -> Vec<(&SecretKey, &Certificate)> {
        let sorted = self.certificates.published().sorted();
        sorted.into_iter().map(|(secret, kept)| (secret, &*kept.certificate)).collect()
    }

    /// [`Certificates::shadowed`]
    pub fn shadowed_secrets(&self) -> impl Iterator<Item = (&SecretKey, &SecretKey)> {
        self.certificates.shadowed()
    }

    /// The routers that [`Counts`] counts, by the namespace of their Ingress.
    pub fn routers_by_namespace(&self) -> &HashMap<Arc<str>, usize> {
        &self.by_namespace
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.counts() == Counts::default()
    }

    /// Size of routers and services as text, without certificates and without what is around the lines.
    pub fn routing_bytes(&self) -> usize {
        self.router_lines.bytes() + self.service_lines.bytes()
    }

    /// The whole as one document: routers and services by key, certificates by namespace and name of their Secret.
    pub fn assembled(&self, keys: Keys) -> String {
        let certificates = self.certificates_by_secret();
        let bytes = self.certificates.published().bytes();
        self.document(bytes, certificates.into_iter().map(|(_, certificate)| certificate), keys)
    }

    /// Routers and services as one document.
    pub fn routing(&self) -> String {
        self.document(0, [], Keys::LeftOut)
    }

    fn document<'a>(
        &'a self,
        more: usize,
        certificates: impl IntoIterator<Item = &'a Certificate>,
        keys: Keys,
    ) -> String {
        let mut text = String::with_capacity(self.routing_bytes() + more + 128);
        let (routers, services) = (self.router_lines.sorted(), self.service_lines.sorted());
        document::write(
            &mut text,
            lines(routers.into_iter()),
            lines(services.into_iter()),
            certificates,
            keys,
        );
        text
    }

    /// The hash of the whole ([`hash`]). The cost is proportional to what has changed since the last call.
    pub fn hash(&mut self) -> Digest {
        let Self { hash, router_lines, service_lines, certificates, .. } = self;
        hash.take(
            |cell| hash::cell_sum(lines(router_lines.cell(cell)), lines(service_lines.cell(cell))),
            || certificates.published().values().map(|kept| kept.sum).collect(),
        )
    }

    /// All routers that have a key, with their Ingress's fragment and the key of their service; in no order, and
    /// without the default one.
    pub fn routers(&self) -> impl Iterator<Item = (Arc<str>, &Fragment, &RouterFragment, Arc<str>)> {
        self.routers.iter().filter_map(|(owner, (fragment, index))| {
            let router = fragment.routers.get(*index)?;
            let key = self.router_names.key_of(owner, &owner.key)?;
            let service = self.services.get(&router.service.owner)?;
            let service = self.service_names.key_of(&router.service.owner, &service.content.key)?;
            Some((key, &**fragment, router, service))
        })
    }

    /// The fragment of the Ingress that is the default backend.
    pub fn default_backend(&self) -> Option<&Fragment> {
        self.default_backends.first_key_value().map(|(_, fragment)| &**fragment)
    }

    /// Updates the shards: adjusts their number to the size, and hashes the changed ones.
    pub fn refresh(&mut self) {
        self.router_lines.refresh();
        self.service_lines.refresh();
        self.certificates.refresh();
    }

    /// The routing shards, in order: those with routers, then those with services. Complete only right after
    /// [`Self::refresh`].
    pub fn routing_shards(&self) -> impl Iterator<Item = Digest> {
        self.router_lines.digests().chain(self.service_lines.digests())
    }

    /// The key shards, in order. Complete only right after [`Self::refresh`].
    pub fn key_shards(&self) -> impl Iterator<Item = Digest> {
        self.certificates.published().digests()
    }

    /// A routing shard; `None` if a change has removed it.
    pub fn routing_shard(&self, digest: &Digest) -> Option<ShardContent> {
        let routers = self.router_lines.shard(digest).map(KindEntries::Routers);
        routers.or_else(|| self.service_lines.shard(digest).map(KindEntries::Services)).map(ShardContent)
    }

    /// A key shard, with keys; `None` if a change has removed it.
    pub fn key_shard(&self, digest: &Digest) -> Option<ShardContent> {
        self.certificates.published().shard(digest).map(KindEntries::Certificates).map(ShardContent)
    }

    /// The place of each entry, routers before services.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<Place> {
        let services = self.service_lines.places();
        self.router_lines.places().into_values().chain(services.into_values()).collect()
    }

    /// Whether another Ingress is the default backend that `fragment` claims to be.
    pub(super) fn default_backend_is_taken_from(&self, fragment: &Fragment) -> bool {
        fragment.default_backend.is_some()
            && self
                .default_backends
                .first_key_value()
                .is_some_and(|((_, holder), _)| *holder != fragment.ingress)
    }

    /// A service as routers refer to it.
    pub(super) fn service(&self, owner: &ServiceOwner) -> Option<&Arc<ServiceFragment>> {
        Some(&self.services.get(owner)?.content)
    }

    /// Replaces the contribution of an Ingress. Returns whether anything published changed, and the other Ingresses (at
    /// most two) that have become the default backend or no longer are.
    pub(super) fn replace(
        &mut self,
        old: Option<&Arc<Fragment>>,
        new: Option<&Arc<Fragment>>,
    ) -> (bool, Vec<IngressKey>) {
        let mut touched = Affected::default();
        self.replace_routers(old, new, &mut touched);
        let mut changed = self.replace_certificates(old, new);
        if changed {
            self.hash.certificates_changed();
        }
        let (default_changed, others) = self.replace_default_backend(old, new);
        changed |= default_changed;
        changed |= self.render(touched);
        (changed, others)
    }

    /// Takes the services and certificates of a fragment that it holds. Returns whether anything published changed.
    pub(super) fn share(&mut self, fragment: &Arc<Fragment>) -> bool {
        let mut touched = Affected::default();
        for router in &fragment.routers {
            let held = self.service(&router.service.owner);
            if held.is_none_or(|held| !Arc::ptr_eq(held, &router.service)) {
                self.use_service(&router.service, &RouterOwner::new(fragment, router), &mut touched);
            }
        }
        let changed = self.replace_certificates(Some(fragment), Some(fragment));
        if changed {
            self.hash.certificates_changed();
        }
        changed | self.render(touched)
    }

    fn replace_routers(
        &mut self,
        old: Option<&Arc<Fragment>>,
        new: Option<&Arc<Fragment>>,
        touched: &mut Affected,
    ) {
        // New parts are added before old ones are removed, so that a service used by both stays.
        let (old_routers, new_routers) = (by_key(old), by_key(new));
        if let Some(fragment) = new {
            for (index, router) in new_routers.values() {
                let owner = RouterOwner::new(fragment, router);
                self.use_service(&router.service, &owner, touched);
                match self.routers.insert(owner.clone(), (fragment.clone(), *index)) {
                    None => {
                        self.count_router(&owner.ingress);
                        self.router_names.claim(owner.clone(), &owner.key, &mut touched.routers);
                    }
                    Some((before, index)) => {
                        let same = are_together(&before) == are_together(fragment)
                            && before.routers.get(index).is_some_and(|before| {
                                before.router == router.router && before.service.owner == router.service.owner
                            });
                        if !same {
                            touched.routers.extend(self.router_names.key_of(&owner, &owner.key));
                        }
                    }
                }
            }
        }
        if let Some(fragment) = old {
            let same_age = new.is_some_and(|new| new.created == fragment.created);
            for (key, (_, router)) in &old_routers {
                let owner = RouterOwner::new(fragment, router);
                let kept = new_routers.get(key).filter(|_| same_age);
                if kept.is_none() && self.routers.remove(&owner).is_some() {
                    self.uncount_router(&owner.ingress);
                    self.router_names.release(&owner, &owner.key, &mut touched.routers);
                }
                if kept.is_none_or(|(_, kept)| kept.service.owner != router.service.owner) {
                    self.leave_service(&router.service.owner, &owner, touched);
                }
            }
        }
    }

    fn count_router(&mut self, ingress: &IngressKey) {
        *self.by_namespace.entry(ingress.shared_namespace()).or_default() += 1;
    }

    fn uncount_router(&mut self, ingress: &IngressKey) {
        let Some(count) = self.by_namespace.get_mut(ingress.namespace()) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_namespace.remove(ingress.namespace());
        }
    }

    fn use_service(&mut self, service: &Arc<ServiceFragment>, router: &RouterOwner, touched: &mut Affected) {
        let owner = &service.owner;
        if let Some(shared) = self.services.get_mut(owner) {
            if !shared.routers.contains(router) {
                shared.routers.insert(router.clone());
            }
            if Arc::ptr_eq(&shared.content, service) {
                return;
            }
            let before = std::mem::replace(&mut shared.content, service.clone());
            if before.key != service.key {
                self.service_names.release(owner, &before.key, &mut touched.services);
                self.service_names.claim(owner.clone(), &service.key, &mut touched.services);
            } else if before.service != service.service {
                touched.contents.push(owner.clone());
            }
        } else {
            let shared = SharedService { content: service.clone(), routers: SmallSet::One(router.clone()) };
            self.services.insert(owner.clone(), shared);
            self.service_names.claim(owner.clone(), &service.key, &mut touched.services);
        }
    }

    fn leave_service(&mut self, owner: &ServiceOwner, router: &RouterOwner, touched: &mut Affected) {
        let Some(shared) = self.services.get_mut(owner) else { return };
        if shared.routers.remove(router)
            && let Some(shared) = self.services.remove(owner)
        {
            self.service_names.release(owner, &shared.content.key, &mut touched.services);
        }
    }

    fn replace_certificates(&mut self, old: Option<&Arc<Fragment>>, new: Option<&Arc<Fragment>>) -> bool {
        fn by_secret(fragment: Option<&Arc<Fragment>>) -> BTreeMap<&SecretKey, &CertificateFragment> {
            fragment
                .into_iter()
                .flat_map(|fragment| &fragment.certificates)
                .map(|of| (&of.secret, of))
                .collect()
        }
        let (old, new) = (by_secret(old), by_secret(new));
        let mut changed = false;
        for (secret, fragment) in &new {
            changed |= self.certificates.take(fragment, !old.contains_key(secret));
        }
        for secret in old.into_keys().filter(|secret| !new.contains_key(secret)) {
            changed |= self.certificates.leave(secret);
        }
        changed
    }

    fn replace_default_backend(
        &mut self,
        old: Option<&Arc<Fragment>>,
        new: Option<&Arc<Fragment>>,
    ) -> (bool, Vec<IngressKey>) {
        let wants = |fragment: &&Arc<Fragment>| fragment.default_backend.is_some();
        let (old, new) = (old.filter(wants), new.filter(wants));
        if old.is_none() && new.is_none() {
            return (false, Vec::new());
        }
        let holder =
            |output: &Self| output.default_backends.first_key_value().map(|((_, holder), _)| holder.clone());
        let before = holder(self);
        if let Some(old) = old {
            self.default_backends.remove(&(old.created, old.ingress.clone()));
        }
        if let Some(new) = new {
            self.default_backends.insert((new.created, new.ingress.clone()), new.clone());
        }
        let after = holder(self);
        let others = if before == after {
            Vec::new()
        } else {
            before.iter().for_each(|ingress| self.uncount_router(ingress));
            after.iter().for_each(|ingress| self.count_router(ingress));
            let own = new.or(old).map(|fragment| &fragment.ingress);
            before.into_iter().chain(after).filter(|ingress| Some(ingress) != own).collect()
        };

        let (router_key, service_key) = (Arc::from(DEFAULT_ROUTER), Arc::from(DEFAULT_BACKEND));
        let first =
            self.default_backends.first_key_value().and_then(|(_, first)| first.default_backend.as_deref());
        let changed = if let Some(first) = first {
            let router = Router { service: DEFAULT_BACKEND.to_owned(), ..first.router.clone() };
            let router_line = document::router_line(DEFAULT_ROUTER, &router);
            let service_line = document::service_line(DEFAULT_BACKEND, &first.service);
            let place = place(DEFAULT_ROUTER);
            // Both must be called, whatever the first returns.
            self.put_router(place, router_key, router_line)
                | self.put_service(place, service_key, service_line)
        } else {
            self.remove_router(&router_key) | self.remove_service(&service_key)
        };
        (changed, others)
    }

    /// Renders what was touched. Returns whether a line changed.
    fn render(&mut self, touched: Affected) -> bool {
        let Affected { mut routers, services, mut contents } = touched;
        let mut changed = false;
        for key in services {
            match self.service_names.holder(&key).and_then(|owner| Some((owner, self.services.get(owner)?))) {
                Some((owner, shared)) => {
                    contents.push(owner.clone());
                    routers.extend(
                        shared
                            .routers
                            .iter()
                            .filter_map(|router| self.router_names.key_of(router, &router.key)),
                    );
                }
                None => changed |= self.remove_service(&key),
            }
        }
        for owner in contents {
            let Some(shared) = self.services.get(&owner) else { continue };
            let Some(key) = self.service_names.key_of(&owner, &shared.content.key) else { continue };
            let line = document::service_line(&key, &shared.content.service);
            changed |= self.put_service(place(&owner.service.to_string()), key, line);
        }
        for key in routers.into_iter().collect::<BTreeSet<_>>() {
            match self.rendered_router(&key) {
                Some((place, line)) => changed |= self.put_router(place, key, line),
                None => changed |= self.remove_router(&key),
            }
        }
        changed
    }

    /// Sets the line of a router. Returns whether it changed.
    fn put_router(&mut self, place: Place, key: Arc<str>, line: String) -> bool {
        let cell = self.router_lines.put(place, key, line.into());
        self.changed(cell)
    }

    /// Sets the line of a service. Returns whether it changed.
    fn put_service(&mut self, place: Place, key: Arc<str>, line: String) -> bool {
        let cell = self.service_lines.put(place, key, line.into());
        self.changed(cell)
    }

    /// Removes the line of a router. Returns whether it existed.
    fn remove_router(&mut self, key: &Arc<str>) -> bool {
        let cell = self.router_lines.remove(key);
        self.changed(cell)
    }

    /// Removes the line of a service. Returns whether it existed.
    fn remove_service(&mut self, key: &Arc<str>) -> bool {
        let cell = self.service_lines.remove(key);
        self.changed(cell)
    }

    fn changed(&mut self, cell: Option<usize>) -> bool {
        cell.inspect(|cell| self.hash.changed(*cell)).is_some()
    }

    /// Place and line of the router with `key`.
    fn rendered_router(&self, key: &str) -> Option<(Place, String)> {
        let (fragment, index) = self.routers.get(self.router_names.holder(key)?)?;
        let RouterFragment { router, service, .. } = fragment.routers.get(*index)?;
        let shared = self.services.get(&service.owner)?;
        let service = self.service_names.key_of(&service.owner, &shared.content.key)?;
        let router = Router { service: String::from(&*service), ..router.clone() };
        let place = if are_together(fragment) { place(&fragment.ingress.to_string()) } else { place(key) };
        Some((place, document::router_line(key, &router)))
    }
}
