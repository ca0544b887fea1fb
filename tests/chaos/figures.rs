//! What a run came to, to be printed at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub struct Figures {
    pub rounds: u64,
    pub changes: u64,
    pub faults: BTreeMap<String, u64>,
    /// Those that living processes met, and that their metrics showed.
    pub seen: u64,
    pub pauses: u64,
    pub withdrawals: u64,
    pub commits: u64,
    pub epochs: u64,
    pub late_index_writes: u64,
    pub readers: u64,
    pub states: u64,
    pub retries: u64,
    pub routers: usize,
    pub ingresses: usize,
    pub problems: usize,
    pub converged: Durations,
    pub noticed: Durations,
    pub statuses: Durations,
    pub killed: Durations,
    pub released: Durations,
    pub put_back: Durations,
}

/// Durations of one sort.
#[derive(Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let Some(longest) = sorted.last() else { return f.write_str("never") };
        let median = sorted[sorted.len() / 2];
        write!(f, "median {median:.2?}, longest {longest:.2?} of {}", sorted.len())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds                        {}", self.rounds)?;
        writeln!(f, "changes of objects            {}", self.changes)?;
        writeln!(
            f,
            "at the end                    {} Ingresses, {} routers, {} problems",
            self.ingresses, self.routers, self.problems
        )?;
        writeln!(f, "commits                       {}", self.commits)?;
        writeln!(f, "epochs                        {}", self.epochs)?;
        writeln!(f, "index writes of former leaders, refused  {}", self.late_index_writes)?;
        writeln!(f, "readers                       {}", self.readers)?;
        writeln!(f, "states that readers loaded    {}", self.states)?;
        writeln!(f, "  after a newer index         {}", self.retries)?;
        writeln!(f, "right again after the faults  {}", self.converged)?;
        writeln!(f, "stalled watches given up      {}", self.noticed)?;
        writeln!(f, "damaged status right again    {}", self.statuses)?;
        writeln!(f, "deleted index back            {}", self.put_back)?;
        writeln!(f, "takeover after SIGKILL        {}", self.killed)?;
        writeln!(f, "takeover after SIGTERM        {}", self.released)?;
        writeln!(f, "outputs paused                {}", self.pauses)?;
        writeln!(f, "withdrawals held              {}", self.withdrawals)?;
        writeln!(f, "faults seen in metrics        {}", self.seen)?;
        writeln!(f, "faults injected")?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:>7}  {fault}")?;
        }
        Ok(())
    }
}
