//! A document straight into the type that its `kind` asks for, whatever comes first in it.

use std::fmt;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::super::well_known::{CLASSES_PART, PART_LABEL};
use super::super::{EndpointSlice, Ingress, IngressClass, Namespace, Node, Secret, WireService};
use super::parse::{Found, Object, Sink, SkippedKind};

/// Lists in lists that are followed.
const DEPTH_LIMIT: usize = 8;

/// An `apiVersion` and a `kind`.
#[derive(Clone, Debug)]
pub struct TypeMeta {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
}

impl TypeMeta {
    /// What the items of a list of this kind are.
    pub fn of_items(&self) -> OfList {
        match self.kind.strip_suffix("List") {
            None | Some("") => OfList::Nothing,
            Some(kind) => {
                OfList::Items(Self { api_version: self.api_version.clone(), kind: kind.to_owned() })
            }
        }
    }
}

/// What is known of an object from the list that it is in.
#[derive(Clone, Debug)]
pub enum OfList {
    /// It is in none, or in one that leaves it to its items.
    Nothing,
    /// The list's `kind` comes after its items.
    Later,
    /// What its items are.
    Items(TypeMeta),
}

/// One object, or one list of objects, on its way into the sink.
pub struct ObjectSeed<'s> {
    /// Where objects go.
    pub sink: &'s mut Sink,
    /// What the list around it says its items are.
    pub of_list: OfList,
    /// Lists around it.
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `apiVersion` and `kind`")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut api_version, mut kind) = (None::<String>, None::<String>);
        // What comes before both of them has to wait. A list's items don't: kubectl writes `items` before `kind`.
        let mut waiting: Vec<(String, Value)> = Vec::new();
        let mut items = None::<ItemsBefore>;
        while api_version.is_none() || kind.is_none() {
            let Some(key) = map.next_key::<String>()? else { break };
            match key.as_str() {
                "apiVersion" => api_version = Some(map.next_value()?),
                "kind" => kind = Some(map.next_value()?),
                "items" if kind.as_deref().is_none_or(is_list) => {
                    let start = self.sink.found.len();
                    let untyped = map.next_value_seed(ItemsSeed {
                        sink: self.sink,
                        of_list: OfList::Later,
                        depth: self.depth,
                    })?;
                    items = Some(ItemsBefore { start, untyped });
                }
                _ => waiting.push((key, map.next_value()?)),
            }
        }
        let meta = match (api_version, kind, self.of_list) {
            (Some(api_version), Some(kind), _) => TypeMeta { api_version, kind },
            (api_version, kind, OfList::Items(of_list)) => TypeMeta {
                api_version: api_version.unwrap_or(of_list.api_version),
                kind: kind.unwrap_or(of_list.kind),
            },
            (api_version, kind, OfList::Later) => {
                let given = [("apiVersion", api_version), ("kind", kind)];
                let given = given.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
                let whole = waiting.into_iter().chain(given).collect();
                self.sink.untyped.push((self.sink.item.unwrap_or_default(), Value::Object(whole)));
                return Ok(());
            }
            (Some(_), None, OfList::Nothing) => return Err(A::Error::custom("`kind` is missing")),
            (None, Some(_), OfList::Nothing) => return Err(A::Error::custom("`apiVersion` is missing")),
            (None, None, OfList::Nothing) => {
                return Err(A::Error::custom("`apiVersion` and `kind` are missing"));
            }
        };
        let chain = Chain { waiting: waiting.into_iter(), value: None, rest: map };
        if is_list(&meta.kind) {
            visit_list(self.sink, self.depth, &meta, items, chain)
        } else if items.is_some() {
            Err(A::Error::custom(format_args!("`items` in a {}, which is no list", meta.kind)))
        } else {
            visit_object(self.sink, meta, chain)
        }
    }
}

fn is_list(kind: &str) -> bool {
    kind.ends_with("List")
}

/// Items that stood before the list's `kind`: where the first of their objects is, and those that need the
/// list's kind to be anything.
struct ItemsBefore {
    start: usize,
    untyped: Vec<(usize, Value)>,
}

fn visit_list<'de, A: MapAccess<'de>>(
    sink: &mut Sink,
    depth: usize,
    list: &TypeMeta,
    items: Option<ItemsBefore>,
    mut map: Chain<A>,
) -> Result<(), A::Error> {
    if depth >= DEPTH_LIMIT {
        return Err(A::Error::custom(format_args!("more than {DEPTH_LIMIT} lists within each other")));
    }
    let of_list = list.of_items();
    if let Some(ItemsBefore { start, untyped }) = items {
        let outer = sink.item;
        for (item, value) in untyped {
            sink.item = Some(item);
            let seed = ObjectSeed { sink, of_list: of_list.clone(), depth: depth + 1 };
            seed.deserialize(value).map_err(A::Error::custom)?;
        }
        sink.item = outer;
        // Back to the order of the list.
        if let Some(found) = sink.found.get_mut(start..) {
            found.sort_by_key(|found| found.item);
        }
    }
    while let Some(key) = map.next_key::<String>()? {
        if key == "items" {
            let seed = ItemsSeed { sink, of_list: of_list.clone(), depth };
            map.next_value_seed(seed)?;
        } else {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(())
}

/// The items of a list. Gives those that can't be told without the list's own kind.
struct ItemsSeed<'s> {
    sink: &'s mut Sink,
    of_list: OfList,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<(usize, Value)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<(usize, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects at `items`")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let outer = self.sink.item;
        let untyped = std::mem::take(&mut self.sink.untyped);
        let mut number = 0;
        loop {
            number += 1;
            // Items of a list in a list go by the number of the outer one.
            let item = outer.unwrap_or(number);
            self.sink.item = Some(item);
            let seed =
                ObjectSeed { of_list: self.of_list.clone(), sink: &mut *self.sink, depth: self.depth + 1 };
            if seq.next_element_seed(seed)?.is_none() {
                break;
            }
        }
        self.sink.item = outer;
        Ok(std::mem::replace(&mut self.sink.untyped, untyped))
    }
}

fn visit_object<'de, A: MapAccess<'de>>(
    sink: &mut Sink,
    meta: TypeMeta,
    map: Chain<A>,
) -> Result<(), A::Error> {
    let TypeMeta { api_version, kind } = meta;
    let wanted = match kind.as_str() {
        "Ingress" | "IngressClass" => "networking.k8s.io/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "IngressClassParameters" => "waybill.dev/v1alpha1",
        "Service" | "Secret" | "Node" | "Namespace" | "ConfigMap" => "v1",
        _ => "",
    };
    if wanted.is_empty() || wanted != api_version {
        let relative = is_relative(&api_version, wanted);
        return skip(sink, SkippedKind { kind, api_version, wanted: relative.then_some(wanted) }, map);
    }
    sink.kind = Some(kind.clone());
    let object = match kind.as_str() {
        "Ingress" => Object::Ingress(typed::<Ingress, _>(map)?),
        "IngressClass" => Object::IngressClass(typed::<IngressClass, _>(map)?),
        "EndpointSlice" => Object::EndpointSlice(typed::<EndpointSlice, _>(map)?),
        "Service" => Object::Service(typed::<WireService, _>(map)?),
        "Secret" => Object::Secret(typed::<Secret, _>(map)?),
        "Node" => Object::Node(typed::<Node, _>(map)?),
        "Namespace" => Object::Namespace(typed::<Namespace, _>(map)?),
        "ConfigMap" => {
            let map = typed::<ConfigMap, _>(map)?;
            let (label, value) = (PART_LABEL, CLASSES_PART);
            if map.metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_none_or(|is| is != value)
            {
                sink.kind = None;
                sink.skipped.push(SkippedKind { kind, api_version, wanted: None });
                return Ok(());
            }
            Object::ConfigMap(map)
        }
        _ => Object::Parameters(typed::<DynamicObject, _>(map)?),
    };
    sink.kind = None;
    sink.found.push(Found { object, item: sink.item });
    Ok(())
}

/// Whether an apiVersion is an older or newer one of the kind that is read.
fn is_relative(api_version: &str, wanted: &str) -> bool {
    let group = |api_version: &str| api_version.split_once('/').map(|(group, _)| group.to_owned());
    group(wanted).is_some() && (group(api_version) == group(wanted) || api_version.starts_with("extensions/"))
}

fn skip<'de, A: MapAccess<'de>>(
    sink: &mut Sink,
    kind: SkippedKind,
    mut map: Chain<A>,
) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    sink.skipped.push(kind);
    Ok(())
}

fn typed<'de, K: Deserialize<'de>, A: MapAccess<'de>>(map: Chain<A>) -> Result<Box<K>, A::Error> {
    K::deserialize(MapAccessDeserializer::new(map)).map(Box::new)
}

/// The entries that had to wait for `apiVersion` and `kind`, then the rest.
struct Chain<A> {
    waiting: std::vec::IntoIter<(String, Value)>,
    value: Option<Value>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Chain<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.waiting.next() {
            Some((key, value)) => {
                self.value = Some(value);
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(A::Error::custom),
            None => self.rest.next_value_seed(seed),
        }
    }
}
