//! Draws a graph as a self-contained SVG with styles and a script. Without the script, everything is unfolded and
//! readable. With it, there is a search, and namespaces fold.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::explained::{counted, shown};
use super::graph::{GraphNamespace, GraphRoute, GraphService, RoutingGraph};
use crate::redact::hide_keys;

const STYLE: &str = include_str!("graph.css");
const SCRIPT: &str = include_str!("graph.js");

const WIDTH: usize = 1_240;
/// The position of the first namespace, which the script uses too.
const TOP: usize = 64;
const ROW: usize = 28;
const HEAD: usize = 36;

/// Columns: their positions and widths.
const HOST: (usize, usize) = (20, 250);
const PATH: (usize, usize) = (310, 340);
const SERVICE: (usize, usize) = (690, 250);
const ENDPOINTS: usize = 956;

/// The width of a character of 12 pixels.
const LETTER: f64 = 7.23;

/// The maximum length of tooltips, and of texts for the search.
const TITLE_LIMIT: usize = 10_000;

/// The length of a line of a problem, and the height of a further line.
const PROBLEM_LINE: usize = 160;
const FURTHER_LINE: usize = 16;

/// The whole picture.
pub fn svg(graph: &RoutingGraph) -> String {
    let mut y = TOP;
    let mut groups = String::new();
    for namespace in &graph.namespaces {
        y += space(&mut groups, namespace, y);
    }
    let height = y + 16;
    let (routes, spaces) = (graph.routes(), graph.namespaces.len());
    let problems: usize = graph.namespaces.iter().map(|one| one.problems.len()).sum();
    let counts = format!("{}, {}", counted(routes, "route"), counted(spaces, "namespace"));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <title>Routing</title>\n<style>\n{STYLE}</style>\n\
         <rect id=\"back\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"20\" y=\"34\">Routing</text><text class=\"soft\" x=\"104\" y=\"34\">{counts}</text>\
         <text class=\"bad\" x=\"400\" y=\"34\">{}</text>\n\
         {groups}<script>\n//<![CDATA[\n{SCRIPT}//]]>\n</script>\n</svg>\n",
        if problems > 0 { counted(problems, "problem") } else { String::new() }
    )
}

/// Draws a namespace; returns its height.
fn space(out: &mut String, namespace: &GraphNamespace, y: usize) -> usize {
    let GraphNamespace { name, routes, services, problems } = namespace;
    let problem_lines: Vec<Vec<String>> = problems.iter().map(|one| wrapped(one)).collect();
    let further: usize = problem_lines.iter().map(|lines| lines.len() - 1).sum();
    let top = HEAD + problems.len() * ROW + further * FURTHER_LINE;
    let height = top + routes.len() * ROW + 12;
    let _ = writeln!(
        out,
        "<g class=\"space\" data-name=\"{}\" data-height=\"{height}\" transform=\"translate(0,{y})\">",
        xml(name)
    );
    let bad = if problems.is_empty() { String::new() } else { counted(problems.len(), "problem") };
    let _ = writeln!(
        out,
        "<g class=\"head\"><rect width=\"{WIDTH}\" height=\"30\"/><text class=\"arrow\" x=\"20\" y=\"20\">▾</text>\
         <text x=\"38\" y=\"20\">{}</text><text class=\"soft\" x=\"{}\" y=\"20\">{}</text>\
         <text class=\"bad\" x=\"{}\" y=\"20\">{bad}</text></g>\n<g class=\"body\">",
        xml(&cut(name, HOST.1)),
        PATH.0,
        counted(routes.len(), "route"),
        PATH.0 + 110
    );
    let mut line_y = HEAD + 17;
    for lines in &problem_lines {
        out.push_str("<g class=\"problem\">");
        for (at, line) in lines.iter().enumerate() {
            let (x, mark) = if at == 0 { (38, "⚠ ") } else { (54, "") };
            let y = line_y + at * FURTHER_LINE;
            let _ = write!(out, "<text class=\"bad\" x=\"{x}\" y=\"{y}\">{mark}{}</text>", xml(line));
        }
        out.push_str("</g>\n");
        line_y += ROW + (lines.len() - 1) * FURTHER_LINE;
    }
    let mut boxes = String::new();
    let mut host_rows: Vec<(usize, usize)> = Vec::new();
    let endpoints: Vec<String> = services.iter().map(searched).collect();
    for (at, route) in routes.iter().enumerate() {
        if at > 0 && routes[at - 1].host == route.host {
            if let Some(last) = host_rows.last_mut() {
                last.1 = at;
            }
        } else {
            host_rows.push((at, at));
        }
        let service_at = top + route.service * ROW;
        let host_at = top + host_rows.last().map_or(at, |rows| rows.0) * ROW;
        draw_route(
            &mut boxes,
            route,
            (&services[route.service].name, &endpoints[route.service]),
            host_rows.len() - 1,
            [host_at, top + at * ROW, service_at],
        );
    }
    out.push_str(&boxes);
    for (at, (first, _)) in host_rows.iter().enumerate() {
        let route = &routes[*first];
        let name = if route.host.is_empty() { "every host" } else { &route.host };
        node(out, &format!("data-h=\"{at}\""), HOST, top + first * ROW, name, name);
    }
    for (at, service) in services.iter().enumerate() {
        draw_service(out, service, at, top + at * ROW);
    }
    out.push_str("</g></g>\n");
    height
}

/// The number of endpoints of a service that can be searched.
fn searched(service: &GraphService) -> String {
    let mut text = String::new();
    for endpoint in service.endpoints.iter().flat_map(|endpoints| endpoints.iter()) {
        // A character has four bytes at most.
        if text.len() > 4 * TITLE_LIMIT {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(endpoint);
    }
    text
}

/// Draws the path of a route, and the lines to it and from it.
fn draw_route(
    out: &mut String,
    route: &GraphRoute,
    (service, endpoints): (&str, &str),
    host: usize,
    rows: [usize; 3],
) {
    let GraphRoute { path, rule, ingress, output, middlewares, tls, .. } = route;
    let [from, at, to] = rows;
    let text = format!("{} {path} {ingress} {service} {endpoints}", route.host);
    let _ = write!(
        out,
        "<g class=\"route{}\" data-h=\"{host}\" data-s=\"{}\" data-text=\"{}\">{}{}",
        if route.problem { " bad" } else { "" },
        route.service,
        titled(&text),
        curve(HOST.0 + HOST.1, from, PATH.0, at),
        curve(PATH.0 + PATH.1, at, SERVICE.0, to)
    );
    let tls = if *tls { "TLS" } else { "no TLS of its own" };
    let mut title = format!("{rule}\nIngress {ingress}, output {output}\n{tls}");
    if !middlewares.is_empty() {
        let _ = write!(title, "\nmiddlewares {}", middlewares.join(" → "));
    }
    let mark = if route.problem { "⚠ " } else { "" };
    node(out, "", PATH, at, &format!("{mark}{path}"), &title);
    out.push_str("</g>\n");
}

fn draw_service(out: &mut String, service: &GraphService, at: usize, y: usize) {
    let class = if service.has_no_endpoint() { " class=\"bad\"" } else { "" };
    node(
        out,
        &format!("data-s=\"{at}\"{class}"),
        SERVICE,
        y,
        &service.name,
        &format!("Service {}", service.name),
    );
    let Some(endpoints) = &service.endpoints else { return };
    let all: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let (class, text) = match &*all {
        [] => ("bad", "no endpoints: 503".to_owned()),
        [one] => ("soft", (*one).to_owned()),
        [first, ..] => ("soft", format!("{first} +{}", all.len() - 1)),
    };
    let _ = writeln!(
        out,
        "<g><title>{}</title><text class=\"{class}\" x=\"{ENDPOINTS}\" y=\"{}\">{}</text></g>",
        titled(&all.join("\n")),
        y + 17,
        xml(&cut(&text, WIDTH - ENDPOINTS))
    );
}

fn node(out: &mut String, attributes: &str, column: (usize, usize), y: usize, text: &str, title: &str) {
    let (x, width) = column;
    let _ = writeln!(
        out,
        "<g {attributes}><title>{}</title><rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"22\" rx=\"5\"/>\
         <text x=\"{}\" y=\"{}\">{}</text></g>",
        titled(title),
        y + 2,
        x + 8,
        y + 17,
        xml(&cut(text, width - 16))
    );
}

fn curve(x: usize, y: usize, to_x: usize, to_y: usize) -> String {
    let (y, to_y, middle) = (y + 13, to_y + 13, x.midpoint(to_x));
    format!("<path d=\"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}\"/>")
}

/// As much of a text as fits into a width.
fn cut(text: &str, width: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "pixels"
    )]
    let room = (width as f64 / LETTER) as usize;
    first(&visible(text), room)
}

/// Splits a text into lines, at least one, which end at spaces if possible.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = PROBLEM_LINE;
    for word in visible(text).split_inclusive(' ') {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(PROBLEM_LINE) {
            if part.len() > room {
                lines.push(String::new());
                room = PROBLEM_LINE;
            }
            room -= part.len();
            lines.last_mut().into_iter().for_each(|line| line.extend(part));
        }
    }
    lines
}

fn first(text: &str, room: usize) -> String {
    if text.chars().nth(room).is_none() {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn titled(text: &str) -> String {
    let lines: Vec<String> = first(text, TITLE_LIMIT).lines().map(xml).collect();
    lines.join("&#10;")
}

/// Escapes characters that XML can't represent, and those that change the direction of text, as in Rust.
fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in shown(&hide_keys(text)).chars() {
        match c {
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Escapes a tenant's text for a text or an attribute of XML.
fn xml(text: &str) -> String {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic() && !b"&<>\"'".contains(&byte);
    if text.bytes().all(is_plain) && matches!(hide_keys(text), Cow::Borrowed(_)) {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
