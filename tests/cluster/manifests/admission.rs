//! The component `admission` refuses and warns of what `render` calls a problem, in a real API server and over the golden
//! cases.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use waybill::kubernetes::manifests::Manifests;
use waybill::options;
use waybill::translate::problem::{Category, Problem};

use super::{documents, overlay, root};
use crate::harness::operator::SOON;
use crate::harness::{ControlPlane, eventually};
use crate::operator::objects::{ingress, service};

const POLICIES: &str = "manifests/components/admission/policies.yaml";

/// What the policies speak of where they refuse.
const REFUSED: &[Category] =
    &[Category::InvalidAnnotation, Category::EmptyListItem, Category::InvalidPathMatcher];

/// And where they warn.
const WARNED: &[Category] = &[
    Category::EmptyListItem,
    Category::UnclearSwitch,
    Category::UnknownAnnotation,
    Category::IgnoredAnnotation,
];

/// What the API server says of an object.
#[derive(Debug, Default)]
struct Said {
    /// Why a policy refused it.
    refused: Option<String>,
    warnings: Vec<String>,
    /// It is not valid, whatever the policies say.
    invalid: bool,
}

/// Creates an object for a try.
async fn try_to_create(client: &Client, object: &Value) -> Said {
    let (group, resource) = match object["kind"].as_str() {
        Some("Ingress") => ("/apis/networking.k8s.io/v1", "ingresses"),
        _ => ("/api/v1", "services"),
    };
    let request = http::Request::post(format!("{group}/namespaces/golden/{resource}?dryRun=All"))
        .header("content-type", "application/json")
        .body(Body::from(object.to_string().into_bytes()))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings.map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned());
    let warnings = warnings.filter(|text| text.contains("ValidatingAdmissionPolicy")).collect();
    if answer.status().is_success() {
        return Said { warnings, ..Said::default() };
    }
    let body = answer.into_body().collect_bytes().await.unwrap();
    let status: Value = serde_json::from_slice(&body).unwrap();
    let message = status["message"].as_str().unwrap_or_default().to_owned();
    let is_policy = message.contains("ValidatingAdmissionPolicy 'waybill-");
    Said { refused: is_policy.then_some(message), warnings, invalid: !is_policy }
}

/// A control plane with the policies in force.
async fn plane() -> ControlPlane {
    let plane = ControlPlane::start().await;
    let client = plane.admin();
    plane.kubectl_ok(&["create", "namespace", "golden"]);
    plane.kubectl_ok(&["apply", "-f", &root().join(POLICIES).display().to_string()]);
    let mut bad = [ingress("golden", "x", "web"), service("golden", "x")];
    let prefix = "traefik.ingress.kubernetes.io";
    bad[0]["metadata"]["annotations"] =
        json!({format!("{prefix}/router.priority"): "high", format!("{prefix}/router.prority"): "1"});
    bad[1]["metadata"]["annotations"] =
        json!({format!("{prefix}/service.nativelb"): "maybe", format!("{prefix}/service.native"): "1"});
    for object in bad {
        eventually("the policies are in force", SOON, async || {
            let said = try_to_create(&client, &object).await;
            if said.refused.is_some() && !said.warnings.is_empty() {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .await;
    }
    plane
}

/// A golden case: its objects as they are written, and the problems of each by kind, namespace and name.
struct Case {
    title: String,
    objects: Vec<Value>,
    problems: BTreeMap<String, Vec<Problem>>,
    /// Names of the Ingresses that are translated.
    ours: Vec<String>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(root().join("tests/golden"))
        .unwrap()
        .map(|entry| case(&entry.unwrap().path()))
        .collect();
    cases.sort_by(|a, b| a.title.cmp(&b.title));
    cases
}

fn case(folder: &Path) -> Case {
    let text = std::fs::read_to_string(folder.join("options.yaml")).unwrap_or_default();
    let options = options::from_yaml_str(&text).unwrap().options;
    let input = std::fs::read_to_string(folder.join("input.yaml")).unwrap();
    let mut manifests = Manifests::default();
    manifests.add(&Arc::from("input.yaml"), input.as_bytes());
    let routing = waybill::offline::routing(manifests, &options);
    let mut problems: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
    for problem in routing.all_problems() {
        problems.entry(problem.subject.to_string()).or_default().push(problem);
    }
    let ours = routing.table().fragments().map(|fragment| format!("Ingress {}", fragment.ingress)).collect();
    let mut objects = Vec::new();
    for document in documents(&input) {
        match document["items"].as_array() {
            Some(items) => objects.extend(items.iter().cloned()),
            None => objects.push(document),
        }
    }
    Case { title: folder.file_name().unwrap().to_string_lossy().into_owned(), objects, problems, ours }
}

/// The object as it is tried, and its name as problems have it; `None` where it is of another kind.
fn tried(object: &Value, case: &Case) -> Option<(Value, String)> {
    let kind = object["kind"].as_str().filter(|kind| ["Ingress", "Service"].contains(kind))?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let title = format!("{kind} {namespace}/{}", metadata["name"].as_str().unwrap_or_default());
    let mut tried = object.clone();
    tried.as_object_mut().unwrap().remove("status");
    tried["metadata"] =
        json!({"name": "tried", "namespace": "golden", "annotations": metadata["annotations"]});
    if kind == "Ingress" {
        if !case.ours.contains(&title) {
            return None;
        }
        // The policies know the class `traefik` only.
        tried["spec"]["ingressClassName"] = "traefik".into();
        if let Some(annotations) = tried["metadata"]["annotations"].as_object_mut() {
            annotations.remove("kubernetes.io/ingress.class");
        }
    }
    Some((tried, title))
}

#[tokio::test]
async fn what_is_refused_or_warned_of_is_a_problem_and_the_other_way_round() {
    let plane = plane().await;
    let client = plane.admin();
    let (mut refused, mut warned) = (0, 0);
    let mut wrong = Vec::new();
    for case in cases() {
        let backends: Vec<String> = case.objects.iter().map(Value::to_string).collect();
        for object in &case.objects {
            let Some((tried, title)) = tried(object, &case) else { continue };
            let said = try_to_create(&client, &tried).await;
            if said.invalid {
                continue;
            }
            let problems = case.problems.get(&title).map(Vec::as_slice).unwrap_or_default();
            // Nobody is told of a Service that nobody uses.
            let name = object["metadata"]["name"].to_string();
            let is_used = object["kind"] == "Ingress"
                || !problems.is_empty()
                || backends.iter().any(|text| text.contains("\"Ingress\"") && text.contains(&name));
            let speaks_of = |text: &str, categories: &[Category]| {
                problems.iter().any(|problem| {
                    categories.contains(&problem.category) && text.contains(problem.category.as_str())
                })
            };
            if let Some(text) = &said.refused {
                refused += 1;
                if is_used && !speaks_of(text, REFUSED) {
                    wrong.push(format!("{}: {title} is refused without a problem: {text}", case.title));
                }
            }
            for text in &said.warnings {
                warned += 1;
                if is_used && !speaks_of(text, WARNED) {
                    wrong.push(format!("{}: {title}: a warning without a problem: {text}", case.title));
                }
            }
            let all = said.warnings.iter().chain(&said.refused).cloned().collect::<String>();
            for problem in problems {
                let policies = REFUSED.contains(&problem.category) || WARNED.contains(&problem.category);
                if policies && !all.contains(problem.category.as_str()) {
                    wrong.push(format!("{}: nothing is said of: {problem}; {all}", case.title));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused >= 20 && warned >= 20, "{refused} are refused, {warned} warned of");
}

#[tokio::test]
async fn other_classes_and_updates_of_the_rest_are_left_alone_and_a_hostile_object_costs_little() {
    let plane = plane().await;
    let client = plane.admin();
    let prefix = "traefik.ingress.kubernetes.io";
    let mut bad = ingress("golden", "web", "web");
    bad["metadata"]["annotations"] = json!({format!("{prefix}/router.priority"): "high"});
    for (class, annotation, is_refused) in [
        (Some("traefik"), None, true),
        (Some("nginx"), None, false),
        (None, None, true),
        (None, Some("traefik"), true),
        (None, Some("nginx"), false),
    ] {
        let mut tried = bad.clone();
        match class {
            Some(class) => tried["spec"]["ingressClassName"] = class.into(),
            None => drop(tried["spec"].as_object_mut().unwrap().remove("ingressClassName")),
        }
        if let Some(annotation) = annotation {
            tried["metadata"]["annotations"]["kubernetes.io/ingress.class"] = annotation.into();
        }
        let said = try_to_create(&client, &tried).await;
        assert_eq!(said.refused.is_some(), is_refused, "{class:?}, {annotation:?}: {said:?}");
        if let Some(text) = said.refused {
            let wanted = "InvalidAnnotation: metadata.annotations[traefik.ingress.kubernetes.io/router.priority]: \
                          \"high\": write a whole number";
            assert!(text.contains(wanted), "{text}");
        }
    }

    // One that was there before may get labels and finalizers, and no other bad annotation.
    plane.kubectl_ok(&["delete", "validatingadmissionpolicybindings", "--all"]);
    eventually("nothing is refused", SOON, async || {
        let said = try_to_create(&client, &bad).await;
        said.refused.map_or(Ok(()), Err)
    })
    .await;
    plane.apply_objects(&[bad.clone()]).await;
    plane.kubectl_ok(&["apply", "-f", &root().join(POLICIES).display().to_string()]);
    eventually("it is refused", SOON, async || {
        let said = try_to_create(&client, &bad).await;
        said.refused.map(drop).ok_or("not yet")
    })
    .await;
    plane.kubectl_ok(&["-n", "golden", "label", "ingress", "web", "team=a"]);
    let annotate = ["-n", "golden", "annotate", "--overwrite", "ingress", "web"];
    let refused = plane.kubectl(&[&annotate[..], &[&format!("{prefix}/router.priority=low")]].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.starts_with("The ingresses \"web\" is invalid: : ValidatingAdmissionPolicy"), "{said}");
    plane.kubectl_ok(&[&annotate[..], &[&format!("{prefix}/router.priority=7")]].concat());

    // A text that can't be shown, very long ones, and as many as the API server takes.
    let mut lines = bad.clone();
    lines["metadata"]["annotations"][format!("{prefix}/router.priority")] = "1'\"\n2".into();
    let said = try_to_create(&client, &lines).await.refused.unwrap();
    assert!(said.contains("InvalidAnnotation") && said.contains("whole number"), "{said}");
    let mut long = bad.clone();
    long["metadata"]["annotations"][format!("{prefix}/router.priority")] = "9".repeat(200_000).into();
    let said = try_to_create(&client, &long).await.refused.unwrap();
    assert!(said.len() < 1_000, "{said}");
    let mut many = bad;
    for at in 0..5_000 {
        many["metadata"]["annotations"][format!("{prefix}/router.x{at}")] = "x".into();
    }
    let begun = Instant::now();
    let said = try_to_create(&client, &many).await;
    assert!(said.refused.is_none(), "it is beyond the cost limit: {said:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn an_overlay_may_name_other_classes() {
    let objects = overlay(
        "resources: [../../manifests]
components: [../../manifests/components/admission]
patches:
  - target: {kind: ValidatingAdmissionPolicy, name: waybill-ingresses-.*}
    patch: |-
      - op: replace
        path: /spec/variables/0/expression
        value: \"['public', 'internal']\"
      - op: replace
        path: /spec/variables/1/expression
        value: \"['']\"
",
    );
    let policies = objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
    let policies: Vec<_> =
        policies.filter(|policy| policy["metadata"]["name"].to_string().contains("ingresses")).collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let variables = &policy["spec"]["variables"];
        assert_eq!(variables[0], json!({"name": "classes", "expression": "['public', 'internal']"}));
        assert_eq!(variables[1], json!({"name": "classAnnotations", "expression": "['']"}));
    }
}
