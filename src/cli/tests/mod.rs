use std::io::Cursor;

use super::*;

mod diff;
mod graph;
mod lint;
mod render;

pub(super) struct Outcome {
    pub code: u8,
    pub stdout: String,
    pub stderr: String,
}

/// Surroundings without variables and without files.
fn nowhere() -> Environment {
    Environment { variables: [].into(), service_account: "/not/there".into(), context: None }
}

pub(super) fn waybill(arguments: &[&str], stdin: &str) -> Outcome {
    called("waybill", arguments, stdin)
}

/// What the program says that is called by this name.
pub(super) fn called(program: &str, arguments: &[&str], stdin: &str) -> Outcome {
    let arguments = std::iter::once(program).chain(arguments.iter().copied()).map(OsString::from);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut stdin = Cursor::new(stdin);
    let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let code = run(arguments, &nowhere(), &mut streams);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code, stdout: text(stdout), stderr: text(stderr) }
}

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: v1
kind: Secret
metadata: {name: tls, namespace: shop}
stringData:
  tls.crt: |-
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
  tls.key: |-
    -----BEGIN PRIVATE KEY-----
    hidden
    -----END PRIVATE KEY-----
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec:
  tls: [{secretName: tls}]
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
";

const SHOP_SUMMARY: &str = "summary: 1 Ingress read: 1 ours; 1 router, 1 certificate; no problems\n";

const BROKEN: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: z, namespace: shop}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: shop}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}}]
";

#[test]
fn options_steer_the_translation() {
    let hidden =
        waybill(&["render", "-f", "-", "--providers.kubernetesIngress.labelSelector=tier=back"], SHOP);
    assert_eq!((hidden.code, hidden.stdout.as_str()), (SUCCESS, "{}\n"));
    let elsewhere = waybill(&["render", "--providers.kubernetesingress.namespaces=other", "-f", "-"], SHOP);
    assert_eq!(elsewhere.stdout, "{}\n");
    let published = "--providers.kubernetesingress.ingressendpoint.publishedservice=edge/gone";
    let outcome = waybill(&["render", "-f", "-", published], SHOP);
    assert!(outcome.stderr.starts_with("PublishedServiceNotFound: Service edge/gone"), "{}", outcome.stderr);
    let wrong =
        waybill(&["render", "-f", "-", "--providers.kubernetesingress.allowemptyservices=maybe"], SHOP);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (USAGE, ""));
    assert!(wrong.stderr.contains("allowEmptyServices"), "{}", wrong.stderr);
}

#[test]
fn bad_usage_and_unreadable_input_exit_with_2() {
    for arguments in [
        &["render"][..],
        &["render", "-f", "no/such/file.yaml"],
        &["render", "-f", "-", "-f", "-"],
        &["render", "-f", "-", "-o", "xml"],
        &["render", "-f", "-", "--output", "waybill"],
        &["render", "-f", "-", "--output", "waybill/other"],
        &["deliver"],
        &[],
    ] {
        let outcome = waybill(arguments, SHOP);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (USAGE, ""), "{arguments:?}");
        assert!(!outcome.stderr.is_empty());
    }
}

#[test]
fn help_explains_the_command_and_the_options() {
    let help = |arguments: &[&str]| {
        let outcome = waybill(arguments, "");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, ""));
        outcome.stdout
    };
    let render = help(&["render", "--help"]);
    for word in ["--strict", "--show-secrets", "-o, --output <FORMAT>", "Exit codes", "Routing:"] {
        assert!(render.contains(word), "{word}: {render}");
    }
    let run = help(&["run", "--help"]);
    for entry in crate::options::table::TABLE {
        assert!(run.contains(&format!("  {}", entry.flag())), "{}", entry.key);
    }
    for word in ["--configfile <PATH>", "[default: 15s]", "Leader election:", "[possible values: v3, v2]"] {
        assert!(run.contains(word), "{word}: {run}");
    }
    let show = help(&["show", "--help"]);
    for word in ["--context", "-n, --namespace", "--providers.kubernetesingress.endpoint"] {
        assert!(show.contains(word), "{word}: {show}");
    }
    let agent = help(&["agent", "--help"]);
    for word in ["--context", "--kubeconfig <PATH>", "--providers.kubernetesingress.endpoint", "Exit codes"] {
        assert!(agent.contains(word), "{word}: {agent}");
    }
    assert!(!show.contains("--operator.statusrate") && !agent.contains("--operator.statusrate"), "{show}");
    // Wrapped once: no line is long, and none ends early before a word that would have fitted.
    for text in [&render, &run, &show, &agent] {
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let indent = |line: &str| line.len() - line.trim_start().len();
            let next = pair[1].split_whitespace().next().unwrap_or_default();
            let continues =
                indent(pair[0]) == 10 && indent(pair[1]) == 10 && !next.is_empty() && !next.starts_with("[");
            let paragraph = pair[0].ends_with(['.', ']', ':']) || pair[1].trim_start().starts_with('-');
            assert!(pair[0].chars().count() <= 100, "{}", pair[0]);
            let full = pair[0].chars().count() + 1 + next.chars().count() > 100;
            assert!(!continues || paragraph || full, "{pair:#?}");
        }
    }
    let short = help(&["run", "-h"]);
    assert!(!short.contains("--operator.statusrate") && short.contains("--help"), "{short}");
    let all = help(&["--help"]);
    for word in ["render", "show", "version", "waybill run --help"] {
        assert!(all.contains(word), "{word}: {all}");
    }
}

#[test]
fn versions_name_the_build_and_what_it_was_tested_with() {
    for arguments in [&["version"][..], &["--version"]] {
        let outcome = waybill(arguments, "");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (SUCCESS, ""));
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(lines[0].starts_with(&format!("waybill {}", env!("CARGO_PKG_VERSION"))), "{lines:?}");
        assert!(lines[0].contains("commit "), "{lines:?}");
        assert!(lines[1].contains("Traefik v3.") && lines[1].contains("Kubernetes v1."), "{lines:?}");
    }
    let outcome = waybill(&["version", "-o", "json"], "");
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    for key in ["version", "commit", "commitDate", "traefik", "kubernetes"] {
        assert!(value[key].is_string(), "{value}");
    }
}

/// A reader that has gone.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let code = |kind| {
        let arguments = ["waybill", "render", "-f", "-"].map(OsString::from);
        let mut stderr = Vec::new();
        let mut streams =
            Streams { stdin: &mut Cursor::new(SHOP), stdout: &mut Closed(kind), stderr: &mut stderr };
        (run(arguments, &nowhere(), &mut streams), String::from_utf8(stderr).unwrap())
    };
    assert_eq!(code(io::ErrorKind::BrokenPipe), (SUCCESS, SHOP_SUMMARY.to_owned()));
    let (full, stderr) = code(io::ErrorKind::StorageFull);
    assert_eq!(full, USAGE);
    assert!(stderr.contains("\nerror: standard output: "), "{stderr}");
}
