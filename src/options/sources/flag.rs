//! Reads options from the arguments of the command line.
//!
//! Traefik's users have flags such as `-providers.kubernetesIngress.allowEmptyServices`: long names with dots, in any
//! case, with one dash or two, a value after `=` or a space, and repeated flags that append to a list. A parser such as
//! clap requires one case and two dashes, and would refuse the flags of Traefik's other sections, which a user's
//! command line also contains. So these flags are taken out first, wherever they are. clap gets the rest.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::{Form, FoundOptions, Given, Raw, split_list};
use crate::options::fault::{OptionFault, Source, plain};
use crate::options::names::{self, Name};
use crate::options::table::{Entry, Id, ValueKind};

/// The options found among the arguments, not yet checked.
#[derive(Clone, Default)]
pub struct Flags(pub(crate) FoundOptions);

impl fmt::Debug for Flags {
    /// Only names, since a value may be the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.given.iter().map(|given| given.id.key())).finish()
    }
}

/// The parsed arguments of a command line.
#[derive(Debug)]
pub struct Arguments {
    pub flags: Flags,
    /// All other arguments in order, the program's name first, for clap.
    pub rest: Vec<OsString>,
}

/// Takes the options out of `arguments` (as [`std::env::args_os`] gives them, the program's name first).
///
/// Options may be anywhere before `--`. `subcommands` are the names of the program's commands: a flag of Traefik
/// without a known meaning takes the next argument as its value, unless that is a command's name.
pub fn split_arguments(arguments: impl IntoIterator<Item = OsString>, subcommands: &[&str]) -> Arguments {
    let mut arguments = arguments.into_iter().peekable();
    let mut rest: Vec<OsString> = arguments.next().into_iter().collect();
    let mut findings = FoundOptions::default();
    let mut command_seen = false;
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument);
            break;
        }
        let Some(flag) = Flag::read(&argument) else {
            command_seen |= subcommands.iter().any(|command| argument == *command);
            rest.push(argument);
            continue;
        };
        let next_is_value = |next: &OsString| !next.as_encoded_bytes().starts_with(b"-");
        let is_command =
            |next: &OsString| !command_seen && subcommands.iter().any(|command| next == *command);
        match names::resolve(&flag.name) {
            Name::Unknown if !flag.name.contains('.') || flag.is_file() => rest.push(argument),
            Name::Unknown => {
                // The next argument may be its value, and a token that clap would show. So it is taken out too.
                if flag.value.is_none() {
                    arguments.next_if(|next| next_is_value(next) && !is_command(next));
                }
                findings.unknown(&flag.written, &flag.name, flag.source(), Form::Flag);
            }
            Name::Switch => findings.check_switch(flag.value.as_deref().unwrap_or("true"), flag.source()),
            Name::Section(section) => findings.section_has_no_value(section, flag.source(), Form::Flag),
            Name::Traefik => {
                if flag.name.eq_ignore_ascii_case(names::SLIP) {
                    findings.slip = Some(flag.source());
                }
                if flag.value.is_none() && !names::is_traefik_switch(&flag.name) {
                    arguments.next_if(|next| next_is_value(next) && !is_command(next));
                }
                findings.ignored.push(plain(&flag.written));
            }
            Name::Option(Entry { id, kind: ValueKind::Boolean, .. }) => {
                let value = flag.value.clone().unwrap_or_else(|| "true".to_owned());
                add(&mut findings, *id, &value, flag.source());
            }
            name @ (Name::Option(_) | Name::ConfigFile) => {
                let behind =
                    || arguments.next_if(next_is_value).map(|value| value.to_string_lossy().into_owned());
                match (flag.value.clone().or_else(behind), name) {
                    (Some(value), Name::Option(entry)) => add(&mut findings, entry.id, &value, flag.source()),
                    (Some(value), _) => findings.config_file = Some((value, flag.source())),
                    (None, name) => {
                        let key = if let Name::Option(entry) = name { entry.key } else { names::CONFIG_FILE };
                        findings.faults.push(OptionFault::new(
                            key,
                            flag.source(),
                            "a value is missing",
                            format!("write {}=VALUE", plain(&flag.written)),
                        ));
                    }
                }
            }
        }
    }
    rest.extend(arguments);
    Arguments { flags: Flags(findings), rest }
}

/// Records a value: a list's is appended, any other replaces an earlier one.
fn add(findings: &mut FoundOptions, id: Id, text: &str, source: Source) {
    match findings.given.iter_mut().find(|given| given.id == id) {
        None => findings.add_text(id, text, source),
        Some(Given { value: Raw::List(items), .. }) => items.extend(split_list(text, &source)),
        Some(given) => *given = Given { id, value: Raw::Text(text.to_owned()), source },
    }
}

/// An argument that looks like a flag with a long name.
struct Flag {
    /// With its dashes, without its value.
    written: String,
    name: String,
    value: Option<String>,
}

impl Flag {
    fn read(argument: &OsStr) -> Option<Self> {
        let text = argument.to_string_lossy();
        let (written, value) = match text.split_once('=') {
            Some((written, value)) => (written, Some(value.to_owned())),
            None => (&*text, None),
        };
        let name = written.strip_prefix('-')?;
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() || name.starts_with('-') {
            return None;
        }
        Some(Self { written: written.to_owned(), name: name.to_owned(), value })
    }

    /// Whether it is clap's `-f` with the path attached. No option of Traefik begins like this.
    fn is_file(&self) -> bool {
        self.written.starts_with("-f")
    }

    fn source(&self) -> Source {
        Source::flag(&self.written)
    }
}
