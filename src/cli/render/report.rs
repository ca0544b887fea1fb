//! The report of `render` about its input: faults, problems by category, and a summary.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::kubernetes::manifests::Manifests;
use crate::options::Options;
use crate::publish::outputs::text_problem;
use crate::redact::{hide_keys, printable};
use crate::routing::Routing;
use crate::table::Output;
use crate::tools::{invalid, problems};
use crate::translate::problem::{Category, Problem};

/// An Ingress names a class that is not in the input. The cluster may have it, so this is not a [`Category`].
const CLASS_NOT_FOUND: &str = "ClassNotFound";
/// An API server would refuse the object, so a cluster has no such objects.
const INVALID_OBJECT: &str = "InvalidObject";
/// The maximum number of Ingresses in one line.
const NAMES_SHOWN: usize = 3;

/// Every category that `render` can report.
pub fn categories() -> Vec<&'static str> {
    let known = Category::ALL.iter().map(|category| category.as_str());
    known.chain([CLASS_NOT_FOUND, INVALID_OBJECT]).collect()
}

/// The report of a run.
pub struct RenderReport {
    pub faults: Vec<String>,
    warnings: Vec<String>,
    /// Lines by category, in the order in which they are printed.
    problems: Vec<(&'static str, String)>,
    ignored: BTreeMap<&'static str, usize>,
    skipped: Option<String>,
    ingresses: usize,
    summary: String,
}

impl RenderReport {
    /// What is known before anything is translated.
    pub fn new(manifests: &Manifests) -> Self {
        let unnamed = manifests.unnamed.iter().map(ToString::to_string);
        let quoted = manifests.quoted.iter().map(ToString::to_string);
        let invalid = manifests.ingresses.iter().flat_map(invalid::fields).map(|field| field.to_string());
        Self {
            faults: manifests.faults.iter().map(ToString::to_string).collect(),
            warnings: manifests.repeated.iter().map(ToString::to_string).collect(),
            problems: unnamed.chain(quoted).chain(invalid).map(|line| (INVALID_OBJECT, line)).collect(),
            ignored: BTreeMap::new(),
            skipped: manifests.skipped_line(),
            ingresses: manifests.ingresses.len(),
            summary: String::new(),
        }
    }

    /// Adds what the translation found.
    pub fn add_routing(&mut self, routing: &Routing, options: &Options) {
        let missing = problems::missing_classes(routing, &options.class);
        let missing = missing.iter().map(|(class, ingresses)| {
            (CLASS_NOT_FOUND, missing_class(class, ingresses, &classes_of_ours(routing)))
        });
        let mut found = routing.all_problems();
        found.extend(problems::of_statuses(routing));
        let translated = found.iter().map(|problem| (problem.category.as_str(), text(problem)));
        // Faults of the input come first, then their consequences.
        self.problems.splice(0..0, translated.chain(missing));
        // This is no fault of the input, so --strict does not count it.
        let large = |(key, output): (&OutputKey, &Output)| text_problem(key, output.routing_bytes());
        let large = routing.table().outputs().filter_map(large);
        self.warnings.extend(large.map(|problem| problem.to_string()));
        self.summary = self.summarise(routing);
    }

    fn summarise(&self, routing: &Routing) -> String {
        let mut parts = Vec::new();
        let held = routing.stores().ingresses().iter().count();
        let ours = routing.own_ingresses().len();
        if self.ingresses > 0 {
            parts.push(format!("{ours} ours"));
        }
        if held > ours {
            parts.push(format!("{} of other classes", held - ours));
        }
        if self.ingresses > held {
            let hidden = self.ingresses - held;
            parts.push(format!("{hidden} outside the watched namespaces or the label selector"));
        }
        let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        let counts = || routing.table().outputs().map(|(_, output)| output.counts());
        let routers = counted(counts().map(|counts| counts.routers).sum(), "router", "routers");
        let certificates =
            counted(counts().map(|counts| counts.certificates).sum(), "certificate", "certificates");
        let read = counted(self.ingresses, "Ingress", "Ingresses");
        format!("{read} read{parts}; {routers}, {certificates}")
    }

    /// Removes problems of ignored categories.
    pub fn ignore(&mut self, categories: &[String]) {
        let ignored = &mut self.ignored;
        self.problems.retain(|(category, _)| {
            let ignore = categories.iter().any(|one| one == category);
            if ignore {
                *ignored.entry(category).or_default() += 1;
            }
            !ignore
        });
    }

    /// Whether there is a problem that is not ignored.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Prints it, one line each, the summary last.
    pub fn print(&self, stderr: &mut dyn Write) -> io::Result<()> {
        let mut stderr = io::BufWriter::new(stderr);
        for line in &self.faults {
            writeln!(stderr, "error: {}", printable(&hide_keys(line)))?;
        }
        for line in &self.warnings {
            writeln!(stderr, "warning: {}", printable(&hide_keys(line)))?;
        }
        for (category, line) in &self.problems {
            writeln!(stderr, "{category}: {}", printable(&hide_keys(line)))?;
        }
        if let Some(line) = &self.skipped {
            writeln!(stderr, "{}", printable(&hide_keys(line)))?;
        }
        let mut counts = BTreeMap::new();
        for (category, _) in &self.problems {
            *counts.entry(*category).or_default() += 1;
        }
        write!(stderr, "summary: {}; ", self.summary)?;
        if counts.is_empty() {
            write!(stderr, "no problems")?
        } else {
            write!(stderr, "problems: {}", by_category(&counts))?
        }
        if !self.ignored.is_empty() {
            write!(stderr, "; ignored: {}", by_category(&self.ignored))?;
        }
        if !self.faults.is_empty() {
            write!(stderr, "; {} unreadable", self.faults.len())?;
        }
        writeln!(stderr)?;
        stderr.flush()
    }
}

fn by_category(counts: &BTreeMap<&'static str, usize>) -> String {
    counts.iter().map(|(category, count)| format!("{count} {category}")).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// A problem without its category.
fn text(problem: &Problem) -> String {
    let line = problem.to_string();
    let category = line.find(": ").map_or(0, |at| at + 2);
    line[category..].to_owned()
}

fn classes_of_ours(routing: &Routing) -> Vec<&str> {
    routing.classes().iter().map(|(name, _)| &**name).collect()
}

fn missing_class(class: &str, ingresses: &BTreeSet<IngressKey>, ours: &[&str]) -> String {
    let names: Vec<String> = ingresses.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
    let more = ingresses.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (noun, verb) = if ingresses.len() == 1 { ("Ingress", "is") } else { ("Ingresses", "are") };
    let distance = |name: &&&str| strsim::damerau_levenshtein(name, class);
    let near = ours.iter().min_by_key(distance).filter(|name| distance(name) <= 2);
    let meant =
        near.map_or_else(String::new, |name| format!("name the class {name:?} if that is what you mean, "));
    format!(
        "IngressClass {class:?}: not in the input, so its {noun} {}{more} {verb} not rendered; {meant}add the \
         IngressClass to the input, or ignore this when another controller serves it",
        names.join(", ")
    )
}
