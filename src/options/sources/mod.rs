//! Where options are written: flags, variables, a file. Each reader finds values and says where; what they mean is
//! decided elsewhere.

use super::fault::{OptionFault, Source};
use super::names;
use super::table::{Form, Id, ValueKind};

pub mod document;
pub mod file;
pub mod flag;
pub mod variable;

/// A value as it was written. No `Debug`: it may be the token.
#[derive(Clone, PartialEq)]
pub(crate) enum Raw {
    Text(String),
    /// Texts, each with its own place.
    List(Vec<(String, Source)>),
}

/// A value of an option.
#[derive(Clone)]
pub(crate) struct Given {
    pub id: Id,
    pub value: Raw,
    pub source: Source,
}

/// What one source holds.
#[derive(Clone, Default)]
pub(crate) struct FoundOptions {
    /// Values; a key comes at most once.
    pub given: Vec<Given>,
    pub config_file: Option<(String, Source)>,
    /// Where `ingressEndpoint` stands without any of its options.
    pub empty_endpoint: Option<Source>,
    /// Where [`names::SLIP`] stands.
    pub slip: Option<Source>,
    pub ignored: Vec<String>,
    pub faults: Vec<OptionFault>,
}

impl FoundOptions {
    /// Notes a value given as text by a flag or a variable: of a list, one that is split at commas.
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
                    "switched off, which leaves nothing to do",
                    "write true, or leave it out",
                )
                .value(text),
            ),
            // Not shown: a forgotten blank (`token:SECRET`) makes a text of the whole section.
            Err(wrong) => {
                let remedy = format!("{}, or the options below it", wrong.remedy);
                self.faults.push(OptionFault::new(names::SWITCH, source, wrong.wrong, remedy));
            }
        }
    }

    /// A section was given a value, or given in a form that has none.
    fn section_has_no_value(&mut self, section: &str, source: Source, form: Form) {
        let remedy = format!("give its options, such as {}", names::options_of(section, form));
        self.faults.push(OptionFault::new(section, source, "a section has no value of its own", remedy));
    }

    /// A name is nobody's.
    fn unknown(&mut self, written: &str, name: &str, source: Source, form: Form) {
        let (wrong, remedy) = names::unknown(name, form);
        self.faults.push(OptionFault::new(written, source, wrong, remedy));
    }

    /// A key is there twice.
    fn twice(&mut self, key: &str, source: Source) {
        self.faults.push(OptionFault::new(
            key,
            source,
            "given twice, in two spellings",
            "leave one of them out",
        ));
    }
}

/// The items of a list that is written as one text: split at commas and trimmed. Nothing and `[]` are the empty list.
fn split_list(text: &str, source: &Source) -> Vec<(String, Source)> {
    match text.trim() {
        "" | "[]" => Vec::new(),
        text => text.split(',').map(|item| (item.trim().to_owned(), source.clone())).collect(),
    }
}
