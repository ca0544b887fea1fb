//! `waybill lint`: every directory below `tests/lint/` is a case.
//!
//! A case is called after the code that it is about; what follows a dash tells several apart. A name that begins in lower
//! case is about no single code. `arguments` holds further arguments, a line each. `expected.txt` is standard output,
//! standard error and the exit code, written from the rules.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::*;
use crate::tools::lint::codes;

const CASES: &str = "tests/lint";

fn case(name: &str, more: &[&str]) -> Outcome {
    let folder = format!("{CASES}/{name}");
    let arguments =
        fs::read_to_string(format!("{folder}/arguments")).unwrap_or_default().replace("CASE", &folder);
    let input = format!("{folder}/input.yaml");
    let mut all = vec!["lint", "-f", &input];
    all.extend(arguments.lines());
    all.extend(more);
    waybill(&all, "")
}

#[test]
fn golden_cases() {
    let mut names: Vec<String> =
        fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut wanted: BTreeSet<&str> = codes::names().into_iter().collect();
    let mut failures = Vec::new();
    for name in &names {
        let outcome = case(name, &["--severity", "note"]);
        let printed = format!("{}{}exit {}\n", outcome.stdout, outcome.stderr, outcome.code);
        let printed = printed.replace(&format!("{CASES}/{name}/"), "");
        let code = name.split('-').next().unwrap_or_default();
        if !name.starts_with(char::is_lowercase) {
            assert!(codes::find(code).is_some(), "{name} is called after no code");
            assert!(printed.contains(&format!(" {code}: ")), "{name}: {printed}");
            wanted.remove(code);
        }
        let path = format!("{CASES}/{name}/expected.txt");
        if fs::read_to_string(&path).unwrap_or_default() != printed {
            failures.push(format!("--- {name}:\n{printed}"));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(wanted.is_empty(), "no case is about {wanted:?}");
}

#[test]
fn sarif_is_what_code_scanning_takes() {
    let outcome = case("DuplicateRoute", &["-o", "sarif"]);
    assert_eq!(outcome.code, PROBLEMS);
    let log: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-2.1.0.json"));
    let [run] = log["runs"].as_array().unwrap().as_slice() else { panic!("{log}") };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "waybill");
    let rules = driver["rules"].as_array().unwrap();
    assert_eq!(rules.len(), codes::CODES.len());
    for rule in rules {
        let text = |path: &str| rule.pointer(path).and_then(Value::as_str).unwrap_or_default();
        for path in ["/id", "/shortDescription/text", "/fullDescription/text", "/help/text", "/help/markdown"]
        {
            assert!(!text(path).is_empty() && text(path).len() <= 1024, "{path} of {rule}");
        }
        assert!(["error", "warning", "note"].contains(&text("/defaultConfiguration/level")), "{rule}");
    }
    let [result] = run["results"].as_array().unwrap().as_slice() else { panic!("{run}") };
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!((&result["ruleId"], &result["level"]), (&rules[index]["id"], &Value::from("error")));
    assert!(result["message"]["text"].as_str().unwrap().contains("Ingress shop/two"));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "tests/lint/DuplicateRoute/input.yaml");
    assert!(place["region"]["startLine"].as_u64().unwrap() > 1);
    assert!(!result["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap().is_empty());
}

#[test]
fn github_gets_a_line_for_each_finding() {
    let outcome = case("RepeatedObject", &["-o", "github"]);
    let start = "::warning file=tests/lint/RepeatedObject/input.yaml,line=";
    assert!(outcome.stdout.starts_with(start), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(",title=RepeatedObject::Ingress shop/web: "), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.lines().count(), 1);
    let hostile = SHOP.replace("shop.example", "\"a%0A::error::b\\n::error::c\"");
    let outcome = waybill(&["lint", "-f", "-", "-o", "github"], &hostile);
    assert!(outcome.stdout.lines().all(|line| line.starts_with("::error file=standard input,line=")));
}

#[test]
fn severities_decide_what_is_printed_and_the_exit_code() {
    let lint = |more: &[&str]| {
        let outcome = case("PrefixNotStrict", more);
        (outcome.code, outcome.stdout.contains("note PrefixNotStrict"))
    };
    assert_eq!(lint(&[]), (SUCCESS, false));
    assert_eq!(lint(&["--severity", "note"]), (SUCCESS, true));
    assert_eq!(lint(&["--fail-on", "note"]), (PROBLEMS, true));
    let lint = |more: &[&str]| case("DuplicateRoute", more).code;
    assert_eq!(lint(&["--fail-on", "error"]), PROBLEMS);
    assert_eq!(lint(&["--fail-on", "never"]), SUCCESS);
    assert_eq!(lint(&["--ignore", "DuplicateRoute,MixedTls"]), SUCCESS);
    let json: Value = serde_json::from_str(&case("DuplicateRoute", &["-o", "json"]).stdout).unwrap();
    assert_eq!((&json["errors"], &json["findings"][0]["code"]), (&1.into(), &"DuplicateRoute".into()));
    assert_eq!(json["findings"][0]["object"], "Ingress shop/two");
}

#[test]
fn every_code_is_listed_with_an_example() {
    let outcome = waybill(&["lint", "--list"], "");
    assert_eq!(outcome.code, SUCCESS);
    for code in codes::names() {
        assert!(outcome.stdout.contains(&format!("{code} (")), "{code}");
    }
}

#[test]
fn what_silences_nothing_that_there_is_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ignore.yaml");
    let file = path.to_str().unwrap();
    for (text, said) in [
        ("ignore: [{code: Nothing}]", "there is no code \"Nothing\""),
        ("ignore: [{kode: MixedTls}]", "kode"),
        ("- MixedTls", "ignore.yaml"),
    ] {
        fs::write(&path, text).unwrap();
        let outcome = waybill(&["lint", "-f", "-", "--ignore-file", file], SHOP);
        assert_eq!(outcome.code, USAGE, "{text}");
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert_eq!(waybill(&["lint", "-f", "-", "--ignore-file", "/not/there"], SHOP).code, USAGE);
    assert_eq!(waybill(&["lint", "-f", "-", "--ignore", "Nothing"], SHOP).code, USAGE);
    assert_eq!(waybill(&["lint"], "").code, USAGE);
    let broken = waybill(&["lint", "-f", "-"], "kind: [");
    assert_eq!(broken.code, USAGE);
}
