//! The contribution of one Ingress to the routing of an output.

use std::sync::Arc;

use crate::kubernetes::key::{IngressKey, OutputKey, SecretKey, ServiceKey};
pub use crate::kubernetes::{Created, Uid};
use crate::traefik::dynamic::{Certificate, HttpService, Router};
use crate::translate::problem::Problem;
use crate::translate::settings::Settings;

/// One Ingress's contribution to one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    pub ingress: IngressKey,
    /// Its time of creation: the older of two claimants keeps a name.
    pub created: Created,
    /// The uid of its Ingress.
    pub uid: Uid,
    /// The settings used for it; they name the output and the source of its status.
    pub settings: Arc<Settings>,
    /// Its routers; keys are distinct.
    pub routers: Vec<RouterFragment>,
    /// Only set if it works.
    pub default_backend: Option<Box<DefaultBackend>>,
    pub certificates: Vec<CertificateFragment>,
    /// Its problems, in the order of its fields.
    pub problems: Vec<Problem>,
    pub uses_nodes: bool,
    /// Namespaces whose creation or deletion may change this, or only [`ANY_NAMESPACE`](crate::watch::ANY_NAMESPACE).
    pub namespaces: Box<[Arc<str>]>,
}

impl Fragment {
    /// The output that it belongs to.
    pub fn output(&self) -> &OutputKey {
        &self.settings.output
    }
}

/// A router and its service.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterFragment {
    /// The key that it has unless other Ingresses claim it; bounded, see [`crate::translate::name`].
    pub key: Arc<str>,
    /// The router; its `service` is empty until the table knows the service's final key.
    pub router: Router,
    pub service: Arc<ServiceFragment>,
}

/// A service as one backend of an Ingress sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFragment {
    /// The key that it has unless other services claim it; bounded.
    pub key: Arc<str>,
    pub owner: ServiceOwner,
    pub service: HttpService,
}

/// The identity of a service: fragments with an equal owner share one entry. Ordered by age, so that the least of
/// several claimants keeps a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceOwner {
    pub created: Created,
    pub service: ServiceKey,
    /// The port as the backend writes it: its name, else its number.
    pub port: Arc<str>,
    pub variant: u64,
}

/// An Ingress's claim to the router `default-router` and the service `default-backend`.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultBackend {
    /// The router; its `service` is `default-backend`.
    pub router: Router,
    pub service: HttpService,
}

/// A certificate from a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFragment {
    pub secret: SecretKey,
    pub certificate: Arc<Certificate>,
}
