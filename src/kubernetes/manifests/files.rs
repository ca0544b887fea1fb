//! Turns the paths on a command line into the contents of files.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use walkdir::{DirEntry, WalkDir};

use crate::redact::printable;

/// Maximum size of a file, or of standard input. 50,000 Ingresses with all their objects need a tenth of this.
const FILE_LIMIT: u64 = 1 << 30;
/// Maximum depth of directories.
const DEPTH_LIMIT: usize = 32;
/// The file extensions of manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The name of kustomize's file, which need not have a kind.
const KUSTOMIZATION: &str = "kustomization";

/// A path that can't be read at all.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("{}: {error}: name a readable file or directory, or - for standard input", printable(.path))]
    Io { path: String, error: io::Error },
    #[error("{}: longer than {FILE_LIMIT} bytes: split it into several files", printable(.0))]
    TooLong(String),
    #[error("{}: no manifest in this directory: the names of manifests end in .yaml, .yml or .json", printable(.0))]
    NoManifest(String),
    #[error("{}: more than {DEPTH_LIMIT} directories deep: name a directory further down", printable(.0))]
    TooDeep(String),
    #[error("-: standard input is named twice: name it once")]
    StdinTwice,
}

fn io_error(path: impl fmt::Display, error: io::Error) -> ManifestError {
    ManifestError::Io { path: path.to_string(), error }
}

/// Reads every path in its order and passes on each file with its name.
pub fn read_all(
    paths: &[PathBuf],
    stdin: impl Read,
    mut hand_on: impl FnMut(&Arc<str>, Vec<u8>),
) -> Result<(), ManifestError> {
    let mut stdin = Some(stdin);
    for path in paths {
        if path.as_os_str() == "-" {
            let stdin = stdin.take().ok_or(ManifestError::StdinTwice)?;
            let name: Arc<str> = "standard input".into();
            hand_on(&name, read_bounded(stdin, 0, &name)?);
            continue;
        }
        for file in files_of(path)? {
            let name: Arc<str> = file.to_string_lossy().into();
            let open = fs::File::open(&file).map_err(|error| io_error(&name, error))?;
            let size = open.metadata().map_or(0, |metadata| metadata.len());
            hand_on(&name, read_bounded(open, size, &name)?);
        }
    }
    Ok(())
}

fn read_bounded(from: impl Read, size: u64, name: &str) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(FILE_LIMIT)).unwrap_or(0));
    from.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| io_error(name, error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(ManifestError::TooLong(name.to_owned()));
    }
    Ok(bytes)
}

/// A single file, or the manifests of a directory and those below it, sorted by path. Names that begin with a dot are
/// skipped: version control, editors, and the inner side of a mounted ConfigMap.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path.display(), error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let hidden =
        |entry: &DirEntry| entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
    let below = WalkDir::new(path).follow_links(true).sort_by_file_name();
    for entry in below.into_iter().filter_entry(|entry| !hidden(entry)) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() && entry.depth() >= DEPTH_LIMIT => {
                return Err(ManifestError::TooDeep(entry.path().display().to_string()));
            }
            // Reading a pipe, a socket or a device might never end.
            Ok(entry) if entry.file_type().is_file() && is_manifest(entry.path()) => {
                files.push(entry.into_path())
            }
            Ok(_) => {}
            // A link to a parent directory would never end.
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let at = error.path().unwrap_or(path).to_owned();
                // A dangling link does no harm unless it is a manifest.
                if is_manifest(&at) || !fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_symlink())
                {
                    return Err(io_error(at.display(), error.into()));
                }
            }
        }
    }
    if files.is_empty() {
        return Err(ManifestError::NoManifest(path.display().to_string()));
    }
    Ok(files)
}

/// Whether a file of a directory is read: by its name.
pub fn is_manifest(path: &Path) -> bool {
    let known = |ending: &OsStr| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known) && path.file_stem().is_none_or(|stem| stem != KUSTOMIZATION)
}
