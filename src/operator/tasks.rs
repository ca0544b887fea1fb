//! The tasks of an operator, and the error with which it ended.

use std::collections::HashMap;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};

use crate::kubernetes::client::ConnectError;
use crate::serve::CertificateError;

/// Why the operator could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{option}: {value:?} can't be listened on: {source}; choose another port or address")]
    Listen { option: &'static str, value: String, source: std::io::Error },
    #[error("operator.metricsCertFile: {0}")]
    Certificate(#[from] CertificateError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("signals can't be received: {0}")]
    Signals(#[source] std::io::Error),
    #[error("no threads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("a part of the operator ended unexpectedly: {task}")]
    Ended { task: &'static str },
    #[error("a part of the operator failed: {task}: {source}")]
    Failed { task: &'static str, source: JoinError },
}

impl RunError {
    /// Whether the user has to change an option before the operator can start.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Certificate(_) | Self::Listen { .. })
    }
}

/// Tasks that run until the operator is stopped. Those still running are aborted when this is dropped.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<Result<(), RunError>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task on the threads of a runtime.
    pub fn spawn(
        &mut self,
        name: &'static str,
        on: &Handle,
        task: impl Future<Output = Result<(), RunError>> + Send + 'static,
    ) {
        self.names.insert(self.set.spawn_on(task, on).id(), name);
    }

    /// The next task that ends, with its result. `None` if no task is left.
    pub async fn next(&mut self) -> Option<(&'static str, Result<(), RunError>)> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let task = self.names.remove(&id).unwrap_or_default();
        Some((task, result.unwrap_or_else(|source| Err(RunError::Failed { task, source }))))
    }

    /// Aborts all remaining tasks.
    pub async fn stop(&mut self) {
        self.set.shutdown().await;
    }

    /// Waits until one ends, which none should.
    pub async fn failed(&mut self) -> RunError {
        match self.next().await {
            Some((_, Err(error))) => error,
            Some((task, Ok(()))) => RunError::Ended { task },
            None => std::future::pending().await,
        }
    }

    /// Waits until the tasks with these names have ended.
    pub async fn all_ended(&mut self, names: &[&str]) {
        while self.names.values().any(|name| names.contains(name)) {
            if let Some((_, Err(error))) = self.next().await {
                tracing::error!(%error, "while stopping");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn going_on(mut tasks: Tasks) -> RunError {
        tasks.spawn("another", &Handle::current(), std::future::pending());
        tasks.failed().await
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("watches", &Handle::current(), async { Ok(()) });
        let error = going_on(tasks).await;
        assert!(error.to_string().contains("ended unexpectedly: watches"), "{error}");

        let mut tasks = Tasks::default();
        tasks.spawn("publisher", &Handle::current(), async { unreachable!("a fault") });
        let error = going_on(tasks).await;
        assert!(error.to_string().contains("publisher") && error.to_string().contains("a fault"), "{error}");
        assert!(!error.is_usage());
    }

    #[tokio::test]
    async fn only_those_that_have_something_to_finish_are_waited_for() {
        let mut tasks = Tasks::default();
        tasks.spawn("watches", &Handle::current(), std::future::pending());
        tasks.spawn("leader", &Handle::current(), async { Ok(()) });
        tasks.all_ended(&["election", "leader"]).await;
        assert_eq!(tasks.names.len(), 1);
    }
}
