//! Reads manifests of a git revision with the `git` program.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kubernetes::manifests::{Manifests, is_manifest};

/// The maximum size of one file and of all files together.
const BYTES_LIMIT: u64 = 1 << 30;

/// Why a revision can't be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git: {0}")]
    Io(#[from] std::io::Error),
    #[error("git {command}: {message}")]
    Failed { command: &'static str, message: String },
    #[error("git: more than {BYTES_LIMIT} bytes: name a subfolder")]
    TooLong,
    #[error("git: no manifests in this folder (files named *.yaml, *.yml or *.json)")]
    NoManifest,
}

/// Reads a file, or a folder with all below it, of a revision. `name` is git's `REVISION:PATH`, and
/// `folder` is in the repository.
///
/// # Errors
/// See [`GitError`].
pub fn read(folder: &Path, name: &str) -> Result<Manifests, GitError> {
    // After --end-of-options nothing is parsed as an option. Everything below uses object ids.
    let id = text(git(folder, "rev-parse", &["--verify", "--quiet", "--end-of-options", name]), "rev-parse")
        .map_err(|error| match error {
            GitError::Failed { command, message } if message.is_empty() => {
                GitError::Failed { command, message: format!("there is no {name:?} in this repository") }
            }
            other => other,
        })?;
    let id = id.trim().to_owned();
    let kind = text(git(folder, "cat-file", &["-t", &id]), "cat-file")?;
    let mut manifests = Manifests::default();
    if kind.trim() == "blob" {
        contents(folder, &[(format!("git:{name}"), id)], &mut manifests)?;
        return Ok(manifests);
    }
    let listed = text(git(folder, "ls-tree", &["-r", "-z", "--full-tree", &id]), "ls-tree")?;
    let separator = if name.ends_with([':', '/']) { "" } else { "/" };
    let files: Vec<(String, String)> = listed
        .split_terminator('\0')
        .filter_map(|entry| {
            let (about, path) = entry.split_once('\t')?;
            // Links and submodules are not files.
            let blob = about.strip_prefix("100644 blob ").or_else(|| about.strip_prefix("100755 blob "))?;
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            let wanted = !hidden && is_manifest(path.as_ref());
            wanted.then(|| (format!("git:{name}{separator}{path}"), blob.to_owned()))
        })
        .collect();
    if files.is_empty() {
        return Err(GitError::NoManifest);
    }
    contents(folder, &files, &mut manifests)?;
    Ok(manifests)
}

fn git(folder: &Path, command: &'static str, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).arg(command).args(arguments).stdin(Stdio::null());
    git
}

fn text(mut git: Command, command: &'static str) -> Result<String, GitError> {
    let output = git.output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(GitError::Failed { command, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Adds the contents of blobs, by their ids, each under its name.
fn contents(folder: &Path, files: &[(String, String)], manifests: &mut Manifests) -> Result<(), GitError> {
    let mut child =
        git(folder, "cat-file", &["--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
    };
    let read = std::thread::scope(|scope| {
        // Written concurrently, since git answers before it has read everything.
        scope.spawn(move || files.iter().try_for_each(|(_, id)| writeln!(stdin, "{id}")));
        let mut stdout = BufReader::new(stdout);
        let read = files.iter().try_fold(0, |total, (name, _)| {
            let mut head = String::new();
            (&mut stdout).take(200).read_line(&mut head)?;
            let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
            let size =
                size.ok_or(GitError::Failed { command: "cat-file", message: head.trim().to_owned() })?;
            if total + size > BYTES_LIMIT {
                return Err(GitError::TooLong);
            }
            let mut bytes = Vec::new();
            (&mut stdout).take(size + 1).read_to_end(&mut bytes)?;
            bytes.pop();
            manifests.add(&name.as_str().into(), &bytes);
            Ok(total + size)
        });
        drop(stdout);
        read
    });
    child.wait()?;
    read.map(|_| ())
}
