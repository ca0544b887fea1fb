//! Parses the routing that Traefik's API shows: `/api/rawdata` and `/api/entrypoints`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::compared_route::{ComparedRoute, ComparedService, LoadedEntryPoint, OBSERVED};
use crate::traefik::dynamic::{HttpService, LoadBalancer, Observability, Router, RouterTls, Server, Sticky};
use crate::translate::size::{self, Budget};

/// Traefik's own Ingress provider.
pub const KUBERNETES: &str = "kubernetes";

/// The providers that may have read waybill's output.
const OURS: [&str; 2] = ["file", "http"];

/// The entry point of Traefik's API, which is never a default one.
const API_ENTRY_POINT: &str = "traefik";

/// The routing of a Traefik.
#[derive(Debug)]
pub struct LoadedRoutes {
    pub routes: Vec<ComparedRoute>,
    pub entry_points: Vec<LoadedEntryPoint>,
    /// The compared providers.
    pub providers: Vec<String>,
}

#[derive(Deserialize)]
struct RawData {
    #[serde(default)]
    routers: BTreeMap<String, RawRouter>,
    #[serde(default)]
    services: BTreeMap<String, RawService>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRouter {
    #[serde(default)]
    entry_points: Vec<String>,
    #[serde(default)]
    middlewares: Vec<String>,
    #[serde(default)]
    service: String,
    #[serde(default)]
    rule: String,
    #[serde(default)]
    rule_syntax: String,
    #[serde(default)]
    priority: i64,
    tls: Option<RouterTls>,
    observability: Option<RawObservability>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawObservability {
    access_logs: Option<bool>,
    metrics: Option<bool>,
    tracing: Option<bool>,
    trace_verbosity: Option<String>,
    #[serde(default)]
    metadata: RawMetadata,
}

#[derive(Default, Deserialize)]
struct RawMetadata {
    ingress: Option<RawOrigin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOrigin {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    ingress_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawService {
    #[serde(default)]
    middlewares: Vec<String>,
    #[serde(default)]
    load_balancer: RawLoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLoadBalancer {
    #[serde(default)]
    servers: Vec<RawServer>,
    sticky: Option<serde_json::Value>,
    pass_host_header: Option<bool>,
    #[serde(default)]
    servers_transport: String,
}

#[derive(Deserialize)]
struct RawServer {
    #[serde(default)]
    url: String,
    #[serde(default)]
    fenced: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntryPoint {
    #[serde(default)]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    as_default: bool,
    #[serde(default)]
    http: RawHttp,
    observability: Option<RawObservability>,
}

#[derive(Default, Deserialize)]
struct RawHttp {
    #[serde(default)]
    middlewares: Vec<String>,
    tls: Option<RouterTls>,
}

impl LoadedRoutes {
    /// Parses the two answers. Without `providers`, the routes of Traefik's own Ingress provider are used, or if it has
    /// none, those of the providers that read waybill's output.
    ///
    /// # Errors
    /// The answer that is not Traefik's, and the position.
    pub fn parse(raw_data: &[u8], entry_points: &[u8], providers: &[String]) -> Result<Self, String> {
        let raw: RawData =
            serde_json::from_slice(raw_data).map_err(|error| format!("/api/rawdata: {error}"))?;
        let points: Vec<RawEntryPoint> =
            serde_json::from_slice(entry_points).map_err(|error| format!("/api/entrypoints: {error}"))?;
        let provider_of = |name: &str| name.rsplit_once('@').map_or("", |(_, provider)| provider).to_owned();
        let providers = match providers {
            [] if raw.routers.keys().any(|name| provider_of(name) == KUBERNETES) => {
                vec![KUBERNETES.to_owned()]
            }
            [] => OURS.map(str::to_owned).to_vec(),
            given => given.to_vec(),
        };
        let routes = raw.routers.iter().filter(|(name, _)| providers.contains(&provider_of(name)));
        let mut sizes = IngressSizes::default();
        let mut services = LoadedServices { raw: &raw.services, known: HashMap::new() };
        let mut routes: Vec<_> =
            routes.map(|(name, router)| route(name, router, &mut services, &mut sizes)).collect();
        for route in &mut routes {
            route.is_too_large |= route.from.as_ref().is_some_and(|from| sizes.is_too_large(from));
        }
        let any_default = points.iter().any(|point| point.as_default);
        let entry_points = points.into_iter().map(|point| {
            let default = if any_default {
                point.as_default
            } else {
                point.name != API_ENTRY_POINT && !point.address.ends_with("/udp")
            };
            let observed = point.observability.unwrap_or_default();
            let [access_logs, metrics, tracing] = OBSERVED;
            LoadedEntryPoint {
                name: point.name,
                default,
                tls: point.http.tls.map(Arc::new),
                middlewares: point.http.middlewares,
                observed: [
                    observed.access_logs.unwrap_or(access_logs),
                    observed.metrics.unwrap_or(metrics),
                    observed.tracing.unwrap_or(tracing),
                ],
                trace_verbosity: observed.trace_verbosity,
            }
        });
        Ok(Self { routes, entry_points: entry_points.collect(), providers })
    }
}

/// Builds routes from the routers and services of Ingresses.
#[derive(Default)]
struct IngressSizes {
    budgets: HashMap<String, Budget>,
    /// Ingresses with their counted services.
    services: HashSet<(String, String)>,
}

impl IngressSizes {
    fn add(&mut self, ingress: &str, (key, router): (&str, &Router), (name, service): (&str, &HttpService)) {
        let budget = self.budgets.entry(ingress.to_owned()).or_default();
        budget.add_router(key, router);
        if self.services.insert((ingress.to_owned(), name.to_owned())) {
            budget.add_service(name, service);
        }
    }

    fn is_too_large(&self, ingress: &str) -> bool {
        self.budgets.get(ingress).is_some_and(Budget::is_spent)
    }
}

/// The services of routes, each built once.
struct LoadedServices<'a> {
    raw: &'a BTreeMap<String, RawService>,
    /// By the name that a router uses for it, with the provider of the router.
    known: HashMap<String, LoadedService>,
}

struct LoadedService {
    whole: HttpService,
    compared: Arc<ComparedService>,
    /// Its line would be.
    is_too_large: bool,
}

impl LoadedServices<'_> {
    fn of(&mut self, name: &str, provider: &str) -> &LoadedService {
        let qualified = format!("{name}@{provider}");
        let raw = self.raw.get(&qualified).or_else(|| self.raw.get(name));
        self.known.entry(qualified).or_insert_with(|| LoadedService::new(name, raw))
    }
}

impl LoadedService {
    /// The service that a router calls `name`; an empty one if there is none.
    fn new(name: &str, raw: Option<&RawService>) -> Self {
        let nothing = RawService::default();
        let raw = raw.unwrap_or(&nothing);
        let balancer = &raw.load_balancer;
        let whole = HttpService {
            middlewares: raw.middlewares.clone(),
            load_balancer: LoadBalancer {
                servers: balancer.servers.iter().map(|server| Server { url: server.url.clone() }).collect(),
                sticky: balancer
                    .sticky
                    .clone()
                    .and_then(|sticky| serde_json::from_value::<Sticky>(sticky).ok()),
                pass_host_header: balancer.pass_host_header,
                servers_transport: balancer.servers_transport.clone(),
            },
        };
        let fenced = balancer.servers.iter().filter(|server| server.fenced).map(|server| server.url.clone());
        let compared = ComparedService { fenced: fenced.collect(), ..ComparedService::new(&whole, true) };
        let is_too_large = size::service(name, &whole).is_some();
        Self { whole, compared: Arc::new(compared), is_too_large }
    }
}

fn route(
    name: &str,
    raw: &RawRouter,
    services: &mut LoadedServices<'_>,
    sizes: &mut IngressSizes,
) -> ComparedRoute {
    let (own, provider) = name.rsplit_once('@').unwrap_or((name, ""));
    let service = services.of(&raw.service, provider);
    let observability = raw.observability.as_ref();
    let router = Router {
        entry_points: raw.entry_points.clone(),
        middlewares: raw.middlewares.clone(),
        service: String::new(),
        rule: raw.rule.clone(),
        rule_syntax: raw.rule_syntax.clone(),
        priority: raw.priority,
        tls: raw.tls.clone(),
        observability: observability.map(|raw| Observability {
            access_logs: raw.access_logs,
            metrics: raw.metrics,
            tracing: raw.tracing,
            trace_verbosity: raw.trace_verbosity.clone(),
        }),
    };
    let from = observability.and_then(|raw| raw.metadata.ingress.as_ref());
    let from = from.map(|from| format!("Ingress {}/{}", from.namespace, from.ingress_name));
    if let Some(from) = &from {
        sizes.add(from, (own, &router), (&raw.service, &service.whole));
    }
    ComparedRoute {
        from,
        service_name: raw.service.rsplit_once('@').map_or(&*raw.service, |(own, _)| own).to_owned(),
        is_too_large: size::router(own, &router).is_some() || service.is_too_large,
        ..ComparedRoute::new(own, &router, Arc::clone(&service.compared))
    }
}
