//! Limits the size of entries and Ingresses. An entry must be small enough for its shard to fit into an object, or a
//! tenant's certificate or annotation would keep everybody's changes from being published. The routing of one Ingress
//! is limited too, since its annotations are repeated in each router, and those of a Service for each port.

use std::fmt::Display;

use crate::traefik::document::{Keys, certificate_line, router_line, service_line};
use crate::traefik::dynamic::{Certificate, HttpService, Router};

/// Maximum size of a router, a service, or a certificate with its key as a line of a document. Shards are cut at the
/// same size, so that with labels and in base64 they are far below the 1 MiB of an object.
pub const ENTRY_LIMIT: usize = 256 * 1024;

/// Maximum number of middlewares, entry points and names of certificates of a router or service. In memory each takes
/// about 64 bytes, however short it is, and again for each port of a Service.
pub const ITEMS_LIMIT: usize = ENTRY_LIMIT / 64;

/// Maximum size of all routers and services of an Ingress, counted as in [`Budget`]: enough for 10,000 paths, which is
/// about what fits into an object.
pub const INGRESS_LIMIT: usize = 4 * 1024 * 1024;

/// Minimum number of bytes around the host of a server: `{"url":"h2c://HOST:1"},`.
pub const SERVER: usize = 19;

/// Maximum number of bytes of a line for a byte of text: `\u007f`.
const ESCAPED: usize = 6;

/// The cost of an unusable backend.
pub const BROKEN: usize = 256;

/// The cost of a service that is too large: rendering annotations that fill an object.
pub const RENDERED: usize = ENTRY_LIMIT * ESCAPED;

/// Maximum number of bytes around each text of a line.
const AROUND: usize = 32;

/// The size of a line beside the counted texts.
const REST: usize = 8 * 1024;

/// The size of a line above the limit. The line is rendered only if its texts don't rule that out.
fn above(texts: impl Iterator<Item = usize>, render: impl FnOnce() -> usize) -> Option<usize> {
    let bound = texts.fold(REST, |sum, text| sum.saturating_add(text.saturating_mul(ESCAPED) + AROUND));
    if bound <= ENTRY_LIMIT {
        return None;
    }
    Some(render()).filter(|bytes| *bytes > ENTRY_LIMIT)
}

fn router_texts(router: &Router) -> impl Iterator<Item = usize> {
    let tls = router.tls.iter().flat_map(|tls| {
        let domains = tls.domains.iter().flat_map(|domain| domain.sans.iter().chain([&domain.main]));
        domains.chain([&tls.options, &tls.cert_resolver])
    });
    let texts = router.entry_points.iter().chain(&router.middlewares).chain(tls);
    texts.chain([&router.rule, &router.rule_syntax, &router.service]).map(String::len)
}

fn service_texts(service: &HttpService) -> impl Iterator<Item = usize> {
    let balancer = &service.load_balancer;
    let cookie = balancer.sticky.iter().flat_map(|sticky| &sticky.cookie);
    let cookie = cookie.flat_map(|one| [&one.name, &one.same_site, &one.domain, &one.path]);
    let texts = balancer.servers.iter().map(|server| &server.url);
    texts.chain(&service.middlewares).chain(cookie).chain([&balancer.servers_transport]).map(String::len)
}

/// The size of a router that is too large or has too many items.
pub fn router(key: &str, router: &Router) -> Option<usize> {
    let domains = router.tls.iter().flat_map(|tls| &tls.domains);
    let sans = domains.map(|domain| domain.sans.len()).sum::<usize>();
    if router.entry_points.len() + router.middlewares.len() + sans > ITEMS_LIMIT {
        return Some(router_line(key, router).len());
    }
    above(router_texts(router), || router_line(key, router).len())
}

/// The size of a service that is too large or has too many middlewares.
pub fn service(key: impl Display, service: &HttpService) -> Option<usize> {
    if service.middlewares.len() > ITEMS_LIMIT {
        return Some(service_line(&key.to_string(), service).len());
    }
    above(service_texts(service), || service_line(&key.to_string(), service).len())
}

/// The rest of [`INGRESS_LIMIT`] while an Ingress is translated. An entry costs the lengths of its texts and a little
/// for each of them, which is about its size in memory.
#[derive(Debug)]
pub struct Budget {
    left: Option<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: Some(INGRESS_LIMIT) }
    }
}

impl Budget {
    /// Whether nothing more may be added.
    pub fn is_spent(&self) -> bool {
        self.left.is_none()
    }

    /// Adds a router. Returns whether there was room. The first one without room ends it.
    pub fn add_router(&mut self, key: &str, router: &Router) -> bool {
        self.add(counted(router_texts(router).chain([key.len()])));
        !self.is_spent()
    }

    /// Adds a service.
    pub fn add_service(&mut self, key: &str, service: &HttpService) {
        self.add(counted(service_texts(service).chain([key.len()])));
    }

    /// Adds considered addresses: thousands may result in one server, and again for every port.
    pub fn add_addresses(&mut self, count: usize) {
        self.add(count.saturating_mul(AROUND));
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: usize) {
        self.left = self.left.and_then(|left| left.checked_sub(bytes));
    }
}

fn counted(texts: impl Iterator<Item = usize>) -> usize {
    texts.fold(0, |sum, text| sum.saturating_add(text.saturating_add(AROUND)))
}

/// The size of a certificate that is too large together with its key.
pub fn certificate(certificate: &Certificate) -> Option<usize> {
    let texts = [certificate.cert_file.len(), certificate.key_file.len()];
    above(texts.into_iter(), || certificate_line(certificate, Keys::Shown).len())
}

/// The size and the limit, for a remedy.
pub fn said(bytes: usize) -> String {
    format!("{} KiB as text, but an entry may have only {} KiB", bytes.div_ceil(1024), ENTRY_LIMIT / 1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::traefik::dynamic::{Cookie, Domain, LoadBalancer, RouterTls, Server, Sticky};

    /// A text that makes a line exactly as long as wanted.
    fn filled(of: impl Fn(&str) -> usize, wanted: usize, with: char) -> String {
        let one = of(&with.to_string()) - of("");
        let empty = of("");
        let many = (wanted - empty) / one;
        let mut text: String = std::iter::repeat_n(with, many).collect();
        let rest = wanted - of(&text);
        text.push_str(&"x".repeat(rest));
        assert_eq!(of(&text), wanted);
        text
    }

    #[test]
    fn the_limit_itself_is_allowed_whatever_the_text_is_made_of() {
        for with in ['x', '{', '\n', '\u{1}', 'é', '\u{85}'] {
            let of = |text: &str| Router { rule: text.to_owned(), ..Router::default() };
            let length = |text: &str| router_line("key", &of(text)).len();
            assert_eq!(router("key", &of(&filled(length, ENTRY_LIMIT, with))), None, "{with:?}");
            let above = of(&filled(length, ENTRY_LIMIT + 1, with));
            assert_eq!(router("key", &above), Some(ENTRY_LIMIT + 1), "{with:?}");

            let of = |text: &str| HttpService {
                load_balancer: LoadBalancer {
                    servers: vec![Server { url: text.to_owned() }],
                    ..LoadBalancer::default()
                },
                ..HttpService::default()
            };
            let length = |text: &str| service_line("key", &of(text)).len();
            assert_eq!(service("key", &of(&filled(length, ENTRY_LIMIT, with))), None, "{with:?}");
            let above = of(&filled(length, ENTRY_LIMIT + 1, with));
            assert_eq!(service("key", &above), Some(ENTRY_LIMIT + 1), "{with:?}");

            let of = |text: &str| Certificate { cert_file: text.into(), key_file: "key".into() };
            let length = |text: &str| certificate_line(&of(text), Keys::Shown).len();
            assert_eq!(certificate(&of(&filled(length, ENTRY_LIMIT, with))), None, "{with:?}");
            let above = of(&filled(length, ENTRY_LIMIT + 1, with));
            assert_eq!(certificate(&above), Some(ENTRY_LIMIT + 1), "{with:?}");
        }
    }

    prop_compose! {
        /// Texts around the size from which on a line is rendered, and long lists of short ones.
        fn texts()(long in prop::collection::vec(0..60_000usize, 0..3), short in 0..6_000usize,
                   with in prop::sample::select(vec!['x', '{', '\u{1}'])) -> Vec<String> {
            let long = long.into_iter().map(|length| std::iter::repeat_n(with, length).collect());
            long.chain(std::iter::repeat_n(with.to_string(), short)).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What is let through without being rendered is never too large, whichever field the texts are in.
        #[test]
        fn the_bound_is_a_bound(texts in texts(), field in 0..8u8) {
            let list = |at| if field == at { texts.clone() } else { Vec::new() };
            let one = |at| if field == at { texts.concat() } else { String::new() };
            let candidate = Router {
                entry_points: list(0),
                middlewares: list(1),
                rule: one(2),
                rule_syntax: one(3),
                tls: Some(RouterTls {
                    options: one(4),
                    cert_resolver: one(5),
                    domains: vec![Domain { main: one(6), sans: list(7) }],
                }),
                ..Router::default()
            };
            let bytes = router_line("key", &candidate).len();
            let many = [0, 1, 7].contains(&field) && texts.len() > ITEMS_LIMIT;
            prop_assert_eq!(router("key", &candidate), Some(bytes).filter(|bytes| many || *bytes > ENTRY_LIMIT));
            let candidate = HttpService {
                middlewares: list(0),
                load_balancer: LoadBalancer {
                    servers: list(1).into_iter().map(|url| Server { url }).collect(),
                    servers_transport: one(2),
                    sticky: Some(Sticky { cookie: Some(Cookie {
                        name: one(3), same_site: one(4), domain: one(5), path: one(6), ..Cookie::default()
                    }) }),
                    ..LoadBalancer::default()
                },
            };
            let bytes = service_line("key", &candidate).len();
            let many = field == 0 && texts.len() > ITEMS_LIMIT;
            prop_assert_eq!(service("key", &candidate), Some(bytes).filter(|bytes| many || *bytes > ENTRY_LIMIT));
        }
    }
}
