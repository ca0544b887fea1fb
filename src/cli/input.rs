//! What the tools for people read: manifests, or the objects of a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use kube::Client;

use super::Streams;
use super::cluster::{ClusterArguments, NoConnection};
use crate::kubernetes::client::Environment;
use crate::kubernetes::manifests::{ManifestError, Manifests};
use crate::kubernetes::with_causes;
use crate::options::{Loaded, Options};
use crate::redact::hide_keys;
use crate::translate::settings::BrokenBackends;

/// Where the objects come from.
#[derive(Debug, Args)]
pub struct Input {
    /// Manifests as YAML or JSON: a file, a directory with all below it, or - for standard input
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH",
        num_args = 1,
        required_unless_present = "cluster"
    )]
    filenames: Vec<PathBuf>,

    /// Read the objects of a cluster, which is only read: by --context, KUBECONFIG or the current context, as kubectl does
    #[arg(long, conflicts_with = "filenames")]
    cluster: bool,

    #[command(flatten)]
    connect: ClusterArguments,
}

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    #[error("--context and --kubeconfig name a cluster: add --cluster, or leave them out")]
    NotCluster,
    #[error(transparent)]
    Connection(#[from] NoConnection),
    #[error("{path}: {message}")]
    List { path: String, message: String },
}

/// What is read of a cluster: what, in which API group, and whether it is namespaced and can be done without.
type List = (&'static str, &'static str, bool, bool);

const LISTS: [List; 8] = [
    ("ingresses", "/apis/networking.k8s.io/v1", true, false),
    ("services", "/api/v1", true, false),
    ("endpointslices", "/apis/discovery.k8s.io/v1", true, false),
    ("secrets", "/api/v1", true, true),
    ("ingressclasses", "/apis/networking.k8s.io/v1", false, true),
    ("ingressclassparameters", "/apis/waybill.dev/v1alpha1", false, true),
    ("nodes", "/api/v1", false, true),
    ("namespaces", "/api/v1", false, true),
];

/// Objects of Traefik's CRD provider that Ingresses and Services refer to.
pub const REFERENCED: &[List] = &[
    ("middlewares", "/apis/traefik.io/v1alpha1", true, true),
    ("serverstransports", "/apis/traefik.io/v1alpha1", true, true),
    ("tlsoptions", "/apis/traefik.io/v1alpha1", true, true),
];

impl Input {
    /// Whether the objects are those of a cluster.
    pub fn of_cluster(&self) -> bool {
        self.cluster
    }

    /// Reads everything; what can't be read, but need not keep the rest from being used, is said on standard error.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn read(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<Manifests, InputError> {
        self.read_also(&[], loaded, environment, streams)
    }

    /// The same with more lists of a cluster.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn read_also(
        &self,
        more: &[List],
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<Manifests, InputError> {
        let manifests = if self.cluster {
            of_cluster(&self.connect, more, loaded, environment, streams)?
        } else if self.connect.is_given() {
            return Err(InputError::NotCluster);
        } else {
            Manifests::read(&self.filenames, &mut *streams.stdin)?
        };
        report(&manifests, "the input", streams);
        Ok(manifests)
    }

    /// The options for these objects.
    pub fn options(&self, manifests: &Manifests, loaded: &Loaded) -> Options {
        options(manifests, self.cluster, loaded)
    }
}

/// Says on standard error what is wrong with what was read.
pub fn report(manifests: &Manifests, input: &str, streams: &mut Streams<'_>) {
    for fault in &manifests.faults {
        let _ = writeln!(streams.stderr, "error: {}", hide_keys(&fault.to_string()));
    }
    if manifests.ingresses.is_empty() {
        let _ = writeln!(streams.stderr, "warning: there is no Ingress in {input}");
    }
}

/// The options for objects: manifests of a repository hold no EndpointSlices, and often not every Service, so routes
/// stay without them.
pub fn options(manifests: &Manifests, of_cluster: bool, loaded: &Loaded) -> Options {
    let mut options = loaded.options.clone();
    if !of_cluster && manifests.slices.is_empty() {
        options.settings.allow_empty_services = true;
        options.settings.broken_backends = BrokenBackends::Answer503;
    }
    options
}

/// Reads the objects of a cluster. Lists that are refused and can be done without are left out, with a warning.
///
/// # Errors
/// See [`InputError`].
pub fn of_cluster(
    connect: &ClusterArguments,
    more: &[List],
    loaded: &Loaded,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Manifests, InputError> {
    let (manifests, refused) = connect.ask(loaded, environment, async |connection| {
        listed(connection.client, more, &loaded.options.namespaces).await
    })??;
    for path in refused {
        let _ = writeln!(streams.stderr, "warning: {path}: not allowed or not there, so it is left out");
    }
    Ok(manifests)
}

/// The objects of a cluster, and the lists that were refused.
async fn listed(
    client: Client,
    more: &[List],
    namespaces: &BTreeSet<String>,
) -> Result<(Manifests, Vec<String>), InputError> {
    let mut manifests = Manifests::default();
    let mut refused = Vec::new();
    for &(plural, group, namespaced, optional) in LISTS.iter().chain(more) {
        let paths: Vec<String> = match namespaced && !namespaces.is_empty() {
            true => namespaces.iter().map(|name| format!("{group}/namespaces/{name}/{plural}")).collect(),
            false => vec![format!("{group}/{plural}")],
        };
        for path in paths {
            let selector = if plural == "secrets" { "?fieldSelector=type%3Dkubernetes.io%2Ftls" } else { "" };
            let failed = |message: String| InputError::List { path: path.clone(), message };
            let request = http::Request::get(format!("{path}{selector}")).body(Vec::new());
            let request = request.map_err(|error| failed(error.to_string()))?;
            match client.request_text(request).await {
                Ok(text) => manifests.add(&path.as_str().into(), text.as_bytes()),
                Err(kube::Error::Api(status)) if optional && matches!(status.code, 403 | 404) => {
                    refused.push(path);
                }
                Err(error) => return Err(failed(with_causes(&error))),
            }
        }
    }
    Ok((manifests, refused))
}
