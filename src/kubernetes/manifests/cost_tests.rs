//! Input that is wrong costs no more than a few times what the same amount of right input does.

use std::time::{Duration, Instant};

use super::*;

/// Each bound is far above what is seen, and far below what work for all of the text for each item comes to.
const TIMES: u32 = 20;

/// Enough for work that grows with the square to be hundreds of times as much.
const ITEMS: usize = 4_000;

fn read(text: &str) -> (Manifests, Duration) {
    let mut manifests = Manifests::default();
    let begun = Instant::now();
    manifests.add(&"input.yaml".into(), text.as_bytes());
    (manifests, begun.elapsed())
}

/// A list of `ITEMS` items.
fn list(kind: &str, item: impl Fn(usize) -> String) -> String {
    let items: String = (0..ITEMS).map(|at| format!("- {}\n", item(at))).collect();
    format!("apiVersion: networking.k8s.io/v1\nkind: {kind}\nitems:\n{items}")
}

fn named(at: usize) -> String {
    format!("{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: n{at}}}, spec: {{}}}}")
}

fn bad(at: usize) -> String {
    named(at).replace("{}", "1")
}

fn assert_costs(what: &str, taken: Duration, right: Duration) {
    assert!(taken < TIMES * right, "{what}: {taken:?}, and {right:?} for what is right");
}

#[test]
fn bad_items_are_located_together() {
    let (good, right) = read(&list("List", named));
    assert_eq!((good.ingresses.len(), good.faults.len()), (ITEMS, 0));
    let mixed_case = |at| match at {
        0 => "{apiVersion: v1, kind: Service, metadata: {name: s, annotations: {a: tRUE}}}".to_owned(),
        _ => bad(at),
    };
    for (text, faults) in [(list("List", bad), ITEMS), (list("List", mixed_case), ITEMS - 1)] {
        let (manifests, taken) = read(&text);
        let lines: Vec<_> =
            manifests.faults.iter().map(|fault| (fault.place.item, fault.place.line)).collect();
        let expected: Vec<_> = (ITEMS - faults..ITEMS).map(|at| (Some(at + 1), Some(at + 4))).collect();
        assert_eq!(lines, expected);
        assert_costs("bad items", taken, right);
    }
}

#[test]
fn ingresses_without_names_are_numbered_in_one_go() {
    let (_, right) = read(&list("List", named));
    let text = list("List", |at| named(at).replace(&format!("name: n{at}"), "generateName: web-"));
    let (manifests, taken) = read(&text);
    assert_eq!((manifests.ingresses.len(), manifests.repeated.len()), (ITEMS, 0));
    let last = manifests.ingresses.last().and_then(|ingress| ingress.metadata.name.as_deref());
    assert_eq!(last, Some(&*format!("web-{ITEMS}")));
    assert_costs("without names", taken, right);
    // A name that is there already is passed over.
    let (manifests, _) = read(
        "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: '3'}\n- {}\n- {}\n- {}\n",
    );
    let names: Vec<_> = manifests.ingresses.iter().filter_map(|one| one.metadata.name.as_deref()).collect();
    assert_eq!(names, ["3", "", "2", "4"]);
}

#[test]
fn json_values_one_behind_the_other_cost_what_they_do_in_a_list() {
    let items: Vec<String> = (0..ITEMS)
        .map(|at| {
            format!(r#"{{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{{"name":"n{at}"}},"spec":1}}"#)
        })
        .collect();
    let (_, right) = read(&format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(",\n")));
    let text = items.join("\n");
    let (manifests, taken) = read(&text);
    let lines: Vec<_> = manifests.faults.iter().map(|fault| fault.place.line).collect();
    assert_eq!(lines, (1..=ITEMS).map(Some).collect::<Vec<_>>());
    assert_costs("JSON values", taken, right);

    let mut texts = ManifestTexts::default();
    texts.keep(&"input.yaml".into(), text.into_bytes());
    let fields: Vec<_> = manifests.faults.iter().map(|fault| (&fault.place, "spec")).collect();
    let begun = Instant::now();
    assert_eq!(texts.lines(&fields), lines);
    assert_costs("lines in JSON values", begun.elapsed(), right);
}

/// A list's kind is that of its items, and the way to a number in quotes is kept for each.
#[test]
fn a_long_name_is_not_kept_for_each_item() {
    let (_, right) = read(&list("List", named));
    let long = "K".repeat(1 << 20);
    let (manifests, taken) = read(&list(&format!("{long}List"), |_| "{spec: 1}".to_owned()));
    assert!(matches!(&manifests.faults[..], [fault] if fault.message.contains("`kind` is longer")));
    assert_costs("a long kind", taken, right);
    let service = |key: &str| {
        let ports = vec![r#"{"port":"1"}"#; ITEMS].join(",");
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s"}},"spec":{{"{key}":[{ports}]}}}}"#
        )
    };
    let (manifests, taken) = read(&service(&long));
    assert!(manifests.quoted.is_empty() && manifests.services.len() == 1, "{:?}", manifests.faults);
    assert_costs("a long key", taken, right);
    assert_eq!(read(&service("ports")).0.quoted.len(), ITEMS);
}
