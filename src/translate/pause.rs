//! The annotation that pauses publishing, on an index or an IngressClass.

use std::collections::BTreeMap;

use super::problem::{Category, Problem, Subject};

/// Annotation of an index or an IngressClass: `true` pauses, `false` is the same as no annotation.
pub const PAUSED_ANNOTATION: &str = "waybill.dev/paused";

/// The meaning of the annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// There is none, or it is `false`.
    #[default]
    Off,
    On,
    /// Anything else pauses too, because waiting does the least harm.
    Unclear(String),
}

impl Pause {
    /// Reads it from an object's annotations.
    pub fn new(annotations: Option<&BTreeMap<String, String>>) -> Self {
        match annotations.and_then(|annotations| annotations.get(PAUSED_ANNOTATION)).map(|text| text.trim()) {
            None | Some("false") => Self::Off,
            Some("true") => Self::On,
            Some(other) => Self::Unclear(Problem::shown(other)),
        }
    }

    /// Whether it pauses.
    pub fn holds(&self) -> bool {
        *self != Self::Off
    }

    /// The problem of the object with the annotation. `effect` is the beginning of its sentence.
    pub fn problems(&self, subject: &Subject, effect: &str) -> Vec<Problem> {
        let problem = |category, value: &str, remedy| Problem {
            category,
            subject: subject.clone(),
            field: format!("metadata.annotations[{PAUSED_ANNOTATION}]"),
            value: value.to_owned(),
            remedy,
        };
        let paused = |value| {
            problem(
                Category::Paused,
                value,
                format!("{effect} while the annotation exists; remove it or set it to false to resume"),
            )
        };
        match self {
            Self::Off => Vec::new(),
            Self::On => vec![paused("true")],
            Self::Unclear(value) => vec![
                problem(
                    Category::InvalidAnnotation,
                    value,
                    "write true or false; until then publishing is paused".to_owned(),
                ),
                paused(value),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Kind;
    use super::*;

    #[test]
    fn only_false_is_no_pause_and_only_the_two_words_are_right() {
        let of = |value: &str| Pause::new(Some(&[(PAUSED_ANNOTATION.to_owned(), value.to_owned())].into()));
        assert_eq!(Pause::new(None), Pause::Off);
        assert_eq!(Pause::new(Some(&BTreeMap::new())), Pause::Off);
        let subject = Subject::cluster_scoped(Kind::IngressClass, "public");
        let categories = |pause: Pause| -> Vec<Category> {
            pause.problems(&subject, "nothing new is published").iter().map(|one| one.category).collect()
        };
        for value in ["false", " false\n"] {
            assert!(!of(value).holds() && categories(of(value)).is_empty(), "{value:?}");
        }
        for value in ["true", " true "] {
            assert!(of(value).holds(), "{value:?}");
            assert_eq!(categories(of(value)), [Category::Paused], "{value:?}");
        }
        for value in ["", "yes", "True", "0", "falsch", &"x".repeat(100_000)] {
            assert!(of(value).holds(), "{value:?}");
            assert_eq!(categories(of(value)), [Category::InvalidAnnotation, Category::Paused], "{value:?}");
        }
    }
}
