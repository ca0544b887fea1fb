//! Prints a graph as DOT and as Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::explained::shown;
use super::graph::{GraphNamespace, RoutingGraph};

/// The differences between DOT and Mermaid. Nodes have numbers, so a tenant's text is only ever a label.
struct Syntax {
    group: fn(usize, &str) -> String,
    node: fn(usize, &str) -> String,
    /// A node that is a problem.
    bad: fn(usize, &str) -> String,
    edge: fn(usize, usize) -> String,
    end: &'static str,
}

/// For Graphviz.
pub fn dot(graph: &RoutingGraph) -> String {
    let syntax = Syntax {
        group: |at, text| format!("  subgraph cluster_{at} {{\n    label={}\n", quoted(text)),
        node: |at, text| format!("    n{at} [label={}]\n", quoted(text)),
        bad: |at, text| format!("    n{at} [label={} color=red fontcolor=red]\n", quoted(text)),
        edge: |from, to| format!("    n{from} -> n{to}\n"),
        end: "  }\n",
    };
    let head = "digraph waybill {\n  rankdir=LR\n  node [shape=box style=rounded fontname=\"monospace\"]\n";
    format!("{head}{}}}\n", body(graph, &syntax))
}

/// For Markdown.
pub fn mermaid(graph: &RoutingGraph) -> String {
    let syntax = Syntax {
        group: |at, text| format!("  subgraph g{at}[\"{}\"]\n", entities(text)),
        node: |at, text| format!("    n{at}[\"{}\"]\n", entities(text)),
        bad: |at, text| format!("    n{at}[\"{}\"]:::bad\n", entities(text)),
        edge: |from, to| format!("    n{from} --> n{to}\n"),
        end: "  end\n",
    };
    format!("flowchart LR\n  classDef bad stroke:#c00,color:#c00\n{}", body(graph, &syntax))
}

fn body(graph: &RoutingGraph, syntax: &Syntax) -> String {
    let mut out = String::new();
    let mut next = 0;
    for (at, namespace) in graph.namespaces.iter().enumerate() {
        out.push_str(&(syntax.group)(at, &format!("namespace {}", namespace.name)));
        group(&mut out, &mut next, namespace, syntax);
        out.push_str(syntax.end);
    }
    out
}

fn group(out: &mut String, next: &mut usize, namespace: &GraphNamespace, syntax: &Syntax) {
    let mut node = |out: &mut String, bad: bool, text: &str| {
        let at = *next;
        *next += 1;
        let _ = write!(out, "{}", if bad { (syntax.bad)(at, text) } else { (syntax.node)(at, text) });
        at
    };
    let services: Vec<usize> = namespace
        .services
        .iter()
        .map(|service| {
            let at = node(out, service.has_no_endpoint(), &format!("Service {}", service.name));
            let endpoints = match &service.endpoints {
                None => return at,
                Some(all) if all.is_empty() => node(out, true, "no endpoints"),
                Some(all) => node(out, false, &all.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            out.push_str(&(syntax.edge)(at, endpoints));
            at
        })
        .collect();
    let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
    for route in &namespace.routes {
        let name = if route.host.is_empty() { "every host" } else { &route.host };
        let host = *hosts.entry(&route.host).or_insert_with(|| node(out, false, name));
        let path = node(out, route.problem, &route.path);
        out.push_str(&(syntax.edge)(host, path));
        out.push_str(&(syntax.edge)(path, services[route.service]));
    }
    for problem in &namespace.problems {
        node(out, true, problem);
    }
}

/// A string of DOT, in which `\` begins an escape and `&` an entity.
fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text of Mermaid: characters with a meaning for it or for the page are written as numbers.
fn entities(text: &str) -> String {
    let mut out = String::new();
    for c in shown(text).chars() {
        if c.is_alphanumeric() || " .,:/-_*".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}
