//! Two answers about one cluster side by side: what is equal, what differs on purpose, and what is left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cause::{Case, annotation, blocks};
use super::difference::{Difference, Tally};
use super::meaning::{Route, View};
use super::object::{name, namespace};
use super::owners::Claim;

/// Bytes of an entry's text that are too many.
const ENTRY_LIMIT: usize = 256 * 1024;

/// The rule of every request.
const EVERYTHING: &str = "PathPrefix(\"/\")";

/// What came of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    /// Differences that nothing explains, as text for people.
    pub unexplained: Vec<String>,
}

/// What Traefik has.
struct Known<'a> {
    theirs: &'a [Route],
    /// Its routers as waybill should have them.
    adapted: Vec<Route>,
    /// Its routers that waybill should not have.
    refused: Vec<(Difference, Route)>,
}

/// Compares what belongs to one cluster.
pub fn compare(case: &Case<'_>, theirs: &View, ours: &View) -> Outcome {
    let mut outcome = Outcome::default();
    let mut refused = Vec::new();
    let mut expected = Vec::new();
    for route in &theirs.routes {
        let mut route = route.clone();
        match adapt(case, &mut route, &mut outcome.tally) {
            None => expected.push(route),
            Some(difference) => {
                outcome.tally.note(difference);
                refused.push((difference, route));
            }
        }
    }
    // Both have one rule, and Traefik serves the one whose path is written.
    let written: Vec<Route> = expected
        .iter()
        .filter(|route| !route.unwritten && route.meaning["rule"] == EVERYTHING)
        .cloned()
        .collect();
    expected.retain(|route| !route.unwritten || !written.iter().any(|other| other.same_ingress(route)));
    let known = Known { theirs: &theirs.routes, adapted: expected.clone(), refused };
    let (missing, extra) = unmatched(expected, ours.routes.clone());
    explain_routes(case, missing, extra, &known, &mut outcome);
    for key in &theirs.unused {
        if ours.unused.contains(key) {
            continue;
        }
        if case.may_be_left_behind(key) {
            outcome.tally.note(Difference::UnusedService);
        } else {
            outcome
                .unexplained
                .push(format!("Traefik has service {key}, which no router of its uses, without a reason"));
        }
    }
    for key in &ours.unused {
        outcome.unexplained.push(format!("waybill writes service {key}, which no router uses"));
    }
    explain_certificates(case, theirs, ours, &mut outcome);
    outcome
}

/// Compares the router that an API server has once. `candidates` are all that waybill could have chosen.
pub fn compare_default(
    case: &Case<'_>,
    theirs: Option<&Route>,
    ours: Option<&Route>,
    candidates: &[Route],
) -> Outcome {
    let mut outcome = Outcome::default();
    let theirs = theirs.cloned().and_then(|mut route| match adapt(case, &mut route, &mut outcome.tally) {
        None => Some(route),
        Some(difference) => {
            outcome.tally.note(difference);
            None
        }
    });
    let chosen = theirs.as_ref().map(Route::text);
    if chosen == ours.map(Route::text) {
        return outcome;
    }
    // What Traefik chose is refused here: then nothing is known about what it would have chosen else.
    let is_candidate = |ours: &Route| candidates.iter().any(|candidate| candidate.text() == ours.text());
    if theirs.is_none() && !outcome_is_empty(&outcome) && ours.is_some_and(is_candidate) {
        outcome.tally.note(Difference::DefaultBackendOrder);
        return outcome;
    }
    let fits = |candidate: &Route| {
        theirs.as_ref().is_some_and(|theirs| {
            candidate.text() == theirs.text() || same_but_for_servers(case, theirs, candidate, &[]).is_some()
        })
    };
    if candidates.iter().any(fits) {
        outcome.tally.note(Difference::DefaultBackendOrder);
    } else {
        outcome.unexplained.push(format!(
            "the default router\n  Traefik: {}\n  waybill: {}",
            chosen.unwrap_or_else(|| "none".to_owned()),
            ours.map_or_else(|| "none".to_owned(), Route::text)
        ));
    }
    outcome
}

fn outcome_is_empty(outcome: &Outcome) -> bool {
    outcome.tally.never().len() == Difference::ALL.len()
}

/// Makes of a router of Traefik's what waybill should have; returns why it should not have it at all.
fn adapt(case: &Case<'_>, route: &mut Route, tally: &mut Tally) -> Option<Difference> {
    if has_separator(&route.meaning) {
        return Some(Difference::ListSeparator);
    }
    let meaning = &mut route.meaning;
    let had_entry_points = meaning.get("entryPoints").is_some();
    // A list of middlewares with an empty item blocks the path.
    let mut blocked = drop_empty_items(meaning, &["middlewares"]);
    blocked |= drop_empty_items(meaning, &["service", "middlewares"]);
    let mut dropped = drop_empty_items(meaning, &["entryPoints"]);
    blocked |= had_entry_points && meaning.get("entryPoints").is_none();
    if let Some(domains) = meaning.pointer_mut("/tls/domains").and_then(Value::as_array_mut) {
        for domain in domains {
            dropped |= drop_empty_items(domain, &["sans"]);
        }
    }
    if blocked {
        return Some(Difference::EmptyListItem);
    }
    if dropped {
        tally.note(Difference::EmptyListItem);
    }
    if route.unwritten {
        meaning["rule"] = EVERYTHING.into();
        tally.note(Difference::EmptyRule);
    }
    if case.default_syntax_v2 && meaning.get("ruleSyntax").is_none() {
        meaning["ruleSyntax"] = json!("v2");
        tally.note(Difference::RuleSyntaxSpelledOut);
    }
    if unfence(&mut meaning["service"]) {
        tally.note(Difference::TerminatingEndpoint);
    }
    if too_large(meaning) {
        return Some(Difference::EntryTooLarge);
    }
    let from = route.from.as_ref()?;
    refusal(case, &route.meaning, &from.namespace, &from.service)
}

/// Why a router that leads to a Service may not be published.
fn refusal(case: &Case<'_>, meaning: &Value, namespace: &str, service: &str) -> Option<Difference> {
    let fields =
        ["/middlewares", "/tls/options", "/service/middlewares", "/service/loadBalancer/serversTransport"];
    let references: Vec<&str> = fields
        .iter()
        .filter_map(|field| meaning.pointer(field))
        .flat_map(|value| match value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect::<Vec<_>>(),
        })
        .collect();
    if let Some(difference) = case.refuses(&references, namespace) {
        return Some(difference);
    }
    if case.has_odd_scheme(namespace, service) {
        return Some(Difference::ServersScheme);
    }
    case.leads_elsewhere(namespace, service).then_some(Difference::CrossNamespaceExternalName)
}

/// Whether a router or its service takes more than a published entry may. A meaning is a little shorter than the entry.
fn too_large(meaning: &Value) -> bool {
    let service = meaning["service"].to_string().len();
    service > ENTRY_LIMIT || meaning.to_string().len() - service > ENTRY_LIMIT
}

fn remove(object: &mut Value, key: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(key);
    }
}

/// Whether a list has an item with the character that Traefik's file provider splits lists at.
fn has_separator(value: &Value) -> bool {
    match value {
        Value::Array(items) => items
            .iter()
            .any(|item| item.as_str().is_some_and(|text| text.contains('║')) || has_separator(item)),
        Value::Object(fields) => fields.values().any(has_separator),
        _ => false,
    }
}

/// Drops the empty items of a list, and the list with its last; whether there were any.
fn drop_empty_items(object: &mut Value, path: &[&str]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let parent = parents.iter().try_fold(object, |object, key| object.get_mut(key));
    let Some(fields) = parent.and_then(Value::as_object_mut) else { return false };
    let Some(items) = fields.get_mut(*last).and_then(Value::as_array_mut) else { return false };
    let before = items.len();
    items.retain(|item| item != "");
    let (dropped, empty) = (items.len() < before, items.is_empty());
    if empty {
        fields.remove(*last);
    }
    dropped
}

/// Leaves fenced servers out while there are others, and says nothing of the fence; whether there was one.
fn unfence(service: &mut Value) -> bool {
    let Some(servers) = service.pointer_mut("/loadBalancer/servers").and_then(Value::as_array_mut) else {
        return false;
    };
    let fenced = servers.iter().filter(|server| server["fenced"] == true).count();
    if fenced > 0 && fenced < servers.len() {
        servers.retain(|server| server["fenced"] != true);
    }
    for server in servers {
        remove(server, "fenced");
    }
    fenced > 0
}

/// What is in one list and not in the other, as often as it is.
fn unmatched(theirs: Vec<Route>, ours: Vec<Route>) -> (Vec<Route>, Vec<Route>) {
    let mut open: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    for route in ours {
        open.entry(route.text()).or_default().push(route);
    }
    let missing =
        theirs.into_iter().filter(|route| open.get_mut(&route.text()).and_then(Vec::pop).is_none()).collect();
    (missing, open.into_values().flatten().collect())
}

fn explain_routes(
    case: &Case<'_>,
    missing: Vec<Route>,
    mut extra: Vec<Route>,
    known: &Known<'_>,
    outcome: &mut Outcome,
) {
    let mut left = Vec::new();
    for theirs in missing {
        let found = extra.iter().enumerate().find_map(|(position, ours)| {
            same_but_for_servers(case, &theirs, ours, &known.adapted).map(|difference| (position, difference))
        });
        match found {
            Some((position, difference)) => {
                extra.swap_remove(position);
                outcome.tally.note(difference);
            }
            None => left.push(theirs),
        }
    }
    let mut used = Vec::new();
    extra.retain(|ours| match reason_for_more(case, ours, known, &used) {
        Some((difference, claim)) => {
            outcome.tally.note(difference);
            used.push(claim);
            false
        }
        None => true,
    });
    for theirs in left {
        // Its own Service would not do here, but with Traefik it leads to another's.
        if case.service_collides(&theirs.service_key) && case.refuses_service(&theirs).is_some() {
            outcome.tally.note(Difference::ServiceNameCollision);
            continue;
        }
        let near = extra.iter().position(|ours| ours.meaning["rule"] == theirs.meaning["rule"]);
        let near = near.map(|position| extra.swap_remove(position));
        outcome.unexplained.push(format!(
            "router {} of {:?}\n  Traefik: {}\n  waybill: {}",
            theirs.key,
            theirs.from,
            theirs.text(),
            near.map_or_else(|| "none like it".to_owned(), |ours| ours.text())
        ));
    }
    for ours in extra {
        outcome.unexplained.push(format!(
            "router {}\n  Traefik: none like it\n  waybill: {}",
            ours.key,
            ours.text()
        ));
    }
}

/// Why waybill has a router that Traefik does not have, and the path that it stands for. It has to be what that path
/// should become, and each path counts once.
fn reason_for_more<'a>(
    case: &'a Case<'_>,
    ours: &Route,
    known: &Known<'_>,
    used: &[&'a Claim],
) -> Option<(Difference, &'a Claim)> {
    let paths = case.claims.of(&ours.key);
    let paths = paths.into_iter().filter(|claim| {
        !used.iter().any(|other| std::ptr::eq(*other, *claim))
            && refusal(case, &ours.meaning, &claim.namespace, &claim.service).is_none()
            && case.becomes(claim, ours, &known.adapted)
    });
    paths.into_iter().find_map(|claim| {
        if case.router_collides(&ours.key) && case.gives_way(claim, &ours.key, known.theirs) {
            return Some((Difference::RouterNameCollision, claim));
        }
        // Two paths of an Ingress with one rule: the last counts, and that is one that only Traefik has.
        let hidden = known.refused.iter().find(|(_, route)| {
            claim.same_ingress(route)
                && route.meaning["rule"] == ours.meaning["rule"]
                && !claim.leads_to(&route.service_key)
        });
        hidden.map(|(difference, _)| (*difference, claim))
    })
}

/// Why two routers that are equal but for what is behind them differ on purpose.
fn same_but_for_servers(
    case: &Case<'_>,
    theirs: &Route,
    ours: &Route,
    adapted: &[Route],
) -> Option<Difference> {
    if theirs.without_service() != ours.without_service() {
        return None;
    }
    let from = theirs.from.as_ref()?;
    if case.service_collides(&theirs.service_key) && case.service_collides(&ours.service_key) {
        let own = case.serves_its_own(&from.namespace, &from.service, ours, adapted);
        return own.then_some(Difference::ServiceNameCollision);
    }
    let bare = |route: &Route| {
        let mut service = route.meaning["service"].clone();
        let servers = service.pointer_mut("/loadBalancer/servers").map(Value::take);
        let mut urls: Vec<String> = servers
            .and_then(|servers| servers.as_array().cloned())
            .unwrap_or_default()
            .iter()
            .map(|server| server["url"].to_string())
            .collect();
        urls.sort();
        (super::meaning::canonical(&service), urls)
    };
    let ((theirs_rest, theirs_servers), (ours_rest, ours_servers)) = (bare(theirs), bare(ours));
    if theirs_rest != ours_rest {
        return None;
    }
    let service = case.cluster.find("Service", &from.namespace, &from.service)?;
    let by_node =
        annotation(service, "service.nodeportlb").is_some() && service["spec"]["type"] == "NodePort";
    (theirs_servers == ours_servers && by_node).then_some(Difference::NodeOrder)
}

fn explain_certificates(case: &Case<'_>, theirs: &View, ours: &View, outcome: &mut Outcome) {
    let is_pem = |text: &str| text.starts_with("-----BEGIN ") && text.contains("\n-----END ");
    let blocks = |(certificate, key): &(String, String)| {
        let kept = (blocks(certificate, "CERTIFICATE").into_owned(), blocks(key, "PRIVATE KEY").into_owned());
        if kept.0 != *certificate || kept.1 != *key {
            outcome.tally.note(Difference::KeyInCertificate);
        }
        kept
    };
    let theirs: BTreeSet<_> = theirs.certificates.iter().map(blocks).collect();
    for pair in theirs.difference(&ours.certificates) {
        let secrets = case.secrets_of(&pair.0);
        let refusal = secrets
            .iter()
            .flat_map(|secret| case.ingresses_of(secret))
            .find_map(|ingress| case.refuses_ingress(ingress));
        if !is_pem(&pair.0) || !is_pem(&pair.1) {
            outcome.tally.note(Difference::NotPem);
        } else if let Some(difference) = refusal {
            outcome.tally.note(difference);
        } else {
            outcome
                .unexplained
                .push(format!("only Traefik has the certificate of {}: {pair:?}", titles(&secrets)));
        }
    }
    for pair in ours.certificates.difference(&theirs) {
        let secrets = case.secrets_of(&pair.0);
        if secrets.iter().any(|secret| case.secret_collides(secret)) {
            outcome.tally.note(Difference::SecretNameCollision);
        } else if secrets.iter().any(|secret| case.secret_comes_after_a_bad_one(secret)) {
            outcome.tally.note(Difference::OneMissingSecret);
        } else if secrets
            .iter()
            .flat_map(|secret| case.ingresses_of(secret))
            .any(|ingress| case.ingress_refers_to_nothing(ingress))
        {
            outcome.tally.note(Difference::EmptyListItem);
        } else {
            outcome
                .unexplained
                .push(format!("only waybill has the certificate of {}: {pair:?}", titles(&secrets)));
        }
    }
}

fn titles(secrets: &[&Value]) -> String {
    let titles: Vec<String> =
        secrets.iter().map(|secret| format!("{}/{}", namespace(secret), name(secret))).collect();
    titles.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate;
    use crate::meaning::Answer;
    use crate::object::Cluster;

    /// A cluster whose router `web` leads to one server, and Traefik's answer to it.
    fn case() -> (Cluster, Value) {
        let ingress = |namespace: &str, name: &str| {
            json!({"kind": "Ingress", "metadata": {"namespace": namespace, "name": name}, "spec": {"rules": [
                {"host": "h", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
        };
        let cluster = Cluster {
            name: "c1".to_owned(),
            namespaces: vec!["c1-shop".to_owned()],
            objects: vec![ingress("c1-shop", "web")],
        };
        let certificate =
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", generate::mark("c1"));
        let key = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
        let theirs = json!({
            "http": {
                "routers": {"c1-shop-web-h": {"rule": "Host(\"h\")", "service": "c1-shop-web-80", "middlewares": ["a@file"],
                    "observability": {"metadata": {"ingress":
                        {"namespace": "c1-shop", "ingressName": "web", "serviceName": "web"}}}}},
                "services": {"c1-shop-web-80": {"loadBalancer": {"servers": [
                    {"url": "http://10.0.0.1:80"}, {"url": "http://10.0.0.2:80"}]}}}},
            "tls": {"certificates": [{"certFile": certificate, "keyFile": key}]}});
        (cluster, theirs)
    }

    fn compared(theirs: &Value, ours: &Value) -> Outcome {
        let (cluster, _) = case();
        let view = |answer: &Value| Answer::new(answer).clusters.remove("c1").unwrap_or_default();
        compare(&Case::new(&cluster, &json!({})), &view(theirs), &view(ours))
    }

    #[test]
    fn equal_answers_leave_nothing() {
        let (_, theirs) = case();
        let outcome = compared(&theirs, &theirs);
        assert!(outcome.unexplained.is_empty(), "{:?}", outcome.unexplained);
        assert!(outcome_is_empty(&outcome));
    }

    #[test]
    fn nothing_that_matters_may_differ() {
        let (_, theirs) = case();
        let router = "/http/routers/c1-shop-web-h";
        let service = "/http/services/c1-shop-web-80/loadBalancer";
        for (parent, key, value) in [
            (router, "rule", json!("Host(\"i\")")),
            (router, "priority", json!(3)),
            (router, "middlewares", json!([])),
            (router, "entryPoints", json!(["web"])),
            (router, "tls", json!({})),
            (router, "observability", json!({"metrics": true})),
            (service, "servers", json!([{"url": "http://10.0.0.2:80"}, {"url": "http://10.0.0.1:80"}])),
            (service, "servers", json!([{"url": "http://10.0.0.1:80"}])),
            (service, "passHostHeader", json!(false)),
            (service, "sticky", json!({"cookie": {}})),
            ("/tls", "certificates", json!([])),
            ("/http", "routers", json!({})),
        ] {
            let mut ours = theirs.clone();
            ours.pointer_mut(parent).expect("it is there")[key] = value.clone();
            let unexplained = compared(&theirs, &ours).unexplained;
            assert!(!unexplained.is_empty(), "{parent}/{key} = {value} is not seen");
            assert!(
                !compared(&ours, &theirs).unexplained.is_empty(),
                "{parent}/{key} = {value} on Traefik's side"
            );
        }
    }

    #[test]
    fn a_fence_is_a_difference_on_purpose_and_only_where_there_is_one() {
        let (_, ours) = case();
        let mut theirs = ours.clone();
        let servers =
            theirs.pointer_mut("/http/services/c1-shop-web-80/loadBalancer/servers").expect("servers");
        servers.as_array_mut().expect("a list").push(json!({"url": "http://10.0.0.3:80", "fenced": true}));
        let outcome = compared(&theirs, &ours);
        assert!(outcome.unexplained.is_empty(), "{:?}", outcome.unexplained);
        assert!(!outcome.tally.never().contains(&Difference::TerminatingEndpoint));
    }
}
