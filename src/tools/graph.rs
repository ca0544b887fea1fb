//! The routing as a graph: namespaces, their hosts, paths, Services and endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::compared_route::host_and_path;
use super::output_route::OutputRoute;
use crate::kubernetes::key::OutputKey;
use crate::routing::Routing;

/// The content of a graph.
#[derive(Debug, Default, Serialize)]
pub struct RoutingGraph {
    /// Sorted by name.
    pub namespaces: Vec<GraphNamespace>,
}

/// The routes of a namespace's Ingresses.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphNamespace {
    pub name: String,
    /// By host and path.
    pub routes: Vec<GraphRoute>,
    /// The targets of its routes.
    pub services: Vec<GraphService>,
    /// Problems of its Ingresses, one line each.
    pub problems: Vec<String>,
}

/// A router.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphRoute {
    /// Empty stands for every host.
    pub host: String,
    /// In words; other rules than host and path are unchanged.
    pub path: String,
    /// The index in the namespace's `services`.
    pub service: usize,
    pub rule: String,
    /// `namespace/name`.
    pub ingress: String,
    pub output: String,
    pub tls: bool,
    pub middlewares: Vec<String>,
    /// Its Ingress has a problem.
    pub problem: bool,
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GraphService {
    pub name: String,
    /// URLs, shared by the routes that use them; `None` if the input has no EndpointSlices.
    pub endpoints: Option<Arc<BTreeSet<String>>>,
}

impl GraphService {
    /// Traefik answers 503.
    pub fn has_no_endpoint(&self) -> bool {
        self.endpoints.as_ref().is_some_and(|endpoints| endpoints.is_empty())
    }
}

/// The collected parts of a namespace.
#[derive(Default)]
struct DrawnNamespace {
    routes: Vec<(GraphRoute, GraphService)>,
    problems: BTreeSet<String>,
}

impl RoutingGraph {
    /// The graph of a routing. `output` and `only` limit it to one output, and to hosts and Ingresses.
    pub fn new(
        routing: &Routing,
        endpoints_known: bool,
        output: Option<&OutputKey>,
        only: &[String],
    ) -> Self {
        let is_wanted = |key: &OutputKey| output.is_none_or(|wanted| wanted == key);
        let mut collected: BTreeMap<String, DrawnNamespace> = BTreeMap::new();
        for (output_key, output) in routing.table().outputs().filter(|(key, _)| is_wanted(key)) {
            let mut services: HashMap<Arc<str>, GraphService> = HashMap::new();
            for OutputRoute { fragment, router, service, service_name, owner, .. } in OutputRoute::all(output)
            {
                let (host, path) = match host_and_path(&router.rule) {
                    Some((host, path)) => {
                        (host.unwrap_or_default(), path.unwrap_or_else(|| "every path".to_owned()))
                    }
                    None => (String::new(), router.rule.clone()),
                };
                let key = &fragment.ingress;
                let ingress = key.to_string();
                if !only.is_empty() && !only.iter().any(|one| *one == host || *one == ingress) {
                    continue;
                }
                let service = services.entry(service_name).or_insert_with(|| {
                    let servers = service.load_balancer.servers.iter().map(|server| server.url.clone());
                    GraphService {
                        name: owner.map_or_else(
                            || "default backend".to_owned(),
                            |own| format!("{}:{}", own.owner.service.name(), own.owner.port),
                        ),
                        endpoints: endpoints_known.then(|| Arc::new(servers.collect())),
                    }
                });
                let route = GraphRoute {
                    host,
                    path,
                    service: 0,
                    rule: router.rule.clone(),
                    ingress,
                    output: output_key.to_string(),
                    tls: router.tls.is_some(),
                    middlewares: router.middlewares.clone(),
                    problem: routing.has_problems(key),
                };
                collected
                    .entry(key.namespace().to_owned())
                    .or_default()
                    .routes
                    .push((route, service.clone()));
            }
        }
        let drawn: HashSet<String> = match only {
            [] => HashSet::new(),
            _ => {
                let routes = collected.values().flat_map(|namespace| &namespace.routes);
                routes.map(|(route, _)| route.ingress.clone()).collect()
            }
        };
        for key in routing.own_ingresses() {
            // An Ingress that its class refuses has no output.
            if routing.table().fragment(&key).map_or(output.is_some(), |one| !is_wanted(one.output())) {
                continue;
            }
            let name = key.to_string();
            let shown = only.is_empty() || only.contains(&name) || drawn.contains(&name);
            let problems = routing.problems(&key);
            if shown && !problems.is_empty() {
                let lines = problems.iter().map(ToString::to_string);
                collected.entry(key.namespace().to_owned()).or_default().problems.extend(lines);
            }
        }
        Self { namespaces: collected.into_iter().map(GraphNamespace::from).collect() }
    }

    /// The number of routes.
    pub fn routes(&self) -> usize {
        self.namespaces.iter().map(|namespace| namespace.routes.len()).sum()
    }
}

impl From<(String, DrawnNamespace)> for GraphNamespace {
    fn from((name, collected): (String, DrawnNamespace)) -> Self {
        let mut all = collected.routes;
        all.sort();
        let (mut routes, mut services) = (Vec::with_capacity(all.len()), Vec::new());
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (mut route, service) in all {
            // Variants of a Service may differ in their endpoints.
            let known = places.entry(service.name.clone()).or_default();
            route.service = match known.iter().find(|at| services[**at] == service) {
                Some(at) => *at,
                None => {
                    known.push(services.len());
                    services.push(service);
                    services.len() - 1
                }
            };
            routes.push(route);
        }
        Self { name, routes, services, problems: collected.problems.into_iter().collect() }
    }
}
