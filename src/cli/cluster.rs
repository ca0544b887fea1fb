//! Selects the API server for commands that people run, as kubectl does.

use std::path::Path;

use clap::Args;

use crate::kubernetes::client::{self, Access, ConnectError, Connection, Environment};
use crate::metrics::Metrics;
use crate::options::Loaded;

/// Arguments that kubectl has too.
#[derive(Debug, Args)]
pub struct ClusterArguments {
    /// Context of the kubeconfig file to use instead of its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// The kubeconfig file to use instead of KUBECONFIG and ~/.kube/config
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<String>,
}

/// Errors that prevent a connection.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl ClusterArguments {
    /// Whether one of them is given.
    pub fn is_given(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }

    /// Connects and hands the connection to `ask`.
    ///
    /// # Errors
    /// If there is no connection. The result of `ask` is returned unchanged.
    pub fn ask<T>(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        ask: impl AsyncFnOnce(Connection) -> T,
    ) -> Result<T, NoConnection> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let access = &loaded.options.access;
        let environment = self.environment(environment.clone(), access);
        let metrics = Metrics::new("read")?;
        runtime.block_on(async {
            let connection = client::connect(access, &environment, "read", &metrics).await?;
            Ok(ask(connection).await)
        })
    }

    /// Like kubectl: a named file or context has precedence. Otherwise the connection is the operator's, and if there
    /// is none, that of the user's own file.
    pub fn environment(&self, mut environment: Environment, access: &Access) -> Environment {
        let variables = &mut environment.variables;
        if self.context.is_some() || self.kubeconfig.is_some() {
            variables.remove("KUBERNETES_SERVICE_HOST");
        }
        if let Some(path) = &self.kubeconfig {
            variables.insert("KUBECONFIG".to_owned(), path.clone());
        }
        let elsewhere = environment.is_in_cluster() || self.context.is_none() && access.endpoint.is_some();
        if environment.get("KUBECONFIG").is_none()
            && !elsewhere
            && let Some(path) = environment.get("HOME").map(|home| Path::new(home).join(".kube/config"))
            && (self.context.is_some() || path.exists())
        {
            environment.variables.insert("KUBECONFIG".to_owned(), path.to_string_lossy().into_owned());
        }
        Environment { context: self.context.clone(), ..environment }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        cluster: ClusterArguments,
    }

    #[test]
    fn the_api_server_is_found_as_kubectl_finds_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let file = format!("{home}/.kube/config");
        let way = |arguments: &[&str], variables: &[(&str, &str)], endpoint: &str| {
            let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let access = Access { endpoint: endpoint.parse().ok(), ..Access::default() };
            let environment = Environment { variables, service_account: "/not/there".into(), context: None };
            let line = Line::parse_from(std::iter::once(&"waybill").chain(arguments));
            let environment = line.cluster.environment(environment, &access);
            let get = |name: &str| environment.variables.get(name).cloned().unwrap_or_default();
            (get("KUBECONFIG"), get("KUBERNETES_SERVICE_HOST"), environment.context)
        };
        let pod =
            [("HOME", home), ("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let none = String::new;
        assert_eq!(way(&[], &[("HOME", home)], ""), (none(), none(), None), "there is no file");
        std::fs::create_dir(format!("{home}/.kube")).unwrap();
        std::fs::write(&file, "").unwrap();
        assert_eq!(way(&[], &[("HOME", home)], ""), (file.clone(), none(), None));
        assert_eq!(way(&[], &[("HOME", home), ("KUBECONFIG", "x")], ""), ("x".into(), none(), None));
        assert_eq!(way(&[], &[("HOME", home)], "https://x"), (none(), none(), None));
        assert_eq!(way(&[], &pod, ""), (none(), "10.0.0.1".into(), None));
        let context = Some("prod".to_owned());
        assert_eq!(way(&["--context=prod"], &pod, "https://x"), (file, none(), context));
        assert_eq!(way(&["--kubeconfig=y"], &pod, ""), ("y".into(), none(), None));
    }
}
