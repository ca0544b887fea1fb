//! Traefik's own provider as a process: what it makes of the objects of an API server.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

/// Where the program is and whom it asks.
#[derive(Clone, Debug)]
pub struct Traefik {
    pub program: PathBuf,
    pub endpoint: String,
    pub token: String,
    pub ca_file: PathBuf,
}

/// How long nothing may come before an answer counts as the last. While nobody changes anything the first already is:
/// the provider sends nothing before all its lists are through.
const QUIET: &str = "250ms";

impl Traefik {
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--endpoint={}", self.endpoint))
            .arg(format!("--token={}", self.token))
            .arg(format!("--certauthfilepath={}", self.ca_file.display()))
            .arg("--log.level=fatal")
            .args(arguments);
        command
    }

    /// The routing for what is there now. Statuses are written by then: the provider does that first.
    pub async fn once(&self, arguments: &[String]) -> Value {
        let mut command = self.command(arguments);
        command.arg("--once").arg("--wait=120s").arg(format!("--settle={QUIET}"));
        let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Traefik's provider {arguments:?}: {}, {said}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_else(|| panic!("Traefik's provider gave no answer: {said}"));
        configuration(last)
    }

    /// A provider that goes on, with its newest answer.
    pub fn start(&self, arguments: &[String]) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let input = child.stdin.take();
        let (sender, newest) = watch::channel(Value::Null);
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("standard output is a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sender.send_replace(configuration(&line));
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap_or_else(|| panic!("standard error is a pipe"));
        let log = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(&text);
            }
        });
        Running { child, input, newest, said }
    }
}

fn configuration(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    value["configuration"].take()
}

/// A provider that goes on until it is dropped. It ends by itself when this process does.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    /// `null` before the first answer.
    pub newest: watch::Receiver<Value>,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// What it logged.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The provider, built if it is not up to date.
pub fn program() -> PathBuf {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let tools = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
            let output = Command::new(tools.join("build")).arg("peer").output();
            let output = output.unwrap_or_else(|error| panic!("tests/tools/build: {error}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "tests/tools/build peer: {said}");
            std::env::var_os("WAYBILL_TOOLS_DIR")
                .map_or_else(|| tools.join("bin"), PathBuf::from)
                .join("peer")
        })
        .clone()
}
