//! What a run came to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::choices::{self, Choice};
use super::compare::Outcome;
use super::difference::Tally;
use super::object::Cluster;

/// Clusters among which every difference on purpose shows.
const ENOUGH: usize = 100;

/// Clusters that every pair of option values is to be tried on.
const OFTEN: usize = 5;

/// A difference that nothing explains.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which case under which options.
    pub what: String,
    pub text: String,
    /// The objects, where it is those of one cluster.
    pub cluster: Option<Cluster>,
    /// The options, as a file.
    pub file: Value,
}

/// Counts, differences on purpose, and those that are not.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub tally: Tally,
    pub clusters: usize,
    pub objects: usize,
    /// Objects that the API server refused.
    pub refused: usize,
    /// Clusters and golden cases, times the option sets and steps that each was compared under.
    pub comparisons: usize,
    /// Answers of `waybill render` and `waybill run` among them.
    pub answers: usize,
    pub routers: usize,
    pub certificates: usize,
    pub statuses: usize,
    pub mutations: usize,
    /// Default backends that were looked at by themselves.
    pub turns: usize,
    pub golden: usize,
    /// Option sets, each with the number of clusters that it was tried on.
    pub choices: BTreeMap<Choice, usize>,
    pub failures: Vec<Failure>,
}

impl Report {
    /// Takes in what came of comparing one cluster.
    pub fn take(&mut self, what: &str, outcome: Outcome, cluster: Option<&Cluster>, file: &Value) {
        self.comparisons += 1;
        self.tally.add(&outcome.tally);
        for text in outcome.unexplained {
            self.fail(what, text, cluster, file);
        }
    }

    pub fn fail(&mut self, what: &str, text: String, cluster: Option<&Cluster>, file: &Value) {
        let (what, cluster, file) = (what.to_owned(), cluster.cloned(), file.clone());
        self.failures.push(Failure { what, text, cluster, file });
    }

    /// Notes that so many clusters were compared under an option set.
    pub fn tried(&mut self, choice: &Choice, clusters: usize) {
        *self.choices.entry(choice.clone()).or_default() += clusters;
    }

    pub fn add(&mut self, other: Self) {
        self.tally.add(&other.tally);
        self.clusters += other.clusters;
        self.objects += other.objects;
        self.refused += other.refused;
        self.comparisons += other.comparisons;
        self.answers += other.answers;
        self.routers += other.routers;
        self.certificates += other.certificates;
        self.statuses += other.statuses;
        self.mutations += other.mutations;
        self.turns += other.turns;
        self.golden += other.golden;
        for (choice, clusters) in other.choices {
            *self.choices.entry(choice).or_default() += clusters;
        }
        self.failures.extend(other.failures);
    }

    /// Panics where anything differs that should not; and, where there were enough clusters to tell, where a difference
    /// on purpose is none any more.
    pub fn check(&self) {
        const SHOWN: usize = 20;
        let shown: Vec<String> = self
            .failures
            .iter()
            .take(SHOWN)
            .map(|failure| format!("{}: {}", failure.what, failure.text))
            .collect();
        let count = self.failures.len();
        assert!(count == 0, "{count} differences that nothing explains; the first:\n{}", shown.join("\n"));
        let never = if self.clusters < ENOUGH { Vec::new() } else { self.tally.never() };
        assert!(never.is_empty(), "listed in difference.rs, but it no longer occurs: {never:?}");
    }

    /// Panics where two option values were tried together on too few clusters.
    pub fn check_pairs(&self) {
        let tried = choices::clusters_of_pairs(&self.choices);
        let few: Vec<_> = tried.iter().filter(|(_, clusters)| **clusters < OFTEN).collect();
        assert!(few.is_empty(), "tried on fewer than {OFTEN} clusters: {few:?}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} made-up clusters, {} golden cases, {} objects ({} refused by the API server), {} mutations",
            self.clusters, self.golden, self.objects, self.refused, self.mutations
        )?;
        writeln!(
            f,
            "{} comparisons of {} routers, {} certificates, {} statuses, {} default backends by themselves",
            self.comparisons, self.routers, self.certificates, self.statuses, self.turns
        )?;
        writeln!(f, "{} whole answers of the program", self.answers)?;
        let tried = choices::clusters_of_pairs(&self.choices);
        let often = tried.values().filter(|clusters| **clusters >= OFTEN).count();
        let least = tried.values().min().copied().unwrap_or_default();
        writeln!(
            f,
            "{} option sets; {often} of {} pairs of option values in {OFTEN} clusters or more, each in {least} at least",
            self.choices.len(),
            tried.len()
        )?;
        write!(f, "differences on purpose, and how often:\n{}", self.tally)?;
        writeln!(f, "{} differences that nothing explains", self.failures.len())
    }
}
