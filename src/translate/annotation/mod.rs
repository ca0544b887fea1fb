//! Annotations to settings, or a problem for each that can't be used.
//!
//! Traefik's provider turns annotations into labels and decodes those with its label parser (`convertAnnotations`,
//! `github.com/traefik/paerser`). The rules that users can see are kept: case does not matter behind the prefix, of
//! two spellings the later in byte order counts, a switch that is off silences what is below it, and one fault makes
//! the whole object unusable.

mod router;
mod service;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use crate::translate::problem::{Category, Problem, Subject};

pub use router::RouterAnnotations;
pub use service::ServiceAnnotations;

/// What every annotation of ours begins with; its case matters.
pub use crate::kubernetes::ANNOTATION_PREFIX as PREFIX;

const FROM_PREFIX: (Bound<&str>, Bound<&str>) = (Bound::Included(PREFIX), Bound::Unbounded);

/// Every annotation there is, behind [`PREFIX`] and in lower case; `0` stands for any label of a domain.
pub fn known() -> impl Iterator<Item = &'static str> {
    router::KNOWN.iter().chain(service::KNOWN).copied()
}

/// Those that Traefik knows as well and that say nothing.
pub const WITHOUT_EFFECT: &[&str] = &[
    "router",
    "router.tls.domains",
    "router.tls.resolvedoptions",
    "router.observability.metadata",
    "service",
    "service.sticky.cookie.expires",
    "service.sticky.cookie.preserveleadingdot",
];

/// Path of an annotation's field, as problems name it.
pub fn field(name: &str) -> String {
    format!("metadata.annotations[{PREFIX}{name}]")
}

/// One annotation of ours.
struct Entry<'a> {
    /// The key behind [`PREFIX`] as the user spelled it.
    name: &'a str,
    value: &'a str,
}

/// The annotations below `root` (`router` or `service`), in the order in which they are read.
///
/// Traefik writes `domains.0.main` as `domains[0].main` before it sorts, so indices come behind labels.
fn entries<'a>(annotations: &'a BTreeMap<String, String>, root: &str) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = annotations
        .range::<str, _>(FROM_PREFIX)
        .map_while(|(key, value)| Some(Entry { name: key.strip_prefix(PREFIX)?, value }))
        .filter(|entry| {
            let (head, rest) = entry.name.split_at_checked(root.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(root) && rest.starts_with('.') && !is_indexed_root(entry.name)
        })
        .collect();
    if entries.len() > 1 {
        entries.sort_by(|a, b| sort_key(a.name).cmp(&sort_key(b.name)));
    }
    entries
}

fn sort_key(name: &str) -> Cow<'_, str> {
    let mut pieces = name.splitn(5, '.');
    let (Some(root), Some(tls), Some(domains), Some(index), Some(rest)) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Cow::Borrowed(name);
    };
    if domains.eq_ignore_ascii_case("domains") && is_index(index) {
        Cow::Owned(format!("{root}.{tls}.{domains}[{index}].{rest}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether Traefik reads `root.0.x` as `root[0].x`, a list that it then never looks at. It puts brackets round the last
/// number that stands behind a word and before something else.
fn is_indexed_root(name: &str) -> bool {
    let pieces: Vec<&str> = name.split('.').collect();
    let is_word = |piece: &str| {
        !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let last = (1..pieces.len().saturating_sub(1))
        .rev()
        .find(|&position| is_index(pieces[position]) && is_word(pieces[position - 1]));
    last == Some(1)
}

fn is_index(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Gathers the faults of one object's annotations.
struct Faults<'a> {
    subject: &'a dyn Fn() -> Subject,
    known: &'static [&'static str],
    /// Makes the object unusable.
    fatal: Vec<Problem>,
    /// Does not.
    minor: Vec<Problem>,
}

impl<'a> Faults<'a> {
    fn new(subject: &'a dyn Fn() -> Subject, known: &'static [&'static str]) -> Self {
        Self { subject, known, fatal: Vec::new(), minor: Vec::new() }
    }

    fn problem(&self, category: Category, entry: &Entry<'_>, remedy: String) -> Problem {
        Problem {
            category,
            subject: (self.subject)(),
            field: field(entry.name),
            value: Problem::shown(entry.value),
            remedy,
        }
    }

    /// A key that nobody knows; names the closest one.
    fn unknown(&mut self, entry: &Entry<'_>) {
        /// For more, nobody reads which ones are close.
        const LOOKED_FOR: usize = 100;
        if self.fatal.len() >= LOOKED_FOR {
            let remedy = "no such annotation; see docs/annotations.md for those there are".to_owned();
            let problem = self.problem(Category::UnknownAnnotation, entry, remedy);
            return self.fatal.push(problem);
        }
        let name = entry.name.to_ascii_lowercase();
        let closest = self.known.iter().min_by_key(|known| strsim::levenshtein(known, &name));
        let remedy = match closest {
            Some(known) if strsim::levenshtein(known, &name) <= name.len() / 3 => {
                format!("no such annotation; the closest one is {PREFIX}{known}")
            }
            _ => "no such annotation; remove it, or see docs/annotations.md for those there are".to_owned(),
        };
        let problem = self.problem(Category::UnknownAnnotation, entry, remedy);
        self.fatal.push(problem);
    }

    fn boolean(&mut self, entry: &Entry<'_>) -> Option<bool> {
        let parsed = value::boolean(entry.value);
        if parsed.is_none() {
            let remedy = "write true or false".to_owned();
            let problem = self.problem(Category::InvalidAnnotation, entry, remedy);
            self.fatal.push(problem);
        }
        parsed
    }

    fn integer(&mut self, entry: &Entry<'_>) -> Option<i64> {
        let parsed = value::integer(entry.value);
        if parsed.is_none() {
            let remedy = "write a whole number of at most 64 bits, such as 10 or -1".to_owned();
            let problem = self.problem(Category::InvalidAnnotation, entry, remedy);
            self.fatal.push(problem);
        }
        parsed
    }

    /// A list; empty items are dropped and told of.
    fn list(&mut self, entry: &Entry<'_>) -> Vec<String> {
        let (items, dropped) = value::list(entry.value);
        if dropped {
            let remedy = "remove the empty item; the others are used".to_owned();
            let problem = self.problem(Category::EmptyListItem, entry, remedy);
            self.minor.push(problem);
        }
        items
    }
}

/// A switch: on, off, or not mentioned. Something below it turns it on unless it is off itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Switch {
    #[default]
    Unset,
    On,
    Off,
}

impl Switch {
    /// The switch among `entries` whose path is exactly `path`; the last spelling counts, one without a value is on.
    fn find(entries: &[Entry<'_>], path: &[&str]) -> Self {
        let mut switch = Self::Unset;
        for entry in entries {
            if same_path(entry.name, path) {
                switch = if entry.value.is_empty() || entry.value.eq_ignore_ascii_case("true") {
                    Self::On
                } else {
                    Self::Off
                };
            }
        }
        switch
    }
}

fn same_path(name: &str, path: &[&str]) -> bool {
    let mut pieces = name.split('.');
    path.iter().all(|want| pieces.next().is_some_and(|piece| piece.eq_ignore_ascii_case(want)))
        && pieces.next().is_none()
}

/// For each entry, whether a later one has the same key in another spelling: only the last counts, so the earlier ones
/// are not parsed.
fn overridden(entries: &[Entry<'_>]) -> Vec<bool> {
    /// As many as anyone writes by hand are compared with each other; more are looked up.
    const FEW: usize = 16;
    if entries.len() <= FEW {
        let again = |(position, entry): (usize, &Entry<'_>)| {
            entries[position + 1..].iter().any(|later| later.name.eq_ignore_ascii_case(entry.name))
        };
        return entries.iter().enumerate().map(again).collect();
    }
    let mut later = HashSet::new();
    let mut overridden: Vec<bool> =
        entries.iter().rev().map(|entry| !later.insert(entry.name.to_ascii_lowercase())).collect();
    overridden.reverse();
    overridden
}

/// Whether there are annotations of ours at all; most objects have none.
fn any(annotations: Option<&BTreeMap<String, String>>) -> Option<&BTreeMap<String, String>> {
    annotations.filter(|annotations| {
        annotations.range::<str, _>(FROM_PREFIX).next().is_some_and(|(key, _)| key.starts_with(PREFIX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::problem::Kind;

    #[test]
    fn no_annotation_there_is_counts_as_unknown() {
        let subject = || Subject { kind: Kind::Ingress, namespace: String::new(), name: String::new() };
        for key in known().chain(WITHOUT_EFFECT.iter().copied()) {
            let annotations = BTreeMap::from([(format!("{PREFIX}{key}"), "1".to_owned())]);
            let mut minor = Vec::new();
            let faults = [
                RouterAnnotations::parse(Some(&annotations), &subject, &mut minor).err(),
                ServiceAnnotations::parse(Some(&annotations), &subject, &mut minor).err(),
            ];
            assert_eq!(faults, [None, None], "{key}");
        }
    }
}
