//! `waybill diff`: lists routes that are gained, lost or changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum, ValueHint};

use super::cluster::ClusterArguments;
use super::{CommandError, CommandResult, NoOutput, PROBLEMS, SUCCESS, Streams, json};
use super::{git, input, show};
use crate::agent::TraefikApi;
use crate::kubernetes::client::Environment;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::manifests::{ManifestError, Manifests};
use crate::offline;
use crate::options::Loaded;
use crate::redact::hide_keys_in_lines;
use crate::tools::certificate_difference::TlsData;
use crate::tools::compared_route::{ComparedRoute, ComparedSide};
use crate::tools::diff::{self, RouteChange, RoutingDiff};
use crate::tools::diff_text;
use crate::tools::raw_data::LoadedRoutes;

/// Traefik serializes its whole routing for an answer, which takes about a second for 50,000 routes.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Maximum size of an answer. 50,000 routes take about 50 MB.
const ANSWER_LIMIT: usize = 256 << 20;

/// The arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The old routing: a file, a directory, - for standard input, git:REVISION:PATH, cluster:,
    /// published:NAMESPACE/OUTPUT or traefik:URL
    #[arg(value_name = "A", value_parser = routing_source, value_hint = ValueHint::AnyPath)]
    before: RoutingSource,

    /// The new routing, in the same form as A
    #[arg(value_name = "B", value_parser = routing_source, value_hint = ValueHint::AnyPath, required = true)]
    after: Option<RoutingSource>,

    /// Compare only this output
    #[arg(long = "output-name", value_name = "NAMESPACE/NAME", value_parser = super::output_key)]
    output: Option<OutputKey>,

    /// The provider of Traefik whose routes are compared; repeatable. By default kubernetes, or file and http if that
    /// has no routes
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<String>,

    /// When the exit code is 1
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = FailOn::Any)]
    fail_on: FailOn,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = DiffFormat::Text)]
    format: DiffFormat,

    /// Read only this namespace, on both sides; only for manifests and a cluster
    #[arg(short = 'n', long, value_name = "NAMESPACE", value_parser = input::namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    connect: ClusterArguments,
}

/// What makes the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A difference
    Any,
    /// A difference that is not deliberate
    Unexpected,
    /// A lost route
    Lost,
    /// Nothing
    Never,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The source of a routing.
#[derive(Clone, Debug)]
enum RoutingSource {
    Path(PathBuf),
    /// `REVISION:PATH`.
    Git(String),
    Cluster,
    Published(OutputKey),
    Traefik(TraefikApi),
}

/// Reads a source on a command line.
fn routing_source(text: &str) -> Result<RoutingSource, String> {
    let Some((kind, rest)) = text.split_once(':') else { return Ok(RoutingSource::Path(text.into())) };
    match kind {
        "git" if rest.contains(':') => Ok(RoutingSource::Git(rest.to_owned())),
        "git" => Err("write it as git:REVISION:PATH, such as git:HEAD~1:deploy".to_owned()),
        "cluster" if rest.is_empty() => Ok(RoutingSource::Cluster),
        "cluster" => Err("write it as cluster: and name a cluster by --context".to_owned()),
        "published" => super::output_key(rest).map(RoutingSource::Published),
        "traefik" => TraefikApi::parse(rest).map(RoutingSource::Traefik),
        _ => Ok(RoutingSource::Path(text.into())),
    }
}

impl DiffArguments {
    /// Reads both, compares, prints; gives the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let loaded = &*input::limited(loaded, self.namespace.as_deref());
        // The plugin of kubectl compares with the cluster if only one source is named.
        let (before, after) = match &self.after {
            Some(after) => (&self.before, after),
            None => (&RoutingSource::Cluster, &self.before),
        };
        let stdin =
            |source: &RoutingSource| matches!(source, RoutingSource::Path(path) if path.as_os_str() == "-");
        if stdin(before) && stdin(after) {
            return Err(ManifestError::StdinTwice.into());
        }
        let reads_cluster =
            |source: &RoutingSource| matches!(source, RoutingSource::Cluster | RoutingSource::Published(_));
        if self.connect.is_given() && !reads_cluster(before) && !reads_cluster(after) {
            let message = "--context and --kubeconfig name a cluster: compare with cluster: or published:, or leave them out";
            return Err(CommandError::usage(message));
        }
        // If one side has only one output, the other side is reduced to one too.
        let published = [before, after].into_iter().find_map(|source| match source {
            RoutingSource::Published(output) => Some(output.clone()),
            _ => None,
        });
        let single = |source: &RoutingSource| {
            matches!(source, RoutingSource::Published(_) | RoutingSource::Traefik(_))
        };
        if self.namespace.is_some() && (single(before) || single(after)) {
            let message = "-n cannot be used with published: and traefik:, because their routes have no \
                namespace: leave it out";
            return Err(CommandError::usage(message));
        }
        let wanted =
            self.output.clone().or(published).or_else(|| {
                (single(before) || single(after)).then(|| loaded.options.settings.output.clone())
            });
        let mut side = |name: &str, source: &RoutingSource| {
            self.side(source, wanted.as_ref(), loaded, environment, streams)
                .map_err(|error| CommandError::usage(format!("{name}: {}", error.message)))
        };
        let (before, after) = (side("A", before)?, side("B", after)?);
        let outcome = diff::diff(before, after, &loaded.options.settings);
        let text = match self.format {
            DiffFormat::Text => diff_text::text(&outcome, super::is_colourful(environment)),
            DiffFormat::Json => json(&outcome)?,
        };
        streams.print(&hide_keys_in_lines(&text))?;
        Ok(if self.fails(&outcome) { PROBLEMS } else { SUCCESS })
    }

    fn has_traefik(&self) -> bool {
        let is = |source: &RoutingSource| matches!(source, RoutingSource::Traefik(_));
        is(&self.before) || self.after.as_ref().is_some_and(is)
    }

    fn fails(&self, outcome: &RoutingDiff) -> bool {
        match self.fail_on {
            FailOn::Any => !outcome.differences.is_empty() || !outcome.certificates.is_empty(),
            FailOn::Unexpected => outcome.differences.len() > outcome.deliberate,
            FailOn::Lost => outcome.differences.iter().any(|one| one.change == RouteChange::Lost),
            FailOn::Never => false,
        }
    }

    fn side(
        &self,
        source: &RoutingSource,
        wanted: Option<&OutputKey>,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<ComparedSide, CommandError> {
        let (manifests, of_cluster) = match source {
            RoutingSource::Path(path) => {
                (Manifests::read(std::slice::from_ref(path), &mut *streams.stdin)?, false)
            }
            RoutingSource::Git(name) => (git::read(Path::new("."), name)?, false),
            RoutingSource::Cluster => {
                (input::of_cluster(&self.connect, &[], loaded, environment, streams)?, true)
            }
            RoutingSource::Published(output) => {
                let published = self.connect.ask(loaded, environment, async |connection| {
                    show::published(connection.client, output).await
                })??;
                if self.has_traefik() {
                    let _ = writeln!(
                        streams.stderr,
                        "note: certificates are not compared: Traefik's API does not show them, and only cluster: and \
                         manifests have the Secrets"
                    );
                }
                let routes = ComparedRoute::of_configuration(&published.configuration);
                return Ok(single_side(wanted, routes));
            }
            RoutingSource::Traefik(api) => return self.of_traefik(api, wanted),
        };
        input::report(&manifests, "an input", streams);
        if !manifests.faults.is_empty() {
            return Err(CommandError::usage("a document can't be read, see above"));
        }
        let servers_known = of_cluster || !manifests.slices.is_empty();
        if !servers_known {
            let _ = writeln!(
                streams.stderr,
                "note: an input has no EndpointSlices, so endpoints are not compared"
            );
        }
        let options = input::options(&manifests, of_cluster, loaded);
        let tls_data = self.has_traefik().then(|| TlsData::new(&manifests.secrets));
        let routing = offline::routing(manifests, &options);
        let certificates = tls_data.map_or_else(Vec::new, |data| data.differences(&routing, wanted));
        NoOutput::check(&routing, wanted)?;
        if let Some(output) = wanted.and_then(|wanted| routing.table().output(wanted)) {
            let side = single_side(wanted, ComparedRoute::of_output(output, servers_known));
            return Ok(ComparedSide { certificates, ..side });
        }
        let outputs = routing.table().outputs();
        let routes =
            outputs.map(|(key, output)| (key.to_string(), ComparedRoute::of_output(output, servers_known)));
        Ok(ComparedSide { routes: routes.collect(), certificates, ..ComparedSide::default() })
    }

    fn of_traefik(&self, api: &TraefikApi, wanted: Option<&OutputKey>) -> Result<ComparedSide, CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::usage(format!("no thread: {error}")))?;
        let get = async |path: &'static str| -> Result<Bytes, CommandError> {
            let answer = tokio::time::timeout(ANSWER_WITHIN, api.get(path, ANSWER_LIMIT)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}")));
            let answer = answer.and_then(|body| body.ok_or_else(|| "it answered 404".to_owned()));
            answer.map_err(|error| CommandError::usage(format!("Traefik: {path}: {error}")))
        };
        let (raw, points) = runtime.block_on(async {
            Ok::<_, CommandError>((get("/api/rawdata").await?, get("/api/entrypoints").await?))
        })?;
        let loaded = LoadedRoutes::parse(&raw, &points, &self.providers)
            .map_err(|error| CommandError::usage(format!("Traefik: {error}")))?;
        let side = single_side(wanted, loaded.routes);
        Ok(ComparedSide { entry_points: Some(loaded.entry_points), providers: loaded.providers, ..side })
    }
}

/// A side with one output.
fn single_side(output: Option<&OutputKey>, routes: Vec<ComparedRoute>) -> ComparedSide {
    let name = output.map_or_else(String::new, ToString::to_string);
    ComparedSide { routes: [(name, routes)].into(), ..ComparedSide::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_they_are_written() {
        assert!(matches!(routing_source("git:HEAD:a:b"), Ok(RoutingSource::Git(name)) if name == "HEAD:a:b"));
        assert!(matches!(routing_source("cluster:"), Ok(RoutingSource::Cluster)));
        assert!(matches!(routing_source("a/b.yaml"), Ok(RoutingSource::Path(_))));
        assert!(matches!(routing_source("c:/b.yaml"), Ok(RoutingSource::Path(_))));
        assert!(matches!(routing_source("traefik:http://127.0.0.1:8080"), Ok(RoutingSource::Traefik(_))));
        for wrong in ["git:HEAD", "cluster:x", "published:waybill", "traefik:ftp://x", "traefik:http://a@b"] {
            assert!(routing_source(wrong).is_err(), "{wrong}");
        }
    }
}
