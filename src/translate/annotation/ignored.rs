//! Annotations that look as if they affected the routing but do not: those of ingress-nginx and of Traefik 1, and
//! misspelt keys. If one was meant to restrict access, the route is unprotected.

use std::collections::BTreeMap;

use super::{KnownAnnotation, closest, is_below};
use crate::kubernetes::well_known::{self, TRAEFIK_PREFIX};
use crate::translate::problem::{Category, Problem, Problems, Subject};

/// Parts of the names of annotations that restrict access.
pub const RESTRICTING: &[&str] = &[
    "allowlist",
    "auth",
    "block",
    "denylist",
    "entrypoint",
    "limit",
    "middleware",
    "modsecurity",
    "satisfy",
    "snippet",
    "ssl",
    "tls",
    "whitelist",
];

/// The remedy for annotations without effect.
pub const NO_EFFECT: &str = "these annotations have no effect; docs/annotations.md lists the supported ones";

/// The same if some are [`RESTRICTING`].
pub const MAY_BE_OPEN: &str = "these annotations have no effect, and the routes may be open to more clients than they say; \
                               protect them with router.middlewares, see docs/annotations.md";

/// The annotations of an object that have no effect, if `root` is read on it.
pub fn without_effect<'a>(
    annotations: &'a BTreeMap<String, String>,
    root: &str,
) -> impl Iterator<Item = &'a str> {
    annotations.keys().map(String::as_str).filter(move |key| match key.strip_prefix(TRAEFIK_PREFIX) {
        Some(name) => !is_below(name, root) && !name.eq_ignore_ascii_case(root),
        None => well_known::is_foreign(key),
    })
}

/// Reports the annotations without effect as one problem, starting with those that restrict access.
pub(super) fn report(
    annotations: &BTreeMap<String, String>,
    root: &str,
    known: &[KnownAnnotation],
    subject: &dyn Fn() -> Subject,
    problems: &mut Problems,
) {
    let is_restricting = |key: &&str| {
        let name = key.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        RESTRICTING.iter().any(|part| name.contains(part))
    };
    let ignored = without_effect(annotations, root);
    let (restricting, others): (Vec<&str>, Vec<&str>) = ignored.partition(is_restricting);
    let Some(first) = restricting.first().or(others.first()) else { return };
    let name = first.rsplit('/').next().unwrap_or_default();
    let hint = match closest(known, &name.to_ascii_lowercase()) {
        Some(known) => format!("; the closest to {name} is {TRAEFIK_PREFIX}{known}"),
        None => String::new(),
    };
    let remedy = if restricting.is_empty() { NO_EFFECT } else { MAY_BE_OPEN };
    let shown: Vec<&str> = restricting.into_iter().chain(others).take(20).collect();
    problems.add(|| Problem {
        category: Category::IgnoredAnnotation,
        subject: subject(),
        field: "metadata.annotations".to_owned(),
        value: Problem::shown(&shown.join(", ")),
        remedy: format!("{remedy}{hint}"),
    });
}
