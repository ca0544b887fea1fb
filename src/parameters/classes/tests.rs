use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::translate::settings::ClassState;
use crate::watch::Watched;

const ALL: Sources = Sources { parameters: true, namespaces: NamespaceSource::Listed };
const NO_LABELS: Sources = Sources { parameters: true, namespaces: NamespaceSource::Unavailable };

fn stores() -> Stores {
    Stores::new(Watched { namespaces: None, nodes: true })
}

fn no_classes() -> Classes {
    Classes::new("traefik.io/ingress-controller", Arc::default())
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn class(name: &str, parameters: Option<&str>) -> IngressClass {
    let parameters = parameters
        .map(|name| json!({"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": name}));
    parse(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"controller": "traefik.io/ingress-controller", "parameters": parameters},
    }))
}

fn object(name: &str, spec: Value) -> DynamicObject {
    parse(json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": name, "generation": 7}, "spec": spec,
    }))
}

fn strict(classes: &Classes, class: &str) -> Option<bool> {
    match classes.state(class)? {
        ClassState::Accepted(settings) => Some(settings.strict_prefix_matching),
        ClassState::NotAccepted => None,
    }
}

fn names(classes: BTreeSet<Arc<str>>) -> Vec<String> {
    classes.iter().map(ToString::to_string).collect()
}

#[test]
fn one_objects_change_touches_the_classes_that_name_it() {
    let mut stores = stores();
    let mut classes = no_classes();
    for (name, parameters) in
        [("a", Some("shared")), ("b", Some("shared")), ("c", Some("own")), ("plain", None)]
    {
        stores.apply_class(Event::Apply(class(name, parameters)));
    }
    for name in ["shared", "own"] {
        stores.apply_parameters(Event::Apply(object(name, json!({}))));
    }
    let (settings, changed) = classes.resolve_all(&stores, ALL);
    assert_eq!(names(settings), ["a", "b", "c", "plain"], "all are new");
    assert!(changed.memory);
    assert_eq!(names(classes.objects()), ["own", "shared"]);
    assert_eq!(classes.resolve_all(&stores, ALL), Default::default(), "nothing new");

    let touched =
        stores.apply_parameters(Event::Apply(object("shared", json!({"strictPrefixMatching": true}))));
    let affected = classes.affected(&stores, &touched);
    assert_eq!(names(affected.clone()), ["a", "b"]);
    for name in affected {
        let changed = classes.resolve(&stores, ALL, &name);
        assert_eq!(changed, Changed { settings: true, memory: true, ..Changed::default() });
    }
    assert_eq!((strict(&classes, "a"), strict(&classes, "c")), (Some(true), Some(false)));

    let known = CountsKnown { shards: true, agents: true };
    let observed =
        |name| classes.observed(&stores, name, Publication::Committed, ClassCounts::default(), known);
    let unused = observed("other");
    let observed = observed("shared");
    assert_eq!((observed.classes.len(), observed.generation), (2, Some(7)));
    assert_eq!(observed.accepted.unwrap().reason, Reason::Accepted);
    assert_eq!((unused.accepted, unused.classes.len()), (None, 0));
}

/// Whoever reads `observedGeneration` takes the conditions for those of this generation.
#[test]
fn a_status_is_about_the_generation_that_every_class_has_been_resolved_with() {
    let (mut stores, mut classes) = (stores(), no_classes());
    for name in ["a", "b"] {
        stores.apply_class(Event::Apply(class(name, Some("shared"))));
    }
    stores.apply_parameters(Event::Apply(object("shared", json!({}))));
    let known = CountsKnown { shards: true, agents: true };
    let generation = |classes: &Classes, stores: &Stores| {
        classes.observed(stores, "shared", Publication::Committed, ClassCounts::default(), known).generation
    };
    assert_eq!(generation(&classes, &stores), Some(7), "no class names it yet");
    classes.resolve_all(&stores, ALL);
    let mut changed = object("shared", json!({"strictPrefixMatching": true}));
    changed.metadata.generation = Some(8);
    stores.apply_parameters(Event::Apply(changed));
    assert_eq!(generation(&classes, &stores), Some(7));
    classes.resolve(&stores, ALL, "a");
    assert_eq!(generation(&classes, &stores), Some(7));
    classes.resolve(&stores, ALL, "b");
    assert_eq!(generation(&classes, &stores), Some(8));
}

#[test]
fn bad_and_missing_parameters_change_nothing_through_a_restart_too() {
    let mut stores = stores();
    let mut classes = no_classes();
    stores.apply_class(Event::Apply(class("a", Some("p"))));
    stores.apply_parameters(Event::Apply(object("p", json!({"strictPrefixMatching": true}))));
    classes.resolve_all(&stores, ALL);
    let map = classes.memory().config_map("ops", "waybill", None);

    let bad = object("p", json!({"strictPrefixMatching": "no"}));
    stores.apply_parameters(Event::Apply(bad.clone()));
    let changed = classes.resolve(&stores, ALL, "a");
    assert_eq!(changed, Changed { verdict: true, ..Changed::default() });
    assert_eq!(classes.problems().len(), 2, "one on the class, one on the field");

    // Another replica takes over; and one that has lost what was remembered.
    let mut after = self::stores();
    after.apply_class(Event::Apply(class("a", Some("p"))));
    for sources in [ALL, Sources { parameters: false, ..ALL }] {
        let mut other = no_classes();
        assert!(other.adopt(Some(&map)).is_empty());
        other.resolve_all(&after, sources);
        assert_eq!(strict(&other, "a"), Some(true));
        assert_eq!(other.memory(), classes.memory());
    }
    let mut empty = no_classes();
    empty.adopt(None);
    empty.resolve_all(&after, ALL);
    assert_eq!(empty.state("a"), Some(&ClassState::NotAccepted));
    assert_eq!(empty.resolution("a").unwrap().standing, Standing::NotAccepted);
}

#[test]
fn a_class_that_goes_or_stops_being_ours_is_forgotten() {
    let mut stores = stores();
    let mut classes = no_classes();
    for name in ["a", "b"] {
        stores.apply_class(Event::Apply(class(name, Some("p"))));
    }
    stores.apply_parameters(Event::Apply(object("p", json!({}))));
    classes.resolve_all(&stores, ALL);
    stores.apply_class(Event::Delete(class("a", Some("p"))));
    assert!(classes.resolve(&stores, ALL, "a").memory);
    let mut foreign = class("b", Some("p"));
    foreign.spec.as_mut().unwrap().controller = Some("other.io/x".to_owned());
    stores.apply_class(Event::Apply(foreign));
    let (_, changed) = classes.resolve_all(&stores, ALL);
    assert!(changed.memory && changed.verdict);
    assert_eq!(classes.memory(), &Memory::default());
    assert_eq!(classes.iter().count(), 0);
    assert_eq!((classes.state("a"), classes.state("b")), (None, None));

    // What is remembered of classes that went while nobody looked goes too.
    let mut later = no_classes();
    let mut memory = Memory::default();
    memory.remember(
        "gone",
        crate::parameters::memory::AcceptedParameters { uid: None, spec: Default::default() },
    );
    later.adopt(Some(&memory.config_map("ops", "waybill", None)));
    assert!(later.resolve_all(&stores, ALL).1.memory);
    assert_eq!(later.memory(), &Memory::default());
}

#[test]
fn labels_of_namespaces_count_only_where_a_class_selects_by_them() {
    let mut stores = stores();
    let mut classes = no_classes();
    stores.apply_class(Event::Apply(class("a", Some("p"))));
    stores.apply_class(Event::Apply(class("b", Some("q"))));
    stores.apply_parameters(Event::Apply(object("p", json!({}))));
    stores.apply_parameters(Event::Apply(object("q", json!({}))));
    classes.resolve_all(&stores, NO_LABELS);
    assert!(!classes.needs_namespaces());

    let selects = json!({"namespaces": {"selector": {"matchLabels": {"tier": "public"}}}});
    stores.apply_parameters(Event::Apply(object("p", selects)));
    let pending = Sources { namespaces: NamespaceSource::Pending, ..ALL };
    let changed = classes.resolve(&stores, pending, "a");
    assert!(classes.needs_namespaces());
    assert!(!changed.settings && !changed.memory, "what it has goes on until the labels are there");

    let namespace =
        |labels: Value| Event::Apply(parse(json!({"metadata": {"name": "shop", "labels": labels}})));
    stores.apply_namespace(namespace(json!({"tier": "public"})));
    assert!(classes.resolve(&stores, ALL, "a").settings);
    let admits = |classes: &Classes| match classes.state("a") {
        Some(ClassState::Accepted(settings)) => settings.namespaces.admits("shop"),
        _ => panic!("not accepted"),
    };
    assert!(admits(&classes));
    // The watch is opened again: no flicker.
    assert!(!classes.resolve(&stores, pending, "a").settings);
    assert!(admits(&classes));

    let touched = stores.apply_namespace(namespace(json!({})));
    let affected = classes.affected(&stores, &touched);
    assert_eq!(names(affected), ["a"]);
    assert!(classes.resolve(&stores, ALL, "a").settings);
    assert!(!admits(&classes));
}

fn paused(class: IngressClass, value: Option<&str>) -> IngressClass {
    let mut class = class;
    class.metadata.annotations =
        value.map(|value| [("waybill.dev/paused".to_owned(), value.to_owned())].into());
    class
}

fn output(classes: &Classes, class: &str) -> String {
    match classes.state(class) {
        Some(ClassState::Accepted(settings)) => settings.output.to_string(),
        other => format!("{other:?}"),
    }
}

/// A paused class stays in the output that it was in, whatever happens to its parameters, also for a replica that has
/// never seen it otherwise; and catches up when the pause ends.
#[test]
fn a_paused_class_keeps_its_settings_through_a_restart_too() {
    let mut stores = stores();
    let mut classes = no_classes();
    stores.apply_class(Event::Apply(class("a", Some("p"))));
    stores.apply_class(Event::Apply(class("plain", None)));
    stores.apply_parameters(Event::Apply(object("p", json!({"output": {"name": "first"}}))));
    classes.resolve_all(&stores, ALL);
    let first = output(&classes, "a");
    assert!(first.ends_with("/first") && classes.pausing(&OutputKey::new("waybill", "first")).is_none());

    let touched = stores.apply_class(Event::Apply(paused(class("a", Some("p")), Some("true"))));
    assert_eq!(names(classes.affected(&stores, &touched)), ["a"]);
    let changed = classes.resolve(&stores, ALL, "a");
    assert_eq!(changed, Changed { verdict: true, pause: true, ..Changed::default() });
    assert!(classes.is_paused("a") && !classes.is_paused("plain"));
    let map = classes.memory().config_map("ops", "waybill", None);

    stores.apply_parameters(Event::Apply(object("p", json!({"output": {"name": "second"}}))));
    let changed = classes.resolve(&stores, ALL, "a");
    assert_eq!((changed.settings, changed.memory), (false, false));
    assert_eq!(
        (output(&classes, "a"), classes.resolution("a").unwrap().standing),
        (first.clone(), Standing::LastAccepted)
    );
    let categories: Vec<_> = classes.problems_of("a").iter().map(|one| one.category.as_str()).collect();
    assert_eq!(categories, ["Paused"]);
    let pausing = |classes: &Classes| {
        let Some(ClassState::Accepted(settings)) = classes.state("a") else { return None };
        classes.pausing(&settings.output).map(ToString::to_string)
    };
    assert_eq!(pausing(&classes).as_deref(), Some("a"));

    let mut after = self::stores();
    after.apply_class(Event::Apply(paused(class("a", Some("p")), Some("maybe"))));
    after.apply_parameters(Event::Apply(object("p", json!({"output": {"name": "second"}}))));
    let mut other = no_classes();
    other.adopt(Some(&map));
    let (_, changed) = other.resolve_all(&after, ALL);
    assert_eq!((output(&other, "a"), changed.memory), (first.clone(), false));
    assert_eq!(pausing(&other).as_deref(), Some("a"));
    let categories: Vec<_> = other.problems_of("a").iter().map(|one| one.category.as_str()).collect();
    assert_eq!(categories, ["InvalidAnnotation", "Paused"]);

    for (classes, stores) in [(&mut classes, &mut stores), (&mut other, &mut after)] {
        stores.apply_class(Event::Apply(paused(class("a", Some("p")), Some("false"))));
        let changed = classes.resolve(stores, ALL, "a");
        assert_eq!(changed, Changed { settings: true, verdict: true, memory: true, pause: true });
        assert!(output(classes, "a").ends_with("/second"));
        assert!(classes.problems_of("a").is_empty() && !classes.is_paused("a"));
    }
    // A class that goes takes its pause along.
    stores.apply_class(Event::Apply(paused(class("a", Some("p")), Some("true"))));
    classes.resolve(&stores, ALL, "a");
    stores.apply_class(Event::Delete(class("a", Some("p"))));
    assert!(classes.resolve(&stores, ALL, "a").pause && !classes.is_paused("a"));
}

/// The last accepted settings select by labels, and a replica that has just started can't read them.
#[test]
fn where_labels_are_unknown_what_is_published_stays_with_a_pause_and_without() {
    let output = OutputKey::new("waybill", "first");
    let selects =
        json!({"output": {"name": "first"}, "namespaces": {"selector": {"matchLabels": {"tier": "public"}}}});
    let mut stores = stores();
    let mut classes = no_classes();
    stores.apply_class(Event::Apply(class("a", Some("p"))));
    stores.apply_parameters(Event::Apply(object("p", selects.clone())));
    classes.resolve_all(&stores, ALL);
    let map = classes.memory().config_map("ops", "waybill", None);
    for spec in [selects, json!({"strictPrefixMatching": "no"})] {
        for pause in [None, Some("true")] {
            let mut after = self::stores();
            after.apply_class(Event::Apply(paused(class("a", Some("p")), pause)));
            after.apply_parameters(Event::Apply(object("p", spec.clone())));
            let mut other = no_classes();
            other.adopt(Some(&map));
            other.resolve_all(&after, NO_LABELS);
            assert_eq!(other.state("a"), Some(&ClassState::NotAccepted));
            assert_eq!(other.resolution("a").unwrap().standing, Standing::Withheld);
            assert_eq!(other.withholding(&output).map(|class| &**class), Some("a"));
            assert_eq!(other.pausing(&output).is_some(), pause.is_some());
            assert!(other.is_paused("a") && other.outputs().any(|published| *published == output));
            assert!(
                other
                    .problems_of("a")
                    .iter()
                    .any(|problem| problem.remedy.contains("what is published stays"))
            );
            assert_eq!(other.memory(), classes.memory());

            let changed = other.resolve(&after, ALL, "a");
            assert!(changed.settings && changed.pause, "{changed:?}");
            assert!(other.output_of("a") == Some(&output) && other.withholding(&output).is_none());
            assert_eq!(other.is_paused("a"), pause.is_some());
            assert!(matches!(other.state("a"), Some(ClassState::Accepted(_))));
        }
    }
}
