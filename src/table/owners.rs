//! Owners of routers and services: those that claim a key, and those that refer to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::Claimant;
use crate::kubernetes::key::IngressKey;
use crate::small_set::SmallSet;
use crate::translate::fragment::{Created, Fragment, RouterFragment, ServiceFragment, ServiceOwner};
use crate::translate::name;

/// A router of an Ingress. Ordered by the Ingress's age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouterOwner {
    pub created: Created,
    pub ingress: IngressKey,
    pub key: Arc<str>,
}

impl RouterOwner {
    /// The owner of one of the routers of `fragment`.
    pub fn new(fragment: &Fragment, router: &RouterFragment) -> Self {
        Self { created: fragment.created, ingress: fragment.ingress.clone(), key: router.key.clone() }
    }
}

impl Claimant for RouterOwner {
    fn identity(&self) -> String {
        self.ingress.to_string()
    }
}

impl Claimant for ServiceOwner {
    /// Also distinguishes two ports that normalise to one key, and two ways to build a Service.
    fn identity(&self) -> String {
        let mut identity = self.service.to_string();
        if name::normalize(&self.port) != *self.port {
            identity.push('/');
            identity.push_str(&self.port);
        }
        if self.variant != 0 {
            identity.push_str(&format!("#{:x}", self.variant));
        }
        identity
    }
}

/// A service and the routers that use it. It is removed with the last of them.
pub(super) struct SharedService {
    pub content: Arc<ServiceFragment>,
    pub routers: SmallSet<RouterOwner>,
}

/// The routers of a fragment. Their keys are distinct; otherwise the last one would be used.
pub(super) fn by_key(fragment: Option<&Arc<Fragment>>) -> BTreeMap<&str, (usize, &RouterFragment)> {
    fragment
        .into_iter()
        .flat_map(|fragment| fragment.routers.iter().enumerate())
        .map(|(index, router)| (&*router.key, (index, router)))
        .collect()
}
