//! The options, checked, in the types that the program uses.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::check::ListenAddress;
use super::selector::LabelSelector;
use crate::translate::settings::{ClassOptions, Settings};

/// Every option.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the API server outside a cluster.
    pub connection: Connection,
    /// Namespaces to watch; empty is all.
    pub namespaces: BTreeSet<String>,
    /// Which Ingresses count.
    pub label_selector: LabelSelector,
    /// How Ingresses are told to be ours.
    pub class: ClassOptions,
    /// What steers the translation where a class has no settings of its own. Its `output` is
    /// `operator.namespace`/`operator.output.name`; its `status` is `None` while [`Options::status`] is off.
    pub settings: Settings,
    /// `operator.namespace`: where the Lease and the default output live.
    pub namespace: String,
    /// Whether statuses are written at all; off counts for every class.
    pub status: bool,
    /// Statuses written in a second at most; from 1.
    pub status_rate: u32,
    /// The longest that a status waits for agents.
    pub status_delay: Duration,
    /// Least time between two published configurations.
    pub providers_throttle_duration: Duration,
    /// Least time between two events that lead to a new configuration.
    pub throttle_duration: Duration,
    /// Bytes written in a second above which the throttle stretches; from 1.
    pub publish_bytes_per_second: u64,
    /// Percentage of an output's routers that one publish may remove; `None` is any.
    pub max_withdrawal: Option<u8>,
    /// Leader election.
    pub leader_election: LeaderElection,
    /// Where metrics and probes are served.
    pub metrics_address: ListenAddress,
    /// The least important lines that are logged.
    pub log_level: LogLevel,
    /// How lines are logged.
    pub log_format: LogFormat,
}

/// How to reach the API server outside a cluster without `KUBECONFIG`; in a cluster only `endpoint` counts.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its URL: `http` or `https`, with a host, without user, query and fragment.
    pub endpoint: Option<Uri>,
    /// A bearer token, or the path of a file that holds one.
    pub token: Option<Token>,
    /// The file with the authorities' certificates; not looked at yet.
    pub cert_auth_file_path: Option<PathBuf>,
}

/// A bearer token or the path of a file that holds one. Never shown.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// Keeps a token.
    pub(super) fn new(text: &str) -> Self {
        Self(SecretString::from(text))
    }

    /// The text; only for whoever connects.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The text, still wrapped.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// Leader election. `retry_period` × 1.2 < `renew_deadline` < `lease_duration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whether there is one.
    pub enabled: bool,
    /// Name of the Lease, a DNS label.
    pub lease_name: String,
    /// How long the others wait for a leader that no longer renews; whole seconds, from 1.
    pub lease_duration: Duration,
    /// How long a leader that can't renew goes on.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is amiss.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// The level's name, as a filter of `tracing` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
