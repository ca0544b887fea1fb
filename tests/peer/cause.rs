//! What the objects and options of a case say about a difference: names that collide, references that are refused.
//! Read from the objects anew, without any code of waybill's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::generate::unbase64;
use super::meaning::Route;
use super::object::{Cluster, items, name, namespace};
use super::owners::{Claims, without_digests};

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// The whole PEM blocks of a kind in a text, or the text itself where there is none.
pub fn blocks<'t>(text: &'t str, kind: &str) -> Cow<'t, str> {
    let (begin, end) = (format!("-----BEGIN {kind}-----\n"), format!("-----END {kind}-----"));
    let mut found = String::new();
    for (start, _) in text.match_indices(&begin) {
        let before = text[..start].rsplit('\n').next().unwrap_or_default();
        if let (true, Some((inside, after))) = (before.trim().is_empty(), text[start..].split_once(&end)) {
            let line_break = if after.starts_with('\n') { "\n" } else { "" };
            found += &format!("{inside}{end}{line_break}");
        }
    }
    if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(found) }
}

/// The objects and options of a comparison, ready to be asked.
pub struct Case<'a> {
    pub cluster: &'a Cluster,
    pub allow_cross_namespace: bool,
    /// `crossProviderNamespaces: []`.
    pub cross_provider_nowhere: bool,
    pub default_syntax_v2: bool,
    /// `crossProviderNamespaces` where it is set and not empty.
    cross_provider: Option<BTreeSet<String>>,
    /// The paths of the Ingresses, by the keys of their routers.
    pub claims: Claims,
    /// Router keys that several Ingresses have.
    routers: BTreeSet<String>,
    /// Service keys that several Services have.
    services: BTreeSet<String>,
    /// Secrets, as `namespace-name`, that several have.
    secrets: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl<'a> Case<'a> {
    /// `file` holds the options.
    pub fn new(cluster: &'a Cluster, file: &Value) -> Self {
        let options = &file["providers"]["kubernetesIngress"];
        let claims = Claims::new(cluster.of_kind("Ingress"));
        let mut secrets: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for ingress in cluster.of_kind("Ingress") {
            let space = namespace(ingress);
            for entry in items(ingress, "/spec/tls") {
                let secret = entry["secretName"].as_str().unwrap_or_default();
                secrets.entry(format!("{space}-{secret}")).or_default().insert(space);
            }
        }
        secrets.retain(|_, spaces| spaces.len() > 1);
        let watched = options["namespaces"].as_array();
        let routed = cluster
            .objects
            .iter()
            .filter(|object| object["kind"] == "Ingress" || object["kind"] == "Service");
        Self {
            cluster,
            allow_cross_namespace: options["allowCrossNamespace"] == true,
            cross_provider_nowhere: options["crossProviderNamespaces"].as_array().is_some_and(Vec::is_empty),
            cross_provider: options["crossProviderNamespaces"]
                .as_array()
                .filter(|items| !items.is_empty())
                .map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            default_syntax_v2: file["core"]["defaultRuleSyntax"] == "v2",
            routers: claims.digested().into_iter().chain(claims.contested()).collect(),
            services: claims.contested_services(),
            claims,
            secrets: secrets.into_keys().collect(),
            // Of one that is not watched nobody knows that its name is longer.
            namespaces: routed
                .map(|object| namespace(object).to_owned())
                .filter(|space| watched.is_none_or(|watched| watched.iter().any(|item| item == space)))
                .collect(),
        }
    }

    /// Whether several Ingresses have the key, without the digests that were added to it.
    pub fn router_collides(&self, key: &str) -> bool {
        without_digests(key).any(|key| self.routers.contains(key))
    }

    /// Whether what an Ingress or one of its Services refers to is nothing but empty items, from a namespace that may not
    /// refer to anything.
    pub fn ingress_refers_to_nothing(&self, ingress: &Value) -> bool {
        let space = namespace(ingress);
        if self.cross_provider.as_ref().is_none_or(|spaces| spaces.contains(space)) {
            return false;
        }
        let nothing = |object: &Value, key: &str| {
            annotation(object, key)
                .is_some_and(|text| !text.is_empty() && text.split(',').all(|item| item.trim().is_empty()))
        };
        let backends = items(ingress, "/spec/rules").iter().flat_map(|rule| items(rule, "/http/paths"));
        let mut services = backends.filter_map(|path| {
            self.cluster.find(
                "Service",
                space,
                path["backend"]["service"]["name"].as_str().unwrap_or_default(),
            )
        });
        nothing(ingress, "router.middlewares")
            || services.any(|service| nothing(service, "service.middlewares"))
    }

    /// Whether several Services have the key, without the digests that were added to it.
    pub fn service_collides(&self, key: &str) -> bool {
        without_digests(key).any(|key| self.services.contains(key))
    }

    /// The Secrets that hold a certificate.
    pub fn secrets_of(&self, certificate: &str) -> Vec<&'a Value> {
        self.cluster
            .of_kind("Secret")
            .filter(|secret| {
                let data = secret["data"]["tls.crt"].as_str().unwrap_or_default();
                blocks(&String::from_utf8_lossy(&unbase64(data)), "CERTIFICATE") == certificate
            })
            .collect()
    }

    pub fn secret_collides(&self, secret: &Value) -> bool {
        self.secrets.contains(&format!("{}-{}", namespace(secret), name(secret)))
    }

    /// Whether an Ingress names the Secret after one that Traefik can't use.
    pub fn secret_comes_after_a_bad_one(&self, secret: &Value) -> bool {
        self.ingresses_of(secret).any(|ingress| {
            let names = items(ingress, "/spec/tls").iter().filter_map(|entry| entry["secretName"].as_str());
            names
                .take_while(|entry| *entry != name(secret))
                .any(|entry| !self.usable(namespace(ingress), entry))
        })
    }

    /// The Ingresses that name a Secret.
    pub fn ingresses_of<'b>(&'b self, secret: &'b Value) -> impl Iterator<Item = &'a Value> + 'b {
        self.cluster.of_kind("Ingress").filter(move |ingress| {
            namespace(ingress) == namespace(secret)
                && items(ingress, "/spec/tls").iter().any(|entry| entry["secretName"] == name(secret))
        })
    }

    fn usable(&self, space: &str, secret: &str) -> bool {
        self.cluster.find("Secret", space, secret).is_some_and(|secret| {
            let filled = |key: &str| secret["data"][key].as_str().is_some_and(|data| !data.is_empty());
            secret["metadata"]["labels"]["owner"] != "helm" && filled("tls.crt") && filled("tls.key")
        })
    }

    /// Whether a reference leads into another namespace.
    pub fn is_foreign(&self, reference: &str, space: &str) -> bool {
        let Some(reference) = reference.strip_suffix("@kubernetescrd") else { return false };
        if let Some((owner, _)) = reference.split_once('_') {
            return owner != space;
        }
        let begins = |space: &str| reference.strip_prefix(space).is_some_and(|rest| rest.starts_with('-'));
        !begins(space) || self.namespaces.iter().any(|other| other.len() > space.len() && begins(other))
    }

    /// Whether one of the references is refused, and why.
    pub fn refuses(&self, references: &[&str], space: &str) -> Option<super::difference::Difference> {
        use super::difference::Difference;
        if references.is_empty() {
            None
        } else if self.cross_provider_nowhere {
            Some(Difference::CrossProviderNowhere)
        } else if !self.allow_cross_namespace && references.iter().any(|item| self.is_foreign(item, space)) {
            Some(Difference::CrossNamespaceReference)
        } else {
            None
        }
    }

    /// Whether an Ingress's references are refused, by its annotations alone.
    pub fn refuses_ingress(&self, ingress: &Value) -> Option<super::difference::Difference> {
        let middlewares = annotation(ingress, "router.middlewares").unwrap_or_default();
        let lists = [middlewares, annotation(ingress, "router.entrypoints").unwrap_or_default()];
        if lists.iter().any(|list| list.contains('║')) {
            return Some(super::difference::Difference::ListSeparator);
        }
        let mut references: Vec<&str> =
            middlewares.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        let tls_off = annotation(ingress, "router.tls")
            .is_some_and(|text| !text.is_empty() && !text.eq_ignore_ascii_case("true"));
        let options =
            annotation(ingress, "router.tls.options").filter(|options| !options.is_empty() && !tls_off);
        references.extend(options);
        self.refuses(&references, namespace(ingress))
    }

    /// Whether the references of the Service that a router's Ingress names are refused.
    pub fn refuses_service(&self, route: &Route) -> Option<super::difference::Difference> {
        let from = route.from.as_ref()?;
        let service = self.cluster.find("Service", &from.namespace, &from.service)?;
        let texts = ["service.middlewares", "service.serverstransport"];
        let references: Vec<&str> = texts
            .iter()
            .filter_map(|key| annotation(service, key))
            .flat_map(|text| text.split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        self.refuses(&references, &from.namespace)
    }

    /// Whether a Service names a scheme that is none for its servers.
    pub fn has_odd_scheme(&self, space: &str, service: &str) -> bool {
        let service = self.cluster.find("Service", space, service);
        service
            .and_then(|service| annotation(service, "service.serversscheme"))
            .is_some_and(|scheme| !["", "http", "https", "h2c"].contains(&scheme.to_lowercase().as_str()))
    }

    /// Whether a Service has an external name, or an endpoint with a name, that a resolver could take for a Service of
    /// another namespace.
    pub fn leads_elsewhere(&self, space: &str, service: &str) -> bool {
        let Some(object) = self.cluster.find("Service", space, service) else { return false };
        if self.allow_cross_namespace {
            return false;
        }
        if object["spec"]["type"] == "ExternalName" {
            return self.is_elsewhere(object["spec"]["externalName"].as_str().unwrap_or_default(), space);
        }
        let slices = self.cluster.of_kind("EndpointSlice").filter(|slice| {
            namespace(slice) == space && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service
        });
        let mut addresses =
            slices.flat_map(|slice| items(slice, "/endpoints")).flat_map(|one| items(one, "/addresses"));
        addresses.any(|address| self.is_elsewhere(address.as_str().unwrap_or_default(), space))
    }

    fn is_elsewhere(&self, host: &str, space: &str) -> bool {
        let text = host.to_lowercase();
        if text.parse::<std::net::IpAddr>().is_ok() {
            return false;
        }
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let written = labels.iter().rposition(|label| *label == "svc");
        if written.is_some_and(|end| end >= 2 && labels[end - 1] != space) {
            return true;
        }
        // What a pod's search path can make of a name without a final dot.
        let last = labels.last().copied().unwrap_or_default();
        let elsewhere = last != space && self.namespaces.contains(last);
        let protocol = labels
            .get(1)
            .is_some_and(|label| ["tcp", "udp", "sctp"].contains(&label.trim_start_matches('_')));
        !text.ends_with('.')
            && match labels.len() {
                1 | 2 => true,
                3 => protocol || elsewhere,
                4 => protocol && elsewhere,
                _ => false,
            }
    }
}

/// An annotation of Traefik's, whatever the case of its key; of two the later.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    let annotations = object["metadata"]["annotations"].as_object()?;
    let sorted: BTreeMap<&String, &Value> = annotations.iter().collect();
    let mut found = sorted
        .into_iter()
        .filter(|(name, _)| name.strip_prefix(PREFIX).is_some_and(|rest| rest.eq_ignore_ascii_case(key)));
    found.next_back().and_then(|(_, value)| value.as_str())
}
