//! A port of a Service to the addresses behind it.
//!
//! The order of decision is that of Traefik's `loadService` (pkg/provider/kubernetes/ingress).

use std::collections::HashSet;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::networking::v1::ServiceBackendPort;

use crate::kubernetes::key::ServiceKey;
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
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| {
        wanted.number == Some(port.port)
            || wanted
                .name
                .as_deref()
                .is_some_and(|name| !name.is_empty() && port.name.as_deref() == Some(name))
    })
}

/// The type of a Service; the API server's default where a manifest names none.
pub fn service_type(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP")
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
    let kind = service_type(service);
    if annotations.node_port_lb && kind == "NodePort" {
        *uses_nodes = true;
        return node_servers(scheme, port, settings, lookup);
    }
    let spec = service.spec.as_ref();
    if kind == "ExternalName" {
        let host = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
        return Ok(vec![server(scheme, host, port.port)]);
    }
    if annotations.native_lb.unwrap_or(settings.native_lb_by_default) {
        return match spec.and_then(|spec| spec.cluster_ip.as_deref()) {
            None | Some("" | "None") => Err(Broken::new(
                Category::NoClusterIP,
                "the Service has no cluster IP to balance by; give it one, or set service.nativelb: \"false\" on it",
            )),
            Some(address) => Ok(vec![server(scheme, address, port.port)]),
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
    let node_port = port.node_port.unwrap_or_default();
    Ok(addresses.iter().map(|address| server(scheme, address, node_port)).collect())
}

/// Serving endpoints of the slices whose port has the name of the Service's. Those that terminate are left out while
/// there is another, as kube-proxy does.
fn endpoint_servers<L: Lookup + ?Sized>(
    scheme: &str,
    key: &ServiceKey,
    port: &ServicePort,
    lookup: &L,
) -> Vec<Server> {
    let slices = lookup.endpoint_slices(key);
    let name = port.name.as_deref().unwrap_or_default();
    let mut servers = Vec::new();
    let mut seen = HashSet::new();
    for slice in &slices {
        let ports = slice.ports.as_deref().unwrap_or_default();
        let number = ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| port.port)
            .unwrap_or(0);
        if number == 0 {
            continue;
        }
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(true);
            let terminates = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
            if !serving {
                continue;
            }
            // The first mention of an address counts, with its port and whether it terminates.
            let addresses = endpoint.addresses.iter().filter(|address| seen.insert(address.as_str()));
            servers.extend(addresses.map(|address| (server(scheme, address, number), terminates)));
        }
    }
    let all_terminate = servers.iter().all(|(_, terminates)| *terminates);
    servers
        .into_iter()
        .filter(|(_, terminates)| all_terminate || !terminates)
        .map(|(server, _)| server)
        .collect()
}

fn scheme<'a>(port: &ServicePort, annotations: &'a ServiceAnnotations) -> &'a str {
    if !annotations.servers_scheme.is_empty() {
        &annotations.servers_scheme
    } else if port.port == 443 || port.name.as_deref().is_some_and(|name| name.starts_with("https")) {
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
