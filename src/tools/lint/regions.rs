//! Represents the requests that a rule matches in a form that can be compared, to find routers that match everything
//! that another one matches.
//!
//! Only rules of the form that the translation writes are parsed. Results are true for every request, but not
//! everything that is true is found: a pattern is only compared with itself, and routes that several others hide
//! together are not detected.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::kubernetes::key::IngressKey;
use crate::table::Output;
use crate::tools::explain::RankedRouter;
use crate::tools::matching::{Predicate, RuleMatcher};
use crate::tools::output_route::OutputRoute;
use crate::tools::web_request::WebRequest;
use crate::translate::fragment::{Fragment, ServiceFragment};

/// The hosts that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostRegion {
    Any,
    /// In lower case.
    Exact(String),
    /// The part after one label, with its dot.
    Wildcard(String),
    /// Known only as text.
    Other(String),
}

impl HostRegion {
    /// The host, or `*.` and the rest, if it is one of these forms.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Exact(name) => Some(name.clone()),
            Self::Wildcard(rest) => Some(format!("*{rest}")),
            Self::Any | Self::Other(_) => None,
        }
    }
}

impl fmt::Display for HostRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("every host"),
            Self::Exact(text) | Self::Other(text) => f.write_str(text),
            Self::Wildcard(rest) => write!(f, "*{rest}"),
        }
    }
}

/// The paths that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathRegion {
    Exact(String),
    Prefix(String),
    /// A path and the paths below it.
    Element(String),
    /// Known only as text.
    Other(String),
}

/// The requests that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRegion {
    pub host: HostRegion,
    pub path: PathRegion,
}

impl RuleRegion {
    /// The requests that a rule matches, if it has the form that the translation writes.
    fn new(matcher: &RuleMatcher) -> Option<Self> {
        match matcher {
            RuleMatcher::All(parts) => match &**parts {
                [left, right] => Some(Self { host: host(left)?, path: path(right)? }),
                _ => None,
            },
            other => match (host(other), path(other)) {
                (Some(host), _) => Some(Self { host, path: PathRegion::Prefix(String::new()) }),
                (None, path) => Some(Self { host: HostRegion::Any, path: path? }),
            },
        }
    }

    /// Whether any request can have a path that it matches.
    pub fn is_attainable(&self) -> bool {
        let attained = |text: &str| {
            WebRequest::new(&format!("http://host{text}"), "GET", &[], None)
                .is_ok_and(|request| request.path == text.as_bytes())
        };
        // An incomplete escape is completed, and a dot at the end becomes part of a name.
        let begins = |prefix: &str| {
            ["x", "0x", "Dx", "Fx", "2Fx"].iter().any(|rest| attained(&format!("{prefix}{rest}")))
        };
        match &self.path {
            PathRegion::Exact(path) => attained(path),
            PathRegion::Prefix(path) => path.is_empty() || begins(path),
            PathRegion::Element(path) => attained(path) || begins(&format!("{path}/")),
            PathRegion::Other(_) => true,
        }
    }
}

fn host(matcher: &RuleMatcher) -> Option<HostRegion> {
    let RuleMatcher::Call(call, predicate) = matcher else { return None };
    let other = || HostRegion::Other(call.to_string());
    match predicate {
        _ if call.negated => None,
        Predicate::Anything => Some(HostRegion::Any),
        Predicate::Hosts { names, wildcards } => match names.as_slice() {
            // A name with a final dot matches other hosts than the one without.
            [name] if name.ends_with('.') => Some(other()),
            [name] if *wildcards && name.starts_with("*.") => {
                Some(HostRegion::Wildcard(name[1..].to_owned()))
            }
            [name] if *wildcards && name.starts_with('*') => Some(other()),
            [name] => Some(HostRegion::Exact(name.clone())),
            _ => None,
        },
        Predicate::HostPattern(_) | Predicate::HostTemplates(_) => Some(other()),
        _ => None,
    }
}

fn path(matcher: &RuleMatcher) -> Option<PathRegion> {
    let (call, predicate) = match matcher {
        RuleMatcher::Any(parts) => {
            let [exact, below] = &**parts else { return None };
            return match (path(exact)?, path(below)?) {
                (PathRegion::Exact(path), PathRegion::Prefix(prefix)) if prefix == format!("{path}/") => {
                    Some(PathRegion::Element(path))
                }
                (PathRegion::Other(one), PathRegion::Other(other)) => {
                    Some(PathRegion::Other(format!("{one} || {other}")))
                }
                _ => None,
            };
        }
        RuleMatcher::Call(call, predicate) if !call.negated => (call, predicate),
        _ => return None,
    };
    Some(match (predicate, call.arguments.as_slice()) {
        (Predicate::Path(path), _) => PathRegion::Exact(path.clone()),
        (Predicate::PathPrefix(path), _) => PathRegion::Prefix(path.clone()),
        // Syntax v2 has templates, and compares bytes that are not UTF-8 as U+FFFD.
        (Predicate::PathPatterns(_), [text]) => match call.name.as_str() {
            "Path" if !text.contains(['{', '}', '\u{fffd}']) => PathRegion::Exact(text.clone()),
            "PathPrefix" if !text.contains(['{', '}', '\u{fffd}']) => PathRegion::Prefix(text.clone()),
            _ => PathRegion::Other(call.to_string()),
        },
        _ => return None,
    })
}

/// A router of an output.
pub struct LintedRoute<'a> {
    pub name: Arc<str>,
    pub fragment: &'a Fragment,
    /// Not for the default backend.
    pub owner: Option<&'a ServiceFragment>,
    pub ranked: RankedRouter<'a>,
    /// Without duplicates; `""` stands for Traefik's default ones.
    pub entry_points: Vec<&'a str>,
    /// None for a rule that Traefik refuses.
    pub region: Option<RuleRegion>,
}

impl<'a> LintedRoute<'a> {
    fn new(OutputRoute { name, fragment, router, owner, .. }: OutputRoute<'a>) -> Self {
        let ranked = RankedRouter::new(router);
        let mut entry_points: Vec<&str> = router.entry_points.iter().map(String::as_str).collect();
        entry_points.sort_unstable();
        entry_points.dedup();
        if entry_points.is_empty() {
            entry_points.push("");
        }
        let matcher = ranked.matcher.as_ref().ok().filter(|_| ranked.refusal().is_none());
        let region = matcher.and_then(RuleRegion::new);
        Self { name, fragment, owner, ranked, entry_points, region }
    }

    /// The routers of an output; those of older Ingresses first.
    pub fn of_output(output: &'a Output) -> Vec<Self> {
        let mut all: Vec<Self> = OutputRoute::all(output).map(Self::new).collect();
        all.sort_by(|one, other| one.age().cmp(&other.age()).then_with(|| one.name.cmp(&other.name)));
        all
    }

    fn age(&self) -> (crate::translate::fragment::Created, &IngressKey) {
        (self.fragment.created, &self.fragment.ingress)
    }

    fn tls(&self) -> bool {
        self.ranked.router.tls.is_some()
    }
}

/// Positions of two routes: the one that a finding is about, and the one that causes it.
pub type RoutePair = (usize, usize);

/// Routes that never get a request, each with one that comes first and matches everything that it matches; and routes
/// that match the same as another one with the same priority.
pub fn compare(routes: &[LintedRoute<'_>]) -> (Vec<RoutePair>, Vec<RoutePair>) {
    // Routers with and without TLS are in different parts of Traefik, which may both serve an entry point.
    let mut places: HashMap<(&str, bool), Vec<usize>> = HashMap::new();
    for (at, route) in routes.iter().enumerate().filter(|(_, route)| route.region.is_some()) {
        for entry_point in &route.entry_points {
            places.entry((entry_point, route.tls())).or_default().push(at);
        }
    }
    let mut hidden: HashMap<usize, (usize, usize)> = HashMap::new();
    let mut same: HashMap<usize, usize> = HashMap::new();
    for members in places.values() {
        let place = RouterPlace { routes, members };
        for (at, by) in place.hidden() {
            let (count, hider) = hidden.entry(at).or_insert((0, by));
            (*count, *hider) = (*count + 1, (*hider).min(by));
        }
        for (at, first) in place.same() {
            let known = same.entry(at).or_insert(first);
            *known = (*known).min(first);
        }
    }
    let everywhere = |at: &usize, count: usize| count == routes[*at].entry_points.len();
    let mut hidden: Vec<RoutePair> = hidden
        .into_iter()
        .filter(|(at, (count, _))| everywhere(at, *count))
        .map(|(at, (_, by))| (at, by))
        .collect();
    let never: HashSet<usize> = hidden.iter().map(|(at, _)| *at).collect();
    let mut same: Vec<RoutePair> = same.into_iter().filter(|(at, _)| !never.contains(at)).collect();
    hidden.sort_unstable();
    same.sort_unstable();
    (hidden, same)
}

/// The routers among which Traefik chooses for a request to one entry point.
struct RouterPlace<'r, 'a> {
    routes: &'r [LintedRoute<'a>],
    members: &'r [usize],
}

impl<'r> RouterPlace<'r, '_> {
    fn regions(&self) -> impl Iterator<Item = (usize, &'r RuleRegion)> {
        self.members.iter().filter_map(|at| Some((*at, self.routes[*at].region.as_ref()?)))
    }

    fn priority(&self, at: usize) -> i64 {
        self.routes[at].ranked.priority
    }

    /// The one that comes first; of two with the same priority, the older one.
    fn first(&self, one: Option<usize>, other: usize) -> usize {
        let rank = |at: usize| (std::cmp::Reverse(self.priority(at)), at);
        one.filter(|one| rank(*one) < rank(other)).unwrap_or(other)
    }

    fn same(&self) -> Vec<RoutePair> {
        let mut seen: HashMap<(&RuleRegion, i64), usize> = HashMap::new();
        let mut found = Vec::new();
        for (at, region) in self.regions() {
            let first = *seen.entry((region, self.priority(at))).or_insert(at);
            if first != at {
                found.push((at, first));
            }
        }
        found
    }

    /// Each hidden route, with the first of those that hide it.
    fn hidden(&self) -> Vec<RoutePair> {
        let mut families: HashMap<HostRegion, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for (at, region) in self.regions() {
            families.entry(region.host.clone()).or_default().0.push(at);
        }
        for (at, region) in self.regions() {
            let wildcard = match &region.host {
                HostRegion::Exact(host) => {
                    host.find('.').map(|dot| HostRegion::Wildcard(host[dot..].to_owned()))
                }
                _ => None,
            };
            let wider =
                wildcard.into_iter().chain((region.host != HostRegion::Any).then_some(HostRegion::Any));
            for host in wider.chain([region.host.clone()]) {
                if let Some((_, asked)) = families.get_mut(&host) {
                    asked.push(at);
                }
            }
        }
        let mut best: HashMap<usize, usize> = HashMap::new();
        for (takers, asked) in families.values() {
            self.sweep(takers, asked, &mut best);
        }
        best.into_iter().filter(|(at, by)| self.priority(*by) > self.priority(*at)).collect()
    }

    /// Records for each of `asked` which of `takers`, whose hosts are as wide, matches all of its paths and comes
    /// first. In sorted order, a path follows its prefixes, so that one pass with a stack finds them.
    fn sweep(&self, takers: &[usize], asked: &[usize], best: &mut HashMap<usize, usize>) {
        let mut equal: HashMap<&PathRegion, usize> = HashMap::new();
        let mut events: Vec<(std::borrow::Cow<'_, str>, bool, usize)> = Vec::new();
        let region = |at: usize| self.routes[at].region.as_ref();
        for &at in takers {
            let Some(region) = region(at) else { continue };
            let known = equal.get(&region.path).copied();
            equal.insert(&region.path, self.first(known, at));
            match &region.path {
                PathRegion::Prefix(path) => events.push((path.into(), false, at)),
                PathRegion::Element(path) => events.push((format!("{path}/").into(), false, at)),
                PathRegion::Exact(_) | PathRegion::Other(_) => {}
            }
        }
        for &at in asked {
            let Some(region) = region(at) else { continue };
            let path = match &region.path {
                PathRegion::Exact(path) | PathRegion::Prefix(path) | PathRegion::Element(path) => {
                    path.as_str()
                }
                // Every path begins with this.
                PathRegion::Other(_) => "/",
            };
            events.push((path.into(), true, at));
        }
        events.sort_unstable();
        let mut prefixes: Vec<(&str, usize)> = Vec::new();
        for (path, asks, at) in &events {
            while prefixes.last().is_some_and(|(prefix, _)| !path.starts_with(prefix)) {
                prefixes.pop();
            }
            let widest = prefixes.last().map(|(_, taker)| *taker);
            if !asks {
                prefixes.push((path, self.first(widest, *at)));
                continue;
            }
            let Some(region) = region(*at) else { continue };
            let element = match &region.path {
                PathRegion::Exact(path) => equal.get(&PathRegion::Element(path.clone())),
                _ => None,
            };
            for taker in widest.iter().chain(equal.get(&region.path)).chain(element) {
                let known = best.get(at).copied();
                best.insert(*at, self.first(known, *taker));
            }
        }
    }
}

#[cfg(test)]
#[path = "regions_tests.rs"]
mod tests;
