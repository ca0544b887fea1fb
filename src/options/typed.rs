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
    pub connection: Connection,
    /// Namespaces to watch; empty is all.
    pub namespaces: BTreeSet<String>,
    pub label_selector: LabelSelector,
    pub class: ClassOptions,
    /// What steers the translation where a class has no settings of its own. Its `output` is
    /// `operator.namespace`/`operator.output.name`; its `status` is `None` while [`Options::status`] is off.
    pub settings: Settings,
    pub namespace: String,
    /// Whether statuses are written at all; off counts for every class.
    pub status: bool,
    /// Statuses written in a second at most; from 1.
    pub status_rate: u32,
    /// The longest that an address waits for agents.
    pub status_delay: Duration,
    pub providers_throttle_duration: Duration,
    pub throttle_duration: Duration,
    /// Bytes written in a second above which the throttle stretches; from 1.
    pub publish_bytes_per_second: u64,
    /// Percentage of an output's routers that one publish may remove; `None` is any.
    pub max_withdrawal: Option<u8>,
    pub leader_election: LeaderElection,
    pub metrics_address: ListenAddress,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
}

/// How to reach the API server outside a cluster without `KUBECONFIG`; in a cluster only `endpoint` counts.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its URL: `http` or `https`, with a host, without user, query and fragment.
    pub endpoint: Option<Uri>,
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
    pub enabled: bool,
    pub lease_name: String,
    /// How long the others wait for a leader that no longer renews; whole seconds, from 1.
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
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
    Text,
    Json,
}
