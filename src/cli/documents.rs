//! `waybill options`, `crds`, `completions` and `man`: documents that are generated from the program itself.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::plugin::CalledAs;
use super::{CommandError, CommandResult, Streams};
use crate::options::{documentation, schema};

/// `waybill options`
#[derive(Debug, Args)]
pub struct PrintOptions {
    /// Print a document to read, or a file of defaults to start from
    #[arg(long, value_enum, default_value_t = OptionsFormat::Markdown)]
    format: OptionsFormat,
}

/// How options are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptionsFormat {
    /// A document with tables
    Markdown,
    /// A configuration file with every default
    Yaml,
    /// The JSON schema of the configuration file, for editors
    Schema,
}

impl PrintOptions {
    /// Prints every option; gives the exit code.
    pub fn run(&self, streams: &mut Streams<'_>) -> CommandResult {
        streams.print(&match self.format {
            OptionsFormat::Markdown => documentation::markdown(),
            OptionsFormat::Yaml => documentation::yaml(),
            OptionsFormat::Schema => format!("{:#}\n", schema::schema()),
        })
    }
}

/// Prints the CRD; gives the exit code.
pub fn crds(streams: &mut Streams<'_>) -> CommandResult {
    streams.print(&crate::parameters::crd_yaml().map_err(CommandError::problem)?)
}

/// `waybill completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell for which to print them
    shell: Shell,
}

impl Completions {
    /// Prints them; gives the exit code.
    pub fn run(&self, streams: &mut Streams<'_>) -> CommandResult {
        let script = match self.shell {
            Shell::Bash => include_str!("completions/waybill.bash"),
            Shell::Zsh => include_str!("completions/waybill.zsh"),
            Shell::Fish => include_str!("completions/waybill.fish"),
            other => {
                let mut script = Vec::new();
                clap_complete::generate(
                    other,
                    &mut super::command(CalledAs::Waybill),
                    "waybill",
                    &mut script,
                );
                return streams.print(&String::from_utf8_lossy(&script));
            }
        };
        streams.print(script)
    }
}

/// `waybill man`
#[derive(Debug, Args)]
pub struct Man {
    /// The command whose page to print; by default that of waybill itself
    command: Option<String>,
}

impl Man {
    /// Prints a page; gives the exit code.
    pub fn run(&self, called: CalledAs, streams: &mut Streams<'_>) -> CommandResult {
        let mut commands = super::command(called);
        // Gives subcommands their full names.
        commands.build();
        let command = match &self.command {
            None => commands,
            Some(name) => {
                let command = commands.find_subcommand(name).ok_or_else(|| {
                    CommandError::usage(format!("{name}: no such command; see `waybill help`"))
                })?;
                command.clone().name(format!("waybill-{name}")).version(env!("CARGO_PKG_VERSION"))
            }
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        streams.print(&String::from_utf8_lossy(&page))
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::complete::COMPLETE;
    use crate::cli::tests::waybill;

    #[test]
    fn completions_and_pages_name_commands_and_options() {
        let option = "providers.kubernetesingress.allowemptyservices";
        for (shell, words) in [
            ("bash", [COMPLETE, "complete -F"]),
            ("zsh", [COMPLETE, "compdef"]),
            ("fish", [COMPLETE, "complete -c"]),
            ("elvish", ["render", option]),
            ("powershell", ["render", option]),
        ] {
            let outcome = waybill(&["completions", shell], "");
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{shell}");
            for word in words {
                assert!(outcome.stdout.contains(word), "{shell} lacks {word}");
            }
        }
        let page = waybill(&["man"], "").stdout;
        assert!(page.contains(".TH waybill 1") && page.contains("waybill\\-run(1)"), "{page}");
        let page = waybill(&["man", "run"], "").stdout;
        assert!(page.contains(".TH waybill-run 1") && page.contains("allowemptyservices"), "{page}");
        let unknown = waybill(&["man", "rnu"], "");
        assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""));
    }

    #[test]
    fn the_schema_is_json() {
        let outcome = waybill(&["options", "--format", "schema"], "");
        let schema: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert!(schema["properties"]["operator"].is_object(), "{schema:#}");
    }
}
