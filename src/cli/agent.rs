//! `waybill agent`: hands the routing to the Traefik beside it.

use std::path::PathBuf;

use clap::Args;
use tokio::net::TcpListener;

use super::cluster::ClusterArguments;
use super::run::{self, stop_signal};
use super::{CommandError, CommandResult, SUCCESS};
use crate::agent::{Agent, AgentError, TraefikApi};
use crate::kubernetes::client::{self, Environment};
use crate::kubernetes::key::OutputKey;
use crate::metrics::Metrics;
use crate::options::Loaded;
use crate::options::check::{self, ListenAddress};
use crate::publish::lease;

/// The arguments of `agent`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("destination").required(true).multiple(true))]
pub struct AgentArguments {
    /// The output to read
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = super::output_key)]
    output: OutputKey,

    /// The folder to write, preferably on tmpfs because it contains private keys. Traefik's providers.file.directory is
    /// its subfolder `dynamic`
    #[arg(long, value_name = "DIR", group = "destination")]
    directory: Option<PathBuf>,

    /// Serve Traefik's HTTP provider at this address, preferably loopback because answers contain private keys
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with = "once", group = "destination")]
    http: Option<ListenAddress>,

    /// Traefik's API. If given, the agent is ready only once Traefik serves the routing
    #[arg(long, value_name = "URL", value_parser = TraefikApi::parse, conflicts_with = "once")]
    traefik_api: Option<TraefikApi>,

    /// A folder with your own dynamic configuration, handed to Traefik together with the routing
    #[arg(long, value_name = "DIR")]
    include: Option<PathBuf>,

    /// The address for probes and metrics
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = ":8081")]
    metrics_address: ListenAddress,

    /// Write one generation and exit
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    cluster: ClusterArguments,
}

fn address(text: &str) -> Result<ListenAddress, String> {
    check::listen(text).map_err(|_| "write it as 127.0.0.1:8081, [::1]:8081 or :8081".to_owned())
}

impl AgentArguments {
    /// Runs the agent; gives the exit code.
    pub fn run(self, loaded: &Loaded, environment: &Environment) -> CommandResult {
        run::start_logging(&loaded.options);
        // It is idle nearly all the time, and does one thing after the other.
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = threads.map_err(|error| CommandError::problem(format!("no threads: {error}")))?;
        runtime.block_on(self.start(loaded, environment)).map(|()| SUCCESS)
    }

    async fn start(self, loaded: &Loaded, environment: &Environment) -> Result<(), CommandError> {
        let access = &loaded.options.access;
        let environment = self.cluster.environment(environment.clone(), access);
        let identity = lease::identity(&environment.variables);
        let metrics = Metrics::new("agent").map_err(CommandError::problem)?;
        let connection = client::connect(access, &environment, &identity, &metrics).await?;
        for warning in &connection.warnings {
            tracing::warn!("{warning}");
        }
        let http = match &self.http {
            Some(address) => Some(listen("--http", address).await?),
            None => None,
        };
        let agent = Agent {
            output: self.output,
            identity: identity.rsplit_once('_').map_or(&*identity, |(name, _)| name).to_owned(),
            directory: self.directory,
            http,
            traefik_api: self.traefik_api,
            include: self.include,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            identity,
            api_server = connection.address,
            output = %agent.output,
            "starting"
        );
        let failed = |error: AgentError| match error {
            AgentError::Folder(_) => CommandError::from(error),
            other => CommandError::problem(other),
        };
        if self.once {
            return agent.once(connection.client).await.map_err(failed);
        }
        let stop = stop_signal()
            .map_err(|error| CommandError::problem(format!("signals can't be received: {error}")))?;
        let probes = listen("--metrics-address", &self.metrics_address).await?;
        agent.run(connection.client, probes, stop).await.map_err(failed)
    }
}

async fn listen(flag: &str, address: &ListenAddress) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address.sockets()).await.map_err(|error| {
        let address = address.as_str();
        CommandError::usage(format!(
            "{flag}: {address:?} can't be listened on: {error}; choose another port or address"
        ))
    })
}
