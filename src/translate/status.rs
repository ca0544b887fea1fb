//! The addresses of an Ingress's status (Traefik's `updateIngressStatus`). As data: who writes it, and when, is not
//! decided here. It is the same for all Ingresses of equal settings.

use k8s_openapi::api::networking::v1::{IngressLoadBalancerIngress, IngressPortStatus};

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::{Service, ServicePort, ServiceType};
use crate::translate::problem::{Category, Problem};
use crate::translate::settings::{Settings, StatusSource};
use crate::watch::Stores;

/// What the status of an Ingress should be.
#[derive(Clone, Debug, PartialEq)]
pub enum DesiredStatus {
    LeaveAlone,
    /// `status.loadBalancer.ingress` with these entries, in any order.
    Entries(Vec<IngressLoadBalancerIngress>),
}

/// The status of the Ingresses that have `settings`.
///
/// # Errors
/// Where the source of the addresses is not there or can't be used; the statuses then stay as they are.
pub fn wanted(settings: &Settings, lookup: &Stores) -> Result<DesiredStatus, Box<Problem>> {
    match &settings.status {
        StatusSource::None => Ok(DesiredStatus::LeaveAlone),
        StatusSource::Fixed { ip, hostname } => {
            Ok(DesiredStatus::Entries(vec![IngressLoadBalancerIngress {
                ip: ip.map(|ip| ip.to_string()),
                hostname: hostname.clone(),
                ports: None,
            }]))
        }
        StatusSource::PublishedService(key) => match lookup.service(key) {
            Some(service) => published(key, service, settings, lookup),
            None => Err(problem(
                key,
                Category::PublishedServiceNotFound,
                format!(
                    "there is no Service {key}, or it is in no watched namespace; see ingressEndpoint.publishedService"
                ),
            )),
        },
        StatusSource::NodeInternalIPs => {
            let addresses = lookup.node_internal_ips().unwrap_or_default();
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
    lookup: &Stores,
) -> Result<DesiredStatus, Box<Problem>> {
    match &service.kind {
        ServiceType::LoadBalancer => Ok(load_balancer(service)),
        ServiceType::ClusterIp => {
            let ports = ports(service, |port| port.port);
            Ok(DesiredStatus::Entries(
                service.external_ips.iter().map(|address| entry(address, ports.clone())).collect(),
            ))
        }
        ServiceType::NodePort => {
            let addresses =
                if settings.disable_cluster_scope_resources { None } else { lookup.node_external_ips() };
            let Some(addresses) = addresses else {
                return Err(problem(
                    key,
                    Category::PublishedServiceUnusable,
                    "a Service of type NodePort needs nodes, which are not read here (disableClusterScopeResources); \
                     publish a LoadBalancer or ClusterIP Service"
                        .to_owned(),
                ));
            };
            let ports = ports(service, |port| port.node_port);
            Ok(DesiredStatus::Entries(
                addresses.iter().map(|address| entry(address, ports.clone())).collect(),
            ))
        }
        ServiceType::ExternalName => Ok(DesiredStatus::Entries(vec![IngressLoadBalancerIngress {
            hostname: service.external_name.as_deref().map(str::to_owned),
            ..Default::default()
        }])),
        ServiceType::Other(other) => Err(problem(
            key,
            Category::PublishedServiceUnusable,
            format!(
                "the type {other:?} gives no addresses; use LoadBalancer, ClusterIP, NodePort or ExternalName"
            ),
        )),
    }
}

fn load_balancer(service: &Service) -> DesiredStatus {
    // One that has no address yet says nothing about the Ingresses.
    if service.balancer.is_empty() {
        DesiredStatus::LeaveAlone
    } else {
        DesiredStatus::Entries(service.balancer.to_vec())
    }
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
