//! Reads the user's own dynamic configuration (`--include`) and joins it with waybill's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::shard::{EntryKey, EntryKind};
use crate::table::Digest;
use crate::traefik::escape;

/// Limits for the number of files, and for their total size in bytes.
const FILES_LIMIT: usize = 256;
const BYTES_LIMIT: u64 = 4 << 20;

/// Traefik refuses a key of 1,024 bytes.
const KEY_LIMIT: usize = 1_023;

/// The sections that Traefik knows, and whether each is a list.
const SECTIONS: &[(&str, &str)] = &[
    ("http", "routers"),
    ("http", "services"),
    ("http", "middlewares"),
    ("http", "serversTransports"),
    ("tcp", "routers"),
    ("tcp", "services"),
    ("tcp", "middlewares"),
    ("tcp", "serversTransports"),
    ("udp", "routers"),
    ("udp", "services"),
    ("tls", "certificates"),
    ("tls", "options"),
    ("tls", "stores"),
];

/// The joined content of a folder's files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Included {
    /// Section by section: `("http", "middlewares")` to the entries by name.
    maps: BTreeMap<(&'static str, &'static str), BTreeMap<String, Value>>,
    certificates: Vec<Value>,
}

/// The folder of the user's files.
///
/// A process that starts does not know the previous content of a file that is wrong now. That file may be what keeps
/// strangers out, so it is not treated as absent. Until every file has been correct once, the content that was handed
/// on before this process started stays in use. If there is none, nothing is handed on.
#[derive(Debug)]
pub struct Include {
    folder: PathBuf,
    seen: Option<Digest>,
    /// The last correct content of each file.
    right: BTreeMap<String, Value>,
    /// Whether the folder was read once without a fault in a file that was never correct. From then on, a new file that
    /// is wrong counts as absent.
    decided: bool,
    /// The content of the files. Before that is known, the content that was handed on before this process started, if
    /// any.
    included: Option<Included>,
    /// Refused files and entries, with reasons.
    faults: Vec<String>,
    handed_on: Included,
    /// The content that Traefik loaded last. If Traefik has loaded nothing, there is nothing to go back to: without TLS
    /// options that belong there, a proxy would accept clients that it must refuse.
    loaded: Option<Included>,
    suspicion: Suspicion,
}

/// Whether Traefik refuses the current content of the files. Traefik knows more of its fields than waybill does. It
/// does not say which file it refuses; it just loads nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    None,
    /// Traefik did not load them, so the previously loaded content is handed on.
    Refused,
    /// Traefik has loaded the previous content, so the files are the cause.
    Proven,
    /// Traefik did not load the previous content either.
    Unfounded,
}

impl Include {
    /// Reads nothing before [`Self::reload`].
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            seen: None,
            right: BTreeMap::new(),
            decided: false,
            included: None,
            faults: Vec::new(),
            handed_on: Included::default(),
            loaded: None,
            suspicion: Suspicion::None,
        }
    }

    /// What to hand on: the content of the files, or what Traefik had loaded before it refused that. `None` if nothing
    /// may be handed on yet.
    pub fn included(&self) -> Option<&Included> {
        match (self.suspicion, &self.loaded) {
            (Suspicion::Refused | Suspicion::Proven, Some(loaded)) => Some(loaded),
            _ => self.included.as_ref(),
        }
    }

    /// This document of ours was handed on before this process started. Returns false if it can't be used.
    pub fn resume(&mut self, document: &str) -> bool {
        let Ok(value) = parse("", document) else { return false };
        self.handed_on = join(&BTreeMap::from([(String::new(), value)]), &mut Vec::new());
        self.included = Some(self.handed_on.clone());
        true
    }

    /// [`Self::included`] is handed on.
    pub fn handed_on(&mut self) {
        self.handed_on = self.included().cloned().unwrap_or_default();
    }

    /// Traefik has loaded what was handed on.
    pub fn loaded(&mut self) {
        if self.loaded.as_ref() != Some(&self.handed_on) {
            self.loaded = Some(self.handed_on.clone());
        }
        if self.suspicion == Suspicion::Refused {
            let is_all = self.included.as_ref() == Some(&self.handed_on);
            self.suspicion = if is_all { Suspicion::None } else { Suspicion::Proven };
        }
    }

    /// Traefik answers but does not load what was handed on. Returns true if something else has to be handed on.
    pub fn not_loaded(&mut self) -> bool {
        let Some(loaded) = &self.loaded else { return false };
        self.suspicion = match self.suspicion {
            Suspicion::None
                if self.included.as_ref() == Some(&self.handed_on) && self.handed_on != *loaded =>
            {
                Suspicion::Refused
            }
            Suspicion::Refused if self.handed_on == *loaded => Suspicion::Unfounded,
            _ => return false,
        };
        true
    }

    /// All faults of the files.
    pub fn faults(&self) -> Vec<String> {
        let refused = matches!(self.suspicion, Suspicion::Refused | Suspicion::Proven).then(|| {
            format!(
                "{}: Traefik did not load the routing with these files, so their previous content is used; \
                 Traefik's log says what it refuses, and any change of a file triggers another attempt",
                self.folder.display()
            )
        });
        self.faults.iter().cloned().chain(refused).collect()
    }

    /// The consequence for a file that was never correct.
    fn instead(&self) -> &'static str {
        match (self.decided, &self.included) {
            (true, _) => "it is left out until it is fixed",
            (false, Some(_)) => "the content that is on disk stays in use",
            (false, None) => "nothing is handed to Traefik until it is fixed",
        }
    }

    /// Reads the folder again. Returns true if anything in it changed. For a file that can't be used, its last correct
    /// content is used; the same goes for a folder that can't be read.
    pub fn reload(&mut self) -> bool {
        let files = match read(&self.folder) {
            Ok(files) => files,
            Err(error) => {
                let stands = if self.decided {
                    "the previous content of its files stays in use"
                } else {
                    self.instead()
                };
                let fault = format!("{}: {error}; {stands}", self.folder.display());
                let changed = self.faults != [fault.clone()];
                self.faults = vec![fault];
                self.seen = None;
                return changed;
            }
        };
        let all: String = files.iter().map(|(name, text)| format!("{name}\0{text}\0")).collect();
        let digest = Digest::new(&all);
        if self.seen.replace(digest) == Some(digest) {
            return false;
        }
        self.right.retain(|name, _| files.contains_key(name));
        let mut faults = Vec::new();
        let mut known = true;
        for (name, text) in files {
            match parse(&name, &text).and_then(|value| check(&value).map(|()| value)) {
                Ok(value) => {
                    self.right.insert(name, value);
                }
                Err(reason) => {
                    let stands = if self.right.contains_key(&name) {
                        "its previous content stays in use"
                    } else {
                        known = false;
                        self.instead()
                    };
                    faults.push(format!("{}: {reason}; {stands}", self.folder.join(&name).display()));
                }
            }
        }
        self.decided |= known;
        if self.decided {
            self.included = Some(join(&self.right, &mut faults));
        }
        self.faults = faults;
        self.suspicion = Suspicion::None;
        true
    }
}

/// The text of all files, by name. Names that begin with a dot belong to editors and mounted ConfigMaps, and are
/// skipped.
fn read(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    let mut left = BYTES_LIMIT;
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = [".yaml", ".yml", ".json", ".toml"].iter().any(|ending| name.ends_with(ending));
        if name.starts_with('.') || !known || !entry.path().is_file() {
            continue;
        }
        if files.len() == FILES_LIMIT {
            return Err(format!("there are more than {FILES_LIMIT} files; merge some of them"));
        }
        let mut text = String::new();
        let file = std::fs::File::open(entry.path()).map_err(|error| format!("{name}: {error}"))?;
        file.take(left + 1).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))?;
        left = left
            .checked_sub(text.len() as u64)
            .ok_or(format!("the files have more than {BYTES_LIMIT} bytes in total"))?;
        files.insert(name, text);
    }
    Ok(files)
}

fn parse(name: &str, text: &str) -> Result<Value, String> {
    if name.ends_with(".toml") {
        return toml::from_str(text).map_err(|error| error.message().to_owned());
    }
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    // As Traefik's parser: `off` is a text. The error's own text may quote the file, which may hold a password.
    let options =
        serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
        Some(at) => format!("it is not YAML from line {}, column {} on", at.line(), at.column()),
        None => "it is not YAML".to_owned(),
    })
}

fn check(value: &Value) -> Result<(), String> {
    let top = value.as_object().ok_or("it is not a map with http, tcp, udp or tls")?;
    for (protocol, sections) in top {
        let known: Vec<&str> =
            SECTIONS.iter().filter(|(of, _)| of == protocol).map(|(_, section)| *section).collect();
        if known.is_empty() {
            return Err(format!("{protocol}: Traefik has no such section; use http, tcp, udp or tls"));
        }
        let sections = sections.as_object().filter(|map| !map.is_empty());
        let sections =
            sections.ok_or(format!("{protocol}: it is empty or not a map, which Traefik refuses"))?;
        for (section, entries) in sections {
            if !known.contains(&section.as_str()) {
                return Err(format!("{protocol}.{section}: Traefik knows only {}", known.join(", ")));
            }
            check_entries(section, entries).map_err(|reason| format!("{protocol}.{section}{reason}"))?;
        }
    }
    Ok(())
}

fn check_entries(section: &str, entries: &Value) -> Result<(), String> {
    if section == "certificates" {
        return if entries.as_array().is_some_and(|list| !list.is_empty()) {
            Ok(())
        } else {
            Err(": it is empty or not a list, which Traefik refuses".to_owned())
        };
    }
    let entries = entries.as_object().filter(|map| !map.is_empty());
    for (name, entry) in entries.ok_or(": it is empty or not a map, which Traefik refuses")? {
        if name.is_empty() || name.len() > KEY_LIMIT {
            return Err(": a name is empty or has 1,024 bytes or more".to_owned());
        }
        if section == "middlewares" && is_marker(name) {
            return Err(format!(".{name}: the name is waybill's own; choose another"));
        }
        if entry.as_object().is_none_or(|entry| entry.is_empty()) {
            return Err(format!(".{name}: it is empty or not a map, which Traefik refuses"));
        }
    }
    Ok(())
}

fn is_marker(name: &str) -> bool {
    let numbers = name.strip_prefix("waybill-").and_then(|rest| rest.split_once('-'));
    numbers
        .is_some_and(|(epoch, generation)| epoch.parse::<u64>().is_ok() && generation.parse::<u64>().is_ok())
}

/// Joins all files. If two files have the same name in a section, the first one is used.
fn join(files: &BTreeMap<String, Value>, faults: &mut Vec<String>) -> Included {
    let mut included = Included::default();
    for (file, value) in files {
        for (protocol, section) in SECTIONS {
            match value.get(protocol).and_then(|sections| sections.get(section)) {
                Some(Value::Array(list)) => included.certificates.extend(list.iter().cloned()),
                Some(Value::Object(entries)) => {
                    let all = included.maps.entry((protocol, section)).or_default();
                    for (name, entry) in entries {
                        if all.contains_key(name) {
                            let fault =
                                format!("{file}: {protocol}.{section}.{name}: another file has it too");
                            faults.push(fault);
                        } else {
                            all.insert(name.clone(), entry.clone());
                        }
                    }
                }
                _ => {}
            }
        }
    }
    included
}

impl Included {
    /// The routers and services.
    pub fn keys(&self) -> BTreeSet<EntryKey> {
        let kinds = [(EntryKind::Router, "routers"), (EntryKind::Service, "services")];
        let names = |section| self.maps.get(&("http", section)).into_iter().flat_map(BTreeMap::keys);
        kinds
            .into_iter()
            .flat_map(|(kind, section)| names(section).map(move |name| (kind, name.as_str().into())))
            .collect()
    }

    /// The entries of a section, each as `"name":{…}`, and certificates unchanged.
    pub fn lines(&self, protocol: &'static str, section: &'static str) -> Vec<String> {
        if section == "certificates" {
            return self.certificates.iter().map(escape::json).collect();
        }
        let entries = self.maps.get(&(protocol, section)).into_iter().flatten();
        entries.map(|(name, entry)| format!("{}:{}", escape::json(name), escape::json(entry))).collect()
    }

    /// As a document of its own.
    pub fn document(&self) -> String {
        sections(|protocol, section| self.lines(protocol, section))
    }
}

/// A document of all sections that have entries. `lines` returns them.
pub fn sections(lines: impl Fn(&'static str, &'static str) -> Vec<String>) -> String {
    let mut protocols: Vec<(&str, Vec<String>)> = Vec::new();
    for (protocol, section) in SECTIONS {
        let entries = lines(protocol, section);
        if entries.is_empty() {
            continue;
        }
        let (open, close) = if *section == "certificates" { ('[', ']') } else { ('{', '}') };
        let text = format!("\"{section}\":{open}\n{}\n{close}", entries.join(",\n"));
        match protocols.last_mut() {
            Some((last, texts)) if last == protocol => texts.push(text),
            _ => protocols.push((protocol, vec![text])),
        }
    }
    let protocols: Vec<String> =
        protocols.into_iter().map(|(name, texts)| format!("\"{name}\":{{{}}}", texts.join(","))).collect();
    format!("{{{}}}\n", protocols.join(","))
}

#[cfg(test)]
#[path = "include_tests.rs"]
mod tests;
