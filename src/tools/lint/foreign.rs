//! Annotations of other controllers: what they would do there, and what to use here instead.

use super::LintFinding;
use crate::kubernetes::Ingress;
use crate::kubernetes::well_known::{CONTROLLERS, TRAEFIK_PREFIX};
use crate::translate::annotation::{self, MAY_BE_OPEN, NO_EFFECT, RESTRICTING};
use crate::translate::problem::{Category, Problem};

/// Findings for one object.
const LIMIT: usize = 50;

/// Prefixes of an annotation's name, their effect there, and what has the same effect here. The first match is used.
const EFFECTS: &[(&[&str], &str, &str)] = &[
    (&["auth-tls"], "ask clients for a certificate", "a TLSOption with clientAuth in router.tls.options"),
    (&["auth-url"], "ask another service about each request", "a middleware forwardAuth"),
    (&["auth-signin"], "send clients to a login page", "a middleware forwardAuth"),
    (
        &["auth-response"],
        "pass headers of the login service on",
        "a middleware forwardAuth (authResponseHeaders)",
    ),
    (&["auth"], "ask for a user and a password", "a middleware basicAuth or digestAuth"),
    (&["whitelist"], "let certain addresses in only", "a middleware ipAllowList"),
    (
        &["allow-http"],
        "serve no http where it is \"false\"",
        "an entry point with TLS alone in router.entrypoints",
    ),
    (&["allow"], "let certain addresses in only", "a middleware ipAllowList"),
    (
        &["denylist", "blacklist", "deny"],
        "keep certain addresses out",
        "a middleware ipAllowList with all others",
    ),
    (&["satisfy"], "let clients in by address or by password", "a middleware for each"),
    (&["limit-"], "limit requests or connections", "a middleware rateLimit or inFlightReq"),
    (&["rate-limit"], "limit requests", "a middleware rateLimit"),
    (
        &["force-ssl-redirect", "ssl-redirect", "https-redirect"],
        "redirect http to https",
        "a middleware redirectScheme, or the redirection of the entry point",
    ),
    (&["ssl-passthrough"], "pass TLS on as it is", "an IngressRouteTCP, which needs Traefik's CRDs"),
    (&["rewrite"], "rewrite the path", "a middleware stripPrefix or replacePathRegex"),
    (&["strip-path"], "take the prefix off the path", "a middleware stripPrefix"),
    (&["app-root"], "redirect / to a path", "a middleware redirectRegex"),
    (&["permanent-redirect", "temporal-redirect"], "redirect", "a middleware redirectRegex"),
    (&["from-to-www"], "redirect between the host and its www", "a middleware redirectRegex"),
    (
        &["use-regex"],
        "read paths as patterns",
        "router.pathmatcher: PathRegexp with the path type ImplementationSpecific",
    ),
    (
        &["enable-cors", "cors-"],
        "answer CORS requests",
        "a middleware headers (accessControlAllowOriginList and its like)",
    ),
    (
        &["proxy-body-size", "client-max-body-size"],
        "limit the size of requests",
        "a middleware buffering; Traefik has no limit of its own",
    ),
    (&["proxy-buffer"], "buffer answers", "nothing to set; Traefik passes answers on as they come"),
    (&["proxy-request-buffering"], "buffer requests", "a middleware buffering"),
    (&["proxy-ssl"], "check the backend's certificate", "service.serverstransport on the Service"),
    (&["secure-backends"], "speak https to the backend", "service.serversscheme: https on the Service"),
    (
        &["backend-protocol", "protocol"],
        "choose the backend's protocol",
        "service.serversscheme: https or h2c on the Service",
    ),
    (
        &["proxy-read-timeout", "proxy-send-timeout", "proxy-connect-timeout"],
        "set a timeout for the backend",
        "service.serverstransport on the Service",
    ),
    (
        &["affinity", "session-cookie"],
        "keep a client at one endpoint",
        "service.sticky.cookie on the Service",
    ),
    (
        &["configuration-snippet", "server-snippet", "location-snippet"],
        "write into nginx's configuration",
        "a middleware that does the same",
    ),
    (
        &["canary"],
        "send a part of the requests elsewhere",
        "a weighted TraefikService, which needs Traefik's CRDs",
    ),
    (&["server-alias"], "serve more hosts", "a rule for each host"),
    (
        &["upstream-vhost"],
        "set the Host header for the backend",
        "a middleware headers (customRequestHeaders)",
    ),
    (&["custom-headers"], "set headers", "a middleware headers"),
    (&["x-forwarded-prefix"], "set X-Forwarded-Prefix", "a middleware stripPrefix, which sets it"),
    (
        &["service-upstream"],
        "send requests to the Service's address",
        "service.nativelb: \"true\" on the Service",
    ),
    (&["preserve-host"], "keep the Host header", "service.passhostheader on the Service"),
    (&["plugins"], "run plugins of Kong", "a middleware for each"),
    (
        &["modsecurity", "enable-modsecurity", "enable-owasp"],
        "filter attacks",
        "a plugin of Traefik, or another firewall in front",
    ),
    (&["websocket"], "pass WebSockets", "nothing to set; Traefik passes WebSockets by itself"),
];

/// One finding for each annotation of a problem `IgnoredAnnotation`. If the object is not available, only for those
/// that the problem shows.
pub fn findings(problem: &Problem, ingress: Option<&Ingress>) -> Vec<LintFinding> {
    let annotations = ingress.and_then(|ingress| ingress.metadata.annotations.as_ref());
    let keys: Vec<&str> = match annotations {
        Some(annotations) => annotation::without_effect(annotations, "router").take(LIMIT).collect(),
        None => problem.value.split(", ").filter(|key| !key.ends_with('…')).collect(),
    };
    let object = problem.subject.to_string();
    keys.into_iter().map(|key| finding(&object, key, &problem.remedy)).collect()
}

/// One finding for each of these annotations of an object.
pub fn of_others(object: &str, keys: &[String]) -> Vec<LintFinding> {
    keys.iter().take(LIMIT).map(|key| finding(object, key, "")).collect()
}

/// A finding; `remedy` may name a similar annotation.
fn finding(object: &str, key: &str, remedy: &str) -> LintFinding {
    let known =
        CONTROLLERS.iter().find_map(|(prefix, controller)| Some((key.strip_prefix(prefix)?, *controller)));
    let effect = known.and_then(|(name, controller)| {
        let (_, effect, instead) =
            EFFECTS.iter().find(|(starts, ..)| starts.iter().any(|start| name.starts_with(start)))?;
        Some((controller, *effect, *instead))
    });
    let name = key.rsplit('/').next().unwrap_or_default();
    let restricts = RESTRICTING.iter().any(|part| name.to_ascii_lowercase().contains(part));
    let usual = match remedy.contains(&format!("the closest to {name} is")) {
        true => remedy,
        false if restricts => MAY_BE_OPEN,
        false => NO_EFFECT,
    };
    let (text, remedy) = match (effect, known) {
        (Some((controller, effect, instead)), _) => (
            format!("{key:?} has no effect: with {controller} it would {effect}"),
            format!("equivalent here: {instead}"),
        ),
        (None, Some((_, controller))) if !key.starts_with(TRAEFIK_PREFIX) => {
            (format!("{key:?} has no effect: it belongs to {controller}"), usual.to_owned())
        }
        (None, _) => (format!("{key:?} has no effect on this object"), usual.to_owned()),
    };
    let field = format!("metadata.annotations[{key}]");
    LintFinding::new(Category::IgnoredAnnotation.as_str(), object, field, text).with_remedy(remedy)
}
