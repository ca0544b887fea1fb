//! A fair queue of objects: namespaces take turns, and so do the objects of each, so that no tenant waits for another's
//! many objects.

use std::collections::{HashMap, VecDeque};

use crate::translate::problem::Subject;

/// The waiting objects. The caller adds each at most once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    objects: HashMap<String, VecDeque<Subject>>,
    /// The namespaces with waiting objects, without duplicates.
    namespaces: VecDeque<String>,
    len: usize,
}

impl Turns {
    /// Adds an object after all others of its namespace.
    pub(super) fn push(&mut self, subject: Subject) {
        self.len += 1;
        if let Some(objects) = self.objects.get_mut(&subject.namespace) {
            return objects.push_back(subject);
        }
        self.namespaces.push_back(subject.namespace.clone());
        self.objects.insert(subject.namespace.clone(), [subject].into());
    }

    /// The next object.
    pub(super) fn first(&self) -> Option<&Subject> {
        self.objects.get(self.namespaces.front()?)?.front()
    }

    /// Takes the next object. Its namespace goes to the end of the queue.
    pub(super) fn pop(&mut self) -> Option<Subject> {
        let namespace = self.namespaces.pop_front()?;
        let objects = self.objects.get_mut(&namespace)?;
        let subject = objects.pop_front();
        if objects.is_empty() {
            self.objects.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        self.len -= usize::from(subject.is_some());
        subject
    }

    /// The number of waiting objects.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}
