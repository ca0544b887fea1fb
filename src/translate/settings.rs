//! The settings of the translation: the operator's options, or those of a class with parameters.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kubernetes::key::{OutputKey, ServiceKey};

/// Traefik's rule syntaxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleSyntax {
    V2,
    #[default]
    V3,
}

/// Which of two matching routers goes first (`operator.routing.precedence`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precedence {
    /// The longer rule text, as Traefik's own provider.
    #[default]
    Traefik,
    /// What the Ingress API promises.
    Spec,
}

/// What becomes of a path whose backend can't be used (`operator.routing.brokenBackends`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BrokenBackends {
    /// It vanishes, as with Traefik's own provider.
    #[default]
    Drop,
    /// It stays and answers 503.
    Answer503,
}

/// Where the addresses in an Ingress's status come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusSource {
    /// Statuses are left alone.
    #[default]
    None,
    /// One fixed entry (`ingressEndpoint.ip`, `.hostname`).
    Fixed { ip: Option<IpAddr>, hostname: Option<String> },
    /// Copied from a Service (`ingressEndpoint.publishedService`).
    PublishedService(ServiceKey),
    /// The InternalIP of every node (`reportNodeInternalIPs`).
    NodeInternalIPs,
}

/// Which namespaces may use a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum NamespacePolicy {
    #[default]
    All,
    List(BTreeSet<String>),
    /// Those with certain labels, as a list of the namespaces that have them now.
    Selected(BTreeSet<String>),
}

impl NamespacePolicy {
    /// Whether an Ingress of `namespace` may use the class.
    pub fn admits(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::List(set) | Self::Selected(set) => set.contains(namespace),
        }
    }
}

/// Everything that the translation of an Ingress depends on beside objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    pub output: OutputKey,
    pub allow_empty_services: bool,
    pub allow_cross_namespace: bool,
    pub allow_external_name_services: bool,
    pub native_lb_by_default: bool,
    pub strict_prefix_matching: bool,
    /// `disableClusterScopeResources`: nodes are not read.
    pub disable_cluster_scope_resources: bool,
    /// `crossProviderNamespaces`; `None` is no restriction, an empty set means nowhere.
    pub cross_provider_namespaces: Option<BTreeSet<String>>,
    pub default_rule_syntax: RuleSyntax,
    pub precedence: Precedence,
    pub broken_backends: BrokenBackends,
    /// For routers whose Ingress names none (only a class can set them).
    pub default_entry_points: Vec<String>,
    /// For routers whose Ingress names none (only a class can set them).
    pub default_middlewares: Vec<String>,
    pub status: StatusSource,
    pub namespaces: NamespacePolicy,
    /// 0 for the operator's own options; otherwise tells settings apart that build a Service differently,
    /// so that two classes can share an output.
    pub service_variant: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            output: OutputKey::new("waybill", "waybill"),
            allow_empty_services: false,
            allow_cross_namespace: false,
            allow_external_name_services: false,
            native_lb_by_default: false,
            strict_prefix_matching: false,
            disable_cluster_scope_resources: false,
            cross_provider_namespaces: None,
            default_rule_syntax: RuleSyntax::V3,
            precedence: Precedence::Traefik,
            broken_backends: BrokenBackends::Drop,
            default_entry_points: Vec::new(),
            default_middlewares: Vec::new(),
            status: StatusSource::None,
            namespaces: NamespacePolicy::All,
            service_variant: 0,
        }
    }
}

/// What decides which Ingresses are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassOptions {
    pub controller_name: String,
    /// `ingressClass`; empty is none.
    pub ingress_class: String,
    pub lookup_disabled: bool,
}

impl ClassOptions {
    /// Whether the Ingresses of a class of ours are looked at.
    pub fn takes(&self, class: &str) -> bool {
        self.ingress_class.is_empty() || self.ingress_class == class
    }
}

impl Default for ClassOptions {
    fn default() -> Self {
        Self {
            controller_name: "traefik.io/ingress-controller".to_owned(),
            ingress_class: String::new(),
            lookup_disabled: false,
        }
    }
}

/// What an IngressClass of ours says about its Ingresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassState {
    Accepted(Arc<Settings>),
    /// It names parameters that were never accepted: its Ingresses get a problem and no routing.
    NotAccepted,
}
