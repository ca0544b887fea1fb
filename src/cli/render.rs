//! `waybill render`: prints the routing of manifests, without a cluster.

mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{CommandError, CommandResult, NoOutput, PROBLEMS, SUCCESS, Streams, USAGE};
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::manifests::Manifests;
use crate::offline;
use crate::options::Loaded;
use crate::published::desired_output::{DesiredOutput, Stamp};
use crate::published::objects;
use crate::routing::Routing;
use crate::table::Output;
use crate::traefik::document::Keys;
use crate::traefik::dynamic::Configuration;
use crate::traefik::{escape, yaml};

use report::RenderReport;

/// The arguments of `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// Manifests as YAML or JSON: a file, a directory with all below it, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1)]
    filenames: Vec<PathBuf>,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = RenderFormat::Yaml)]
    format: RenderFormat,

    /// Print only this output; required for json when classes have outputs of their own
    #[arg(long = "output-name", value_name = "NAMESPACE/NAME", value_parser = super::output_key)]
    output: Option<OutputKey>,

    /// Exit with 1 if there is any problem
    #[arg(long)]
    strict: bool,

    /// Neither print problems of this category nor count them for --strict; repeatable
    #[arg(
        long, value_name = "CATEGORY", value_delimiter = ',', hide_possible_values = true,
        value_parser = PossibleValuesParser::new(report::categories())
    )]
    ignore: Vec<String>,

    /// Print private keys, which are left out otherwise
    #[arg(long)]
    show_secrets: bool,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RenderFormat {
    /// Traefik's dynamic configuration as one document, with one router or service per line, as it is published
    Json,
    /// The same, formatted for people
    Yaml,
    /// The ConfigMaps and Secrets that would be applied
    Manifests,
}

impl Render {
    /// Reads, translates, prints; gives the exit code.
    pub fn run(&self, loaded: &Loaded, streams: &mut Streams<'_>) -> CommandResult {
        let manifests = Manifests::read(&self.filenames, &mut *streams.stdin)?;
        let mut report = RenderReport::new(&manifests);
        let mut routing = offline::routing(manifests, &loaded.options);
        report.add_routing(&routing, &loaded.options);
        report.ignore(&self.ignore);
        // A closed standard error does not keep the routing from being printed.
        let _ = report.print(streams.stderr);
        let outputs = self.outputs(&routing, &loaded.options.settings.output)?;
        streams.write(|out| self.print(out, &mut routing, &outputs))?;
        Ok(match report.faults.is_empty() {
            false => USAGE,
            true if self.strict && report.has_problems() => PROBLEMS,
            true => SUCCESS,
        })
    }

    /// The outputs to print: the requested one, or all that are not empty, or the operator's own if all are empty.
    fn outputs(&self, routing: &Routing, own: &OutputKey) -> Result<Vec<OutputKey>, CommandError> {
        let list = |keys: &[&OutputKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = &self.output {
            NoOutput::check(routing, Some(wanted))?;
            return Ok(vec![wanted.clone()]);
        }
        let filled: Vec<&OutputKey> =
            routing.table().outputs().filter(|(_, output)| !output.is_empty()).map(|(key, _)| key).collect();
        match filled.as_slice() {
            [] => Ok(vec![own.clone()]),
            [_, _, ..] if self.format == RenderFormat::Json => Err(CommandError::usage(format!(
                "json is one document and there are several outputs: choose one with --output-name: {}",
                list(&filled)
            ))),
            filled => Ok(filled.iter().map(|key| (*key).clone()).collect()),
        }
    }

    fn print(&self, out: &mut dyn Write, routing: &mut Routing, outputs: &[OutputKey]) -> io::Result<()> {
        let keys = if self.show_secrets { Keys::Shown } else { Keys::LeftOut };
        for (index, key) in outputs.iter().enumerate() {
            let output = routing.table_mut().declare(key);
            match self.format {
                RenderFormat::Json => writeln!(out, "{}", output.assembled(keys).trim_end())?,
                RenderFormat::Yaml => {
                    if index > 0 {
                        writeln!(out, "---")?;
                    }
                    if outputs.len() > 1 {
                        writeln!(out, "# output {key}")?;
                    }
                    out.write_all(yaml::block(&output.assembled(keys)).as_bytes())?;
                }
                RenderFormat::Manifests => print_manifests(out, key, output, self.show_secrets)?,
            }
        }
        Ok(())
    }
}

/// Prints the objects of an output: first the shards, then the index.
fn print_manifests(out: &mut dyn Write, key: &OutputKey, output: &mut Output, keys: bool) -> io::Result<()> {
    let desired = DesiredOutput::new(output);
    for digest in &desired.routing_shards {
        if let Some(shard) = output.routing_shard(digest) {
            print_object(out, &objects::routing_shard(key, None, digest, &shard.document())?)?;
        }
    }
    for digest in &desired.key_shards {
        let Some(shard) = output.key_shard(digest) else { continue };
        let document = shard.document();
        let document = if keys {
            document
        } else {
            writeln!(out, "# Without the private keys, which --show-secrets prints.")?;
            without_keys(&document).map_err(io::Error::other)?
        };
        print_object(out, &objects::key_shard(key, None, digest, &document)?)?;
    }
    // Nothing was published, so there is no leader and no time to name. Without a salt, equal input has equal names.
    let published_at = "1970-01-01T00:00:00Z";
    let stamp = Stamp { epoch: 0, generation: 1, awaited: 0, published_at, salt: None };
    print_object(out, &objects::index(key, &desired.index(&stamp)))
}

fn without_keys(document: &str) -> serde_json::Result<String> {
    let mut configuration: Configuration = serde_json::from_str(document)?;
    let certificates = configuration.tls.iter_mut().flat_map(|tls| tls.certificates.iter_mut());
    for certificate in certificates {
        certificate.key_file = Arc::from("");
    }
    Ok(escape::json(&configuration))
}

fn print_object(out: &mut dyn Write, object: &impl Serialize) -> io::Result<()> {
    let text = serde_saphyr::to_string(object).map_err(io::Error::other)?;
    writeln!(out, "---\n{}", text.trim_end())
}
