//! The keys that an event changed. The index turns them into the Ingresses to translate again.

use std::sync::Arc;

use crate::kubernetes::key::{IngressKey, SecretKey, ServiceKey};

/// The keys that an event touched. It contains only real changes: an event that changes no used field touches nothing.
/// A key may occur twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Ingresses that were created or deleted, or whose spec or annotations changed.
    pub ingresses: Vec<IngressKey>,
    /// Ingresses of which only the status or its owners changed.
    pub statuses: Vec<IngressKey>,
    /// Services that were created, deleted or changed.
    pub services: Vec<ServiceKey>,
    /// Services of which an EndpointSlice was created, deleted or changed.
    pub endpoints: Vec<ServiceKey>,
    /// Secrets whose state changed.
    pub secrets: Vec<SecretKey>,
    /// Secrets whose data is needed and not stored: a GET for each, answered by [`Stores::secret_fetched`] or
    /// [`Stores::secret_fetch_failed`].
    ///
    /// [`Stores::secret_fetched`]: crate::watch::stores::Stores::secret_fetched
    /// [`Stores::secret_fetch_failed`]: crate::watch::stores::Stores::secret_fetch_failed
    pub fetch: Vec<SecretKey>,
    /// IngressClasses that were created, deleted or changed.
    pub classes: Vec<Arc<str>>,
    /// IngressClassParameters that were created, deleted or changed.
    pub parameters: Vec<Arc<str>>,
    /// Namespaces that were created or deleted, or whose labels changed.
    pub labels: Vec<Arc<str>>,
    /// A ConfigMap with stored parameters changed.
    pub class_memory: bool,
    /// Namespaces that now contain an Ingress or a Service and contained none before, or the other way around.
    pub namespaces: Vec<Arc<str>>,
    /// The address of a node changed, or a node was created or deleted.
    pub nodes: bool,
}

impl Touched {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
