//! Which requests a fault hits, and what becomes of them.

use std::fmt;
use std::time::Duration;

/// What a request asks for, as the API server's own log would say.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// The plural, as `configmaps`; empty for what is no object.
    pub resource: String,
    /// Empty for a collection.
    pub name: String,
    /// As `status`; mostly empty.
    pub subresource: String,
}

impl Asked {
    /// Reads method, path and query.
    pub fn of(method: &http::Method, uri: &http::Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        let parts: Vec<&str> = match parts.next() {
            Some("api") => parts.skip(1).collect(),
            Some("apis") => parts.skip(2).collect(),
            _ => Vec::new(),
        };
        let parts = match parts.as_slice() {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        let at = |index: usize| parts.get(index).map(|part| (*part).to_owned()).unwrap_or_default();
        let watches =
            uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("watch=")));
        let name = at(1);
        let verb = match method.as_str() {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ if watches => "watch",
            _ if name.is_empty() => "list",
            _ => "get",
        };
        Self { verb, resource: at(0), name, subresource: at(2) }
    }

    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing comes back, and nothing arrives, until faults are lifted.
    Stalled,
    /// It is done, and nothing comes back until faults are lifted.
    Unanswered,
    /// The connection breaks before anything arrives.
    LostBefore,
    /// It is done, and then the connection breaks.
    LostAfter,
    /// It arrives so much later, whether or not anybody still waits for the answer.
    Late(Duration),
    /// It never arrives; this status comes back.
    Refused(u16),
    /// It is done; the answer breaks off in the middle.
    HalfAnswered,
}

/// The statuses that requests are refused with.
pub const REFUSALS: [u16; 8] = [403, 409, 410, 413, 422, 429, 500, 503];

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled => write!(f, "stalled"),
            Self::Unanswered => write!(f, "done and not answered"),
            Self::LostBefore => write!(f, "lost"),
            Self::LostAfter => write!(f, "done and the answer lost"),
            Self::Late(_) => write!(f, "late"),
            Self::Refused(code) => write!(f, "answered {code}"),
            Self::HalfAnswered => write!(f, "half answered"),
        }
    }
}

/// What becomes of a watch that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchFate {
    /// The connection stays, and nothing more comes until faults are lifted.
    Stalled,
    /// The connection breaks.
    Cut,
    /// The connection breaks in the middle of the next event.
    BrokenOff,
    /// An event says that the resourceVersion is too old.
    Expired,
    /// An event says that the API server failed.
    Failed,
}

impl WatchFate {
    pub const ALL: [Self; 5] = [Self::Stalled, Self::Cut, Self::BrokenOff, Self::Expired, Self::Failed];

    /// The event that is slipped in, where there is one.
    pub fn event(self) -> Option<String> {
        let (code, reason, message) = match self {
            Self::Expired => (410, "Expired", "too old resource version (injected)"),
            Self::Failed => (500, "InternalError", "injected"),
            _ => return None,
        };
        let object = status(code, reason, message);
        Some(format!("{}\n", serde_json::json!({"type": "ERROR", "object": object})))
    }
}

impl fmt::Display for WatchFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stalled => "stalled",
            Self::Cut => "cut",
            Self::BrokenOff => "broken off within an event",
            Self::Expired => "told that it is too old",
            Self::Failed => "told of a failure",
        })
    }
}

/// Requests that have a fate in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Verbs; none means all.
    pub verbs: &'static [&'static str],
    /// Resources; none means all.
    pub resources: &'static [&'static str],
    /// Of 100 such requests, how many it hits.
    pub percent: u64,
    pub fate: Fate,
}

impl Rule {
    pub fn is_about(&self, asked: &Asked) -> bool {
        (self.verbs.is_empty() || self.verbs.contains(&asked.verb))
            && (self.resources.is_empty() || self.resources.contains(&asked.resource.as_str()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |list: &[&str]| if list.is_empty() { "all".to_owned() } else { list.join(",") };
        let Self { verbs, resources, percent, fate } = self;
        write!(f, "{percent} % of {} {}: {fate:?}", all(verbs), all(resources))
    }
}

/// A Status, as the API server refuses with one.
pub fn status(code: u16, reason: &str, message: &str) -> serde_json::Value {
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

/// The reason that goes with a code.
pub fn reason(code: u16) -> &'static str {
    match code {
        403 => "Forbidden",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

#[test]
fn requests_are_told_apart_as_the_api_server_does() {
    let asked = |method: &str, uri: &str| {
        let asked = Asked::of(&method.parse().unwrap(), &uri.parse().unwrap());
        format!("{} {} {} {}", asked.verb, asked.resource, asked.name, asked.subresource)
    };
    for (method, uri, wanted) in [
        ("GET", "/api/v1/namespaces", "list namespaces  "),
        ("GET", "/api/v1/namespaces/a", "get namespaces a "),
        ("GET", "/api/v1/services?watch=true&x=1", "watch services  "),
        ("GET", "/api/v1/namespaces/a/secrets?limit=5", "list secrets  "),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b?timeout=1s", "update leases b "),
        ("PATCH", "/apis/networking.k8s.io/v1/namespaces/a/ingresses/b/status", "patch ingresses b status"),
        ("POST", "/api/v1/namespaces/a/configmaps", "create configmaps  "),
        ("DELETE", "/api/v1/namespaces/a/configmaps/b", "delete configmaps b "),
        ("GET", "/version", "list   "),
    ] {
        assert_eq!(asked(method, uri), wanted, "{method} {uri}");
    }
    let rule = Rule { verbs: &["update"], resources: &[], percent: 100, fate: Fate::Stalled };
    assert!(rule.is_about(&Asked { verb: "update", ..Asked::default() }));
    assert!(!rule.is_about(&Asked { verb: "get", ..Asked::default() }));
}
