//! What is said of routes, against the matcher that `explain` uses.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::traefik::dynamic::{HttpService, Router, RouterTls};
use crate::translate::fragment::{Created, Uid};
use crate::translate::rule::{self, Matcher};
use crate::translate::settings::RuleSyntax;

const HOSTS: &[&str] =
    &["", "a.example", "A.example", "b.a.example", "*.a.example", "*.example", "a.example.", "*"];
const PATHS: &[&str] =
    &["", "/", "/a", "/a/", "/a/b", "/ab", "/a//b", "//", "/a%2Fb", "/a b", "/a/b/c", "/{x}", "/a.*", "/é"];
const ENTRY_POINTS: [&[&str]; 4] = [&[], &["web"], &["websecure"], &["web", "websecure", "web"]];

fn router() -> impl Strategy<Value = Router> {
    let matchers = prop::sample::select(vec![Matcher::Path, Matcher::PathPrefix, Matcher::PathRegexp]);
    let syntaxes = prop::sample::select(vec![RuleSyntax::V3, RuleSyntax::V3, RuleSyntax::V2]);
    let priorities = prop::sample::select(vec![0, 0, 1, 30, 100]);
    let entry_points = prop::sample::select(ENTRY_POINTS.to_vec());
    let (hosts, paths) = (prop::sample::select(HOSTS), prop::sample::select(PATHS));
    let rule = (hosts, paths, matchers, syntaxes, any::<bool>());
    (rule, priorities, entry_points, any::<bool>()).prop_map(|(rule, priority, entry_points, tls)| {
        let (host, path, matcher, syntax, whole) = rule;
        Router {
            rule: rule::rule(host, path, matcher, syntax, whole),
            rule_syntax: if syntax == RuleSyntax::V2 { "v2".to_owned() } else { String::new() },
            priority,
            entry_points: entry_points.iter().map(|name| (*name).to_owned()).collect(),
            tls: tls.then(RouterTls::default),
            ..Router::default()
        }
    })
}

/// Every request that the routers could tell apart.
fn requests() -> Vec<WebRequest> {
    let hosts =
        ["a.example", "a.example.", "a.example..", "b.a.example", "x.example", "example", "A.EXAMPLE:80"];
    let paths =
        ["", "/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/a/bc", "/a%2Fb", "/a%20b", "/{x}", "/a.*", "/xa"];
    let paths = paths.into_iter().chain(["/é", "/%FF", "/%C3%A9x", "/a/b/c", "/a/%FF", "/a/c"]);
    let urls = hosts.iter().flat_map(|host| paths.clone().map(move |path| format!("://{host}{path}")));
    let both = urls.flat_map(|url| [format!("http{url}"), format!("https{url}")]);
    both.map(|url| WebRequest::new(&url, "GET", &[], None).unwrap()).collect()
}

fn fragment() -> Fragment {
    Fragment {
        ingress: IngressKey::new("shop", "web"),
        created: Created(0),
        uid: Uid::default(),
        settings: Arc::default(),
        routers: Vec::new(),
        default_backend: None,
        certificates: Vec::new(),
        problems: Vec::new(),
        uses_nodes: false,
        namespaces: Box::default(),
    }
}

static SERVICE: LazyLock<HttpService> = LazyLock::new(HttpService::default);

fn routes<'a>(fragment: &'a Fragment, routers: &'a [Router]) -> Vec<LintedRoute<'a>> {
    let named = routers.iter().enumerate();
    named
        .map(|(at, router)| {
            LintedRoute::new(OutputRoute {
                name: at.to_string().into(),
                fragment,
                router,
                service_name: "".into(),
                service: &SERVICE,
                owner: None,
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// No request reaches a route that is called unreachable, and two that are called the same take the same requests.
    #[test]
    fn what_is_said_is_true(routers in prop::collection::vec(router(), 2..16)) {
        let fragment = fragment();
        let all = routes(&fragment, &routers);
        let (hidden, same) = compare(&all);
        for request in requests() {
            for entry_point in ["web", "websecure", "other"] {
                let takes = |at: usize| all[at].ranked.takes(&request, Some(entry_point)) == Some(true);
                for &(at, by) in &hidden {
                    let first = all[at].ranked.priority < all[by].ranked.priority;
                    let hider = (0..all.len()).any(|one| {
                        all[one].ranked.priority > all[at].ranked.priority && takes(one)
                    });
                    prop_assert!(first && (!takes(at) || hider), "{:?} {request:?}", routers[at]);
                }
                for &(at, first) in &same {
                    prop_assert_eq!(all[at].ranked.matcher.as_ref().unwrap().matches(&request),
                        all[first].ranked.matcher.as_ref().unwrap().matches(&request));
                    prop_assert_eq!(all[at].ranked.priority, all[first].ranked.priority);
                }
            }
        }
    }

    /// A path that a request has is called attainable, and so is all that such a path begins with.
    #[test]
    fn paths_of_requests_are_attainable(pieces in prop::collection::vec(prop::sample::select(vec![
        "/", "//", "/.", "/..", ".", "a", "%41", "%2e", "%2F", "%2f", "%25", "%20", "%3f", "%3F", "%23", "%22",
        "%5B", "%40", "[", "]", "(", ")", "*", ";", "=", "+", "\"", "^", "é", "%C3%A9", "{", "}", "\\", "~", "@",
    ]), 0..8)) {
        let url = format!("http://host/{}", pieces.concat());
        let Ok(request) = WebRequest::new(&url, "GET", &[], None) else { return Ok(()) };
        let Ok(path) = String::from_utf8(request.path) else { return Ok(()) };
        let is_attainable = |path| RuleRegion { host: HostRegion::Any, path }.is_attainable();
        prop_assert!(is_attainable(PathRegion::Exact(path.clone())), "{path}");
        for (at, _) in path.char_indices() {
            prop_assert!(is_attainable(PathRegion::Prefix(path[..at].to_owned())), "{path} {at}");
        }
    }
}

#[test]
fn routes_that_others_hide() {
    let rule = |host, path, matcher, whole| rule::rule(host, path, matcher, RuleSyntax::V3, whole);
    use Matcher::{Path, PathPrefix, PathRegexp};
    for (hider, hidden, expected) in [
        (rule("", "/", PathPrefix, false), rule("a.example", "/x", PathRegexp, false), true),
        (rule("*.example", "", PathPrefix, false), rule("a.example", "/x", Path, false), true),
        (rule("*.example", "/", PathPrefix, false), rule("a.b.example", "/x", Path, false), false),
        (rule("a.example", "/x", PathPrefix, true), rule("A.EXAMPLE", "/x", PathPrefix, true), true),
        (rule("a.example", "/x", PathPrefix, true), rule("a.example", "/x/", PathPrefix, false), true),
        (rule("a.example", "/x", PathPrefix, true), rule("a.example", "/x", PathPrefix, false), false),
        (rule("a.example", "/x", PathPrefix, true), rule("a.example", "/xy", Path, false), false),
        (rule("a.example", "/x", Path, false), rule("a.example", "/x", PathPrefix, true), false),
        (rule("", "/x", PathRegexp, false), rule("", "/x", PathRegexp, false), true),
        (rule("", "/x", PathRegexp, false), rule("", "/x", Path, false), false),
    ] {
        let fragment = fragment();
        let router = |rule: &str, priority| Router { rule: rule.to_owned(), priority, ..Router::default() };
        let routers = [router(&hidden, 1), router(&hider, 2)];
        let (pairs, _) = compare(&routes(&fragment, &routers));
        assert_eq!(pairs, if expected { vec![(0, 1)] } else { vec![] }, "{hider} {hidden}");
    }
}

#[test]
fn thousands_of_paths_on_one_host_take_no_time() {
    let fragment = fragment();
    let router = |at: usize| {
        // Each path is the beginning of the next one.
        let path = if at < 2_000 { format!("/{}", "x".repeat(at)) } else { format!("/p{at}/") };
        Router {
            rule: rule::rule("a.example", &path, Matcher::PathPrefix, RuleSyntax::V3, false),
            ..Router::default()
        }
    };
    let mut routers: Vec<Router> = (0..20_000).map(router).collect();
    routers.push(Router { rule: rule::EVERYTHING.to_owned(), priority: 1 << 20, ..Router::default() });
    let all = routes(&fragment, &routers);
    let begin = std::time::Instant::now();
    assert_eq!(compare(&all).0.len(), 20_000);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}
