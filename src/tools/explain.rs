//! Finds the router that serves a request, and why: the candidates in Traefik's order.
//!
//! Sources: `AddRoute` and `ServeHTTP` (Traefik's pkg/muxer/http), `buildEntryPointHandler` (pkg/server/router).

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::asked_host;
use super::fields::RuleFields;
use super::matching::RuleMatcher;
use super::output_route::OutputRoute;
use super::rule::RuleError;
use super::tls_options::{NamedOptions, TlsOptions};
use super::web_request::WebRequest;
use crate::kubernetes::key::{IngressKey, ServiceKey};
use crate::routing::Routing;
use crate::table::Output;
use crate::traefik::certificate::{self, CertificateFacts};
use crate::traefik::dynamic::Router;

/// Traefik refuses priorities above this.
const PRIORITY_LIMIT: i64 = i64::MAX - 1000;

/// A router that is ready to match.
#[derive(Debug)]
pub struct RankedRouter<'a> {
    pub router: &'a Router,
    /// The explicit one, or else the length of the rule.
    pub priority: i64,
    pub matcher: Result<RuleMatcher, RuleError>,
}

impl<'a> RankedRouter<'a> {
    /// Parses the rule of a router.
    pub fn new(router: &'a Router) -> Self {
        let length = i64::try_from(router.rule.len()).unwrap_or(i64::MAX);
        let priority = if router.priority == 0 { length } else { router.priority };
        let matcher = RuleMatcher::new(&router.rule, &router.rule_syntax);
        Self { router, priority, matcher }
    }

    /// Why Traefik has no such router, if it has none, and the remedy.
    pub fn refusal(&self) -> Option<(String, &'static str)> {
        if self.priority > PRIORITY_LIMIT {
            return Some((format!("Traefik refuses priorities above {PRIORITY_LIMIT}"), "a lower priority"));
        }
        let error = self.matcher.as_ref().err()?;
        Some((format!("Traefik refuses its rule: {error}"), "a rule that Traefik accepts"))
    }

    /// Why it does not match a request, regardless of other routers, and the remedy; empty if it does.
    fn obstacles(&self, request: &WebRequest, entry_point: Option<&str>) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.refusal().map(|(why, help)| (why, help.to_owned())).into_iter().collect();
        if self.router.tls.is_some() && !request.https {
            all.push(("it has TLS, so it serves https only".to_owned(), "a request over https".to_owned()));
        }
        let entry_points = &self.router.entry_points;
        if let Some(name) = entry_point
            && !entry_points.is_empty()
            && !entry_points.iter().any(|own| own == name)
        {
            let names = entry_points.join(" or ");
            all.push((
                format!("it is on {names}, not on {name}"),
                format!("a request to entry point {names}"),
            ));
        }
        if let Ok(matcher) = &self.matcher {
            all.extend(matcher.misses(request).into_iter().map(|miss| {
                (format!("{}: {}", miss.wanted, miss.seen), format!("a request that {} matches", miss.wanted))
            }));
        }
        all
    }

    /// Whether it matches a request; `None` if that is unknown.
    pub fn takes(&self, request: &WebRequest, entry_point: Option<&str>) -> Option<bool> {
        match (self.obstacles(request, entry_point).is_empty(), &self.matcher) {
            (true, Ok(matcher)) => matcher.matches(request),
            _ => Some(false),
        }
    }

    /// Whether it is for the host of a request, as far as that is known.
    fn is_about(&self, request: &WebRequest) -> bool {
        match &self.matcher {
            Ok(matcher) => matcher.may_match_host(request),
            Err(_) => self.router.rule.contains(&request.host),
        }
    }
}

/// The verdict on a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteVerdict {
    Serves,
    /// It matches too, with the same priority as the one that serves the request. Traefik's order of the two is
    /// undefined.
    Tied,
    /// It matches, but another one comes first.
    Later,
    Misses,
    /// Unknown: a pattern of its rule is too expensive to evaluate.
    Unknown,
}

/// A router for the request's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteCandidate {
    pub router: String,
    pub verdict: RouteVerdict,
    /// Why it loses, one sentence each.
    pub because: Vec<String>,
    /// What would be needed for it to serve the request; empty for the one that does.
    pub to_win: Vec<String>,
    pub rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule_syntax: String,
    pub priority: i64,
    /// The priority is not set, so it is the length of the rule.
    pub default_priority: bool,
    /// Empty stands for Traefik's default entry points.
    pub entry_points: Vec<String>,
    pub tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_options: Option<NamedOptions>,
    pub middlewares: Vec<String>,
    /// `Ingress namespace/name`.
    pub from: String,
    /// The field of that object; empty if there are several possible ones.
    pub field: String,
    pub service: ExplainedService,
}

/// The target of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedService {
    pub name: String,
    /// `Service namespace/name, port PORT`; a default backend's without its port.
    pub from: String,
    /// Only for the first candidate with this service, and for the one that serves.
    #[serde(flatten)]
    pub content: Option<Arc<ServiceContent>>,
}

/// The properties of a service.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceContent {
    pub middlewares: Vec<String>,
    pub endpoints: Vec<ExplainedEndpoint>,
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedEndpoint {
    /// A URL, or only the address if it gets no requests.
    pub address: String,
    /// `serving`, `terminating` or `not serving`; `address` for a name or cluster address.
    pub state: &'static str,
}

/// The certificate for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCertificate {
    /// `Secret namespace/name`; empty for Traefik's default certificate.
    pub from: String,
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_after: String,
}

/// The answer for one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub output: String,
    pub method: String,
    pub url: String,
    /// The path that is compared with rules, if it differs from the path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed_path: Option<String>,
    /// The router that serves it.
    pub served_by: Option<String>,
    /// The routers for the host, in Traefik's order.
    pub candidates: Vec<RouteCandidate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ExplainedCertificate>,
    /// Problems of Ingresses for the host, one line each.
    pub problems: Vec<String>,
    /// Similar hosts; only if nothing serves it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub similar_hosts: Vec<String>,
}

/// Addresses of endpoints that are not serving, by Service.
pub type NotServing = HashMap<ServiceKey, Vec<String>>;

/// A route of an output, and what keeps it from matching the request.
struct Origin<'a> {
    route: OutputRoute<'a>,
    priority: i64,
    /// Whether it matches the request; `None` if that is unknown.
    takes: Option<bool>,
    obstacles: Vec<(String, String)>,
    /// Matchers that can't be evaluated.
    unknown: Vec<String>,
}

impl<'a> Origin<'a> {
    /// A route, if it is for the host. Its matcher is dropped, because a tenant's may be large.
    fn new(route: OutputRoute<'a>, request: &WebRequest, entry_point: Option<&str>) -> Option<Self> {
        let ranked = RankedRouter::new(route.router);
        if !ranked.is_about(request) {
            return None;
        }
        let takes = ranked.takes(request, entry_point);
        let matcher = ranked.matcher.as_ref().ok().filter(|_| takes.is_none());
        let unknown = matcher.map_or_else(Vec::new, |matcher| matcher.unknown(request));
        Some(Self {
            priority: ranked.priority,
            takes,
            obstacles: ranked.obstacles(request, entry_point),
            unknown: unknown.into_iter().map(ToString::to_string).collect(),
            route,
        })
    }
}

/// The answer of an output for a request. `entry_point` is the one at which it arrives; none stands for any.
pub fn explain(
    routing: &Routing,
    output: (&str, &Output),
    request: &WebRequest,
    entry_point: Option<&str>,
    not_serving: &NotServing,
) -> Explanation {
    let (output_name, output) = output;
    let all = OutputRoute::all(output);
    let mut origins: Vec<Origin<'_>> =
        all.filter_map(|route| Origin::new(route, request, entry_point)).collect();
    origins.sort_by(|one, other| {
        other.priority.cmp(&one.priority).then_with(|| one.route.name.cmp(&other.route.name))
    });
    let winner = origins.iter().position(|origin| origin.takes == Some(true));
    let first = winner.map(|at| (at, origins[at].priority, Arc::clone(&origins[at].route.name)));
    let routers = OutputRoute::all(output).map(|route| (route.fragment, route.router));
    let mut described = Descriptions {
        routing,
        not_serving,
        tls_options: TlsOptions::new(routing, routers),
        fields: HashMap::new(),
        services: HashMap::new(),
    };
    let candidates = origins.into_iter().enumerate().map(|(at, origin)| {
        let mut candidate = described.candidate(&origin, winner == Some(at));
        judge(&mut candidate, origin, at, first.as_ref());
        candidate
    });
    let sent = &request.sent_path;
    let routed = String::from_utf8_lossy(&request.path).into_owned();
    Explanation {
        output: output_name.to_owned(),
        method: request.method.clone(),
        url: format!("{}://{}{sent}", if request.https { "https" } else { "http" }, request.host_header),
        routed_path: (routed != *sent).then_some(routed),
        candidates: candidates.collect(),
        served_by: first.map(|(_, _, name)| name.to_string()),
        certificate: request.https.then(|| served_certificate(output, &request.host)),
        problems: asked_host::problems(routing, &request.host),
        similar_hosts: match winner {
            None => asked_host::similar_hosts(routing, &request.host),
            Some(_) => Vec::new(),
        },
    }
}

/// The router that serves: its position, its priority and its name.
type First = (usize, i64, Arc<str>);

fn judge(candidate: &mut RouteCandidate, origin: Origin<'_>, at: usize, first: Option<&First>) {
    let (takes, own) = (origin.takes, origin.priority);
    (candidate.because, candidate.to_win) = origin.obstacles.into_iter().unzip();
    if takes.is_none() {
        candidate.verdict = RouteVerdict::Unknown;
        candidate.because.push(format!(
            "its rule cannot be evaluated here, because it is too expensive: {}; Traefik may accept it",
            origin.unknown.join(", ")
        ));
    }
    let Some((winner, priority, name)) = first else { return };
    if takes == Some(true) {
        candidate.verdict = match own {
            _ if at == *winner => RouteVerdict::Serves,
            own if own == *priority => RouteVerdict::Tied,
            _ => RouteVerdict::Later,
        };
    }
    match candidate.verdict {
        RouteVerdict::Serves | RouteVerdict::Misses | RouteVerdict::Unknown => {}
        RouteVerdict::Tied => candidate.because.push(format!(
            "it matches too and has the same priority {own} as {name}: which of the two Traefik uses is undefined"
        )),
        RouteVerdict::Later => candidate
            .because
            .push(format!("it matches too, but its priority {own} is lower than the {priority} of {name}")),
    }
    let needs_priority = match candidate.verdict {
        RouteVerdict::Serves => false,
        RouteVerdict::Tied | RouteVerdict::Later => true,
        RouteVerdict::Misses | RouteVerdict::Unknown => at > *winner,
    };
    if needs_priority {
        let above = priority.saturating_add(1);
        candidate.to_win.push(match origin.route.owner {
            Some(_) => format!(
                "the annotation traefik.ingress.kubernetes.io/router.priority: \"{above}\" or more on {}",
                candidate.from
            ),
            None => format!("no other router may match: a default backend always comes last, after {name}"),
        });
    }
}

/// Values that candidates share are built once: thousands of routers may use a Service with thousands of endpoints.
struct Descriptions<'a> {
    routing: &'a Routing,
    not_serving: &'a NotServing,
    tls_options: TlsOptions<'a>,
    fields: HashMap<&'a IngressKey, RuleFields>,
    /// By the name of the service.
    services: HashMap<Arc<str>, Arc<ServiceContent>>,
}

impl<'a> Descriptions<'a> {
    fn candidate(&mut self, origin: &Origin<'a>, serves: bool) -> RouteCandidate {
        let route = &origin.route;
        let (router, ingress) = (route.router, &route.fragment.ingress);
        let service = service_of(self.routing, route);
        let name = Arc::clone(&route.service_name);
        let known = self.services.contains_key(&name);
        let content = self.services.entry(name).or_insert_with(|| {
            Arc::new(ServiceContent {
                middlewares: route.service.middlewares.clone(),
                endpoints: endpoints(self.routing, route, service.as_ref(), self.not_serving),
            })
        });
        RouteCandidate {
            router: route.name.to_string(),
            verdict: RouteVerdict::Misses,
            because: Vec::new(),
            to_win: Vec::new(),
            rule: router.rule.clone(),
            rule_syntax: router.rule_syntax.clone(),
            priority: origin.priority,
            default_priority: router.priority == 0,
            entry_points: router.entry_points.clone(),
            tls: router.tls.is_some(),
            tls_options: NamedOptions::new(router, &self.tls_options),
            middlewares: router.middlewares.clone(),
            from: format!("Ingress {ingress}"),
            service: ExplainedService {
                name: route.service_name.to_string(),
                from: service.map_or_else(String::new, |service| {
                    let port =
                        route.owner.map_or_else(String::new, |own| format!(", port {}", own.owner.port));
                    format!("Service {service}{port}")
                }),
                content: (serves || !known).then(|| Arc::clone(content)),
            },
            field: self.field(route),
        }
    }

    /// The field from which a route comes.
    fn field(&mut self, route: &OutputRoute<'a>) -> String {
        if route.owner.is_none() {
            return "spec.defaultBackend".to_owned();
        }
        let ingress = &route.fragment.ingress;
        let ingresses = self.routing.stores().ingresses();
        let fields = self.fields.entry(ingress).or_insert_with(|| {
            ingresses.get(ingress).map_or_else(RuleFields::default, |one| RuleFields::new(one))
        });
        let field = fields.get(&route.router.rule).filter(|field| !field.shared);
        field.map_or_else(String::new, |field| field.path())
    }
}

/// The Service of a router.
fn service_of(routing: &Routing, route: &OutputRoute<'_>) -> Option<ServiceKey> {
    if let Some(fragment) = route.owner {
        return Some(fragment.owner.service.clone());
    }
    let ingress = &route.fragment.ingress;
    let spec = routing.stores().ingresses().get(ingress)?.spec.as_ref()?;
    let service = spec.default_backend.as_ref()?.service.as_ref()?;
    Some(ServiceKey::new(ingress.namespace(), service.name.as_str()))
}

fn endpoints(
    routing: &Routing,
    route: &OutputRoute<'_>,
    service: Option<&ServiceKey>,
    not_serving: &NotServing,
) -> Vec<ExplainedEndpoint> {
    let slices = service.map(|service| routing.stores().endpoint_slices(service)).unwrap_or_default();
    let mut terminating: HashMap<&str, bool> = HashMap::new();
    for address in slices.iter().flat_map(|slice| &slice.addresses) {
        terminating.entry(&address.host).or_insert(address.terminating);
    }
    let state = |url: &str| {
        let host = url.split("://").nth(1).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
        match terminating.get(host) {
            Some(true) => "terminating",
            Some(false) => "serving",
            None => "address",
        }
    };
    let served = route
        .service
        .load_balancer
        .servers
        .iter()
        .map(|server| ExplainedEndpoint { address: server.url.clone(), state: state(&server.url) });
    let others = service.and_then(|service| not_serving.get(service)).into_iter().flatten();
    let others = others.map(|address| ExplainedEndpoint { address: address.clone(), state: "not serving" });
    served.chain(others).collect()
}

fn served_certificate(output: &Output, host: &str) -> ExplainedCertificate {
    let published = output.certificates_by_secret().into_iter();
    let covering = published.filter_map(|(secret, certificate)| {
        let facts = CertificateFacts::parse(&certificate.cert_file).ok()?;
        (facts.covers(host) && certificate::is_loadable(certificate)).then_some((secret, facts))
    });
    let (secrets, facts): (Vec<_>, Vec<_>) = covering.unzip();
    match certificate::best(host, &facts) {
        Some(at) => ExplainedCertificate {
            from: format!("Secret {}", secrets[at]),
            names: facts[at].names.clone(),
            not_after: jiff::Timestamp::from_second(facts[at].not_after)
                .map_or_else(|_| String::new(), |time| time.to_string()),
        },
        None => ExplainedCertificate { from: String::new(), names: Vec::new(), not_after: String::new() },
    }
}
