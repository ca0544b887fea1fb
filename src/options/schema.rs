//! The JSON schema of the configuration file, for editors and for the Helm chart.

use serde_json::{Map, Value, json};

use super::documentation::plain_meaning;
use super::names;
use super::table::{Default, Entry, TABLE, ValueKind};

/// The schema. Keys are in the case of the documentation; sections of Traefik that waybill ignores are allowed.
pub fn schema() -> Value {
    let mut root = open(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of waybill",
        "description": "The configuration file of `waybill run`, in the form of Traefik's static configuration.",
    }));
    for entry in TABLE {
        add(&mut root, "", entry.key, entry);
    }
    root
}

/// Adds an option to the section at `above`, by the rest of its key.
fn add(section: &mut Value, above: &str, rest: &str, entry: &Entry) {
    let properties = &mut section["properties"];
    let Some((name, below)) = rest.split_once('.') else {
        properties[rest] = option(entry);
        return;
    };
    let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    if properties.get(name).is_none() {
        properties[name] = match path.as_str() {
            "providers" | "core" => open(json!({})),
            names::SWITCH => closed(json!(["object", "null", "boolean"])),
            _ => closed(json!(["object", "null"])),
        };
    }
    add(&mut properties[name], &path, below, entry);
}

/// A section that also has keys of Traefik.
fn open(mut section: Value) -> Value {
    section["type"] = json!(["object", "null"]);
    section["properties"] = Value::Object(Map::new());
    section
}

/// A section whose keys are all known.
fn closed(types: Value) -> Value {
    json!({ "type": types, "properties": {}, "additionalProperties": false })
}

fn option(entry: &Entry) -> Value {
    // A key without a value is the same as no key.
    let text = json!(["string", "integer", "null"]);
    let mut schema = match entry.kind {
        ValueKind::Boolean => json!({ "type": ["boolean", "null"] }),
        ValueKind::Text(_) | ValueKind::Secret => json!({ "type": text }),
        ValueKind::List(_) => json!({ "type": ["array", "string", "null"], "items": { "type": "string" } }),
        ValueKind::Choice(words) => json!({ "enum": words }),
    };
    schema["description"] = plain_meaning(entry).into();
    match (entry.kind, entry.default) {
        (ValueKind::Boolean, Default::Text(default)) => schema["default"] = (default == "true").into(),
        (ValueKind::List(_), Default::Text("")) => schema["default"] = json!([]),
        (_, Default::Text(default)) if !default.is_empty() => schema["default"] = default.into(),
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_at_its_place_and_no_section_is_unknown() {
        let schema = schema();
        for entry in TABLE {
            let pointer = entry.key.replace('.', "/properties/");
            let found = schema.pointer(&format!("/properties/{pointer}")).expect(entry.key);
            assert_eq!(found["description"], plain_meaning(entry), "{}", entry.key);
        }
        assert_eq!(schema["properties"]["providers"].get("additionalProperties"), None);
        assert_eq!(
            schema.pointer("/properties/providers/properties/kubernetesIngress/additionalProperties"),
            Some(&Value::Bool(false))
        );
    }
}
