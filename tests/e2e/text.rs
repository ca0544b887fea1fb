//! Templates, quotes and the like come out of Traefik's API as they went in, from every field that a tenant controls.

use serde_json::{Value, json};

use crate::client::Backend;
use crate::objects::{annotated, ingress, path, service, simple, slice};
use crate::world::{Edge, World};

/// Traefik runs its files through Go's templates, and its parser knows YAML's escapes.
const HOSTILE: &[&str] = &[
    r#"{{ env "HOME" }}"#,
    "{{",
    "}}",
    r#"{{`{{ env "HOME" }}`}}"#,
    "`tick`",
    r#""quote"\back"#,
    "'single'",
    "{%x%} ${HOME} $(id)",
    "a: b # c",
    "a\u{2028}b\u{2029}c\u{feff}d",
    "new\nline\ttab",
    "<script>&amp;",
    // The end of an item, in a list of Traefik's.
    "a║b",
    // A domain without a name is an empty section.
    "",
];

/// Annotations whose values are free text, or lists of it.
const OF_INGRESS: &[&str] = &[
    "router.entrypoints",
    "router.middlewares",
    "router.tls.certresolver",
    "router.tls.options",
    "router.tls.domains.0.main",
    "router.tls.domains.0.sans",
    "router.rulesyntax",
    "router.pathmatcher",
    "router.priority",
    "router.observability.accesslogs",
];
const OF_SERVICE: &[&str] = &[
    "service.sticky.cookie.name",
    "service.sticky.cookie.domain",
    "service.sticky.cookie.path",
    "service.sticky.cookie.samesite",
    "service.serversscheme",
    "service.serverstransport",
    "service.middlewares",
];

pub async fn what_tenants_write_stays_text() {
    let world = World::start(&[]).await;
    let edge = Edge::start(&world, "edge").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    let mut objects = vec![service("web"), slice("web", &["10.99.1.1"]), simple("plain", "web")];
    // A name without a provider would be another namespace's for all that waybill knows.
    let value = |annotation: &str, text: &str| {
        let refers =
            ["middlewares", "tls.options", "serverstransport"].iter().any(|end| annotation.ends_with(end));
        if refers { format!("{text}@file") } else { text.to_owned() }
    };
    let key = |name: &str| format!("traefik.ingress.kubernetes.io/{name}");
    for (at, text) in HOSTILE.iter().enumerate() {
        let name = format!("path-{at}");
        // An API server takes any text as a path of this type that begins with a slash.
        let paths = [path("ImplementationSpecific", &format!("/{text}"), "web")];
        objects.push(ingress(&name, &format!("{name}.example"), &paths));
        for (number, annotation) in OF_INGRESS.iter().enumerate() {
            let mut annotations = json!({key(annotation): value(annotation, text)});
            if annotation.starts_with("router.tls.") {
                annotations[key("router.tls")] = "true".into();
            }
            objects.push(annotated(simple(&format!("router-{at}-{number}"), "web"), annotations));
        }
        for (number, annotation) in OF_SERVICE.iter().enumerate() {
            let name = format!("service-{at}-{number}");
            let annotations = json!({key(annotation): value(annotation, text)});
            objects.push(annotated(service(&name), annotations));
            objects.extend([slice(&name, &["10.99.1.1"]), simple(&name, &name)]);
        }
    }
    let mut external = annotated(service("external"), json!({}));
    external["spec"] = json!({"type": "ExternalName", "externalName": "env-home.example",
        "ports": [{"name": "web", "port": 8080}]});
    objects.extend([external, simple("external", "external")]);
    world.apply(&objects).await;
    edge.answers(&[("plain.example/", "web")]).await;
    edge.loaded(&world).await;

    let routers = edge.api("http/routers?per_page=1000").await;
    let services = edge.api("http/services?per_page=1000").await;
    let all = format!("{routers}{services}");
    assert!(!all.contains("home-of-the-proxy"), "a template was executed: {all}");
    let (_, published) = world.plane.published("waybill/waybill").await.unwrap();
    let mut texts = Texts::default();
    for (section, shown) in [("routers", &routers), ("services", &services)] {
        for (name, entry) in published["http"][section].as_object().unwrap() {
            let found = shown.as_array().unwrap().iter().find(|one| one["name"] == format!("{name}@file"));
            let found = found.unwrap_or_else(|| panic!("Traefik has no {section} {name}: {all}"));
            texts.compare(&format!("{section} {name}"), entry, found);
        }
    }
    assert!(texts.different.is_empty(), "{:#?}", texts.different);
    for text in HOSTILE {
        // A line that ends within a value, or blanks around it, are YAML's affair in annotations of lists.
        let times = texts.same.iter().filter(|one| one.contains(text)).count();
        assert!(times >= 5, "{text:?} is in {times} values that came out as they went in");
    }
    world.assert_nothing_refused();
}

/// Texts that Traefik shows as they were published, and others.
#[derive(Default)]
struct Texts {
    same: Vec<String>,
    different: Vec<String>,
}

impl Texts {
    /// What is published is in what Traefik shows; that has defaults as well, and providers behind names.
    fn compare(&mut self, place: &str, published: &Value, shown: &Value) {
        match (published, shown) {
            (Value::Object(fields), Value::Object(_)) => {
                for (field, value) in fields {
                    self.compare(&format!("{place}.{field}"), value, &shown[field]);
                }
            }
            (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
                for (at, (one, other)) in items.iter().zip(others).enumerate() {
                    self.compare(&format!("{place}[{at}]"), one, other);
                }
            }
            (Value::String(text), Value::String(other))
                if text == other || other.strip_suffix("@file") == Some(text.as_str()) =>
            {
                self.same.push(text.clone());
            }
            // Traefik replaces what a cookie's name can't have.
            (Value::String(text), Value::String(other))
                if place.ends_with(".cookie.name") && text.chars().map(of_cookie).eq(other.chars()) => {}
            _ if published == shown => {}
            _ => self.different.push(format!("{place}: {published} is shown as {shown}")),
        }
    }
}

fn of_cookie(one: char) -> char {
    let known = one.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(one);
    if known { one } else { '_' }
}
