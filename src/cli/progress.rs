//! Shows on a terminal what a command is doing if it takes over a second.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// The delay before the line appears, and the interval of its updates.
const EVERY: Duration = Duration::from_secs(1);

/// A status line on standard error, shown while this value exists if standard error is a terminal.
pub struct Progress {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts with a description such as "reading the cluster".
    pub fn new(doing: &'static str) -> Self {
        let is_terminal =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
        if !is_terminal {
            return Self { done: None, thread: None };
        }
        let (done, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || show(doing, &ended, &mut io::stderr(), EVERY));
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done = None;
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, there is nothing to clear.
            let _ = thread.join();
        }
    }
}

fn show(doing: &str, ended: &Receiver<()>, out: &mut dyn Write, every: Duration) {
    let mut seconds = 0;
    while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        seconds += 1;
        let _ = write!(out, "\r{doing}… {seconds} s").and_then(|()| out.flush());
    }
    if seconds > 0 {
        let _ = write!(out, "\r\u{1b}[K").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_said_and_wiped_away() {
        let (done, ended) = mpsc::channel::<()>();
        drop(done);
        let mut out = Vec::new();
        show("reading", &ended, &mut out, Duration::ZERO);
        assert_eq!(out, b"", "it was done before");

        /// Ends what is shown with the first line of it.
        struct Screen(Option<Sender<()>>, Vec<u8>);
        impl Write for Screen {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0 = None;
                self.1.write(text)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (done, ended) = mpsc::channel();
        let mut screen = Screen(Some(done), Vec::new());
        show("reading", &ended, &mut screen, Duration::from_millis(1));
        assert_eq!(String::from_utf8(screen.1).unwrap(), "\rreading… 1 s\r\u{1b}[K");
    }
}
