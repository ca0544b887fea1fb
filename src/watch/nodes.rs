//! The addresses of nodes, in the order of the nodes' names.

use std::sync::{Arc, OnceLock};

use crate::kubernetes::NodeAddresses;
use crate::watch::collection::Collection;

/// All nodes, with their addresses joined once and not at every look-up.
#[derive(Debug, Default)]
pub struct Nodes {
    /// The nodes by name (the namespace of the key is empty).
    pub collection: Collection<Arc<NodeAddresses>>,
    internal: OnceLock<Arc<[Box<str>]>>,
    external: OnceLock<Arc<[Box<str>]>>,
}

impl Nodes {
    /// Drops the joined addresses, because a node changed.
    pub fn invalidate(&mut self) {
        self.internal.take();
        self.external.take();
    }

    /// Every InternalIP.
    pub fn internal_ips(&self) -> Arc<[Box<str>]> {
        Arc::clone(self.internal.get_or_init(|| self.collect(|addresses| &addresses.internal)))
    }

    /// Every ExternalIP.
    pub fn external_ips(&self) -> Arc<[Box<str>]> {
        Arc::clone(self.external.get_or_init(|| self.collect(|addresses| &addresses.external)))
    }

    fn collect(&self, pick: impl Fn(&NodeAddresses) -> &[Box<str>]) -> Arc<[Box<str>]> {
        let mut nodes: Vec<_> = self.collection.iter().collect();
        nodes.sort_by_key(|(key, _)| *key);
        nodes.iter().flat_map(|(_, addresses)| pick(addresses).iter().cloned()).collect()
    }
}
