//! The annotations of a Service: `service.*`.

use super::{Annotated, Annotation, AnnotationFaults, KnownAnnotation, References, Switch, ValueForm};
use crate::traefik::dynamic::{Cookie, Sticky};
use crate::translate::problem::Category;

/// The settings from a Service's annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAnnotations {
    /// `http`, `https` or `h2c` in any case, as in Traefik; empty means none.
    pub servers_scheme: String,
    /// At most one, unchecked.
    pub servers_transport: References,
    pub pass_host_header: Option<bool>,
    pub middlewares: References,
    pub native_lb: Option<bool>,
    pub node_port_lb: bool,
    pub sticky: Option<Sticky>,
}

impl Annotated for ServiceAnnotations {
    const ROOT: &'static str = "service";
    const KNOWN: &'static [KnownAnnotation] = &[
        ("service.serversscheme", ValueForm::Scheme),
        ("service.serverstransport", ValueForm::Text),
        ("service.passhostheader", ValueForm::Boolean),
        ("service.middlewares", ValueForm::Middlewares),
        ("service.nativelb", ValueForm::Boolean),
        ("service.nodeportlb", ValueForm::Boolean),
        ("service.sticky", ValueForm::Switch),
        ("service.sticky.cookie", ValueForm::Switch),
        ("service.sticky.cookie.name", ValueForm::Text),
        ("service.sticky.cookie.secure", ValueForm::Boolean),
        ("service.sticky.cookie.httponly", ValueForm::Boolean),
        ("service.sticky.cookie.samesite", ValueForm::Text),
        ("service.sticky.cookie.maxage", ValueForm::Integer),
        ("service.sticky.cookie.domain", ValueForm::Text),
        ("service.sticky.cookie.path", ValueForm::Text),
    ];

    fn read(entries: &[Annotation<'_>], faults: &mut AnnotationFaults<'_>) -> Self {
        let mut parsed = Self::default();
        let sticky = faults.switch(entries, "service.sticky");
        let cookie = faults.switch(entries, "service.sticky.cookie");
        let cookie_read = sticky != Switch::Off && cookie != Switch::Off;
        if sticky == Switch::On || sticky == Switch::Unset && cookie != Switch::Unset {
            parsed.sticky = Some(Sticky { cookie: (cookie == Switch::On).then(Cookie::default) });
        }
        for entry in entries {
            match entry.pieces().as_deref() {
                Some(["service", "sticky"] | ["service", "sticky", "cookie"]) => {}
                Some(["service", "sticky", "cookie", key]) if is_cookie_key(key) => {
                    if cookie_read {
                        let sticky = parsed.sticky.get_or_insert_default();
                        let cookie = sticky.cookie.get_or_insert_default();
                        if !entry.overridden {
                            read_cookie(cookie, key, entry, faults);
                        }
                    }
                }
                // A list accepts one level below it without any effect.
                Some(["service", "middlewares", _]) => {}
                Some(["service", key]) if Self::KNOWN.iter().any(|(known, _)| *known == entry.lower) => {
                    if !entry.overridden {
                        parsed.leaf(key, entry, faults);
                    }
                }
                _ => faults.unknown(entry),
            }
        }
        parsed
    }
}

impl ServiceAnnotations {
    fn leaf(&mut self, key: &str, entry: &Annotation<'_>, faults: &mut AnnotationFaults<'_>) {
        match key {
            "serversscheme" => {
                let schemes = ["", "http", "https", "h2c"];
                if !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(entry.value)) {
                    faults.fatal(Category::InvalidAnnotation, entry, ValueForm::Scheme.remedy());
                }
                entry.value.clone_into(&mut self.servers_scheme);
            }
            "serverstransport" => self.servers_transport = References::one(entry),
            "passhostheader" => self.pass_host_header = faults.boolean(entry),
            "middlewares" => {
                let (items, dropped) = faults.items(entry);
                self.middlewares = References::new(items, entry);
                if dropped {
                    // Traefik does not load such a service, and without the item it might be unprotected.
                    faults.fatal(Category::EmptyListItem, entry, ValueForm::Middlewares.remedy());
                }
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

fn read_cookie(cookie: &mut Cookie, key: &str, entry: &Annotation<'_>, faults: &mut AnnotationFaults<'_>) {
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
