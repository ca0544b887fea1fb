//! The folder that Traefik's file provider reads.
//!
//! ```text
//! DIR/dynamic/                       what Traefik watches: providers.file.directory
//! DIR/dynamic/changed                renamed in after every change: the one event that makes Traefik read; holds NUMBER
//! DIR/dynamic/routing/NAME.yaml      fixed links to ../../current/NAME.yaml
//! DIR/current                        a link to the generation that counts, replaced by rename
//! DIR/generations/NUMBER/NAME.yaml   a generation: files that did not change are hard links to the last one's
//! DIR/generations/NUMBER/sums.json   what it is, and the sums of its files
//! ```
//!
//! Traefik watches its directory, and by themselves the files with a known ending that are directly in it when it
//! starts; it reads sub-directories and does not watch them. So nothing but the rename of `changed` is an event, and
//! old generations can go without one. A read while `current` is being replaced meets a link to nothing at worst, which
//! makes Traefik keep what it has until the event.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::error::NotHandedOn;
use crate::kubernetes::key::OutputKey;
use crate::published::index::CommitId;
use crate::table::Digest;

/// The folder to which Traefik is pointed, below the agent's folder.
pub const WATCHED: &str = "dynamic";

const LINKS: &str = "routing";
const CHANGED: &str = "changed";
const CURRENT: &str = "current";
const GENERATIONS: &str = "generations";
const SUMS: &str = "sums.json";

/// A file of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// This new text.
    Text(String),
    /// The same as in the last generation.
    Unchanged,
}

/// The state on disk, as in `sums.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnDisk {
    /// `NAMESPACE/NAME`; empty where an older agent wrote it.
    #[serde(default)]
    pub output: String,
    #[serde(flatten)]
    pub commit: CommitId,
    /// sha256 of the files by name, without `generation.yaml`.
    pub files: BTreeMap<String, String>,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// [`Folder::seed`]; 0 where an older agent wrote it.
    #[serde(default)]
    pub seed: u64,
}

impl OnDisk {
    /// One sum of all files.
    pub fn sum(&self) -> String {
        let all: String = self.files.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect();
        Digest::new(&all).short().to_string()
    }

    /// See [`marker`].
    pub fn marker(&self) -> (String, String) {
        marker(self.commit, &self.sum())
    }

    fn marker_file(&self) -> String {
        format!("{{\"http\":{{\"middlewares\":{{{}}}}}}}\n", marker_line(&self.marker()))
    }
}

/// Name and path prefix of the middleware that marks a generation in Traefik. No router uses it. The name contains
/// epoch and generation; the prefix also depends on the content.
pub fn marker(commit: CommitId, sum: &str) -> (String, String) {
    let CommitId { epoch, generation } = commit;
    (format!("waybill-{epoch}-{generation}"), format!("/{epoch}/{generation}/{sum}"))
}

/// The middleware as a line of a document.
pub fn marker_line((name, prefix): &(String, String)) -> String {
    format!("\"{name}\":{{\"addPrefix\":{{\"prefix\":\"{prefix}\"}}}}")
}

/// Sorts first in Traefik's order of reading, so that once Traefik shows a new marker, it has read everything else
/// after it.
const MARKER: &str = "generation.yaml";

/// The agent's folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    output: String,
    current: Option<OnDisk>,
    number: u64,
    seed: u64,
    /// Whether links, folders and so on are known to be in place.
    prepared: bool,
    _lock: File,
}

impl Folder {
    /// Opens the folder, creates it if it does not exist, and reads its content. The routing of another output stays for
    /// Traefik until there is something to write, and does not count as content. No other agent may use the folder.
    pub fn open(root: &Path, output: &OutputKey) -> Result<Self, NotHandedOn> {
        let failed = |action| move |source| NotHandedOn::Folder { path: root.to_owned(), action, source };
        make_folder(root).map_err(failed("making it"))?;
        // A folder can be locked like a file, and a lock on it leaves nothing behind.
        let lock = File::open(root).map_err(failed("opening it"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(source) => failed("locking it")(source),
            fs::TryLockError::WouldBlock => {
                failed("locking it")(io::Error::other("another waybill agent is using it"))
            }
        })?;
        let (root, output) = (root.to_owned(), output.to_string());
        let mut folder =
            Self { root, output, current: None, number: 0, seed: 0, prepared: false, _lock: lock };
        folder.number = folder.highest_number();
        folder.current = folder.read_current();
        let seed = folder.current.as_ref().map(|current| current.seed).filter(|seed| *seed != 0);
        folder.seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        folder.finish();
        folder.remove_others();
        if let Some(other) = folder.current.take() {
            if other.output.is_empty() || other.output == folder.output {
                folder.current = Some(other);
            } else {
                let (root, output) = (folder.root.display(), &folder.output);
                let other = other.output;
                tracing::warn!(
                    "{root} holds the routing of {other}, which Traefik keeps until that of {output} is written"
                );
            }
        }
        Ok(folder)
    }

    /// Finishes the work of an agent that was killed. Traefik refuses everything if a link is dangling, and has not
    /// read a generation whose event is missing.
    fn finish(&mut self) {
        let Some(current) = &self.current else { return };
        self.remove_other_links(current);
        let raised = fs::read_to_string(self.path(WATCHED).join(CHANGED)).ok();
        if raised != self.current_number() && self.raise().is_err() {
            // The next generation is written completely, with an event.
            self.current = None;
        }
    }

    fn current_number(&self) -> Option<String> {
        fs::read_link(self.path(CURRENT)).ok()?.file_name()?.to_str().map(str::to_owned)
    }

    /// What Traefik reads now; `None` if there is nothing, or if it does not match its sums.
    pub fn current(&self) -> Option<&OnDisk> {
        self.current.as_ref()
    }

    /// A random number that is kept with what is on disk, see [`super::assembly::Assembly::new`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The text of a file of the current generation.
    pub fn text(&self, name: &str) -> Option<String> {
        self.current.as_ref()?.files.get(name)?;
        fs::read_to_string(self.path(CURRENT).join(name)).ok()
    }

    /// Whether the files on disk are unchanged. If not, the next generation is written completely.
    pub fn check(&mut self) -> bool {
        let intact = self.read_current() == self.current;
        match &self.current {
            Some(current) if intact => self.remove_other_links(current),
            _ if intact => {}
            _ => (self.current, self.prepared) = (None, false),
        }
        intact
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn highest_number(&self) -> u64 {
        let entries = fs::read_dir(self.path(GENERATIONS)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or_default()
    }

    /// Reads and checks the generation to which `current` points.
    fn read_current(&self) -> Option<OnDisk> {
        let current = self.path(CURRENT);
        let on_disk: OnDisk = serde_json::from_slice(&fs::read(current.join(SUMS)).ok()?).ok()?;
        let right = |name: &str, text: &str| {
            let linked = fs::read_link(self.path(WATCHED).join(LINKS).join(name));
            linked.is_ok_and(|link| link == link_target(name))
                && fs::read_to_string(current.join(name)).is_ok_and(|found| found == text)
        };
        let whole = on_disk.files.iter().all(|(name, sum)| {
            fs::read_to_string(current.join(name))
                .is_ok_and(|text| Digest::new(&text).to_string() == *sum && right(name, &text))
        });
        (whole && right(MARKER, &on_disk.marker_file())).then_some(on_disk)
    }

    /// Writes a generation and makes Traefik read it. Returns false, and writes nothing, if no byte differs from what
    /// Traefik reads now.
    pub fn write(
        &mut self,
        commit: CommitId,
        files: BTreeMap<String, FileContent>,
    ) -> Result<bool, NotHandedOn> {
        let last = self.current.as_ref();
        let output = self.output.clone();
        let mut next = OnDisk { output, commit, files: BTreeMap::new(), bytes: 0, seed: self.seed };
        for (name, content) in &files {
            let sum = match content {
                FileContent::Text(text) => Digest::new(text).to_string(),
                FileContent::Unchanged => {
                    let sum = last.and_then(|last| last.files.get(name)).cloned();
                    sum.ok_or_else(|| {
                        self.failed(name, "linking it", io::Error::from(io::ErrorKind::NotFound))
                    })?
                }
            };
            next.files.insert(name.clone(), sum);
        }
        if last.is_some_and(|last| last.files == next.files) {
            return Ok(false);
        }
        self.prepare()?;
        self.number += 1;
        let replaced = self.replace(&mut next, files);
        // Also after a failure: they take space that the next attempt may need.
        self.remove_others();
        match replaced {
            Ok(()) => self.current = Some(next),
            Err(_) => self.prepared = false,
        }
        replaced.map(|()| true)
    }

    fn replace(&self, next: &mut OnDisk, files: BTreeMap<String, FileContent>) -> Result<(), NotHandedOn> {
        self.write_generation(next, files)?;
        self.link_missing(next)?;
        self.replace_current()?;
        self.remove_other_links(next);
        self.raise()
    }

    fn failed(&self, name: &str, action: &'static str, source: io::Error) -> NotHandedOn {
        NotHandedOn::Folder { path: self.root.join(name), action, source }
    }

    fn generation_folder(&self) -> PathBuf {
        self.path(GENERATIONS).join(self.number.to_string())
    }

    /// Checks whether a generation can be written: creates what is missing, and leaves no trace where Traefik would see
    /// it.
    pub fn check_writable(&mut self) -> Result<(), NotHandedOn> {
        self.prepared = false;
        self.prepare()?;
        let links = format!("{WATCHED}/{LINKS}");
        for path in [self.root.clone(), self.path(GENERATIONS), self.path(WATCHED), self.path(&links)] {
            access(&path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| NotHandedOn::Folder {
                path,
                action: "writing into it",
                source: error.into(),
            })?;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), NotHandedOn> {
        if self.prepared {
            return Ok(());
        }
        for name in [GENERATIONS.to_owned(), WATCHED.to_owned(), format!("{WATCHED}/{LINKS}")] {
            make_folder(&self.path(&name)).map_err(|source| self.failed(&name, "making it", source))?;
        }
        self.prepared = true;
        Ok(())
    }

    fn write_generation(
        &self,
        next: &mut OnDisk,
        files: BTreeMap<String, FileContent>,
    ) -> Result<(), NotHandedOn> {
        let folder = self.generation_folder();
        let relative = format!("{GENERATIONS}/{}", self.number);
        let failed = |action| move |source| (action, source);
        make_folder(&folder).map_err(|source| self.failed(&relative, "making it", source))?;
        for (name, content) in files {
            let path = folder.join(&name);
            let unchanged = matches!(content, FileContent::Unchanged)
                || self.current.as_ref().is_some_and(|last| last.files.get(&name) == next.files.get(&name));
            let result = match content {
                FileContent::Text(text) if !unchanged => {
                    write_new(&path, &text).map_err(failed("writing it"))
                }
                _ => fs::hard_link(self.path(CURRENT).join(&name), &path).map_err(failed("linking it")),
            };
            let length = result.and_then(|()| fs::metadata(&path).map_err(failed("reading it")));
            next.bytes += length
                .map_err(|(action, source)| self.failed(&format!("{relative}/{name}"), action, source))?
                .len();
        }
        let sums = serde_json::to_string(next).unwrap_or_default();
        for (name, text) in [(MARKER, next.marker_file()), (SUMS, sums)] {
            write_new(&folder.join(name), &text)
                .map_err(|source| self.failed(&format!("{relative}/{name}"), "writing it", source))?;
        }
        Ok(())
    }

    fn link_missing(&self, next: &OnDisk) -> Result<(), NotHandedOn> {
        let folder = self.path(WATCHED).join(LINKS);
        for name in next.files.keys().map(String::as_str).chain([MARKER]) {
            let (link, target) = (folder.join(name), link_target(name));
            if fs::read_link(&link).is_ok_and(|found| found == target) {
                continue;
            }
            // A file in the place of a link is removed. A folder there belongs to somebody else and is an error.
            let draft = self.path("link.new");
            let _ = fs::remove_file(&draft);
            symlink(&target, &draft)
                .and_then(|()| fs::rename(&draft, &link))
                .map_err(|source| self.failed(&format!("{WATCHED}/{LINKS}/{name}"), "linking it", source))?;
        }
        Ok(())
    }

    fn replace_current(&self) -> Result<(), NotHandedOn> {
        let draft = self.path("current.new");
        let _ = fs::remove_file(&draft);
        symlink(Path::new(GENERATIONS).join(self.number.to_string()), &draft)
            .and_then(|()| fs::rename(&draft, self.path(CURRENT)))
            .map_err(|source| self.failed(CURRENT, "replacing it", source))
    }

    /// Removes our dangling links. Otherwise Traefik would refuse everything.
    fn remove_other_links(&self, next: &OnDisk) {
        for name in self.links() {
            if name != MARKER && !next.files.contains_key(&name) {
                let link = self.path(WATCHED).join(LINKS).join(&name);
                if fs::read_link(&link).is_ok_and(|target| target == link_target(&name)) {
                    let _ = fs::remove_file(link);
                }
            }
        }
    }

    fn links(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path(WATCHED).join(LINKS)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Triggers the one event. Traefik reads on any event in its directory, whatever the file is called.
    fn raise(&self) -> Result<(), NotHandedOn> {
        let draft = self.path("changed.new");
        let _ = fs::remove_file(&draft);
        write_new(&draft, &self.current_number().unwrap_or_default())
            .and_then(|()| fs::rename(&draft, self.path(WATCHED).join(CHANGED)))
            .map_err(|source| self.failed(&format!("{WATCHED}/{CHANGED}"), "renaming it in", source))
    }

    /// Removes all generations except the one that Traefik reads, because they contain private keys.
    fn remove_others(&self) {
        let current = self.current_number();
        if current.is_none() && fs::symlink_metadata(self.path(CURRENT)).is_ok() {
            // Somebody has replaced the link, so it is unknown which one that is.
            return;
        }
        for entry in fs::read_dir(self.path(GENERATIONS)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.parse::<u64>().is_ok() && current.as_ref() != Some(&name) {
                // What can't be removed now is tried again with the next generation.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Files in the folder that Traefik reads which are not waybill's. They are left alone.
    pub fn strangers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let of_generation = |name: &str| {
            name == MARKER || self.current.as_ref().is_some_and(|current| current.files.contains_key(name))
        };
        for (folder, known) in [
            (WATCHED.to_owned(), &(|name: &str| name == LINKS || name == CHANGED) as &dyn Fn(&str) -> bool),
            (format!("{WATCHED}/{LINKS}"), &of_generation),
        ] {
            for entry in fs::read_dir(self.path(&folder)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !known(&name) {
                    found.push(format!("{folder}/{name}"));
                }
            }
        }
        found.sort();
        found
    }
}

fn link_target(name: &str) -> PathBuf {
    Path::new("../..").join(CURRENT).join(name)
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The folder contains private keys, so only this user, who is also Traefik's, may read it.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
