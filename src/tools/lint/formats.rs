//! Prints findings as text, JSON, SARIF 2.1.0 and annotations of GitHub Actions.
//!
//! Sources: <https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning>,
//! <https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions>.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::LintFinding;
use super::codes::{CODES, Severity, sentence};
use crate::table::Digest;
use crate::tools::explained::{Paint, counted, shown};

/// The maximum number of results that GitHub accepts for one run.
const SARIF_LIMIT: usize = 25_000;

/// The content to print.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LintReport {
    /// Sorted by file and line.
    pub findings: Vec<LintFinding>,
    pub errors: usize,
    pub warnings: usize,
    pub notes: usize,
    pub silenced: usize,
    /// Checked Ingresses.
    pub ingresses: usize,
    /// Ingresses of other classes, which were not checked.
    pub of_other_classes: usize,
}

impl LintReport {
    /// As text for people.
    pub fn text(&self, colourful: bool) -> String {
        let paint = Paint { colourful };
        let mut out = String::new();
        for one in &self.findings {
            let colour = match one.severity {
                Severity::Error => "1;31",
                Severity::Warning => "33",
                Severity::Note => "36",
            };
            let place = match (&one.file, one.line) {
                (Some(file), Some(line)) => format!("{file}:{line}: "),
                (Some(file), None) => format!("{file}: "),
                (None, _) => String::new(),
            };
            let field = if one.field.is_empty() { String::new() } else { format!(", {}", one.field) };
            let label = paint.with(colour, &format!("{} {}", one.severity.as_str(), one.code));
            let _ = writeln!(out, "{}{label}: {}", shown(&place), shown(&one.text));
            if !one.object.is_empty() || !field.is_empty() {
                let _ =
                    writeln!(out, "    {}", shown(format!("{}{field}", one.object).trim_start_matches(", ")));
            }
            let _ = writeln!(out, "    remedy: {}", shown(&one.remedy));
        }
        if !self.findings.is_empty() {
            out.push('\n');
        }
        let notes = self.findings.iter().filter(|one| one.severity == Severity::Note).count();
        let hidden = if notes < self.notes { " (shown with --severity note)" } else { "" };
        let _ = write!(
            out,
            "{}, {}, {}{hidden} in {}",
            counted(self.errors, "error"),
            counted(self.warnings, "warning"),
            counted(self.notes, "note"),
            if self.ingresses == 1 {
                "1 Ingress".to_owned()
            } else {
                format!("{} Ingresses", self.ingresses)
            }
        );
        if self.of_other_classes > 0 {
            let _ = write!(out, "; {} of other classes not checked", self.of_other_classes);
        }
        if self.silenced > 0 {
            let _ = write!(out, "; {} silenced", self.silenced);
        }
        out.push('\n');
        out
    }

    /// As SARIF. Results beyond GitHub's limit are left out, notes first.
    pub fn sarif(&self) -> Value {
        let rules: Vec<Value> = CODES
            .iter()
            .map(|one| {
                json!({
                    "id": one.code,
                    "name": one.code,
                    "shortDescription": {"text": sentence(one.meaning)},
                    "fullDescription": {"text": sentence(one.meaning)},
                    "help": {
                        "text": format!("{}. Remedy: {}.", sentence(one.meaning), one.remedy),
                        "markdown": format!(
                            "{}.\n\n```yaml\n{}\n```\n\nRemedy: {}.", sentence(one.meaning), one.example, one.remedy
                        ),
                    },
                    "defaultConfiguration": {"level": one.severity.as_str()},
                    "properties": {"tags": ["kubernetes", "ingress"], "precision": "high"},
                })
            })
            .collect();
        let mut worst: Vec<&LintFinding> = self.findings.iter().collect();
        worst.sort_by_key(|one| one.severity);
        let results: Vec<Value> = worst.into_iter().take(SARIF_LIMIT).map(result).collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "waybill",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                }},
                "results": results,
            }],
        })
    }

    /// As annotations of GitHub Actions, one line each.
    pub fn github(&self) -> String {
        let mut out = String::new();
        for one in &self.findings {
            let command = match one.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "notice",
            };
            let file = one.file.as_ref().map_or_else(String::new, |file| format!("file={},", property(file)));
            let line = one.line.map_or_else(String::new, |line| format!("line={line},"));
            let _ = writeln!(
                out,
                "::{command} {file}{line}title={}::{}",
                property(one.code),
                data(&shown(&message(one)))
            );
        }
        out
    }
}

/// A finding in one text.
fn message(one: &LintFinding) -> String {
    let field = if one.field.is_empty() { String::new() } else { format!(", {}", one.field) };
    let object = if one.object.is_empty() { String::new() } else { format!("{}{field}: ", one.object) };
    format!("{object}{}. Remedy: {}.", one.text, one.remedy)
}

fn result(one: &LintFinding) -> Value {
    // GitHub requires a position; objects of a cluster have none in a file.
    let file = one.file.clone().unwrap_or_else(|| format!("cluster/{}", one.object.replace(' ', "/")));
    let index = CODES.iter().position(|code| code.code == one.code).unwrap_or_default();
    // It stays the same when lines move.
    let fingerprint =
        Digest::new(&format!("{}\n{}\n{}\n{}", one.code, one.object, one.field, file)).short().to_string();
    json!({
        "ruleId": one.code,
        "ruleIndex": index,
        "level": one.severity.as_str(),
        "message": {"text": message(one)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&file), "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": one.line.unwrap_or(1)},
            },
            "logicalLocations": [{"fullyQualifiedName": one.object}],
        }],
        "partialFingerprints": {"primaryLocationLineHash": fingerprint},
    })
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
