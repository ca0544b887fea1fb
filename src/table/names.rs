//! Assigns keys to their claimants. Names never leak from one owner to another, and the order of events never matters.
//!
//! Each claimant asks for one plain key. If several ask for the same key, the least (the oldest) gets it. Every other is
//! moved on to `{key}-{h}`, with `h` from its namespace and name. A claimant that was moved on to a key takes precedence
//! over those that ask for that key directly. So guessing somebody's key gains nothing: the guesser is moved on itself.
//! Moving on lengthens a key (up to its limit, where the whole key takes part in the digest), so what everyone ends up
//! with is decided by the set of claimants alone.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::translate::name;

/// Someone who asks for a key. If there are several, the least one gets it.
pub(super) trait Claimant: Clone + Ord {
    /// Distinguishes its owner from all others.
    fn identity(&self) -> String;
}

/// The claims to one key.
struct Slot<C> {
    /// The holder; none if the key is reserved.
    holder: Option<Claim<C>>,
    /// The next in line after the holder. Each of them is also in its next slot.
    passed_on: BTreeSet<Claim<C>>,
}

impl<C> Default for Slot<C> {
    fn default() -> Self {
        Self { holder: None, passed_on: BTreeSet::new() }
    }
}

/// A claim to a key. Moved claims come first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<C> {
    plain: bool,
    claimant: C,
}

/// All claims of one kind in one output.
pub(super) struct Names<C> {
    slots: HashMap<Arc<str>, Slot<C>>,
    /// A key that no claimant ever gets.
    reserved: &'static str,
}

impl<C: Claimant> Names<C> {
    /// No claims.
    pub fn new(reserved: &'static str) -> Self {
        Self { slots: HashMap::new(), reserved }
    }

    /// Adds a claim to `key`. Every key whose holder changes goes to `touched`.
    pub fn claim(&mut self, claimant: C, key: &Arc<str>, touched: &mut Vec<Arc<str>>) {
        let mut claim = Claim { plain: true, claimant };
        let mut at = key.clone();
        // Each round leaves one claim in its place and moves another one on. If a claim is already where it is moved
        // to, the loop ends, so even a cycle of digests could not run forever.
        loop {
            let reserved = &*at == self.reserved;
            let slot = self.slots.entry(at.clone()).or_default();
            let loser = match &slot.holder {
                None if !reserved => {
                    slot.holder = Some(claim);
                    touched.push(at);
                    return;
                }
                Some(holder) if claim < *holder => {
                    touched.push(at.clone());
                    match slot.holder.replace(claim) {
                        Some(loser) => loser,
                        None => return,
                    }
                }
                Some(holder) if claim == *holder => return,
                _ => claim,
            };
            at = next(&at, &loser.claimant);
            claim = Claim { plain: false, claimant: loser.claimant.clone() };
            if !slot.passed_on.insert(loser) {
                return;
            }
        }
    }

    /// Withdraws a claim to `key`. Every key whose holder changes goes to `touched`.
    pub fn release(&mut self, claimant: &C, key: &Arc<str>, touched: &mut Vec<Arc<str>>) {
        let mut claim = Claim { plain: true, claimant: claimant.clone() };
        let mut at = key.clone();
        while let Some(slot) = self.slots.get_mut(&at) {
            // The claim that leaves the next slot: the one that takes over this key, or the withdrawn claim itself.
            let leaver = if slot.holder.as_ref() == Some(&claim) {
                touched.push(at.clone());
                slot.holder = slot.passed_on.pop_first();
                slot.holder.as_ref().map(|heir| heir.claimant.clone())
            } else if slot.passed_on.remove(&claim) {
                Some(claim.claimant)
            } else {
                return;
            };
            if slot.holder.is_none() && slot.passed_on.is_empty() {
                self.slots.remove(&at);
            }
            let Some(leaver) = leaver else { return };
            at = next(&at, &leaver);
            claim = Claim { plain: false, claimant: leaver };
        }
    }

    /// The holder of `key`.
    pub fn holder(&self, key: &str) -> Option<&C> {
        self.slots.get(key)?.holder.as_ref().map(|claim| &claim.claimant)
    }

    /// The key of a claimant who asked for `key`.
    pub fn key_of(&self, claimant: &C, key: &Arc<str>) -> Option<Arc<str>> {
        let mut at = key.clone();
        let mut claim = Claim { plain: true, claimant: claimant.clone() };
        loop {
            let slot = self.slots.get(Borrow::<str>::borrow(&at))?;
            if slot.holder.as_ref() == Some(&claim) {
                return Some(at);
            }
            if !slot.passed_on.contains(&claim) {
                return None;
            }
            at = next(&at, claimant);
            claim.plain = false;
        }
    }
}

/// The key to which a claimant is moved from `key`.
fn next<C: Claimant>(key: &str, claimant: &C) -> Arc<str> {
    name::with_digest(key, &claimant.identity()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Claimant for (u32, &'static str) {
        fn identity(&self) -> String {
            self.1.to_owned()
        }
    }

    type Who = (u32, &'static str);

    fn key(text: &str) -> Arc<str> {
        text.into()
    }

    fn forced(key: &str, identity: &str) -> String {
        name::with_digest(key, identity)
    }

    #[test]
    fn the_oldest_has_it_whatever_the_order() {
        let claims: [Who; 3] = [(1, "a"), (2, "b"), (3, "c")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut names = Names::new("reserved");
            let mut touched = Vec::new();
            for at in order {
                names.claim(claims[at], &key("k"), &mut touched);
            }
            let keys = claims.map(|claim| names.key_of(&claim, &key("k")));
            assert_eq!(keys[0].as_deref(), Some("k"));
            assert_eq!(keys[1].as_deref(), Some(&*forced("k", "b")));
            assert_eq!(keys[2].as_deref(), Some(&*forced("k", "c")));

            touched.clear();
            names.release(&claims[0], &key("k"), &mut touched);
            assert_eq!(touched, [key("k"), forced("k", "b").into()]);
            assert_eq!(names.holder("k"), Some(&claims[1]));
            names.release(&claims[2], &key("k"), &mut touched);
            names.release(&claims[1], &key("k"), &mut touched);
            assert!(names.slots.is_empty());
        }
    }

    #[test]
    fn guessing_a_key_gains_nothing() {
        let guess = forced("k", "victim");
        let mut names: Names<Who> = Names::new("reserved");
        let mut touched = Vec::new();
        names.claim((0, "guesser"), &key(&guess), &mut touched);
        names.claim((1, "first"), &key("k"), &mut touched);
        assert_eq!(names.holder(&guess), Some(&(0, "guesser")));
        names.claim((2, "victim"), &key("k"), &mut touched);
        assert_eq!(names.holder(&guess), Some(&(2, "victim")));
        let onward = names.key_of(&(0, "guesser"), &key(&guess));
        assert_eq!(onward.as_deref(), Some(&*forced(&guess, "guesser")));
        names.release(&(1, "first"), &key("k"), &mut touched);
        assert_eq!(names.holder("k"), Some(&(2, "victim")));
        assert_eq!(names.holder(&guess), Some(&(0, "guesser")));
    }

    /// Two owners with one digest can be made on purpose; both still get a key of their own.
    #[test]
    fn equal_digests_end_apart() {
        let twins: [Who; 3] = [(1, "same"), (2, "same"), (3, "same")];
        for start in ["k".to_owned(), "k".repeat(name::LIMIT)] {
            let mut names = Names::new("reserved");
            let mut touched = Vec::new();
            for twin in twins {
                names.claim(twin, &key(&start), &mut touched);
            }
            let keys: BTreeSet<_> =
                twins.iter().filter_map(|twin| names.key_of(twin, &key(&start))).collect();
            assert_eq!(keys.len(), 3);
            assert!(keys.iter().all(|key| key.len() <= name::LIMIT));
            for twin in twins {
                names.release(&twin, &key(&start), &mut touched);
            }
            assert!(names.slots.is_empty());
        }
    }

    #[test]
    fn nobody_has_a_reserved_key() {
        let mut names: Names<Who> = Names::new("reserved");
        let mut touched = Vec::new();
        names.claim((1, "a"), &key("reserved"), &mut touched);
        assert_eq!(names.holder("reserved"), None);
        assert_eq!(touched, [key(&forced("reserved", "a"))]);
        names.release(&(1, "a"), &key("reserved"), &mut touched);
        assert!(names.slots.is_empty());
    }
}
