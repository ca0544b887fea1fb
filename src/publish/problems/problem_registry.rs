//! Which problems stand, by the object to edit. Several Ingresses may tell of the same fault of one Service; it is
//! one problem, and over when the last of them no longer tells of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::translate::problem::{Category, Problem, Subject};

/// Problems by who tells of them (`S`, an Ingress's key say) and by whom they are about.
#[derive(Debug)]
pub struct Standing<S> {
    told: HashMap<S, Vec<Problem>>,
    about: HashMap<Subject, BTreeMap<Problem, usize>>,
    counts: BTreeMap<Category, usize>,
}

impl<S> Default for Standing<S> {
    fn default() -> Self {
        Self { told: HashMap::new(), about: HashMap::new(), counts: BTreeMap::new() }
    }
}

impl<S: Hash + Eq> Standing<S> {
    /// Replaces what `source` tells of, nothing included; gives the objects whose problems are others now.
    pub fn set(&mut self, source: S, mut problems: Vec<Problem>) -> BTreeSet<Subject> {
        problems.sort_unstable();
        problems.dedup();
        let before = if problems.is_empty() {
            self.told.remove(&source)
        } else {
            self.told.insert(source, problems.clone())
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
        let tellers =
            self.about.entry(problem.subject.clone()).or_default().entry(problem.clone()).or_default();
        *tellers += 1;
        if *tellers == 1 {
            *self.counts.entry(problem.category).or_default() += 1;
            return true;
        }
        false
    }

    fn remove(&mut self, problem: &Problem) -> bool {
        let Some(about) = self.about.get_mut(&problem.subject) else { return false };
        let Some(tellers) = about.get_mut(problem) else { return false };
        *tellers -= 1;
        if *tellers > 0 {
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

    /// What is wrong with an object, sorted.
    pub fn about(&self, subject: &Subject) -> Vec<Problem> {
        self.about.get(subject).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// All objects with problems, in no order.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.about.keys()
    }

    /// Whether somebody tells of it.
    pub fn stands(&self, problem: &Problem) -> bool {
        self.about.get(&problem.subject).is_some_and(|about| about.contains_key(problem))
    }

    /// How many problems of a category stand.
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
    fn a_problem_that_two_tell_of_is_one_and_ends_with_the_last() {
        let mut standing = Standing::default();
        let fault = problem("api", Category::InvalidAnnotation);
        let about = BTreeSet::from([fault.subject.clone()]);
        assert_eq!(standing.set("a", vec![fault.clone(), fault.clone()]), about);
        assert_eq!(standing.set("b", vec![fault.clone()]), BTreeSet::new());
        assert_eq!(standing.count(Category::InvalidAnnotation), 1);
        assert_eq!(standing.set("a", vec![]), BTreeSet::new());
        assert_eq!(standing.about(&fault.subject), std::slice::from_ref(&fault));
        assert_eq!(standing.set("b", vec![]), about);
        assert_eq!(standing.about(&fault.subject), []);
        assert_eq!((standing.count(Category::InvalidAnnotation), standing.subjects().count()), (0, 0));
        assert!(standing.told.is_empty());
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut standing = Standing::default();
        let (a, b) = (problem("a", Category::NoEndpoints), problem("b", Category::NoEndpoints));
        standing.set(1, vec![a.clone()]);
        assert_eq!(standing.set(1, vec![a.clone(), b.clone()]), BTreeSet::from([b.subject.clone()]));
        assert_eq!(standing.set(1, vec![b.clone()]), BTreeSet::from([a.subject]));
        assert_eq!(standing.set(1, vec![b]), BTreeSet::new());
    }
}
