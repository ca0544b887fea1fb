//! Turns a port of a Service into the addresses behind it.
//!
//! The order of decision is that of Traefik's `loadService` (pkg/provider/kubernetes/ingress).

use std::collections::HashSet;
use std::sync::Arc;

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::{Address, Service, ServicePort, ServiceType, Slice};
use crate::traefik::dynamic::Server;
use crate::translate::annotation::ServiceAnnotations;
use crate::translate::findings::IngressFindings;
use crate::translate::host::Host;
use crate::translate::problem::{Category, Problem};
use crate::translate::settings::Settings;
use crate::translate::size;
use crate::watch::Stores;

/// Why a backend has no servers, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenBackend {
    pub category: Category,
    pub remedy: Arc<str>,
}

impl BrokenBackend {
    /// A fault of `category`.
    pub fn new(category: Category, remedy: impl Into<Arc<str>>) -> Self {
        Self { category, remedy: remedy.into() }
    }
}

/// A port of a Service, and the settings for its servers.
pub(super) struct Target<'a> {
    pub key: &'a ServiceKey,
    pub service: &'a Service,
    pub port: &'a ServicePort,
    pub annotations: &'a ServiceAnnotations,
    pub settings: &'a Settings,
    pub stores: &'a Stores,
}

impl Target<'_> {
    /// The servers; none if there is no endpoint, which is not a fault here. `slices` are those that have the port,
    /// each with its number.
    ///
    /// # Errors
    /// If the Service can't have servers at all, whatever `allowEmptyServices` says.
    pub fn servers<'s>(
        &self,
        slices: impl Iterator<Item = (&'s Slice, i32)>,
        findings: &mut IngressFindings,
    ) -> Result<Vec<Server>, BrokenBackend> {
        if self.annotations.node_port_lb && self.service.kind == ServiceType::NodePort {
            findings.uses_nodes = true;
            return self.node_servers();
        }
        let only = |text| Ok(vec![self.server(self.host(text, self.port.port)?, self.port.port)?]);
        if self.service.kind == ServiceType::ExternalName {
            return only(self.service.external_name.as_deref().unwrap_or_default());
        }
        if !self.annotations.native_lb.unwrap_or(self.settings.native_lb_by_default) {
            return self.endpoint_servers(slices, findings);
        }
        match &*self.service.cluster_ip {
            "" | "None" => Err(BrokenBackend::new(
                Category::NoClusterIP,
                "the Service has no cluster IP; give it one, or set service.nativelb: \"false\" on it",
            )),
            address => only(address),
        }
    }

    fn node_servers(&self) -> Result<Vec<Server>, BrokenBackend> {
        let unavailable = |remedy| BrokenBackend::new(Category::NodesUnavailable, remedy);
        let addresses = Some(self.stores).filter(|_| !self.settings.disable_cluster_scope_resources);
        let addresses = addresses.and_then(Stores::node_internal_ips).ok_or_else(|| {
            unavailable("nodes are not read (disableClusterScopeResources); remove service.nodeportlb from the Service")
        })?;
        // The API server accepts any text as a node's address.
        let hosts = addresses.iter().filter_map(|address| Host::parse(address));
        let servers: Vec<Server> =
            hosts.filter_map(|host| self.server(host, self.port.node_port).ok()).collect();
        if servers.is_empty() { Err(unavailable("no node has an InternalIP address")) } else { Ok(servers) }
    }

    /// The serving endpoints of the slices. Terminating ones are left out while there is another, as in kube-proxy.
    fn endpoint_servers<'s>(
        &self,
        slices: impl Iterator<Item = (&'s Slice, i32)>,
        findings: &mut IngressFindings,
    ) -> Result<Vec<Server>, BrokenBackend> {
        /// Up to this number, addresses are compared with each other, which is cheaper than a set.
        const FEW: usize = 16;

        // The first occurrence of an address is used, with its port and whether it is terminating.
        let mut first: Vec<(&Address, i32)> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for (address, number) in
            slices.flat_map(|(slice, number)| slice.addresses.iter().map(move |address| (address, number)))
        {
            findings.addresses += 1;
            let repeated = if first.len() < FEW {
                first.iter().any(|(other, _)| other.host == address.host)
            } else {
                if seen.is_empty() {
                    seen.extend(first.iter().map(|(other, _)| &*other.host));
                }
                !seen.insert(&address.host)
            };
            if !repeated {
                first.push((address, number));
            }
        }
        let all_terminate = first.iter().all(|(address, _)| address.terminating);
        first.retain(|(address, _)| all_terminate || !address.terminating);
        let bytes = first.iter().map(|(address, _)| address.host.len() + size::SERVER).sum();
        if bytes > size::ENTRY_LIMIT {
            return Err(too_large(self.key, first.len(), bytes));
        }
        let mut servers = Vec::with_capacity(first.len());
        for (address, number) in first {
            let host = self.host(&address.host, number)?;
            check_host(host, self.key, self.settings, self.stores, findings)?;
            servers.push(self.server(host, number)?);
        }
        Ok(servers)
    }

    fn host<'t>(&self, text: &'t str, port: i32) -> Result<Host<'t>, BrokenBackend> {
        Host::parse(text).ok_or_else(|| self.invalid_address(text, port))
    }

    fn server(&self, host: Host<'_>, port: i32) -> Result<Server, BrokenBackend> {
        let port = u16::try_from(port).map_err(|_| self.invalid_address(host.text(), port))?;
        let scheme = match self.annotations.servers_scheme.as_str() {
            "" if self.port.port == 443 || self.port.name.starts_with("https") => "https",
            "" => "http",
            scheme => scheme,
        };
        Ok(Server { url: host.url(scheme, port) })
    }

    fn invalid_address(&self, host: &str, port: i32) -> BrokenBackend {
        BrokenBackend::new(
            Category::InvalidAddress,
            format!(
                "{:?} of Service {} is not an IP address or host name with a port from 1 to 65535",
                Problem::shown(&format!("{host}:{port}")),
                self.key
            ),
        )
    }
}

/// Checks that a host does not lead into another namespace.
pub(super) fn check_host(
    host: Host<'_>,
    key: &ServiceKey,
    settings: &Settings,
    stores: &Stores,
    findings: &mut IngressFindings,
) -> Result<(), BrokenBackend> {
    let own = key.namespace();
    let foreign = !settings.allow_cross_namespace
        && host.could_be_foreign(own, |label| findings.has_namespace(label, stores));
    if !foreign {
        return Ok(());
    }
    Err(BrokenBackend::new(
        Category::CrossNamespaceNotAllowed,
        format!(
            "{:?} of Service {key} could be a Service of another namespace; write a Service of your own \
             namespace as NAME.{own}.svc.cluster.local, write a name outside the cluster with a final dot, or \
             ask the operator's owner to set allowCrossNamespace",
            host.text()
        ),
    ))
}

/// A service that is too large to be published.
pub(super) fn too_large(key: &ServiceKey, servers: usize, bytes: usize) -> BrokenBackend {
    let remedy = if bytes > size::ENTRY_LIMIT {
        format!(
            "Service {key} has {servers} servers and is at least {}; spread it over several Services, or have \
             service.nativelb set",
            size::said(bytes)
        )
    } else {
        format!("Service {key} has more than {} middlewares; shorten service.middlewares", size::ITEMS_LIMIT)
    };
    BrokenBackend::new(Category::EntryTooLarge, remedy)
}
