//! What Linux says of a process.

use std::fs;
use std::process::{Child, Command};

/// Clock ticks of `/proc/PID/stat` in a second: 100 wherever Linux runs, whatever the kernel's own tick is.
const TICKS: f64 = 100.0;

/// User and system time of a process so far, its ended threads included, in seconds.
pub fn cpu_seconds(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: f64 = [11, 12].map(|field: usize| fields[field].parse::<f64>().unwrap()).iter().sum();
    ticks / TICKS
}

/// The most memory that a process ever had, in megabytes.
pub fn peak_megabytes(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024.0 / 1e6
}

/// A profiler beside a process, until it is dropped.
pub struct Profiler(Child);

/// Starts one: words separated by spaces, `{pid}` the process.
pub fn attach(command: &str, id: u32) -> Profiler {
    let mut words = command.split(' ').map(|word| word.replace("{pid}", &id.to_string()));
    Profiler(Command::new(words.next().unwrap()).args(words).spawn().unwrap())
}

impl Drop for Profiler {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}
