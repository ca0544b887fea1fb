//! `waybill version`: prints the build, and the versions that it was tested with.

use clap::{Args, ValueEnum};

use super::{CommandResult, Streams, json};

/// The versions that the tests use. A test compares them with the modules in tests/tools.
macro_rules! traefik {
    () => {
        "v3.7.13"
    };
}
macro_rules! kubernetes {
    () => {
        "v1.36.3"
    };
}

/// For `waybill -V`.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// For `waybill --version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WAYBILL_COMMIT"),
    ", ",
    env!("WAYBILL_COMMIT_DATE"),
    ")\ntested with Traefik ",
    traefik!(),
    " and Kubernetes ",
    kubernetes!()
);

/// The arguments of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// What to print
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = VersionFormat::Text)]
    format: VersionFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VersionFormat {
    Text,
    Json,
}

impl Version {
    /// Prints it; gives the exit code.
    pub fn run(&self, streams: &mut Streams<'_>) -> CommandResult {
        let text = match self.format {
            VersionFormat::Text => format!("waybill {LONG}\n"),
            VersionFormat::Json => json(&serde_json::json!({
                "version": SHORT,
                "commit": env!("WAYBILL_COMMIT"),
                "commitDate": env!("WAYBILL_COMMIT_DATE"),
                "traefik": traefik!(),
                "kubernetes": kubernetes!(),
            }))?,
        };
        streams.print(&text)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tests_run_against_the_versions_that_are_named() {
        let read = |path: &str| {
            std::fs::read_to_string(format!("{}/tests/tools/{path}/go.mod", env!("CARGO_MANIFEST_DIR")))
                .unwrap()
        };
        assert!(read("traefik").contains(concat!("github.com/traefik/traefik/v3 ", traefik!(), "\n")));
        assert!(read("kubernetes").contains(concat!("k8s.io/kubernetes ", kubernetes!(), "\n")));
    }
}
