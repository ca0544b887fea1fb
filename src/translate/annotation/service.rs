//! The annotations of a Service: `service.*`.

use std::collections::BTreeMap;

use super::{Entry, Faults, Switch, any, entries, overridden};
use crate::traefik::dynamic::{Cookie, Sticky};
use crate::translate::problem::{Problem, Subject};

/// All of them.
pub(super) const KNOWN: &[&str] = &[
    "service.serversscheme",
    "service.serverstransport",
    "service.passhostheader",
    "service.middlewares",
    "service.nativelb",
    "service.nodeportlb",
    "service.sticky",
    "service.sticky.cookie",
    "service.sticky.cookie.name",
    "service.sticky.cookie.secure",
    "service.sticky.cookie.httponly",
    "service.sticky.cookie.samesite",
    "service.sticky.cookie.maxage",
    "service.sticky.cookie.domain",
    "service.sticky.cookie.path",
];

/// What a Service's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAnnotations {
    /// `service.serversscheme`, unchecked; empty is none.
    pub servers_scheme: String,
    /// `service.serverstransport`, unchecked; empty is none.
    pub servers_transport: String,
    /// `service.passhostheader`
    pub pass_host_header: Option<bool>,
    /// `service.middlewares`
    pub middlewares: Vec<String>,
    /// `service.nativelb`
    pub native_lb: Option<bool>,
    /// `service.nodeportlb`
    pub node_port_lb: bool,
    /// `service.sticky` and what is below it.
    pub sticky: Option<Sticky>,
    /// How the user spelled `service.middlewares`, behind the prefix.
    pub middlewares_spelling: String,
    /// How the user spelled `service.serverstransport`, behind the prefix.
    pub servers_transport_spelling: String,
}

impl ServiceAnnotations {
    /// Reads them. Faults that cost nothing but themselves go to `minor`.
    ///
    /// # Errors
    /// One problem for each annotation that makes the Service unusable.
    pub fn parse(
        annotations: Option<&BTreeMap<String, String>>,
        subject: &dyn Fn() -> Subject,
        minor: &mut Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let mut parsed = Self::default();
        let Some(annotations) = any(annotations) else {
            return Ok(parsed);
        };
        let entries = entries(annotations, "service");
        if entries.is_empty() {
            return Ok(parsed);
        }
        let mut faults = Faults::new(subject, KNOWN);
        let sticky = Switch::find(&entries, &["service", "sticky"]);
        let cookie = Switch::find(&entries, &["service", "sticky", "cookie"]);
        let cookie_read = sticky != Switch::Off && cookie != Switch::Off;
        if sticky == Switch::On || sticky == Switch::Unset && cookie != Switch::Unset {
            parsed.sticky = Some(Sticky { cookie: (cookie == Switch::On).then(Cookie::default) });
        }
        for (entry, overridden) in entries.iter().zip(overridden(&entries)) {
            let lower = entry.name.to_ascii_lowercase();
            let pieces: Vec<&str> = lower.split('.').collect();
            match pieces.as_slice() {
                ["service", "sticky"] | ["service", "sticky", "cookie"] => {}
                ["service", "sticky", "cookie", key] if is_cookie_key(key) => {
                    if cookie_read {
                        let sticky = parsed.sticky.get_or_insert_default();
                        let cookie = sticky.cookie.get_or_insert_default();
                        if !overridden {
                            read_cookie(cookie, key, entry, &mut faults);
                        }
                    }
                }
                // A list takes one level below it without any effect.
                ["service", "middlewares", below] if !below.is_empty() => {}
                ["service", key] if KNOWN.contains(&lower.as_str()) => {
                    if !overridden {
                        parsed.leaf(key, entry, &mut faults);
                    }
                }
                _ => faults.unknown(entry),
            }
        }
        minor.append(&mut faults.minor);
        if faults.fatal.is_empty() { Ok(parsed) } else { Err(faults.fatal) }
    }

    fn leaf(&mut self, key: &str, entry: &Entry<'_>, faults: &mut Faults<'_>) {
        match key {
            "serversscheme" => entry.value.clone_into(&mut self.servers_scheme),
            "serverstransport" => {
                entry.value.clone_into(&mut self.servers_transport);
                entry.name.clone_into(&mut self.servers_transport_spelling);
            }
            "passhostheader" => self.pass_host_header = faults.boolean(entry),
            "middlewares" => {
                self.middlewares = faults.list(entry);
                entry.name.clone_into(&mut self.middlewares_spelling);
            }
            "nativelb" => self.native_lb = faults.boolean(entry),
            _ => self.node_port_lb = faults.boolean(entry).unwrap_or_default(),
        }
    }
}

fn is_cookie_key(key: &str) -> bool {
    matches!(
        key,
        "name"
            | "secure"
            | "httponly"
            | "samesite"
            | "maxage"
            | "domain"
            | "path"
            | "expires"
            | "preserveleadingdot"
    )
}

fn read_cookie(cookie: &mut Cookie, key: &str, entry: &Entry<'_>, faults: &mut Faults<'_>) {
    match key {
        "name" => entry.value.clone_into(&mut cookie.name),
        "secure" => cookie.secure = faults.boolean(entry).unwrap_or_default(),
        "httponly" => cookie.http_only = faults.boolean(entry).unwrap_or_default(),
        "samesite" => entry.value.clone_into(&mut cookie.same_site),
        "maxage" => cookie.max_age = faults.integer(entry).unwrap_or_default(),
        "domain" => entry.value.clone_into(&mut cookie.domain),
        "path" => entry.value.clone_into(&mut cookie.path),
        // `expires` and `preserveleadingdot` are Traefik's own: known, and without effect.
        _ => {}
    }
}
