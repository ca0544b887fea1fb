//! Traefik's configuration as YAML for people: keys and values a line each, every string quoted and escaped as
//! in the published form.

use std::io::{self, Write};

use serde_json::Value;

use crate::traefik::escape;

/// Writes a value as a YAML document.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    match value {
        Value::Object(map) if !map.is_empty() => write_children(out, value, 0),
        Value::Array(list) if !list.is_empty() => write_children(out, value, 0),
        scalar => writeln!(out, "{}", escape::json(scalar)),
    }
}

/// Writes what is in a mapping or a list that is not empty, each on lines of its own.
fn write_children(out: &mut dyn Write, value: &Value, indent: usize) -> io::Result<()> {
    match value {
        Value::Object(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                // The first entry may stand behind the dash of a list.
                if index > 0 || indent == 0 {
                    write!(out, "{:indent$}", "")?;
                }
                write!(out, "{}:", key_text(key))?;
                write_behind(out, value, indent)?;
            }
            Ok(())
        }
        Value::Array(list) => {
            for item in list {
                write!(out, "{:indent$}-", "")?;
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        out.write_all(b" ")?;
                        write_children(out, item, indent + 2)?;
                    }
                    item => write_behind(out, item, indent)?,
                }
            }
            Ok(())
        }
        scalar => writeln!(out, "{}", escape::json(scalar)),
    }
}

/// Writes a value behind its key or dash: on the same line, or below.
fn write_behind(out: &mut dyn Write, value: &Value, indent: usize) -> io::Result<()> {
    let below = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if !below {
        return writeln!(out, " {}", escape::json(value));
    }
    writeln!(out)?;
    write!(out, "{:1$}", "", if value.is_object() { indent + 2 } else { 0 })?;
    write_children(out, value, indent + 2)
}

/// A key without quotes where nothing could take it for anything but text.
fn key_text(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphabetic();
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if !key.is_empty() && key.chars().all(plain) && !words.contains(&key.to_ascii_lowercase().as_str()) {
        key.to_owned()
    } else {
        escape::json(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_configuration_is_laid_out_for_people() {
        let value = json!({
            "http": {"routers": {"shop-web": {"rule": "PathPrefix(\"/{{x}}\")", "entryPoints": ["web", "api"],
                                              "priority": 3, "tls": {}}},
                     "services": {"a": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1:80", "x": true}]}}}},
        });
        let expected = r#"http:
  routers:
    "shop-web":
      entryPoints:
        - "web"
        - "api"
      priority: 3
      rule: "PathPrefix(\"/\u007b\u007bx}}\")"
      tls: {}
  services:
    a:
      loadBalancer:
        servers:
          - url: "http://10.0.0.1:80"
            x: true
"#;
        assert_eq!(text(&value), expected);
        assert_eq!(text(&json!({})), "{}\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,5}|.{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(value in any_value()) {
            let read: Value = serde_saphyr::from_str(&text(&value)).map_err(|e| {
                TestCaseError::fail(format!("{e}\n{}", text(&value)))
            })?;
            prop_assert_eq!(read, value);
        }
    }
}
