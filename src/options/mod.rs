//! The options, in three forms, all from one table ([`table`]).
//!
//! [`split_arguments`] takes the flags out of the command line, [`load`] joins them with variables and the file.
//! Precedence: flag, variable, file, default.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

mod build;
pub(crate) mod check;
pub(crate) mod documentation;
mod fault;
mod names;
pub mod schema;
mod selector;
mod sources;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod typed;

pub use fault::{OptionFault, OptionFaults, Source};
pub use selector::LabelSelector;
pub use sources::flag::{Arguments, Flags, split_arguments};
pub use table::Id;
pub use typed::{LeaderElection, LogFormat, Options};

use build::Builder;
use sources::FoundOptions;

use crate::kubernetes::client::Environment;
use crate::redact::printable;

/// Bytes of a file of options that are read; a longer one is refused.
const FILE_LIMIT: u64 = 4 << 20;

/// Valid options, with warnings and with what was ignored.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub options: Options,
    /// What works and is probably not meant: one line each, to be logged as warnings.
    pub warnings: Vec<String>,
    pub ignored_sections: Vec<String>,
    /// Flags that only Traefik uses, as they were written, without values.
    pub ignored_flags: Vec<String>,
    origins: BTreeMap<Id, Source>,
}

impl Loaded {
    /// Where the value of an option comes from.
    pub fn origin(&self, id: Id) -> &Source {
        self.origins.get(&id).unwrap_or(&Source::Default)
    }

    /// Lines that name what was ignored, to be logged once: none, one for the file, one for flags, or both.
    pub fn notes(&self) -> Vec<String> {
        let line = |what: &str, names: &[String]| {
            (!names.is_empty())
                .then(|| format!("{what} that only Traefik uses are ignored: {}", names.join(", ")))
        };
        [line("sections of the file", &self.ignored_sections), line("flags", &self.ignored_flags)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Reads, joins and checks the options.
///
/// # Errors
/// Everything that is wrong, at once: to be printed one line each, with exit code 2.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Loaded, OptionFaults> {
    let namespace = environment.service_account.join("namespace");
    load_with(flags, &environment.variables, &namespace, &read_file)
}

/// The same with whatever reads files.
fn load_with(
    flags: &Flags,
    variables: &BTreeMap<String, String>,
    namespace: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Loaded, OptionFaults> {
    let from_variables = sources::variable::read(variables);
    let file = match flags.0.config_file.as_ref().or(from_variables.config_file.as_ref()) {
        Some((path, source)) => match read(Path::new(path)) {
            Ok(text) => sources::file::read(path, &text),
            Err(error) => {
                let wrong = format!("the file can't be read ({})", printable(&error.to_string()));
                let fault =
                    OptionFault::new(names::CONFIG_FILE, source.clone(), wrong, "name an existing file");
                FoundOptions { faults: vec![fault.value(path)], ..FoundOptions::default() }
            }
        },
        None => FoundOptions::default(),
    };
    let sources = [&flags.0, &from_variables, &file];
    let mut builder = Builder::new(sources, default_namespace(variables, namespace, read));
    let options = builder.options();
    // In the order of sources, and what makes a value unreadable before what makes it wrong.
    let mut faults: Vec<OptionFault> = sources.iter().flat_map(|findings| findings.faults.clone()).collect();
    faults.append(&mut builder.faults);
    if !faults.is_empty() {
        return Err(OptionFaults(faults));
    }
    Ok(Loaded {
        options,
        warnings: builder.warnings,
        ignored_sections: file.ignored.clone(),
        ignored_flags: flags.0.ignored.clone(),
        origins: builder.origins,
    })
}

/// Reads options from the text of a YAML file alone: no flags, no variables.
///
/// # Errors
/// As [`load`].
pub fn from_yaml_str(text: &str) -> Result<Loaded, OptionFaults> {
    let path = "options.yaml";
    let flags =
        FoundOptions { config_file: Some((path.to_owned(), Source::Default)), ..FoundOptions::default() };
    let read = |asked: &Path| {
        if asked == Path::new(path) { Ok(text.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    load_with(&Flags(flags), &BTreeMap::new(), Path::new(""), &read)
}

/// The text of a file that is UTF-8 and not longer than [`FILE_LIMIT`].
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {FILE_LIMIT} bytes")))
    } else {
        Ok(text)
    }
}

/// `operator.namespace` when nobody gives it.
fn default_namespace(
    variables: &BTreeMap<String, String>,
    file: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> (String, Source) {
    if let Some(namespace) = variables.get("POD_NAMESPACE").filter(|namespace| !namespace.is_empty()) {
        return (namespace.clone(), Source::variable("POD_NAMESPACE"));
    }
    match read(file).as_deref().map(str::trim) {
        Ok("") | Err(_) => ("waybill".to_owned(), Source::Default),
        Ok(namespace) => {
            let source = Source::File { path: file.to_string_lossy().into_owned(), line: 1 };
            (namespace.to_owned(), source)
        }
    }
}
