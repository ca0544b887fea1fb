//! Computes the addresses of an Ingress's status (Traefik's `updateIngressStatus`), as data. Who writes them, and when,
//! is decided elsewhere. They are the same for all Ingresses with equal settings.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IngressLoadBalancerIngress, IngressPortStatus};

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::name::is_subdomain;
use crate::kubernetes::{Service, ServicePort, ServiceType};
use crate::translate::problem::{Category, Kind, Problem, Subject};
use crate::translate::settings::{Settings, StatusSource};
use crate::watch::Stores;

/// Maximum number of addresses times ports of a status. A Service of the size that the API server accepts could have a
/// hundred million.
const MAX_SIZE: usize = 16 * 1024;

/// The desired status of an Ingress.
#[derive(Clone, Debug, PartialEq)]
pub enum DesiredStatus {
    LeaveAlone,
    /// `status.loadBalancer.ingress` with these entries, in any order.
    Entries(Vec<IngressLoadBalancerIngress>),
}

/// The status of the Ingresses with `settings`. Addresses that the API server would refuse are left out, since one of
/// them would cost every Ingress its status.
///
/// # Errors
/// If the source of the addresses does not exist or can't be used. The statuses then stay as they are.
pub fn wanted(settings: &Settings, stores: &Stores) -> Result<DesiredStatus, Box<Problem>> {
    let DesiredStatus::Entries(mut entries) = found(settings, stores)? else {
        return Ok(DesiredStatus::LeaveAlone);
    };
    let any = !entries.is_empty();
    entries.retain(|entry| refused_part(entry).is_none());
    // Without any valid one, nothing is known.
    Ok(if any && entries.is_empty() { DesiredStatus::LeaveAlone } else { DesiredStatus::Entries(entries) })
}

/// The problems of the source of the addresses, or of one of them.
pub fn fault(settings: &Settings, stores: &Stores) -> Option<Problem> {
    let entries = match found(settings, stores) {
        Err(problem) => return Some(*problem),
        Ok(DesiredStatus::LeaveAlone) => return None,
        Ok(DesiredStatus::Entries(entries)) => entries,
    };
    let refused = entries.iter().find_map(refused_part)?;
    let (subject, remedy) = match &settings.status {
        StatusSource::PublishedService(key) => {
            (key.into(), "this address of the Service, or of a node for a NodePort Service,")
        }
        // It names no node.
        _ => (
            Subject::from((Kind::ConfigMap, &settings.output.0)),
            "this address of a node (kubectl get nodes -o wide), or of ingressEndpoint,",
        ),
    };
    Some(Problem {
        category: Category::InvalidAddress,
        subject,
        field: "status.loadBalancer.ingress".to_owned(),
        value: Problem::shown(refused),
        remedy: format!(
            "{remedy} is neither an IP address nor a DNS name, so no Ingress gets it; correct it"
        ),
    })
}

/// The part of an entry that the API server refuses: an invalid IP address or host name.
fn refused_part(entry: &IngressLoadBalancerIngress) -> Option<&str> {
    let ip = entry.ip.as_deref().filter(|ip| !is_address(ip));
    let is_name = |name: &str| is_subdomain(name) && !is_address(name);
    ip.or_else(|| entry.hostname.as_deref().filter(|name| !is_name(name)))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn found(settings: &Settings, stores: &Stores) -> Result<DesiredStatus, Box<Problem>> {
    match &settings.status {
        StatusSource::None => Ok(DesiredStatus::LeaveAlone),
        StatusSource::Fixed { ip, hostname } => {
            Ok(DesiredStatus::Entries(vec![IngressLoadBalancerIngress {
                ip: ip.map(|ip| ip.to_string()),
                hostname: hostname.clone(),
                ports: None,
            }]))
        }
        StatusSource::PublishedService(key) => match stores.service(key) {
            Some(service) => published(key, service, settings, stores),
            None => Err(problem(
                key,
                Category::PublishedServiceNotFound,
                format!(
                    "there is no Service {key}, or its namespace is not watched; see \
                     ingressEndpoint.publishedService"
                ),
            )),
        },
        StatusSource::NodeInternalIPs => {
            let addresses = stores.node_internal_ips().unwrap_or_default();
            if addresses.is_empty() {
                return Ok(DesiredStatus::LeaveAlone);
            }
            Ok(DesiredStatus::Entries(addresses.iter().map(|address| entry(address, None)).collect()))
        }
    }
}

fn published(
    key: &ServiceKey,
    service: &Service,
    settings: &Settings,
    stores: &Stores,
) -> Result<DesiredStatus, Box<Problem>> {
    match &service.kind {
        ServiceType::LoadBalancer => Ok(load_balancer(service)),
        ServiceType::ClusterIp => entries(key, service, &service.external_ips, |port| port.port),
        ServiceType::NodePort => {
            let addresses =
                if settings.disable_cluster_scope_resources { None } else { stores.node_external_ips() };
            let Some(addresses) = addresses else {
                return Err(problem(
                    key,
                    Category::PublishedServiceUnusable,
                    "a Service of type NodePort needs nodes, which are not read here (disableClusterScopeResources); \
                     publish a LoadBalancer or ClusterIP Service"
                        .to_owned(),
                ));
            };
            entries(key, service, &addresses, |port| port.node_port)
        }
        ServiceType::ExternalName => Ok(DesiredStatus::Entries(vec![IngressLoadBalancerIngress {
            hostname: service.external_name.as_deref().map(str::to_owned),
            ..Default::default()
        }])),
        ServiceType::Other(other) => Err(problem(
            key,
            Category::PublishedServiceUnusable,
            format!(
                "the type {other:?} has no addresses; use LoadBalancer, ClusterIP, NodePort or ExternalName"
            ),
        )),
    }
}

fn load_balancer(service: &Service) -> DesiredStatus {
    // A Service that has no address yet says nothing about the Ingresses.
    if service.balancer.is_empty() {
        DesiredStatus::LeaveAlone
    } else {
        DesiredStatus::Entries(service.balancer.to_vec())
    }
}

/// An entry for each address, with all ports.
fn entries(
    key: &ServiceKey,
    service: &Service,
    addresses: &[Box<str>],
    number: impl Fn(&ServicePort) -> i32,
) -> Result<DesiredStatus, Box<Problem>> {
    let size = addresses.len().saturating_mul(service.ports.len().max(1));
    if size > MAX_SIZE {
        return Err(problem(
            key,
            Category::PublishedServiceUnusable,
            format!(
                "{} addresses with {} ports each are more than a status can hold ({MAX_SIZE} in all); \
                 publish a \
                 Service with fewer",
                addresses.len(),
                service.ports.len()
            ),
        ));
    }
    let ports = ports(service, number);
    Ok(DesiredStatus::Entries(addresses.iter().map(|address| entry(address, ports.clone())).collect()))
}

fn ports(service: &Service, number: impl Fn(&ServicePort) -> i32) -> Option<Vec<IngressPortStatus>> {
    let port = |port: &ServicePort| IngressPortStatus {
        port: number(port),
        protocol: port.protocol.clone().into_owned(),
        error: None,
    };
    (!service.ports.is_empty()).then(|| service.ports.iter().map(port).collect())
}

fn entry(address: &str, ports: Option<Vec<IngressPortStatus>>) -> IngressLoadBalancerIngress {
    IngressLoadBalancerIngress { ip: Some(address.to_owned()), hostname: None, ports }
}

fn problem(key: &ServiceKey, category: Category, remedy: String) -> Box<Problem> {
    Box::new(Problem {
        category,
        subject: key.into(),
        field: "status.loadBalancer".to_owned(),
        value: String::new(),
        remedy,
    })
}
