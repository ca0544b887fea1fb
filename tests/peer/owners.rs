//! Which path of which Ingress a router of waybill's stands for. Waybill does not say it, so it is read from the
//! router's key and from the objects. A difference on purpose excuses a router only where it is what such a path
//! should become.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cause::{Case, annotation};
use super::meaning::Route;
use super::object::{items, name, namespace};

/// A path of an Ingress, or a Service and port that several paths lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub namespace: String,
    pub ingress: String,
    host: String,
    path: String,
    /// The Service that its backend names, and its key.
    pub service: String,
    service_key: String,
}

impl Claim {
    /// Whether a router of Traefik's comes from the same Ingress.
    pub fn same_ingress(&self, route: &Route) -> bool {
        route
            .from
            .as_ref()
            .is_some_and(|from| from.namespace == self.namespace && from.ingress == self.ingress)
    }

    fn same_service(&self, route: &Route) -> bool {
        let from = route.from.as_ref();
        from.is_some_and(|from| from.namespace == self.namespace && from.service == self.service)
    }

    /// Whether a router leads where the path does.
    pub fn leads_to(&self, service_key: &str) -> bool {
        without_digests(service_key).any(|key| key == self.service_key)
    }

    /// Whether a rule mentions host and path, as far as both are written as they are.
    fn is_in(&self, rule: &str) -> bool {
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte))
        };
        (!plain(&self.host) || rule.contains(&format!("\"{}\"", self.host)))
            && (!plain(&self.path) || rule.contains(&format!("\"{}", self.path)))
    }
}

/// Paths by the key of the router that they become.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<String, Vec<Claim>>);

impl Claims {
    /// The paths of these Ingresses.
    pub fn new<'a>(ingresses: impl Iterator<Item = &'a Value>) -> Self {
        let mut claims = Self::default();
        for ingress in ingresses {
            let (namespace, ingress_name) = (namespace(ingress), name(ingress));
            for rule in items(ingress, "/spec/rules") {
                let host = rule["host"].as_str().unwrap_or_default();
                for entry in items(rule, "/http/paths") {
                    let path = entry["path"].as_str().unwrap_or_default();
                    let backend = &entry["backend"]["service"];
                    let service = backend["name"].as_str().unwrap_or_default();
                    let port = backend["port"]["name"]
                        .as_str()
                        .map_or_else(|| backend["port"]["number"].to_string(), str::to_owned);
                    let key = normal(&format!("{namespace}-{ingress_name}-{host}{path}"));
                    claims.0.entry(key).or_default().push(Claim {
                        namespace: namespace.to_owned(),
                        ingress: ingress_name.to_owned(),
                        host: host.to_owned(),
                        path: path.to_owned(),
                        service: service.to_owned(),
                        service_key: normal(&format!("{namespace}-{service}-{port}")),
                    });
                }
            }
        }
        claims
    }

    /// The paths that may have become a router.
    pub fn of(&self, key: &str) -> Vec<&Claim> {
        without_digests(key).filter_map(|key| self.0.get(key)).flatten().collect()
    }

    /// Whether several paths, of any Ingress, become routers of the path's key.
    fn several(&self, claim: &Claim) -> bool {
        let one_key = |claims: &&Vec<Claim>| claims.contains(claim);
        self.0.values().find(one_key).is_some_and(|claims| claims.len() > 1)
            || self.digested().iter().any(|key| self.0[key].contains(claim))
    }

    /// Keys that are what another becomes when a digest is added to it.
    pub fn digested(&self) -> Vec<String> {
        let shorter = |key: &&String| without_digests(key).skip(1).any(|key| self.0.contains_key(key));
        self.0.keys().filter(shorter).cloned().collect()
    }

    /// Keys of several Ingresses.
    pub fn contested(&self) -> Vec<String> {
        let ingresses = |claims: &[Claim]| {
            let names = claims.iter().map(|claim| (claim.namespace.clone(), claim.ingress.clone()));
            names.collect::<BTreeSet<_>>().len()
        };
        self.0.iter().filter(|(_, claims)| ingresses(claims) > 1).map(|(key, _)| key.clone()).collect()
    }

    /// Keys of services that several Services have.
    pub fn contested_services(&self) -> BTreeSet<String> {
        let mut owners: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
        for claim in self.0.values().flatten() {
            owners.entry(&claim.service_key).or_default().insert((&claim.namespace, &claim.service));
        }
        owners.into_iter().filter(|(_, owners)| owners.len() > 1).map(|(key, _)| key.to_owned()).collect()
    }
}

impl Case<'_> {
    /// Whether a router is what the path should become, as far as Traefik's other routers (`adapted`) and the objects
    /// tell: the Ingress's settings, the path's rule, and its own Service's servers.
    pub fn becomes(&self, claim: &Claim, ours: &Route, adapted: &[Route]) -> bool {
        let sibling = adapted.iter().find(|route| claim.same_ingress(route));
        let settings_fit = match sibling {
            Some(route) => route.settings() == ours.settings(),
            None => {
                let ingress = self.cluster.find("Ingress", &claim.namespace, &claim.ingress);
                let plain = if self.default_syntax_v2 { "{\"ruleSyntax\":\"v2\"}" } else { "{}" };
                ingress.is_some_and(|ingress| ours.settings() == plain || has_router_annotations(ingress))
            }
        };
        let rule = ours.meaning["rule"].as_str().unwrap_or_default();
        settings_fit
            && claim.is_in(rule)
            && claim.leads_to(&ours.service_key)
            && self.serves_its_own(&claim.namespace, &claim.service, ours, adapted)
    }

    /// Whether a router's servers are those of a Service: equal to what Traefik has where it leads there too, and else
    /// none that are not the Service's.
    pub fn serves_its_own(&self, namespace: &str, service: &str, ours: &Route, adapted: &[Route]) -> bool {
        let base = |route: &Route| without_digests(&route.service_key).last().map(str::to_owned);
        let same = adapted.iter().find(|route| {
            let from = route.from.as_ref();
            from.is_some_and(|from| from.namespace == namespace && from.service == service)
                && base(route) == base(ours)
                && !self.service_collides(&route.service_key)
        });
        if let Some(route) = same {
            return route.sorted_service() == ours.sorted_service();
        }
        let object = self.cluster.find("Service", namespace, service);
        let by_node = |object: &Value| {
            annotation(object, "service.nodeportlb").is_some() && object["spec"]["type"] == "NodePort"
        };
        if object.is_some_and(by_node) {
            // The nodes are those of everybody.
            return true;
        }
        let hosts = self.hosts_of(namespace, service);
        let servers = items(&ours.meaning, "/service/loadBalancer/servers");
        servers.iter().all(|server| {
            host(server["url"].as_str().unwrap_or_default()).is_some_and(|host| hosts.contains(host))
        })
    }

    /// Every host that can be behind a Service.
    fn hosts_of(&self, namespace: &str, service: &str) -> BTreeSet<String> {
        let mut hosts = BTreeSet::new();
        let mut add = |value: &Value| hosts.extend(value.as_str().map(str::to_owned));
        if let Some(object) = self.cluster.find("Service", namespace, service) {
            add(&object["spec"]["externalName"]);
            items(object, "/spec/clusterIPs").iter().for_each(&mut add);
        }
        for slice in self.cluster.of_kind("EndpointSlice") {
            if self::namespace(slice) == namespace
                && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service
            {
                items(slice, "/endpoints")
                    .iter()
                    .flat_map(|endpoint| items(endpoint, "/addresses"))
                    .for_each(&mut add);
            }
        }
        hosts
    }

    /// Whether Traefik has a reason to leave a service behind that no router of its uses: a path to it whose matcher is
    /// bad, or whose router shares its key with another, which may be the one that is kept.
    pub fn may_be_left_behind(&self, service_key: &str) -> bool {
        let paths = self.claims.0.values().flatten().filter(|claim| claim.leads_to(service_key));
        paths.into_iter().any(|claim| {
            let ingress = self.cluster.find("Ingress", &claim.namespace, &claim.ingress);
            let matcher = ingress.and_then(|ingress| annotation(ingress, "router.pathmatcher"));
            matcher.is_some_and(|text| !["Path", "PathPrefix", "PathRegexp"].contains(&text))
                || self.claims.several(claim)
        })
    }

    /// Whether Traefik has a router of the same name from another path than this one.
    pub fn gives_way(&self, claim: &Claim, key: &str, theirs: &[Route]) -> bool {
        let names: BTreeSet<&str> = without_digests(key).collect();
        theirs.iter().any(|route| {
            without_digests(&route.key).any(|name| names.contains(name))
                && !(claim.same_ingress(route) && claim.same_service(route))
        })
    }
}

fn has_router_annotations(ingress: &Value) -> bool {
    ingress["metadata"]["annotations"].as_object().is_some_and(|annotations| {
        annotations
            .keys()
            .any(|key| key.to_ascii_lowercase().starts_with("traefik.ingress.kubernetes.io/router."))
    })
}

/// The host of a server's URL, without the brackets of IPv6.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (host, _) = rest.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Close enough to Traefik's way to tell which names collide: letters that are marks do not come in names.
pub fn normal(text: &str) -> String {
    text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A key as it is, and without one and two digests of 20 digits at its end.
pub fn without_digests(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| {
        let (rest, digest) = key.rsplit_once('-')?;
        (digest.len() == 20 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(rest)
    })
    .take(3)
}
