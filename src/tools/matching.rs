//! Decides whether a rule matches a request, and if not, why. Implements the matchers of Traefik's syntaxes `v3` and
//! `v2`.
//!
//! Sources: Traefik's pkg/muxer/http, and gorilla/mux, which parses the templates of syntax `v2`.

use std::net::IpAddr;

use super::pattern::{PATTERN_LIMIT, Pattern};
use super::rule::{RuleCall, RuleError, RuleTree};
use super::web_request::{WebRequest, canonical_header, without_port};

/// A rule that is ready to match.
#[derive(Debug)]
pub enum RuleMatcher {
    All(Vec<RuleMatcher>),
    Any(Vec<RuleMatcher>),
    Call(RuleCall, Predicate),
}

/// The part of a request that a matcher tests.
#[derive(Debug)]
pub enum Predicate {
    Anything,
    /// In lower case; one must match.
    Hosts {
        names: Vec<String>,
        wildcards: bool,
    },
    HostPattern(Pattern),
    /// Patterns for the Host header without its port; one must match.
    HostTemplates(Vec<Pattern>),
    Path(String),
    PathPrefix(String),
    /// One must match.
    PathPatterns(Vec<Pattern>),
    Methods(Vec<String>),
    /// All must match; without a value, the header only has to exist.
    Headers(Vec<(String, String)>),
    HeaderPatterns(Vec<(String, Pattern)>),
    Query(String, String),
    QueryPattern(String, Pattern),
    /// Patterns for `key=value` with the first value; all must match.
    QueryTemplates(Vec<(String, Pattern)>),
    /// Addresses with their prefix length; one must match.
    ClientIP(Vec<(IpAddr, u8)>),
}

const V3: &[&str] = &[
    "ClientIP",
    "Method",
    "Host",
    "HostRegexp",
    "Path",
    "PathRegexp",
    "PathPrefix",
    "Header",
    "HeaderRegexp",
    "Query",
    "QueryRegexp",
];
const V2: &[&str] = &[
    "Host",
    "HostHeader",
    "HostRegexp",
    "ClientIP",
    "Path",
    "PathPrefix",
    "Method",
    "Headers",
    "HeadersRegexp",
    "Query",
];

impl RuleMatcher {
    /// Parses a rule. Every syntax but `v2` is `v3`, as in Traefik.
    ///
    /// # Errors
    /// If Traefik refuses the rule. It then has no router for it.
    pub fn new(rule: &str, syntax: &str) -> Result<Self, RuleError> {
        Self::build(RuleTree::parse(rule)?, syntax == "v2")
    }

    fn build(tree: RuleTree, v2: bool) -> Result<Self, RuleError> {
        let all = |parts: Vec<RuleTree>| -> Result<Vec<Self>, RuleError> {
            parts.into_iter().map(|part| Self::build(part, v2)).collect()
        };
        Ok(match tree {
            RuleTree::And(parts) => Self::All(all(parts)?),
            RuleTree::Or(parts) => Self::Any(all(parts)?),
            RuleTree::Call(call) => {
                let (known, syntax) = if v2 { (V2, "v2") } else { (V3, "v3") };
                let name = known.iter().find(|name| is_spelling(&call.name, name));
                let name =
                    *name.ok_or_else(|| RuleError::UnknownMatcher { name: call.name.clone(), syntax })?;
                let predicate = predicate(name, &call.arguments, v2)
                    .map_err(|message| RuleError::Argument { call: call.to_string(), message })?;
                Self::Call(call, predicate)
            }
        })
    }

    /// Whether it matches; `None` if that depends on a pattern that can't be evaluated.
    pub fn matches(&self, request: &WebRequest) -> Option<bool> {
        self.holds(&|call, predicate| Some(predicate.matches(request)? != call.negated))
    }

    /// Whether it could match another request to the same host.
    pub fn may_match_host(&self, request: &WebRequest) -> bool {
        let holds = self.holds(&|call, predicate| {
            if predicate.is_host() { Some(predicate.matches(request)? != call.negated) } else { Some(true) }
        });
        holds != Some(false)
    }

    fn holds(&self, test: &dyn Fn(&RuleCall, &Predicate) -> Option<bool>) -> Option<bool> {
        match self {
            Self::All(parts) => every(parts.iter().map(|part| part.holds(test))),
            Self::Any(parts) => some(parts.iter().map(|part| part.holds(test))),
            Self::Call(call, predicate) => test(call, predicate),
        }
    }

    /// The matchers whose patterns can't be evaluated.
    pub fn unknown(&self, request: &WebRequest) -> Vec<&RuleCall> {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().flat_map(|part| part.unknown(request)).collect()
            }
            Self::Call(call, predicate) => {
                predicate.matches(request).is_none().then_some(call).into_iter().collect()
            }
        }
    }

    /// The matchers that prevent a match; each of them would have to match.
    pub fn misses(&self, request: &WebRequest) -> Vec<Miss> {
        match self {
            _ if self.matches(request) != Some(false) => Vec::new(),
            Self::All(parts) => parts.iter().flat_map(|part| part.misses(request)).collect(),
            Self::Any(parts) => {
                let all = parts.iter().map(|part| Miss::joined(part.misses(request), " and "));
                vec![Miss::joined(all.collect(), " or ")]
            }
            Self::Call(call, predicate) => {
                vec![Miss { wanted: call.to_string(), seen: predicate.seen(request) }]
            }
        }
    }
}

/// Whether all match: one that does not decides, whatever is unknown of the others.
fn every(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    joined(parts, false)
}

/// Whether one matches.
fn some(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    joined(parts, true)
}

fn joined(parts: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut outcome = Some(!decisive);
    for part in parts {
        if part == Some(decisive) {
            return part;
        }
        outcome = outcome.and(part);
    }
    outcome
}

/// A part of a rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Matchers, joined by `and` and `or`.
    pub wanted: String,
    /// The values of the request for them.
    pub seen: String,
}

impl Miss {
    fn joined(mut all: Vec<Self>, by: &str) -> Self {
        let wanted = all.iter().map(|miss| miss.wanted.as_str()).collect::<Vec<_>>().join(by);
        all.dedup_by(|one, other| one.seen == other.seen);
        Self { wanted, seen: all.iter().map(|miss| miss.seen.as_str()).collect::<Vec<_>>().join(", ") }
    }
}

/// A matcher may be written as it is, in lower case, in upper case, or with a capital.
fn is_spelling(text: &str, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let title = lower.get(..1).unwrap_or_default().to_ascii_uppercase() + lower.get(1..).unwrap_or_default();
    text == name || text == lower || text == title || text == name.to_ascii_uppercase()
}

fn predicate(name: &str, arguments: &[String], v2: bool) -> Result<Predicate, String> {
    if arguments.is_empty() || arguments.iter().any(String::is_empty) {
        return Err("an argument is missing".to_owned());
    }
    let is_host = name.starts_with("Host");
    if is_host && !arguments.iter().all(|host| host.is_ascii()) {
        return Err("a host is ASCII text; write it in punycode (xn--…)".to_owned());
    }
    if v2 {
        return predicate_v2(name, arguments);
    }
    let (first, second) = match (arguments, name) {
        ([first], "Query" | "QueryRegexp") => (first, None),
        ([first, second], "Query" | "QueryRegexp" | "Header" | "HeaderRegexp") => (first, Some(second)),
        ([first], name) if !name.starts_with("Header") => (first, None),
        _ => return Err(format!("{} arguments are not what it accepts", arguments.len())),
    };
    let value = second.map(String::as_str).unwrap_or_default();
    Ok(match name {
        "ClientIP" => Predicate::ClientIP(networks(arguments)?),
        "Method" => Predicate::Methods(vec![first.to_uppercase()]),
        "Host" if first == "*" => Predicate::Anything,
        "Host" => Predicate::Hosts { names: vec![first.to_ascii_lowercase()], wildcards: true },
        "HostRegexp" => Predicate::HostPattern(Pattern::parse(first)?),
        "PathRegexp" => Predicate::PathPatterns(vec![Pattern::parse(first)?]),
        "Path" | "PathPrefix" if !first.starts_with('/') => {
            return Err("a path begins with /".to_owned());
        }
        "Path" => Predicate::Path(first.clone()),
        "PathPrefix" => Predicate::PathPrefix(first.clone()),
        "Header" => Predicate::Headers(vec![(canonical_header(first), value.to_owned())]),
        "HeaderRegexp" => Predicate::HeaderPatterns(vec![(canonical_header(first), Pattern::parse(value)?)]),
        "QueryRegexp" if second.is_some() => Predicate::QueryPattern(first.clone(), Pattern::parse(value)?),
        _ => Predicate::Query(first.clone(), value.to_owned()),
    })
}

fn predicate_v2(name: &str, arguments: &[String]) -> Result<Predicate, String> {
    let pairs = || {
        let pairs = arguments.chunks_exact(2);
        if pairs.remainder().is_empty() {
            Ok(pairs)
        } else {
            Err("names and values come in pairs".to_owned())
        }
    };
    let templates = |kind| arguments.iter().map(|text| template(text, kind)).collect::<Result<Vec<_>, _>>();
    Ok(match name {
        "ClientIP" => Predicate::ClientIP(networks(arguments)?),
        "Method" => Predicate::Methods(arguments.iter().map(|method| method.to_uppercase()).collect()),
        "Host" | "HostHeader" => {
            let names = arguments.iter().map(|host| host.to_ascii_lowercase()).collect();
            Predicate::Hosts { names, wildcards: false }
        }
        "HostRegexp" => Predicate::HostTemplates(templates(Template::Host)?),
        "Path" | "PathPrefix" if arguments.iter().any(|path| !path.starts_with('/')) => {
            return Err("a path begins with /".to_owned());
        }
        "Path" => Predicate::PathPatterns(templates(Template::Path)?),
        "PathPrefix" => Predicate::PathPatterns(templates(Template::Prefix)?),
        "Headers" => {
            let pairs = pairs()?.map(|pair| (canonical_header(&pair[0]), pair[1].clone()));
            Predicate::Headers(pairs.collect())
        }
        "HeadersRegexp" => {
            let pairs = pairs()?.map(|pair| Ok((canonical_header(&pair[0]), Pattern::parse(&pair[1])?)));
            Predicate::HeaderPatterns(pairs.collect::<Result<_, String>>()?)
        }
        _ => {
            let parts: Vec<&str> = arguments.iter().flat_map(|pair| pair.splitn(2, '=')).collect();
            let pairs = parts.chunks_exact(2);
            if !pairs.remainder().is_empty() {
                return Err("names and values come in pairs".to_owned());
            }
            let pairs = pairs.map(|pair| {
                Ok((pair[0].to_owned(), template(&format!("{}={}", pair[0], pair[1]), Template::Query)?))
            });
            Predicate::QueryTemplates(pairs.collect::<Result<_, String>>()?)
        }
    })
}

/// The value with which a template of syntax `v2` is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Template {
    Host,
    Path,
    Prefix,
    Query,
}

/// A text with `{name}` and `{name:pattern}` as a regular expression.
fn template(text: &str, kind: Template) -> Result<Pattern, String> {
    if text.len() > PATTERN_LIMIT {
        return Ok(Pattern::unknown());
    }
    let any = match kind {
        Template::Host => "[^.]+",
        Template::Path | Template::Prefix => "[^/]+",
        Template::Query => ".*",
    };
    let mut out = if kind == Template::Host { "(?i)^" } else { "^" }.to_owned();
    let (mut level, mut raw, mut open) = (0_usize, 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => {
                level += 1;
                if level == 1 {
                    out.push_str(&regex::escape(&text[raw..at]));
                    open = at + 1;
                }
            }
            b'}' => {
                level = level.checked_sub(1).ok_or("unbalanced braces")?;
                if level == 0 {
                    let (name, inner) = text[open..at].split_once(':').unwrap_or((&text[open..at], any));
                    if name.is_empty() || inner.is_empty() {
                        return Err("braces without a name or a pattern".to_owned());
                    }
                    Pattern::parse(&format!("^{inner}$"))?;
                    out.push_str(&format!("({inner})"));
                    raw = at + 1;
                }
            }
            _ => {}
        }
    }
    if level > 0 {
        return Err("unbalanced braces".to_owned());
    }
    out.push_str(&regex::escape(&text[raw..]));
    if kind == Template::Query && text.ends_with('=') && text.matches('=').count() == 1 {
        out.push_str(any);
    }
    if kind != Template::Prefix {
        out.push('$');
    }
    Pattern::parse(&out)
}

fn networks(texts: &[String]) -> Result<Vec<(IpAddr, u8)>, String> {
    let network = |text: &String| {
        let (address, length) = text.split_once('/').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(longest), |length| length.parse().ok())?;
        (length <= longest).then_some((address, length))
    };
    let wrong = |text| format!("{text:?} is neither an address nor a network such as 10.0.0.0/8");
    texts.iter().map(|text| network(text).ok_or_else(|| wrong(text))).collect()
}

fn is_within(address: IpAddr, (network, length): (IpAddr, u8)) -> bool {
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 4),
        IpAddr::V6(address) => (address.to_bits(), 6),
    };
    let ((one, family), (other, of)) = (bits(address), bits(network));
    family == of && (length == 0 || (one ^ other) >> (128 - u32::from(length)) == 0)
}

/// Compares a host with a name that may begin with `*`, which stands for one label.
fn is_host(host: &str, name: &str, wildcards: bool) -> bool {
    let same = |host: &str, name: &str| match name.strip_prefix('*') {
        Some(rest) if wildcards => {
            let suffix = host.find('.').map_or("", |at| &host[at..]);
            suffix.eq_ignore_ascii_case(rest)
        }
        _ => host == name,
    };
    same(host, name)
        || name.strip_suffix('.').is_some_and(|name| same(host, name))
        || host.strip_suffix('.').is_some_and(|host| same(host, name))
}

impl Predicate {
    /// Whether it tests the host.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Hosts { .. } | Self::HostPattern(_) | Self::HostTemplates(_))
    }

    /// Whether it matches; `None` if a pattern can't be evaluated.
    fn matches(&self, request: &WebRequest) -> Option<bool> {
        let values = |name: &str| {
            let name = name.to_owned();
            request.headers.iter().filter(move |(header, _)| *header == name).map(|(_, value)| value)
        };
        let first = |key: &str| request.query.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        let path = request.path.as_slice();
        Some(match self {
            Self::Anything => true,
            Self::Hosts { names, wildcards } => {
                !request.host.is_empty() && names.iter().any(|name| is_host(&request.host, name, *wildcards))
            }
            // The second is the canonical name of the first, which is empty because nobody resolves it.
            Self::HostPattern(pattern) => {
                return some([&*request.host, ""].into_iter().map(|host| pattern.is_match(host)));
            }
            Self::HostTemplates(all) => {
                let host = without_port(&request.host_header);
                return some(all.iter().map(|pattern| pattern.is_match(host)));
            }
            Self::Path(wanted) => path == wanted.as_bytes(),
            Self::PathPrefix(wanted) => path.starts_with(wanted.as_bytes()),
            Self::PathPatterns(all) => {
                return some(all.iter().map(|pattern| pattern.is_match_in(path)));
            }
            Self::Methods(all) => all.contains(&request.method),
            Self::Headers(all) => all.iter().all(|(name, wanted)| values(name).any(|value| value == wanted)),
            Self::HeaderPatterns(all) => {
                let matched = |(name, pattern): &(String, Pattern)| {
                    some(values(name).map(|value| pattern.is_match(value)))
                };
                return every(all.iter().map(matched));
            }
            Self::Query(key, wanted) => {
                request.query.iter().any(|(name, value)| name == key && value == wanted)
            }
            Self::QueryPattern(key, pattern) => {
                let values = request.query.iter().filter(|(name, _)| name == key);
                return some(values.map(|(_, value)| pattern.is_match(value)));
            }
            Self::QueryTemplates(all) => {
                let matched = |(key, pattern): &(String, Pattern)| {
                    pattern.is_match(&first(key).map_or(String::new(), |value| format!("{key}={value}")))
                };
                return every(all.iter().map(matched));
            }
            Self::ClientIP(all) => {
                request.from.is_some_and(|from| all.iter().any(|network| is_within(from, *network)))
            }
        })
    }

    /// The value of a request for this matcher.
    fn seen(&self, request: &WebRequest) -> String {
        match self {
            Self::Anything | Self::Hosts { .. } | Self::HostPattern(_) => {
                format!("the host is {:?}", request.host)
            }
            Self::HostTemplates(_) => format!("the host is {:?}", request.host_header),
            Self::Path(_) | Self::PathPrefix(_) | Self::PathPatterns(_) => {
                format!("the path is {:?}", String::from_utf8_lossy(&request.path))
            }
            Self::Methods(_) => format!("the method is {}", request.method),
            Self::Headers(_) | Self::HeaderPatterns(_) => match request.headers.as_slice() {
                [] => "there is no header; give one with -H".to_owned(),
                headers => {
                    let all: Vec<_> =
                        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                    format!("the headers are {}", all.join(", "))
                }
            },
            Self::Query(..) | Self::QueryPattern(..) | Self::QueryTemplates(_) => {
                let all: Vec<_> =
                    request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("the query is {:?}", all.join("&"))
            }
            Self::ClientIP(_) => match request.from {
                Some(from) => format!("the client is {from}"),
                None => "the client's address is unknown; give it with --from".to_owned(),
            },
        }
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
