//! What a routing means, without what does not matter: keys, defaults that are spelled out or not, and what only
//! Traefik's own provider can say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A router with the service behind it in the place of the service's key.
#[derive(Clone, Debug)]
pub struct Route {
    pub key: String,
    pub service_key: String,
    /// Namespace and name of its Ingress, namespace and name of its Service; only Traefik's provider tells them.
    pub from: Option<Origin>,
    pub meaning: Value,
    /// Traefik's rule is empty.
    pub unwritten: bool,
}

/// Where a router comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub namespace: String,
    pub ingress: String,
    pub service: String,
}

impl Route {
    /// Its meaning as text; equal for equal meanings.
    pub fn text(&self) -> String {
        canonical(&self.meaning)
    }

    /// Whether both come from one Ingress.
    pub fn same_ingress(&self, other: &Self) -> bool {
        let ingress = |route: &Self| {
            let from = route.from.as_ref()?;
            Some((from.namespace.clone(), from.ingress.clone()))
        };
        ingress(self).is_some() && ingress(self) == ingress(other)
    }

    /// What the annotations of its Ingress say: everything but the rule and what is behind it.
    pub fn settings(&self) -> String {
        let mut meaning = self.meaning.clone();
        if let Some(meaning) = meaning.as_object_mut() {
            meaning.remove("service");
            meaning.remove("rule");
        }
        canonical(&meaning)
    }

    /// Its service with the servers in the order of their URLs.
    pub fn sorted_service(&self) -> String {
        let mut service = self.meaning["service"].clone();
        if let Some(servers) = service.pointer_mut("/loadBalancer/servers").and_then(Value::as_array_mut) {
            servers.sort_by_key(|server| server["url"].to_string());
        }
        canonical(&service)
    }

    /// Everything but what is behind it.
    pub fn without_service(&self) -> String {
        let mut meaning = self.meaning.clone();
        if let Some(meaning) = meaning.as_object_mut() {
            meaning.remove("service");
        }
        canonical(&meaning)
    }
}

/// The part of an answer that belongs to a cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub routes: Vec<Route>,
    /// Keys of services that no router leads to.
    pub unused: Vec<String>,
    /// Certificate and key, as texts.
    pub certificates: BTreeSet<(String, String)>,
}

/// An answer, cut into clusters.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub clusters: BTreeMap<String, View>,
    /// `default-router`.
    pub default: Option<Route>,
    /// What belongs to no cluster, and why.
    pub strays: Vec<String>,
}

/// The key of the router that the whole API server has once.
const DEFAULT: &str = "default-router";

impl Answer {
    /// Cuts a configuration, as JSON in the form of Traefik's file provider.
    pub fn new(configuration: &Value) -> Self {
        let mut answer = Self::default();
        let empty = Map::new();
        let services = configuration["http"]["services"].as_object().unwrap_or(&empty);
        let mut used = BTreeSet::from(["default-backend"]);
        for (key, router) in configuration["http"]["routers"].as_object().unwrap_or(&empty) {
            let service_key = router["service"].as_str().unwrap_or_default();
            used.insert(service_key);
            let metadata = &router["observability"]["metadata"]["ingress"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            let from = metadata.is_object().then(|| Origin {
                namespace: text("namespace"),
                ingress: text("ingressName"),
                service: text("serviceName"),
            });
            let meaning = router_meaning(router, services.get(service_key));
            let unwritten = meaning["rule"].as_str().is_none_or(str::is_empty);
            let service_key = service_key.to_owned();
            let route = Route { key: key.clone(), service_key, from, meaning, unwritten };
            if key == DEFAULT {
                answer.default = Some(route);
            } else {
                answer.clusters.entry(owner(key).to_owned()).or_default().routes.push(route);
            }
        }
        for key in services.keys().filter(|key| !used.contains(key.as_str())) {
            answer.clusters.entry(owner(key).to_owned()).or_default().unused.push(key.clone());
        }
        for pair in configuration["tls"]["certificates"].as_array().into_iter().flatten() {
            let text = |field: &str| pair[field].as_str().unwrap_or_default().to_owned();
            let pair = (text("certFile"), text("keyFile"));
            match marked(&pair.0).or_else(|| marked(&pair.1)) {
                Some(cluster) => {
                    answer.clusters.entry(cluster.to_owned()).or_default().certificates.insert(pair);
                }
                None => answer.strays.push(format!("a certificate of no cluster: {:?}", pair.0)),
            }
        }
        answer
    }
}

/// The cluster that a key belongs to.
fn owner(key: &str) -> &str {
    key.split('-').next().unwrap_or_default()
}

/// The cluster that a content names as `#NAME;`.
fn marked(content: &str) -> Option<&str> {
    let begin = content.find('#')? + 1;
    let length = content[begin..].find(';')?;
    Some(&content[begin..begin + length])
}

fn router_meaning(router: &Value, service: Option<&Value>) -> Value {
    let mut meaning = router.clone();
    meaning["service"] = service.map_or_else(|| "missing".into(), service_meaning);
    if let Some(fields) = meaning.as_object_mut() {
        if let Some(observability) = fields.get_mut("observability").and_then(Value::as_object_mut) {
            observability.remove("metadata");
            // Empty is the entry point's, which Traefik's provider says by leaving it out.
            drop_where(observability, "traceVerbosity", &json!(""));
            if observability.is_empty() {
                fields.remove("observability");
            }
        }
        drop_where(fields, "priority", &json!(0));
        drop_where(fields, "ruleSyntax", &json!(""));
    }
    meaning
}

fn service_meaning(service: &Value) -> Value {
    let mut meaning = service.clone();
    if let Some(balancer) = meaning.get_mut("loadBalancer").and_then(Value::as_object_mut) {
        drop_where(balancer, "strategy", &json!("wrr"));
        drop_where(balancer, "passHostHeader", &json!(true));
        drop_where(balancer, "responseForwarding", &json!({"flushInterval": "100ms"}));
        let cookie = balancer.get_mut("sticky").and_then(|sticky| sticky.get_mut("cookie"));
        if let Some(cookie) = cookie.and_then(Value::as_object_mut) {
            drop_where(cookie, "path", &json!("/"));
        }
        // Stickiness without a cookie has no effect.
        drop_where(balancer, "sticky", &json!({}));
    }
    meaning
}

fn drop_where(fields: &mut Map<String, Value>, key: &str, value: &Value) {
    if fields.get(key) == Some(value) {
        fields.remove(key);
    }
}

/// JSON with sorted keys.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let parts: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_keys_do_not_matter() {
        let plain = json!({"http": {
            "routers": {"c1-a": {"rule": "R", "service": "c1-s"}},
            "services": {"c1-s": {"loadBalancer": {"servers": [{"url": "http://a:1"}]}}}}});
        let spelled = json!({"http": {
            "routers": {"c1-b": {"rule": "R", "service": "c1-t", "priority": 0, "ruleSyntax": "", "observability":
                {"metadata": {"ingress": {"namespace": "c1-n", "ingressName": "i", "serviceName": "s"}}}}},
            "services": {"c1-t": {"loadBalancer": {"strategy": "wrr", "passHostHeader": true, "sticky": {},
                "responseForwarding": {"flushInterval": "100ms"}, "servers": [{"url": "http://a:1"}]}}}}});
        let (plain, spelled) = (Answer::new(&plain), Answer::new(&spelled));
        let route = &spelled.clusters["c1"].routes[0];
        assert_eq!(plain.clusters["c1"].routes[0].text(), route.text());
        assert_eq!(route.from.as_ref().map(|from| from.namespace.as_str()), Some("c1-n"));
    }

    #[test]
    fn what_differs_stays_different() {
        let router = json!({"rule": "R", "service": "c1-s"});
        let service = json!({"loadBalancer": {"servers": [{"url": "http://a:1"}]}});
        let base = router_meaning(&router, Some(&service));
        for (pointer, value) in [
            ("priority", json!(1)),
            ("ruleSyntax", json!("v2")),
            ("tls", json!({})),
            ("middlewares", json!(["m"])),
            ("entryPoints", json!(["web"])),
            ("observability", json!({"traceVerbosity": "minimal"})),
            ("rule", json!("S")),
        ] {
            let mut other = router.clone();
            other[pointer] = value;
            assert_ne!(base, router_meaning(&other, Some(&service)), "{pointer}");
        }
        for (pointer, value) in [
            ("passHostHeader", json!(false)),
            ("sticky", json!({"cookie": {}})),
            ("serversTransport", json!("t")),
            ("servers", json!([{"url": "http://a:2"}])),
        ] {
            let mut other = service.clone();
            other["loadBalancer"][pointer] = value;
            assert_ne!(base, router_meaning(&router, Some(&other)), "{pointer}");
        }
        assert_ne!(base, router_meaning(&router, None));
    }
}
