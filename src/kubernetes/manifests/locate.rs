//! The line of a value in YAML text, by its path. Only asked for what can't be read.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    Key(String),
    Index(usize),
}

/// The line, from 1, on which the value at a path begins, or the last one on the way that is there.
pub fn line(text: &str, options: serde_saphyr::Options, path: &[PathStep]) -> Option<usize> {
    let at = |path| {
        let options = options.clone();
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
            Walk(path).deserialize(yaml)
        })
    };
    let line = (0..=path.len()).rev().find_map(|length| at(&path[..length]).ok().flatten())?;
    usize::try_from(line).ok().filter(|line| *line > 0)
}

/// What is left of the way.
struct Walk<'p>(&'p [PathStep]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            let value = Spanned::<IgnoredAny>::deserialize(deserializer)?;
            return Ok(Some(value.referenced.line()));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value on the way")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((PathStep::Key(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("no list"));
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                found = map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((PathStep::Index(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("no mapping"));
        };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element_seed(Walk(rest))?.flatten();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
