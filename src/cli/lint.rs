//! `waybill lint`: reports mistakes in manifests or in a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use k8s_openapi::api::networking::v1::IngressClassSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::input::{Input, SOURCE};
use super::progress::Progress;
use super::{CommandError, CommandResult, PROBLEMS, SUCCESS, Streams, USAGE, json};
use crate::kubernetes::IngressClass;
use crate::kubernetes::client::Environment;
use crate::kubernetes::manifests::Manifests;
use crate::offline;
use crate::options::Loaded;
use crate::redact::hide_keys_in_lines;
use crate::tools::lint::formats::LintReport;
use crate::tools::lint::{self, LintFinding, LintInput, LintSettings, Severity, Silence, codes};
use crate::translate::settings::ClassOptions;

/// The file that silences codes in a repository.
const IGNORE_FILE: &str = ".waybill-lint.yaml";

/// The arguments of `lint`.
#[derive(Debug, Args)]
pub struct LintArguments {
    #[command(flatten)]
    input: Input,

    /// Explain every code with an example, without reading any input
    #[arg(long, exclusive = true, group = SOURCE)]
    list: bool,

    /// Do not report this code; repeatable
    #[arg(
        long, value_name = "CODE", value_delimiter = ',', hide_possible_values = true,
        value_parser = PossibleValuesParser::new(codes::names())
    )]
    ignore: Vec<String>,

    /// The file that lists ignored codes; by default .waybill-lint.yaml in the working directory, or in a folder above
    /// it in the same repository
    #[arg(long, value_name = "PATH")]
    ignore_file: Option<PathBuf>,

    /// Report certificates that expire within this number of days
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(0..=36_500))]
    expires_within: i64,

    /// The lowest severity that is printed
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = Least::Warning)]
    severity: Least,

    /// The lowest severity for which the exit code is 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOnSeverity::Warning)]
    fail_on: FailOnSeverity,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = LintFormat::Text)]
    format: LintFormat,
}

/// The lowest severity to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Least {
    Error,
    Warning,
    Note,
}

impl From<Least> for Severity {
    fn from(least: Least) -> Self {
        match least {
            Least::Error => Self::Error,
            Least::Warning => Self::Warning,
            Least::Note => Self::Note,
        }
    }
}

/// The lowest severity for exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOnSeverity {
    Error,
    Warning,
    Note,
    Never,
}

impl FailOnSeverity {
    fn least(self) -> Option<Severity> {
        match self {
            Self::Error => Some(Severity::Error),
            Self::Warning => Some(Severity::Warning),
            Self::Note => Some(Severity::Note),
            Self::Never => None,
        }
    }
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LintFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
}

/// A file that silences codes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoreFile {
    #[serde(default)]
    ignore: Vec<IgnoreEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoreEntry {
    code: String,
    object: Option<String>,
    /// For people who read the file.
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

impl LintArguments {
    /// Reads, checks, prints; returns the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        if self.list {
            return streams.print(&codes::list());
        }
        let silence = self.silence()?;
        let (mut manifests, texts) = self.input.read_to_lint(loaded, environment, streams)?;
        let progress = Progress::new("linting");
        let unreadable = !manifests.faults.is_empty();
        let options = self.input.options(&manifests, loaded);
        if !self.input.is_cluster() {
            assume_classes(&mut manifests, &options.class, streams);
        }
        let input = LintInput::take(&mut manifests, texts);
        let routing = offline::routing(manifests, &options);
        let now = jiff::Timestamp::now().as_second();
        let settings = LintSettings { classes: &options.class, now, expires_within: self.expires_within };
        let found = lint::lint(&routing, &input, settings);
        let (silenced, found): (Vec<LintFinding>, Vec<LintFinding>) =
            found.into_iter().partition(|finding| silence.covers(finding, &input));
        let fails = self.fail_on.least().is_some_and(|least| found.iter().any(|one| one.severity <= least));
        let held = routing.stores().ingresses().len();
        let ingresses = routing.own_ingresses().len();
        let count = |severity| found.iter().filter(|one| one.severity == severity).count();
        let mut report = LintReport {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
            silenced: silenced.len(),
            ingresses,
            of_other_classes: held - ingresses,
            findings: Vec::new(),
        };
        let least =
            self.fail_on.least().map_or(self.severity.into(), |least| least.max(self.severity.into()));
        let shown = found.into_iter().filter(|one| one.severity <= least);
        report.findings = input.locate(shown.collect()).into_iter().map(relative).collect();
        report.findings.sort();
        report.findings.dedup();
        drop(progress);
        let text = match self.format {
            LintFormat::Text => report.text(super::is_colourful(environment)),
            LintFormat::Json => json(&report)?,
            LintFormat::Sarif => json(&report.sarif())?,
            LintFormat::Github => report.github(),
        };
        streams.print(&hide_keys_in_lines(&text))?;
        Ok(match fails {
            _ if unreadable => USAGE,
            true => PROBLEMS,
            false => SUCCESS,
        })
    }

    fn silence(&self) -> Result<Silence, CommandError> {
        let mut silence = Silence { codes: self.ignore.iter().cloned().collect(), ..Silence::default() };
        let Some(path) = self.ignore_file.clone().or_else(ignore_file) else { return Ok(silence) };
        let failed = |message: String| CommandError::usage(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let options = serde_saphyr::options! { with_snippet: false };
        let file: IgnoreFile = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            failed(format!("{error}; write `ignore:` with a list of `code`, `object`, `reason`"))
        })?;
        for IgnoreEntry { code, object, .. } in file.ignore {
            if codes::find(&code).is_none() {
                let message = format!("there is no code {code:?}; `waybill lint --list` explains all codes");
                return Err(failed(message));
            }
            match object {
                Some(object) => silence.objects.push((code, object)),
                None => {
                    silence.codes.insert(code);
                }
            }
        }
        Ok(silence)
    }
}

/// The file in the working directory, or in a folder above it up to the root of the repository.
fn ignore_file() -> Option<PathBuf> {
    let directory = std::env::current_dir().ok()?;
    for folder in directory.ancestors() {
        let file = folder.join(IGNORE_FILE);
        if file.exists() {
            return Some(file);
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    None
}

/// A repository seldom contains its IngressClasses. If there are none, every named class counts as ours.
fn assume_classes(manifests: &mut Manifests, options: &ClassOptions, streams: &mut Streams<'_>) {
    if !manifests.classes.is_empty() || options.lookup_disabled {
        return;
    }
    let named: BTreeSet<String> = manifests
        .ingresses
        .iter()
        .filter_map(|ingress| ingress.spec.as_ref()?.ingress_class_name.clone())
        .filter(|name| options.ingress_class.is_empty() || options.ingress_class == *name)
        .collect();
    if named.is_empty() {
        return;
    }
    let list = named.iter().take(5).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let more = if named.len() > 5 { format!(" and {} more", named.len() - 5) } else { String::new() };
    let _ = writeln!(
        streams.stderr,
        "note: there is no IngressClass in the input, so {list}{more} counts as waybill's"
    );
    manifests.classes.extend(named.into_iter().map(|name| IngressClass {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: Some(IngressClassSpec {
            controller: Some(options.controller_name.clone()),
            ..IngressClassSpec::default()
        }),
    }));
}

/// The path of a file relative to the working directory.
fn relative(mut finding: LintFinding) -> LintFinding {
    let directory = std::env::current_dir().unwrap_or_default();
    finding.file = finding.file.map(|file| match Path::new(&file).strip_prefix(&directory) {
        Ok(rest) => rest.display().to_string(),
        Err(_) => file,
    });
    finding
}
