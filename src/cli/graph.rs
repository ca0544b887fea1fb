//! `waybill graph`: draws the routing.

use clap::{Args, ValueEnum};

use super::input::Input;
use super::{CommandError, CommandResult, NoOutput, SUCCESS, Streams, USAGE, json};
use crate::kubernetes::client::Environment;
use crate::kubernetes::key::OutputKey;
use crate::offline;
use crate::options::Loaded;
use crate::redact::hide_keys_in_lines;
use crate::tools::graph::RoutingGraph;
use crate::tools::{graph_svg, graph_text};

/// Mermaid's limits unless `maxEdges` and `maxTextSize` are set.
const MERMAID_EDGES: usize = 500;
const MERMAID_TEXT: usize = 50_000;

/// The arguments of `graph`.
#[derive(Debug, Args)]
pub struct Graph {
    /// Draw only these: a host, or an Ingress as NAMESPACE/NAME
    #[arg(value_name = "HOST|NAMESPACE/INGRESS")]
    only: Vec<String>,

    #[command(flatten)]
    input: Input,

    /// Draw only this output
    #[arg(long = "output-name", value_name = "NAMESPACE/NAME", value_parser = super::output_key)]
    output: Option<OutputKey>,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = GraphFormat::Svg)]
    format: GraphFormat,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// A picture for a browser
    Svg,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// For programs
    Json,
}

impl Graph {
    /// Reads, draws, prints; gives the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let manifests = self.input.read(loaded, environment, streams)?;
        let unreadable = !manifests.faults.is_empty();
        let options = self.input.options(&manifests, loaded);
        let endpoints_known = self.input.is_cluster() || !manifests.slices.is_empty();
        let routing = offline::routing(manifests, &options);
        NoOutput::check(&routing, self.output.as_ref())?;
        let graph = RoutingGraph::new(&routing, endpoints_known, self.output.as_ref(), &self.only);
        if graph.namespaces.is_empty() && !self.only.is_empty() {
            let only = self.only.join(", ");
            let message =
                format!("{only}: no route or problem belongs to it; leave it out to see everything");
            return Err(CommandError::usage(message));
        }
        let text = match self.format {
            // The SVG hides keys text by text, since one of its lines has many texts.
            GraphFormat::Svg => graph_svg::svg(&graph),
            GraphFormat::Dot => hide_keys_in_lines(&graph_text::dot(&graph)).into_owned(),
            GraphFormat::Mermaid => hide_keys_in_lines(&graph_text::mermaid(&graph)).into_owned(),
            GraphFormat::Json => hide_keys_in_lines(&json(&graph)?).into_owned(),
        };
        let edges = text.matches(" --> ").count();
        if self.format == GraphFormat::Mermaid && (edges > MERMAID_EDGES || text.len() > MERMAID_TEXT) {
            let _ = writeln!(
                streams.stderr,
                "note: by default, Mermaid draws at most {MERMAID_EDGES} edges and {MERMAID_TEXT} \
                 characters (maxEdges, maxTextSize), but this graph has {edges} and {}: name a host or an \
                 Ingress, or use -o svg",
                text.len()
            );
        }
        streams.print(&text)?;
        Ok(if unreadable { USAGE } else { SUCCESS })
    }
}
