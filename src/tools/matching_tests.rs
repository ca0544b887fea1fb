//! Rules against requests.

use super::*;

fn matches(rule: &str, syntax: &str, url: &str) -> bool {
    let headers = ["X-Team: blue".to_owned()];
    let request = WebRequest::new(url, "POST", &headers, "10.1.2.3".parse().ok()).unwrap();
    let matcher = RuleMatcher::new(rule, syntax).unwrap_or_else(|error| panic!("{rule}: {error}"));
    matcher.matches(&request) == Some(true)
}

#[test]
fn matchers_of_both_syntaxes() {
    for (syntax, rule, url, expected) in [
        ("v3", r#"Host("Shop.example")"#, "http://shop.EXAMPLE.:80/", true),
        ("v3", r#"Host("*.shop.example")"#, "http://a.shop.example/", true),
        ("v3", r#"Host("*.shop.example")"#, "http://a.b.shop.example/", false),
        ("v3", r#"Host("*.shop.example")"#, "http://shop.example/", false),
        ("v3", r#"Host("*")"#, "http://x/", true),
        ("v2", r#"HostRegexp("{subdomain:[a-zA-Z0-9-]+}.shop.example")"#, "http://a.shop.example/", true),
        ("v2", r#"HostRegexp("{subdomain:[a-zA-Z0-9-]+}.shop.example")"#, "http://a.shopXexample/", false),
        ("v2", r#"Path("/a/{id}")"#, "http://h/a/12", true),
        ("v2", r#"PathPrefix("/a/{id:[0-9]+}")"#, "http://h/a/x", false),
        ("v2", r#"PathPrefix("/a", "/b")"#, "http://h/bc", true),
        ("v3", r#"PathRegexp("^/a.c$")"#, "http://h/abc", true),
        ("", r#"!Path("/a") && Method("post")"#, "http://h/b", true),
        ("v3", r#"Header("x-team", "blue")"#, "http://h/", true),
        ("v2", r#"HeadersRegexp("X-Team", "^b")"#, "http://h/", true),
        ("v3", r#"Query("a", "1") && QueryRegexp("b", "^2")"#, "http://h/?b=23&a=1", true),
        ("v2", r#"Query("a=1", "b=")"#, "http://h/?b=23&a=1", true),
        ("v3", r#"ClientIP("10.0.0.0/8")"#, "http://h/", true),
        ("v3", r#"ClientIP("10.1.2.4")"#, "http://h/", false),
    ] {
        assert_eq!(matches(rule, syntax, url), expected, "{syntax} {rule} {url}");
    }
}

#[test]
fn what_traefik_refuses_is_refused() {
    for (syntax, rule) in [
        ("v3", r#"Host("a", "b")"#),
        ("v3", r#"Host("")"#),
        ("v3", r#"Host("café")"#),
        ("v3", r#"Path("a")"#),
        ("v3", r#"PathRegexp("(")"#),
        ("v3", r#"HostHeader("a")"#),
        ("v3", r#"hostRegexp("a")"#),
        ("v2", r#"PathRegexp("/a")"#),
        ("v2", r#"Path("/{a")"#),
        ("v2", r#"Path("/{}")"#),
        ("v3", r#"ClientIP("x")"#),
    ] {
        assert!(RuleMatcher::new(rule, syntax).is_err(), "{syntax} {rule}");
    }
}

#[test]
fn a_long_chain_is_no_deep_tree() {
    for by in [" && ", " || "] {
        let rule = vec![r#"Host("h")"#; 200_000].join(by);
        assert!(matches(&rule, "v3", "http://h/") && !matches(&rule, "v3", "http://other/"));
        assert!(matches(&format!("!({rule})"), "v3", "http://other/"));
        let request = WebRequest::new("http://other/", "GET", &[], None).unwrap();
        assert!(!RuleMatcher::new(&rule, "").unwrap().misses(&request).is_empty());
    }
}

#[test]
fn a_miss_is_explained() {
    let request = WebRequest::new("http://a.b/x", "GET", &[], None).unwrap();
    let rule = r#"Host("a.b") && (Path("/y") || PathPrefix("/y/"))"#;
    let matcher = RuleMatcher::new(rule, "").unwrap();
    assert!(matcher.may_match_host(&request));
    let [miss] = matcher.misses(&request).try_into().unwrap();
    assert_eq!(miss.wanted, r#"Path("/y") or PathPrefix("/y/")"#);
    assert_eq!(miss.seen, r#"the path is "/x""#);
}
#[test]
fn a_pattern_that_is_not_known_decides_nothing_where_the_rest_does() {
    let request = WebRequest::new("http://a.b/x", "GET", &[], None).unwrap();
    for (rule, matched, misses) in [
        (r#"Host("a.b") && PathRegexp("\\pL{400}")"#, None, 0),
        (r#"!PathRegexp("\\pL{400}")"#, None, 0),
        (r#"Host("b.b") && PathRegexp("\\pL{400}")"#, Some(false), 1),
        (r#"Path("/x") || PathRegexp("\\pL{400}")"#, Some(true), 0),
        (r#"Path("/y") || PathRegexp("\\pL{400}")"#, None, 0),
    ] {
        let matcher = RuleMatcher::new(rule, "").unwrap();
        assert_eq!(matcher.matches(&request), matched, "{rule}");
        assert_eq!(matcher.misses(&request).len(), misses, "{rule}");
        assert_eq!(matcher.unknown(&request).len(), 1, "{rule}");
    }
}
