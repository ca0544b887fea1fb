//! `waybill graph`.

use super::*;

/// Texts that try to leave SVG, its script, DOT and Mermaid. An API server refuses some of them, a file may have them.
const HOSTILE: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  namespace: shop
  name: evil"]]></script><script>alert(1)</script>
  annotations: {traefik.ingress.kubernetes.io/router.priority: '</title><script>alert(2)</script>'}
spec:
  rules: [{host: 'h', http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: paths}
spec:
  rules:
  - host: 'a"]; click n0 call evil() "x'
    http:
      paths:
      - {path: '/"]-->x["%%{init: {}}%%', pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: '/\" ]; evil -> n0 [label="', pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: "/<img src=x onerror=alert(3)>'\"&]]>\u202e\u0001", pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
"#;

fn graph(format: &str, input: &str) -> String {
    let outcome = waybill(&["graph", "-f", "-", "-o", format], input);
    assert_eq!(outcome.code, SUCCESS, "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn a_tenants_text_does_not_leave_the_picture() {
    let text = graph("svg", HOSTILE);
    assert!(text.contains("img src") && text.contains("alert(2)"), "{text}");
    assert_eq!(text.matches("<script").count(), 1, "{text}");
    assert_eq!(text.matches("]]>").count(), 1, "{text}");
    assert!(!text.contains("<img") && !text.contains(['\u{202e}', '\u{1}']), "{text}");
    // Every element is closed, and every < is one of ours.
    let body = text.split("<script>").next().unwrap();
    for element in body.split('<').skip(1) {
        let name: String =
            element.trim_start_matches('/').chars().take_while(char::is_ascii_alphabetic).collect();
        assert!(["svg", "title", "style", "rect", "text", "g", "path"].contains(&&*name), "{element}");
        let tag = element.split('>').next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        // What is left without the values of attributes is ours.
        assert!(!tag.split('"').step_by(2).any(|ours| ours.contains(" on")), "{tag}");
    }
}

#[test]
fn a_tenants_text_stays_a_label_in_dot() {
    let text = graph("dot", HOSTILE);
    assert!(text.contains("evil"), "{text}");
    for line in text.lines() {
        // What is left without quoted strings is ours.
        let (mut outside, mut quoted, mut escaped) = (String::new(), false, false);
        for c in line.chars() {
            match c {
                '"' if !escaped => quoted = !quoted,
                _ if !quoted => outside.push(c),
                _ => {}
            }
            escaped = c == '\\' && !escaped;
        }
        assert!(!quoted && !outside.contains("evil") && !outside.contains("click"), "{line}");
    }
}

#[test]
fn a_tenants_text_stays_a_label_in_mermaid() {
    let text = graph("mermaid", HOSTILE);
    assert!(text.contains("evil"), "{text}");
    for line in text.lines().filter(|line| line.contains('"')) {
        assert_eq!(line.matches('"').count(), 2, "{line}");
        let label = line.split('"').nth(1).unwrap();
        assert!(!label.contains(['<', '>', '%', '{', '[', '`', '&']), "{label}");
    }
    assert!(!text.contains("%%"), "{text}");
}

#[test]
fn programs_get_hosts_paths_services_endpoints_and_problems() {
    let value: serde_json::Value = serde_json::from_str(&graph("json", SHOP)).unwrap();
    let shop = &value["namespaces"][0];
    assert_eq!(shop["name"], "shop");
    assert_eq!(shop["routes"][0]["host"], "shop.example");
    assert_eq!(shop["routes"][0]["path"], "/ and below");
    assert_eq!(shop["services"][0]["endpoints"][0], "http://10.0.0.1:8080");
    let broken: serde_json::Value =
        serde_json::from_str(&graph("json", &format!("{SHOP}---{BROKEN}"))).unwrap();
    assert_eq!(broken["namespaces"][0]["problems"].as_array().unwrap().len(), 2, "{broken:#}");
    // Without EndpointSlices nobody knows them.
    let without: serde_json::Value = serde_json::from_str(&graph("json", BROKEN)).unwrap();
    assert_eq!(without["namespaces"][0]["services"][0]["endpoints"], serde_json::Value::Null);
}

#[test]
fn a_host_or_an_ingress_can_be_looked_at_alone() {
    let only = |name: &str| waybill(&["graph", "-f", "-", "-o", "dot", name], SHOP);
    assert!(only("shop.example").stdout.contains("shop.example"));
    assert!(only("shop/web").stdout.contains("shop.example"));
    let nobody = only("other.example");
    assert!(nobody.code == USAGE && nobody.stderr.contains("other.example: no route"), "{}", nobody.stderr);
}

#[test]
fn a_problem_is_whole_and_an_output_can_be_drawn_alone() {
    let long = format!("{SHOP}---{}", BROKEN.replace("name: gone", &format!("name: {}", "gone-".repeat(60))));
    let picture = graph("svg", &long);
    let letters: String =
        picture.split("<text").skip(1).filter_map(|one| one.split(['>', '<']).nth(1)).collect();
    assert!(letters.contains(&"gone-".repeat(60)) && letters.contains("create it, or name one that exists"));
    let outcome = waybill(&["graph", "-f", "-", "--output-name", "waybill/waybill", "-o", "dot"], SHOP);
    assert!(outcome.code == SUCCESS && outcome.stdout.contains("shop.example"), "{}", outcome.stderr);
    let outcome = waybill(&["graph", "-f", "-", "--output-name", "waybill/other"], SHOP);
    assert!(
        outcome.code == USAGE && outcome.stderr.contains("name one of waybill/waybill"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_mermaid_would_not_draw_is_said() {
    let path = |at: usize| {
        format!(
            "{{path: /{at}, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}"
        )
    };
    let many: Vec<String> = (0..300).map(path).collect();
    let large = SHOP.replace("paths: [", &format!("paths: [{}, ", many.join(", ")));
    let outcome = waybill(&["graph", "-f", "-", "-o", "mermaid"], &large);
    assert!(outcome.code == SUCCESS && outcome.stderr.contains("maxEdges"), "{}", outcome.stderr);
    assert_eq!(waybill(&["graph", "-f", "-", "-o", "mermaid"], SHOP).stderr, "");
}
