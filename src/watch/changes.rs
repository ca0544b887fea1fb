//! What an event changed, in keys: what the index turns into the Ingresses to translate again.

use std::sync::Arc;

use crate::kubernetes::key::{IngressKey, SecretKey, ServiceKey};

/// The keys that an event touched. Only real changes are in it: an event that leaves every field that is read
/// as it was touches nothing. A key may come twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Ingresses that came, went, or whose spec or annotations changed.
    pub ingresses: Vec<IngressKey>,
    /// Ingresses of which nothing but the status, or who owns it, changed.
    pub statuses: Vec<IngressKey>,
    /// Services that came, went or changed, themselves or their EndpointSlices.
    pub services: Vec<ServiceKey>,
    /// Secrets whose state changed.
    pub secrets: Vec<SecretKey>,
    /// Secrets whose data is wanted and not held: a GET for each, answered by [`Stores::secret_fetched`] or
    /// [`Stores::secret_fetch_failed`].
    ///
    /// [`Stores::secret_fetched`]: crate::watch::stores::Stores::secret_fetched
    /// [`Stores::secret_fetch_failed`]: crate::watch::stores::Stores::secret_fetch_failed
    pub fetch: Vec<SecretKey>,
    /// IngressClasses that came, went or changed.
    pub classes: Vec<Arc<str>>,
    /// IngressClassParameters that came, went or changed.
    pub parameters: Vec<Arc<str>>,
    /// Namespaces that came, went or whose labels changed.
    pub labels: Vec<Arc<str>>,
    /// A ConfigMap that remembers accepted parameters changed.
    pub class_memory: bool,
    /// Namespaces that hold an Ingress or a Service and held none before, or the other way around.
    pub namespaces: Vec<Arc<str>>,
    /// The address of a node changed, or a node came or went.
    pub nodes: bool,
}

impl Touched {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another event touched.
    pub fn merge(&mut self, other: Self) {
        self.ingresses.extend(other.ingresses);
        self.statuses.extend(other.statuses);
        self.services.extend(other.services);
        self.secrets.extend(other.secrets);
        self.fetch.extend(other.fetch);
        self.classes.extend(other.classes);
        self.parameters.extend(other.parameters);
        self.labels.extend(other.labels);
        self.class_memory |= other.class_memory;
        self.namespaces.extend(other.namespaces);
        self.nodes |= other.nodes;
    }
}
