//! The annotations of a Service: `service.*`.

use std::collections::BTreeMap;

use super::{Annotation, Faults, Switch, value};
use crate::traefik::dynamic::{Cookie, Sticky};
use crate::translate::problem::{Category, Problem, Problems, Subject};

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
    /// `http`, `https` or `h2c` in any case, which is also how Traefik takes them; empty is none.
    pub servers_scheme: String,
    /// Unchecked; empty is none.
    pub servers_transport: String,
    pub pass_host_header: Option<bool>,
    pub middlewares: Vec<String>,
    pub native_lb: Option<bool>,
    pub node_port_lb: bool,
    pub sticky: Option<Sticky>,
    pub middlewares_spelling: String,
    pub servers_transport_spelling: String,
}

impl ServiceAnnotations {
    /// Reads them. Faults that cost nothing but themselves go to `problems`.
    ///
    /// # Errors
    /// One problem for each annotation that makes the Service unusable.
    pub fn parse(
        annotations: Option<&BTreeMap<String, String>>,
        subject: &dyn Fn() -> Subject,
        problems: &mut Problems,
    ) -> Result<Self, Vec<Problem>> {
        super::parse(annotations, "service", KNOWN, subject, problems, |entries, faults| {
            let mut parsed = Self::default();
            let sticky = faults.switch(entries, &["service", "sticky"]);
            let cookie = faults.switch(entries, &["service", "sticky", "cookie"]);
            let cookie_read = sticky != Switch::Off && cookie != Switch::Off;
            if sticky == Switch::On || sticky == Switch::Unset && cookie != Switch::Unset {
                parsed.sticky = Some(Sticky { cookie: (cookie == Switch::On).then(Cookie::default) });
            }
            for entry in entries {
                let lower = entry.name.to_ascii_lowercase();
                let pieces: Vec<&str> = lower.split('.').collect();
                match pieces.as_slice() {
                    ["service", "sticky"] | ["service", "sticky", "cookie"] => {}
                    ["service", "sticky", "cookie", key] if is_cookie_key(key) => {
                        if cookie_read {
                            let sticky = parsed.sticky.get_or_insert_default();
                            let cookie = sticky.cookie.get_or_insert_default();
                            if !entry.overridden {
                                read_cookie(cookie, key, entry, faults);
                            }
                        }
                    }
                    // A list takes one level below it without any effect.
                    ["service", "middlewares", below] if !below.is_empty() => {}
                    ["service", key] if KNOWN.contains(&lower.as_str()) => {
                        if !entry.overridden {
                            parsed.leaf(key, entry, faults);
                        }
                    }
                    _ => faults.unknown(entry),
                }
            }
            parsed
        })
    }

    fn leaf(&mut self, key: &str, entry: &Annotation<'_>, faults: &mut Faults<'_>) {
        match key {
            "serversscheme" => {
                let schemes = ["", "http", "https", "h2c"];
                if !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(entry.value)) {
                    faults.fatal(Category::InvalidAnnotation, entry, "write http, https or h2c");
                }
                entry.value.clone_into(&mut self.servers_scheme);
            }
            "serverstransport" => {
                entry.value.clone_into(&mut self.servers_transport);
                entry.name.clone_into(&mut self.servers_transport_spelling);
            }
            "passhostheader" => self.pass_host_header = faults.boolean(entry),
            "middlewares" => {
                let (items, dropped) = value::list(entry.value);
                self.middlewares = items;
                if dropped {
                    // Traefik does not load such a service, and without the item it might be open.
                    let remedy = "name the middleware that is missing, or remove the empty item";
                    faults.fatal(Category::EmptyListItem, entry, remedy);
                }
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

fn read_cookie(cookie: &mut Cookie, key: &str, entry: &Annotation<'_>, faults: &mut Faults<'_>) {
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
