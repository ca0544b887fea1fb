//! Every fault in its own words.

use super::*;

/// Loads `file` below `providers.kubernetesIngress` and gives the lines without the beginning of the key.
fn provider(file: &str) -> Vec<String> {
    fault_lines(from_yaml_str(&format!("providers:\n  kubernetesIngress:\n    {file}\n")))
        .iter()
        .map(|line| line.trim_start_matches("providers.kubernetesIngress.").to_owned())
        .collect()
}

fn operator(file: &str) -> Vec<String> {
    fault_lines(from_yaml_str(&format!("operator:\n  {file}\n")))
        .iter()
        .map(|line| line.trim_start_matches("operator.").to_owned())
        .collect()
}

#[test]
fn values_of_the_provider() {
    for (file, line) in [
        (
            "endpoint: localhost:8080",
            r#"endpoint: options.yaml:3: value "localhost:8080": not an http or https URL; write http:// or https://, a host and where needed a port, such as https://10.0.0.1:6443"#,
        ),
        (
            "endpoint: https://me:SECRET@host",
            r#"endpoint: options.yaml:3: value "https://…": a URL with a user in it; leave the user out; a bearer token goes into providers.kubernetesIngress.token"#,
        ),
        (
            r#"token: "a\nb""#,
            "token: options.yaml:3: not a bearer token or a path; give the token in one line or the path of a file that holds it",
        ),
        (
            "namespaces: [shop, Shop]",
            r#"namespaces: options.yaml:3: value "Shop": not a DNS label; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
        (
            "namespaces: a,,b",
            r#"namespaces: options.yaml:3: value "": an empty item in the list; leave it out"#,
        ),
        (
            "namespaces:\n    - a\n    - [b]",
            "namespaces: options.yaml:5: a list where an item of a list is expected; write a text",
        ),
        (
            "labelSelector: app=web,",
            r#"labelSelector: options.yaml:3: value "app=web,": not a label selector: a label is missing at the end; write requirements such as app=web,tier in (a, b),!internal"#,
        ),
        (
            r#"ingressClass: "a\u0007""#,
            r#"ingressClass: options.yaml:3: value "a\u{7}": not a plain text; write at most 1024 bytes without control characters"#,
        ),
        (
            "allowEmptyServices: yes",
            r#"allowEmptyServices: options.yaml:3: value "yes": not a boolean; write true or false"#,
        ),
        (
            "allowEmptyServices: [true]",
            "allowEmptyServices: options.yaml:3: a list where a boolean is expected; write one value",
        ),
        (
            "crossProviderNamespaces:",
            "crossProviderNamespaces: options.yaml:3: no value; write [] to allow none, or leave the key \
             out for no restriction",
        ),
        (
            "ingressEndpoint: {ip: 10.0.0.1:80}",
            r#"ingressEndpoint.ip: options.yaml:3: value "10.0.0.1:80": not an IP address; write one IPv4 or IPv6 address, such as 192.0.2.1"#,
        ),
        (
            "ingressEndpoint: {hostname: 10.0.0.1}",
            r#"ingressEndpoint.hostname: options.yaml:3: value "10.0.0.1": an address, not a host name; give it as ingressEndpoint.ip"#,
        ),
        (
            "ingressEndpoint: {hostname: '*.x'}",
            r#"ingressEndpoint.hostname: options.yaml:3: value "*.x": not a host name; write a DNS name in lower case, such as lb.example.com"#,
        ),
        (
            "ingressEndpoint: {publishedService: traefik}",
            r#"ingressEndpoint.publishedService: options.yaml:3: value "traefik": not the name of a Service; write namespace/name, two DNS labels"#,
        ),
        (
            "ingressEndpoint: {}",
            "ingressEndpoint: options.yaml:3: without any address; give hostname, ip or publishedService, or leave it out",
        ),
        (
            "ingressEndpoint: {ip: ''}",
            "ingressEndpoint: options.yaml:3: without any address; give hostname, ip or publishedService, or leave it out",
        ),
        (
            "ingressEndpoint: 10.0.0.1",
            "ingressEndpoint: options.yaml:3: a section has no value of its own; give its options, such as providers.kubernetesIngress.ingressEndpoint.hostname, providers.kubernetesIngress.ingressEndpoint.ip or providers.kubernetesIngress.ingressEndpoint.publishedService",
        ),
        (
            "{reportNodeInternalIPs: true, ingressEndpoint: {ip: 192.0.2.1}}",
            "reportNodeInternalIPs: options.yaml:3: can't be combined with ingressEndpoint; leave one of the two out",
        ),
        (
            "{reportNodeInternalIPs: true, disableClusterScopeResources: true}",
            "reportNodeInternalIPs: options.yaml:3: can't be combined with disableClusterScopeResources; leave one of the two out",
        ),
        (
            "throttleDuration: 1 s",
            r#"throttleDuration: options.yaml:3: value "1 s": not a duration; write a duration such as 300ms, 2s or 1m30s, or a whole number of seconds"#,
        ),
        (
            "throttleDuration: -1",
            r#"throttleDuration: options.yaml:3: value "-1": a negative duration; write a duration such as 300ms, 2s or 1m30s, or a whole number of seconds"#,
        ),
        (
            "throttleDuration: 25h",
            r#"throttleDuration: options.yaml:3: value "25h": too long; write a duration of at most 24h"#,
        ),
        (
            "alowEmptyServices: true",
            "alowEmptyServices: options.yaml:3: unknown key; did you mean providers.kubernetesIngress.allowEmptyServices?",
        ),
        (
            "{token: a, TOKEN: b}",
            "TOKEN: options.yaml:3: given twice, in two spellings; leave one of them out",
        ),
    ] {
        assert_eq!(provider(file), [line]);
    }
}

#[test]
fn values_of_the_operator() {
    for (file, line) in [
        (
            "namespace: a.b",
            r#"namespace: options.yaml:2: value "a.b": not a DNS label; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
        (
            "output: {name: ''}",
            r#"output.name: options.yaml:2: value "": not a DNS label; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
        (
            "controllerName: traefik",
            r#"controllerName: options.yaml:2: value "traefik": not a controller's name; write a domain and a path, such as traefik.io/ingress-controller, at most 250 bytes"#,
        ),
        (
            "routing: {precedence: longest}",
            r#"routing.precedence: options.yaml:2: value "longest": not one of the allowed values; write traefik or spec"#,
        ),
        (
            "routing: {brokenBackends: keep}",
            r#"routing.brokenBackends: options.yaml:2: value "keep": not one of the allowed values; write drop or answer503"#,
        ),
        ("status: 1", r#"status: options.yaml:2: value "1": not a switch; write on or off"#),
        (
            "statusRate: 0",
            r#"statusRate: options.yaml:2: value "0": not a number in the allowed range; write a whole number from 1 to 100000"#,
        ),
        (
            "publishBytesPerSecond: 1MB",
            r#"publishBytesPerSecond: options.yaml:2: value "1MB": not a size; write a number of bytes above 0, such as 1Mi, 512Ki or 65536"#,
        ),
        (
            "maxWithdrawal: 101%",
            r#"maxWithdrawal: options.yaml:2: value "101%": not a percentage; write a whole number from 0 to 100, with or without %"#,
        ),
        (
            "leaderElection: {leaseDuration: 15.5s}",
            r#"leaderElection.leaseDuration: options.yaml:2: value "15.5s": not a whole number of at least 2 seconds; write for example 15s"#,
        ),
        (
            "leaderElection: {leaseDuration: 1s}",
            r#"leaderElection.leaseDuration: options.yaml:2: value "1s": not a whole number of at least 2 seconds; write for example 15s"#,
        ),
        (
            "leaderElection: {leaseDuration: 2s, renewDeadline: 1900ms, retryPeriod: 1s}",
            r#"leaderElection.retryPeriod: options.yaml:2: value "1s": too long; 1.2 times this must be shorter than leaseDuration minus 1s (1s)"#,
        ),
        (
            "leaderElection: {renewDeadline: 15s}",
            r#"leaderElection.renewDeadline: options.yaml:2: value "15s": too long; it must be shorter than leaseDuration (15s)"#,
        ),
        (
            "leaderElection: {retryPeriod: 9s}",
            r#"leaderElection.retryPeriod: options.yaml:2: value "9s": too long; 1.2 times this must be shorter than renewDeadline (10s)"#,
        ),
        (
            "leaderElection: {retryPeriod: 0}",
            r#"leaderElection.retryPeriod: options.yaml:2: value "0": too short; write at least 100ms"#,
        ),
        (
            "leaderElection: {leaseName: A}",
            r#"leaderElection.leaseName: options.yaml:2: value "A": not a DNS label; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
        (
            "otlpEndpoint: https://otel:4318",
            r#"otlpEndpoint: options.yaml:2: value "https://otel:4318": not an http URL; write http://, a host and a port, such as http://otel-collector:4318; a collector in the cluster can forward over TLS"#,
        ),
        (
            "metricsSecure: true\n  metricsKeyFile: /tls/tls.key",
            "metricsKeyFile: options.yaml:3: half of a pair; give operator.metricsCertFile too, or neither for a self-signed certificate",
        ),
        (
            "metricsAddress: 8080",
            r#"metricsAddress: options.yaml:2: value "8080": not an address to listen on; write :8080, 127.0.0.1:8080 or [::1]:8080"#,
        ),
        (
            "logLevel: loud",
            r#"logLevel: options.yaml:2: value "loud": not one of the allowed values; write error, warn, info, debug or trace"#,
        ),
        (
            "logFormat: xml",
            r#"logFormat: options.yaml:2: value "xml": not one of the allowed values; write text or json"#,
        ),
        (
            "leaseName: x",
            "leaseName: options.yaml:2: unknown key; did you mean operator.leaderElection.leaseName?",
        ),
    ] {
        assert_eq!(operator(file), [line]);
    }
}

#[test]
fn the_rest_of_the_file() {
    for (file, line) in [
        (
            "providers: {kubernetesIngress: false}",
            r#"providers.kubernetesIngress: options.yaml:1: value "false": turned off, which leaves nothing to do; write true, or leave it out"#,
        ),
        (
            "providers: {kubernetesIngress: token:SECRET}",
            "providers.kubernetesIngress: options.yaml:1: not a boolean; write true or false, or the options below it",
        ),
        (
            "providers: {kubernetesIngress: []}",
            "providers.kubernetesIngress: options.yaml:1: a list where a map is expected; write true, or the options below it",
        ),
        (
            "core: {defaultRuleSyntax: v1}",
            r#"core.defaultRuleSyntax: options.yaml:1: value "v1": not one of the allowed values; write v3 or v2"#,
        ),
        ("\nprovider: {}", "provider: options.yaml:2: unknown key; did you mean providers?"),
        ("operater:\n  status: off", "operater: options.yaml:1: unknown key; did you mean operator?"),
        (
            "providers:\n  kubernetesIngres: {}",
            "providers.kubernetesIngres: options.yaml:2: unknown key; did you mean providers.kubernetesIngress?",
        ),
        (
            "operator.status: off",
            "operator.status: options.yaml:1: unknown key; did you mean operator.status?",
        ),
        (
            "[a]",
            "configFile: options.yaml:1: a list where the sections of a configuration are expected; write sections such as providers",
        ),
        ("a: 1\na: 2", "configFile: options.yaml:2: a key appears twice; fix the YAML of the file"),
        ("a: }", "configFile: options.yaml:1: not YAML from here on; fix the YAML of the file"),
    ] {
        assert_eq!(fault_lines(from_yaml_str(file)), [line]);
    }
    assert_eq!(
        fault_lines(try_load(&["--configfile=a.json"], &[], &[("a.json", "{}")])),
        [
            "configFile: a.json: the file extension is neither YAML's nor TOML's; name the file .yaml, .yml or \
            .toml"
        ]
    );
    assert_eq!(
        fault_lines(try_load(&["--configfile=a.toml"], &[], &[("a.toml", "\n[[[")])),
        ["configFile: a.toml:2: not TOML from here on; fix the TOML of the file"]
    );
    assert_eq!(
        fault_lines(try_load(&["--configfile=gone.yml"], &[], &[])),
        [
            r#"configFile: flag --configfile: value "gone.yml": the file can't be read (entity not found); name an existing file"#
        ]
    );
}

#[test]
fn flags_and_variables() {
    for (arguments, line) in [
        (
            &["--providers.kubernetesingress.allowemptyservices=2"][..],
            r#"providers.kubernetesIngress.allowEmptyServices: flag --providers.kubernetesingress.allowemptyservices: value "2": not a boolean; write true or false"#,
        ),
        (
            &["--providers.kubernetesingress=false"],
            r#"providers.kubernetesIngress: flag --providers.kubernetesingress: value "false": turned off, which leaves nothing to do; write true, or leave it out"#,
        ),
        (
            &["-providers.kubernetesIngress.allowEmptyService"],
            "-providers.kubernetesIngress.allowEmptyService: flag -providers.kubernetesIngress.allowEmptyService: unknown key; did you mean --providers.kubernetesingress.allowemptyservices?",
        ),
        (
            &["--entrypoint.web.address=:80"],
            "--entrypoint.web.address: flag --entrypoint.web.address: unknown key; did you mean --entrypoints?",
        ),
        (
            &["--operator.output=x"],
            "operator.output: flag --operator.output: a section has no value of its own; give its options, such as --operator.output.name",
        ),
        (
            &["--operator.output.name", "--operator.status=on"],
            "operator.output.name: flag --operator.output.name: a value is missing; write --operator.output.name=VALUE",
        ),
        (&["--configfile"], "configFile: flag --configfile: a value is missing; write --configfile=VALUE"),
    ] {
        assert_eq!(fault_lines(try_load(arguments, &[], &[])), [line]);
    }
    for (name, value, line) in [
        (
            "WAYBILL_OPERATOR_STATUSRATE",
            "many",
            r#"operator.statusRate: variable WAYBILL_OPERATOR_STATUSRATE: value "many": not a number in the allowed range; write a whole number from 1 to 100000"#,
        ),
        (
            "WAYBILL_OPERATOR_STATUS_RATE",
            "7",
            "WAYBILL_OPERATOR_STATUS_RATE: variable WAYBILL_OPERATOR_STATUS_RATE: unknown key; did you mean WAYBILL_OPERATOR_STATUSRATE?",
        ),
        (
            "TRAEFIK_PROVIDERS_KUBERNETESINGRESS_NAMESPACE",
            "a",
            "TRAEFIK_PROVIDERS_KUBERNETESINGRESS_NAMESPACE: variable TRAEFIK_PROVIDERS_KUBERNETESINGRESS_NAMESPACE: unknown key; did you mean TRAEFIK_PROVIDERS_KUBERNETESINGRESS_NAMESPACES?",
        ),
        (
            "WAYBILL_OPERATOR_OUTPUT",
            "a",
            "operator.output: variable WAYBILL_OPERATOR_OUTPUT: a section has no value of its own; give its options, such as WAYBILL_OPERATOR_OUTPUT_NAME",
        ),
        (
            "POD_NAMESPACE",
            "A",
            r#"operator.namespace: variable POD_NAMESPACE: value "A": not a DNS label; write 1 to 63 of a-z, 0-9 and -, with no - at either end"#,
        ),
    ] {
        assert_eq!(fault_lines(try_load(&[], &[(name, value)], &[])), [line]);
    }
    let twice = [("WAYBILL_OPERATOR_STATUS", "on"), ("WAYBILL_OPERATOR_status", "off")];
    assert_eq!(
        fault_lines(try_load(&[], &twice, &[])),
        [
            "operator.status: variable WAYBILL_OPERATOR_status: given twice, in two spellings; leave one of them out"
        ]
    );
}

#[test]
fn all_faults_are_told_at_once_and_overridden_values_are_checked_too() {
    let lines = fault_lines(try_load(
        &["--operator.status=on", "--operator.x=1", "--configfile=f.yaml"],
        &[("WAYBILL_OPERATOR_STATUS", "maybe"), ("WAYBILL_OPERATOR_Y", "1")],
        &[("f.yaml", "operator:\n  status: never\n  z: 1\n  statusRate: x\n")],
    ));
    let starts: Vec<_> =
        lines.iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        starts,
        [
            "--operator.x: flag --operator.x",
            "WAYBILL_OPERATOR_Y: variable WAYBILL_OPERATOR_Y",
            "operator.z: f.yaml:3",
            "operator.status: variable WAYBILL_OPERATOR_STATUS",
            "operator.status: f.yaml:2",
            "operator.statusRate: f.yaml:4",
        ]
    );
}

#[test]
fn long_values_are_cut() {
    let value = "x".repeat(10_000);
    let lines = fault_lines(try_load(&[&format!("--operator.loglevel={value}")], &[], &[]));
    assert!(lines.len() == 1 && lines[0].len() < 300, "{lines:?}");
    let lines = fault_lines(try_load(&[&format!("--operator.{value}=x")], &[], &[]));
    assert!(lines.len() == 1 && lines[0].len() < 800, "{lines:?}");
}
