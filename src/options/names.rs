//! Classifies a name: an option, a name that only Traefik reads, or a misspelling of a known name.

use super::table::{Entry, Form, TABLE};

/// Traefik's Ingress provider; the section may also be given as a switch that is on.
pub const SWITCH: &str = "providers.kubernetesIngress";

/// The path of the file, as a flag and a variable.
pub const CONFIG_FILE: &str = "configFile";

/// A section of another provider, which the documentation of Traefik's Ingress provider names by mistake.
pub const SLIP: &str = "providers.kubernetesCRD.namespaces";

/// Traefik 3's static sections that are not ours (parts of `core` and `providers` are).
const SECTIONS: &str = "\
    accessLog api certificatesResolvers core entryPoints experimental global hostResolver log metrics ocsp ping \
    serversTransport spiffe tcpServersTransport tracing";

/// The other keys of Traefik 3 below `providers`.
const PROVIDERS: &str = "\
    consul consulCatalog docker ecs etcd file http knative kubernetesCRD kubernetesGateway kubernetesIngressNGINX \
    nomad plugin precedence redis rest swarm zooKeeper";

/// Last parts of Traefik's own flags that mean `true` without a value, so that the next argument is not taken for a
/// value. Flags of one part (`--ping`) are all of this kind.
const SWITCHES: &str = "\
    abortonpluginfailure accesslogs addentrypointslabels addinternals addrouterslabels addserviceslabels \
    allowacmebypass allowcrossnamespace allowemptyservices allowencodedbackslash allowencodedhash \
    allowencodednullcharacter allowencodedpercent allowencodedquestionmark allowencodedsemicolon allowencodedslash \
    allowexternalnameservices asdefault autodiscoverclusters casystemcertpool checknewversion cnameflattening \
    connectaware connectbydefault dashboard datadog debug debugloggeneratedtemplate disableanschecks \
    disableclusterscoperesources disablecommonname disabledashboardad disableingressclasslookup \
    disablepropagationcheck dnschallenge dualoutput ecsanywhere encodequerysemicolons experimentalchannel \
    exposedbydefault fastproxy grpc healthytasksonly http http3 httpchallenge influxdb2 insecure insecureskipverify \
    manualrouting nativelbbydefault nocolor notappendxforwardedfor otlp otlplogs permanent prometheus proxyprotocol \
    randomstrategy replicastrategy requireallrns requireconsistent retryattempts reuseport safenaming sanitizepath \
    sendanonymoususage stale statsd strictprefixmatching stricttlsoptions tailscale tls tlschallenge tracing \
    usebindportip usedisconnectedreplicas useunsafe watch";

/// The owner of a dotted name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name {
    Option(&'static Entry),
    Switch,
    /// A part of a key of ours (as in a file) that has no value of its own.
    Section(&'static str),
    ConfigFile,
    Traefik,
    Unknown,
}

/// The owner of `name`, in any case.
pub fn resolve(name: &str) -> Name {
    if let Some(entry) = TABLE.iter().find(|entry| entry.key.eq_ignore_ascii_case(name)) {
        return Name::Option(entry);
    }
    if name.eq_ignore_ascii_case(CONFIG_FILE) {
        return Name::ConfigFile;
    }
    if name.eq_ignore_ascii_case(SWITCH) {
        return Name::Switch;
    }
    if let Some(section) = sections().find(|section| section.eq_ignore_ascii_case(name)) {
        return Name::Section(section);
    }
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default();
    let known = if first.eq_ignore_ascii_case("providers") {
        contains(PROVIDERS, parts.next().unwrap_or_default())
    } else {
        contains(SECTIONS, first)
    };
    if known { Name::Traefik } else { Name::Unknown }
}

/// Whether one of Traefik's own flags means `true` without a value.
pub fn is_traefik_switch(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    // A provider by itself is turned on: `--providers.docker`.
    let provider = name.split('.').count() == 2
        && name.split('.').next().is_some_and(|first| first.eq_ignore_ascii_case("providers"))
        && !last.eq_ignore_ascii_case("precedence");
    !name.contains('.') || provider || contains(SWITCHES, last)
}

fn contains(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known.eq_ignore_ascii_case(name))
}

/// Every prefix of a key that ends before a dot.
fn sections() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|entry| entry.key.match_indices('.').map(|(at, _)| &entry.key[..at]))
}

/// The known name of which `name` is probably a misspelling, in the spelling of `form`; with `below`, one that begins
/// with it.
fn closest(name: &str, below: Option<&str>, form: Form) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let mut best = (usize::MAX, "");
    let mut consider = |distance: usize, key: &'static str| {
        if distance < best.0 {
            best = (distance, key);
        }
    };
    for entry in TABLE.iter().filter(|entry| below.is_none_or(|below| starts_below(entry.key, below))) {
        let key = entry.key.to_ascii_lowercase();
        consider(distance(&lower, &key), entry.key);
        // The right word in the wrong section.
        consider(distance(last(&lower), last(&key)).saturating_mul(2).saturating_add(1), entry.key);
    }
    if below.is_none() {
        let first = first(&lower);
        for section in SECTIONS.split(' ').chain(["providers", "operator"]) {
            consider(distance(first, &section.to_ascii_lowercase()), section);
        }
    }
    let best = best.1;
    let section = !best.contains('.');
    let (written, known) = if section { (first(&lower), best) } else { (last(&lower), last(best)) };
    (is_slip(written, known) || !section && distance(&lower, &best.to_ascii_lowercase()) <= 2)
        .then(|| form.name(best))
}

/// Whether a word looks like a misspelling or an abbreviation of another one.
fn is_slip(written: &str, known: &str) -> bool {
    let known = known.to_ascii_lowercase();
    written.len() >= 3 && known.starts_with(written)
        || distance(written, &known) <= (written.len() / 3).max(1)
}

/// The same below `providers`, where Traefik's other providers are known too.
fn closest_provider(name: &str, form: Form) -> Option<String> {
    let second = name.split('.').nth(1).unwrap_or_default().to_ascii_lowercase();
    let ours = ["kubernetesIngress", "providersThrottleDuration"];
    let known = ours.into_iter().chain(PROVIDERS.split(' '));
    let best = known.min_by_key(|known| distance(&second, &known.to_ascii_lowercase()));
    let best = best.filter(|best| is_slip(&second, best))?;
    Some(form.name(&format!("providers.{best}")))
}

/// Long texts are never meant as a key, and comparing them costs the product of their lengths.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 256 { usize::MAX } else { strsim::damerau_levenshtein(a, b) }
}

fn first(key: &str) -> &str {
    key.split('.').next().unwrap_or_default()
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or_default()
}

/// Whether `key` lies below the section `below`, whatever the case.
pub fn starts_below(key: &str, below: &str) -> bool {
    key.len() > below.len()
        && key.as_bytes()[below.len()] == b'.'
        && key.as_bytes()[..below.len()].eq_ignore_ascii_case(below.as_bytes())
}

/// The options of a section, as the remedy of a fault names them.
pub fn options_of(section: &str, form: Form) -> String {
    let names: Vec<_> = TABLE
        .iter()
        .filter(|entry| starts_below(entry.key, section))
        .take(5)
        .map(|entry| form.name(entry.key))
        .collect();
    let words: Vec<_> = names.iter().map(String::as_str).collect();
    super::check::either(&words)
}

/// The fault of an unknown name, and its remedy.
pub fn unknown(name: &str, form: Form) -> (&'static str, String) {
    let closest = if starts_below(name, SWITCH) {
        closest(name, Some(SWITCH), form)
    } else if starts_below(name, "operator") {
        closest(name, Some("operator"), form)
    } else if starts_below(name, "providers") {
        closest_provider(name, form)
    } else {
        closest(name, None, form)
    };
    let remedy = match closest {
        Some(closest) => format!("did you mean {closest}?"),
        None if matches!(name, "apiVersion" | "kind" | "metadata" | "spec") => {
            "this looks like a Kubernetes object; name a file in the form of Traefik's static configuration"
                .to_owned()
        }
        None => "`waybill options` lists the known ones".to_owned(),
    };
    ("unknown key", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_traefiks_or_nobodys() {
        assert!(
            matches!(resolve("PROVIDERS.kubernetesingress.Token"), Name::Option(entry) if entry.key.ends_with("token"))
        );
        assert_eq!(resolve("providers.kubernetesIngress"), Name::Switch);
        assert_eq!(resolve("configfile"), Name::ConfigFile);
        assert_eq!(resolve("operator"), Name::Section("operator"));
        assert_eq!(
            resolve("providers.kubernetesingress.ingressendpoint"),
            Name::Section("providers.kubernetesIngress.ingressEndpoint")
        );
        for name in
            ["entrypoints.web.address", "api", "providers.kubernetesingressnginx.x", "core.other", "ping"]
        {
            assert_eq!(resolve(name), Name::Traefik, "{name}");
        }
        for name in
            ["providers.kubernetesingress.x", "operator.x", "providers.x.y", "x.y", "", "operators", "http"]
        {
            assert_eq!(resolve(name), Name::Unknown, "{name}");
        }
    }

    #[test]
    fn the_closest_name_is_what_was_probably_meant() {
        for (name, meant) in [
            ("providers.kubernetesIngress.namespace", "providers.kubernetesIngress.namespaces"),
            (
                "providers.kubernetesIngress.allowEmptyService",
                "providers.kubernetesIngress.allowEmptyServices",
            ),
            (
                "providers.kubernetesIngress.publishedService",
                "providers.kubernetesIngress.ingressEndpoint.publishedService",
            ),
            ("operator.leaseName", "operator.leaderElection.leaseName"),
            ("operator.stat", "operator.status"),
            ("providers.kubernetesIngres.endpoint", "providers.kubernetesIngress"),
            ("entryPoint", "entryPoints"),
            ("operater.status", "operator.status"),
        ] {
            assert_eq!(unknown(name, Form::File).1, format!("did you mean {meant}?"), "{name}");
        }
        assert_eq!(unknown("operator.stat", Form::Variable).1, "did you mean WAYBILL_OPERATOR_STATUS?");
        assert_eq!(unknown("entrypoint.web", Form::Flag).1, "did you mean --entrypoints?");
        for name in [
            "providers.kubernetesIngress.foo",
            "operator.foo",
            "providers.foo.x",
            "foo",
            &"x".repeat(100_000),
        ] {
            assert_eq!(unknown(name, Form::File).1, "`waybill options` lists the known ones");
        }
        assert!(unknown("kind", Form::File).1.starts_with("this looks like a Kubernetes object"));
    }

    #[test]
    fn flags_of_traefik_that_stand_alone() {
        for name in ["ping", "api.insecure", "providers.docker", "providers.docker.exposedByDefault"] {
            assert!(is_traefik_switch(name), "{name}");
        }
        for name in ["entrypoints.web.address", "log.level", "providers.precedence"] {
            assert!(!is_traefik_switch(name), "{name}");
        }
    }
}
