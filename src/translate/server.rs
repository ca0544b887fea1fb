//! A port of a Service to the addresses behind it.
//!
//! The order of decision is that of Traefik's `loadService` (pkg/provider/kubernetes/ingress).

use std::collections::HashSet;
use std::fmt::Write;

use k8s_openapi::api::networking::v1::ServiceBackendPort;

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::{Address, Service, ServicePort, ServiceType};
use crate::traefik::dynamic::Server;
use crate::translate::annotation::ServiceAnnotations;
use crate::translate::lookup::Lookup;
use crate::translate::problem::Category;
use crate::translate::settings::Settings;

/// Why a backend has no servers, with what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub category: Category,
    /// What would be right.
    pub remedy: String,
}

impl Broken {
    /// A fault of `category`.
    pub fn new(category: Category, remedy: impl Into<String>) -> Self {
        Self { category, remedy: remedy.into() }
    }
}

/// The port of a Service that a backend means: the first in the order of its spec whose number or (not empty) name is
/// the backend's.
pub fn port<'s>(service: &'s Service, wanted: Option<&ServiceBackendPort>) -> Option<&'s ServicePort> {
    let wanted = wanted?;
    let name = wanted.name.as_deref().filter(|name| !name.is_empty());
    let mut ports = service.ports.iter();
    ports.find(|port| wanted.number == Some(port.port) || name.is_some_and(|name| *port.name == *name))
}

/// The servers of a Service's port. An empty list means that there is no endpoint, which is not a fault here.
///
/// # Errors
/// Where the Service can't have servers at all, whatever `allowEmptyServices` says.
pub fn servers<L: Lookup + ?Sized>(
    key: &ServiceKey,
    service: &Service,
    port: &ServicePort,
    annotations: &ServiceAnnotations,
    settings: &Settings,
    lookup: &L,
    uses_nodes: &mut bool,
) -> Result<Vec<Server>, Broken> {
    let scheme = scheme(port, annotations);
    if annotations.node_port_lb && service.kind == ServiceType::NodePort {
        *uses_nodes = true;
        return node_servers(scheme, port, settings, lookup);
    }
    if service.kind == ServiceType::ExternalName {
        let host = service.external_name.as_deref().unwrap_or_default();
        return Ok(vec![server(scheme, host, port.port)]);
    }
    if annotations.native_lb.unwrap_or(settings.native_lb_by_default) {
        return match &*service.cluster_ip {
            "" | "None" => Err(Broken::new(
                Category::NoClusterIP,
                "the Service has no cluster IP to balance by; give it one, or set service.nativelb: \"false\" on it",
            )),
            address => Ok(vec![server(scheme, address, port.port)]),
        };
    }
    Ok(endpoint_servers(scheme, key, port, lookup))
}

fn node_servers<L: Lookup + ?Sized>(
    scheme: &str,
    port: &ServicePort,
    settings: &Settings,
    lookup: &L,
) -> Result<Vec<Server>, Broken> {
    let addresses = if settings.disable_cluster_scope_resources { None } else { lookup.node_internal_ips() };
    let Some(addresses) = addresses else {
        return Err(Broken::new(
            Category::NodesUnavailable,
            "nodes are not read here (disableClusterScopeResources); remove service.nodeportlb from the Service",
        ));
    };
    if addresses.is_empty() {
        return Err(Broken::new(Category::NodesUnavailable, "no node has an InternalIP address"));
    }
    Ok(addresses.iter().map(|address| server(scheme, address, port.node_port)).collect())
}

/// Up to this many addresses of a Service are compared with each other, which is cheaper than a set of them.
const FEW: usize = 16;

/// Serving endpoints of the slices whose port has the name of the Service's. Those that terminate are left out while
/// there is another, as kube-proxy does.
fn endpoint_servers<L: Lookup + ?Sized>(
    scheme: &str,
    key: &ServiceKey,
    port: &ServicePort,
    lookup: &L,
) -> Vec<Server> {
    let slices = lookup.endpoint_slices(key);
    // The first mention of an address counts, with its port and whether it terminates.
    let count = slices.iter().map(|slice| slice.addresses.len()).sum();
    let mut first: Vec<(&Address, i32)> = Vec::with_capacity(count);
    let mut seen = HashSet::new();
    let mut all_terminate = true;
    for slice in slices {
        let number = slice.ports.iter().find(|other| other.name == port.name).map_or(0, |other| other.number);
        if number == 0 {
            continue;
        }
        for address in &slice.addresses {
            let repeated = if count <= FEW {
                first.iter().any(|(other, _)| other.host == address.host)
            } else {
                !seen.insert(&*address.host)
            };
            if !repeated {
                all_terminate &= address.terminating;
                first.push((address, number));
            }
        }
    }
    let serve = |(address, _): &&(&Address, i32)| all_terminate || !address.terminating;
    let mut servers = Vec::with_capacity(first.iter().filter(serve).count());
    servers
        .extend(first.iter().filter(serve).map(|(address, number)| server(scheme, &address.host, *number)));
    servers
}

fn scheme<'a>(port: &ServicePort, annotations: &'a ServiceAnnotations) -> &'a str {
    if !annotations.servers_scheme.is_empty() {
        &annotations.servers_scheme
    } else if port.port == 443 || port.name.starts_with("https") {
        "https"
    } else {
        "http"
    }
}

fn server(scheme: &str, host: &str, port: i32) -> Server {
    let mut url = String::with_capacity(scheme.len() + host.len() + 11);
    // An IPv6 address is bracketed, as Go's net.JoinHostPort does. Writing into a String can't fail.
    let _ = if host.contains(':') {
        write!(url, "{scheme}://[{host}]:{port}")
    } else {
        write!(url, "{scheme}://{host}:{port}")
    };
    Server { url }
}
