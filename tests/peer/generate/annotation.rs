//! Every annotation, with values that are right and values that are not.

use serde_json::{Map, Value};

use super::Maker;

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// A key, its good values, its bad or odd ones. `$` stands for the object's namespace, `^` for another one.
type Entry = (&'static str, &'static [&'static str], &'static [&'static str]);

const BOOLS: &[&str] = &["true", "false", "1", "0", "T", "F", "True", "FALSE"];
const NOT_BOOLS: &[&str] = &["", "yes", "tRUE", " true", "2", "on"];
const SWITCHES: &[&str] = &["true", "", "TRUE", "tRuE"];
const OFF: &[&str] = &["false", "no", "1", "yes", " true"];
const TEXTS: &[&str] =
    &["le", "a-b", "{{ env \"HOME\" }}", "`tick`", "\"quoted\"", "back\\slash", "100%s", "naïve 漢字 😀"];
const ODD_TEXTS: &[&str] = &["", " ", "line\nfeed", "nul-like \u{1}\u{7f}", "\u{200b}\u{feff}", "a,b"];
const REFERENCES: &[&str] = &[
    "auth@file",
    "$-auth@kubernetescrd",
    "plain",
    "$-a@kubernetescrd, b@file ",
    "$_auth@kubernetescrd",
    "{{x}}@file",
    "'`\"%@file",
];
const ODD_REFERENCES: &[&str] = &[
    "",
    "a@file║$-b@kubernetescrd",
    ",",
    "a,,b",
    " , ",
    "^-auth@kubernetescrd",
    "elsewhere-auth@kubernetescrd",
    "$@kubernetescrd",
    "$-eu-auth@kubernetescrd",
    "$-eu_auth@kubernetescrd",
    "^_auth@kubernetescrd",
    "$_$-eu_a@kubernetescrd",
    "a@file,^-b@kubernetescrd",
    "X@KubernetesCRD",
    "@kubernetescrd",
];

const ROUTER: &[Entry] = &[
    (
        "router.entrypoints",
        &["web", "web,websecure", " web , websecure ", "ü"],
        &["", ",", "web,,x", " ", "web,"],
    ),
    ("router.middlewares", REFERENCES, ODD_REFERENCES),
    (
        "router.priority",
        &["10", "0", "-5", "+7", "007", "2147483648", "-0"],
        &["", " 1", "1_0", "0x10", "9223372036854775807", "9223372036854775808", "1.0", "ten", "+", "-", "٣"],
    ),
    ("router.rulesyntax", &["v2", "v3", "default"], &["", "V2", "bogus", "{{x}}"]),
    ("router.pathmatcher", &["Path", "PathPrefix", "PathRegexp"], &["", "path", "Host", " Path"]),
    ("router.tls", SWITCHES, OFF),
    ("router.tls.certresolver", TEXTS, ODD_TEXTS),
    ("router.tls.domains.0.main", &["example.com", "*.example.com"], &["", "ü"]),
    ("router.tls.domains.0.sans", &["a.example.com,b.example.com"], &["", "a,,b", ","]),
    ("router.tls.domains.1.main", &["second.example.com"], &[""]),
    ("router.tls.domains.10.main", &["tenth.example.com"], &[""]),
    ("router.tls.domains.x.sans", &["x.example.com"], &[" "]),
    ("router.tls.domains", &["true"], &["", "false", "x"]),
    ("router.tls.domains.2", &["true"], &["", "x"]),
    ("router.tls.options", &["opt@file", "$-opt@kubernetescrd", "default"], ODD_REFERENCES),
    ("router.tls.resolvedoptions", &["x"], &[""]),
    ("router.observability", SWITCHES, OFF),
    ("router.observability.accesslogs", BOOLS, NOT_BOOLS),
    ("router.observability.metrics", BOOLS, NOT_BOOLS),
    ("router.observability.tracing", BOOLS, NOT_BOOLS),
    ("router.observability.traceverbosity", &["minimal", "detailed"], &["", "Detailed", "bogus"]),
    ("router.observability.metadata", &["true"], &["", "false"]),
    ("router.observability.metadata.ingress.namespace", &["x"], &[""]),
    ("router", &["true"], &["", "false", "x"]),
    ("Router.Priority", &["11"], &["eleven"]),
    ("router.ENTRYPOINTS", &["loud"], &[",loud"]),
    ("router.tls.Options", &["loud@file"], &["^-loud@kubernetescrd"]),
    ("service.sticky.cookie", &["true"], &["false"]),
    ("other", &["x"], &[""]),
];

const SERVICE: &[Entry] = &[
    ("service.serversscheme", &["http", "https", "h2c"], &["", "HTTPS", "{{x}}", "ftp"]),
    ("service.serverstransport", REFERENCES, ODD_REFERENCES),
    ("service.passhostheader", BOOLS, NOT_BOOLS),
    ("service.middlewares", REFERENCES, ODD_REFERENCES),
    ("service.nativelb", BOOLS, NOT_BOOLS),
    ("service.nodeportlb", BOOLS, NOT_BOOLS),
    ("service.sticky", SWITCHES, OFF),
    ("service.sticky.cookie", SWITCHES, OFF),
    ("service.sticky.cookie.name", TEXTS, ODD_TEXTS),
    ("service.sticky.cookie.secure", BOOLS, NOT_BOOLS),
    ("service.sticky.cookie.httponly", BOOLS, NOT_BOOLS),
    ("service.sticky.cookie.samesite", &["lax", "strict", "none"], &["", "Lax", "bogus"]),
    ("service.sticky.cookie.maxage", &["0", "60", "-1", "+5"], &["", "1h", "9223372036854775808"]),
    ("service.sticky.cookie.domain", &["example.com", ".example.com"], &["", " "]),
    ("service.sticky.cookie.path", &["/", "/app"], &["", "no-slash", "{{x}}"]),
    ("service.sticky.cookie.expires", &["60"], &["", "x"]),
    ("service", &["true"], &["", "false", "x"]),
    ("Service.NativeLB", &["true"], &["maybe"]),
    ("service.STICKY.cookie.Name", &["loud"], &[""]),
    ("router.priority", &["3"], &["three"]),
];

/// Keys that nobody knows. One makes the object unusable.
const UNKNOWN_ROUTER: &[&str] = &[
    "router.unknown",
    "router.tls.unknown",
    "router.priority.x",
    "router.tls.domains.0.unknown",
    "router.middlewares.x",
    "router.observability.metadata.unknown",
    "router..tls",
    "router.tls.domains.0.main.x",
];
const UNKNOWN_SERVICE: &[&str] = &[
    "service.unknown",
    "service.sticky.unknown",
    "service.sticky.cookie.unknown",
    "service.middlewares.x",
    "service.passhostheader.x",
    "service.nativelb.",
];

impl Maker<'_> {
    pub(super) fn ingress_annotations(&mut self, namespace: &str) -> Map<String, Value> {
        self.annotations(namespace, ROUTER, UNKNOWN_ROUTER, 60)
    }

    pub(super) fn service_annotations(&mut self, namespace: &str) -> Map<String, Value> {
        self.annotations(namespace, SERVICE, UNKNOWN_SERVICE, 40)
    }

    fn annotations(
        &mut self,
        namespace: &str,
        known: &[Entry],
        unknown: &[&str],
        any: u64,
    ) -> Map<String, Value> {
        let mut annotations = Map::new();
        if !self.random.chance(any) {
            return annotations;
        }
        let count = self.random.between(1, 5);
        for (key, good, bad) in self.random.some(known, count) {
            let value =
                if self.random.chance(self.faults) { self.random.pick(bad) } else { self.random.pick(good) };
            let other = self.random.pick(self.namespaces).clone();
            let value = value.replace('$', namespace).replace('^', &other);
            annotations.insert(format!("{PREFIX}{key}"), value.into());
        }
        if self.random.chance(self.faults / 2) {
            annotations.insert(format!("{PREFIX}{}", self.random.pick(unknown)), "x".into());
        }
        if self.random.chance(5) {
            annotations.insert("traefik.kubernetes.io/router.priority".to_owned(), "not ours".into());
        }
        annotations
    }
}

#[cfg(test)]
mod tests {
    use waybill::translate::annotation::known;

    use super::*;

    #[test]
    fn every_annotation_is_tried() {
        let tried: Vec<&str> = ROUTER.iter().chain(SERVICE).map(|entry| entry.0).collect();
        for (key, _) in known() {
            assert!(tried.contains(&key), "{key} is never tried");
        }
    }
}
