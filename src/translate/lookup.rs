//! What the translation may ask about the cluster. Read-only, synchronous, and the same offline and live.

use std::sync::Arc;

use crate::kubernetes::key::{SecretKey, ServiceKey};
use crate::kubernetes::{Service, Slice};
pub use crate::watch::secrets::{SecretFault, SecretState};
use crate::watch::stores::Stores;

/// A view of the cluster.
pub trait Lookup {
    /// A Service.
    fn service(&self, key: &ServiceKey) -> Option<&Service>;
    /// The EndpointSlices labelled with a Service's name, oldest first, then by name.
    fn endpoint_slices(&self, key: &ServiceKey) -> &[Arc<Slice>];
    /// A Secret.
    fn secret(&self, key: &SecretKey) -> SecretState;
    /// The InternalIP addresses of all nodes, by node name; `None` where nodes are not read.
    fn node_internal_ips(&self) -> Option<Arc<[Box<str>]>>;
    /// The ExternalIP addresses of all nodes, by node name; `None` where nodes are not read.
    fn node_external_ips(&self) -> Option<Arc<[Box<str>]>>;
    /// The longest namespace `n` that holds an Ingress or a Service, is longer than `namespace`, and for which
    /// `reference` begins with `n-`.
    fn longer_namespace(&self, namespace: &str, reference: &str) -> Option<Arc<str>>;
}

impl Lookup for Stores {
    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        Self::service(self, key)
    }

    fn endpoint_slices(&self, key: &ServiceKey) -> &[Arc<Slice>] {
        Self::endpoint_slices(self, key)
    }

    fn secret(&self, key: &SecretKey) -> SecretState {
        Self::secret(self, key)
    }

    fn node_internal_ips(&self) -> Option<Arc<[Box<str>]>> {
        Self::node_internal_ips(self)
    }

    fn node_external_ips(&self) -> Option<Arc<[Box<str>]>> {
        Self::node_external_ips(self)
    }

    fn longer_namespace(&self, namespace: &str, reference: &str) -> Option<Arc<str>> {
        Self::longer_namespace(self, namespace, reference)
    }
}
