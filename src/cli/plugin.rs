//! The plugin of kubectl: the same program, called `kubectl-waybill`.

use std::ffi::OsStr;
use std::path::Path;

use super::input::SOURCE;

/// The name that the program was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledAs {
    Waybill,
    /// `kubectl-waybill`, which kubectl starts for `kubectl waybill`.
    Plugin,
    /// `kubectl_complete-waybill`, which kubectl asks for completions of the plugin.
    PluginCompletion,
}

impl From<&OsStr> for CalledAs {
    fn from(program: &OsStr) -> Self {
        match Path::new(program).file_stem().and_then(OsStr::to_str) {
            Some("kubectl-waybill") => Self::Plugin,
            Some("kubectl_complete-waybill") => Self::PluginCompletion,
            _ => Self::Waybill,
        }
    }
}

/// Whether a command takes this argument.
pub fn has_argument(command: &clap::Command, name: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_id() == name)
}

/// The commands as seen from kubectl: they read the cluster of the current context unless files are given.
pub fn command(command: clap::Command) -> clap::Command {
    command
        .bin_name("kubectl waybill")
        .after_help(
            "Reads the cluster of the current context unless -f names manifests; --context, --kubeconfig and -n are \
             kubectl's. Write flags after the command: kubectl waybill explain -n shop https://shop.example/cart",
        )
        .mut_subcommands(|command| match command.get_name() {
            "run" | "agent" | "completions" => command.hide(true),
            "diff" => command.mut_arg("after", |after| {
                after.required(false).help("The new routing, in the same form as A. With only one source, that source is B, and A is cluster:")
            }),
            _ if command.get_groups().any(|group| group.get_id() == SOURCE) => {
                command.mut_group(SOURCE, |group| group.required(false))
            }
            _ => command,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::called;

    #[test]
    fn a_cluster_is_read_unless_files_are_named_and_usage_is_kubectls() {
        let help = called("/usr/bin/kubectl-waybill", &["explain", "--help"], "").stdout;
        assert!(help.contains("Usage: kubectl waybill explain [OPTIONS] <URL>"), "{help}");
        let help = called("kubectl-waybill", &["--help"], "").stdout;
        assert!(!help.contains("  run ") && help.contains("current context"), "{help}");
        let cluster =
            called("kubectl-waybill", &["explain", "http://a.example/", "--kubeconfig", "/not/there"], "");
        assert!(cluster.code == 2 && cluster.stderr.contains("/not/there"), "{}", cluster.stderr);
        let cluster = called("kubectl-waybill", &["diff", "-", "--kubeconfig", "/not/there"], "");
        assert!(
            cluster.stderr.contains("A: ") && cluster.stderr.contains("/not/there"),
            "{}",
            cluster.stderr
        );
        let files = called("kubectl-waybill", &["explain", "http://a.example/", "-f", "-"], "");
        assert!(files.stderr.contains("no Ingress in the input"), "{}", files.stderr);
        let both = called("kubectl-waybill", &["explain", "http://a/", "-f", "-", "--context", "x"], "");
        assert!(both.code == 2 && both.stderr.contains("-f"), "{}", both.stderr);
        for arguments in [&["explain", "http://a.example/"][..], &["diff", "-"]] {
            assert_eq!(called("waybill", arguments, "").code, 2, "{arguments:?}");
        }
        for command in [&["explain", "http://a.example/"][..], &["graph"], &["lint"]] {
            let refused = called("waybill", command, "");
            assert!(
                refused.code == 2 && refused.stderr.contains("<--filename <PATH>|--cluster"),
                "{}",
                refused.stderr
            );
        }
    }

    #[test]
    fn the_name_of_the_program_decides() {
        for (name, called) in [
            ("waybill", CalledAs::Waybill),
            ("/usr/bin/kubectl-waybill", CalledAs::Plugin),
            ("C/kubectl-waybill.exe", CalledAs::Plugin),
            ("./kubectl_complete-waybill", CalledAs::PluginCompletion),
            ("", CalledAs::Waybill),
        ] {
            assert_eq!(CalledAs::from(OsStr::new(name)), called, "{name}");
        }
    }
}
