//! Finds the deliberate differences between Traefik's own provider and waybill. They are named as in the first column
//! of the table in docs/migration.md.

use std::collections::{BTreeSet, HashSet};

use super::changed_field::ChangedField;
use super::compared_route::{ComparedRoute, ComparedSide};
use crate::traefik::dynamic::{LIST_SEPARATOR, RouterTls};
use crate::translate::host::Host;
use crate::translate::name::{DEFAULT_ROUTER, without_digest};
use crate::translate::reference::{CRD_PROVIDER, is_own};
use crate::translate::settings::Settings;

/// The rule that matches every request.
const EVERYTHING: &str = r#"PathPrefix("/")"#;

/// The facts about both sides that decide whether a difference is deliberate.
#[derive(Debug)]
pub struct Deliberate<'s> {
    /// Waybill's.
    settings: &'s Settings,
    /// Ingresses for which Traefik has an empty rule, as far as they are known.
    empty_rules: HashSet<Option<String>>,
    /// The default backends belong to two Ingresses.
    other_default: bool,
    their_routers: HashSet<String>,
    /// Names that several of our routers ask for.
    contested_routers: HashSet<String>,
    /// Names that several of our services ask for.
    contested_services: HashSet<String>,
    /// Those of Ingresses.
    namespaces: HashSet<String>,
}

impl<'s> Deliberate<'s> {
    /// Collects the facts about both sides.
    pub fn new(theirs: &ComparedSide, ours: &ComparedSide, settings: &'s Settings) -> Self {
        let (theirs, ours) = (|| theirs.routes.values().flatten(), || ours.routes.values().flatten());
        let is_default = |route: &&ComparedRoute| route.name == DEFAULT_ROUTER;
        let from = |route: Option<&'_ ComparedRoute>| route.and_then(|route| route.from.clone());
        let defaults = from(theirs().find(is_default)).zip(from(ours().find(is_default)));
        Self {
            settings,
            empty_rules: theirs()
                .filter(|route| route.rule.is_empty())
                .map(|route| route.from.clone())
                .collect(),
            other_default: defaults.is_some_and(|(theirs, ours)| theirs != ours),
            their_routers: theirs().map(|route| route.name.clone()).collect(),
            contested_routers: contested(ours().map(|route| &*route.name)),
            contested_services: contested(ours().map(|route| &*route.service_name)),
            namespaces: theirs()
                .chain(ours())
                .filter_map(|route| Some(namespace(route)?.to_owned()))
                .collect(),
        }
    }

    /// The subject of a difference in docs/migration.md, if it is deliberate.
    pub fn subject(
        &self,
        theirs: Option<&ComparedRoute>,
        ours: Option<&ComparedRoute>,
        fields: &[ChangedField],
    ) -> Option<&'static str> {
        let is_default = |route: Option<&ComparedRoute>| route.is_some_and(|one| one.name == DEFAULT_ROUTER);
        if self.other_default && (is_default(theirs) || is_default(ours)) {
            return Some("two default backends");
        }
        match (theirs, ours) {
            (None, Some(ours)) => self.gained(ours),
            (Some(theirs), None) => self.lost(theirs),
            (Some(theirs), Some(ours)) => self.changed(theirs, ours, fields),
            (None, None) => None,
        }
    }

    fn gained(&self, ours: &ComparedRoute) -> Option<&'static str> {
        let plain = plain(&ours.name);
        let had_empty = match &ours.from {
            Some(_) => self.empty_rules.contains(&ours.from) || self.empty_rules.contains(&None),
            None => !self.empty_rules.is_empty(),
        };
        if had_empty && *ours.rule == *EVERYTHING && ours.name != DEFAULT_ROUTER {
            Some("a path entry with neither host nor path")
        } else if self.contested_routers.contains(plain) && self.their_routers.contains(plain) {
            Some("routers of two Ingresses whose names normalise to one")
        } else {
            None
        }
    }

    fn lost(&self, theirs: &ComparedRoute) -> Option<&'static str> {
        if theirs.rule.is_empty() {
            return Some("a path entry with neither host nor path");
        }
        let own = namespace(theirs);
        let may_cross = self.settings.allow_cross_namespace;
        let foreign = |name: &String| {
            let known = |namespace: &str| self.namespaces.contains(namespace);
            let object = name.strip_suffix(CRD_PROVIDER);
            object.zip(own).is_some_and(|(object, own)| !is_own(object, own, known))
        };
        let servers = || theirs.service.servers.iter().flatten();
        let odd = |url: &String| {
            let schemes = ["http://", "https://", "h2c://"];
            // A host and a port follow.
            !schemes
                .iter()
                .any(|start| url.strip_prefix(start).is_some_and(|rest| !rest.contains(['/', '#', '?', '@'])))
        };
        let elsewhere = |url: &String| own.is_some_and(|own| self.is_elsewhere(url, own));
        let nowhere = self.settings.cross_provider_namespaces.as_ref().is_some_and(BTreeSet::is_empty);
        let mut items = [&*theirs.middlewares, &theirs.service.rest.middlewares, &theirs.entry_points]
            .into_iter()
            .flatten();
        let sans = theirs.tls.iter().flat_map(|tls| &tls.domains).flat_map(|domain| &domain.sans);
        if items.clone().chain(sans).any(|item| item.contains(LIST_SEPARATOR)) {
            Some("a list item with the character U+2551")
        } else if items.any(String::is_empty) {
            Some("an empty list item")
        } else if theirs.is_too_large {
            Some("an entry of over 256 KiB")
        } else if nowhere && theirs.references().any(|name| name.contains('@')) {
            Some("`crossProviderNamespaces: []`")
        } else if !may_cross && theirs.references().any(foreign) {
            Some("a reference to a CRD object of another namespace")
        } else if servers().any(odd) {
            Some("a `service.serversscheme` other than `http`, `https` or `h2c`")
        } else if !may_cross && servers().any(elsewhere) {
            Some("an ExternalName of another namespace's Service")
        } else {
            None
        }
    }

    /// Whether the URL of a server has a name that could be a Service of another namespace.
    fn is_elsewhere(&self, url: &str, own: &str) -> bool {
        let host = url.split("://").nth(1).and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
        let host = host.and_then(Host::parse);
        host.is_some_and(|host| host.could_be_foreign(own, |name| self.namespaces.contains(name)))
    }

    fn changed(
        &self,
        theirs: &ComparedRoute,
        ours: &ComparedRoute,
        fields: &[ChangedField],
    ) -> Option<&'static str> {
        let only = |names: &[&str]| fields.iter().all(|field| names.contains(&field.field));
        let fenced = &theirs.service.fenced;
        let unfenced = || theirs.service.servers.iter().flatten().filter(|url| !fenced.contains(*url));
        let same_but_fenced = || ours.service.servers.as_ref().is_some_and(|own| own.iter().eq(unfenced()));
        let service = plain(&ours.service_name);
        if only(&["rule syntax"]) && theirs.rule_syntax.is_empty() && ours.rule_syntax == "v2" {
            Some("`core.defaultRuleSyntax: v2`")
        } else if only(&["fenced endpoints"])
            || only(&["fenced endpoints", "endpoints"]) && !fenced.is_empty() && same_but_fenced()
        {
            Some("endpoints that terminate but still serve")
        } else if only(&["TLS"]) && theirs.tls.as_deref().map(without_empty).as_ref() == ours.tls.as_deref() {
            Some("an empty list item")
        } else if only(&["endpoints", "fenced endpoints", "service"])
            && self.contested_services.contains(service)
            && service == theirs.service_name
        {
            Some("Services whose names normalise to one")
        } else {
            None
        }
    }
}

/// The namespace of a route's Ingress.
fn namespace(route: &ComparedRoute) -> Option<&str> {
    Some(route.from.as_deref()?.strip_prefix("Ingress ")?.split_once('/')?.0)
}

/// The requested name.
fn plain(name: &str) -> &str {
    without_digest(name).unwrap_or(name)
}

/// Names that one owner has unchanged and another one with a digest.
fn contested<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let names: HashSet<&str> = names.collect();
    let moved = names.iter().filter_map(|name| without_digest(name));
    moved.filter(|plain| names.contains(plain)).map(str::to_owned).collect()
}

/// TLS without the empty items of lists.
fn without_empty(tls: &RouterTls) -> RouterTls {
    let mut tls = tls.clone();
    tls.domains.iter_mut().for_each(|domain| domain.sans.retain(|name| !name.is_empty()));
    tls
}
