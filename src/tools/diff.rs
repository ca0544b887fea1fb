//! Compares two routings by what they serve, not by name: routes gained, lost and changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::certificate_difference::CertificateDifference;
use super::changed_field::{ChangedField, RouteComparison, urls};
use super::compared_route::{ComparedRoute, ComparedSide, LoadedEntryPoint, ProviderNames, in_words};
use super::deliberate::Deliberate;
use super::raw_data::KUBERNETES;
use crate::translate::settings::Settings;

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteChange {
    Lost,
    Gained,
    Changed,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteDifference {
    pub change: RouteChange,
    /// Only if several outputs are compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Host and path.
    pub route: String,
    pub rule: String,
    /// Empty stands for Traefik's default entry points.
    pub entry_points: Vec<String>,
    pub tls: bool,
    /// The target: a Service, or the URLs of servers.
    pub backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of a changed route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ChangedField>,
    /// If waybill deliberately differs from Traefik's own provider: the subject in docs/migration.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliberate: Option<&'static str>,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoutingDiff {
    pub lost: usize,
    pub gained: usize,
    pub changed: usize,
    pub unchanged: usize,
    /// The number of deliberate differences of routes.
    pub deliberate: usize,
    pub differences: Vec<RouteDifference>,
    /// Differences between Traefik's own provider and waybill, all deliberate. They follow from the Secrets, because
    /// Traefik's API does not show certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateDifference>,
}

/// An output, a rule and an entry point.
type RouteIdentity = (String, Arc<str>, String);

/// A route on both sides.
#[derive(Default)]
struct BothSides {
    before: Vec<ComparedRoute>,
    after: Vec<ComparedRoute>,
}

/// Compares. If one side is a Traefik, the other is treated as that Traefik would load it, with the settings of its
/// entry points. `settings` are those of waybill.
pub fn diff(mut before: ComparedSide, mut after: ComparedSide, settings: &Settings) -> RoutingDiff {
    let own_provider = |side: &ComparedSide| side.providers.iter().any(|name| name == KUBERNETES);
    let (from_traefik, to_traefik) = (own_provider(&before), own_provider(&after));
    let mut outcome = RoutingDiff::default();
    let deliberate = match (from_traefik, to_traefik) {
        (true, false) => Some(Deliberate::new(&before, &after, settings)),
        (false, true) => Some(Deliberate::new(&after, &before, settings)),
        _ => None,
    };
    if deliberate.is_some() {
        outcome.certificates = [before.certificates.split_off(0), after.certificates.split_off(0)].concat();
    }
    let providers: BTreeSet<String> = before.providers.iter().chain(&after.providers).cloned().collect();
    let several = before.routes.len().max(after.routes.len()) > 1;
    let (before_points, after_points) = (before.entry_points.clone(), after.entry_points.clone());
    let mut all: BTreeMap<RouteIdentity, BothSides> = BTreeMap::new();
    spread(before, after_points.as_deref(), &providers, &mut all, |both| &mut both.before);
    spread(after, before_points.as_deref(), &providers, &mut all, |both| &mut both.after);

    let mut comparison = RouteComparison::default();
    let mut counted = None;
    let mut merged: BTreeMap<RouteDifference, Vec<String>> = BTreeMap::new();
    for ((output, rule, entry_point), BothSides { before, after }) in all {
        let routes = before.len();
        let (before, after) = without_equal(&mut comparison, before, after);
        // A route on two entry points is one difference.
        let identity = Some((output.clone(), rule));
        if routes > before.len() && counted != identity {
            outcome.unchanged += routes - before.len();
            counted = identity;
        }
        let pairs = before.len().max(after.len());
        for at in 0..pairs {
            let (old, new) = (before.get(at), after.get(at));
            let Some(mut one) = difference(&mut comparison, old, new) else { continue };
            let (theirs, ours) = if from_traefik { (old, new) } else { (new, old) };
            one.deliberate = deliberate.as_ref().and_then(|known| known.subject(theirs, ours, &one.fields));
            if several {
                one.output.clone_from(&output);
            }
            merged.entry(one).or_default().extend((!entry_point.is_empty()).then(|| entry_point.clone()));
        }
    }
    for (mut one, entry_points) in merged {
        one.entry_points = entry_points;
        match one.change {
            RouteChange::Lost => outcome.lost += 1,
            RouteChange::Gained => outcome.gained += 1,
            RouteChange::Changed => outcome.changed += 1,
        }
        outcome.deliberate += usize::from(one.deliberate.is_some());
        outcome.differences.push(one);
    }
    outcome
}

/// Groups the routes of a side for the comparison, one for each entry point.
fn spread(
    side: ComparedSide,
    loaded_by: Option<&[LoadedEntryPoint]>,
    providers: &BTreeSet<String>,
    all: &mut BTreeMap<RouteIdentity, BothSides>,
    own: impl Fn(&mut BothSides) -> &mut Vec<ComparedRoute>,
) {
    let mut names = ProviderNames::new(providers);
    let loaded_by = loaded_by.filter(|_| side.entry_points.is_none()).map(|entry_points| {
        let mut entry_points = entry_points.to_vec();
        entry_points.iter_mut().for_each(|one| names.cut_entry_point(one));
        entry_points
    });
    for (output, routes) in side.routes {
        for mut route in routes {
            names.cut_route(&mut route);
            let spread = match &loaded_by {
                Some(entry_points) => route.loaded(entry_points),
                None => route.by_entry_point(),
            };
            for route in spread {
                let entry_point = route.entry_points.first().cloned().unwrap_or_default();
                let identity = (output.clone(), Arc::clone(&route.rule), entry_point);
                own(all.entry(identity).or_default()).push(route);
            }
        }
    }
}

/// The rest of both sides after removing equal routes, sorted by name.
fn without_equal(
    comparison: &mut RouteComparison,
    mut before: Vec<ComparedRoute>,
    mut after: Vec<ComparedRoute>,
) -> (Vec<ComparedRoute>, Vec<ComparedRoute>) {
    before.sort_by(|one, other| one.name.cmp(&other.name));
    after.sort_by(|one, other| one.name.cmp(&other.name));
    let mut left = Vec::new();
    for old in before {
        let near = after.iter().take(PAIRS_TRIED).position(|new| comparison.fields(&old, new).is_empty());
        match near {
            Some(at) => {
                after.remove(at);
            }
            None => left.push(old),
        }
    }
    (left, after)
}

/// The routes with the same rule and entry point, with which a route is compared.
const PAIRS_TRIED: usize = 100;

fn difference(
    comparison: &mut RouteComparison,
    old: Option<&ComparedRoute>,
    new: Option<&ComparedRoute>,
) -> Option<RouteDifference> {
    let route = new.or(old)?;
    let change = match (old, new) {
        (Some(_), Some(_)) => RouteChange::Changed,
        (Some(_), None) => RouteChange::Lost,
        (None, _) => RouteChange::Gained,
    };
    Some(RouteDifference {
        change,
        output: String::new(),
        route: in_words(&route.rule),
        rule: route.rule.to_string(),
        entry_points: Vec::new(),
        tls: route.tls.is_some(),
        backend: backend(route),
        from: route.from.clone().or_else(|| old.and_then(|old| old.from.clone())),
        fields: old.zip(new).map_or_else(Vec::new, |(old, new)| comparison.fields(old, new)),
        deliberate: None,
    })
}

fn backend(route: &ComparedRoute) -> String {
    let servers = || urls(route.service.servers.as_ref().unwrap_or(&BTreeSet::new()), None);
    route.backend.clone().unwrap_or_else(servers)
}
