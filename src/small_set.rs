//! A set optimized for a single member.

use std::collections::HashSet;
use std::hash::Hash;

/// A set with at least one member. A single member is stored inline, without an allocation.
#[derive(Debug)]
pub enum SmallSet<T> {
    /// One member.
    One(T),
    /// Any number of members except none, while it is in use.
    #[expect(
        clippy::box_collection,
        reason = "nearly all sets have one member, and are to be no larger for the others"
    )]
    Many(Box<HashSet<T>>),
}

impl<T: Eq + Hash> SmallSet<T> {
    /// Adds a member.
    pub fn insert(&mut self, member: T) {
        match self {
            Self::One(one) if *one == member => {}
            Self::One(_) => {
                let many = Box::new(HashSet::from([member]));
                if let Self::One(one) = std::mem::replace(self, Self::Many(many)) {
                    self.insert(one);
                }
            }
            Self::Many(many) => {
                many.insert(member);
            }
        }
    }

    /// Removes a member. Returns true for the last one, after which the set has to be dropped.
    pub fn remove(&mut self, member: &T) -> bool {
        match self {
            Self::One(one) => one == member,
            Self::Many(many) => {
                many.remove(member);
                if many.len() * 4 < many.capacity() {
                    many.shrink_to_fit();
                }
                many.is_empty()
            }
        }
    }

    /// Whether it contains a member.
    pub fn contains(&self, member: &T) -> bool {
        match self {
            Self::One(one) => one == member,
            Self::Many(many) => many.contains(member),
        }
    }

    /// All members, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(set: &SmallSet<u8>) -> Vec<u8> {
        let mut members: Vec<u8> = set.iter().copied().collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn members_come_and_go() {
        let mut set = SmallSet::One(1);
        set.insert(1);
        assert!(matches!(set, SmallSet::One(1)));
        assert!(!set.remove(&2));
        for member in 2..=20 {
            set.insert(member);
            assert!(set.contains(&member));
        }
        assert_eq!(members(&set), (1..=20).collect::<Vec<_>>());
        for member in 1..20 {
            assert!(!set.remove(&member));
            assert!(!set.contains(&member));
        }
        assert_eq!(members(&set), [20]);
        assert!(set.remove(&20));
        assert!(SmallSet::One(3).remove(&3));
    }
}
