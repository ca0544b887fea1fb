//! A backend of an Ingress to a service of the routing.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressServiceBackend;

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::{self, ServiceType};
use crate::traefik::dynamic::{LoadBalancer, Service};
use crate::translate::annotation::{ServiceAnnotations, field};
use crate::translate::fragment::{Created, ServiceFragment, ServiceOwner};
use crate::translate::lookup::Lookup;
use crate::translate::name;
use crate::translate::problem::{Category, Kind, Problem, Subject};
use crate::translate::reference;
use crate::translate::server::{self, Broken};
use crate::translate::settings::{BrokenBackends, Settings};
use crate::translate::size;

/// What a backend came to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The service; `None` when the path has to go.
    pub service: Option<Arc<ServiceFragment>>,
    /// Why it is not what the Ingress asks for.
    pub broken: Option<Broken>,
}

/// What the translation of one Ingress gathers beside its routing.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Problems so far.
    pub problems: Vec<Problem>,
    /// Nodes were asked for.
    pub uses_nodes: bool,
    /// Namespaces were asked for.
    pub uses_namespaces: bool,
}

/// The port of a backend as its Ingress writes it: its name, else its number.
pub fn port_text(backend: &IngressServiceBackend) -> String {
    let port = backend.port.as_ref();
    match port.and_then(|port| port.name.as_deref()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => port.and_then(|port| port.number).unwrap_or_default().to_string(),
    }
}

/// Translates the Service of a backend.
pub fn backend<L: Lookup + ?Sized>(
    namespace: &Arc<str>,
    backend: &IngressServiceBackend,
    settings: &Settings,
    lookup: &L,
    gathered: &mut Gathered,
) -> Backend {
    let key = ServiceKey::new(Arc::clone(namespace), backend.name.as_str());
    let port = port_text(backend);
    let object = lookup.service(&key);
    let created = object.map_or(Created::UNKNOWN, |object| object.created);
    let result = match object {
        None => Err(Broken::new(
            Category::ServiceNotFound,
            format!("there is no Service {key}; create it, or name one that is there"),
        )),
        Some(object) => load(&key, object, backend, settings, lookup, gathered).and_then(|service| {
            match size::service(&key.to_string(), &service) {
                None => Ok(service),
                Some(bytes) => Err(Broken::new(
                    Category::EntryTooLarge,
                    format!(
                        "Service {key} has {} servers and is {}; spread it over several Services, or have \
                         service.nativelb set",
                        service.load_balancer.servers.len(),
                        size::said(bytes)
                    ),
                )),
            }
        }),
    };
    let fragment = |service| {
        let plain = name::normalize_joined(&[namespace, "-", &backend.name, "-", &port]);
        Arc::new(ServiceFragment {
            key: name::bounded(plain).into(),
            owner: ServiceOwner {
                created,
                service: key.clone(),
                port: port.as_str().into(),
                variant: settings.service_variant,
            },
            service,
        })
    };
    let stays = settings.broken_backends == BrokenBackends::Answer503;
    match result {
        Ok(mut service) if service.load_balancer.servers.is_empty() && settings.allow_empty_services => {
            keep_not_empty(&mut service.load_balancer);
            Backend { service: Some(fragment(service)), broken: None }
        }
        Ok(service) if service.load_balancer.servers.is_empty() => {
            let broken = Broken::new(
                Category::NoEndpoints,
                format!(
                    "no EndpointSlice of Service {key} has a serving endpoint for port {port}; start a pod that is \
                     ready, or check the Service's selector and port name"
                ),
            );
            Backend { service: stays.then(|| fragment(without_servers())), broken: Some(broken) }
        }
        Ok(service) => Backend { service: Some(fragment(service)), broken: None },
        Err(broken) => Backend { service: stays.then(|| fragment(without_servers())), broken: Some(broken) },
    }
}

/// A service that answers 503.
pub fn without_servers() -> Service {
    let mut service = Service::default();
    keep_not_empty(&mut service.load_balancer);
    service
}

/// Traefik refuses an empty section, so a load balancer without anything says its default.
fn keep_not_empty(load_balancer: &mut LoadBalancer) {
    if *load_balancer == LoadBalancer::default() {
        load_balancer.pass_host_header = Some(true);
    }
}

fn load<L: Lookup + ?Sized>(
    key: &ServiceKey,
    object: &kubernetes::Service,
    backend: &IngressServiceBackend,
    settings: &Settings,
    lookup: &L,
    gathered: &mut Gathered,
) -> Result<Service, Broken> {
    let Some(port) = server::port(object, backend.port.as_ref()) else {
        return Err(Broken::new(Category::ServicePortNotFound, port_remedy(key, object)));
    };
    if object.kind == ServiceType::ExternalName {
        check_external_name(key, object, settings)?;
    }
    let annotations = annotations(key, object, settings, lookup, gathered)?;
    let servers =
        server::servers(key, object, port, &annotations, settings, lookup, &mut gathered.uses_nodes)?;
    Ok(Service {
        middlewares: annotations.middlewares,
        load_balancer: LoadBalancer {
            servers,
            sticky: annotations.sticky,
            pass_host_header: annotations.pass_host_header.filter(|pass| !pass),
            servers_transport: annotations.servers_transport,
        },
    })
}

fn port_remedy(key: &ServiceKey, object: &kubernetes::Service) -> String {
    let ports = &object.ports;
    let mut names: Vec<String> = ports
        .iter()
        .take(10)
        .map(|port| match &*port.name {
            "" => port.port.to_string(),
            name => format!("{} ({name})", port.port),
        })
        .collect();
    if ports.len() > names.len() {
        names.push("…".to_owned());
    }
    if names.is_empty() {
        format!("Service {key} has no ports in its spec; add the port there")
    } else {
        format!("Service {key} has the ports {}; name one of them", names.join(", "))
    }
}

fn check_external_name(
    key: &ServiceKey,
    object: &kubernetes::Service,
    settings: &Settings,
) -> Result<(), Broken> {
    if !settings.allow_external_name_services {
        return Err(Broken::new(
            Category::ExternalNameNotAllowed,
            "the Service is of type ExternalName; use another type, or have allowExternalNameServices set",
        ));
    }
    let external_name = object.external_name.as_deref().unwrap_or_default();
    let namespace = reference::namespace_of_external_name(external_name);
    if !settings.allow_cross_namespace
        && namespace.is_some_and(|other| !other.eq_ignore_ascii_case(key.namespace()))
    {
        return Err(Broken::new(
            Category::CrossNamespaceNotAllowed,
            format!(
                "the external name {external_name:?} is a Service of another namespace; use one of namespace {}, or \
                 have allowCrossNamespace set",
                key.namespace()
            ),
        ));
    }
    Ok(())
}

fn annotations<L: Lookup + ?Sized>(
    key: &ServiceKey,
    object: &kubernetes::Service,
    settings: &Settings,
    lookup: &L,
    gathered: &mut Gathered,
) -> Result<ServiceAnnotations, Broken> {
    let subject = || Subject {
        kind: Kind::Service,
        namespace: key.namespace().to_owned(),
        name: key.name().to_owned(),
    };
    let unusable = || {
        Broken::new(
            Category::ServiceUnusable,
            format!("the annotations of Service {key} can't be used; its own Events say which and why"),
        )
    };
    let annotations =
        match ServiceAnnotations::parse(Some(&object.annotations), &subject, &mut gathered.problems) {
            Ok(annotations) => annotations,
            Err(faults) => {
                gathered.problems.extend(faults);
                return Err(unusable());
            }
        };
    let transport = std::slice::from_ref(&annotations.servers_transport);
    let transport = if annotations.servers_transport.is_empty() { &[] } else { transport };
    let mut refused = false;
    for (references, spelling) in [
        (transport, &annotations.servers_transport_spelling),
        (annotations.middlewares.as_slice(), &annotations.middlewares_spelling),
    ] {
        let refusal =
            reference::check(references, key.namespace(), settings, lookup, &mut gathered.uses_namespaces);
        if let Some(refusal) = refusal {
            refused = true;
            gathered.problems.push(Problem {
                category: refusal.category,
                subject: subject(),
                field: field(spelling),
                value: Problem::shown(&refusal.value),
                remedy: refusal.remedy,
            });
        }
    }
    if refused { Err(unusable()) } else { Ok(annotations) }
}
