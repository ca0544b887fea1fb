//! Child processes that never outlive the tests.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process_group};

pub use rustix::process::Signal;

use super::eventually;

/// A process in a group of its own; dropping it kills the group.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(name: &str, command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id, which is its group's id as well.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal to it and all its children.
    pub fn signal(&self, signal: Signal) {
        // An error means that it is gone already.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), within, async || self.exited().ok_or("it still runs")).await
    }

    /// What it wrote to standard output and standard error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of that.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A shell that waits until this process lets go of its standard input, and then kills what still runs and
/// removes the folder. The kernel closes the pipe however the tests end, SIGKILL and Ctrl-C included, so no
/// process and no file stays behind; PR_SET_PDEATHSIG would do half of it, and only from unsafe code.
pub struct Janitor {
    folder: PathBuf,
    shell: Child,
    pipe: Option<ChildStdin>,
}

const SWEEP: &str = r#"
read -r _
while read -r group; do kill -KILL "-$group" 2>/dev/null; done <"$1/groups"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null
    [ -e "$1" ] || exit 0
    sleep 0.2
done
"#;

impl Janitor {
    pub fn of(folder: &Path) -> Self {
        File::create(folder.join("groups")).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", SWEEP, "janitor"])
            .arg(folder)
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pipe = shell.stdin.take();
        Self { folder: folder.to_owned(), shell, pipe }
    }

    pub fn add(&self, process: &Process) {
        let mut groups = OpenOptions::new().append(true).open(self.folder.join("groups")).unwrap();
        writeln!(groups, "{}", process.id()).unwrap();
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
