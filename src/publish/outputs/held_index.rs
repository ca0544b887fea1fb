//! The index as it is known to exist, and the one that should replace it.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use crate::kubernetes::key::OutputKey;
use crate::publish::outputs::withdrawal::CONFIRM_ANNOTATION;
use crate::published::desired_output::{DesiredOutput, Stamp};
use crate::published::index::{Index, IndexError};
use crate::published::objects::{self, INDEX_JSON, Part};
use crate::published::salt::Salt;

/// An existing index.
#[derive(Clone, Debug)]
pub struct HeldIndex {
    /// The object, without `managedFields`.
    pub object: ConfigMap,
    /// Its content, if it is one that waybill writes.
    pub index: Option<Index>,
    /// This and the next two are read from a spoilt index too, as far as possible.
    pub epoch: Option<u64>,
    pub generation: Option<u64>,
    pub salt: Option<Salt>,
    /// Someone removed our labels, so it has to be written again in any case.
    pub unlabelled: bool,
}

/// Why an index is not treated as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// It lacks our labels.
    Labels,
    /// A newer release wrote it, in this format.
    NewerFormat(u64),
}

impl HeldIndex {
    /// Parses an object as the index of `output`. Spoilt content is no reason to refuse it.
    ///
    /// # Errors
    /// If it is not ours.
    pub fn new(output: &OutputKey, mut object: ConfigMap) -> Result<Self, NotOurs> {
        #[derive(Default, Deserialize)]
        struct Remains {
            epoch: Option<u64>,
            generation: Option<u64>,
            salt: Option<String>,
        }
        object.metadata.managed_fields = None;
        if !objects::is_ours(&object.metadata, output, Part::Index) {
            return Err(NotOurs::Labels);
        }
        let text = object.data.as_ref().and_then(|data| data.get(INDEX_JSON)).map_or("", String::as_str);
        let index = match Index::parse(text) {
            Ok(index) => Some(index),
            Err(IndexError::NewerFormat { found }) => return Err(NotOurs::NewerFormat(found)),
            Err(_) => None,
        };
        let (epoch, generation, salt) = match &index {
            Some(index) => (Some(index.epoch), Some(index.generation), index.salt),
            None => {
                let remains: Remains = serde_json::from_str(text).unwrap_or_default();
                (remains.epoch, remains.generation, remains.salt.and_then(|salt| Salt::try_from(salt).ok()))
            }
        };
        Ok(Self { object, index, epoch, generation, salt, unlabelled: false })
    }

    /// Its resourceVersion.
    pub fn version(&self) -> Option<&str> {
        self.object.metadata.resource_version.as_deref()
    }

    /// Whether it contains the desired state, under this epoch and with this salt.
    pub fn says(&self, desired: &DesiredOutput, epoch: u64, salt: Option<Salt>) -> bool {
        self.index.as_ref().filter(|_| !self.unlabelled).is_some_and(|index| {
            let Index { generation, awaited, published_at, .. } = index;
            let (generation, awaited) = (*generation, *awaited);
            *index == desired.index(&Stamp { epoch, generation, awaited, published_at, salt })
        })
    }
}

/// The object that replaces the existing one: labels and `index.json` are ours, a confirmation is removed, and
/// everything that others put there stays.
pub fn replacement(output: &OutputKey, held: Option<&HeldIndex>, index: &Index) -> ConfigMap {
    let ours = objects::index(output, index);
    let Some(held) = held else { return ours };
    let mut object = held.object.clone();
    object.metadata.labels.get_or_insert_default().extend(ours.metadata.labels.unwrap_or_default());
    without_confirmation(&mut object);
    object.data.get_or_insert_default().extend(ours.data.unwrap_or_default());
    // A key may be in only one of the two.
    if let Some(binary) = object.binary_data.as_mut() {
        binary.remove(INDEX_JSON);
    }
    object
}

fn without_confirmation(object: &mut ConfigMap) {
    if let Some(annotations) = object.metadata.annotations.as_mut() {
        annotations.remove(CONFIRM_ANNOTATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Counts, Digest};

    fn output() -> OutputKey {
        OutputKey::new("ns", "out")
    }

    fn desired(text: &str) -> DesiredOutput {
        DesiredOutput {
            routing_shards: vec![Digest::new(text)],
            key_shards: vec![],
            hash: Digest::new("h"),
            counts: Counts::default(),
            namespaces: None,
        }
    }

    fn stamp(epoch: u64) -> Stamp<'static> {
        Stamp { epoch, generation: 7, awaited: 0, published_at: "2026-11-24T08:00:00Z", salt: None }
    }

    fn held(desired: &DesiredOutput, epoch: u64) -> HeldIndex {
        HeldIndex::new(&output(), objects::index(&output(), &desired.index(&stamp(epoch)))).unwrap()
    }

    #[test]
    fn it_is_right_only_with_all_of_it() {
        let held = held(&desired("x"), 3);
        assert!(held.says(&desired("x"), 3, None));
        assert!(!held.says(&desired("y"), 3, None), "shards");
        assert!(!held.says(&desired("x"), 4, None), "epoch");
        assert!(!held.says(&desired("x"), 3, Salt::new().ok()), "salt");
        assert!(!held.says(&DesiredOutput { hash: Digest::new("other"), ..desired("x") }, 3, None), "hash");
        let mut edited = held.object.clone();
        edited.data.as_mut().unwrap().insert(INDEX_JSON.into(), "edited".into());
        assert!(!HeldIndex::new(&output(), edited).unwrap().says(&desired("x"), 3, None));
        assert!(!HeldIndex { unlabelled: true, ..held }.says(&desired("x"), 3, None));
    }

    #[test]
    fn what_others_put_there_stays_and_a_confirmation_goes() {
        let mut object = held(&desired("x"), 3).object;
        object.metadata.annotations = Some(
            [("a".to_owned(), "b".to_owned()), (CONFIRM_ANNOTATION.to_owned(), "7:1".to_owned())].into(),
        );
        object.metadata.resource_version = Some("99".into());
        object.metadata.labels.as_mut().unwrap().insert("team".into(), "x".into());
        object.data.as_mut().unwrap().insert("notes".into(), "mine".into());
        let held = HeldIndex::new(&output(), object).unwrap();
        let new = replacement(&output(), Some(&held), &desired("y").index(&stamp(4)));
        assert_eq!(new.metadata.annotations, Some([("a".to_owned(), "b".to_owned())].into()));
        assert_eq!(new.metadata.resource_version.as_deref(), Some("99"));
        assert_eq!(new.metadata.labels.as_ref().unwrap()["team"], "x");
        assert_eq!(new.data.as_ref().unwrap().keys().collect::<Vec<_>>(), [INDEX_JSON, "notes"]);
        assert!(HeldIndex::new(&output(), new).unwrap().says(&desired("y"), 4, None));
    }

    #[test]
    fn spoilt_content_is_ours_all_the_same_and_keeps_its_stamp() {
        let mut object = held(&desired("x"), 3).object;
        let mut with = |text: &str| {
            object.data.as_mut().unwrap().insert(INDEX_JSON.into(), text.into());
            HeldIndex::new(&output(), object.clone())
        };
        let read = with(r#"{"formatVersion":1,"epoch":5,"generation":70}"#).unwrap();
        assert_eq!((read.index.is_none(), read.epoch, read.generation), (true, Some(5), Some(70)));
        assert_eq!(read.salt, None);
        let salt = Salt::new().unwrap();
        let stamp = format!(r#"{{"formatVersion":1,"generation":70,"salt":"{}"}}"#, String::from(salt));
        assert_eq!(with(&stamp).unwrap().salt, Some(salt));
        let read = with(&stamp.replace("\"salt\":\"", "\"salt\":\"x")).unwrap();
        assert_eq!((read.salt, read.generation), (None, Some(70)), "what is left is taken");
        assert_eq!(with("nonsense").unwrap().generation, None);
        assert_eq!(with(r#"{"formatVersion":2}"#).unwrap_err(), NotOurs::NewerFormat(2));
        object.metadata.labels = None;
        assert_eq!(HeldIndex::new(&output(), object).unwrap_err(), NotOurs::Labels);
    }
}
