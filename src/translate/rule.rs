//! Turns host and path of an Ingress into a Traefik rule, and computes the order of rules that the Ingress API
//! specifies.
//!
//! Sources: Traefik's `loadRouter`, `buildRule` and `buildHostRuleV2` (pkg/provider/kubernetes/ingress), and
//! <https://kubernetes.io/docs/concepts/services-networking/ingress/#path-types>.

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::translate::settings::RuleSyntax;

/// The rule that matches everything.
pub const EVERYTHING: &str = "PathPrefix(\"/\")";

/// A path matcher of Traefik.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matcher {
    Path,
    PathPrefix,
    PathRegexp,
}

impl Matcher {
    /// The matcher of an annotation's text; empty is the default, `None` is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "PathPrefix" => Some(Self::PathPrefix),
            "Path" => Some(Self::Path),
            "PathRegexp" => Some(Self::PathRegexp),
            _ => None,
        }
    }
}

/// An Ingress's path types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathType {
    Exact,
    Prefix,
    /// `ImplementationSpecific`, empty, or missing.
    ImplementationSpecific,
}

impl PathType {
    /// The path type of an Ingress's field. A text that the API server would refuse acts as `Prefix`, as with Traefik.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None | Some("" | "ImplementationSpecific") => Self::ImplementationSpecific,
            Some("Exact") => Self::Exact,
            Some(_) => Self::Prefix,
        }
    }
}

/// The rule for a host and a path. An empty host or path adds nothing; if both are empty, the rule matches every
/// request.
///
/// `whole_elements`: a `PathPrefix` matches whole elements of a path.
pub fn rule(host: &str, path: &str, matcher: Matcher, syntax: RuleSyntax, whole_elements: bool) -> String {
    let mut rule = String::with_capacity(host.len() + 2 * path.len() + 40);
    if !host.is_empty() {
        match (syntax, host.strip_prefix("*.")) {
            (RuleSyntax::V2, Some(rest)) => {
                rule.push_str("HostRegexp(");
                quote(&mut rule, &format!("{{subdomain:[a-zA-Z0-9-]+}}.{rest}"));
            }
            _ => {
                rule.push_str("Host(");
                quote(&mut rule, host);
            }
        }
        rule.push(')');
    }
    if !path.is_empty() {
        if !rule.is_empty() {
            rule.push_str(" && ");
        }
        match matcher {
            Matcher::PathPrefix if whole_elements && path != "/" => {
                let path = compared_path(path, matcher, whole_elements);
                rule.push_str("(Path(");
                quote(&mut rule, path);
                rule.push_str(") || PathPrefix(");
                quote(&mut rule, &format!("{path}/"));
                rule.push_str("))");
            }
            _ => {
                rule.push_str(match matcher {
                    Matcher::Path => "Path(",
                    Matcher::PathPrefix => "PathPrefix(",
                    Matcher::PathRegexp => "PathRegexp(",
                });
                quote(&mut rule, path);
                rule.push(')');
            }
        }
    }
    if rule.is_empty() { EVERYTHING.to_owned() } else { rule }
}

/// The path that a rule compares: where whole elements are compared, a slash at the end changes nothing.
pub fn compared_path(path: &str, matcher: Matcher, whole_elements: bool) -> &str {
    match path.strip_suffix('/') {
        Some(elements) if whole_elements && matcher == Matcher::PathPrefix && path != "/" => elements,
        _ => path,
    }
}

/// Appends `text` quoted as with Go's `%q`, which Traefik's rule parser reads.
fn quote(rule: &mut String, text: &str) {
    rule.push('"');
    for character in text.chars() {
        match character {
            '"' => rule.push_str("\\\""),
            '\\' => rule.push_str("\\\\"),
            ' '..='~' => rule.push(character),
            '\u{7}' => rule.push_str("\\a"),
            '\u{8}' => rule.push_str("\\b"),
            '\u{c}' => rule.push_str("\\f"),
            '\n' => rule.push_str("\\n"),
            '\r' => rule.push_str("\\r"),
            '\t' => rule.push_str("\\t"),
            '\u{b}' => rule.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => rule.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ if is_print(character) => rule.push(character),
            '\u{80}'..='\u{ffff}' => rule.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => rule.push_str(&format!("\\U{:08x}", u32::from(character))),
        }
    }
    rule.push('"');
}

/// Go's `unicode.IsPrint` for characters beyond ASCII: letters, marks, numbers, punctuation and symbols.
fn is_print(character: char) -> bool {
    use GeneralCategory as C;
    !matches!(
        get_general_category(character),
        C::Control
            | C::Format
            | C::Surrogate
            | C::PrivateUse
            | C::Unassigned
            | C::SpaceSeparator
            | C::LineSeparator
            | C::ParagraphSeparator
    )
}

/// A router priority that sorts as the Ingress API specifies: an exact host before a wildcard host (the longer suffix
/// first) before none; then the longer path; then Exact before Prefix before ImplementationSpecific. `path` is the
/// [`compared_path`].
///
/// At least 1, since Traefik treats 0 as none, and below 2³³, far from the range that it reserves.
pub fn priority(host: &str, path: &str, path_type: PathType) -> i64 {
    const EXACT_HOST: usize = 511;
    let host = match host.strip_prefix("*.") {
        _ if host.is_empty() => 0,
        Some(suffix) => suffix.len().clamp(1, EXACT_HOST - 1),
        None => EXACT_HOST,
    };
    let path = path.len().min((1 << 21) - 1);
    let path_type = match path_type {
        PathType::Exact => 2,
        PathType::Prefix => 1,
        PathType::ImplementationSpecific => 0,
    };
    1 + ((host as i64) << 23 | (path as i64) << 2 | path_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        let mut quoted = String::new();
        quote(&mut quoted, text);
        quoted
    }

    #[test]
    fn quotes_as_go() {
        for (text, go) in [
            ("plain", r#""plain""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
            ("\0\u{1f}\u{7f}", r#""\x00\x1f\x7f""#),
            ("é漢`'%", "\"é漢`'%\""),
            ("\u{a0}\u{ad}\u{200b}\u{2028}\u{e000}", r#""\u00a0\u00ad\u200b\u2028\ue000""#),
            ("😀\u{10ffff}\u{e0001}", "\"😀\\U0010ffff\\U000e0001\""),
            ("e\u{301}\u{fffd}", "\"e\u{301}\u{fffd}\""),
        ] {
            assert_eq!(quoted(text), go);
        }
    }

    #[test]
    fn joins_host_and_path() {
        use Matcher::*;
        use RuleSyntax::*;
        for (host, path, matcher, syntax, whole, expected) in [
            ("", "", PathPrefix, V3, false, r#"PathPrefix("/")"#),
            ("h", "", Path, V3, true, r#"Host("h")"#),
            ("h", "/p", Path, V3, true, r#"Host("h") && Path("/p")"#),
            ("*.x", "/p", PathPrefix, V3, false, r#"Host("*.x") && PathPrefix("/p")"#),
            ("*.x", "", PathPrefix, V2, false, r#"HostRegexp("{subdomain:[a-zA-Z0-9-]+}.x")"#),
            ("", "/p", PathPrefix, V3, true, r#"(Path("/p") || PathPrefix("/p/"))"#),
            ("", "/p/", PathPrefix, V3, true, r#"(Path("/p") || PathPrefix("/p/"))"#),
            ("", "/", PathPrefix, V3, true, r#"PathPrefix("/")"#),
            ("", "//", PathPrefix, V3, true, r#"(Path("/") || PathPrefix("//"))"#),
            ("", "^/a", PathRegexp, V3, true, r#"PathRegexp("^/a")"#),
        ] {
            assert_eq!(rule(host, path, matcher, syntax, whole), expected);
        }
    }

    #[test]
    fn a_slash_at_the_end_makes_a_prefix_of_elements_no_longer() {
        let of =
            |path, path_type, matcher, whole| priority("a.b", compared_path(path, matcher, whole), path_type);
        let prefix = |path| of(path, PathType::Prefix, Matcher::PathPrefix, true);
        let exact = |path| of(path, PathType::Exact, Matcher::Path, true);
        let other = |path, whole| of(path, PathType::ImplementationSpecific, Matcher::PathPrefix, whole);
        assert_eq!(prefix("/long/"), prefix("/long"));
        assert!(exact("/long") > prefix("/long/") && exact("/long/") > exact("/long"));
        assert!(prefix("/long/") > prefix("/"));
        assert_eq!(other("/long/", true), other("/long", true));
        assert!(other("/long/", false) > other("/long", false));
        assert_eq!(compared_path("/", Matcher::PathPrefix, true), "/");
        assert_eq!(compared_path("/a/", Matcher::PathRegexp, true), "/a/");
    }

    #[test]
    fn priority_orders_as_the_ingress_api() {
        use PathType::*;
        let falling = [
            ("a.b", "/longer", Prefix),
            ("a.b", "/long", Exact),
            ("z.b", "/long", Prefix),
            ("a.b", "/long", ImplementationSpecific),
            ("a.b", "", Exact),
            ("*.deep.b", "/longest", Exact),
            ("*.b", "/longest", Exact),
            ("", "/longest/of/all", Exact),
            ("", "", ImplementationSpecific),
        ];
        let numbers: Vec<_> = falling.iter().map(|(h, p, t)| priority(h, p, *t)).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]), "{numbers:?}");
        assert!(numbers.iter().all(|&number| number > 0));
        assert!(priority("h", &"p".repeat(1 << 22), Exact) < 1 << 33);
    }
}
