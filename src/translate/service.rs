//! Turns a backend of an Ingress into a service of the routing.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressServiceBackend;

use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::{self, ServicePort, ServiceType, Slice};
use crate::traefik::dynamic::{HttpService, LoadBalancer};
use crate::translate::annotation::{self, ServiceAnnotations};
use crate::translate::findings::IngressFindings;
use crate::translate::fragment::{Created, ServiceFragment, ServiceOwner};
use crate::translate::host::Host;
use crate::translate::name;
use crate::translate::problem::{Category, Subject};
use crate::translate::reference;
use crate::translate::server::{self, BrokenBackend, Target};
use crate::translate::settings::{BrokenBackends, Settings};
use crate::translate::size;
use crate::watch::Stores;

/// The result for a backend.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// `None` if the path has to be dropped.
    pub service: Option<Arc<ServiceFragment>>,
    /// Why it is not what the Ingress requests.
    pub broken: Option<BrokenBackend>,
}

/// The port of a backend as its Ingress writes it: its name, else its number.
pub(super) fn port_text(backend: &IngressServiceBackend) -> String {
    let port = backend.port.as_ref();
    match port.and_then(|port| port.name.as_deref()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => port.and_then(|port| port.number).unwrap_or_default().to_string(),
    }
}

/// A Service in backends of one Ingress. It is read only once, however many of its ports the Ingress uses: an object
/// may have tens of thousands.
pub(super) struct NamedService<'a> {
    key: ServiceKey,
    object: Option<&'a kubernetes::Service>,
    slices: &'a [Arc<Slice>],
    settings: &'a Settings,
    stores: &'a Stores,
    annotations: OnceCell<Result<ServiceAnnotations, BrokenBackend>>,
    ports: OnceCell<PortIndex<'a>>,
    /// The slices, or their ports, are too many for a linear search.
    many_in_slices: bool,
}

/// Positions of the first port with each number and name.
#[derive(Default)]
struct PortIndex<'a> {
    by_number: HashMap<i32, usize>,
    by_name: HashMap<&'a str, usize>,
    /// The slices that have a port of this name, with its number there.
    in_slices: HashMap<&'a str, Vec<(&'a Slice, i32)>>,
}

/// Up to this number, ports are searched linearly, which is cheaper than an index.
const FEW: usize = 16;

impl<'a> NamedService<'a> {
    /// Looks the Service up.
    pub fn new(namespace: &Arc<str>, name: &str, settings: &'a Settings, stores: &'a Stores) -> Self {
        let key = ServiceKey::new(Arc::clone(namespace), name);
        let slices = stores.endpoint_slices(&key);
        Self {
            object: stores.service(&key),
            slices,
            // A slice without ports costs a step too.
            many_in_slices: slices.iter().map(|slice| 1 + slice.ports.len()).sum::<usize>() > 4 * FEW,
            key,
            settings,
            stores,
            annotations: OnceCell::new(),
            ports: OnceCell::new(),
        }
    }

    /// Translates a backend that names the Service.
    pub fn backend(&self, backend: &IngressServiceBackend, findings: &mut IngressFindings) -> Backend {
        let (key, settings) = (&self.key, self.settings);
        let result = self.load(backend, findings);
        let port = port_text(backend);
        let fragment = |service| {
            let plain = name::normalize_joined(&[key.namespace(), "-", key.name(), "-", &port]);
            Arc::new(ServiceFragment {
                key: name::bounded(plain).into(),
                owner: ServiceOwner {
                    created: self.object.map_or(Created::UNKNOWN, |object| object.created),
                    service: key.clone(),
                    port: port.as_str().into(),
                    variant: settings.service_variant,
                },
                service,
            })
        };
        let broken = match result {
            Ok(service) if !service.load_balancer.servers.is_empty() => {
                return Backend { service: Some(fragment(service)), broken: None };
            }
            Ok(mut service) if settings.allow_empty_services => {
                keep_not_empty(&mut service.load_balancer);
                return Backend { service: Some(fragment(service)), broken: None };
            }
            Ok(_) => BrokenBackend::new(
                Category::NoEndpoints,
                format!(
                    "no EndpointSlice of Service {key} has a serving endpoint for port {port}; start a pod that is \
                     ready, or check the Service's selector and port name"
                ),
            ),
            Err(broken) => broken,
        };
        let stays = settings.broken_backends == BrokenBackends::Answer503;
        Backend { service: stays.then(|| fragment(without_servers())), broken: Some(broken) }
    }

    fn load(
        &self,
        backend: &IngressServiceBackend,
        findings: &mut IngressFindings,
    ) -> Result<HttpService, BrokenBackend> {
        let Self { key, settings, stores, .. } = self;
        let object = self.object.ok_or_else(|| {
            let remedy = format!("there is no Service {key}; create it, or name one that exists");
            BrokenBackend::new(Category::ServiceNotFound, remedy)
        })?;
        let Some(port) = self.port(object, backend) else {
            return Err(BrokenBackend::new(Category::ServicePortNotFound, port_remedy(key, object)));
        };
        if object.kind == ServiceType::ExternalName {
            if !settings.allow_external_name_services {
                return Err(BrokenBackend::new(
                    Category::ExternalNameNotAllowed,
                    "the Service is of type ExternalName; use another type, or have allowExternalNameServices set",
                ));
            }
            let name = object.external_name.as_deref().unwrap_or_default();
            if let Some(host) = Host::parse(name) {
                server::check_host(host, key, settings, stores, findings)?;
            }
        }
        let annotations = self.annotations.get_or_init(|| self.read_annotations(object, findings)).as_ref();
        let annotations = annotations.map_err(Clone::clone)?;
        let target = Target { key, service: object, port, annotations, settings, stores };
        let servers = target.servers(self.slices_with(&port.name), findings)?;
        let count = servers.len();
        let service = HttpService {
            middlewares: annotations.middlewares.names.clone(),
            load_balancer: LoadBalancer {
                servers,
                sticky: annotations.sticky.clone(),
                pass_host_header: annotations.pass_host_header.filter(|pass| !pass),
                servers_transport: annotations.servers_transport.names.concat(),
            },
        };
        match size::service(key, &service) {
            None => Ok(service),
            Some(bytes) => Err(server::too_large(key, count, bytes)),
        }
    }

    /// The port of a backend: the first whose number or (non-empty) name is the backend's.
    fn port(
        &self,
        object: &'a kubernetes::Service,
        backend: &IngressServiceBackend,
    ) -> Option<&'a ServicePort> {
        let wanted = backend.port.as_ref()?;
        let name = wanted.name.as_deref().filter(|name| !name.is_empty());
        if object.ports.len() <= FEW {
            let is_wanted = |port: &&ServicePort| {
                wanted.number == Some(port.port) || name.is_some_and(|name| *port.name == *name)
            };
            return object.ports.iter().find(is_wanted);
        }
        let index = self.port_index();
        let by_number = wanted.number.and_then(|number| index.by_number.get(&number));
        let by_name = name.and_then(|name| index.by_name.get(name));
        object.ports.get(*by_number.into_iter().chain(by_name).min()?)
    }

    /// The slices that have a port of this name, each with its number there.
    fn slices_with<'s>(&'s self, name: &'s str) -> Box<dyn Iterator<Item = (&'a Slice, i32)> + 's> {
        if !self.many_in_slices {
            return Box::new(self.slices.iter().filter_map(move |slice| {
                let number = slice.ports.iter().find(|port| *port.name == *name)?.number;
                (number != 0).then_some((&**slice, number))
            }));
        }
        Box::new(self.port_index().in_slices.get(name).into_iter().flatten().copied())
    }

    fn port_index(&self) -> &PortIndex<'a> {
        self.ports.get_or_init(|| {
            let mut index = PortIndex::default();
            for (at, port) in self.object.iter().flat_map(|object| &object.ports).enumerate() {
                index.by_number.entry(port.port).or_insert(at);
                index.by_name.entry(&port.name).or_insert(at);
            }
            for slice in self.slices {
                // Backwards, so that the first of several is kept.
                let ports: HashMap<&str, i32> =
                    slice.ports.iter().rev().map(|port| (&*port.name, port.number)).collect();
                for (name, number) in ports.into_iter().filter(|(_, number)| *number != 0) {
                    index.in_slices.entry(name).or_default().push((slice, number));
                }
            }
            index
        })
    }

    /// Parses the annotations; faults are found once for all ports.
    fn read_annotations(
        &self,
        object: &kubernetes::Service,
        findings: &mut IngressFindings,
    ) -> Result<ServiceAnnotations, BrokenBackend> {
        let key = &self.key;
        let subject = || Subject::from(key);
        let unusable = || {
            let remedy =
                format!("the annotations of Service {key} can't be used; the Service's own Events say why");
            BrokenBackend::new(Category::ServiceUnusable, remedy)
        };
        let parsed: Result<ServiceAnnotations, _> =
            annotation::parse(Some(&object.annotations), &subject, &mut findings.problems);
        let annotations = parsed.map_err(|faults| {
            findings.problems.extend(faults);
            unusable()
        })?;
        let references = [&annotations.servers_transport, &annotations.middlewares];
        let allowed =
            reference::check(references, key.namespace(), &subject, self.settings, self.stores, findings);
        allowed.then_some(annotations).ok_or_else(unusable)
    }
}

/// A service that answers 503.
pub(super) fn without_servers() -> HttpService {
    let mut service = HttpService::default();
    keep_not_empty(&mut service.load_balancer);
    service
}

/// Traefik refuses an empty section, so a load balancer without content contains its default.
fn keep_not_empty(load_balancer: &mut LoadBalancer) {
    if *load_balancer == LoadBalancer::default() {
        load_balancer.pass_host_header = Some(true);
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::manifests::Manifests;
    use crate::routing::Routing;

    /// Slices of one Service, without ports.
    fn routing(slices: usize) -> Routing {
        let slice = |number: usize| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                   "metadata": {"namespace": "shop", "name": format!("web-{number}"),
                                "labels": {"kubernetes.io/service-name": "web"}},
                   "ports": [], "endpoints": []})
        };
        let items: Vec<_> = (0..slices).map(slice).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let mut manifests = Manifests::default();
        manifests.add(&Arc::from("input.json"), list.to_string().as_bytes());
        let options = crate::options::from_yaml_str("").unwrap().options;
        crate::offline::routing(manifests, &options)
    }

    /// Otherwise an Ingress with thousands of ports would look at thousands of slices for each of them.
    #[test]
    fn slices_without_ports_are_not_looked_at_for_each_port() {
        let settings = Settings::default();
        for (slices, many) in [(1, false), (4 * FEW, false), (4 * FEW + 1, true)] {
            let routing = routing(slices);
            let service = NamedService::new(&"shop".into(), "web", &settings, routing.stores());
            assert_eq!(service.slices.len(), slices);
            assert_eq!(service.many_in_slices, many, "{slices} slices");
        }
    }
}
