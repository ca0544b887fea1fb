//! `waybill options` and `waybill crds`: what is generated from the program itself.

use clap::{Args, ValueEnum};

use super::{PROBLEMS, SUCCESS, Streams, USAGE, write_document};
use crate::options::documentation;

/// `waybill options`
#[derive(Debug, Args)]
pub struct PrintOptions {
    /// As a document to read, or as a file of defaults to start from
    #[arg(long, value_enum, default_value_t = OptionsFormat::Markdown)]
    format: OptionsFormat,
}

/// How options are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptionsFormat {
    /// A document with tables
    Markdown,
    /// A configuration file that holds every default
    Yaml,
}

impl PrintOptions {
    /// Prints every option; gives the exit code.
    pub fn run(&self, streams: &mut Streams<'_>) -> u8 {
        print(
            streams,
            &match self.format {
                OptionsFormat::Markdown => documentation::markdown(),
                OptionsFormat::Yaml => documentation::yaml(),
            },
        )
    }
}

/// Prints the CRD; gives the exit code.
pub fn crds(streams: &mut Streams<'_>) -> u8 {
    match crate::parameters::crd_yaml() {
        Ok(text) => print(streams, &text),
        Err(error) => {
            let _ = writeln!(streams.stderr, "the CRD can't be printed: {error}");
            PROBLEMS
        }
    }
}

/// Prints a document; gives the exit code.
pub(super) fn print(streams: &mut Streams<'_>, text: &str) -> u8 {
    match write_document(streams.stdout, |out| out.write_all(text.as_bytes())) {
        Ok(()) => SUCCESS,
        Err(error) => {
            let _ = writeln!(streams.stderr, "standard output: {error}");
            USAGE
        }
    }
}
