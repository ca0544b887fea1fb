//! The three ways to the API server, in Traefik's order: in a cluster, by KUBECONFIG, by endpoint.
//!
//! kube's own retries (429, 503 and 504, up to 15 times) are off: watches and writers have backoffs of
//! their own, and a repeated write could outlast the lease.

use std::collections::BTreeMap;
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
use crate::options;

/// Where Kubernetes puts a pod's token, CA and namespace.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const ENDPOINT: &str = "providers.kubernetesIngress.endpoint";
const TOKEN: &str = "providers.kubernetesIngress.token";
const CA: &str = "providers.kubernetesIngress.certAuthFilePath";

/// A connection is given up when it can't be opened in this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest silence within an answer. Watches have to be asked to end after 30 s, so only a dead
/// connection is silent for longer.
const READ_TIMEOUT: Duration = Duration::from_secs(33);

/// The longest that a request's bytes may find no taker.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The options that decide about the connection; an empty text is unset.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `endpoint`.
    pub endpoint: String,
    /// `token`, or the path of a file that holds one.
    pub token: Token,
    /// `certAuthFilePath`.
    pub cert_auth_file_path: String,
}

impl From<&options::Connection> for Access {
    fn from(options: &options::Connection) -> Self {
        Self {
            endpoint: options.endpoint.as_ref().map(Uri::to_string).unwrap_or_default(),
            token: options.token.as_ref().map(|token| Token::new(token.expose())).unwrap_or_default(),
            cert_auth_file_path: options
                .cert_auth_file_path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    }
}

/// What surrounds the process.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The folder of the service account's files, [`SERVICE_ACCOUNT`] outside tests.
    pub service_account: PathBuf,
    /// The context of KUBECONFIG's files to use, in place of their current one.
    pub context: Option<String>,
}

impl Environment {
    /// That of this process; variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { variables: variables.collect(), service_account: SERVICE_ACCOUNT.into(), context: None }
    }

    /// The namespace of the pod's service account, in a cluster.
    pub fn namespace(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.service_account.join("namespace")).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Which of the three ways was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With the service account of the pod.
    InCluster,
    /// With the file or files that KUBECONFIG names.
    Kubeconfig,
    /// With `endpoint`, `token` and `certAuthFilePath`.
    Endpoint,
}

/// A client, and how it came to be.
#[derive(Clone)]
pub struct Connection {
    /// The client; clones share its connections.
    pub client: Client,
    /// The way that was taken.
    pub way: Way,
    /// The API server's address.
    pub address: String,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

/// Why there is no client. Nothing was sent yet; an API server that does not answer is no reason.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says where the API server is.
    #[error(
        "{ENDPOINT}: it is empty; set it to the API server's URL, or set KUBECONFIG, or run in a cluster \
         (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set)"
    )]
    NoEndpoint,
    /// An address is no URL.
    #[error("{source_name}: {value:?} is no API server's URL; write https://host:port")]
    Address {
        /// The option or variable that gave it.
        source_name: &'static str,
        /// What it gave.
        value: String,
    },
    /// A URL with a password in it.
    #[error("{ENDPOINT}: it holds a user name or password, which is not shown here; use {TOKEN}")]
    UserInfo,
    /// A token can't be used.
    #[error("{source_name}: the token{} can't be used: {source}", shown(.path))]
    Token {
        /// The option, or what else names the file.
        source_name: &'static str,
        /// The token's file.
        path: Option<PathBuf>,
        /// Why.
        source: TokenError,
    },
    /// A CA bundle can't be read.
    #[error(
        "{source_name}: {} can't be read: {source}; name a PEM file with the API server's authorities",
        .path.display()
    )]
    ReadCa {
        /// The option, or what else names the file.
        source_name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What KUBECONFIG names can't be used.
    #[error("KUBECONFIG: {value:?}: {reason}")]
    Kubeconfig {
        /// The variable's value.
        value: String,
        /// Why.
        reason: String,
    },
    /// TLS can't be set up.
    #[error("{source_name}: {reason}")]
    Tls {
        /// The option, or what else decides about it.
        source_name: String,
        /// Why, and what to do.
        reason: String,
    },
}

fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display()))
}

/// Makes a client, without a request.
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
        if way == Way::Kubeconfig && !access.endpoint.is_empty() {
            warnings.push(format!("{ENDPOINT}: {:?} is ignored, since KUBECONFIG is set", access.endpoint));
        }
        if !access.token.is_empty() {
            warnings.push(format!("{TOKEN}: it is ignored, since {because}"));
        }
        if !access.cert_auth_file_path.is_empty() {
            warnings.push(format!("{CA}: {:?} is ignored, since {because}", access.cert_auth_file_path));
        }
    }
    let plain = config.cluster_url.scheme_str() == Some("http");
    if plain && bearer.is_some() && !is_loopback(&config.cluster_url) {
        warnings.push(format!(
            "{ENDPOINT}: the token is sent to {} without encryption; use https://",
            config.cluster_url
        ));
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

/// Which way Traefik would take.
fn way(environment: &Environment) -> Way {
    if environment.get("KUBERNETES_SERVICE_HOST").is_some()
        && environment.get("KUBERNETES_SERVICE_PORT").is_some()
    {
        Way::InCluster
    } else if environment.get("KUBECONFIG").is_some() {
        Way::Kubeconfig
    } else {
        Way::Endpoint
    }
}

fn in_cluster(access: &Access, environment: &Environment) -> Result<(Config, Option<Bearer>), ConnectError> {
    let uri = if access.endpoint.is_empty() {
        let host = environment.get("KUBERNETES_SERVICE_HOST").unwrap_or_default();
        let port = environment.get("KUBERNETES_SERVICE_PORT").unwrap_or_default();
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        parse_url("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT", &format!("https://{host}:{port}"))?
    } else {
        parse_url(ENDPOINT, &access.endpoint)?
    };
    let token = environment.service_account.join("token");
    let plain = uri.scheme_str() == Some("http");
    let mut config = Config::new(uri);
    trust_file(&mut config, plain, "the service account's CA", &environment.service_account.join("ca.crt"))?;
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
    if access.endpoint.is_empty() {
        return Err(ConnectError::NoEndpoint);
    }
    let uri = parse_url(ENDPOINT, &access.endpoint)?;
    let plain = uri.scheme_str() == Some("http");
    let mut config = Config::new(uri);
    if plain || !access.cert_auth_file_path.is_empty() {
        trust_file(&mut config, plain, CA, Path::new(&access.cert_auth_file_path))?;
    }
    let bearer = if access.token.is_empty() {
        None
    } else {
        let file = access.token.file();
        let bearer = match file {
            Some(path) => Bearer::file(path),
            None => Bearer::text(&access.token),
        };
        Some(bearer.map_err(|source| ConnectError::Token {
            source_name: TOKEN,
            path: file.map(Path::to_owned),
            source,
        })?)
    };
    Ok((config, bearer))
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
    // The authorities' file, where they are not inline, so that a new one is noticed.
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
    if config.cluster_url.scheme_str() == Some("http") {
        config.root_cert = Some(Vec::new());
    }
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

/// Trusts the authorities in a file, which kube reads again every minute. Without TLS there is nothing to
/// trust, and kube must not look for the system's authorities either.
fn trust_file(
    config: &mut Config,
    plain: bool,
    source_name: &'static str,
    path: &Path,
) -> Result<(), ConnectError> {
    config.root_cert = Some(Vec::new());
    if plain {
        return Ok(());
    }
    std::fs::read(path).map_err(|source| ConnectError::ReadCa {
        source_name,
        path: path.to_owned(),
        source,
    })?;
    config.root_cert_file = Some(path.to_owned());
    Ok(())
}

fn parse_url(source_name: &'static str, value: &str) -> Result<Uri, ConnectError> {
    let bad = || ConnectError::Address { source_name, value: value.to_owned() };
    if value.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or("").contains('@')) {
        return Err(ConnectError::UserInfo);
    }
    let uri: Uri = value.parse().map_err(|_| bad())?;
    let right = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none();
    // A port that is out of range is dropped by the parser's accessor, not refused.
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if !right || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(bad());
    }
    Ok(uri)
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

/// What is wrong with a kubeconfig. A parser's message may quote the file, and so a token in it.
fn kubeconfig_reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("it is no kubeconfig (line {}, column {})", at.line(), at.column()),
            None => "it is no kubeconfig".to_owned(),
        },
        KubeconfigError::CurrentContextNotSet => {
            "it names no current context; choose one with kubectl config use-context".to_owned()
        }
        other => other.to_string(),
    }
}

/// Why kube made no client. What a credential plugin printed may hold a token.
fn without_secrets(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            format!("the credential plugin {cmd:?} failed with {}; run it by hand to see why", out.status)
        }
        kube::Error::Auth(AuthError::AuthExecParse(_)) => {
            "the credential plugin printed no ExecCredential; run it by hand to see".to_owned()
        }
        kube::Error::RustlsTls(error) => {
            format!(
                "TLS can't be set up: {error}; it takes PEM files with at least one authority's certificate"
            )
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
