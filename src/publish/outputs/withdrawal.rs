//! Guards against removing too much at once (`operator.maxWithdrawal`), and handles the confirmation.
//!
//! A commit is held if it would remove more than the given percentage of an output's routers. If several namespaces
//! have routers there, more than this percentage of the namespaces, and at least two, must also lose more than this
//! percentage of theirs. So a tenant who deletes all of their routes never blocks the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::kubernetes::key::OutputKey;
use crate::published::index::Index;
use crate::translate::problem::{Category, Kind, Problem, Subject};

/// Annotation of an index that allows a held withdrawal: `{generation}:{routers}`. It is valid only for a commit that
/// replaces this generation and removes no more routers than this, so it can't allow a later withdrawal. Every commit
/// removes it.
pub const CONFIRM_ANNOTATION: &str = "waybill.dev/confirm-withdrawal";

/// The published routers.
#[derive(Clone, Copy, Debug)]
pub struct PublishedRouters<'a> {
    pub count: usize,
    /// The number for each namespace, or for those with the most; `None` if unknown. Then all namespaces count as one.
    pub namespaces: Option<&'a BTreeMap<String, usize>>,
}

impl<'a> From<&'a Index> for PublishedRouters<'a> {
    fn from(index: &'a Index) -> Self {
        Self { count: index.counts.routers, namespaces: index.namespaces.as_ref() }
    }
}

impl PublishedRouters<'_> {
    /// The withdrawal when `count` routers in `namespaces` replace these. A namespace that has as many as before
    /// withdraws nothing, whatever its routers are.
    pub fn withdrawal(&self, count: usize, namespaces: &HashMap<Arc<str>, usize>, percent: u8) -> Withdrawal {
        let above = |part: usize, of: usize| part as u128 * 100 > of as u128 * u128::from(percent);
        let Some(before) = self.namespaces else {
            let removed = self.count.saturating_sub(count);
            return Withdrawal {
                removed,
                of: self.count,
                generation: 0,
                hit: None,
                held: above(removed, self.count),
            };
        };
        let (mut removed, mut hit, mut listed, mut kept) = (0_usize, 0, 0_usize, 0_usize);
        for (namespace, &had) in before {
            let has = namespaces.get(namespace.as_str()).copied().unwrap_or_default();
            let lost = had.saturating_sub(has);
            hit += usize::from(above(lost, had));
            removed = removed.saturating_add(lost);
            listed = listed.saturating_add(had);
            kept = kept.saturating_add(has);
        }
        // The namespaces that are not listed, together. None of them has more routers than the smallest one listed,
        // which gives a minimum for their number and for how many have lost all.
        let unlisted = self.count.saturating_sub(listed);
        let lost = unlisted.saturating_sub(count.saturating_sub(kept));
        let smallest = before.values().copied().min().unwrap_or_default().max(1);
        removed = removed.saturating_add(lost);
        hit += lost / smallest;
        let of = before.len().saturating_add(unlisted.div_ceil(smallest));
        let shared = of > 1 || namespaces.keys().any(|namespace| !before.contains_key(&**namespace));
        let wide = !shared || (hit > 1 && above(hit, of));
        Withdrawal {
            removed,
            of: self.count,
            generation: 0,
            hit: shared.then_some((hit, of)),
            held: wide && above(removed, self.count),
        }
    }
}

/// What a commit would remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The sum of what each namespace loses.
    pub removed: usize,
    pub of: usize,
    /// The generation that would be replaced.
    pub generation: u64,
    /// Namespaces that lose too much, and all that have routers; `None` if they can't be distinguished.
    pub hit: Option<(usize, usize)>,
    /// Whether it is too much.
    pub held: bool,
}

impl Withdrawal {
    /// Whether the index's annotations allow it.
    pub fn is_confirmed(&self, index: &ConfigMap) -> bool {
        let annotations = index.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(CONFIRM_ANNOTATION)) else {
            return false;
        };
        let parsed = text.trim().split_once(':').and_then(|(generation, removed)| {
            Some((generation.parse::<u64>().ok()?, removed.parse::<usize>().ok()?))
        });
        parsed.is_some_and(|(generation, removed)| generation == self.generation && removed >= self.removed)
    }

    /// The value that allows it.
    pub fn confirmation(&self) -> String {
        format!("{}:{}", self.generation, self.removed)
    }

    /// The withdrawal as a problem of the index.
    pub fn problem(&self, output: &OutputKey) -> Problem {
        Problem {
            category: Category::WithdrawalHeld,
            subject: index_subject(output),
            field: format!("metadata.annotations[{CONFIRM_ANNOTATION}]"),
            value: match self.hit {
                Some((hit, of)) => {
                    format!("{} of {} routers, in {hit} of {of} namespaces", self.removed, self.of)
                }
                None => format!("{} of {} routers", self.removed, self.of),
            },
            remedy: format!(
                "more routers would be removed than operator.maxWithdrawal allows, so nothing is published; \
                 restore what is missing, or allow it: kubectl annotate --overwrite configmap -n {} {} \
                 {CONFIRM_ANNOTATION}={}",
                output.namespace(),
                output.name(),
                self.confirmation()
            ),
        }
    }
}

/// The index of an output.
pub fn index_subject(output: &OutputKey) -> Subject {
    Subject::from((Kind::ConfigMap, &output.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(counts: &[(&str, usize)]) -> HashMap<Arc<str>, usize> {
        counts.iter().map(|(namespace, count)| (Arc::from(*namespace), *count)).collect()
    }

    /// The withdrawal from routers by namespace to others, at a limit of 30 percent.
    fn withdrawal(before: &[(&str, usize)], after: &[(&str, usize)]) -> Withdrawal {
        let sum = |counts: &[(&str, usize)]| counts.iter().map(|(_, count)| count).sum();
        let namespaces = before.iter().map(|(namespace, count)| ((*namespace).to_owned(), *count)).collect();
        PublishedRouters { count: sum(before), namespaces: Some(&namespaces) }.withdrawal(
            sum(after),
            &map(after),
            30,
        )
    }

    #[test]
    fn the_limit_is_a_share_of_what_is_published() {
        for namespaces in [None, Some([("a".to_owned(), 100)].into())] {
            let published = PublishedRouters { count: 100, namespaces: namespaces.as_ref() };
            let held = |left: usize, percent| published.withdrawal(left, &map(&[("a", left)]), percent).held;
            assert!(held(69, 30) && !held(70, 30));
            assert!(held(0, 99) && !held(0, 100) && !held(200, 1));
        }
        assert!(!withdrawal(&[], &[]).held && !withdrawal(&[], &[("a", 1)]).held);
    }

    #[test]
    fn one_namespace_holds_up_nobody_else() {
        let others: Vec<(&str, usize)> = vec![("b", 5), ("c", 5), ("d", 5)];
        let with = |count| [vec![("a", count)], others.clone()].concat();
        let attack = withdrawal(&with(10_000), &with(0));
        assert!(!attack.held, "{attack:?}");
        assert_eq!((attack.removed, attack.of, attack.hit), (10_000, 10_015, Some((1, 4))));
        // Of two as well, and where the other one is new.
        assert!(!withdrawal(&[("a", 1_000), ("b", 1)], &[("b", 1)]).held);
        assert!(!withdrawal(&[("a", 1_000)], &[("b", 1)]).held);
        // Alone it holds up itself.
        assert!(withdrawal(&[("a", 1_000)], &[]).held);
    }

    #[test]
    fn what_hits_many_namespaces_is_held() {
        let names: Vec<String> = (0..10).map(|at| format!("n{at}")).collect();
        let counts = |count: &dyn Fn(usize) -> usize| -> Vec<(&str, usize)> {
            names.iter().enumerate().map(|(at, name)| (name.as_str(), count(at))).collect()
        };
        let before = counts(&|_| 10);
        assert!(withdrawal(&before, &[]).held, "all");
        assert!(withdrawal(&before, &counts(&|_| 6)).held, "a part of each");
        assert!(!withdrawal(&before, &counts(&|_| 7)).held);
        assert!(withdrawal(&before, &counts(&|at| if at < 4 { 0 } else { 10 })).held, "four of ten");
        assert!(!withdrawal(&before, &counts(&|at| if at < 3 { 0 } else { 10 })).held);
        let held = withdrawal(&before, &counts(&|at| if at < 4 { 0 } else { 20 }));
        assert!(held.held, "what others gain makes it no smaller");
        let problem = Withdrawal { generation: 7, ..held }.problem(&OutputKey::new("ns", "out"));
        assert_eq!(problem.value, "40 of 100 routers, in 4 of 10 namespaces");
        assert!(problem.remedy.ends_with("-n ns out waybill.dev/confirm-withdrawal=7:40"), "{problem}");
    }

    #[test]
    fn namespaces_that_an_index_does_not_list_count_together() {
        let listed = [("a".to_owned(), 10), ("b".to_owned(), 10)].into();
        let published = PublishedRouters { count: 100, namespaces: Some(&listed) };
        let removed = |counts: &[(&str, usize)]| {
            published.withdrawal(counts.iter().map(|(_, count)| count).sum(), &map(counts), 30).removed
        };
        assert_eq!(removed(&[("a", 10), ("b", 10), ("c", 50), ("d", 20)]), 10);
        assert_eq!(removed(&[("a", 10), ("c", 80)]), 10);
        assert_eq!(removed(&[("a", 50), ("b", 50)]), 80);
        // They count as namespaces too: 744 of 1,000 go, none of which is listed.
        let listed = (0..256).map(|at| (format!("n{at:03}"), 10)).collect();
        let published = PublishedRouters { count: 10_000, namespaces: Some(&listed) };
        let left: HashMap<Arc<str>, usize> =
            (0..256).map(|at| (Arc::from(format!("n{at:03}")), 10)).collect();
        let lost = published.withdrawal(2_560, &left, 30);
        assert!(lost.held, "{lost:?}");
        assert_eq!(lost.hit, Some((744, 1_000)));
        // A tenant has 80 of 1,000 namespaces, and of the 256 that are listed nearly a third.
        let size = |at: usize| if at < 80 { 100 } else { 5 };
        let listed = (0..256).map(|at| (format!("n{at:03}"), size(at))).collect();
        let published = PublishedRouters { count: (0..1_000).map(size).sum(), namespaces: Some(&listed) };
        let left: HashMap<Arc<str>, usize> =
            (80..1_000).map(|at| (Arc::from(format!("n{at:03}")), size(at))).collect();
        let attack = published.withdrawal(left.values().sum(), &left, 30);
        assert!(!attack.held, "{attack:?}");
        assert_eq!(attack.hit, Some((80, 1_000)));
        // Whatever an index says, nothing overflows.
        let absurd = [("a".to_owned(), usize::MAX), ("b".to_owned(), usize::MAX)].into();
        let published = PublishedRouters { count: usize::MAX, namespaces: Some(&absurd) };
        assert!(published.withdrawal(0, &map(&[]), 30).held);
    }

    proptest! {
        /// Whatever a tenant does in one namespace, and whatever there is beside it: nobody is held up.
        #[test]
        fn no_namespace_holds_up_others_by_itself(
            others in prop::collection::btree_map("[a-z]{1,3}", 1..50_usize, 1..20),
            had in 0..100_000_usize,
            has in 0..100_000_usize,
            percent in 1..=100_u8,
        ) {
            let with = |count: usize| {
                let own = Some(("TENANT".to_owned(), count)).filter(|_| count > 0);
                others.clone().into_iter().chain(own).collect::<BTreeMap<String, usize>>()
            };
            let (before, after) = (with(had), with(has));
            let after: HashMap<Arc<str>, usize> =
                after.into_iter().map(|(namespace, count)| (Arc::from(namespace), count)).collect();
            let published = PublishedRouters { count: before.values().sum(), namespaces: Some(&before) };
            let withdrawal = published.withdrawal(after.values().sum(), &after, percent);
            prop_assert!(!withdrawal.held);
            prop_assert_eq!(withdrawal.removed, had.saturating_sub(has));
            let gone = published.withdrawal(0, &HashMap::new(), percent);
            prop_assert_eq!(gone.held, percent < 100);
        }
    }

    #[test]
    fn a_confirmation_is_for_this_withdrawal_alone() {
        let with = |text: &str| {
            let mut index = ConfigMap::default();
            index.metadata.annotations = Some([(CONFIRM_ANNOTATION.to_owned(), text.to_owned())].into());
            index
        };
        let held = Withdrawal { removed: 120, of: 200, generation: 4711, hit: None, held: true };
        assert!(held.is_confirmed(&with(&held.confirmation())));
        assert!(held.is_confirmed(&with(" 4711:200 ")), "more than that was agreed to");
        for other in ["4711:119", "4710:120", "4712:120", "4711", "true", "", ":", "x:y", "4711:-1"] {
            assert!(!held.is_confirmed(&with(other)), "{other}");
        }
        assert!(!held.is_confirmed(&ConfigMap::default()));
    }
}
