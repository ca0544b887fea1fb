//! A route as `waybill diff` compares it: what it matches and what happens there, without the names of routers and
//! services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::certificate_difference::CertificateDifference;
use super::output_route::OutputRoute;
use super::rule::{RuleCall, RuleTree};
use crate::table::Output;
use crate::traefik::dynamic::{Configuration, HttpService, Observability, Router, RouterTls};

/// Longer rules are compared as text. Our own have about 100 bytes.
const RULE_LIMIT: usize = 16 << 10;

/// Traefik's defaults for the observability of an entry point.
pub const OBSERVED: [bool; 3] = [true; 3];

/// A route on one entry point. Large parts are shared with the other entry points.
#[derive(Clone, Debug, Default)]
pub struct ComparedRoute {
    /// The router's name without the provider; only shown.
    pub name: String,
    /// In a normal form, see [`one_spelling`].
    pub rule: Arc<str>,
    /// Empty stands for Traefik's default entry points.
    pub entry_points: Vec<String>,
    /// The explicit one, or else the length of the rule.
    pub priority: i64,
    pub rule_syntax: String,
    pub tls: Option<Arc<RouterTls>>,
    pub observability: Observability,
    pub middlewares: Arc<Vec<String>>,
    /// The Service and its port; only manifests contain it.
    pub backend: Option<String>,
    pub service: Arc<ComparedService>,
    /// `Ingress namespace/name`, if it is known.
    pub from: Option<String>,
    /// The name of its service, without the provider.
    pub service_name: String,
    /// waybill would leave it out because of its size.
    pub is_too_large: bool,
}

/// The service of one or many routes.
#[derive(Clone, Debug, Default)]
pub struct ComparedService {
    /// The URLs of its endpoints; `None` where the input has no EndpointSlices.
    pub servers: Option<BTreeSet<String>>,
    /// Servers to which Traefik sends only sticky requests.
    pub fenced: BTreeSet<String>,
    /// All other properties, without servers.
    pub rest: HttpService,
}

/// An entry point of a Traefik, and what it adds to its routers.
#[derive(Clone, Debug, Default)]
pub struct LoadedEntryPoint {
    pub name: String,
    /// Routers that name no entry point use it.
    pub default: bool,
    pub tls: Option<Arc<RouterTls>>,
    pub middlewares: Vec<String>,
    /// Access logs, metrics, tracing.
    pub observed: [bool; 3],
    pub trace_verbosity: Option<String>,
}

/// One side of a comparison.
#[derive(Debug, Default)]
pub struct ComparedSide {
    /// Routes by output; `""` for routes that are not from an output of waybill.
    pub routes: BTreeMap<String, Vec<ComparedRoute>>,
    /// Those of the Traefik from which the routes come.
    pub entry_points: Option<Vec<LoadedEntryPoint>>,
    /// The providers of that Traefik that are compared.
    pub providers: Vec<String>,
    /// TLS Secrets that Traefik's own provider reads differently.
    pub certificates: Vec<CertificateDifference>,
}

impl ComparedService {
    /// A service, without its servers if they are not known.
    pub fn new(service: &HttpService, servers_known: bool) -> Self {
        let mut rest = service.clone();
        let servers = std::mem::take(&mut rest.load_balancer.servers);
        let balancer = &mut rest.load_balancer;
        balancer.pass_host_header = balancer.pass_host_header.filter(|passed| !passed);
        balancer.sticky = balancer.sticky.take().filter(|sticky| sticky.cookie.is_some());
        let servers = servers_known.then(|| servers.into_iter().map(|server| server.url).collect());
        Self { servers, fenced: BTreeSet::new(), rest }
    }
}

/// Removes providers from references, and remembers the services for which this was done.
pub struct ProviderNames<'a> {
    providers: &'a BTreeSet<String>,
    /// By memory address; the services are kept alive, so that no address is reused.
    services: HashMap<*const ComparedService, (Arc<ComparedService>, Arc<ComparedService>)>,
}

impl<'a> ProviderNames<'a> {
    /// Removes these providers.
    pub fn new(providers: &'a BTreeSet<String>) -> Self {
        Self { providers, services: HashMap::new() }
    }

    fn cut<'n>(&self, names: impl IntoIterator<Item = &'n mut String>) {
        for name in names {
            if let Some((own, provider)) = name.rsplit_once('@')
                && self.providers.contains(provider)
            {
                name.truncate(own.len());
            }
        }
    }

    /// Removes them from a route.
    pub fn cut_route(&mut self, route: &mut ComparedRoute) {
        self.cut(Arc::make_mut(&mut route.middlewares));
        self.cut(route.tls.as_mut().map(|tls| &mut Arc::make_mut(tls).options));
        let known = self.services.get(&Arc::as_ptr(&route.service)).map(|(_, cut)| Arc::clone(cut));
        route.service = known.unwrap_or_else(|| {
            let mut cut = ComparedService::clone(&route.service);
            self.cut(cut.rest.middlewares.iter_mut().chain([&mut cut.rest.load_balancer.servers_transport]));
            let cut = Arc::new(cut);
            let both = (Arc::clone(&route.service), Arc::clone(&cut));
            self.services.insert(Arc::as_ptr(&route.service), both);
            cut
        });
    }

    /// Removes them from what an entry point adds.
    pub fn cut_entry_point(&self, entry_point: &mut LoadedEntryPoint) {
        self.cut(&mut entry_point.middlewares);
        self.cut(entry_point.tls.as_mut().map(|tls| &mut Arc::make_mut(tls).options));
    }
}

impl ComparedRoute {
    /// A route.
    pub fn new(name: &str, router: &Router, service: Arc<ComparedService>) -> Self {
        let length = i64::try_from(router.rule.len()).unwrap_or(i64::MAX);
        Self {
            name: name.to_owned(),
            rule: one_spelling(&router.rule).into(),
            entry_points: router.entry_points.clone(),
            priority: if router.priority == 0 { length } else { router.priority },
            rule_syntax: router.rule_syntax.clone(),
            tls: router.tls.clone().map(Arc::new),
            observability: router.observability.clone().unwrap_or_default(),
            middlewares: Arc::new(router.middlewares.clone()),
            service,
            ..Self::default()
        }
    }

    /// The routes of an output.
    pub fn of_output(output: &Output, servers_known: bool) -> Vec<Self> {
        let mut services: HashMap<Arc<str>, Arc<ComparedService>> = HashMap::new();
        let compared = |route: OutputRoute<'_>| {
            let service = services
                .entry(Arc::clone(&route.service_name))
                .or_insert_with(|| Arc::new(ComparedService::new(route.service, servers_known)));
            Self {
                service_name: route.service_name.to_string(),
                backend: route
                    .owner
                    .map(|own| format!("Service {}, port {}", own.owner.service, own.owner.port)),
                from: Some(format!("Ingress {}", route.fragment.ingress)),
                ..Self::new(&route.name, route.router, Arc::clone(service))
            }
        };
        OutputRoute::all(output).map(compared).collect()
    }

    /// The published routes.
    pub fn of_configuration(configuration: &Configuration) -> Vec<Self> {
        let Some(http) = &configuration.http else { return Vec::new() };
        let of = |service| Arc::new(ComparedService::new(service, true));
        let services: HashMap<&String, Arc<ComparedService>> =
            http.services.iter().map(|(name, service)| (name, of(service))).collect();
        let missing = of(&HttpService::default());
        let routes = http.routers.iter().map(|(name, router)| {
            let service = services.get(&router.service).unwrap_or(&missing);
            Self { service_name: router.service.clone(), ..Self::new(name, router, Arc::clone(service)) }
        });
        routes.collect()
    }

    /// The route as a Traefik with these entry points would have it.
    pub fn loaded(mut self, entry_points: &[LoadedEntryPoint]) -> Vec<Self> {
        let names: Vec<String> = if self.entry_points.is_empty() {
            entry_points.iter().filter(|one| one.default).map(|one| one.name.clone()).collect()
        } else {
            self.take_entry_points()
        };
        let on = |name: String| {
            let mut route = Self { entry_points: vec![name.clone()], ..self.clone() };
            let Some(entry_point) = entry_points.iter().find(|one| one.name == name) else { return route };
            route.tls = route.tls.or_else(|| entry_point.tls.clone());
            if !entry_point.middlewares.is_empty() {
                route.middlewares = Arc::new([&*entry_point.middlewares, &**route.middlewares].concat());
            }
            let observability = &mut route.observability;
            let [access_logs, metrics, tracing] = entry_point.observed;
            observability.access_logs.get_or_insert(access_logs);
            observability.metrics.get_or_insert(metrics);
            observability.tracing.get_or_insert(tracing);
            let verbosity = observability.trace_verbosity.take().unwrap_or_else(|| "minimal".to_owned());
            let default = || entry_point.trace_verbosity.clone().unwrap_or_else(|| "minimal".to_owned());
            observability.trace_verbosity = Some(if verbosity.is_empty() { default() } else { verbosity });
            route
        };
        names.into_iter().map(on).collect()
    }

    /// One route for each entry point that it names.
    pub fn by_entry_point(mut self) -> Vec<Self> {
        if self.entry_points.len() < 2 {
            return vec![self];
        }
        self.take_entry_points()
            .into_iter()
            .map(|name| Self { entry_points: vec![name], ..self.clone() })
            .collect()
    }

    /// Without duplicates.
    fn take_entry_points(&mut self) -> Vec<String> {
        let mut names = std::mem::take(&mut self.entry_points);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every reference to another object, `NAME@PROVIDER` or `NAME`.
    pub fn references(&self) -> impl Iterator<Item = &String> {
        let tls = self.tls.iter().map(|tls| &tls.options);
        let service = &self.service.rest;
        let transport = [&service.load_balancer.servers_transport];
        self.middlewares.iter().chain(&service.middlewares).chain(transport).chain(tls)
    }
}

/// A rule with one kind of quotes, and with the operands of `&&` and `||` sorted. A rule that Traefik would refuse is
/// unchanged.
fn one_spelling(rule: &str) -> String {
    if rule.len() > RULE_LIMIT {
        return rule.to_owned();
    }
    RuleTree::parse(rule).map_or_else(|_| rule.to_owned(), |tree| spelled(&tree))
}

fn spelled(tree: &RuleTree) -> String {
    let part = |tree: &RuleTree| match tree {
        RuleTree::Call(call) => call.to_string(),
        other => format!("({})", spelled(other)),
    };
    let (parts, by) = match tree {
        RuleTree::Call(call) => return call.to_string(),
        RuleTree::And(parts) => (parts, " && "),
        RuleTree::Or(parts) => (parts, " || "),
    };
    let mut parts: Vec<String> = parts.iter().map(part).collect();
    parts.sort_unstable();
    parts.join(by)
}

/// A rule in words: host, path, and whether it includes paths below. Other rules are unchanged.
pub fn in_words(rule: &str) -> String {
    match host_and_path(rule) {
        _ if rule.is_empty() => "an empty rule".to_owned(),
        Some((Some(host), Some(path))) => format!("{host}{path}"),
        Some((Some(host), None)) => format!("{host}, every path"),
        Some((None, Some(path))) => format!("every host, {path}"),
        Some((None, None)) | None => rule.to_owned(),
    }
}

/// The host of a rule, and its path in words. `None` for any other rule.
pub fn host_and_path(rule: &str) -> Option<(Option<String>, Option<String>)> {
    if rule.len() > RULE_LIMIT {
        return None;
    }
    match RuleTree::parse(rule).ok()? {
        RuleTree::Call(call) if call.name == "Host" => Some((Some(argument(&call)?), None)),
        RuleTree::And(parts) => {
            let [RuleTree::Call(host), path] = &*parts else { return None };
            let host = argument(host).filter(|_| host.name == "Host")?;
            Some((Some(host), Some(path_in_words(path)?)))
        }
        path => Some((None, Some(path_in_words(&path)?))),
    }
}

fn argument(call: &RuleCall) -> Option<String> {
    match &*call.arguments {
        [argument] if !call.negated => Some(argument.clone()),
        _ => None,
    }
}

fn path_in_words(tree: &RuleTree) -> Option<String> {
    match tree {
        RuleTree::Call(call) => {
            let path = argument(call)?;
            match call.name.as_str() {
                "Path" => Some(format!("{path} exactly")),
                "PathPrefix" => Some(format!("{path} and below")),
                _ => None,
            }
        }
        RuleTree::Or(parts) => {
            let [RuleTree::Call(exact), RuleTree::Call(below)] = &**parts else { return None };
            let (path, prefix) = (argument(exact)?, argument(below)?);
            let strict = exact.name == "Path" && below.name == "PathPrefix" && prefix == path.clone() + "/";
            strict.then(|| format!("{path} and its subfolders"))
        }
        RuleTree::And(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_compared_by_what_they_say() {
        for (one, other) in [
            (r#"Host("a.example") && PathPrefix("/")"#, "PathPrefix(`/`) &&Host(`a.example`)"),
            (
                r#"Host("a") && (Path("/x") || PathPrefix("/x/"))"#,
                "(PathPrefix(`/x/`)||Path(`/x`)) && Host(`a`)",
            ),
        ] {
            assert_eq!(one_spelling(one), one_spelling(other));
        }
        assert_ne!(one_spelling(r#"Host("a") || Path("/")"#), one_spelling(r#"Host("a") && Path("/")"#));
        assert_eq!(one_spelling("no rule"), "no rule");
    }

    #[test]
    fn rules_in_words() {
        for (rule, words) in [
            (r#"Host("a") && PathPrefix("/x")"#, "a/x and below"),
            (r#"Host("a") && Path("/x")"#, "a/x exactly"),
            (r#"Host("a") && (Path("/x") || PathPrefix("/x/"))"#, "a/x and its subfolders"),
            (r#"PathPrefix("/")"#, "every host, / and below"),
            (r#"Host("a")"#, "a, every path"),
            (r#"!Host("a")"#, r#"!Host("a")"#),
            ("", "an empty rule"),
        ] {
            assert_eq!(in_words(rule), words);
        }
    }
}
