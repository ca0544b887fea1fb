//! The options: every one of them in three forms, from one table ([`table`]).
//!
//! [`split_arguments`] takes the flags out of the command line, [`load`] joins them with variables and the file that they
//! name. A flag goes before a variable, that before the file, and that before the default.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

mod build;
pub mod check;
pub mod documentation;
pub mod fault;
pub mod names;
pub mod selector;
mod sources;
pub mod table;
#[cfg(test)]
mod tests;
pub mod typed;

pub use fault::{Fault, Faults, Source};
pub use selector::LabelSelector;
pub use sources::flag::{Arguments, Flags, split_arguments};
pub use table::Id;
pub use typed::{Connection, LeaderElection, LogFormat, LogLevel, Options, Token};

use build::Builder;
use sources::Findings;

/// Bytes of a file of options that are read; a longer one is refused.
pub const FILE_LIMIT: u64 = 4 << 20;

/// Where a pod finds the namespace of its service account.
pub const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What surrounds the process, as far as options depend on it.
pub trait Surroundings {
    /// The environment's variables.
    fn variables(&self) -> BTreeMap<String, String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Whatever keeps it from being read, and [`io::ErrorKind::InvalidData`] for one that is no UTF-8 or longer than
    /// [`FILE_LIMIT`].
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether what is printed may be coloured: on a terminal, unless `NO_COLOR` is set.
    fn is_colourful(&self) -> bool {
        false
    }
}

/// The real surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Surroundings for Process {
    fn variables(&self) -> BTreeMap<String, String> {
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
        match text.len() as u64 > FILE_LIMIT {
            true => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {FILE_LIMIT} bytes")))
            }
            false => Ok(text),
        }
    }

    fn is_colourful(&self) -> bool {
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// Surroundings that are given: variables and the texts of files by path.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub variables: BTreeMap<String, String>,
    pub files: BTreeMap<String, String>,
}

impl Surroundings for Given {
    fn variables(&self) -> BTreeMap<String, String> {
        self.variables.clone()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Options that are right, and what there is to say about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub options: Options,
    /// What works and is probably not meant: one line each, to be logged as warnings.
    pub warnings: Vec<String>,
    pub ignored_sections: Vec<String>,
    /// Flags that are Traefik's alone, as they were written, without values.
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
                .then(|| format!("{what} that are Traefik's alone are ignored: {}", names.join(", ")))
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
pub fn load(flags: &Flags, surroundings: &dyn Surroundings) -> Result<Loaded, Faults> {
    let variables = surroundings.variables();
    let environment = sources::variable::read(&variables);
    let path = flags.0.config_file.as_ref().or(environment.config_file.as_ref());
    let file = match path {
        Some((path, source)) => read_file(path, source, surroundings),
        None => Findings::default(),
    };
    let mut builder =
        Builder::new([&flags.0, &environment, &file], default_namespace(&variables, surroundings));
    let options = builder.options();
    // In the order of sources, and what makes a value unreadable before what makes it wrong.
    let mut faults: Vec<Fault> =
        [&flags.0, &environment, &file].iter().flat_map(|findings| findings.faults.clone()).collect();
    faults.append(&mut builder.faults);
    match options {
        Some(options) if faults.is_empty() => Ok(Loaded {
            options,
            warnings: builder.warnings,
            ignored_sections: file.ignored.clone(),
            ignored_flags: flags.0.ignored.clone(),
            origins: builder.origins,
        }),
        _ => Err(Faults(faults)),
    }
}

/// Reads options from the text of a YAML file alone: no flags, no variables.
///
/// # Errors
/// As [`load`].
pub fn from_yaml_str(text: &str) -> Result<Loaded, Faults> {
    let path = "options.yaml";
    let files = BTreeMap::from([(path.to_owned(), text.to_owned())]);
    let flags = Findings { config_file: Some((path.to_owned(), Source::Default)), ..Findings::default() };
    load(&Flags(flags), &Given { files, ..Given::default() })
}

fn read_file(path: &str, source: &Source, surroundings: &dyn Surroundings) -> Findings {
    match surroundings.read(Path::new(path)) {
        Ok(text) => sources::file::read(path, &text),
        Err(error) => {
            let wrong = format!("the file can't be read ({})", fault::escaped(&error.to_string()));
            let fault = Fault::new(names::CONFIG_FILE, source.clone(), wrong, "name a file that is there");
            Findings { faults: vec![fault.value(path)], ..Findings::default() }
        }
    }
}

/// `operator.namespace` when nobody gives it.
fn default_namespace(
    variables: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> (String, Source) {
    if let Some(namespace) = variables.get("POD_NAMESPACE").filter(|namespace| !namespace.is_empty()) {
        return (namespace.clone(), Source::variable("POD_NAMESPACE"));
    }
    if let Ok(namespace) = surroundings.read(Path::new(SERVICE_ACCOUNT_NAMESPACE))
        && !namespace.trim().is_empty()
    {
        let source = Source::File { path: SERVICE_ACCOUNT_NAMESPACE.to_owned(), line: 1 };
        return (namespace.trim().to_owned(), source);
    }
    ("waybill".to_owned(), Source::Default)
}
