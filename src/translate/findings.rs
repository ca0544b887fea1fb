//! Collects what the translation of one Ingress finds beside its routing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::problem::Problems;
use crate::watch::{ANY_NAMESPACE, Stores};

/// An Ingress that depends on more namespaces counts as one that depends on all, to save memory.
const NAMESPACES_LIMIT: usize = 64;

/// Problems, and dependencies of the Ingress beyond what its spec names.
#[derive(Debug, Default)]
pub(super) struct IngressFindings {
    pub problems: Problems,
    pub uses_nodes: bool,
    /// Namespaces whose creation or deletion may change the routing, or only [`ANY_NAMESPACE`].
    pub namespaces: BTreeSet<Arc<str>>,
    /// The number of endpoint addresses that were considered.
    pub addresses: usize,
}

impl IngressFindings {
    /// Whether a namespace exists. The Ingress depends on it from now on.
    pub(super) fn has_namespace(&mut self, namespace: &str, stores: &Stores) -> bool {
        if !self.namespaces.contains(ANY_NAMESPACE) && !self.namespaces.contains(namespace) {
            if self.namespaces.len() < NAMESPACES_LIMIT {
                self.namespaces.insert(namespace.into());
            } else {
                self.namespaces = [ANY_NAMESPACE.into()].into();
            }
        }
        stores.has_namespace(namespace)
    }
}
