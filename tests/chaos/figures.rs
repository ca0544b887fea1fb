//! What a run came to, to be printed at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::agents::{KILLED, STOPPED};
use super::fault::{Fate, WatchFate};
use super::singles::Single;
use super::vandal::Damage;

/// After half of the rounds everything is right again this soon: a lease runs out in 3 s, a watch is tried again after
/// seconds, and a debug build on a busy machine took 4 s in all. What takes longer waits for an Ingress that moves
/// between outputs.
const MOSTLY_RIGHT_WITHIN: Duration = Duration::from_secs(20);

/// Beyond that, a published Service's new address is written into the status of every Ingress. On two cores, an API server
/// that answers three replicas as well takes about 300 a second.
const STATUSES_A_SECOND: f64 = 250.0;

/// Rounds after which every fate of requests and watches has been met.
const ENOUGH: u64 = 10;

/// Of writes these matter most.
const WRITES: [Fate; 3] = [Fate::LostBefore, Fate::LostAfter, Fate::Late(Duration::ZERO)];

#[derive(Default)]
pub struct Figures {
    pub rounds: u64,
    pub changes: u64,
    pub faults: BTreeMap<String, u64>,
    /// Those that living processes met, and that their metrics showed.
    pub seen: u64,
    pub singles: BTreeMap<Single, u64>,
    pub commits: u64,
    pub epochs: u64,
    pub late_index_writes: u64,
    pub readers: u64,
    pub states: u64,
    pub retries: u64,
    /// Generations that agents had on disk, and those of them that the audit log knows.
    pub generations: u64,
    pub witnessed: u64,
    pub routers: usize,
    pub ingresses: usize,
    pub problems: usize,
    pub converged: Durations,
    /// How much later agents were.
    pub agents: Durations,
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

    fn median(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(median), Some(longest)) = (self.median(), self.0.iter().max()) else {
            return f.write_str("never");
        };
        write!(f, "median {median:.2?}, longest {longest:.2?} of {}", self.0.len())
    }
}

impl Figures {
    /// Panics where a kind of fault did not occur, or where it took too long in general.
    pub fn check(&self) {
        let mut never: Vec<String> = Single::ALL
            .iter()
            .filter(|single| !self.singles.contains_key(single))
            .map(|single| format!("{single:?}"))
            .collect();
        let mut wanted: Vec<String> =
            ["SIGKILL", "SIGTERM", "SIGSTOP"].map(|death| format!("process {death}")).into();
        wanted.extend([KILLED, STOPPED].map(str::to_owned));
        if self.rounds * 2 >= Damage::AT_ANY_TIME.len() as u64 {
            wanted.extend(Damage::AT_ANY_TIME.map(|damage| damage.to_string()));
        } else {
            // A single round, to repeat it.
            wanted.clear();
        }
        if self.rounds >= ENOUGH {
            wanted.extend(WatchFate::ALL.map(|fate| format!("watch {fate}")));
            wanted.extend(WRITES.map(|fate| format!("write {fate}")));
        }
        never.extend(wanted.into_iter().filter(|fault| !self.faults.contains_key(fault)));
        assert!(never.is_empty(), "never happened: {never:?}");
        if let Some(median) = self.converged.median() {
            let statuses = Duration::from_secs_f64(self.ingresses as f64 / STATUSES_A_SECOND);
            let within = MOSTLY_RIGHT_WITHIN + statuses;
            assert!(
                median < within,
                "right again only after {median:.1?} in half of the rounds, not within {within:?}"
            );
        }
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
        writeln!(f, "generations that agents had   {}", self.generations)?;
        writeln!(f, "  and were compared           {}", self.witnessed)?;
        writeln!(f, "agents right after that       {}", self.agents)?;
        writeln!(f, "right again after the faults  {}", self.converged)?;
        writeln!(f, "stalled watches given up      {}", self.noticed)?;
        writeln!(f, "damaged status right again    {}", self.statuses)?;
        writeln!(f, "deleted index back            {}", self.put_back)?;
        writeln!(f, "takeover after SIGKILL        {}", self.killed)?;
        writeln!(f, "takeover after SIGTERM        {}", self.released)?;
        for (single, count) in &self.singles {
            writeln!(f, "{:<30}{count}", format!("{single:?}"))?;
        }
        writeln!(f, "faults seen in metrics        {}", self.seen)?;
        writeln!(f, "faults injected")?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:>7}  {fault}")?;
        }
        Ok(())
    }
}
