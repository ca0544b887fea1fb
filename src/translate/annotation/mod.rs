//! Parses annotations into settings, or into a problem for each unusable one.
//!
//! Traefik's provider turns annotations into labels and decodes those with its label parser (`convertAnnotations`,
//! `github.com/traefik/paerser`). The rules that users can see are the same: case does not matter after the prefix, of
//! two spellings the last in byte order is used, a switch that is off disables the keys below it, and one fault makes
//! the whole object unusable.

mod form;
mod ignored;
mod router;
mod service;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use crate::kubernetes::well_known::TRAEFIK_PREFIX as PREFIX;
use crate::traefik::dynamic::LIST_SEPARATOR;
use crate::translate::problem::{Category, Problem, Problems, Subject};

pub use form::{SEPARATED, ValueForm};
pub use ignored::{MAY_BE_OPEN, NO_EFFECT, RESTRICTING, without_effect};
pub use router::RouterAnnotations;
pub use service::ServiceAnnotations;
pub use value::boolean as go_boolean;

/// A key after the prefix in lower case, and its valid values. `0` stands for any label of a domain.
type KnownAnnotation = (&'static str, ValueForm);

/// The remedy for an unknown key that is similar to no known one.
pub const NO_SUCH: &str = "no such annotation; remove it, or see docs/annotations.md for the supported ones";

/// All annotations.
pub fn known() -> impl Iterator<Item = KnownAnnotation> {
    RouterAnnotations::KNOWN.iter().chain(ServiceAnnotations::KNOWN).copied()
}

/// Keys that Traefik knows too and that have no effect.
pub const WITHOUT_EFFECT: &[&str] = &[
    "router",
    "router.tls.domains",
    "router.tls.resolvedoptions",
    "router.observability.metadata",
    "service",
    "service.sticky.cookie.expires",
    "service.sticky.cookie.preserveleadingdot",
];

/// Path of an annotation's field, for problems.
fn field(name: &str) -> String {
    format!("metadata.annotations[{PREFIX}{name}]")
}

/// The annotations of one kind of object.
pub(super) trait Annotated: Default {
    /// Their first part after the prefix: `router` or `service`.
    const ROOT: &'static str;
    const KNOWN: &'static [KnownAnnotation];

    /// Parses the annotations of an object that has some. They are in the order in which Traefik reads them.
    fn read(entries: &[Annotation<'_>], faults: &mut AnnotationFaults<'_>) -> Self;
}

/// References to objects of other providers, and the annotation from which they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub names: Vec<String>,
    /// The annotation after the prefix, as the user wrote it.
    spelling: String,
}

impl References {
    fn new(names: Vec<String>, entry: &Annotation<'_>) -> Self {
        Self { names, spelling: entry.name.to_owned() }
    }

    /// The whole value of an annotation is one reference; empty means none.
    fn one(entry: &Annotation<'_>) -> Self {
        let names = Some(entry.value.to_owned()).filter(|name| !name.is_empty());
        Self::new(names.into_iter().collect(), entry)
    }

    /// Path of the annotation's field, for problems.
    pub fn field(&self) -> String {
        field(&self.spelling)
    }
}

/// One annotation of ours.
pub(super) struct Annotation<'a> {
    /// The key after the prefix, as the user wrote it.
    name: &'a str,
    /// The same in lower case, which is used for all comparisons.
    lower: String,
    value: &'a str,
    /// A later annotation has the same key in another spelling. That one is used, and this one is not parsed.
    overridden: bool,
}

impl Annotation<'_> {
    /// The parts between the dots of the key; `None` if one is empty.
    fn pieces(&self) -> Option<Vec<&str>> {
        self.lower.split('.').map(|piece| Some(piece).filter(|piece| !piece.is_empty())).collect()
    }
}

/// Parses the annotations of an object. Faults without consequences for the object go to `problems`.
///
/// # Errors
/// One problem for each annotation that makes the object unusable.
pub(super) fn parse<T: Annotated>(
    annotations: Option<&BTreeMap<String, String>>,
    subject: &dyn Fn() -> Subject,
    problems: &mut Problems,
) -> Result<T, Vec<Problem>> {
    let Some(annotations) = annotations.filter(|annotations| !annotations.is_empty()) else {
        return Ok(T::default());
    };
    ignored::report(annotations, T::ROOT, T::KNOWN, subject, problems);
    let entries = entries(annotations, T::ROOT);
    if entries.is_empty() {
        return Ok(T::default());
    }
    let mut faults = AnnotationFaults { subject, known: T::KNOWN, fatal: Vec::new(), minor: problems };
    let parsed = T::read(&entries, &mut faults);
    if faults.fatal.is_empty() { Ok(parsed) } else { Err(faults.fatal) }
}

/// The annotations below `root`, in the order in which they are read.
///
/// Traefik writes `domains.0.main` as `domains[0].main` before it sorts, so indices come after labels.
fn entries<'a>(annotations: &'a BTreeMap<String, String>, root: &str) -> Vec<Annotation<'a>> {
    let ours = annotations
        .range::<str, _>((Bound::Included(PREFIX), Bound::Unbounded))
        .map_while(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
    let mut entries: Vec<Annotation<'a>> = ours
        .filter(|(name, _)| is_below(name, root))
        .map(|(name, value)| Annotation { name, lower: name.to_ascii_lowercase(), value, overridden: false })
        .collect();
    if entries.len() > 1 {
        entries.sort_by_cached_key(|entry| sort_key(entry.name));
        let mut later = HashSet::new();
        for Annotation { lower, overridden, .. } in entries.iter_mut().rev() {
            *overridden = !later.insert(&*lower);
        }
    }
    entries
}

/// Whether Traefik considers an annotation when it looks for those of `root`.
fn is_below(name: &str, root: &str) -> bool {
    let (head, rest) = name.split_at_checked(root.len()).unwrap_or_default();
    head.eq_ignore_ascii_case(root) && rest.starts_with('.') && !is_indexed_root(name)
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

/// Whether Traefik reads `root.0.x` as `root[0].x`, a list that it then ignores. It puts brackets around the last
/// number that is after a word and before something else.
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

/// Collects the faults of one object's annotations.
pub(super) struct AnnotationFaults<'a> {
    subject: &'a dyn Fn() -> Subject,
    known: &'static [KnownAnnotation],
    fatal: Vec<Problem>,
    minor: &'a mut Problems,
}

impl AnnotationFaults<'_> {
    fn problem(&self, category: Category, entry: &Annotation<'_>, remedy: String) -> Problem {
        Problem {
            category,
            subject: (self.subject)(),
            field: field(entry.name),
            value: Problem::shown(entry.value),
            remedy,
        }
    }

    fn fatal(&mut self, category: Category, entry: &Annotation<'_>, remedy: impl Into<String>) {
        let problem = self.problem(category, entry, remedy.into());
        self.fatal.push(problem);
    }

    fn minor(&mut self, category: Category, entry: &Annotation<'_>, remedy: &str) {
        let problem = self.problem(category, entry, remedy.to_owned());
        self.minor.add(|| problem);
    }

    /// An unknown key; names the closest known one.
    fn unknown(&mut self, entry: &Annotation<'_>) {
        /// For more than this, the closest keys are not computed, since nobody reads them all.
        const LOOKED_FOR: usize = 100;
        let close = if self.fatal.len() < LOOKED_FOR { closest(self.known, &entry.lower) } else { None };
        let remedy = match close {
            Some(known) => format!("no such annotation; the closest one is {PREFIX}{known}"),
            None => NO_SUCH.to_owned(),
        };
        self.fatal(Category::UnknownAnnotation, entry, remedy);
    }

    fn boolean(&mut self, entry: &Annotation<'_>) -> Option<bool> {
        let parsed = value::boolean(entry.value);
        if parsed.is_none() {
            self.fatal(Category::InvalidAnnotation, entry, ValueForm::Boolean.remedy());
        }
        parsed
    }

    fn integer(&mut self, entry: &Annotation<'_>) -> Option<i64> {
        let parsed = value::integer(entry.value);
        if parsed.is_none() {
            self.fatal(Category::InvalidAnnotation, entry, ValueForm::Integer.remedy());
        }
        parsed
    }

    /// The items of a list, and whether empty ones were dropped.
    fn items(&mut self, entry: &Annotation<'_>) -> (Vec<String>, bool) {
        if entry.value.contains(LIST_SEPARATOR) {
            self.fatal(Category::InvalidAnnotation, entry, SEPARATED);
        }
        value::list(entry.value)
    }

    /// A list in which an empty item does not affect the others.
    fn list(&mut self, entry: &Annotation<'_>) -> Vec<String> {
        let (items, dropped) = self.items(entry);
        if dropped {
            self.minor(Category::EmptyListItem, entry, ValueForm::List.remedy());
        }
        items
    }

    /// The switch with this key in lower case. The last spelling is used; one without a value is on.
    fn switch(&mut self, entries: &[Annotation<'_>], key: &str) -> Switch {
        let found = entries.iter().find(|entry| !entry.overridden && entry.lower == key);
        let Some(entry) = found else { return Switch::Unset };
        if entry.value.is_empty() || entry.value.eq_ignore_ascii_case("true") {
            return Switch::On;
        }
        if !["false", "0", "f", "no", "off"].iter().any(|off| entry.value.eq_ignore_ascii_case(off)) {
            self.minor(Category::UnclearSwitch, entry, ValueForm::Switch.remedy());
        }
        Switch::Off
    }
}

/// The known key that is closest to `name`, which is in lower case, if one is close.
fn closest(known: &[KnownAnnotation], name: &str) -> Option<&'static str> {
    let closest = known.iter().map(|(known, _)| (strsim::levenshtein(known, name), *known)).min()?;
    (closest.0 <= name.len() / 3).then_some(closest.1)
}

/// A switch: on, off, or absent. A key below turns it on unless it is off itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Switch {
    #[default]
    Unset,
    On,
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::problem::Kind;

    #[test]
    fn no_annotation_there_is_counts_as_unknown() {
        let subject = || Subject { kind: Kind::Ingress, namespace: String::new(), name: String::new() };
        for key in known().map(|(key, _)| key).chain(WITHOUT_EFFECT.iter().copied()) {
            let annotations = BTreeMap::from([(
                format!("{PREFIX}{key}"),
                if key == "service.serversscheme" { "h2c" } else { "1" }.to_owned(),
            )]);
            let mut minor = Problems::default();
            let faults = [
                parse::<RouterAnnotations>(Some(&annotations), &subject, &mut minor).err(),
                parse::<ServiceAnnotations>(Some(&annotations), &subject, &mut minor).err(),
            ];
            assert_eq!(faults, [None, None], "{key}");
        }
    }

    /// The policies for the API server are made from the table.
    #[test]
    fn the_forms_in_the_table_are_those_that_are_checked() {
        let subject = || Subject { kind: Kind::Ingress, namespace: String::new(), name: String::new() };
        for (key, form) in known() {
            for value in ["", "true", "7", "x", "a,,b", " , ", "a║b", "h2c"] {
                let annotations = BTreeMap::from([(format!("{PREFIX}{key}"), value.to_owned())]);
                let mut found = Problems::default();
                let fatal = if key.starts_with("router.") {
                    parse::<RouterAnnotations>(Some(&annotations), &subject, &mut found).err()
                } else {
                    parse::<ServiceAnnotations>(Some(&annotations), &subject, &mut found).err()
                };
                let mut found = found.into_vec();
                found.retain(|problem| problem.category != Category::IgnoredAnnotation);
                found.extend(fatal.into_iter().flatten());
                let wanted = match (form, value) {
                    (ValueForm::Boolean, "true")
                    | (ValueForm::Integer, "7")
                    | (ValueForm::Scheme, "" | "h2c") => None,
                    (ValueForm::Boolean | ValueForm::Integer | ValueForm::Scheme, _) => {
                        Some((Category::InvalidAnnotation, form.remedy()))
                    }
                    (ValueForm::Switch, "" | "true") => None,
                    (ValueForm::Switch, _) => Some((Category::UnclearSwitch, form.remedy())),
                    (ValueForm::EntryPoints, "a,,b") => {
                        Some((Category::EmptyListItem, ValueForm::List.remedy()))
                    }
                    (ValueForm::List | ValueForm::Middlewares | ValueForm::EntryPoints, "a║b") => {
                        Some((Category::InvalidAnnotation, SEPARATED))
                    }
                    (ValueForm::List | ValueForm::Middlewares, "a,,b" | " , ")
                    | (ValueForm::EntryPoints, " , ") => Some((Category::EmptyListItem, form.remedy())),
                    _ => None,
                };
                let found = found.first().map(|problem| (problem.category, problem.remedy.as_str()));
                match (found, wanted) {
                    (Some((category, remedy)), Some((is, begins))) => {
                        assert!(category == is && remedy.starts_with(begins), "{key}: {value:?}: {found:?}");
                    }
                    (found, wanted) => assert_eq!(found, wanted, "{key}: {value:?}"),
                }
            }
        }
    }
}
