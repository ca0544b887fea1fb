//! The current problems, by the object to edit. If several Ingresses report the same fault of one Service, it is one
//! problem, which ends when the last of them no longer reports it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::translate::problem::{Category, Problem, Subject};

/// Problems by reporter (`R`, such as the key of an Ingress) and by the object concerned.
#[derive(Debug)]
pub struct ProblemRegistry<R> {
    reported: HashMap<R, Vec<Problem>>,
    /// With the number of reporters.
    about: HashMap<Subject, BTreeMap<Problem, usize>>,
    counts: BTreeMap<Category, usize>,
}

impl<R> Default for ProblemRegistry<R> {
    fn default() -> Self {
        Self { reported: HashMap::new(), about: HashMap::new(), counts: BTreeMap::new() }
    }
}

impl<R: Hash + Eq> ProblemRegistry<R> {
    /// Replaces the problems from `reporter`. Returns the objects whose problems changed.
    pub fn set(&mut self, reporter: R, mut problems: Vec<Problem>) -> BTreeSet<Subject> {
        problems.sort_unstable();
        problems.dedup();
        let before = if problems.is_empty() {
            self.reported.remove(&reporter)
        } else {
            self.reported.insert(reporter, problems.clone())
        };
        let before = before.unwrap_or_default();
        let mut changed = BTreeSet::new();
        for new in problems.iter().filter(|problem| before.binary_search(problem).is_err()) {
            if self.add(new) {
                changed.insert(new.subject.clone());
            }
        }
        for old in before.iter().filter(|problem| problems.binary_search(problem).is_err()) {
            if self.remove(old) {
                changed.insert(old.subject.clone());
            }
        }
        changed
    }

    fn add(&mut self, problem: &Problem) -> bool {
        let reporters =
            self.about.entry(problem.subject.clone()).or_default().entry(problem.clone()).or_default();
        *reporters += 1;
        if *reporters == 1 {
            *self.counts.entry(problem.category).or_default() += 1;
            return true;
        }
        false
    }

    fn remove(&mut self, problem: &Problem) -> bool {
        let Some(about) = self.about.get_mut(&problem.subject) else { return false };
        let Some(reporters) = about.get_mut(problem) else { return false };
        *reporters -= 1;
        if *reporters > 0 {
            return false;
        }
        about.remove(problem);
        if about.is_empty() {
            self.about.remove(&problem.subject);
        }
        if let Some(count) = self.counts.get_mut(&problem.category) {
            *count -= 1;
        }
        true
    }

    /// The problems of an object, sorted.
    pub fn about(&self, subject: &Subject) -> Vec<Problem> {
        self.about.get(subject).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether somebody reports it.
    pub fn stands(&self, problem: &Problem) -> bool {
        self.about.get(&problem.subject).is_some_and(|about| about.contains_key(problem))
    }

    /// The number of current problems of a category.
    pub fn count(&self, category: Category) -> usize {
        self.counts.get(&category).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::problem::Kind;

    fn problem(name: &str, category: Category) -> Problem {
        Problem {
            category,
            subject: Subject { kind: Kind::Service, namespace: "ns".into(), name: name.into() },
            field: "f".into(),
            value: "v".into(),
            remedy: "r".into(),
        }
    }

    #[test]
    fn a_problem_that_two_report_is_one_and_ends_with_the_last() {
        let mut registry = ProblemRegistry::default();
        let fault = problem("api", Category::InvalidAnnotation);
        let about = BTreeSet::from([fault.subject.clone()]);
        assert_eq!(registry.set("a", vec![fault.clone(), fault.clone()]), about);
        assert_eq!(registry.set("b", vec![fault.clone()]), BTreeSet::new());
        assert_eq!(registry.count(Category::InvalidAnnotation), 1);
        assert_eq!(registry.set("a", vec![]), BTreeSet::new());
        assert_eq!(registry.about(&fault.subject), std::slice::from_ref(&fault));
        assert_eq!(registry.set("b", vec![]), about);
        assert_eq!(registry.about(&fault.subject), []);
        assert_eq!(registry.count(Category::InvalidAnnotation), 0);
        assert!(registry.reported.is_empty() && registry.about.is_empty());
    }

    #[test]
    fn only_what_changed_is_given() {
        let mut registry = ProblemRegistry::default();
        let (a, b) = (problem("a", Category::NoEndpoints), problem("b", Category::NoEndpoints));
        registry.set(1, vec![a.clone()]);
        assert_eq!(registry.set(1, vec![a.clone(), b.clone()]), BTreeSet::from([b.subject.clone()]));
        assert_eq!(registry.set(1, vec![b.clone()]), BTreeSet::from([a.subject]));
        assert_eq!(registry.set(1, vec![b]), BTreeSet::new());
    }
}
