//! `waybill run`: runs the operator.

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, CommandResult, PROBLEMS, SUCCESS, USAGE};
use crate::kubernetes::client::Environment;
use crate::operator::run::Operator;
use crate::options::{Loaded, LogFormat, Options};
use crate::redact::KeylessWriter;

/// Runs the operator; gives the exit code.
pub(super) fn start(loaded: &Loaded, environment: &Environment) -> CommandResult {
    start_logging(&loaded.options);
    let operator = Operator::new(loaded.options.clone(), environment.clone());
    let stop = async {
        stop_signal()?.await;
        Ok(())
    };
    operator.and_then(|operator| operator.run(stop)).map(|()| SUCCESS).map_err(|error| {
        let code = if error.is_usage() { USAGE } else { PROBLEMS };
        CommandError { code, prefix: "waybill: ", message: error.to_string() }
    })
}

/// Starts logging, for this process.
pub(super) fn start_logging(options: &Options) {
    let level = options.log_level;
    // The watches log kube's errors themselves, with a limited rate.
    let filter =
        tracing_subscriber::EnvFilter::new(format!("warn,kube_runtime=off,kube_client=off,waybill={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| KeylessWriter(std::io::stderr()))
        .with_target(false);
    // A logger that is already set (in a test) stays.
    let _ = match options.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Catches SIGTERM and SIGINT from now on. The future resolves at the first of them.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
