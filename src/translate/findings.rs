//! What the translation of one Ingress finds beside its routing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::problem::Problems;
use crate::watch::{ANY_NAMESPACE, Stores};

/// An Ingress that depends on more namespaces counts as one that depends on all, so that it takes little memory.
const NAMESPACES_LIMIT: usize = 64;

/// Problems, and what the Ingress depends on beyond what its spec names.
#[derive(Debug, Default)]
pub(super) struct IngressFindings {
    pub problems: Problems,
    pub uses_nodes: bool,
    /// Namespaces whose coming or going may change the routing, or [`ANY_NAMESPACE`] alone.
    pub namespaces: BTreeSet<Arc<str>>,
    /// How many addresses of endpoints were looked at.
    pub addresses: usize,
}

impl IngressFindings {
    /// Whether there is such a namespace, which the Ingress depends on from now on.
    pub(super) fn has_namespace(&mut self, namespace: &str, lookup: &Stores) -> bool {
        if !self.namespaces.contains(ANY_NAMESPACE) && !self.namespaces.contains(namespace) {
            if self.namespaces.len() < NAMESPACES_LIMIT {
                self.namespaces.insert(namespace.into());
            } else {
                self.namespaces = [ANY_NAMESPACE.into()].into();
            }
        }
        lookup.has_namespace(namespace)
    }
}
