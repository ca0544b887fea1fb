//! The command line. Each command has a file of its own; this one has what they share.

mod agent;
mod check;
mod cluster;
mod complete;
mod diff;
mod documents;
mod explain;
mod git;
mod graph;
mod input;
mod lint;
mod plugin;
mod progress;
mod render;
pub mod run;
mod show;
mod version;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::kubernetes::client::Environment;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::name::{is_label, is_subdomain};
use crate::options::table::{Entry, Group, TABLE};
use crate::options::{self, Flags, Id, Loaded};
use crate::routing::Routing;
use plugin::CalledAs;

pub const SUCCESS: u8 = 0;
/// The command found what it was asked to fail for, or it failed while it ran.
pub const PROBLEMS: u8 = 1;
/// Wrong usage, unreadable input, or output that can't be written.
pub const USAGE: u8 = 2;

/// Turns Kubernetes Ingresses into routing for Traefik.
#[derive(Debug, Parser)]
#[command(name = "waybill", version = version::SHORT, long_version = version::LONG, max_term_width = 100)]
#[command(
    after_help = "`waybill run --help` lists the options of the operator; `waybill options` prints them as a page."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the routing of manifests, without a cluster
    ///
    /// Reads manifests and prints the routing that the operator would publish for them. Problems go to standard error,
    /// one line each: category, object, field, value, remedy. The last line is a summary.
    ///
    /// Exit codes: 0; 1 with --strict if there is a problem; 2 for wrong usage or unreadable input.
    Render(render::Render),
    /// Run the operator against a cluster
    ///
    /// Watches Ingresses and the objects that they use, publishes the routing while it is the leader, and
    /// serves metrics and probes.
    ///
    /// Exit codes: 0 on SIGTERM, after finishing the current write and releasing the Lease; 1 if a part of
    /// the operator fails; 2 for wrong usage.
    Run,
    /// Hand the published routing to the Traefik beside it
    ///
    /// Watches the index of an output, fetches its shards, and hands complete generations to Traefik. Inside
    /// a cluster it connects with the service account, outside as kubectl does.
    ///
    /// Exit codes: 0 on SIGTERM, or with --once when a generation is written; 1 if --once found nothing to
    /// write within 60 seconds; 2 for wrong usage or a folder that can't be written.
    Agent(agent::AgentArguments),
    /// Show which router serves a request, and why
    ///
    /// Reads manifests (-f) or a cluster (--cluster, read-only) and shows which router serves a request to URL, with
    /// its middlewares, endpoints and certificate, and the objects from which they come. It then lists all routers for
    /// the host in the order in which Traefik tries them, why each wins or loses, and what would make it win. Without
    /// EndpointSlices in the input, routes are shown without endpoints.
    ///
    /// Exit codes: 0 if a router serves the request; 1 if none does; 2 for wrong usage or unreadable input.
    Explain(explain::Explain),
    /// Draw the routing: host, path, Service, endpoints
    ///
    /// Reads manifests (-f) or a cluster (--cluster, read-only) and draws its routing by namespace, with
    /// problems marked. The formats are SVG with search and collapsible namespaces for a browser, DOT,
    /// Mermaid, and JSON for programs. Without EndpointSlices in the input, routes are shown without
    /// endpoints.
    ///
    /// Exit codes: 0; 2 for wrong usage or unreadable input.
    Graph(graph::Graph),
    /// List the routes that are gained, lost or changed
    ///
    /// Compares two routings by what they serve (host, path, backend, TLS, middlewares), not by name. Each is a file, a
    /// directory, - for standard input, git:REVISION:PATH, cluster: (the objects of a cluster),
    /// published:NAMESPACE/OUTPUT or traefik:URL (what Traefik's API shows). The command only reads.
    ///
    /// Exit codes: 0; 1 if there is a difference, see --fail-on; 2 for wrong usage or unreadable input.
    Diff(diff::DiffArguments),
    /// Report mistakes in manifests or in a cluster
    ///
    /// Reads manifests (-f) or a cluster (--cluster, read-only) and prints every problem that render finds, and things
    /// that are valid but most likely wrong: routes that never get a request, hosts that are claimed twice,
    /// certificates that do not match, annotations of other controllers, and more. --list explains each code with an
    /// example.
    ///
    /// Exit codes: 0; 1 if something is found, see --fail-on; 2 for wrong usage or unreadable input.
    Lint(lint::LintArguments),
    /// Print the published routing
    ///
    /// Reads the index and its shards, checks every hash, and prints the routing. Connects as kubectl does: by
    /// --context, KUBECONFIG, or the current context of ~/.kube/config. Inside a cluster it uses the service account.
    ///
    /// Exit codes: 0; 1 if nothing is published or it is incomplete; 2 for wrong usage.
    Show(show::Show),
    /// Check whether a cluster has everything that the operator needs
    ///
    /// Checks the API server, the CRD, the IngressClasses and their parameters, the rights that the options need,
    /// published Services, the Lease, and which other controllers serve the same Ingresses or write their statuses.
    /// Prints one line each: `ok`, or a `note` or `FAIL` with a remedy. Changes nothing. Takes the options of `run`,
    /// and connects as kubectl does; inside a cluster it uses the service account.
    ///
    /// Exit codes: 0; 1 if a line says FAIL, for example because the API server does not answer; 2 for wrong
    /// usage.
    Check(check::CheckArguments),
    /// Print every option with its default and its meaning
    Options(documents::PrintOptions),
    /// Print the CustomResourceDefinition of IngressClassParameters
    Crds,
    /// Print completions for a shell
    ///
    /// For Bash: source <(waybill completions bash). In Bash, zsh and fish, completions include hosts,
    /// Ingresses and namespaces from the input of the command, and contexts of the kubeconfig.
    Completions(documents::Completions),
    /// Print a manual page
    ///
    /// To read it: waybill man run | man -l -
    Man(documents::Man),
    /// Print the version, the commit, and the Traefik and Kubernetes versions used in tests
    Version(version::Version),
}

/// Where a command reads and writes; the real streams, or those of a test.
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// The document that was asked for, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Messages, one per line.
    pub stderr: &'a mut dyn Write,
}

impl Streams<'_> {
    /// Prints a document, see [`Self::write`].
    fn print(&mut self, text: &str) -> CommandResult {
        self.write(|out| out.write_all(text.as_bytes()))
    }

    /// Writes a document to standard output. It is no failure if the reader closes it early (`| head`).
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> CommandResult {
        let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut *self.stdout);
        match write(&mut buffered).and_then(|()| buffered.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // The rest of the buffer must not be written again when it is dropped.
                let _ = buffered.into_parts();
                Ok(SUCCESS)
            }
            Err(error) => Err(CommandError::usage(format!("standard output: {error}"))),
            Ok(()) => Ok(SUCCESS),
        }
    }
}

/// The exit code of a command, or the error that stopped it.
type CommandResult = Result<u8, CommandError>;

/// An error that stops a command: the message for standard error, and the exit code.
#[derive(Debug)]
struct CommandError {
    code: u8,
    prefix: &'static str,
    message: String,
}

impl CommandError {
    fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, prefix: "error: ", message: message.into() }
    }

    fn problem(error: impl fmt::Display) -> Self {
        Self { code: PROBLEMS, ..Self::usage(error.to_string()) }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.message)
    }
}

impl<E: std::error::Error> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::usage(error.to_string())
    }
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr(),
    };
    ExitCode::from(run(std::env::args_os(), &Environment::of_process(), &mut streams))
}

/// Runs a command line, the program's name first; gives the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> u8 {
    let mut arguments = arguments.into_iter().peekable();
    let called = arguments.peek().map_or(CalledAs::Waybill, |program| CalledAs::from(program.as_os_str()));
    if called == CalledAs::PluginCompletion {
        return complete::run(CalledAs::Plugin, arguments.skip(1).collect(), environment, streams);
    }
    let program = arguments.next();
    if arguments.next_if(|first| first == complete::COMPLETE).is_some() {
        return complete::run(called, arguments.collect(), environment, streams);
    }
    let arguments = program.into_iter().chain(arguments);
    let command = command(called);
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["help"]).collect();
    let arguments = options::split_arguments(arguments, &names);
    let matches =
        command.try_get_matches_from(arguments.rest).and_then(|matches| Cli::from_arg_matches(&matches));
    let outcome = match matches {
        Ok(Cli { command }) => command.run(called, &arguments.flags, environment, streams),
        Err(error) => {
            let text = error.render();
            let out: &mut dyn Write = if error.use_stderr() { streams.stderr } else { streams.stdout };
            // If the stream is closed, nobody wants the message.
            let _ = write!(out, "{text}").and_then(|()| out.flush());
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(streams.stderr, "{error}");
        error.code
    })
}

impl Command {
    /// Runs it; gives the exit code.
    fn run(
        self,
        called: CalledAs,
        flags: &Flags,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let load = |streams: &mut Streams<'_>| loaded(flags, environment, streams);
        match self {
            Self::Render(render) => render.run(&load(streams)?, streams),
            Self::Run => run::start(&load(streams)?, environment),
            Self::Agent(agent) => agent.run(&load(streams)?, environment),
            Self::Show(show) => show.run(&load(streams)?, environment, streams),
            Self::Explain(explain) => explain.run(&load(streams)?, environment, streams),
            Self::Graph(graph) => graph.run(&load(streams)?, environment, streams),
            Self::Diff(diff) => diff.run(&load(streams)?, environment, streams),
            Self::Lint(lint) => lint.run(&load(streams)?, environment, streams),
            Self::Check(check) => check.run(&load(streams)?, environment, streams),
            Self::Options(options) => options.run(streams),
            Self::Crds => documents::crds(streams),
            Self::Completions(completions) => completions.run(streams),
            Self::Man(man) => man.run(called, streams),
            Self::Version(version) => version.run(streams),
        }
    }
}

/// The commands, with the operator's options in the help of those that read them.
fn command(called: CalledAs) -> clap::Command {
    let command = Cli::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        if !TABLE.iter().any(|entry| reads(&name, entry)) {
            return command;
        }
        command.args(options::documentation::arguments(|entry| reads(&name, entry)))
    });
    if called == CalledAs::Plugin { plugin::command(command) } else { command }
}

/// Whether an option changes what a command does.
fn reads(command: &str, option: &Entry) -> bool {
    let output = matches!(option.id, Id::Namespace | Id::OutputName);
    let routing =
        output || option.id == Id::LeaseName || matches!(option.group, Group::Selection | Group::Routing);
    match command {
        "run" | "check" => true,
        "render" => routing || option.group == Group::Status,
        "explain" | "graph" | "diff" | "lint" => routing || option.group == Group::Connection,
        "show" => output || option.group == Group::Connection,
        "agent" => option.group == Group::Connection,
        _ => false,
    }
}

/// Reads and checks the options, and prints warnings.
fn loaded(
    flags: &Flags,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Loaded, CommandError> {
    let loaded = options::load(flags, environment)
        .map_err(|faults| CommandError { prefix: "", ..CommandError::from(faults) })?;
    for line in loaded.warnings.iter().chain(&loaded.notes()) {
        let _ = writeln!(streams.stderr, "warning: {line}");
    }
    Ok(loaded)
}

/// Whether the output may be coloured.
fn is_colourful(environment: &Environment) -> bool {
    let is_terminal =
        environment.get("TERM").is_some_and(|kind| kind != "dumb") && io::stdout().is_terminal();
    is_terminal && environment.get("NO_COLOR").is_none()
}

/// A value for programs.
fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

/// Reads the name of an output on a command line.
fn output_key(text: &str) -> Result<OutputKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_subdomain(name) => {
            Ok(OutputKey::new(namespace, name))
        }
        _ => Err("write it as NAMESPACE/NAME, two names of a-z, 0-9 and -".to_owned()),
    }
}

/// The named output does not exist.
#[derive(Debug, thiserror::Error)]
#[error("--output-name={wanted}: there is no such output; name one of {all}")]
struct NoOutput {
    wanted: OutputKey,
    all: String,
}

impl NoOutput {
    /// Checks that a routing has an output.
    fn check(routing: &Routing, wanted: Option<&OutputKey>) -> Result<(), Self> {
        let Some(wanted) = wanted.filter(|wanted| routing.table().output(wanted).is_none()) else {
            return Ok(());
        };
        let all: Vec<_> = routing.table().outputs().map(|(key, _)| key.to_string()).collect();
        Err(Self { wanted: wanted.clone(), all: all.join(", ") })
    }
}

#[cfg(test)]
mod tests;
