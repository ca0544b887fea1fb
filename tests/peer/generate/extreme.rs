//! Clusters at the limits of what the API server takes, good ones and bad ones.

use serde_json::{Value, json};

use super::Maker;
use super::secret::{base64, mark};

/// How many kinds of it there are.
pub const KINDS: usize = 10;

/// Characters that the name of a Service, and a label of any other name, may have.
const LABEL: usize = 63;

/// Characters that other names may have.
const NAME: usize = 253;

/// Bytes that all annotations of an object may have, keys and values together.
const ANNOTATIONS: usize = 256 * 1024;

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// A name of full length that ends in a number.
fn long_name(letter: char, number: usize) -> String {
    let label = letter.to_string().repeat(LABEL);
    let mut name = format!("{label}.{label}.{label}.");
    let end = format!("-{number}");
    name.extend(std::iter::repeat_n(letter, NAME - name.len() - end.len()));
    name + &end
}

/// A value that fills the annotations of an object of which it is the only one.
fn filling(key: &str, begin: &str, item: impl Fn(usize) -> String) -> String {
    let room = ANNOTATIONS - PREFIX.len() - key.len();
    let mut value = begin.to_owned();
    for number in 0.. {
        let item = item(number);
        if value.len() + item.len() > room {
            break;
        }
        value.push_str(&item);
    }
    value.extend(std::iter::repeat_n('x', room - value.len()));
    value
}

struct Make<'a> {
    cluster: &'a str,
    namespace: &'a str,
    /// The one Service that can be used.
    service: String,
}

impl Make<'_> {
    fn service(&self, name: &str, spec: Value) -> Value {
        let mut spec = spec;
        spec["ports"] = json!([{"name": "http", "port": 80}]);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": self.namespace, "name": name},
               "spec": spec})
    }

    fn slice(&self, number: usize, endpoints: Vec<Value>) -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"namespace": self.namespace, "name": format!("{}-{number}", self.service),
                            "labels": {"kubernetes.io/service-name": self.service}},
               "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
    }

    fn ingress(&self, name: &str, annotations: &[(&str, &str)], rules: Value) -> Value {
        let annotations: serde_json::Map<String, Value> =
            annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).into())).collect();
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": {"namespace": self.namespace, "name": name, "annotations": annotations,
                            "labels": {"cluster": self.cluster}},
               "spec": {"rules": rules}})
    }

    fn path_to(&self, path: &str, service: &str, port: Value) -> Value {
        json!({"path": path, "pathType": "ImplementationSpecific", "backend": {"service": {"name": service, "port": port}}})
    }

    fn path(&self, path: &str) -> Value {
        self.path_to(path, &self.service, json!({"name": "http"}))
    }

    fn secret(&self, name: &str) -> Value {
        let text = format!(
            "-----BEGIN CERTIFICATE-----\n{}{}\n{}\n-----END CERTIFICATE-----\n",
            self.namespace,
            mark(self.cluster),
            "MIIB".repeat(8 * 1024)
        );
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
               "metadata": {"namespace": self.namespace, "name": name},
               "data": {"tls.crt": base64(text.as_bytes()), "tls.key": base64(b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")}})
    }
}

fn endpoint(a: usize, b: usize) -> Value {
    json!({"addresses": [format!("10.2.{a}.{b}")]})
}

impl Maker<'_> {
    pub(super) fn extreme(&mut self, objects: &mut Vec<Value>, number: usize) {
        let make = Make { cluster: self.cluster, namespace: &self.namespaces[0], service: "a".repeat(LABEL) };
        objects.push(make.service(&make.service, json!({})));
        objects.push(make.slice(0, vec![endpoint(0, 1)]));
        let rules = |paths: Vec<Value>| json!([{"http": {"paths": paths}}]);
        let one = || rules(vec![make.path("/")]);
        match number % KINDS {
            // Names and hosts; the keys of routers are cut.
            0 => {
                let host = long_name('h', 0);
                let paths = [2000, 2001].map(|count| make.path(&format!("/{}", "p/".repeat(count))));
                objects.push(make.ingress(
                    &long_name('i', 1),
                    &[],
                    json!([{"host": host, "http": {"paths": paths}}]),
                ));
                let mut foreign = make.ingress(&long_name('j', 1), &[], one());
                foreign["spec"]["ingressClassName"] = long_name('c', 1).into();
                objects.push(foreign);
            }
            // Annotations, all of them good.
            1 => {
                let middlewares = filling("router.middlewares", "", |number| format!("m-{number}@file,"));
                objects.push(make.ingress("middlewares", &[("router.middlewares", &middlewares)], one()));
                let mut domains = Vec::new();
                for number in 0..2000 {
                    domains.push((
                        format!("router.tls.domains.{number}.main"),
                        format!("d{number}.example.com"),
                    ));
                }
                let domains: Vec<(&str, &str)> =
                    domains.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                objects.push(make.ingress("domains", &domains, one()));
            }
            // Paths.
            2 => {
                let text = |number: usize| format!("/{number}/{}", "segment/".repeat(number % 100));
                let paths = (0..1000).map(|number| make.path(&text(number))).collect();
                objects.push(make.ingress("paths", &[], rules(paths)));
            }
            // Endpoints.
            3 => {
                for number in 1..=10 {
                    objects.push(make.slice(number, (0..100).map(|end| endpoint(number, end)).collect()));
                }
                objects.push(make.ingress("endpoints", &[], one()));
            }
            // Control characters.
            4 => {
                let controls: String = ('\u{1}'..='\u{a0}').collect();
                let annotations =
                    [("router.entrypoints", controls.as_str()), ("router.tls.certresolver", &controls)];
                let paths = vec![make.path(&format!("/{controls}"))];
                objects.push(make.ingress("controls", &annotations, rules(paths)));
                // The same where they are faults.
                for (name, key) in [("bad", "router.priority"), ("refers", "router.middlewares")] {
                    let value = format!("elsewhere-{controls}@kubernetescrd");
                    objects.push(make.ingress(name, &[(key, &value)], one()));
                }
                let mut cookie = make.service("cookie", json!({}));
                cookie["metadata"]["annotations"] =
                    json!({format!("{PREFIX}service.sticky.cookie.maxage"): controls});
                objects.push(cookie);
                let paths = vec![make.path_to("/", "cookie", json!({"number": 80}))];
                objects.push(make.ingress("cookie", &[], rules(paths)));
            }
            // Paths of which each is skipped for a reason of its own.
            5 => {
                let paths = (0..1000).map(|number| match number % 4 {
                    0 => make.path_to(&format!("/{number}"), &format!("s{number:0>62}"), json!({"number": 80})),
                    1 => make.path_to(&format!("/{number}"), &make.service, json!({"number": number + 1000})),
                    2 => make.path_to(&format!("/{number}"), &make.service, json!({"name": format!("p{number:0>14}")})),
                    _ => {
                        let resource = json!({"apiGroup": "example.com", "kind": "Bucket", "name": long_name('r', number)});
                        json!({"path": format!("/{number}"), "pathType": "Prefix", "backend": {"resource": resource}})
                    }
                });
                objects.push(make.ingress("skipped", &[], rules(paths.collect())));
            }
            // Annotations, all of them bad.
            6 => {
                let bad = filling("router.priority", "1", |_| "é".to_owned());
                objects.push(make.ingress("integer", &[("router.priority", &bad)], one()));
                let list = filling("router.middlewares", "a@file", |_| ",".to_owned());
                objects.push(make.ingress(
                    "commas",
                    &[("router.middlewares", list.trim_end_matches('x'))],
                    one(),
                ));
                let foreign =
                    filling("router.middlewares", "", |number| format!("f{number}-m@kubernetescrd,"));
                objects.push(make.ingress("foreign", &[("router.middlewares", &foreign)], one()));
                let matcher = filling("router.pathmatcher", "Path", |_| "漢".to_owned());
                objects.push(make.ingress("matcher", &[("router.pathmatcher", &matcher)], one()));
                let mut unknown = Vec::new();
                for number in 0..2700 {
                    unknown.push(format!("router.{number:0>56}"));
                }
                let unknown: Vec<(&str, &str)> = unknown.iter().map(|key| (key.as_str(), "x")).collect();
                objects.push(make.ingress("unknown", &unknown, one()));
            }
            // Secrets that are there and such that are not.
            7 => {
                let mut entries = Vec::new();
                for number in 0..200 {
                    let name = long_name('s', number);
                    if number < 5 {
                        objects.push(make.secret(&name));
                    }
                    entries.push(json!({"secretName": name, "hosts": [long_name('h', number)]}));
                }
                let mut ingress = make.ingress("secrets", &[], one());
                ingress["spec"]["tls"] = Value::Array(entries);
                objects.push(ingress);
            }
            // A Service with bad annotations under all the paths of many Ingresses.
            8 => {
                let mut bad = make.service("bad", json!({}));
                let value = filling("service.passhostheader", "true", |_| "\u{7f}".to_owned());
                bad["metadata"]["annotations"] = json!({format!("{PREFIX}service.passhostheader"): value});
                objects.push(bad);
                for number in 0..20 {
                    let path = |path: usize| make.path_to(&format!("/{path}"), "bad", json!({"number": 80}));
                    objects.push(make.ingress(
                        &long_name('u', number),
                        &[],
                        rules((0..20).map(path).collect()),
                    ));
                }
            }
            // External names.
            _ => {
                let name = long_name('e', 1);
                objects.push(make.service("far", json!({"type": "ExternalName", "externalName": name})));
                objects.push(make.ingress(
                    "far",
                    &[],
                    rules(vec![make.path_to("/", "far", json!({"number": 80}))]),
                ));
                let mut default = make.ingress("rest", &[], Value::Null);
                default["spec"] =
                    json!({"defaultBackend": {"service": {"name": "far", "port": {"number": 80}}}});
                objects.push(default);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_reached_and_not_passed() {
        assert_eq!(long_name('a', 12).len(), NAME);
        let value = filling("router.priority", "1", |_| "é".to_owned());
        let key = format!("{PREFIX}router.priority");
        assert_eq!(key.len() + value.len(), ANNOTATIONS);
        assert_eq!(format!("router.{:0>56}", 0).len(), LABEL);
    }
}
