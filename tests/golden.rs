//! Every directory below `tests/golden/` is a case: manifests and options in, routing, problems and statuses out.
//!
//! `expected.json` is written by hand from the rules. `WAYBILL_GOLDEN=name` runs the cases whose name contains it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use waybill::kubernetes::manifests::Manifests;
use waybill::options;
use waybill::routing::Routing;
use waybill::traefik::document::Keys;
use waybill::translate::settings::Precedence;
use waybill::translate::status::{self, DesiredStatus};

/// Ten fewer than there are: cases may go, but not unnoticed.
const FEWEST: usize = 576;

#[test]
fn golden_cases() {
    let filter = std::env::var("WAYBILL_GOLDEN").unwrap_or_default();
    let mut names: Vec<String> = fs::read_dir("tests/golden")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(&filter))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no case is called {filter:?}");
    assert!(!filter.is_empty() || names.len() >= FEWEST, "there are only {} cases", names.len());
    let failures: Vec<String> = names.iter().filter_map(|name| run(name)).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        names.len(),
        failures.join("\n")
    );
    println!("{} golden cases passed", names.len());
}

/// Runs one case; what differs, if anything.
fn run(name: &str) -> Option<String> {
    let directory = Path::new("tests/golden").join(name);
    let why = fs::read_to_string(directory.join("why")).unwrap_or_default();
    if why.trim().is_empty() {
        return Some(format!("--- {name}: it does not say why"));
    }
    let options = fs::read_to_string(directory.join("options.yaml")).unwrap_or_default();
    let options = match options::from_yaml_str(&options) {
        Ok(loaded) => loaded.options,
        Err(faults) => return Some(format!("--- {name}: options: {faults}")),
    };
    let input = fs::read(directory.join("input.yaml")).unwrap();
    let mut manifests = Manifests::default();
    manifests.add(&Arc::from("input.yaml"), &input);
    if let Some(fault) = manifests.faults.first() {
        return Some(format!("--- {name}: {fault}"));
    }
    let routing = waybill::offline::routing(manifests, &options);
    let annotated = String::from_utf8_lossy(&input).contains("router.priority");
    let ranked = options.settings.precedence == Precedence::Spec && !annotated;
    let actual = actual(&routing, ranked);
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(directory.join("expected.json")).unwrap()).unwrap();
    (actual != expected)
        .then(|| format!("--- {name}: {}\n{}", why.trim(), difference("", &expected, &actual).join("\n")))
}

fn actual(routing: &Routing, ranked: bool) -> Value {
    let outputs: BTreeMap<String, Value> = routing
        .table()
        .outputs()
        .map(|(key, output)| {
            let document = output.assembled(Keys::LeftOut);
            let mut document: Value = serde_json::from_str(&document).unwrap();
            if ranked {
                rank_priorities(&mut document);
            }
            (key.to_string(), document)
        })
        .collect();
    let (statuses, status_problems) = statuses(routing);
    let problems: BTreeSet<(String, String, String, String)> = routing
        .all_problems()
        .into_iter()
        .chain(status_problems)
        .map(|problem| {
            let object = problem.subject.to_string();
            (problem.category.as_str().to_owned(), object, problem.field, problem.value)
        })
        .collect();
    let problems: Vec<Value> = problems
        .into_iter()
        .map(|(category, object, field, value)| {
            json!({"category": category, "object": object, "field": field, "value": value})
        })
        .collect();
    json!({"outputs": outputs, "problems": problems, "statuses": statuses})
}

fn statuses(routing: &Routing) -> (BTreeMap<String, Value>, Vec<waybill::translate::problem::Problem>) {
    let mut statuses = BTreeMap::new();
    let mut problems = Vec::new();
    for fragment in routing.table().fragments() {
        match status::wanted(&fragment.settings, routing.stores()) {
            Ok(DesiredStatus::LeaveAlone) => {}
            Ok(DesiredStatus::Entries(entries)) => {
                statuses.insert(fragment.ingress.to_string(), serde_json::to_value(entries).unwrap());
            }
            Err(_) => {}
        }
        problems.extend(status::fault(&fragment.settings, routing.stores()));
    }
    (statuses, problems)
}

/// The numbers of computed priorities are nobody's business; their order is.
fn rank_priorities(document: &mut Value) {
    let Some(routers) = document.pointer_mut("/http/routers").and_then(Value::as_object_mut) else { return };
    let computed = |value: &Value| value.as_i64().filter(|priority| *priority > 0);
    let mut numbers: Vec<i64> =
        routers.values().filter_map(|router| computed(router.get("priority")?)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.dedup();
    for router in routers.values_mut() {
        if let Some(priority) = router.get_mut("priority")
            && let Some(number) = computed(priority)
        {
            let rank = numbers.iter().position(|known| *known == number).unwrap() + 1;
            *priority = json!(format!("PRIORITY-{rank}"));
        }
    }
}

/// Where two values differ, a line each.
fn difference(path: &str, expected: &Value, actual: &Value) -> Vec<String> {
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(got)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(got.keys()).collect();
            keys.into_iter()
                .flat_map(|key| {
                    let path = format!("{path}/{key}");
                    match (wanted.get(key), got.get(key)) {
                        (Some(wanted), Some(got)) => difference(&path, wanted, got),
                        (Some(wanted), None) => vec![format!("  {path}: missing: {wanted}")],
                        (None, got) => vec![format!("  {path}: too much: {}", got.unwrap_or(&Value::Null))],
                    }
                })
                .collect()
        }
        _ if expected == actual => Vec::new(),
        _ => vec![format!("  {path}: expected {expected}\n  {path}: actually {actual}")],
    }
}
