//! Who is next: namespaces take turns, and so do the objects of each, so that no tenant waits for another's many objects.

use std::collections::{HashMap, VecDeque};

use crate::translate::problem::Subject;

/// Objects that wait for their turn. Each is to be here once at most.
#[derive(Debug, Default)]
pub(super) struct Turns {
    objects: HashMap<String, VecDeque<Subject>>,
    /// Those that have objects here, each once.
    namespaces: VecDeque<String>,
    len: usize,
}

impl Turns {
    /// Puts an object behind all others of its namespace.
    pub(super) fn push(&mut self, subject: Subject) {
        self.len += 1;
        if let Some(objects) = self.objects.get_mut(&subject.namespace) {
            return objects.push_back(subject);
        }
        self.namespaces.push_back(subject.namespace.clone());
        self.objects.insert(subject.namespace.clone(), [subject].into());
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<&Subject> {
        self.objects.get(self.namespaces.front()?)?.front()
    }

    /// Takes out who is next. Its namespace goes behind the others.
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

    /// How many objects wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}
