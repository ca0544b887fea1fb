//! Formats a comparison as text.

use std::fmt::Write as _;

use super::certificate_difference::CertificateDifference;
use super::diff::{RouteChange, RouteDifference, RoutingDiff};
use super::explained::{Paint, shown};

/// All differences, lost ones first, and a line that counts them.
pub fn text(diff: &RoutingDiff, colourful: bool) -> String {
    let paint = Paint { colourful };
    let mut out = String::new();
    for one in &diff.differences {
        difference(&mut out, one, paint);
    }
    for CertificateDifference { secrets, text, deliberate } in &diff.certificates {
        let word = paint.with("33", "certificate");
        let _ = writeln!(out, "{word}  Secret {}\n         {text}", shown(&secrets.join(", ")));
        let _ = writeln!(out, "         deliberate (docs/migration.md): {deliberate}");
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let RoutingDiff { lost, gained, changed, unchanged, deliberate, .. } = diff;
    let deliberate = deliberate + diff.certificates.len();
    let _ = write!(out, "{lost} lost, {gained} gained, {changed} changed, {unchanged} unchanged");
    match diff.certificates.len() {
        0 => {}
        1 => out.push_str("; 1 certificate"),
        many => drop(write!(out, "; {many} certificates")),
    }
    if deliberate > 0 {
        let _ = write!(out, "; {deliberate} of them deliberate");
    }
    out.push('\n');
    out
}

fn difference(out: &mut String, one: &RouteDifference, paint: Paint) {
    let word = match one.change {
        RouteChange::Lost => paint.with("31", "lost   "),
        RouteChange::Gained => paint.with("32", "gained "),
        RouteChange::Changed => paint.with("33", "changed"),
    };
    let on = match &*one.entry_points {
        [] => String::new(),
        names => format!(" on {}", names.join(", ")),
    };
    let tls = if one.tls { " with TLS" } else { "" };
    let _ = writeln!(out, "{word}  {}", shown(&format!("{}{on}{tls}", one.route)));
    let output = if one.output.is_empty() { String::new() } else { format!("output {}, ", one.output) };
    let from = one.from.as_ref().map_or_else(String::new, |from| format!("{from} → "));
    let _ = writeln!(out, "         {}", shown(&format!("{output}{from}{}", one.backend)));
    for field in &one.fields {
        let line = format!("{}: {} → {}", field.field, field.before, field.after);
        let _ = writeln!(out, "         - {}", shown(&line));
    }
    if let Some(subject) = one.deliberate {
        let _ = writeln!(out, "         deliberate (docs/migration.md): {subject}");
    }
}
