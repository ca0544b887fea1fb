//! Reads the input of the tools for people: manifests, or the objects of a cluster.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::Client;

use super::Streams;
use super::cluster::{ClusterArguments, NoConnection};
use super::progress::Progress;
use crate::kubernetes::Ingress;
use crate::kubernetes::client::Environment;
use crate::kubernetes::manifests::{ManifestError, ManifestTexts, Manifests};
use crate::kubernetes::name::{is_label, is_subdomain};
use crate::kubernetes::with_causes;
use crate::options::{Loaded, Options};
use crate::redact::{hide_keys, printable};
use crate::translate::settings::BrokenBackends;

/// The group of arguments that select the source of the objects.
pub const SOURCE: &str = "source";

/// The source of the objects.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new(SOURCE).required(true))]
pub struct Input {
    /// Manifests as YAML or JSON: a file, a directory with all below it, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1, group = SOURCE)]
    filenames: Vec<PathBuf>,

    /// Read the objects of a cluster (read-only), selected by --context, KUBECONFIG or the current context, as with
    /// kubectl
    #[arg(long, group = SOURCE)]
    cluster: bool,

    /// Read only this namespace, as if there were no other
    #[arg(short = 'n', long, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    connect: ClusterArguments,
}

/// Errors that leave no objects.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    #[error("--context and --kubeconfig name a cluster, but -f names files: leave one of them out")]
    NotCluster,
    #[error(transparent)]
    Connection(#[from] NoConnection),
    #[error("{path}: {message}")]
    List { path: String, message: String },
}

/// The timeout for completions, since users do not wait longer after pressing Tab.
const COMPLETED_WITHIN: Duration = Duration::from_secs(3);

/// The number of Secrets that are requested at once.
const AT_ONCE: usize = 16;

/// The resources to read from a cluster: plural, API path, whether it is namespaced, and whether it is optional.
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
const REFERENCED: &[List] = &[
    ("middlewares", "/apis/traefik.io/v1alpha1", true, true),
    ("serverstransports", "/apis/traefik.io/v1alpha1", true, true),
    ("tlsoptions", "/apis/traefik.io/v1alpha1", true, true),
];

impl Input {
    /// Reads everything. Unreadable parts that need not stop the rest are reported on standard error.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn read(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<Manifests, InputError> {
        Ok(self.read_to(false, loaded, environment, streams)?.0)
    }

    /// The same, with what only `lint` needs: the texts of manifests, or the objects to which Ingresses of a cluster
    /// refer.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn read_to_lint(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<(Manifests, Option<ManifestTexts>), InputError> {
        self.read_to(true, loaded, environment, streams)
    }

    fn read_to(
        &self,
        lint: bool,
        loaded: &Loaded,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<(Manifests, Option<ManifestTexts>), InputError> {
        let (manifests, texts) = if self.is_cluster() {
            let loaded = limited(loaded, self.namespace.as_deref());
            let more = if lint { REFERENCED } else { &[] };
            (of_cluster(&self.connect, more, &loaded, environment, streams)?, None)
        } else if self.connect.is_given() {
            return Err(InputError::NotCluster);
        } else {
            let _progress = Progress::new("reading manifests");
            if lint {
                let (manifests, texts) = Manifests::read_with_texts(&self.filenames, &mut *streams.stdin)?;
                (manifests, Some(texts))
            } else {
                (Manifests::read(&self.filenames, &mut *streams.stdin)?, None)
            }
        };
        report(&manifests, "the input", streams);
        if let Some(namespace) = &self.namespace {
            let _ = writeln!(
                streams.stderr,
                "note: -n {namespace}: only this namespace is read, but Traefik also knows the routes of \
                 the others"
            );
        }
        Ok((manifests, texts))
    }

    /// Whether files are named; otherwise a cluster is read.
    pub fn is_cluster(&self) -> bool {
        self.cluster || self.filenames.is_empty()
    }

    /// The options for these objects.
    pub fn options(&self, manifests: &Manifests, loaded: &Loaded) -> Options {
        options(manifests, self.is_cluster(), &limited(loaded, self.namespace.as_deref()))
    }

    /// Only the Ingresses, for completions. There are none if they can't be read quickly, or if they are on standard
    /// input.
    pub fn ingresses(&self, loaded: &Loaded, environment: &Environment) -> Vec<Ingress> {
        if self.is_cluster() {
            let namespaces = &limited(loaded, self.namespace.as_deref()).options.namespaces.clone();
            let asked = self.connect.ask(loaded, environment, async |connection| {
                tokio::time::timeout(COMPLETED_WITHIN, listed(connection.client, namespaces, &LISTS[..1]))
                    .await
            });
            let Ok(Ok(Ok((manifests, _)))) = asked else { return Vec::new() };
            return manifests.ingresses;
        }
        let files: Vec<PathBuf> =
            self.filenames.iter().filter(|path| path.as_os_str() != "-").cloned().collect();
        Manifests::read(&files, &mut std::io::empty())
            .map(|manifests| manifests.ingresses)
            .unwrap_or_default()
    }
}

/// The options for one namespace alone, if one is named.
pub fn limited<'a>(loaded: &'a Loaded, namespace: Option<&str>) -> Cow<'a, Loaded> {
    let Some(namespace) = namespace else { return Cow::Borrowed(loaded) };
    let mut loaded = loaded.clone();
    loaded.options.namespaces = [namespace.to_owned()].into();
    Cow::Owned(loaded)
}

/// Reads the name of a namespace on a command line.
pub fn namespace(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace: a-z, 0-9 and -".to_owned())
    }
}

/// Reports faults of the input on standard error.
pub fn report(manifests: &Manifests, input: &str, streams: &mut Streams<'_>) {
    for fault in &manifests.faults {
        let _ = writeln!(streams.stderr, "error: {}", printable(&hide_keys(&fault.to_string())));
    }
    if manifests.ingresses.is_empty() {
        let _ = writeln!(streams.stderr, "warning: there is no Ingress in {input}");
    }
}

/// The options for objects. Manifests of a repository contain no EndpointSlices, and often not every Service, so routes
/// without them are kept.
pub fn options(manifests: &Manifests, of_cluster: bool, loaded: &Loaded) -> Options {
    let mut options = loaded.options.clone();
    if !of_cluster && manifests.slices.is_empty() {
        options.settings.allow_empty_services = true;
        options.settings.broken_backends = BrokenBackends::Answer503;
    }
    options
}

/// Reads the objects of a cluster. Optional lists that are refused are left out, with a warning.
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
    let _progress = Progress::new("reading the cluster");
    let lists: Vec<List> = LISTS.iter().chain(more).copied().collect();
    let (manifests, refused) = connect.ask(loaded, environment, async |connection| {
        listed(connection.client, &loaded.options.namespaces, &lists).await
    })??;
    for path in refused {
        let _ = writeln!(streams.stderr, "warning: {path}: not allowed or not found, so it is left out");
    }
    Ok(manifests)
}

/// The objects of a cluster, and the lists that were refused.
async fn listed(
    client: Client,
    namespaces: &BTreeSet<String>,
    lists: &[List],
) -> Result<(Manifests, Vec<String>), InputError> {
    let mut manifests = Manifests::default();
    let mut refused = Vec::new();
    for &(plural, group, namespaced, optional) in lists {
        let paths: Vec<String> = if namespaced && !namespaces.is_empty() {
            namespaces.iter().map(|name| format!("{group}/namespaces/{name}/{plural}")).collect()
        } else {
            vec![format!("{group}/{plural}")]
        };
        for path in paths {
            let selector = if plural == "secrets" { "?fieldSelector=type%3Dkubernetes.io%2Ftls" } else { "" };
            match text_of(&client, &path, selector, optional).await? {
                Some(text) => manifests.add(&path.as_str().into(), text.as_bytes()),
                None => refused.push(path),
            }
        }
    }
    let reads_secrets = |path: &String| path.ends_with("/secrets");
    if lists.iter().any(|list| list.0 == "secrets") && !refused.iter().any(reads_secrets) {
        for text in named_secrets(&client, &manifests).await? {
            manifests.add(&"secrets".into(), text.as_bytes());
        }
    }
    Ok((manifests, refused))
}

/// The answer of the API server for a path; `None` if an optional resource is refused or unknown.
async fn text_of(
    client: &Client,
    path: &str,
    query: &str,
    optional: bool,
) -> Result<Option<String>, InputError> {
    let failed = |message: String| InputError::List { path: path.to_owned(), message };
    let request = http::Request::get(format!("{path}{query}")).body(Vec::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    match client.request_text(request).await {
        Ok(text) => Ok(Some(text)),
        Err(kube::Error::Api(status)) if optional && matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(failed(with_causes(&error))),
    }
}

/// The Secrets that Ingresses name and that have another type than the listed ones.
async fn named_secrets(client: &Client, manifests: &Manifests) -> Result<Vec<String>, InputError> {
    let listed: HashSet<(&str, &str)> = manifests
        .secrets
        .iter()
        .filter_map(|one| Some((one.metadata.namespace.as_deref()?, one.metadata.name.as_deref()?)))
        .collect();
    let named: BTreeSet<(&str, &str)> = manifests
        .ingresses
        .iter()
        .flat_map(|ingress| {
            let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
            let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
            entries.filter_map(move |entry| Some((namespace, entry.secret_name.as_deref()?)))
        })
        .filter(|key| !listed.contains(key) && is_subdomain(key.1))
        .collect();
    let answers = named.into_iter().map(|(namespace, name)| async move {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        text_of(client, &path, "", true).await
    });
    let texts: Vec<Option<String>> = stream::iter(answers).buffered(AT_ONCE).try_collect().await?;
    Ok(texts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::waybill;

    const TWO: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: one}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: b, namespace: two}
spec: {rules: [{host: b.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}}]}
";

    #[test]
    fn a_namespace_is_looked_at_alone() {
        for (url, code) in [("http://a.example/", 0), ("http://b.example/", 1)] {
            let outcome = waybill(&["explain", url, "-f", "-", "-n", "one"], TWO);
            assert_eq!(outcome.code, code, "{}{}", outcome.stdout, outcome.stderr);
            assert!(outcome.stderr.contains("note: -n one: "), "{}", outcome.stderr);
        }
        assert_eq!(waybill(&["explain", "http://a.example/", "-f", "-", "-n", "a/../b"], TWO).code, 2);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.yaml");
        std::fs::write(&file, TWO.split("---").next().unwrap()).unwrap();
        let empty = file.to_str().unwrap();
        let lost = waybill(&["diff", "-", empty, "-n", "two"], TWO);
        let text = lost.stdout;
        assert!(text.contains("b.example") && text.contains("1 lost, 0 gained"), "{text}{}", lost.stderr);
        assert_eq!(waybill(&["diff", "published:a/b", empty, "-n", "two"], "").code, 2);
    }
}
