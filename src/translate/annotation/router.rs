//! The annotations of an Ingress: `router.*`.

use std::collections::HashMap;

use super::{
    Annotated, Annotation, AnnotationFaults, KnownAnnotation, References, Switch, ValueForm, field, is_index,
    value,
};
use crate::traefik::dynamic::{Domain, Observability, RouterTls};
use crate::translate::problem::Category;

/// The settings from an Ingress's annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterAnnotations {
    /// Nothing may be served, because a list lacks an item that may restrict access.
    pub blocked: bool,
    pub entry_points: Vec<String>,
    pub middlewares: References,
    /// `router.priority`; 0 means none.
    pub priority: i64,
    /// `router.rulesyntax`, unchecked.
    pub rule_syntax: String,
    /// `router.pathmatcher`, unchecked: a bad one concerns only the paths that would use it.
    pub path_matcher: String,
    /// The key of `path_matcher` after the prefix, as the user wrote it.
    path_matcher_spelling: String,
    pub tls: Option<RouterTls>,
    /// `router.tls.options`, which is also in `tls`.
    pub tls_options: References,
    pub observability: Option<Observability>,
}

impl Annotated for RouterAnnotations {
    const ROOT: &'static str = "router";
    const KNOWN: &'static [KnownAnnotation] = &[
        ("router.entrypoints", ValueForm::EntryPoints),
        ("router.middlewares", ValueForm::Middlewares),
        ("router.priority", ValueForm::Integer),
        ("router.rulesyntax", ValueForm::Text),
        ("router.pathmatcher", ValueForm::PathMatcher),
        ("router.tls", ValueForm::Switch),
        ("router.tls.certresolver", ValueForm::Text),
        ("router.tls.domains.0.main", ValueForm::Text),
        ("router.tls.domains.0.sans", ValueForm::List),
        ("router.tls.options", ValueForm::Text),
        ("router.observability", ValueForm::Switch),
        ("router.observability.accesslogs", ValueForm::Boolean),
        ("router.observability.metrics", ValueForm::Boolean),
        ("router.observability.tracing", ValueForm::Boolean),
        ("router.observability.traceverbosity", ValueForm::Text),
    ];

    fn read(entries: &[Annotation<'_>], faults: &mut AnnotationFaults<'_>) -> Self {
        let tls = faults.switch(entries, "router.tls");
        let observability = faults.switch(entries, "router.observability");
        let mut reader =
            RouterReader { parsed: Self::default(), faults, tls, observability, domains: Domains::default() };
        if tls == Switch::On {
            reader.tls();
        }
        if observability == Switch::On {
            reader.observability();
        }
        for entry in entries {
            reader.entry(entry);
        }
        let RouterReader { mut parsed, domains, .. } = reader;
        if let Some(tls) = &mut parsed.tls {
            tls.domains = domains.list;
        }
        if let Some(observability) = &mut parsed.observability {
            observability.trace_verbosity.get_or_insert_with(|| "minimal".to_owned());
        }
        parsed
    }
}

impl RouterAnnotations {
    /// Path of the annotation `router.pathmatcher`, for problems.
    pub fn path_matcher_field(&self) -> String {
        field(&self.path_matcher_spelling)
    }
}

struct RouterReader<'r, 'f> {
    parsed: RouterAnnotations,
    faults: &'r mut AnnotationFaults<'f>,
    tls: Switch,
    observability: Switch,
    domains: Domains,
}

/// Domains in the order in which their labels first occur.
#[derive(Default)]
struct Domains {
    list: Vec<Domain>,
    by_label: HashMap<String, usize>,
}

impl RouterReader<'_, '_> {
    fn tls(&mut self) -> &mut RouterTls {
        self.parsed.tls.get_or_insert_default()
    }

    fn observability(&mut self) -> &mut Observability {
        self.parsed.observability.get_or_insert_default()
    }

    fn entry(&mut self, entry: &Annotation<'_>) {
        let Some(pieces) = entry.pieces() else { return self.faults.unknown(entry) };
        match pieces.as_slice() {
            ["router", "tls" | "observability"] => {}
            ["router", "tls", rest @ ..] => self.below_tls(rest, entry),
            ["router", "observability", rest @ ..] => self.below_observability(rest, entry),
            // A list accepts one level below it without any effect.
            ["router", "entrypoints" | "middlewares", _] => {}
            ["router", key] if RouterAnnotations::KNOWN.iter().any(|(known, _)| *known == entry.lower) => {
                if !entry.overridden {
                    self.leaf(key, entry);
                }
            }
            _ => self.faults.unknown(entry),
        }
    }

    fn leaf(&mut self, key: &str, entry: &Annotation<'_>) {
        match key {
            "entrypoints" => {
                let (items, dropped) = value::list(entry.value);
                if items.is_empty() && dropped {
                    self.block(entry, ValueForm::EntryPoints);
                } else {
                    self.parsed.entry_points = self.faults.list(entry);
                }
            }
            "middlewares" => {
                let (items, dropped) = self.faults.items(entry);
                self.parsed.middlewares = References::new(items, entry);
                if dropped {
                    self.block(entry, ValueForm::Middlewares);
                }
            }
            "priority" => self.parsed.priority = self.faults.integer(entry).unwrap_or_default(),
            "rulesyntax" => entry.value.clone_into(&mut self.parsed.rule_syntax),
            _ => {
                entry.value.clone_into(&mut self.parsed.path_matcher);
                entry.name.clone_into(&mut self.parsed.path_matcher_spelling);
            }
        }
    }

    /// A list has an empty item, and Traefik does not load such a router. Without the item, the routers could be
    /// reachable without the check or at the entry point that it stands for.
    fn block(&mut self, entry: &Annotation<'_>, form: ValueForm) {
        self.parsed.blocked = true;
        let remedy = format!("{}. Until then the paths of this Ingress count as broken", form.remedy());
        self.faults.minor(Category::EmptyListItem, entry, &remedy);
    }

    fn below_tls(&mut self, rest: &[&str], entry: &Annotation<'_>) {
        let read = self.tls != Switch::Off && !entry.overridden;
        match rest {
            ["options"] if read => {
                entry.value.clone_into(&mut self.tls().options);
                self.parsed.tls_options = References::one(entry);
            }
            ["certresolver"] if read => entry.value.clone_into(&mut self.tls().cert_resolver),
            ["resolvedoptions" | "domains"] if read => {
                self.tls();
            }
            ["domains", label] if read => {
                self.domain(label);
            }
            ["domains", label, key @ ("main" | "sans")] if read => {
                let label = if is_index(label) { format!("[{label}]") } else { (*label).to_owned() };
                let items = if *key == "sans" { self.faults.list(entry) } else { Vec::new() };
                let domain = self.domain(&label);
                if *key == "sans" {
                    domain.sans = items;
                } else {
                    entry.value.clone_into(&mut domain.main);
                }
            }
            ["domains", label, "sans", _] if read => {
                let label = if is_index(label) { format!("[{label}]") } else { (*label).to_owned() };
                self.domain(&label);
            }
            ["options" | "certresolver" | "resolvedoptions" | "domains"]
            | ["domains", _]
            | ["domains", _, "main" | "sans"]
            | ["domains", _, "sans", _] => {}
            _ => self.faults.unknown(entry),
        }
    }

    fn domain(&mut self, label: &str) -> &mut Domain {
        self.tls();
        let Domains { list, by_label } = &mut self.domains;
        let position = *by_label.entry(label.to_owned()).or_insert(list.len());
        if position == list.len() {
            list.push(Domain::default());
        }
        &mut list[position]
    }

    fn below_observability(&mut self, rest: &[&str], entry: &Annotation<'_>) {
        let read = self.observability != Switch::Off && !entry.overridden;
        match rest {
            [key @ ("accesslogs" | "metrics" | "tracing")] => {
                if read {
                    let value = self.faults.boolean(entry);
                    let observability = self.observability();
                    match *key {
                        "accesslogs" => observability.access_logs = value,
                        "metrics" => observability.metrics = value,
                        _ => observability.tracing = value,
                    }
                }
            }
            ["traceverbosity"] => {
                if read {
                    self.observability().trace_verbosity = Some(entry.value.to_owned());
                }
            }
            // Traefik's internal keys: known, turn observability on, and have no other effect.
            ["metadata"]
            | ["metadata", "ingress"]
            | ["metadata", "ingress", "namespace" | "ingressname" | "servicename" | "serviceport"] => {
                if read {
                    self.observability();
                }
            }
            _ => self.faults.unknown(entry),
        }
    }
}
