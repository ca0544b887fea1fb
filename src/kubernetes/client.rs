//! The three ways to the API server, in Traefik's order: in a cluster, by KUBECONFIG, by endpoint.
//!
//! kube's own retries (429, 503 and 504, up to 15 times) are off: watches and writers have backoffs of
//! their own, and a repeated write could outlast the lease.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Uri};
use kube::client::{AuthError, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::layer::{Bearer, Outgoing};
pub use super::layer::{Token, TokenError};
use crate::metrics::Metrics;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const ENDPOINT: &str = "providers.kubernetesIngress.endpoint";
const TOKEN: &str = "providers.kubernetesIngress.token";
const CA: &str = "providers.kubernetesIngress.certAuthFilePath";

/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest silence within an answer. Watches are asked to end after 30 s, so only a dead connection is silent for
/// longer.
const READ_TIMEOUT: Duration = Duration::from_secs(33);

/// The longest time that a request's bytes may wait to be sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach the API server outside a cluster without `KUBECONFIG`. In a cluster only `endpoint` is used.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `http` or `https` with a host, and without user, query and fragment.
    pub endpoint: Option<Uri>,
    pub token: Option<Token>,
    /// The file with its CA certificates.
    pub cert_auth_file_path: Option<PathBuf>,
}

/// The environment of the process.
#[derive(Clone, Debug)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
    /// The folder of the service account's token, CA and namespace.
    pub service_account: PathBuf,
    /// The context of the KUBECONFIG files to use instead of their current one.
    pub context: Option<String>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { variables, service_account: SERVICE_ACCOUNT.into(), context: None }
    }

    /// A variable, if it is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the process runs in a pod.
    pub fn is_in_cluster(&self) -> bool {
        ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].iter().all(|name| self.get(name).is_some())
    }
}

/// The way that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    InCluster,
    /// With the files that KUBECONFIG names.
    Kubeconfig,
    /// With an [`Access`].
    Endpoint,
}

/// A client, and how it was created.
#[derive(Clone)]
pub struct Connection {
    pub client: Client,
    pub way: Way,
    /// The API server's address.
    pub address: String,
    /// Warnings for the user, one line each.
    pub warnings: Vec<String>,
}

/// Errors that prevent creating a client. No request is sent yet, so an API server that does not answer is not among
/// them. `source_name` is the option, variable or other source of the file or address.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "{ENDPOINT}: it is empty; set it to the API server's URL, or set KUBECONFIG, or run in a cluster \
         (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set)"
    )]
    NoEndpoint,
    #[error(
        "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: {0:?} is not an API server's URL; write a \
         host and a port"
    )]
    Address(String),
    #[error("{source_name}: the token{} can't be used: {source}", shown(.path))]
    Token { source_name: &'static str, path: Option<PathBuf>, source: TokenError },
    #[error(
        "{source_name}: {} can't be read: {source}; name a PEM file with the API server's authorities",
        .path.display()
    )]
    ReadCa { source_name: &'static str, path: PathBuf, source: std::io::Error },
    #[error("KUBECONFIG: {value:?}: {reason}")]
    Kubeconfig { value: String, reason: String },
    #[error("{source_name}: {reason}")]
    Tls { source_name: String, reason: String },
}

fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display()))
}

/// Creates a client without sending a request.
///
/// `identity` tells replicas apart in the API server's audit log.
///
/// # Errors
/// Options, variables or files that can't be used; none of the texts shows a token.
pub async fn connect(
    access: &Access,
    environment: &Environment,
    identity: &str,
    metrics: &Metrics,
) -> Result<Connection, ConnectError> {
    let mut warnings = Vec::new();
    let way = way(environment);
    let (mut config, bearer) = match way {
        Way::InCluster => in_cluster(access, environment)?,
        Way::Kubeconfig => kubeconfig(environment).await?,
        Way::Endpoint => endpoint(access)?,
    };
    if way != Way::Endpoint {
        let because = match way {
            Way::Kubeconfig => "KUBECONFIG is set",
            _ => "the service account's is used in a cluster",
        };
        if let Some(endpoint) = access.endpoint.as_ref().filter(|_| way == Way::Kubeconfig) {
            warnings.push(format!("{ENDPOINT}: \"{endpoint}\" is ignored, since KUBECONFIG is set"));
        }
        if access.token.is_some() {
            warnings.push(format!("{TOKEN}: it is ignored, since {because}"));
        }
        if let Some(path) = &access.cert_auth_file_path {
            warnings.push(format!("{CA}: {path:?} is ignored, since {because}"));
        }
    }
    let plain = config.cluster_url.scheme_str() == Some("http");
    if plain && bearer.is_some() && !is_loopback(&config.cluster_url) {
        warnings.push(format!(
            "{ENDPOINT}: the token is sent to {} without encryption; use https://",
            config.cluster_url
        ));
    }
    if plain {
        // Without TLS there is nothing to trust, and kube must not look for the system's CA certificates either.
        config.root_cert = Some(Vec::new());
    }
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE_TIMEOUT);
    config.headers.push((USER_AGENT, user_agent(identity)));
    let address = config.cluster_url.to_string();
    let source_name = match way {
        Way::InCluster => environment.service_account.join("ca.crt").display().to_string(),
        Way::Kubeconfig => "KUBECONFIG".to_owned(),
        Way::Endpoint => CA.to_owned(),
    };
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| ConnectError::Tls { source_name, reason: without_secrets(&error) })?;
    let client = builder.with_layer(&Outgoing { metrics: metrics.clone(), bearer }).build();
    Ok(Connection { client, way, address, warnings })
}

/// The way that Traefik would choose.
fn way(environment: &Environment) -> Way {
    if environment.is_in_cluster() {
        Way::InCluster
    } else if environment.get("KUBECONFIG").is_some() {
        Way::Kubeconfig
    } else {
        Way::Endpoint
    }
}

fn in_cluster(access: &Access, environment: &Environment) -> Result<(Config, Option<Bearer>), ConnectError> {
    let uri = match &access.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let host = environment.get("KUBERNETES_SERVICE_HOST").unwrap_or_default();
            let port = environment.get("KUBERNETES_SERVICE_PORT").unwrap_or_default();
            let url = match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
                _ => format!("https://{host}:{port}"),
            };
            let uri = url.parse::<Uri>().ok().filter(|uri| uri.port_u16().is_some());
            uri.ok_or(ConnectError::Address(url))?
        }
    };
    let token = environment.service_account.join("token");
    let plain = uri.scheme_str() == Some("http");
    let mut config = Config::new(uri);
    if !plain {
        trust_file(&mut config, "the service account's CA", &environment.service_account.join("ca.crt"))?;
    }
    if plain && !token.exists() {
        return Ok((config, None));
    }
    let bearer = Bearer::file(&token).map_err(|source| ConnectError::Token {
        source_name: "the service account (automountServiceAccountToken)",
        path: Some(token),
        source,
    })?;
    Ok((config, Some(bearer)))
}

fn endpoint(access: &Access) -> Result<(Config, Option<Bearer>), ConnectError> {
    let uri = access.endpoint.clone().ok_or(ConnectError::NoEndpoint)?;
    let plain = uri.scheme_str() == Some("http");
    let mut config = Config::new(uri);
    if let Some(path) = access.cert_auth_file_path.as_ref().filter(|_| !plain) {
        trust_file(&mut config, CA, path)?;
    }
    let Some(token) = &access.token else { return Ok((config, None)) };
    let file = token.file();
    let bearer = file.map_or_else(|| Bearer::text(token), Bearer::file);
    let bearer = bearer.map_err(|source| ConnectError::Token {
        source_name: TOKEN,
        path: file.map(Path::to_owned),
        source,
    })?;
    Ok((config, Some(bearer)))
}

async fn kubeconfig(environment: &Environment) -> Result<(Config, Option<Bearer>), ConnectError> {
    let value = environment.get("KUBECONFIG").unwrap_or_default();
    let failed = |reason: String| ConnectError::Kubeconfig { value: value.to_owned(), reason };
    let mut merged = Kubeconfig::default();
    for path in std::env::split_paths(value).filter(|path| !path.as_os_str().is_empty()) {
        merged = Kubeconfig::read_from(&path)
            .and_then(|next| merged.merge(next))
            .map_err(|error| failed(kubeconfig_reason(&error)))?;
    }
    // The CA file, if the certificates are not inline, so that a new one is noticed.
    let context = environment.context.as_ref().or(merged.current_context.as_ref());
    let ca_file = context.and_then(|current| {
        let context = merged.contexts.iter().find(|named| &named.name == current)?.context.as_ref()?;
        let cluster = merged.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
        if cluster.certificate_authority_data.is_some() {
            return None;
        }
        cluster.certificate_authority.clone()
    });
    let options = KubeConfigOptions { context: environment.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(merged, &options)
        .await
        .map_err(|error| failed(kubeconfig_reason(&error)))?;
    config.root_cert_file = ca_file.map(PathBuf::from);
    let info = &mut config.auth_info;
    let other = info.token.is_some() || info.auth_provider.is_some() || info.username.is_some();
    let bearer = match info.token_file.take() {
        Some(path) if !other => {
            let path = PathBuf::from(path);
            Some(Bearer::file(&path).map_err(|source| ConnectError::Token {
                source_name: "KUBECONFIG",
                path: Some(path),
                source,
            })?)
        }
        _ => None,
    };
    Ok((config, bearer))
}

/// Trusts the CA certificates in a file, which kube reads again every minute.
fn trust_file(config: &mut Config, source_name: &'static str, path: &Path) -> Result<(), ConnectError> {
    let unreadable = |source| ConnectError::ReadCa { source_name, path: path.to_owned(), source };
    std::fs::read(path).map_err(unreadable)?;
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(path.to_owned());
    Ok(())
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `waybill/VERSION (IDENTITY)`; what a header can't hold becomes `_`.
fn user_agent(identity: &str) -> HeaderValue {
    let identity: String = identity
        .chars()
        .map(|c| if c.is_ascii_graphic() && c != '(' && c != ')' { c } else { '_' })
        .collect();
    HeaderValue::try_from(format!("{}/{} ({identity})", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|_| HeaderValue::from_static(env!("CARGO_PKG_NAME")))
}

/// The fault of a kubeconfig. A parser's message may quote the file, including a token.
fn kubeconfig_reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("it is not a kubeconfig (line {}, column {})", at.line(), at.column()),
            None => "it is not a kubeconfig".to_owned(),
        },
        KubeconfigError::CurrentContextNotSet => {
            "it has no current context; choose one with kubectl config use-context".to_owned()
        }
        other => other.to_string(),
    }
}

/// The reason why kube created no client. The output of a credential plugin may contain a token.
fn without_secrets(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            format!("the credential plugin {cmd:?} failed with {}; run it by hand to see why", out.status)
        }
        kube::Error::Auth(AuthError::AuthExecParse(_)) => {
            "the credential plugin printed no ExecCredential; run it by hand to see".to_owned()
        }
        kube::Error::RustlsTls(error) => {
            format!("TLS can't be set up: {error}; use PEM files with at least one authority's certificate")
        }
        kube::Error::ProxyProtocolDisabled { .. } | kube::Error::ProxyProtocolUnsupported { .. } => {
            "proxies are not supported; unset proxy-url, HTTPS_PROXY and https_proxy".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
