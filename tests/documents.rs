//! What is written for people has to keep up with the code: categories, alerts, annotations, links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use waybill::translate::annotation::{WITHOUT_EFFECT, known};
use waybill::translate::problem::Category;

#[allow(dead_code, reason = "what the comparison with Traefik needs")]
#[path = "peer/difference.rs"]
mod difference;

use difference::Difference;

#[path = "../manifests/components/admission/policies.rs"]
mod policies;

#[path = "../book/pages.rs"]
mod pages;

use pages::{anchor, headings};

#[path = "../book/blocks.rs"]
mod blocks;

use blocks::Role;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

#[test]
fn every_category_has_an_entry_in_the_runbook() -> Result<()> {
    let runbook = read("docs/operations.md")?;
    let known: BTreeSet<_> = headings(&runbook).collect();
    let missing: Vec<_> = Category::ALL.iter().filter(|c| !known.contains(c.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md has no heading for {missing:?}");
    Ok(())
}

/// The names of the files of a folder, without their ending.
fn names(folder: &str) -> Result<BTreeSet<String>> {
    let files = fs::read_dir(root().join(folder))?.map(|entry| Ok(entry?.path()));
    let stems = files.map(|path: Result<PathBuf>| Ok(path?.file_stem().unwrap_or_default().to_owned()));
    stems.map(|stem: Result<_>| Ok(stem?.to_string_lossy().into_owned())).collect()
}

#[test]
fn every_alert_has_a_runbook_and_names_only_known_categories() -> Result<()> {
    let rules = read("manifests/components/alerts/prometheusrule.yaml")?;
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    assert!(!alerts.is_empty(), "no alert was found");
    assert_eq!(alerts, names("docs/runbooks")?, "alerts (left) and docs/runbooks (right) differ");

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
fn every_command_is_listed() -> Result<()> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_waybill")).arg("help").output()?;
    let help = String::from_utf8(output.stdout)?;
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let there: BTreeSet<_> = commands
        .context("no commands")?
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect();
    let page = read("docs/commands.md")?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: BTreeSet<_> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(listed, there, "docs/commands.md (left) and `waybill help` (right) differ");
    Ok(())
}

#[test]
fn the_picture_of_the_example_is_what_graph_draws() -> Result<()> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_waybill"));
    let output = command.args(["graph", "-f", "examples/shop"]).current_dir(root()).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == read("docs/graph.svg")?.as_bytes(), "docs/graph.svg is stale; run `make docs`");
    Ok(())
}

#[test]
fn the_admission_policies_are_made_from_the_table_of_annotations() -> Result<()> {
    let path = "manifests/components/admission/policies.yaml";
    assert!(read(path)? == policies::policies(), "{path} is stale; run `make manifests`");
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

#[test]
fn every_annotation_is_explained() -> Result<()> {
    let text = read("docs/annotations.md")?;
    let rows: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .map(|key| key.replace("domains.N.", "domains.0."))
        .filter(|key| key.starts_with("router.") || key.starts_with("service."))
        .collect();
    let known: BTreeSet<_> = known().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(rows, known, "docs/annotations.md (left) and the annotations there are (right) differ");
    let rest = text.split("## Known, without effect").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rest = rest.context("docs/annotations.md has no section on those without effect")?;
    for key in WITHOUT_EFFECT {
        assert!(
            rest.contains(&format!("`{key}`")),
            "docs/annotations.md does not say that {key} has no effect"
        );
    }
    Ok(())
}

#[test]
fn every_deliberate_difference_is_told_to_users_and_no_other() -> Result<()> {
    let text = read("docs/migration.md")?;
    let section =
        text.split("\n## Deliberate differences").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.context("docs/migration.md has no section on deliberate differences")?;
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(2)
        .map(|line| line.split(" | ").collect())
        .collect();
    let told: Vec<&str> = rows.iter().filter_map(|row| row.first().copied()).collect();
    let there: Vec<&str> = Difference::ALL.iter().map(|difference| difference.subject()).collect();
    let sorted =
        |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&told), sorted(&there), "docs/migration.md (left) and difference.rs (right) differ");
    assert_eq!(told.len(), there.len(), "a difference is told twice");
    for row in &rows {
        assert!(
            row.len() == 4 && row.iter().all(|cell| !cell.trim().is_empty()),
            "{row:?} leaves something out"
        );
    }
    Ok(())
}

/// The metrics that there are, with their labels and these labels' values, from the page that the program makes.
fn metrics() -> Result<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>> {
    let page = waybill::metrics::markdown()?;
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut metrics = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, kind, labels, ..] = cells.as_slice() else { continue };
        let name = quoted(name).remove(0);
        let labels: BTreeMap<_, BTreeSet<_>> = labels
            .split("<br>")
            .map(quoted)
            .filter(|words| !words.is_empty())
            .map(|mut words| (words.remove(0), words.into_iter().collect()))
            .collect();
        if *kind == "histogram" {
            for ending in ["_bucket", "_sum", "_count"] {
                metrics.insert(format!("{name}{ending}"), labels.clone());
            }
        }
        metrics.insert(name, labels);
    }
    // Those of agents, whose table does not list values.
    let page = read("docs/agent.md")?;
    for name in metric_names(&page).map(|(name, _)| name).filter(|name| name.starts_with("waybill_agent_")) {
        let labels: BTreeMap<_, _> =
            ["output", "reason", "version"].map(|label| (label.to_owned(), BTreeSet::new())).into();
        metrics.insert(format!("{name}_bucket"), labels.clone());
        metrics.insert(name.to_owned(), labels);
    }
    let problems = metrics.get_mut("waybill_problems").and_then(|labels| labels.get_mut("category"));
    problems
        .context("waybill_problems has no category")?
        .extend(Category::ALL.iter().map(|one| one.as_str().to_owned()));
    Ok(metrics)
}

/// The queries of a dashboard.
fn queries(dashboard: &str) -> Result<Vec<String>> {
    let dashboard: serde_json::Value = serde_json::from_str(dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<String> =
        targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect();
    assert!(queries.len() > 20, "{queries:?}");
    Ok(queries)
}

#[test]
fn every_alert_leads_to_its_runbook() -> Result<()> {
    let rules = read("manifests/components/alerts/prometheusrule.yaml")?;
    let overview = read("docs/operations.md")?;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().context("an alert without a name")?;
        let page = format!("runbooks/{name}.md");
        assert!(
            overview.contains(&format!("| [{name}]({page}) |")),
            "docs/operations.md does not list {name}"
        );
        let url = rule.lines().find_map(|line| line.trim().strip_prefix("runbook_url: \"docs/"));
        let rest =
            url.and_then(|url| url.strip_prefix(&page)).context("an alert does not lead to its runbook")?;
        if rest == "\"" {
            continue;
        }
        // Each category that it fires for has a section.
        assert_eq!(rest, "#{{ $labels.category | toLower }}\"", "{name}");
        let text = read(&format!("docs/{page}"))?;
        let sections: Vec<_> = headings(&text).skip(1).collect();
        let categories = rule.split("category=~\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut categories: Vec<_> = categories.context("an alert without categories")?.split('|').collect();
        let mut sorted = sections.clone();
        sorted.sort_unstable();
        categories.sort_unstable();
        assert_eq!(
            sorted, categories,
            "sections of {page} (left) and categories of the alert (right) differ"
        );
    }
    Ok(())
}

/// Words of a text that are built like the name of a metric of ours, each with what follows.
fn metric_names(text: &str) -> impl Iterator<Item = (&str, &str)> {
    const FAMILIES: &[&str] =
        &["waybill_", "controller_runtime_", "workqueue_", "rest_client_", "leader_election_", "process_"];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.char_indices().filter(move |(at, c)| is_word(*c) && !text[..*at].ends_with(is_word));
    starts.filter_map(move |(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        FAMILIES.iter().any(|family| rest.starts_with(family)).then_some((&rest[..end], &rest[end..]))
    })
}

#[test]
fn alerts_and_runbook_name_only_metrics_labels_and_values_that_there_are() -> Result<()> {
    // What Prometheus adds, and what the Lease is called.
    const FOREIGN: &[&str] = &["pod", "job", "namespace", "instance", "severity", "alertname", "le"];
    const DASHBOARD: &str = "manifests/components/dashboard/waybill.json";
    let metrics = metrics()?;
    let mut wrong = Vec::new();
    let runbooks: Vec<_> =
        names("docs/runbooks")?.into_iter().map(|name| read(&format!("docs/runbooks/{name}.md"))).collect();
    let runbooks = runbooks.into_iter().collect::<Result<Vec<_>>>()?.join("\n");
    for path in [
        "manifests/components/alerts/prometheusrule.yaml",
        "tests/alerts.yaml",
        "docs/operations.md",
        "docs/runbooks",
        DASHBOARD,
    ] {
        let text = match path {
            DASHBOARD => queries(&read(path)?)?.join("\n"),
            "docs/runbooks" => runbooks.clone(),
            path => read(path)?,
        };
        let mut names = 0;
        for (name, rest) in metric_names(&text) {
            names += 1;
            let Some(labels) = metrics.get(name) else {
                wrong.push(format!("{path}: {name} is no metric"));
                continue;
            };
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            for matcher in selector.split(',').filter(|matcher| !matcher.trim().is_empty()) {
                let Some((label, value)) = matcher.split_once('=') else {
                    wrong.push(format!("{path}: {name}: {matcher:?}"));
                    continue;
                };
                let label = label.trim().trim_end_matches('!');
                if FOREIGN.contains(&label) {
                    continue;
                }
                let Some(values) = labels.get(label) else {
                    wrong.push(format!("{path}: {name} has no label {label}"));
                    continue;
                };
                // Names of objects are not listed.
                if values.is_empty() {
                    continue;
                }
                let values_named = value.trim_start_matches('~').trim_matches('"').split('|');
                let unknown = values_named
                    .filter(|value| !values.contains(*value) && name != "leader_election_master_status");
                wrong.extend(unknown.map(|value| format!("{path}: {name} never has {label}={value:?}")));
            }
        }
        assert!(names > 0, "{path} names no metric; is it read in the right way?");
        for list in text.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            for label in list.split(',').map(str::trim) {
                let known = metrics.values().any(|labels| labels.contains_key(label));
                if !known && !FOREIGN.contains(&label) {
                    wrong.push(format!("{path}: no metric has the label {label}"));
                }
            }
        }
        for label in text.split("$labels.").skip(1).filter_map(|rest| rest.split([' ', '}']).next()) {
            if !FOREIGN.contains(&label) && !metrics.values().any(|labels| labels.contains_key(label)) {
                wrong.push(format!("{path}: no metric has the label {label}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Where pages for people are, and what is made into one of them.
const PAGE_FOLDERS: &[&str] = &["docs", "manifests", "examples", "crds", "tests/tools"];
const TEMPLATE: &str = "manifests/helm/README.template.md";

#[test]
fn every_page_is_in_the_book() -> Result<()> {
    let is_page = |path: &Path| path.extension().is_some_and(|ending| ending == "md");
    let mut there: BTreeSet<PathBuf> = [PathBuf::from("tests/README.md")].into();
    for entry in fs::read_dir(root())? {
        there.insert(entry?.file_name().into());
    }
    for folder in PAGE_FOLDERS {
        for entry in walkdir::WalkDir::new(root().join(folder)) {
            there.insert(entry?.path().strip_prefix(root())?.to_owned());
        }
    }
    there.retain(|path| is_page(path) && path != Path::new(TEMPLATE));
    let summary = read("book/SUMMARY.md")?;
    let listed: BTreeSet<_> = pages::listed(&summary).into_iter().map(PathBuf::from).collect();
    assert_eq!(listed, there, "book/SUMMARY.md (left) and the pages there are (right) differ");
    Ok(())
}

#[test]
fn every_link_within_the_repository_leads_somewhere() -> Result<()> {
    let summary = read("book/SUMMARY.md")?;
    let mut dead = Vec::new();
    let mut links = 0;
    for page in pages::listed(&summary) {
        let text = read(page)?;
        for (_, target) in pages::links(&text) {
            links += 1;
            let (path, fragment) = pages::resolve(Path::new(page), target);
            let full = root().join(path);
            let found = if fragment.is_empty() {
                full.exists()
            } else {
                fs::read_to_string(&full).is_ok_and(|text| headings(&text).any(|h| anchor(h) == fragment))
            };
            if !found {
                dead.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(links > 120, "only {links} links were found");
    assert!(dead.is_empty(), "dead links: {dead:#?}");
    Ok(())
}

#[test]
fn every_command_says_whether_it_is_run() -> Result<()> {
    let mut wrong = Vec::new();
    let mut roles = BTreeMap::<&str, usize>::new();
    let summary = read("book/SUMMARY.md")?;
    let of_users = |page: &&str| {
        *page == "README.md"
            || ["docs/", "manifests/", "examples/"].iter().any(|folder| page.starts_with(folder))
    };
    for page in pages::listed(&summary).into_iter().filter(of_users) {
        let text = read(page)?;
        let mut was_run = false;
        for block in blocks::blocks(&text) {
            let at = format!("{page}:{}", block.line);
            let role = match block.role() {
                Ok(role) => role,
                Err(error) => {
                    wrong.push(format!("{at}: {error}"));
                    continue;
                }
            };
            match role {
                Role::Output if !was_run => {
                    wrong.push(format!("{at}: the commands before this output are not run"))
                }
                Role::RunIn(other) if !is_run_in(other, &block.text)? => {
                    wrong.push(format!("{at}: {other} does not run these commands"));
                }
                _ => {}
            }
            if block.is_commands() {
                was_run = matches!(role, Role::Run { .. });
                *roles.entry(if was_run { "run" } else { "not run" }).or_default() += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(roles["run"] >= 30 && roles["run"] > 2 * roles["not run"], "{roles:?}");
    Ok(())
}

fn is_run_in(page: &str, text: &str) -> Result<bool> {
    let page = read(page)?;
    let is_run = |block: &blocks::Block<'_>| matches!(block.role(), Ok(Role::Run { .. }));
    Ok(blocks::blocks(&page).iter().any(|block| block.text == text && is_run(block)))
}
