use proptest::prelude::*;
use serde_json::json;

use std::collections::BTreeSet;

use super::*;
use crate::kubernetes::key::OutputKey;

fn entry(spec: Value) -> AcceptedParameters {
    AcceptedParameters { uid: Some("1".to_owned()), spec: check(&spec).unwrap() }
}

fn memory(entries: &[(&str, Value)]) -> Memory {
    let mut memory = Memory::default();
    for (class, spec) in entries {
        assert!(memory.remember(class, entry(spec.clone())));
    }
    memory
}

#[test]
fn it_reads_back_what_it_wrote() {
    let memory = memory(&[
        ("public", json!({"output": {"name": "public"}, "strictPrefixMatching": true})),
        ("internal.example.com", json!({})),
    ]);
    let map = memory.config_map("ops", "waybill", None);
    assert_eq!(map.metadata.name.as_deref(), Some("waybill.classes"));
    assert_eq!(map.metadata.namespace.as_deref(), Some("ops"));
    assert_eq!(
        map.data.as_ref().unwrap()["public"],
        r#"{"uid":"1","spec":{"output":{"name":"public"},"strictPrefixMatching":true}}"#
    );
    assert!(is_ours(&map) && memory.is_held_by(&map));
    assert_eq!(Memory::decode(&map), (memory, Vec::new()));
}

#[test]
fn a_broken_entry_is_absent_and_costs_no_other() {
    let mut map = memory(&[("a", json!({})), ("b", json!({}))]).config_map("ops", "waybill", None);
    let data = map.data.as_mut().unwrap();
    for (key, value) in [
        ("c", ""),
        ("d", "{"),
        ("e", "[]"),
        ("f", r#"{"spec": {"output": {"name": "BAD"}}}"#),
        ("g", r#"{"uid": 7, "spec": {}}"#),
        ("h", "{}"),
        ("b", "null"),
    ] {
        data.insert(key.to_owned(), value.to_owned());
    }
    let (decoded, broken) = Memory::decode(&map);
    assert_eq!(decoded.classes().map(|class| &**class).collect::<Vec<_>>(), ["a"]);
    assert_eq!(broken, ["b", "c", "d", "e", "f", "g", "h"]);
    assert!(!decoded.is_held_by(&map));
}

#[test]
fn an_edit_is_seen_and_what_others_put_on_the_object_stays() {
    let memory = memory(&[("a", json!({}))]);
    let mut map = memory.config_map("ops", "waybill", None);
    map.metadata.resource_version = Some("7".to_owned());
    map.metadata.labels.as_mut().unwrap().insert("team".to_owned(), "ops".to_owned());
    assert!(memory.is_held_by(&map));
    map.data.as_mut().unwrap().insert("note".to_owned(), "mine".to_owned());
    assert!(!memory.is_held_by(&map));
    let back = memory.config_map("ops", "waybill", Some(&map));
    assert!(memory.is_held_by(&back));
    assert_eq!(back.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(back.metadata.labels.unwrap()["team"], "ops");
    map.metadata.labels = None;
    assert!(!is_ours(&map));
}

#[test]
fn remembering_the_same_again_is_nothing_new_and_forgetting_is_by_class() {
    let mut memory = memory(&[("a", json!({})), ("b", json!({}))]);
    assert!(!memory.remember("a", entry(json!({}))));
    assert!(memory.remember("a", entry(json!({"strictPrefixMatching": true}))));
    assert!(memory.retain(|class| class == "a"));
    assert!(!memory.retain(|class| class == "a"));
    assert!(memory.get("b").is_none() && memory.get("a").is_some());
}

#[test]
fn outputs_are_remembered_until_they_are_let_go_of() {
    let mut memory = memory(&[("a", json!({}))]);
    let outputs = BTreeSet::from([OutputKey::new("edge", "a"), OutputKey::new("edge-2", "b")]);
    assert!(memory.set_outputs(outputs.clone()) && !memory.set_outputs(outputs.clone()));
    let map = memory.config_map("ns", "waybill", None);
    assert_eq!(map.data.as_ref().unwrap()[OUTPUTS], r#"["edge/a","edge-2/b"]"#);
    let (read, broken) = Memory::decode(&map);
    assert_eq!((read, broken), (memory.clone(), Vec::new()));
    // The class goes; what it published is still to be withdrawn.
    assert!(memory.retain(|_| false));
    assert_eq!(*memory.outputs(), outputs);
    assert!(memory.set_outputs(BTreeSet::new()) && memory.encode().data.is_empty());
    for broken in ["x", "[1]", r#"["no-namespace"]"#, r#"["a/b/c"]"#, r#"["a/.."]"#] {
        let mut map = map.clone();
        map.data.as_mut().unwrap().insert(OUTPUTS.to_owned(), broken.to_owned());
        assert_eq!(Memory::decode(&map).1, [OUTPUTS], "{broken}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_largest_first() {
    let mut memory = Memory::default();
    let large: Vec<String> = (0..256).map(|at| format!("{at:0>120}")).collect();
    for at in 0..40 {
        memory.remember(&format!("large-{at:02}"), entry(json!({"defaultMiddlewares": large.clone()})));
    }
    for at in 0..400 {
        memory.remember(&format!("small-{at:03}"), entry(json!({})));
    }
    let encoded = memory.encode();
    let bytes: usize = encoded.data.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!((MAX_BYTES - 40 * 1024..=MAX_BYTES).contains(&bytes), "{bytes}");
    assert_eq!(encoded.data.keys().filter(|class| class.starts_with("small")).count(), 400);
    assert_eq!(encoded.data.len() + encoded.left_out.len(), 440);
    assert!(encoded.left_out.len() < 15 && encoded.left_out.contains(&"large-39".into()));
}

proptest! {
    #[test]
    fn no_text_in_it_panics(data in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,40}", 0..5)) {
        let count = data.len();
        let map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        let (memory, broken) = Memory::decode(&map);
        prop_assert_eq!(memory.classes().count() + broken.len(), count);
    }
}
