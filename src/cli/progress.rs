//! Says on a terminal that something takes time.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::kubernetes::client::Environment;

/// Nothing is said before.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line on standard error that counts seconds until this is dropped, if that is a terminal.
pub struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Begins to count. `what` says what is done, such as `reading`.
    pub fn start(what: &'static str, environment: &Environment) -> Self {
        let is_terminal =
            io::stderr().is_terminal() && environment.get("TERM").is_some_and(|kind| kind != "dumb");
        if !is_terminal {
            return Self(None);
        }
        let (sender, stop) = mpsc::channel();
        let begin = Instant::now();
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let mut written = false;
            while stop.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = write!(io::stderr(), "\r{what} … {} s", begin.elapsed().as_secs());
                written = true;
            }
            if written {
                let _ = write!(io::stderr(), "\r\u{1b}[K");
            }
        });
        Self(thread.ok().map(|thread| (sender, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
