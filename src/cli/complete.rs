//! Completions that know the objects of what a command line reads: `waybill __complete WORDS`, which the scripts of
//! `waybill completions` call, and `kubectl_complete-waybill WORDS`, which kubectl calls.
//!
//! The answer has the form that kubectl reads: one candidate per line, a tab and its description, and in the last line a
//! colon with a number (2: no space after the candidate; 4: no file names from the shell).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use clap::ArgMatches;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use kube::config::Kubeconfig;

use super::input::Input;
use super::plugin::{CalledAs, has_argument};
use super::{SUCCESS, Streams};
use crate::kubernetes::Ingress;
use crate::kubernetes::client::Environment;
use crate::options::{self, Loaded};

/// The command that the shell scripts call.
pub const COMPLETE: &str = "__complete";

/// More than anyone would read.
const CANDIDATES: usize = 1_000;

/// Prints the candidates for the last of `words`, a command line without the program, and returns the exit code. If the
/// input can't be read, there are no candidates.
pub fn run(
    called: CalledAs,
    words: Vec<OsString>,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> u8 {
    let plain = super::command(called);
    let mut arguments = vec![OsString::from("waybill")];
    arguments.extend(words);
    if arguments.len() < 2 {
        arguments.push(OsString::new());
    }
    let index = arguments.len() - 1;
    let before = options::split_arguments(arguments[..index].iter().cloned(), &[]);
    let matches = plain.clone().ignore_errors(true).try_get_matches_from(before.rest).ok();
    let given = matches.as_ref().and_then(ArgMatches::subcommand);
    let source = ObjectSource {
        input: given.and_then(|(name, given)| input(&plain, name, given)),
        loaded: options::load(&before.flags, environment).ok(),
        environment: environment.clone(),
    };
    let mut command = with_objects(plain, source);
    let current_dir = std::env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut command, arguments, index, current_dir.as_deref());
    let mut text = String::new();
    let mut unfinished = false;
    for candidate in found.unwrap_or_default().iter().take(CANDIDATES) {
        let Some(value) = candidate.get_value().to_str().filter(|value| !value.contains(char::is_control))
        else {
            continue;
        };
        unfinished = value.ends_with(['/', '=', ':']);
        text.push_str(value);
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(line) = help.lines().next().filter(|line| !line.is_empty()) {
            text.push('\t');
            text.push_str(line);
        }
        text.push('\n');
    }
    text.push_str(if unfinished { ":6\n" } else { ":4\n" });
    let _ = streams.print(&text);
    SUCCESS
}

/// The input of an incomplete command line.
fn input(command: &clap::Command, name: &str, given: &ArgMatches) -> Option<Input> {
    let takes_input = command
        .find_subcommand(name)
        .is_some_and(|command| has_argument(command, "filenames") && has_argument(command, "cluster"));
    takes_input.then(|| <Input as clap::FromArgMatches>::from_arg_matches(given).ok()).flatten()
}

/// The source of the objects, which is read only if it is needed for completions.
struct ObjectSource {
    input: Option<Input>,
    loaded: Option<Loaded>,
    environment: Environment,
}

/// The objects by which arguments can be completed.
#[derive(Default)]
struct KnownObjects {
    /// The URLs of Ingresses.
    urls: BTreeSet<String>,
    hosts: BTreeSet<String>,
    /// `namespace/name`.
    ingresses: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl ObjectSource {
    fn objects(&self) -> KnownObjects {
        let mut known = KnownObjects::default();
        let (Some(input), Some(loaded)) = (&self.input, &self.loaded) else { return known };
        for ingress in input.ingresses(loaded, &self.environment) {
            known.add(&ingress);
        }
        known
    }
}

impl KnownObjects {
    fn add(&mut self, ingress: &Ingress) {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or("default");
        let name = ingress.metadata.name.as_deref().unwrap_or_default();
        self.namespaces.insert(namespace.to_owned());
        self.ingresses.insert(format!("{namespace}/{name}"));
        let Some(spec) = &ingress.spec else { return };
        let scheme = if spec.tls.as_ref().is_some_and(|tls| !tls.is_empty()) { "https" } else { "http" };
        for rule in spec.rules.iter().flatten() {
            // Nobody can send a request to a wildcard.
            let Some(host) = rule.host.as_deref().filter(|host| !host.contains('*')) else { continue };
            self.hosts.insert(host.to_owned());
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let path = path.path.as_deref().unwrap_or("/");
                self.urls.insert(format!("{scheme}://{host}{path}"));
            }
        }
    }
}

/// Adds to the arguments that name objects how they are completed.
fn with_objects(command: clap::Command, source: ObjectSource) -> clap::Command {
    type Choice = fn(&KnownObjects) -> Vec<&String>;
    const NAMED: [(&str, Choice); 3] = [
        ("url", |known| known.urls.iter().collect()),
        ("namespace", |known| known.namespaces.iter().collect()),
        ("only", |known| known.hosts.iter().chain(&known.ingresses).collect()),
    ];
    let environment = source.environment.clone();
    let shared = Arc::new((source, OnceLock::new()));
    command.mut_subcommands(|mut command| {
        for (argument, choice) in NAMED {
            if has_argument(&command, argument) {
                let shared = Arc::clone(&shared);
                let completer = move |current: &OsStr| {
                    let (source, read) = &*shared;
                    candidates(current, choice(read.get_or_init(|| source.objects())))
                };
                command = command.mut_arg(argument, |one| one.add(ArgValueCompleter::new(completer)));
            }
        }
        if has_argument(&command, "context") {
            let environment = environment.clone();
            let completer = move |current: &OsStr| candidates(current, &contexts(&environment));
            command = command.mut_arg("context", |one| one.add(ArgValueCompleter::new(completer)));
        }
        command
    })
}

/// The candidates that begin with the typed text. A tenant's text that a shell could interpret is left out: a
/// completion must never run anything.
fn candidates<'a>(current: &OsStr, all: impl IntoIterator<Item = &'a String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/:%@+".contains(c);
    let fitting = all.into_iter().filter(|one| one.starts_with(current) && one.chars().all(is_plain));
    fitting.take(CANDIDATES).map(CompletionCandidate::new).collect()
}

/// The contexts of the kubeconfig files.
fn contexts(environment: &Environment) -> BTreeSet<String> {
    let home = || environment.get("HOME").map(|home| Path::new(home).join(".kube/config"));
    let files = match environment.get("KUBECONFIG") {
        Some(list) => std::env::split_paths(list).collect(),
        None => Vec::from_iter(home()),
    };
    let files = files.iter().filter_map(|path| Kubeconfig::read_from(path).ok());
    files.flat_map(|file| file.contexts).map(|context| context.name).collect()
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::{called, waybill};

    const HOSTILE: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  tls: [{secretName: tls}]
  rules:
  - {host: shop.example, http: {paths: [{path: /cart}, {path: '/$(touch x)'}, {path: '/a;b'}, {path: \"/a\\tb\\n/c\"}]}}
  - {host: '*.shop.example', http: {paths: [{path: /}]}}
";

    fn complete(words: &[&str]) -> String {
        let outcome = waybill(&[&["__complete"], words].concat(), "");
        assert_eq!((outcome.code, &*outcome.stderr), (0, ""));
        outcome.stdout
    }

    #[test]
    fn objects_complete_what_names_them_unless_a_shell_could_run_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, HOSTILE).unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(complete(&["explain", "-f", file, "http"]), "https://shop.example/cart\n:4\n");
        assert_eq!(complete(&["explain", &format!("--filename={file}"), "-n", ""]), "shop\n:4\n");
        assert_eq!(complete(&["explain", "-f", file, "-f", "/not/there", "http"]), ":4\n");
        assert_eq!(complete(&["explain", "-f", "-", "http"]), ":4\n", "standard input is not waited for");
        assert_eq!(complete(&["explain", "--cluster", "http"]), ":4\n", "there is no cluster");
        assert!(complete(&[]).starts_with("render\t"));
    }

    #[test]
    fn kubectl_asks_by_another_name() {
        let outcome = called("kubectl_complete-waybill", &["expl"], "");
        assert_eq!(outcome.stdout, "explain\tShow which router serves a request, and why\n:4\n");
    }
}
