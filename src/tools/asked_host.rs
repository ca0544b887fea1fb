//! What Ingresses say about the host of a request.

use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::routing::Routing;

fn hosts(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    rules.map(|rule| rule.host.as_deref().unwrap_or_default())
}

fn is_about(ingress: &Ingress, host: &str) -> bool {
    let suffix = host.find('.').map_or("", |at| &host[at..]);
    hosts(ingress).any(|own| {
        own.is_empty()
            || own.eq_ignore_ascii_case(host)
            || own.strip_prefix('*').is_some_and(|own| own == suffix)
    })
}

/// The problems of Ingresses for a host, including those of other classes.
pub fn problems(routing: &Routing, host: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, ingress) in routing.stores().ingresses().iter().filter(|(_, ingress)| is_about(ingress, host)) {
        let key = IngressKey(key.clone());
        let found = routing.problems(&key);
        if found.is_empty() && routing.settings(&key).is_none() {
            let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
            lines.push(match class {
                Some(class) => {
                    format!("Ingress {key}: its class {class:?} is not waybill's, so it has no router here")
                }
                None => {
                    format!("Ingress {key}: it has no class, or its annotation names another controller's")
                }
            });
        }
        lines.extend(found.iter().map(ToString::to_string));
    }
    lines.sort();
    lines.dedup();
    lines
}

/// Hosts of Ingresses that are spelled almost like a host.
pub fn similar_hosts(routing: &Routing, host: &str) -> Vec<String> {
    let ingresses = routing.stores().ingresses();
    let all = ingresses.iter().flat_map(|(_, ingress)| hosts(ingress)).filter(|own| !own.is_empty());
    let mut near: Vec<(usize, &str)> = all
        .map(|own| (strsim::damerau_levenshtein(own, host), own))
        .filter(|(distance, _)| *distance <= 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, own)| own.to_owned()).collect()
}
