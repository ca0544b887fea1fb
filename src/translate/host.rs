//! Checks texts that become the host of a URL: whether they are a host, and whether they could be another tenant's
//! Service.

use std::fmt::Write;
use std::net::IpAddr;

/// A valid host of a URL. Nothing else is allowed: `a:80/#` would lead somewhere else altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    Ipv4(&'a str),
    Ipv6(&'a str),
    DnsName(&'a str),
}

impl<'a> Host<'a> {
    /// Parses a text as a host. Nearly all are addresses, so these are tried first.
    pub fn parse(text: &'a str) -> Option<Self> {
        match text.parse() {
            Ok(IpAddr::V4(_)) => Some(Self::Ipv4(text)),
            Ok(IpAddr::V6(_)) => Some(Self::Ipv6(text)),
            Err(_) => is_dns_name(text).then_some(Self::DnsName(text)),
        }
    }

    /// As it was written.
    pub fn text(self) -> &'a str {
        match self {
            Self::Ipv4(text) | Self::Ipv6(text) | Self::DnsName(text) => text,
        }
    }

    /// The URL of a server. An IPv6 address is bracketed, as in Go's net.JoinHostPort.
    pub fn url(self, scheme: &str, port: u16) -> String {
        let mut url = String::with_capacity(scheme.len() + self.text().len() + 11);
        // Writing into a String can't fail.
        let _ = match self {
            Self::Ipv6(text) => write!(url, "{scheme}://[{text}]:{port}"),
            Self::Ipv4(text) | Self::DnsName(text) => write!(url, "{scheme}://{text}:{port}"),
        };
        url
    }

    /// Whether a proxy's resolver could resolve the host to a Service outside of namespace `own`.
    ///
    /// If a name has no final dot, a pod's resolver also tries it with the search path of `resolv.conf`:
    /// `PROXY.svc.ZONE`, `svc.ZONE` and `ZONE`, where `PROXY` is the namespace of the proxy's pod. The cluster's DNS
    /// answers `SERVICE.NAMESPACE.svc.ZONE`, also with the hostname of an endpoint or with a port and a protocol in
    /// front of it. Neither `PROXY` nor `ZONE` is known here. So of the names without a final dot:
    ///
    /// - one label is a Service in the proxy's namespace, and two can be an endpoint there or `SERVICE.NAMESPACE`;
    /// - three can be `ENDPOINT.SERVICE.NAMESPACE`, or `PORT.PROTOCOL.SERVICE` in the proxy's namespace;
    /// - four can be `PORT.PROTOCOL.SERVICE.NAMESPACE`.
    ///
    /// `is_namespace` says whether there is a namespace of that name: without it `api.example.com` could not be used, which
    /// is an endpoint `api` of Service `example` only where there is a namespace `com`.
    pub fn could_be_foreign(self, own: &str, mut is_namespace: impl FnMut(&str) -> bool) -> bool {
        let Self::DnsName(name) = self else { return false };
        let name = name.to_ascii_lowercase();
        let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
        let in_other = |(at, label): (usize, &&str)| *label == "svc" && at >= 2 && labels[at - 1] != own;
        if labels.iter().enumerate().any(in_other) {
            return true;
        }
        let is_protocol = |label: &str| matches!(label.trim_start_matches('_'), "tcp" | "udp" | "sctp");
        let mut foreign = |namespace: &str| namespace != own && is_namespace(namespace);
        match labels.as_slice() {
            _ if name.ends_with('.') => false,
            [_] | [_, _] => true,
            [_, protocol, last] => is_protocol(protocol) || foreign(last),
            [_, protocol, _, last] => is_protocol(protocol) && foreign(last),
            _ => false,
        }
    }
}

fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_and_names() {
        let long = format!("{}.example", "a".repeat(63));
        for host in
            ["10.0.0.1", "fd00::1", "db", "db.shop.svc.", "Upper.Example.com", "_sip.a-b.example", &long]
        {
            assert!(Host::parse(host).is_some(), "{host}");
        }
        let too_long = format!("{}.example", "a".repeat(64));
        let too_many = "a.".repeat(127) + "aa";
        for text in [
            "",
            ".",
            "a..b",
            "a..",
            "a/b",
            "a:80",
            "a:80/#",
            "[fd00::1]",
            "fe80::1%eth0",
            "user@host",
            "a b",
            "a?b",
            "a#b",
            "é.example",
            "a\n",
            "{{x}}",
            &too_long,
            &too_many,
        ] {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
    }

    const ZONE: &str = "zone";

    /// The names that a resolver asks for, in its order (resolv.conf(5), `ndots:5` as the kubelet writes it).
    fn questions(name: &str, proxy: &str) -> Vec<String> {
        let name = name.to_ascii_lowercase();
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let search = [format!("{proxy}.svc.{ZONE}"), format!("svc.{ZONE}"), ZONE.to_owned()];
        let searched = search.iter().map(|suffix| format!("{name}.{suffix}"));
        if name.matches('.').count() >= 5 {
            std::iter::once(name.clone()).chain(searched).collect()
        } else {
            searched.chain([name.clone()]).collect()
        }
    }

    /// The namespace of the Service that the cluster's DNS answers with. It answers for every Service, endpoint and
    /// port that a tenant could make in a namespace that is there.
    fn answered(question: &str, namespaces: &[&str]) -> Option<String> {
        let name = question.strip_suffix(&format!(".svc.{ZONE}"))?;
        let labels: Vec<&str> = name.split('.').collect();
        let (namespace, rest) = labels.split_last()?;
        let is_record = match rest {
            [_] | [_, _] => true,
            [_, protocol, _] => ["tcp", "udp", "sctp"].contains(&protocol.trim_start_matches('_')),
            _ => false,
        };
        (is_record && namespaces.contains(namespace)).then(|| (*namespace).to_owned())
    }

    /// Every name of up to six labels out of a few that matter, with and without a final dot, and in upper case.
    #[test]
    fn no_name_that_is_let_through_leads_a_resolver_into_another_namespace() {
        let namespaces = ["shop", "victim", "proxy"];
        let labels = ["db", "shop", "victim", "svc", "tcp", ZONE];
        let mut names = vec![String::new()];
        let mut passed = 0;
        for _ in 0..6 {
            names = names
                .iter()
                .flat_map(|name| labels.map(|label| format!("{label}.{name}")))
                .collect::<Vec<String>>();
            for dotted in &names {
                let bare = dotted.trim_end_matches('.');
                for name in [bare.to_owned(), format!("{bare}."), bare.to_ascii_uppercase()] {
                    if Host::DnsName(&name).could_be_foreign("shop", |label| namespaces.contains(&label)) {
                        continue;
                    }
                    passed += 1;
                    let led = questions(&name, "proxy")
                        .into_iter()
                        .find_map(|question| answered(&question, &namespaces).filter(|to| to != "shop"));
                    assert_eq!(led, None, "{name}");
                }
            }
        }
        assert!(passed > 10_000, "{passed}");
    }

    #[test]
    fn names_outside_of_the_cluster_and_own_services_are_let_through() {
        let foreign = |name: &str| {
            let host = Host::parse(name).unwrap();
            host.could_be_foreign("shop", |label| ["shop", "com", "victim"].contains(&label))
        };
        for name in [
            "db.shop.svc",
            "db.SHOP.svc.cluster.local",
            "pod.db.shop.svc.cluster.local.",
            "svc.shop.svc",
            "api.example.org",
            "api.example.com.",
            "example.org.",
            "eu.api.example.com",
            "10.0.0.1",
            "fd00::1",
        ] {
            assert!(!foreign(name), "{name}");
        }
        for name in [
            "db",
            "db.victim",
            "DB.Victim",
            "db.shop",
            "example.org",
            "api.example.com",
            "pod.db.victim",
            "http.tcp.web",
            "_http._tcp.web.victim",
            "db.victim.svc",
            "db.victim.SVC.cluster.local",
            "db.victim.svc.",
            "pod.db.victim.svc.cluster.local.",
        ] {
            assert!(foreign(name), "{name}");
        }
    }
}
