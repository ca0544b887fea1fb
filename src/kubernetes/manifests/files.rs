//! From what a command line names to the bytes of files.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Bytes of one file, or of standard input, that are read. 50,000 Ingresses with all that they need are a tenth.
const FILE_LIMIT: u64 = 1 << 30;
/// Directories within directories that are followed.
const DEPTH_LIMIT: usize = 32;
/// What the names of manifests end in.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A file of this name says how manifests are put together, and need not have a kind.
const KUSTOMIZATION: &str = "kustomization";

/// A source of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestSource {
    /// Standard input.
    Stdin,
    /// A file, or a directory with all below it.
    Path(PathBuf),
}

impl From<PathBuf> for ManifestSource {
    /// `-` is standard input.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::Path(path) }
    }
}

/// A source that can't be read at all.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The system refuses.
    #[error("{path}: {error}: name a readable file or directory, or - for standard input")]
    Io {
        /// What was to be read.
        path: String,
        /// Why it could not be.
        error: io::Error,
    },
    /// It is too long.
    #[error("{path}: longer than {FILE_LIMIT} bytes: split it into several files")]
    TooLong {
        /// What was to be read.
        path: String,
    },
    /// A directory holds nothing that could be read.
    #[error("{path}: no manifest in this directory: the names of manifests end in .yaml, .yml or .json")]
    NoManifest {
        /// The directory.
        path: String,
    },
    /// Directories lie too deep.
    #[error("{path}: more than {DEPTH_LIMIT} directories deep: name a directory further down")]
    TooDeep {
        /// The directory.
        path: String,
    },
    /// Standard input can be read but once.
    #[error("-: standard input is named twice: name it once")]
    StdinTwice,
}

fn io_error(path: impl fmt::Display, error: io::Error) -> ManifestError {
    ManifestError::Io { path: path.to_string(), error }
}

/// Reads every source in its order and hands the files on, each with its name.
pub fn read_all(
    sources: &[ManifestSource],
    stdin: impl Read,
    mut hand_on: impl FnMut(&Arc<str>, Vec<u8>),
) -> Result<(), ManifestError> {
    let mut stdin = Some(stdin);
    for source in sources {
        match source {
            ManifestSource::Stdin => {
                let stdin = stdin.take().ok_or(ManifestError::StdinTwice)?;
                let name: Arc<str> = "standard input".into();
                hand_on(&name, read_bounded(stdin, 0, &name)?);
            }
            ManifestSource::Path(path) => {
                for file in files_of(path)? {
                    let name: Arc<str> = file.to_string_lossy().into();
                    let open = fs::File::open(&file).map_err(|error| io_error(&name, error))?;
                    let size = open.metadata().map_or(0, |metadata| metadata.len());
                    hand_on(&name, read_bounded(open, size, &name)?);
                }
            }
        }
    }
    Ok(())
}

fn read_bounded(from: impl Read, size: u64, name: &str) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(FILE_LIMIT)).unwrap_or(0));
    from.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| io_error(name, error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(ManifestError::TooLong { path: name.to_owned() });
    }
    Ok(bytes)
}

/// A file itself, or the manifests of a directory and of those below it, sorted by path. What begins with a dot
/// is left alone there: version control, editors, and the inner side of a mounted ConfigMap.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path.display(), error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = BTreeSet::new();
    let mut above = Vec::new();
    walk(path, &mut above, &mut files)?;
    if files.is_empty() {
        return Err(ManifestError::NoManifest { path: path.display().to_string() });
    }
    Ok(files.into_iter().collect())
}

fn walk(
    directory: &Path,
    above: &mut Vec<PathBuf>,
    files: &mut BTreeSet<PathBuf>,
) -> Result<(), ManifestError> {
    let failed = |error| io_error(directory.display(), error);
    // A link to a directory above would never end.
    let real = fs::canonicalize(directory).map_err(failed)?;
    if above.contains(&real) {
        return Ok(());
    }
    if above.len() >= DEPTH_LIMIT {
        return Err(ManifestError::TooDeep { path: directory.display().to_string() });
    }
    above.push(real);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let is_manifest = path
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
            && path.file_stem().is_none_or(|stem| stem != KUSTOMIZATION);
        // A link that leads nowhere costs nothing as long as it is no manifest.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, above, files)?,
            // Reading a pipe, a socket or a device might never end.
            Ok(metadata) if metadata.is_file() && is_manifest => {
                files.insert(path);
            }
            Err(error) if is_manifest => return Err(io_error(path.display(), error)),
            _ => {}
        }
    }
    above.pop();
    Ok(())
}
