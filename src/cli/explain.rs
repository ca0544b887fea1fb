//! `waybill explain`: shows which router serves a request, and why.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::input::Input;
use super::{CommandResult, NoOutput, PROBLEMS, SUCCESS, Streams, USAGE, json};
use crate::kubernetes::client::Environment;
use crate::kubernetes::key::{OutputKey, ServiceKey};
use crate::offline;
use crate::options::Loaded;
use crate::redact::hide_keys_in_lines;
use crate::tools::explain::{self, Explanation, NotServing};
use crate::tools::explained;
use crate::tools::web_request::WebRequest;

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    #[arg(
        value_name = "URL",
        help = "The URL of the request, with its scheme: https://shop.example/cart?x=1"
    )]
    url: String,

    #[command(flatten)]
    input: Input,

    /// A header of the request; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The method of the request
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,

    /// The client's address, for rules that use it
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,

    /// The entry point of Traefik at which the request arrives; by default any
    #[arg(long, value_name = "NAME")]
    entry_point: Option<String>,

    /// Use only this output; by default all that have routers for the host
    #[arg(long = "output-name", value_name = "NAMESPACE/NAME", value_parser = super::output_key)]
    output: Option<OutputKey>,

    /// Print all candidates, not only the first 10. JSON always contains all
    #[arg(long)]
    all: bool,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = ExplainFormat::Text)]
    format: ExplainFormat,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    /// For people
    Text,
    /// A list with an answer for each output
    Json,
}

impl Explain {
    /// Reads, explains, prints; gives the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let request = WebRequest::new(&self.url, &self.method, &self.headers, self.from)?;
        let manifests = self.input.read(loaded, environment, streams)?;
        let unreadable = !manifests.faults.is_empty();
        let mut not_serving = NotServing::new();
        for slice in &manifests.slices {
            let addresses: Vec<String> = slice.not_serving().map(str::to_owned).collect();
            if let (false, Some(service)) = (addresses.is_empty(), slice.service()) {
                let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
                not_serving.entry(ServiceKey::new(namespace, service)).or_default().extend(addresses);
            }
        }
        let options = self.input.options(&manifests, loaded);
        let routing = offline::routing(manifests, &options);
        NoOutput::check(&routing, self.output.as_ref())?;
        let outputs = routing.table().outputs();
        let mut answers: Vec<Explanation> = outputs
            .filter(|(key, _)| self.output.as_ref().is_none_or(|wanted| wanted == *key))
            .map(|(key, output)| {
                let entry_point = self.entry_point.as_deref();
                explain::explain(&routing, (&key.to_string(), output), &request, entry_point, &not_serving)
            })
            .collect();
        // Without any candidate, one answer says as much as several.
        let about = answers.iter().filter(|answer| !answer.candidates.is_empty()).count();
        match about {
            0 => answers.truncate(1),
            _ => answers.retain(|answer| !answer.candidates.is_empty()),
        }
        let limit = if self.all { usize::MAX } else { explained::CANDIDATES_SHOWN };
        let text = match self.format {
            ExplainFormat::Text => explained::text(&answers, limit, super::is_colourful(environment)),
            ExplainFormat::Json => json(&answers)?,
        };
        streams.print(&hide_keys_in_lines(&text))?;
        Ok(match answers.iter().any(|answer| answer.served_by.is_some()) {
            _ if unreadable => USAGE,
            true => SUCCESS,
            false => PROBLEMS,
        })
    }
}
