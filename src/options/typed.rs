//! The checked options, in the types that the program uses.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tracing::Level;

use super::check::ListenAddress;
use super::selector::LabelSelector;
use crate::kubernetes::client::Access;
use crate::translate::settings::{ClassOptions, Settings};

/// All options.
#[derive(Clone, Debug)]
pub struct Options {
    pub access: Access,
    /// Namespaces to watch; empty means all.
    pub namespaces: BTreeSet<String>,
    pub label_selector: LabelSelector,
    pub class: ClassOptions,
    /// The settings of the translation for classes without parameters. Its `output` is
    /// `operator.namespace`/`operator.output.name`; its `status` is `None` while [`Options::status`] is off.
    pub settings: Settings,
    pub namespace: String,
    /// Whether statuses are written at all; if off, for no class.
    pub status: bool,
    /// Maximum number of statuses written per second; at least 1.
    pub status_rate: u32,
    /// The longest time that an address waits for agents.
    pub status_delay: Duration,
    pub providers_throttle_duration: Duration,
    pub throttle_duration: Duration,
    /// Bytes written per second above which the throttle stretches; at least 1.
    pub publish_bytes_per_second: u64,
    /// Percentage of an output's routers that one commit may remove; `None` for no limit.
    pub max_withdrawal: Option<u8>,
    pub leader_election: LeaderElection,
    pub metrics_address: ListenAddress,
    /// Metrics over TLS, at `metrics_secure_address` instead.
    pub metrics_secure: bool,
    pub metrics_secure_address: ListenAddress,
    /// Both or neither are given, if metrics are secure.
    pub metrics_cert_file: Option<PathBuf>,
    pub metrics_key_file: Option<PathBuf>,
    /// The URL for traces, with its path.
    pub otlp_endpoint: Option<Uri>,
    /// Lines below this level are not logged.
    pub log_level: Level,
    pub log_format: LogFormat,
}

/// Leader election. `retry_period` × 1.2 < `renew_deadline` < `lease_duration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    pub enabled: bool,
    pub lease_name: String,
    /// How long the others wait for a leader that no longer renews; whole seconds, at least 2.
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

/// How lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
