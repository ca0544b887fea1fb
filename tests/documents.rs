//! What is written for people has to keep up with the code: categories, alerts, annotations, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use waybill::translate::problem::Category;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// The headings of a document, without their marks.
fn headings(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter_map(move |line| {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let heading = line.trim_start_matches('#');
        (!fenced && heading.len() < line.len()).then(|| heading.trim())
    })
}

/// The anchor that a heading gets on the usual forges.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_category_has_an_entry_in_the_runbook() -> Result<()> {
    let runbook = read("docs/operations.md")?;
    let known: BTreeSet<_> = headings(&runbook).collect();
    let missing: Vec<_> = Category::ALL.iter().filter(|c| !known.contains(c.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md has no heading for {missing:?}");
    Ok(())
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_names_only_known_categories() -> Result<()> {
    let runbook = read("docs/operations.md")?;
    let known: BTreeSet<_> = headings(&runbook).collect();
    let rules = read("manifests/components/alerts/prometheusrule.yaml")?;
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty(), "no alert was found");
    let missing: Vec<_> = alerts.iter().filter(|alert| !known.contains(**alert)).collect();
    assert!(missing.is_empty(), "docs/operations.md has no heading for {missing:?}");

    let categories: BTreeSet<_> = Category::ALL.iter().map(|category| category.as_str()).collect();
    let named: Vec<_> = rules
        .split("waybill_problems{category=~\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .flat_map(|list| list.split('|'))
        .collect();
    assert!(!named.is_empty(), "no alert looks at a category");
    for category in named {
        assert!(categories.contains(category), "an alert looks at {category}, which is no category");
    }
    Ok(())
}

#[test]
fn every_example_of_an_annotation_is_explained() -> Result<()> {
    let text = read("docs/annotations.md")?;
    let explained: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .filter(|key| key.starts_with("router.") || key.starts_with("service."))
        .collect();
    let shown: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("traefik.ingress.kubernetes.io/"))
        .filter_map(|line| line.split(':').next())
        .map(|key| key.replace("domains.0.", "domains.N."))
        .collect();
    assert_eq!(
        shown,
        explained.into_iter().map(str::to_owned).collect(),
        "examples (left) and tables (right) differ"
    );
    Ok(())
}

/// Generated documents have tests of their own, which say how to make them.
const GENERATED: &[&str] = &["docs/options.md", "docs/metrics.md"];

#[test]
fn every_link_within_the_repository_leads_somewhere() -> Result<()> {
    let mut documents = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name();
        documents.push(Path::new("docs").join(name));
    }
    documents.push(PathBuf::from("manifests/examples/traefik-mounted/README.md"));

    let mut dead = Vec::new();
    let mut links = 0;
    for document in documents.iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(root().join(document))?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = match (path, document.parent()) {
                ("", _) | (_, None) => document.clone(),
                (path, Some(folder)) => folder.join(path),
            };
            if GENERATED.iter().any(|generated| file == Path::new(generated)) {
                continue;
            }
            let full = root().join(&file);
            let found = if fragment.is_empty() {
                full.exists()
            } else {
                fs::read_to_string(&full).is_ok_and(|text| headings(&text).any(|h| anchor(h) == fragment))
            };
            if !found {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
    assert!(dead.is_empty(), "dead links: {dead:#?}");
    Ok(())
}
