//! The command line: a file a command, and what all of them share.

mod agent;
mod documents;
mod render;
pub mod run;
mod show;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::kubernetes::key::OutputKey;
use crate::options::{self, Flags, Loaded, Surroundings};

/// Everything is as it should be.
pub const SUCCESS: u8 = 0;
/// Something is wrong with what was looked at, and the command was asked to say so.
pub const PROBLEMS: u8 = 1;
/// The command was called in a wrong way, or could not read or write what it needs.
pub const USAGE: u8 = 2;

/// Turns Kubernetes Ingresses into routing for Traefik.
#[derive(Debug, Parser)]
#[command(name = "waybill", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the routing of manifests, without a cluster
    ///
    /// Reads manifests and prints the routing that the operator would publish for them. What is wrong with them
    /// goes to standard error, one line each, with category, object, field, value and remedy.
    ///
    /// Exit codes: 0; 1 with --strict when there is a problem; 2 for bad usage or input that can't be read.
    Render(render::Render),
    /// Run the operator against a cluster
    ///
    /// Watches Ingresses and what they use, publishes the routing while it leads, and serves metrics and probes.
    /// Ends with 0 on SIGTERM, once the write under way is done and the lease given back; 2 for bad usage.
    Run,
    /// Hand the published routing to the Traefik beside it
    ///
    /// Watches the index of an output, fetches what it leads to, and hands Traefik one whole generation after the other.
    /// Exit codes: 0 on SIGTERM, or with --once when a generation is written; 1 when --once comes to nothing; 2 for bad
    /// usage.
    Agent(agent::AgentArguments),
    /// Print what is published, put together from its index and shards
    ///
    /// Reads the index and its shards as an agent beside Traefik does, checks every hash, and prints the routing.
    /// Exit codes: 0; 1 when there is nothing to show or it is not whole; 2 for bad usage.
    Show(show::Show),
    /// Print every option with its default and its meaning
    Options(documents::Options),
    /// Print the CustomResourceDefinition of IngressClassParameters
    Crds,
}

/// Where a command reads and writes; the real streams, or those of a test.
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// The document that was asked for, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// What there is to say about it, a line each.
    pub stderr: &'a mut dyn Write,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr(),
    };
    ExitCode::from(run(std::env::args_os(), &options::Process, &mut streams))
}

/// Runs a command line, the program's name first; gives the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &dyn Surroundings,
    streams: &mut Streams<'_>,
) -> u8 {
    let command = Cli::command().after_long_help(options::help());
    let command = command.mut_subcommand("render", |render| render.after_long_help(options::help()));
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["help"]).collect();
    let arguments = options::split_arguments(arguments, &names);
    let matches =
        command.try_get_matches_from(arguments.rest).and_then(|matches| Cli::from_arg_matches(&matches));
    match matches {
        Ok(Cli { command: Command::Render(render) }) => {
            with_options(&arguments.flags, surroundings, streams, |loaded, streams| {
                render.run(loaded, streams)
            })
        }
        Ok(Cli { command: Command::Run }) => {
            with_options(&arguments.flags, surroundings, streams, |loaded, streams| {
                run::start(loaded, surroundings, streams)
            })
        }
        Ok(Cli { command: Command::Agent(agent) }) => {
            with_options(&arguments.flags, surroundings, streams, |loaded, streams| {
                agent.run(loaded, surroundings, streams)
            })
        }
        Ok(Cli { command: Command::Show(show) }) => {
            with_options(&arguments.flags, surroundings, streams, |loaded, streams| {
                show.run(loaded, surroundings, streams)
            })
        }
        Ok(Cli { command: Command::Options(options) }) => options.run(streams),
        Ok(Cli { command: Command::Crds }) => documents::crds(streams),
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
            let text = error.render();
            let out: &mut dyn Write = if error.use_stderr() { streams.stderr } else { streams.stdout };
            // Whoever closed the stream does not want to know.
            let _ = write!(out, "{text}").and_then(|()| out.flush());
            code
        }
    }
}

/// Reads and checks the options, says what there is to say about them, and goes on.
fn with_options(
    flags: &Flags,
    surroundings: &dyn Surroundings,
    streams: &mut Streams<'_>,
    run: impl FnOnce(&Loaded, &mut Streams<'_>) -> u8,
) -> u8 {
    match options::load(flags, surroundings) {
        Ok(loaded) => {
            let notes = loaded.notes();
            for line in loaded.warnings.iter().chain(&notes) {
                let _ = writeln!(streams.stderr, "warning: {line}");
            }
            run(&loaded, streams)
        }
        Err(faults) => {
            let _ = writeln!(streams.stderr, "{faults}");
            USAGE
        }
    }
}

/// Reads the name of an output on a command line.
fn output_key(text: &str) -> Result<OutputKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(OutputKey::new(namespace, name))
        }
        _ => Err("write it as NAMESPACE/NAME".to_owned()),
    }
}

/// Writes a document to standard output. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// Whatever else keeps it from being written.
fn write_document(
    stdout: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut *stdout);
    match write(&mut buffered).and_then(|()| buffered.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is left in the buffer must not be tried again when it is dropped.
            let _ = buffered.into_parts();
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests;
