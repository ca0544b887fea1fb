//! Formats an explanation as text.

use std::fmt::Write as _;

use super::explain::{ExplainedService, Explanation, RouteCandidate, RouteVerdict};
use super::tls_options::NamedOptions;
use crate::redact::printable;

/// The number of candidates that are printed by default.
pub const CANDIDATES_SHOWN: usize = 10;

/// Several explanations, with at most `limit` candidates each.
pub fn text(explanations: &[Explanation], limit: usize, colourful: bool) -> String {
    let paint = Paint { colourful };
    let mut out = String::new();
    for (at, one) in explanations.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if explanations.len() > 1 {
            line(&mut out, 0, "output", &one.output);
        }
        explanation(&mut out, one, limit, paint);
    }
    out
}

/// Colours, if they are enabled.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub colourful: bool,
}

impl Paint {
    /// A text in the colour of an ANSI code.
    pub fn with(self, code: &str, text: &str) -> String {
        if self.colourful { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A tenant's text within a line of ours, which it can neither end nor turn around.
pub(super) fn shown(text: &str) -> String {
    printable(text).into_owned()
}

/// `1 route`, `2 routes`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn line(out: &mut String, indent: usize, name: &str, value: &str) {
    let _ = writeln!(out, "{:indent$}{name:<13}{}", "", shown(value));
}

fn explanation(out: &mut String, one: &Explanation, limit: usize, paint: Paint) {
    let request = shown(&format!("{} {}", one.method, one.url));
    let _ = writeln!(out, "{}", paint.with("1", &request));
    if let Some(path) = &one.routed_path {
        let _ = writeln!(out, "Traefik compares rules with the path {path:?}.");
    }
    out.push('\n');
    let unknown = |least: i64| {
        let mut all = one.candidates.iter().take_while(|candidate| candidate.priority >= least);
        all.any(|candidate| candidate.verdict == RouteVerdict::Unknown)
    };
    match one.candidates.iter().find(|candidate| candidate.verdict == RouteVerdict::Serves) {
        Some(winner) => {
            let unless = if unknown(winner.priority) {
                ", unless one does whose rule cannot be evaluated here"
            } else {
                ""
            };
            let text = format!("Router {} serves it{unless}.", winner.router);
            let _ = writeln!(out, "{}", paint.with("1;32", &text));
            served(out, winner);
        }
        None if unknown(i64::MIN) => {
            let text =
                "No router is known to serve it, but the rule of one or more cannot be evaluated here.";
            let _ = writeln!(out, "{}", paint.with("1;33", text));
        }
        None => {
            let _ = writeln!(out, "{}", paint.with("1;31", "No router serves it: Traefik answers 404."));
            if !one.similar_hosts.is_empty() {
                let _ = writeln!(out, "Similar hosts: {}", shown(&one.similar_hosts.join(", ")));
            }
        }
    }
    if let Some(certificate) = &one.certificate {
        let text = match certificate.from.as_str() {
            "" => "none covers the host: Traefik's default certificate, or one of a certificate resolver"
                .to_owned(),
            from => format!("{from}: {}; until {}", certificate.names.join(", "), certificate.not_after),
        };
        line(out, 2, "certificate", &text);
    }
    if one.candidates.is_empty() {
        out.push_str("\nNo router is for this host.\n");
    } else {
        out.push_str("\nIn the order in which Traefik tries them:\n");
    }
    // The one that serves is always shown.
    let is_shown = |at: usize, one: &RouteCandidate| at < limit || one.verdict == RouteVerdict::Serves;
    for (at, one) in one.candidates.iter().enumerate().filter(|(at, one)| is_shown(*at, one)) {
        candidate(out, at + 1, one, paint);
    }
    let left = one.candidates.iter().enumerate().filter(|(at, one)| !is_shown(*at, one)).count();
    if left > 0 {
        let _ = writeln!(out, "  … and {left} more (--all)");
    }
    if !one.problems.is_empty() {
        out.push_str("\nProblems of Ingresses for this host:\n");
        one.problems.iter().for_each(|problem| {
            let _ = writeln!(out, "  {}", shown(problem));
        });
    }
}

fn served(out: &mut String, winner: &RouteCandidate) {
    let field = if winner.field.is_empty() { String::new() } else { format!(", {}", winner.field) };
    line(out, 2, "from", &format!("{}{field}", winner.from));
    line(out, 2, "rule", &winner.rule);
    if !winner.rule_syntax.is_empty() {
        line(out, 2, "rule syntax", &winner.rule_syntax);
    }
    let how = if winner.default_priority { " (the length of the rule)" } else { " (set)" };
    line(out, 2, "priority", &format!("{}{how}", winner.priority));
    let entry_points = match winner.entry_points.as_slice() {
        [] => "Traefik's defaults".to_owned(),
        names => names.join(", "),
    };
    line(out, 2, "entry points", &entry_points);
    let tls = match &winner.tls_options {
        Some(NamedOptions { name, lost: Some(why) }) => format!("on; {name} does not apply: {why}"),
        Some(NamedOptions { name, lost: None }) => format!("on, options {name}"),
        None if winner.tls => "on".to_owned(),
        None => "only where the entry point itself has TLS".to_owned(),
    };
    line(out, 2, "TLS", &tls);
    if !winner.middlewares.is_empty() {
        line(out, 2, "middlewares", &winner.middlewares.join(" → "));
    }
    service(out, &winner.service);
}

fn service(out: &mut String, service: &ExplainedService) {
    let from = if service.from.is_empty() { String::new() } else { format!(" ({})", service.from) };
    line(out, 2, "service", &format!("{}{from}", service.name));
    let Some(content) = &service.content else { return };
    if !content.middlewares.is_empty() {
        line(out, 4, "middlewares", &content.middlewares.join(" → "));
    }
    if content.endpoints.is_empty() {
        line(out, 4, "endpoints", "none: Traefik answers 503");
    }
    for endpoint in &content.endpoints {
        line(out, 4, "endpoint", &format!("{}  {}", endpoint.address, endpoint.state));
    }
}

fn candidate(out: &mut String, number: usize, one: &RouteCandidate, paint: Paint) {
    let verdict = match one.verdict {
        RouteVerdict::Serves => paint.with("32", "serves it"),
        RouteVerdict::Tied => paint.with("33", "matches as well"),
        RouteVerdict::Later => "comes later".to_owned(),
        RouteVerdict::Misses => "does not match".to_owned(),
        RouteVerdict::Unknown => paint.with("33", "cannot be evaluated here"),
    };
    let _ = writeln!(
        out,
        "{number:>3}. {}  {verdict}\n     {}  (priority {}, {})",
        shown(&one.router),
        shown(&one.rule),
        one.priority,
        shown(&one.from)
    );
    for because in &one.because {
        let _ = writeln!(out, "     - {}", shown(because));
    }
    if !one.to_win.is_empty() {
        let _ = writeln!(out, "     to win: {}", shown(&one.to_win.join("; and ")));
    }
}
