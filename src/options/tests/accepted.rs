//! What is right, in every form, and which of several values wins.

use std::time::Duration;

use super::*;
use crate::kubernetes::key::{OutputKey, ServiceKey};
use crate::options::table::TABLE;
use crate::translate::settings::{
    BrokenBackends, ClassOptions, Precedence, RuleSyntax, Settings, StatusSource,
};

/// A value for each option that is not its default, and what becomes visible in the options.
const VALUES: &[(Id, &str, &str)] = &[
    (Id::Endpoint, "https://10.0.0.1:6443", "endpoint: Some(https://10.0.0.1:6443/)"),
    (Id::Token, "abc", "token: Some(Token(not shown))"),
    (Id::CertAuthFilePath, "/ca.crt", "cert_auth_file_path: Some(\"/ca.crt\")"),
    (Id::Namespaces, "shop, edge", "namespaces: {\"edge\", \"shop\"}"),
    (Id::LabelSelector, "app in (a, b)", "text: \"app in (a, b)\""),
    (Id::IngressClass, "public", "ingress_class: \"public\""),
    (Id::DisableIngressClassLookup, "true", "lookup_disabled: true"),
    (Id::DisableClusterScopeResources, "true", "disable_cluster_scope_resources: true"),
    (Id::ControllerName, "example.com/x", "controller_name: \"example.com/x\""),
    (Id::AllowEmptyServices, "true", "allow_empty_services: true"),
    (Id::AllowCrossNamespace, "1", "allow_cross_namespace: true"),
    (Id::AllowExternalNameServices, "T", "allow_external_name_services: true"),
    (Id::CrossProviderNamespaces, "shop", "cross_provider_namespaces: Some({\"shop\"})"),
    (Id::NativeLbByDefault, "True", "native_lb_by_default: true"),
    (Id::StrictPrefixMatching, "TRUE", "strict_prefix_matching: true"),
    (Id::DefaultRuleSyntax, "v2", "default_rule_syntax: V2"),
    (Id::Precedence, "spec", "precedence: Spec"),
    (Id::BrokenBackends, "answer503", "broken_backends: Answer503"),
    (Id::EndpointHostname, "lb.example.com", "hostname: Some(\"lb.example.com\")"),
    (Id::EndpointIp, "2001:db8::1", "ip: Some(2001:db8::1)"),
    (Id::PublishedService, "edge/public", "PublishedService(ServiceKey("),
    (Id::ReportNodeInternalIps, "true", "status: NodeInternalIPs"),
    (Id::Status, "off", "status: false"),
    (Id::StatusRate, "7", "status_rate: 7,"),
    (Id::StatusDelay, "3s", "status_delay: 3s"),
    (Id::ProvidersThrottleDuration, "300ms", "providers_throttle_duration: 300ms"),
    (Id::ThrottleDuration, "1m30s", " throttle_duration: 90s"),
    (Id::Namespace, "edge", "namespace: \"edge\""),
    (Id::OutputName, "public", "name: \"public\""),
    (Id::PublishBytesPerSecond, "512Ki", "publish_bytes_per_second: 524288"),
    (Id::MaxWithdrawal, "50%", "max_withdrawal: Some(50)"),
    (Id::LeaderElectionEnabled, "false", "enabled: false"),
    (Id::LeaseName, "other", "lease_name: \"other\""),
    (Id::LeaseDuration, "20", "lease_duration: 20s"),
    (Id::RenewDeadline, "9s", "renew_deadline: 9s"),
    (Id::RetryPeriod, "1.5s", "retry_period: 1.5s"),
    (Id::MetricsAddress, "127.0.0.1:9090", "text: \"127.0.0.1:9090\""),
    (Id::MetricsSecure, "true", "metrics_secure: true"),
    (Id::MetricsSecureAddress, ":9443", "text: \":9443\""),
    (Id::MetricsCertFile, "/tls/tls.crt", "metrics_cert_file: Some(\"/tls/tls.crt\")"),
    (Id::MetricsKeyFile, "/tls/tls.key", "metrics_key_file: Some(\"/tls/tls.key\")"),
    (Id::OtlpEndpoint, "http://otel:4318", "otlp_endpoint: Some(http://otel:4318/v1/traces)"),
    (Id::LogLevel, "DEBUG", "log_level: Level(Debug)"),
    (Id::LogFormat, "json", "log_format: Json"),
];

fn yaml_of(key: &str, value: &str) -> String {
    let mut text = String::new();
    for (depth, part) in key.split('.').enumerate() {
        text.push_str(&format!(
            "{}{part}:",
            if depth > 0 { format!("\n{}", "  ".repeat(depth)) } else { String::new() }
        ));
    }
    format!("{text} {value:?}\n")
}

fn toml_of(key: &str, value: &str) -> String {
    let (section, last) = key.rsplit_once('.').unwrap();
    format!("[{section}]\n{last} = {value:?}\n")
}

#[test]
fn every_option_can_be_given_in_every_form() {
    assert_eq!(VALUES.len(), TABLE.len());
    let default = format!("{:?}", with_flags(&[]).options);
    for (id, value, visible) in VALUES {
        assert!(!default.contains(visible), "{visible}");
        let entry = id.entry();
        let flag = format!("{}={value}", entry.flag());
        let variable = entry.variable();
        let (yaml, toml) = (yaml_of(entry.key, value), toml_of(&entry.key.to_uppercase(), value));
        let line = entry.key.split('.').count();
        for (loaded, source) in [
            (try_load(&[&flag], &[], &[]), format!("flag {}", entry.flag())),
            (try_load(&[], &[(&variable, value)], &[]), format!("variable {variable}")),
            (try_load(&["--configFile=a.yml"], &[], &[("a.yml", &yaml)]), format!("a.yml:{line}")),
            (try_load(&[], &[("TRAEFIK_CONFIGFILE", "a.toml")], &[("a.toml", &toml)]), "a.toml:2".to_owned()),
        ] {
            let loaded = loaded.unwrap();
            assert!(format!("{:?}", loaded.options).contains(visible), "{source}: {:?}", loaded.options);
            assert_eq!(loaded.origin(*id).to_string(), source);
            assert!(loaded.warnings.is_empty() && loaded.notes().is_empty());
        }
    }
}

#[test]
fn the_nearest_source_wins() {
    let flag: &[&str] = &["--operator.output.name=flag", "--configfile=f.yaml"];
    let variable: &[(&str, &str)] = &[("WAYBILL_OPERATOR_OUTPUT_NAME", "variable")];
    let file: &[(&str, &str)] = &[("f.yaml", "operator: {output: {name: file}}")];
    let name = |arguments, variables| {
        try_load(arguments, variables, file).unwrap().options.settings.output.name().to_owned()
    };
    assert_eq!(name(flag, variable), "flag");
    assert_eq!(name(&flag[1..], variable), "variable");
    assert_eq!(name(&flag[1..], &[]), "file");
    assert_eq!(name(&[], &[]), "waybill");
    // The flag's path goes before the variable's.
    let both = try_load(
        &["--configfile", "f.yaml"],
        &[("TRAEFIK_CONFIGFILE", "g.yaml")],
        &[("f.yaml", "operator: {output: {name: f}}"), ("g.yaml", "operator: {output: {name: g}}")],
    );
    assert_eq!(both.unwrap().options.settings.output.name(), "f");
}

#[test]
fn lists_replace_those_of_other_sources_and_an_empty_one_is_no_unset_one() {
    let key = "TRAEFIK_PROVIDERS_KUBERNETESINGRESS_CROSSPROVIDERNAMESPACES";
    let flag = "--providers.kubernetesIngress.crossProviderNamespaces";
    let load = |arguments: &[&str], variables: &[(&str, &str)]| {
        try_load(arguments, variables, &[]).unwrap().options.settings.cross_provider_namespaces
    };
    assert_eq!(load(&[], &[]), None);
    assert_eq!(load(&[], &[(key, "a")]), Some(set(&["a"])));
    assert_eq!(load(&[], &[(key, "")]), Some(set(&[])));
    assert_eq!(load(&[&format!("{flag}=")], &[(key, "a")]), Some(set(&[])));
    assert_eq!(load(&[&format!("{flag}=[]")], &[(key, "a")]), Some(set(&[])));
    assert_eq!(load(&[&format!("{flag}=b"), flag, "c,d"], &[(key, "a")]), Some(set(&["b", "c", "d"])));
    for (file, expected) in [
        ("crossProviderNamespaces: []", Some(set(&[]))),
        ("crossProviderNamespaces: [a, b]", Some(set(&["a", "b"]))),
        ("crossProviderNamespaces: 'a,b'", Some(set(&["a", "b"]))),
        ("crossProviderNamespaces: ''", Some(set(&[]))),
        ("namespaces: []", None),
    ] {
        let loaded = from_yaml_str(&format!("providers: {{kubernetesIngress: {{{file}}}}}")).unwrap();
        assert_eq!(loaded.options.settings.cross_provider_namespaces, expected, "{file}");
        assert!(loaded.options.namespaces.is_empty());
    }
}

#[test]
fn the_provider_needs_no_switching_on() {
    for file in [
        "",
        "providers:\n",
        "providers: {kubernetesIngress: {}}",
        "providers: {kubernetesIngress: true}",
        "providers: {kubernetesIngress: 'True'}",
        "providers:\n  kubernetesIngress:\n",
    ] {
        assert!(from_yaml_str(file).is_ok(), "{file}");
    }
    for flag in ["--providers.kubernetesingress", "-providers.kubernetesIngress=true"] {
        assert!(try_load(&[flag], &[], &[]).is_ok(), "{flag}");
    }
    assert!(try_load(&[], &[("TRAEFIK_PROVIDERS_KUBERNETESINGRESS", "true")], &[]).is_ok());
}

#[test]
fn the_namespace_comes_from_the_surroundings_when_nobody_gives_it() {
    let account = ("/sa/namespace", "account\n");
    let pod = ("POD_NAMESPACE", "pod");
    for (variables, files, namespace) in [
        (&[pod][..], &[account][..], "pod"),
        (&[("POD_NAMESPACE", "")], &[account], "account"),
        (&[], &[account], "account"),
        (&[], &[], "waybill"),
        (&[pod, ("WAYBILL_OPERATOR_NAMESPACE", "given")], &[account], "given"),
    ] {
        let options = try_load(&[], variables, files).unwrap().options;
        assert_eq!(options.namespace, namespace);
        assert_eq!(options.settings.output, OutputKey::new(namespace, "waybill"));
    }
}

#[test]
fn defaults_are_those_of_the_translation() {
    let options = with_flags(&[]).options;
    assert_eq!(options.settings, Settings::default());
    assert_eq!(options.class, ClassOptions::default());
    assert_eq!(options.leader_election.lease_duration, Duration::from_secs(15));
    assert_eq!((options.status, options.status_rate, options.max_withdrawal), (true, 200, None));
    assert_eq!(options.publish_bytes_per_second, 1 << 20);
    assert!(options.label_selector.as_str().is_empty() && options.access.token.is_none());
}

#[test]
fn statuses_have_one_source() {
    let source = |text: &str| {
        let loaded = from_yaml_str(text).unwrap();
        (loaded.options.settings.status, loaded.warnings)
    };
    let endpoint = |text: &str| format!("providers: {{kubernetesIngress: {{ingressEndpoint: {{{text}}}}}}}");
    let fixed = StatusSource::Fixed { ip: "192.0.2.1".parse().ok(), hostname: Some("lb".to_owned()) };
    assert_eq!(source(&endpoint("ip: 192.0.2.1, hostname: lb")), (fixed, vec![]));
    let service = StatusSource::PublishedService(ServiceKey::new("edge", "public"));
    assert_eq!(source(&endpoint("publishedService: edge/public, ip: ''")), (service.clone(), vec![]));
    assert_eq!(
        source(&endpoint("publishedService: edge/public, ip: 192.0.2.1")),
        (
            service,
            vec![
                "providers.kubernetesIngress.ingressEndpoint.publishedService: options.yaml:1: takes \
                 precedence over ingressEndpoint.hostname and ip, which are not used; leave them out"
                    .to_owned()
            ]
        )
    );
    let off = format!("{}\noperator: {{status: off}}", endpoint("ip: 192.0.2.1"));
    assert_eq!(source(&off), (StatusSource::None, vec![]));
}

#[test]
fn the_slip_of_traefiks_page_gets_a_warning_and_nothing_else() {
    let text = |source: &str| {
        format!(
            "providers.kubernetesCRD.namespaces: {source}: configures Traefik's CRD provider and is not \
             used; to choose the \
             namespaces that are watched, write providers.kubernetesIngress.namespaces"
        )
    };
    let crd = "providers:\n  kubernetesCRD:\n    namespaces: [a]\n";
    let loaded = from_yaml_str(crd).unwrap();
    assert_eq!(loaded.warnings, [text("options.yaml:3")]);
    assert!(loaded.options.namespaces.is_empty());
    assert!(
        from_yaml_str(&format!("{crd}  kubernetesIngress: {{namespaces: [b]}}")).unwrap().warnings.is_empty()
    );
    assert_eq!(
        with_flags(&["--providers.kubernetesCRD.namespaces=a"]).warnings,
        [text("flag --providers.kubernetesCRD.namespaces")]
    );
    let variable = "TRAEFIK_PROVIDERS_KUBERNETESCRD_NAMESPACES";
    let loaded = try_load(&[], &[(variable, "a")], &[]).unwrap();
    assert_eq!(loaded.warnings, [text(&format!("variable {variable}"))]);
}

const TRAEFIK_YAML: &str = include_str!("traefik.yaml");
const TRAEFIK_TOML: &str = include_str!("traefik.toml");

#[test]
fn a_whole_static_file_of_traefik_is_accepted() {
    for (path, text) in [("traefik.yaml", TRAEFIK_YAML), ("traefik.toml", TRAEFIK_TOML)] {
        let loaded = try_load(&["--configfile", path], &[], &[(path, text)]).unwrap();
        let options = &loaded.options;
        assert_eq!(options.namespaces, set(&["edge", "shop"]));
        assert_eq!(options.providers_throttle_duration, Duration::from_secs(5));
        assert_eq!(options.throttle_duration, Duration::from_millis(500));
        assert_eq!(options.label_selector.as_str(), "team in (shop, edge)");
        assert_eq!(options.class.ingress_class, "public");
        assert!(options.settings.allow_empty_services && !options.settings.native_lb_by_default);
        assert_eq!(options.settings.default_rule_syntax, RuleSyntax::V2);
        assert_eq!(options.settings.precedence, Precedence::Traefik);
        assert_eq!(options.settings.broken_backends, BrokenBackends::Drop);
        assert_eq!(
            options.settings.status,
            StatusSource::PublishedService(ServiceKey::new("edge", "traefik"))
        );
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(
            loaded.notes(),
            [
                "sections of the file that only Traefik uses are ignored: global, serversTransport, entryPoints, \
                 providers.docker, providers.file, providers.kubernetesCRD, api, metrics, ping, log, accessLog, tracing, \
                 certificatesResolvers, experimental"
            ],
            "{path}"
        );
    }
}

#[test]
fn a_whole_command_line_of_traefik_is_accepted() {
    let loaded = with_flags(&[
        "--global.checknewversion",
        "--global.sendanonymoususage",
        "--entryPoints.web.address=:8000/tcp",
        "--entrypoints.websecure.address",
        ":8443/tcp",
        "--api.dashboard=true",
        "--ping",
        "--metrics.prometheus",
        "--providers.kubernetescrd",
        "--providers.kubernetesingress",
        "--providers.kubernetesingress.allowEmptyServices",
        "-providers.kubernetesIngress.ingressEndpoint.publishedService=edge/traefik",
        "--providers.kubernetesingress.namespaces=shop",
        "--providers.kubernetesingress.namespaces=edge,blog",
        "--log.level=INFO",
        "run",
    ]);
    assert_eq!(loaded.options.namespaces, set(&["blog", "edge", "shop"]));
    assert!(loaded.options.settings.allow_empty_services);
    assert_eq!(
        loaded.notes(),
        ["flags that only Traefik uses are ignored: --global.checknewversion, --global.sendanonymoususage, \
          --entryPoints.web.address, --entrypoints.websecure.address, --api.dashboard, --ping, --metrics.prometheus, \
          --providers.kubernetescrd, --log.level"]
    );
}

#[test]
fn files_are_read_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, "ä").unwrap();
    assert_eq!(read_file(&path).unwrap(), "ä");
    std::fs::write(&path, vec![b'a'; FILE_LIMIT as usize + 1]).unwrap();
    assert_eq!(read_file(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    std::fs::write(&path, [0xff]).unwrap();
    assert_eq!(read_file(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(Environment::of_process().variables.contains_key("PATH"));
}

/// Whoever installs removes the `#` of the shipped file's samples and nothing else.
#[test]
fn the_shipped_file_works_as_it_is_and_with_its_samples_uncommented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/waybill.yaml");
    let shipped = std::fs::read_to_string(path).unwrap();
    let loaded = from_yaml_str(&shipped).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.options.settings.status, StatusSource::None);
    let uncommented: String = shipped
        .lines()
        .map(|line| match line.trim_start().strip_prefix("# ") {
            Some(sample) if sample.trim().split(' ').next().is_some_and(|word| word.ends_with(':')) => {
                let indent = &line[..line.len() - line.trim_start().len()];
                format!("{indent}{sample}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(uncommented, shipped + "\n", "nothing was uncommented");
    let loaded = from_yaml_str(&uncommented).unwrap();
    let published = ServiceKey::new("traefik", "traefik");
    assert_eq!(loaded.options.settings.status, StatusSource::PublishedService(published));
}
