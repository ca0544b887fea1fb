//! `waybill show`: reads the published routing as an agent does, and prints it.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::cluster::ClusterArguments;
use super::{CommandError, CommandResult, Streams, json};
use crate::kubernetes::client::Environment;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::with_causes;
use crate::options::Loaded;
use crate::published::agents::{self, ReportedAgents};
use crate::published::index::Index;
use crate::published::objects::OUTPUT_LABEL;
use crate::published::read::{self, Published, ReadError};
use crate::traefik::document::Keys;
use crate::traefik::yaml;

/// A missing shard means that there is a newer index. After this number of attempts it counts as lost.
const ATTEMPTS: usize = 5;

/// The maximum number of agents that are counted.
const AGENTS: u32 = 10_000;

/// The arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The output to print; by default the operator's own
    #[arg(value_name = "[NAMESPACE/]NAME", value_parser = output_name)]
    output: Option<(Option<String>, String)>,

    /// Namespace of the output; by default the operator's own
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    cluster: ClusterArguments,

    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = ShowFormat::Yaml)]
    format: ShowFormat,

    /// Print private keys, which are left out otherwise
    #[arg(long)]
    show_secrets: bool,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    /// Traefik's dynamic configuration as one document, with one router or service per line
    Json,
    /// The same, formatted for people
    Yaml,
    /// Only the index
    Index,
}

/// Errors that leave nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    #[error(
        "ConfigMap {0}: there is no such index; name an output as NAMESPACE/NAME, or wait for the first commit"
    )]
    NoIndex(OutputKey),
    #[error("{object}: {message}")]
    Api { object: String, message: String },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Show {
    /// Reads and prints; gives the exit code.
    pub fn run(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> CommandResult {
        let output = self.output(&loaded.options.settings.output).map_err(CommandError::usage)?;
        let answer = self.cluster.ask(loaded, environment, async |connection| {
            let client = connection.client;
            let published = published(client.clone(), &output).await?;
            let agents = agents(client, &output, &published.index).await;
            Ok::<_, ShowError>((published, agents))
        });
        let (published, agents) = answer?.map_err(CommandError::problem)?;
        if let Some(ReportedAgents { live, current }) = agents {
            let generation = published.index.generation;
            let _ = writeln!(
                streams.stderr,
                "{current} of {live} agents report generation {generation} or a later one"
            );
        }
        let keys = if self.show_secrets { Keys::Shown } else { Keys::LeftOut };
        let text = match self.format {
            ShowFormat::Json => format!("{}\n", published.document(keys).trim_end()),
            ShowFormat::Yaml => yaml::block(&published.document(keys)),
            ShowFormat::Index => json(&published.index)?,
        };
        streams.print(&text)
    }

    fn output(&self, own: &OutputKey) -> Result<OutputKey, String> {
        let named = self.output.as_ref();
        let namespace = match (named.and_then(|(namespace, _)| namespace.as_deref()), &self.namespace) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!(
                    "the output is in namespace {one:?} and -n says {other:?}; leave one of them out"
                ));
            }
            (Some(namespace), _) => namespace,
            (None, Some(namespace)) => namespace,
            (None, None) => own.namespace(),
        };
        Ok(OutputKey::new(namespace, named.map_or(own.name(), |(_, name)| name)))
    }
}

/// Reads the name of an output, with or without its namespace.
fn output_name(text: &str) -> Result<(Option<String>, String), String> {
    if text.is_empty() || text.contains('/') {
        let output = super::output_key(text)?;
        return Ok((Some(output.namespace().to_owned()), output.name().to_owned()));
    }
    Ok((None, text.to_owned()))
}

/// The published content of an output. Without the right to read its Secrets, it has no certificates.
pub async fn published(client: Client, output: &OutputKey) -> Result<Published, ShowError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), output.namespace());
    let secrets: Api<Secret> = Api::namespaced(client, output.namespace());
    let list = ListParams::default().labels(&format!("{OUTPUT_LABEL}={}", output.name()));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let api = |kind: &str, error: kube::Error| ShowError::Api {
            object: format!("{kind} of {output}"),
            message: with_causes(&error),
        };
        let index = config_maps.get_opt(output.name()).await.map_err(|error| api("index", error))?;
        let index = index.ok_or_else(|| ShowError::NoIndex(output.clone()))?;
        let shards = config_maps.list(&list).await.map_err(|error| api("shards", error))?;
        let shards: BTreeMap<String, ConfigMap> =
            shards.into_iter().map(|one| (one.name_any(), one)).collect();
        let keys = match secrets.list(&list).await {
            Ok(keys) => {
                Some(keys.into_iter().map(|one| (one.name_any(), one)).collect::<BTreeMap<String, Secret>>())
            }
            Err(kube::Error::Api(status)) if status.code == 403 => None,
            Err(error) => return Err(api("key shards", error)),
        };
        match read::assemble(output, &index, &shards, keys.as_ref()) {
            Err(ReadError::ShardMissing { .. }) if attempt < ATTEMPTS => {}
            result => return Ok(result?),
        }
    }
}

/// How many agents have loaded an index. `None` if there are no agents, or if their Leases can't be read.
async fn agents(client: Client, output: &OutputKey, index: &Index) -> Option<ReportedAgents> {
    let leases: Api<Lease> = Api::namespaced(client, output.namespace());
    let list = ListParams::default().labels(&agents::selector(output)).limit(AGENTS);
    let leases = leases.list(&list).await.ok()?;
    let reported = ReportedAgents::new(&leases.items, index.commit(), Timestamp::now());
    (reported.live > 0).then_some(reported)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        show: Show,
    }

    fn show(arguments: &[&str]) -> Show {
        Line::parse_from(std::iter::once(&"show").chain(arguments)).show
    }

    #[test]
    fn outputs_are_named_with_or_without_their_namespace() {
        let own = OutputKey::new("waybill", "waybill");
        let output = |arguments: &[&str]| show(arguments).output(&own).map(|output| output.to_string());
        assert_eq!(output(&[]), Ok("waybill/waybill".to_owned()));
        assert_eq!(output(&["public"]), Ok("waybill/public".to_owned()));
        assert_eq!(output(&["-n", "edge"]), Ok("edge/waybill".to_owned()));
        assert_eq!(output(&["-n", "edge", "edge/public"]), Ok("edge/public".to_owned()));
        assert!(output(&["-n", "other", "edge/public"]).is_err());
        assert!(Line::try_parse_from(["show", "a/b/c"]).is_err());
    }
}
