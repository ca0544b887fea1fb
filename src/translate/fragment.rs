//! What one Ingress contributes to the routing of an output.

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
    /// When it was created: the older of two claimants keeps a name.
    pub created: Created,
    /// That of the Ingress it was made from.
    pub uid: Uid,
    /// The settings it was made with; they name the output and the source of its status.
    pub settings: Arc<Settings>,
    /// Its routers; keys are distinct.
    pub routers: Vec<RouterFragment>,
    /// Only set if it works.
    pub default_backend: Option<Box<DefaultBackend>>,
    pub certificates: Vec<CertificateFragment>,
    /// What is wrong with it, in the order of its fields.
    pub problems: Vec<Problem>,
    pub uses_nodes: bool,
    /// Namespaces whose coming or going may change this, or [`ANY_NAMESPACE`](crate::watch::ANY_NAMESPACE) alone.
    pub namespaces: Box<[Arc<str>]>,
}

impl Fragment {
    /// The output that it belongs to.
    pub fn output(&self) -> &OutputKey {
        &self.settings.output
    }
}

/// A router and the service that it leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterFragment {
    /// The key that it would have without other Ingresses; bounded, see [`crate::translate::name`].
    pub key: Arc<str>,
    /// The router; its `service` is empty until the table knows the service's final key.
    pub router: Router,
    pub service: Arc<ServiceFragment>,
}

/// A service as one backend of an Ingress sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFragment {
    /// The key that it would have without other services; bounded.
    pub key: Arc<str>,
    pub owner: ServiceOwner,
    pub service: HttpService,
}

/// What makes a service of the routing one and the same: fragments with an equal owner share one entry.
/// Ordered by age, so that the least of several claimants keeps a name.
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
    /// When the Secret was created: of several for the same names the oldest is served.
    pub created: Created,
    pub certificate: Arc<Certificate>,
}
