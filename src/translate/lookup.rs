//! What the translation may ask about the cluster. Read-only, synchronous, and the same offline and live.

use std::sync::Arc;

use crate::kubernetes::key::{SecretKey, ServiceKey};
use crate::kubernetes::{Service, Slice};
use crate::translate::settings::ClassState;
pub use crate::watch::secrets::{SecretFault, SecretState};

/// A view of the cluster.
pub trait Lookup {
    /// An IngressClass that is ours; `None` when it is not there or another controller's.
    fn class(&self, name: &str) -> Option<ClassState>;
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
