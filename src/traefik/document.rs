//! Whole documents: one router, service or certificate a line, so that a diff shows one line per change.
//!
//! ```text
//! {"http":{"routers":{
//! "shop-web":{…},
//! "shop-web-cart":{…}
//! },"services":{
//! "shop-web-80":{…}
//! }},"tls":{"certificates":[
//! {"certFile":"…","keyFile":"…"}
//! ]}}
//! ```
//!
//! A section without entries is left out with its key (Traefik refuses an empty one); a document without any is
//! `{}`. Every document ends with a line feed.

use serde::Serialize;

use super::dynamic::{Certificate, Configuration, HttpService, Router};
use super::escape::{self, Sink};

/// Whether private keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Shown,
    /// Certificates are written without `keyFile`.
    LeftOut,
}

/// A router as a line of a document: `"key":{…}`, without comma or line feed.
pub fn router_line(key: &str, router: &Router) -> String {
    line(key, router)
}

/// A service as a line of a document: `"key":{…}`, without comma or line feed.
pub fn service_line(key: &str, service: &HttpService) -> String {
    line(key, service)
}

fn line<T: Serialize>(key: &str, value: &T) -> String {
    let mut out = String::with_capacity(256);
    escape::append_json(&mut out, key);
    out.push(':');
    escape::append_json(&mut out, value);
    out
}

/// A certificate as a line of a document, without comma or line feed.
pub fn certificate_line(certificate: &Certificate, keys: Keys) -> String {
    let mut out = String::with_capacity(certificate.cert_file.len() + certificate.key_file.len() + 128);
    append_certificate(&mut out, certificate, keys);
    out
}

fn append_certificate(sink: &mut impl Sink, certificate: &Certificate, keys: Keys) {
    sink.push("{\"certFile\":");
    escape::push_lines(sink, &certificate.cert_file);
    if keys == Keys::Shown && !certificate.key_file.is_empty() {
        sink.push(",\"keyFile\":");
        escape::push_lines(sink, &certificate.key_file);
    }
    sink.push("}");
}

/// A document in progress: routers first, then services, certificates last, each sorted by the caller.
#[derive(Debug)]
pub struct Document<S> {
    sink: S,
    routers: bool,
    services: bool,
}

impl<S: Sink> Document<S> {
    /// A document without entries.
    pub fn new(sink: S) -> Self {
        Self { sink, routers: false, services: false }
    }

    /// Writes the line of a router ([`router_line`]).
    pub fn router(&mut self, line: &str) {
        self.sink.push(if self.routers { ",\n" } else { "{\"http\":{\"routers\":{\n" });
        self.sink.push(line);
        self.routers = true;
    }

    /// Writes the line of a service ([`service_line`]).
    pub fn service(&mut self, line: &str) {
        self.sink.push(match (self.services, self.routers) {
            (true, _) => ",\n",
            (false, true) => "\n},\"services\":{\n",
            (false, false) => "{\"http\":{\"services\":{\n",
        });
        self.sink.push(line);
        self.services = true;
    }

    /// Writes the certificates and ends the document.
    pub fn finish<'a>(mut self, certificates: impl IntoIterator<Item = &'a Certificate>, keys: Keys) -> S {
        let mut between = self.before_certificates();
        let mut any = false;
        for certificate in certificates {
            self.sink.push(between);
            append_certificate(&mut self.sink, certificate, keys);
            (between, any) = (",\n", true);
        }
        self.end(any)
    }

    /// Like [`Self::finish`], with certificates that are already rendered ([`certificate_line`]), separated by `,` and
    /// a line feed.
    pub fn finish_with_lines(mut self, certificates: &str) -> S {
        let before = self.before_certificates();
        if !certificates.is_empty() {
            self.sink.push(before);
            self.sink.push(certificates);
        }
        self.end(!certificates.is_empty())
    }

    /// Ends routers and services; returns the text before the first certificate.
    fn before_certificates(&mut self) -> &'static str {
        if self.routers || self.services {
            self.sink.push("\n}}");
            ",\"tls\":{\"certificates\":[\n"
        } else {
            "{\"tls\":{\"certificates\":[\n"
        }
    }

    fn end(mut self, certificates: bool) -> S {
        self.sink.push(match (self.routers || self.services, certificates) {
            (false, false) => "{}\n",
            (true, false) => "}\n",
            (_, true) => "\n]}}\n",
        });
        self.sink
    }
}

/// Writes a document. `routers` and `services` are lines ([`router_line`], [`service_line`]). The caller sorts them and
/// the certificates.
pub fn write<'a>(
    sink: &mut impl Sink,
    routers: impl IntoIterator<Item = &'a str>,
    services: impl IntoIterator<Item = &'a str>,
    certificates: impl IntoIterator<Item = &'a Certificate>,
    keys: Keys,
) {
    let mut document = Document::new(sink);
    routers.into_iter().for_each(|line| document.router(line));
    services.into_iter().for_each(|line| document.service(line));
    document.finish(certificates, keys);
}

/// Writes a configuration; its certificates keep their order.
pub fn write_configuration(sink: &mut impl Sink, configuration: &Configuration, keys: Keys) {
    let http = configuration.http.as_ref();
    let routers: Vec<String> =
        http.iter().flat_map(|http| &http.routers).map(|(key, router)| router_line(key, router)).collect();
    let services: Vec<String> = http
        .iter()
        .flat_map(|http| &http.services)
        .map(|(key, service)| service_line(key, service))
        .collect();
    write(
        sink,
        routers.iter().map(String::as_str),
        services.iter().map(String::as_str),
        configuration.tls.iter().flat_map(|tls| &tls.certificates),
        keys,
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::super::dynamic::{
        Cookie, Domain, Http, LoadBalancer, Observability, RouterTls, Server, Sticky, Tls,
    };
    use super::super::yaml;
    use super::*;

    fn document(configuration: &Configuration, keys: Keys) -> String {
        let mut out = String::new();
        write_configuration(&mut out, configuration, keys);
        out
    }

    fn configuration(routers: &[&str], services: &[&str], certificates: &[&str]) -> Configuration {
        let router = |key: &&str| {
            let router =
                Router { rule: "PathPrefix(\"/{{\")".into(), service: "s".into(), ..Router::default() };
            ((*key).to_owned(), router)
        };
        let service = |key: &&str| {
            let servers = vec![Server { url: "http://10.0.0.1:80".into() }];
            let load_balancer = LoadBalancer { servers, ..LoadBalancer::default() };
            ((*key).to_owned(), HttpService { load_balancer, ..HttpService::default() })
        };
        let http = Http {
            routers: routers.iter().map(router).collect::<BTreeMap<_, _>>(),
            services: services.iter().map(service).collect(),
        };
        let certificates: Vec<_> = certificates
            .iter()
            .map(|cert| Certificate { cert_file: (*cert).into(), key_file: "-----BEGIN KEY".into() })
            .collect();
        Configuration {
            http: (!routers.is_empty() || !services.is_empty()).then_some(http),
            tls: (!certificates.is_empty()).then_some(Tls { certificates }),
        }
    }

    #[test]
    fn no_section_is_ever_empty() {
        for routers in [&[][..], &["a"], &["a", "b"]] {
            for services in [&[][..], &["s"], &["s", "t"]] {
                for certificates in [&[][..], &["x"], &["x", "y"]] {
                    let wanted = configuration(routers, services, certificates);
                    let text = document(&wanted, Keys::Shown);
                    assert_eq!(serde_json::from_str::<Configuration>(&text).ok(), Some(wanted), "{text}");
                    assert!(!text.contains("{}") || text == "{}\n", "{text}");
                    assert!(!text.contains("[]") && !text.contains("{{"), "{text}");
                    assert!(text.ends_with("}\n"));
                }
            }
        }
    }

    #[test]
    fn one_entry_a_line() {
        assert_eq!(
            document(&configuration(&["b", "a"], &["s"], &["-----BEGIN"]), Keys::Shown),
            "{\"http\":{\"routers\":{\n\
             \"a\":{\"service\":\"s\",\"rule\":\"PathPrefix(\\\"/\\u007b\\u007b\\\")\"},\n\
             \"b\":{\"service\":\"s\",\"rule\":\"PathPrefix(\\\"/\\u007b\\u007b\\\")\"}\n\
             },\"services\":{\n\
             \"s\":{\"loadBalancer\":{\"servers\":[{\"url\":\"http://10.0.0.1:80\"}]}}\n\
             }},\"tls\":{\"certificates\":[\n\
             {\"certFile\":\"-----BEGIN\",\"keyFile\":\"-----BEGIN KEY\"}\n\
             ]}}\n"
        );
        assert_eq!(document(&Configuration::default(), Keys::Shown), "{}\n");
    }

    #[test]
    fn keys_are_left_out_on_request() {
        let text = document(&configuration(&[], &[], &["c"]), Keys::LeftOut);
        assert_eq!(text, "{\"tls\":{\"certificates\":[\n{\"certFile\":\"c\"}\n]}}\n");
    }

    /// Text with what Go's templates, YAML and JSON each make something of.
    fn text() -> impl Strategy<Value = String> {
        const HOSTILE: &[&str] = &[
            "",
            "{{ env \"HOME\" }}",
            "{% x %}",
            "}}",
            "a: b # c",
            "\u{85}\u{2028}\u{ffff}\u{7f}",
            "~",
            "0x1",
        ];
        prop_oneof![any::<String>(), prop::sample::select(HOSTILE).prop_map(str::to_owned)]
    }

    fn router() -> impl Strategy<Value = Router> {
        let domain = (text(), vec(text(), 0..2)).prop_map(|(main, sans)| Domain { main, sans });
        let tls = (text(), text(), vec(domain, 0..2))
            .prop_map(|(options, cert_resolver, domains)| RouterTls { options, cert_resolver, domains });
        let observability = (any::<[Option<bool>; 3]>(), text()).prop_map(
            |([access_logs, metrics, tracing], trace_verbosity)| Observability {
                access_logs,
                metrics,
                tracing,
                trace_verbosity: Some(trace_verbosity),
            },
        );
        let lists = (vec(text(), 0..3), vec(text(), 0..3));
        (lists, text(), text(), text(), any::<i64>(), option::of(tls), option::of(observability)).prop_map(
            |((entry_points, middlewares), service, rule, rule_syntax, priority, tls, observability)| {
                Router { entry_points, middlewares, service, rule, rule_syntax, priority, tls, observability }
            },
        )
    }

    fn service() -> impl Strategy<Value = HttpService> {
        let cookie = (text(), any::<(bool, bool)>(), text(), any::<i64>(), text(), text()).prop_map(
            |(name, (secure, http_only), same_site, max_age, path, domain)| Cookie {
                name,
                secure,
                http_only,
                same_site,
                max_age,
                path,
                domain,
            },
        );
        let sticky = option::of(option::of(cookie).prop_map(|cookie| Sticky { cookie }));
        let servers = vec(text().prop_map(|url| Server { url }), 0..4);
        (vec(text(), 0..3), servers, sticky, any::<Option<bool>>(), text()).prop_map(
            |(middlewares, servers, sticky, pass_host_header, servers_transport)| HttpService {
                middlewares,
                load_balancer: LoadBalancer { servers, sticky, pass_host_header, servers_transport },
            },
        )
    }

    fn any_configuration() -> impl Strategy<Value = Configuration> {
        let certificate = (text(), text())
            .prop_map(|(cert, key)| Certificate { cert_file: cert.into(), key_file: key.into() });
        (btree_map(text(), router(), 0..4), btree_map(text(), service(), 0..4), vec(certificate, 0..4))
            .prop_map(|(routers, services, certificates)| {
                let http = Http { routers, services };
                Configuration {
                    http: (http != Http::default()).then_some(http),
                    tls: (!certificates.is_empty()).then_some(Tls { certificates }),
                }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(wanted in any_configuration()) {
            let written = document(&wanted, Keys::Shown);
            prop_assert!(!written.contains("{{"));
            let entries = wanted.http.as_ref().map_or(0, |http| http.routers.len() + http.services.len())
                + wanted.tls.as_ref().map_or(0, |tls| tls.certificates.len());
            let sections = written.lines().filter(|line| ["}", "]"].iter().any(|close| line.starts_with(close))).count();
            let lines = if entries == 0 { 1 } else { entries + sections + 1 };
            prop_assert_eq!(written.lines().count(), lines, "{}", written);
            let read: Configuration =
                serde_json::from_str(&written).map_err(|e| TestCaseError::fail(format!("{e}: {written}")))?;
            prop_assert_eq!(&read, &wanted);

            let block = yaml::block(&written);
            let read: Configuration =
                serde_saphyr::from_str(&block).map_err(|e| TestCaseError::fail(format!("{e}: {block}")))?;
            prop_assert_eq!(read, wanted, "{}", block);
        }
    }
}
