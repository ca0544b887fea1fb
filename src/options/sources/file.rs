//! Reads options from Traefik's static configuration file.

use std::collections::BTreeSet;

use super::document::{self, DocumentContent, DocumentNode};
use super::{Form, FoundOptions, Given, Raw};
use crate::options::fault::{OptionFault, Source, plain};
use crate::options::names::{self, Name};
use crate::options::table::{Entry, Id, ValueKind};

/// The section that needs one of its options.
const INGRESS_ENDPOINT: &str = "providers.kubernetesIngress.ingressEndpoint";

/// Finds the options in the text of a file. The file extension determines the format.
pub(crate) fn read(path: &str, text: &str) -> FoundOptions {
    let mut reader = FileReader { path, findings: FoundOptions::default() };
    let lower = path.to_ascii_lowercase();
    let (format, parsed) = if lower.ends_with(".toml") {
        ("TOML", document::toml(text))
    } else if lower.ends_with(".yaml") || lower.ends_with(".yml") {
        ("YAML", document::yaml(text))
    } else {
        reader.fault(
            names::CONFIG_FILE,
            0,
            "the file extension is neither YAML's nor TOML's",
            "name the file .yaml, .yml or .toml",
        );
        return reader.findings;
    };
    match parsed {
        Ok(root) => reader.root(&root),
        Err(broken) => {
            reader.fault(
                names::CONFIG_FILE,
                broken.line,
                broken.wrong,
                format!("fix the {format} of the file"),
            );
        }
    }
    reader.findings
}

struct FileReader<'a> {
    path: &'a str,
    findings: FoundOptions,
}

impl FileReader<'_> {
    fn source(&self, line: usize) -> Source {
        Source::File { path: self.path.to_owned(), line }
    }

    fn fault(&mut self, key: &str, line: usize, wrong: impl Into<String>, remedy: impl Into<String>) {
        let source = self.source(line);
        self.findings.faults.push(OptionFault::new(key, source, wrong, remedy));
    }

    fn root(&mut self, root: &DocumentNode) {
        match &root.content {
            DocumentContent::Null => {}
            DocumentContent::Map(_) => self.map("", root),
            other => self.fault(
                names::CONFIG_FILE,
                root.line,
                format!("{} where the sections of a configuration are expected", what(other)),
                "write sections such as providers",
            ),
        }
    }

    /// Reads the keys of the map at the dotted path `above`.
    fn map(&mut self, above: &str, node: &DocumentNode) {
        let DocumentContent::Map(entries) = &node.content else { return };
        let mut seen = BTreeSet::new();
        for (key, value) in entries {
            let name = if above.is_empty() { key.text.clone() } else { format!("{above}.{}", key.text) };
            let source = self.source(key.line);
            // A dot within a key would make it look like a key of another section.
            let known = if key.text.contains('.') { Name::Unknown } else { names::resolve(&name) };
            if !seen.insert(key.text.to_ascii_lowercase()) {
                self.findings.twice(&name, source);
                continue;
            }
            match known {
                Name::Option(entry) => self.option(entry, key.line, value),
                Name::Switch => self.switch(key.line, value),
                Name::Section(section) => self.section(section, key.line, value),
                Name::Traefik => {
                    if let Some(line) = self.slip(&name, value) {
                        self.findings.slip = Some(self.source(line));
                    }
                    self.findings.ignored.push(plain(&name));
                }
                Name::Unknown | Name::ConfigFile => {
                    self.findings.unknown(&name, &name, source, Form::File);
                }
            }
        }
    }

    fn switch(&mut self, line: usize, value: &DocumentNode) {
        match &value.content {
            DocumentContent::Null => {}
            DocumentContent::Map(_) => self.map(names::SWITCH, value),
            DocumentContent::Scalar(text) => {
                let source = self.source(line);
                self.findings.check_switch(text, source);
            }
            DocumentContent::List(_) => {
                self.fault(
                    names::SWITCH,
                    line,
                    "a list where a map is expected",
                    "write true, or the options below it",
                );
            }
        }
    }

    fn section(&mut self, section: &'static str, line: usize, value: &DocumentNode) {
        match &value.content {
            DocumentContent::Null => {}
            DocumentContent::Map(entries) => {
                if entries.is_empty() && section == INGRESS_ENDPOINT {
                    self.findings.empty_endpoint = Some(self.source(line));
                }
                self.map(section, value);
            }
            _ => {
                let source = self.source(line);
                self.findings.section_has_no_value(section, source, Form::File);
            }
        }
    }

    fn option(&mut self, entry: &'static Entry, line: usize, value: &DocumentNode) {
        let source = self.source(line);
        match (&value.content, entry.kind) {
            // Unset means no restriction, which must not result from forgetting the list's items.
            (DocumentContent::Null, _) if entry.id == Id::CrossProviderNamespaces => {
                self.fault(
                    entry.key,
                    line,
                    "no value",
                    "write [] to allow none, or leave the key out for no restriction",
                );
            }
            (DocumentContent::Null, _) => {}
            (DocumentContent::Scalar(text), _) => self.findings.add_text(entry.id, text, source),
            (DocumentContent::List(items), ValueKind::List(_)) => {
                let mut texts = Vec::new();
                for item in items {
                    match &item.content {
                        DocumentContent::Scalar(text) => texts.push((text.clone(), self.source(item.line))),
                        other => {
                            let wrong = format!("{} where an item of a list is expected", what(other));
                            self.fault(entry.key, item.line, wrong, "write a text");
                        }
                    }
                }
                self.findings.given.push(Given { id: entry.id, value: Raw::List(texts), source });
            }
            (other, kind) => {
                let wrong = format!("{} where a {} is expected", what(other), kind.name());
                self.fault(entry.key, line, wrong, "write one value");
            }
        }
    }

    /// The line of [`names::SLIP`], if it is below `name`.
    fn slip(&self, name: &str, value: &DocumentNode) -> Option<usize> {
        let (section, last) = names::SLIP.rsplit_once('.')?;
        let DocumentContent::Map(entries) = &value.content else { return None };
        let entries = if section.eq_ignore_ascii_case(name) { entries } else { return None };
        entries.iter().find(|(key, _)| key.text.eq_ignore_ascii_case(last)).map(|(key, _)| key.line)
    }
}

fn what(content: &DocumentContent) -> &'static str {
    match content {
        DocumentContent::Null => "nothing",
        DocumentContent::Scalar(_) => "a text",
        DocumentContent::List(_) => "a list",
        DocumentContent::Map(_) => "a map",
    }
}
