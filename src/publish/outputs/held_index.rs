//! The index as it is known to be there, and what has to be in its place.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use crate::kubernetes::key::OutputKey;
use crate::publish::outputs::withdrawal::CONFIRM_ANNOTATION;
use crate::published::desired_output::{Routing, Wanted};
use crate::published::index::{FORMAT_VERSION, Index, IndexError};
use crate::published::objects::{self, INDEX_JSON, Part, ROUTING_YAML};
use crate::table::Digest;

/// An index that is there.
#[derive(Clone, Debug)]
pub struct HeldIndex {
    /// The object, without `managedFields`.
    pub object: ConfigMap,
    /// Its content, where that is what waybill writes.
    pub index: Option<Index>,
    /// Epoch and generation, as far as they can be made out in what is no index any more.
    stamp: (Option<u64>, Option<u64>),
    /// Someone took labels of ours away, so that it has to be written again, whatever it says.
    pub unlabelled: bool,
}

/// Why an index can't be taken for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// It lacks our labels.
    Labels,
    /// A newer release wrote it, in this format.
    NewerFormat(u64),
}

impl HeldIndex {
    /// Takes an object for the index of `output`. Content that someone spoilt is no reason to refuse it.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn of(output: &OutputKey, mut object: ConfigMap) -> Result<Self, NotOurs> {
        #[derive(Default, Deserialize)]
        struct Stamp {
            epoch: Option<u64>,
            generation: Option<u64>,
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
        let stamp = match &index {
            Some(index) => (Some(index.epoch), Some(index.generation)),
            None => {
                let stamp: Stamp = serde_json::from_str(text).unwrap_or_default();
                (stamp.epoch, stamp.generation)
            }
        };
        Ok(Self { object, index, stamp, unlabelled: false })
    }

    /// Its epoch, as far as it can be made out.
    pub fn epoch(&self) -> Option<u64> {
        self.stamp.0
    }

    /// Its generation, as far as it can be made out.
    pub fn generation(&self) -> Option<u64> {
        self.stamp.1
    }

    /// Its resourceVersion.
    pub fn version(&self) -> Option<&str> {
        self.object.metadata.resource_version.as_deref()
    }

    /// Whether it says all that is wanted, under this epoch.
    pub fn says(&self, wanted: &Wanted, hash: &Digest, epoch: u64) -> bool {
        let Some(index) = self.index.as_ref().filter(|_| !self.unlabelled) else { return false };
        let stamp = crate::published::desired_output::Stamp {
            epoch,
            generation: index.generation,
            published_at: &index.published_at,
        };
        let data = self.object.data.as_ref();
        let routing = data.and_then(|data| data.get(ROUTING_YAML)).map(String::as_str);
        let right = match &wanted.routing {
            Routing::Single(document) => Some(document.as_str()),
            Routing::Sharded(_) => None,
        };
        *index == wanted.index(hash, &stamp) && routing == right
    }
}

/// The object to be written in the place of what is there: labels, `index.json` and `routing.yaml` are ours, a
/// confirmation is used up, and whatever else others put there stays.
pub fn replacement(
    output: &OutputKey,
    held: Option<&HeldIndex>,
    wanted: &Wanted,
    index: &Index,
) -> ConfigMap {
    debug_assert_eq!(index.format_version, FORMAT_VERSION);
    let ours = objects::index(output, wanted, index);
    let Some(held) = held else { return ours };
    let mut object = held.object.clone();
    object.metadata.labels.get_or_insert_default().extend(ours.metadata.labels.unwrap_or_default());
    without_confirmation(&mut object);
    let data = object.data.get_or_insert_default();
    data.remove(ROUTING_YAML);
    data.extend(ours.data.unwrap_or_default());
    // A key may be in one of the two only.
    if let Some(binary) = object.binary_data.as_mut() {
        binary.remove(ROUTING_YAML);
        binary.remove(INDEX_JSON);
    }
    object
}

/// The object that says what is there already, under another epoch: what a new leader writes first.
pub fn restamped(held: &HeldIndex, index: &Index) -> ConfigMap {
    let mut object = held.object.clone();
    without_confirmation(&mut object);
    object.data.get_or_insert_default().insert(INDEX_JSON.to_owned(), crate::traefik::escape::json(index));
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
    use crate::published::desired_output::Stamp;
    use crate::table::Counts;

    fn output() -> OutputKey {
        OutputKey::new("ns", "out")
    }

    fn wanted(text: &str) -> Wanted {
        Wanted { routing: Routing::Single(text.to_owned()), key_shards: vec![], counts: Counts::default() }
    }

    fn sharded() -> Wanted {
        Wanted { routing: Routing::Sharded(vec![Digest::new("a")]), ..wanted("") }
    }

    fn stamp(epoch: u64) -> Stamp<'static> {
        Stamp { epoch, generation: 7, published_at: "2026-11-24T08:00:00Z" }
    }

    fn held(wanted: &Wanted, epoch: u64) -> HeldIndex {
        let index = wanted.index(&Digest::new("h"), &stamp(epoch));
        HeldIndex::of(&output(), objects::index(&output(), wanted, &index)).unwrap()
    }

    #[test]
    fn it_is_right_only_with_all_of_it() {
        let hash = Digest::new("h");
        let held = held(&wanted("x"), 3);
        assert!(held.says(&wanted("x"), &hash, 3));
        assert!(!held.says(&wanted("y"), &hash, 3), "text");
        assert!(!held.says(&wanted("x"), &hash, 4), "epoch");
        assert!(!held.says(&wanted("x"), &Digest::new("other"), 3), "hash");
        assert!(!held.says(&sharded(), &hash, 3), "shards");
        let mut edited = held.object.clone();
        edited.data.as_mut().unwrap().insert(ROUTING_YAML.into(), "edited".into());
        assert!(!HeldIndex::of(&output(), edited).unwrap().says(&wanted("x"), &hash, 3));
    }

    #[test]
    fn what_others_put_there_stays_and_a_confirmation_goes() {
        let mut object = held(&wanted("x"), 3).object;
        object.metadata.annotations = Some(
            [("a".to_owned(), "b".to_owned()), (CONFIRM_ANNOTATION.to_owned(), "7:1".to_owned())].into(),
        );
        object.metadata.resource_version = Some("99".into());
        object.metadata.labels.as_mut().unwrap().insert("team".into(), "x".into());
        object.data.as_mut().unwrap().insert("notes".into(), "mine".into());
        let held = HeldIndex::of(&output(), object).unwrap();
        let index = sharded().index(&Digest::new("h"), &stamp(4));
        let new = replacement(&output(), Some(&held), &sharded(), &index);
        assert_eq!(new.metadata.annotations, Some([("a".to_owned(), "b".to_owned())].into()));
        assert_eq!(new.metadata.resource_version.as_deref(), Some("99"));
        assert_eq!(new.metadata.labels.as_ref().unwrap()["team"], "x");
        let data = new.data.clone().unwrap();
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            [INDEX_JSON, "notes"],
            "the sharded form has no routing.yaml"
        );
        let read = HeldIndex::of(&output(), new).unwrap();
        assert!(read.says(&sharded(), &Digest::new("h"), 4));
    }

    #[test]
    fn a_new_leader_changes_nothing_but_the_stamp() {
        let held = held(&wanted("x"), 3);
        let index = Index { epoch: 9, generation: 8, ..held.index.clone().unwrap() };
        let new = HeldIndex::of(&output(), restamped(&held, &index)).unwrap();
        assert!(new.says(&wanted("x"), &Digest::new("h"), 9));
        assert_eq!((new.epoch(), new.generation()), (Some(9), Some(8)));
    }

    #[test]
    fn spoilt_content_is_ours_all_the_same_and_keeps_its_stamp() {
        let mut object = held(&wanted("x"), 3).object;
        let mut with = |text: &str| {
            object.data.as_mut().unwrap().insert(INDEX_JSON.into(), text.into());
            HeldIndex::of(&output(), object.clone())
        };
        let read = with(r#"{"formatVersion":1,"epoch":5,"generation":70}"#).unwrap();
        assert_eq!((read.index.is_none(), read.epoch(), read.generation()), (true, Some(5), Some(70)));
        assert_eq!(with("nonsense").unwrap().generation(), None);
        assert_eq!(with(r#"{"formatVersion":2}"#).unwrap_err(), NotOurs::NewerFormat(2));
        object.metadata.labels = None;
        assert_eq!(HeldIndex::of(&output(), object).unwrap_err(), NotOurs::Labels);
    }
}
