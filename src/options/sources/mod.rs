//! Reads options from flags, variables and a file. Each reader finds values and their places; their meaning is decided
//! elsewhere.

use super::fault::{OptionFault, Source};
use super::names;
use super::table::{Form, Id, ValueKind};

pub mod document;
pub mod file;
pub mod flag;
pub mod variable;

/// A value as it was written. No `Debug`, since it may be the token.
#[derive(Clone, PartialEq)]
pub(crate) enum Raw {
    Text(String),
    /// Texts, each with its position.
    List(Vec<(String, Source)>),
}

/// A value of an option.
#[derive(Clone)]
pub(crate) struct Given {
    pub id: Id,
    pub value: Raw,
    pub source: Source,
}

/// The content of one source.
#[derive(Clone, Default)]
pub(crate) struct FoundOptions {
    /// Values; each key occurs at most once.
    pub given: Vec<Given>,
    pub config_file: Option<(String, Source)>,
    /// The position of `ingressEndpoint` if it has none of its options.
    pub empty_endpoint: Option<Source>,
    /// The position of [`names::SLIP`].
    pub slip: Option<Source>,
    pub ignored: Vec<String>,
    pub faults: Vec<OptionFault>,
}

impl FoundOptions {
    /// Records a value that a flag or a variable gives as text. A list is split at commas.
    fn add_text(&mut self, id: Id, text: &str, source: Source) {
        let value = match id.entry().kind {
            ValueKind::List(_) => Raw::List(split_list(text, &source)),
            _ => Raw::Text(text.to_owned()),
        };
        self.given.push(Given { id, value, source });
    }

    /// Checks the value of [`names::SWITCH`].
    fn check_switch(&mut self, text: &str, source: Source) {
        match super::check::boolean(text) {
            Ok(true) => {}
            Ok(false) => self.faults.push(
                OptionFault::new(
                    names::SWITCH,
                    source,
                    "turned off, which leaves nothing to do",
                    "write true, or leave it out",
                )
                .value(text),
            ),
            // Not shown: a forgotten space (`token:SECRET`) turns the whole section into a text.
            Err(wrong) => {
                let remedy = format!("{}, or the options below it", wrong.remedy);
                self.faults.push(OptionFault::new(names::SWITCH, source, wrong.wrong, remedy));
            }
        }
    }

    /// A section has a value, or has a form that allows none.
    fn section_has_no_value(&mut self, section: &str, source: Source, form: Form) {
        let remedy = format!("give its options, such as {}", names::options_of(section, form));
        self.faults.push(OptionFault::new(section, source, "a section has no value of its own", remedy));
    }

    /// A name is unknown.
    fn unknown(&mut self, written: &str, name: &str, source: Source, form: Form) {
        let (wrong, remedy) = names::unknown(name, form);
        self.faults.push(OptionFault::new(written, source, wrong, remedy));
    }

    /// A key occurs twice.
    fn twice(&mut self, key: &str, source: Source) {
        self.faults.push(OptionFault::new(
            key,
            source,
            "given twice, in two spellings",
            "leave one of them out",
        ));
    }
}

/// The items of a list that is written as one text: split at commas and trimmed. An empty text and `[]` are the empty
/// list.
fn split_list(text: &str, source: &Source) -> Vec<(String, Source)> {
    match text.trim() {
        "" | "[]" => Vec::new(),
        text => text.split(',').map(|item| (item.trim().to_owned(), source.clone())).collect(),
    }
}
